import json
import shutil
import sys
import types
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from benchmarks.measure import Row, Sample, Seconds, SkippedError, each, race, rate
from benchmarks.plot import draw
from nightline import bench as module
from nightline.bench import WORKLOADS, bench

ROOT = Path(__file__).resolve().parent.parent


def row(better, ours, peer, target):
    sample = Sample(ours, ours, ours)
    return Row("work", "unit", better, sample, peer and Sample(peer, peer, peer), "peer", "checked", target)


def test_one_workload_prints_its_rows_as_json_and_draws_them(tmp_path):
    result = CliRunner().invoke(bench, ["--only", "codec", "--json", "--plot", str(tmp_path / "new" / "bench.png")])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert (tmp_path / "new" / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert {found["workload"] for found in rows} == {"codec"}
    assert {found["peer_name"] for found in rows} <= {"msgspec", "msgspec, all checks", "json"}
    assert all(found["ours"]["low"] <= found["ours"]["median"] <= found["ours"]["high"] for found in rows)
    assert all(
        found["correct"] == f"{count} readings equal"
        for found, count in zip(rows, ("20,000", "20,000", "80,000"), strict=True)
    )


def test_every_workload_has_its_file_and_its_line_in_the_readme():
    readme = (ROOT / "benchmarks" / "README.md").read_text()
    for name in WORKLOADS:
        assert (ROOT / "benchmarks" / f"{name}.py").is_file()
        assert f"| {name} |" in readme


def test_an_installation_without_the_repository_says_so(monkeypatch, tmp_path):
    (tmp_path / "nightline").mkdir()
    shutil.copy(module.__file__, tmp_path / "nightline" / "bench.py")
    monkeypatch.setattr(module, "__file__", str(tmp_path / "nightline" / "bench.py"))
    result = CliRunner().invoke(bench, ["--only", "codec"])
    assert result.exit_code != 0
    assert "holds no benchmarks folder; possible: run it in a checkout" in result.output
    assert isinstance(result.exception, SystemExit | click.ClickException)


@pytest.mark.parametrize(
    ("better", "ours", "peer", "target", "ratio", "met"),
    [
        ("less", 2.0, 10.0, 3.0, 5.0, True),
        ("less", 4.0, 2.0, 3.0, 0.5, False),
        ("more", 4.0, 2.0, 3.0, 2.0, True),
        ("more", 2.0, None, 3.0, None, False),
        ("more", 2.0, None, None, None, None),
    ],
)
def test_a_ratio_above_one_is_always_in_our_favour(better, ours, peer, target, ratio, met):
    found = row(better, ours, peer, target)
    assert (found.ratio, found.met) == (ratio, met)


def test_the_best_peer_is_shown_and_all_are_kept():
    def flat(value):
        return Sample(value, value, value)

    peers = {"slow": flat(9.0), "gone": "not installable here: no wheel", "quick": flat(2.0)}
    for better, best in (("less", "quick"), ("more", "slow")):
        found = Row.beside("work", "unit", better, flat(1.0), peers, "checked", 3.0)
        assert (found.peer_name, found.peer, found.peers) == (best, peers[best], peers)
    assert found.absent == {"gone": "not installable here: no wheel"}
    alone = Row.beside("work", "unit", "less", flat(1.0), {"gone": "no"}, "checked")
    assert (alone.peer, alone.ratio) == (None, None)


def _pretend(monkeypatch, **workloads):
    """Workloads of these names take the place of what they do."""
    for name, run in workloads.items():
        pretended = types.ModuleType(f"benchmarks.{name}")
        pretended.run = run
        monkeypatch.setitem(sys.modules, f"benchmarks.{name}", pretended)


def test_a_workload_that_goes_wrong_is_named_and_the_rows_of_others_stand(monkeypatch, tmp_path):
    def torn():
        yield row("less", 2.0, 10.0, 3.0)
        raise AssertionError("\nNot equal to tolerance\n ours 1, peer 2")

    def lacking():
        raise SkippedError("found no java on PATH")

    _pretend(monkeypatch, kernels=torn, forest=lacking, codec=lambda: [row("more", 2.0, None, None)])
    only = [word for name in ("kernels", "forest", "codec") for word in ("--only", name)]
    result = CliRunner().invoke(bench, [*only, "--json", "--plot", str(tmp_path / "bench.png")])
    assert result.exit_code == 1
    assert "error: workload kernels: AssertionError: Not equal to tolerance; ours 1, peer 2" in result.stderr
    rows = json.loads(result.stdout)
    assert [(found["workload"], found["ours"] is not None) for found in rows] == [
        ("kernels", True),
        ("kernels", False),
        ("forest", False),
        ("codec", True),
    ]
    assert [rows[1]["correct"], rows[2]["correct"]] == ["FAILED: Not equal to tolerance", "skipped: found no java on PATH"]


def test_a_row_without_figures_and_a_peer_that_is_not_there_are_told_in_the_table(monkeypatch, tmp_path):
    sample = Sample(1.0, 1.0, 1.0)
    absent = Row.beside("work", "unit", "less", sample, {"isotree": "not installable here: no compiler"}, "checked")
    _pretend(monkeypatch, codec=lambda: [absent, Row.without("a year", "skipped: no data")])
    result = CliRunner().invoke(bench, ["--only", "codec", "--plot", str(tmp_path / "bench.png")])
    assert result.exit_code == 0, result.output
    assert "isotree: not" in result.stdout
    assert "skipped: no data" in result.stdout


def test_nothing_measured_draws_nothing(tmp_path):
    assert not draw({"codec": [Row.without("a year", "skipped")]}, tmp_path / "bench.png")
    assert not (tmp_path / "bench.png").exists()


def test_a_contestant_of_another_process_times_itself():
    assert race({"far": lambda: Seconds(42.0)}, rounds=2) == {"far": [42.0, 42.0]}


def test_contestants_take_turns_after_one_round_that_is_not_timed():
    calls = []
    seconds = race({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3)
    assert calls == ["a", "b"] * 4
    assert {name: len(found) for name, found in seconds.items()} == {"a": 3, "b": 3}


def test_samples_are_medians_with_their_extremes():
    assert each([1.0, 3.0, 2.0], 10, 1e3) == Sample(200.0, 100.0, 300.0)
    assert rate([1.0, 4.0, 2.0], 8) == Sample(4.0, 2.0, 8.0)
