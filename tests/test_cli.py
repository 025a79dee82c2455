"""The command itself: whatever the user can mend is one line on stderr and exit code 2."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nightline import cli
from tests.synthetic import NETWORK_TOML, SITE_TOML


def main(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> str:
    """The one line of a command that fails."""
    monkeypatch.setattr(sys, "argv", ["nightline", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "site.toml").write_text(SITE_TOML, encoding="utf-8")
    (folder / "network.toml").write_text(NETWORK_TOML, encoding="utf-8")
    return folder


def test_an_output_under_a_file_is_one_line(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "afile").touch()
    source = tmp_path / "in.csv"
    source.write_text("timestamp,q\n2026-01-05 00:00,1\n2026-01-05 00:15,2\n")
    out = tmp_path / "afile" / "x"
    for line in (
        main(capsys, monkeypatch, "backtest", site, "--readings", source, "--out", out, "--no-model"),
        main(capsys, monkeypatch, "import", "csv", source, "--out", out),
    ):
        assert line.startswith(f"error: {out}: cannot be made: ")
        assert "possible: a folder that can be written" in line


def test_any_other_fault_of_the_file_system_is_one_line(
    site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path) -> None:
        raise OSError(28, "No space left on device", "some/file")

    monkeypatch.setattr("nightline.check_config.read_site", full)
    assert main(capsys, monkeypatch, "check-config", site) == "error: some/file: No space left on device"


def test_a_worker_refuses_a_site_whose_model_of_one_dma_is_gone(
    site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (site / "models" / "dma-B").mkdir(parents=True)
    (site / "models" / "dma-B" / "champion").write_text("0123456789ab\n")
    line = main(capsys, monkeypatch, "worker", site)
    assert "dma-B" in line
    assert "version '0123456789ab' is not there" in line


def test_results_in_the_folder_of_the_readings_are_refused(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = tmp_path / "readings"
    readings.mkdir()
    (readings / "r.csv").write_text("timestamp,q\n")
    for out in (readings, readings / "deeper", tmp_path / "x" / ".." / "readings"):
        line = main(capsys, monkeypatch, "backtest", site, "--readings", readings, "--out", out, "--no-model")
        assert "lies in the readings" in line
    assert [path.name for path in readings.iterdir()] == ["r.csv"]


def test_the_exit_code_of_a_command_reaches_the_shell(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log.csv"
    log.write_text("dma,kind,startedAt\nA,abrupt,2026-03-01\nZ,abrupt,2026-03-01\n")
    monkeypatch.setattr(sys, "argv", ["nightline", "labels", "import", str(site), str(log)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    assert "1 added" in capsys.readouterr().out


def test_a_worker_without_the_training_extra_is_told_what_an_archive_needs(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [
        name for name in sys.modules if name.startswith(("training.archive", "training.history", "training.labels"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for command in (["archive", site, "--out", tmp_path / "out"], ["labels", "import", site, site / "site.toml"]):
        line = main(capsys, monkeypatch, *command)
        assert line == "error: this needs pyarrow; possible: install nightline with its extra: training"


def test_what_setup_compiles_is_all_that_a_worker_compiles() -> None:
    """An engine of another site, with a forest's types and all kinds of meter, finds everything compiled."""
    from models.loop import close_until  # noqa: PLC0415 - compiles
    from nightline.kernels import compile_kernels  # noqa: PLC0415
    from streams.worker import warm_up  # noqa: PLC0415
    from tests.synthetic import make_site  # noqa: PLC0415

    compile_kernels()
    before = len(close_until.signatures)
    warm_up(make_site())
    assert len(close_until.signatures) == before
