"""History through the engine: what is written, and that nothing but the readings decides it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from models.detectors import DETECTORS
from models.features import FEATURES
from models.schema import Alert
from models.state import DETECTION
from nightline import cli
from tests.synthetic import DAY, NETWORK_TOML, SITE_TOML, START_MS, make_site, readings, run, step_between
from training.backtest import DetectionsFile, backtest
from training.backtest import run as run_engines
from training.coverage import Coverage
from training.history import Window, read_history
from training.registry import champions
from training.report import read_alerts

DAYS = 35
LEAK_SLOT = 28 * DAY + 40


@pytest.fixture(scope="module")
def site_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with five weeks of readings as local wide CSV, and a burst of 25 m3/h in C in the last one."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "site.toml").write_text(SITE_TOML, encoding="utf-8")
    (folder / "network.toml").write_text(NETWORK_TOML, encoding="utf-8")
    block = readings(DAYS, c=step_between(DAYS, LEAK_SLOT, DAYS * DAY, 25.0))
    site = make_site()
    rows = block.reshape(-1, 4)
    names = [site.meters[meter].id for meter in rows["meter"][0]]
    stamps = rows["time_ms"][:, 0].astype("datetime64[ms]") + np.timedelta64(1, "h")  # Rome in winter
    lines = [",".join(["timestamp", *names])]
    lines += [f"{t},{','.join(map(repr, v.tolist()))}" for t, v in zip(stamps, rows["value"], strict=True)]
    (folder / "readings.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    start = np.datetime64(START_MS + LEAK_SLOT * 900_000, "ms") + np.timedelta64(1, "h")
    (folder / "labels.csv").write_text(
        f"dma,kind,startedAt,endedAt,id,max_m3h\nC,abrupt,{start},,main,25\n", encoding="utf-8"
    )
    return folder


@pytest.fixture(scope="module")
def out(site_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "made"
    arguments = ["backtest", str(site_folder), "--readings", str(site_folder / "readings.csv"), "--no-model"]
    result = CliRunner().invoke(
        cli.nightline,
        [*arguments, "--labels", str(site_folder / "labels.csv"), "--out", str(folder)],
        catch_exceptions=False,
    )
    assert result.exit_code == 0, result.output
    assert "known leaks found: 1 of 1 abrupt" in result.output
    assert "report.html" in result.output
    return folder


def test_the_alerts_are_those_of_the_engine_fed_directly(out: Path) -> None:
    block = readings(DAYS, c=step_between(DAYS, LEAK_SLOT, DAYS * DAY, 25.0))
    expected, _ = run(make_site(), [block])
    got = read_alerts(out / "alerts.ndjson")
    assert [(a.alert_id, a.revision, a.updated_at) for a in got] == [
        (a.alert_id, a.revision, a.updated_at) for a in expected
    ]
    assert {a.origin for a in got} == {"replay"}
    assert any(a.type == "burst" and a.scope.id == "C" for a in got)


def test_alert_lines_are_valid_alerts_in_order_of_update_id_and_revision(out: Path) -> None:
    lines = (out / "alerts.ndjson").read_bytes().splitlines()
    alerts = [msgspec.json.decode(line, type=Alert, strict=True) for line in lines]
    keys = [(a.updated_at, a.alert_id, a.revision) for a in alerts]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)


def test_detections_hold_every_closed_slot_with_named_features_and_scores(out: Path) -> None:
    block = readings(DAYS, c=step_between(DAYS, LEAK_SLOT, DAYS * DAY, 25.0))
    _, results = run(make_site(), [block])
    table = pq.read_table(out / "detections.parquet")
    names = ["dma", "slot_end_ms", "observed_m3h", "expected_m3h", "lower_m3h", "upper_m3h", "coverage", "learnable"]
    assert table.column_names == [*names, *FEATURES, *(detector.name for detector in DETECTORS)]
    of = np.array(table.column("dma").to_pylist())
    for dma, steps in results.items():
        expected = np.concatenate([step.detections for step in steps])
        mine = table.filter(of == dma)
        np.testing.assert_array_equal(mine.column("slot_end_ms").to_numpy(), expected["slot_end_ms"])
        np.testing.assert_array_equal(mine.column("observed_m3h").to_numpy(), expected["observed_m3h"])
        for at, name in enumerate(FEATURES):
            np.testing.assert_array_equal(mine.column(name).to_numpy(), expected["features"][:, at])


def test_the_scorecard_finds_the_planted_burst(out: Path) -> None:
    card = json.loads((out / "scorecard.json").read_text(encoding="utf-8"))
    assert card["summary"]["abrupt"]["found"] == 1
    assert card["leaks"][0]["id"] == "main"
    assert 0 <= card["leaks"][0]["delayHours"] <= 24
    assert 1.9 < card["summary"]["dmaMonths"] < 2.1  # three DMAs of five weeks, of which two are warm-up


def test_the_report_has_the_curve_of_leaks_over_alarms_at_other_budgets(out: Path) -> None:
    card = json.loads((out / "scorecard.json").read_text(encoding="utf-8"))
    assert [row["timesTheBudget"] for row in card["budgets"]] == [0.25, 0.5, 1, 2, 4]
    own = card["budgets"][2]
    assert (own["leakAlarms"], own["found"]) == (card["summary"]["leakAlarms"], card["summary"]["found"])
    page = (out / "report.html").read_text(encoding="utf-8")
    assert 'id="score-budget"' in page
    assert '"score-budget":{' in page
    assert "this site\u0027s budget" in page or "this site's budget" in page


def test_a_backtest_makes_all_files_and_rejects_nothing_here(out: Path) -> None:
    made = {path.name for path in out.iterdir()}
    assert made == {"alerts.ndjson", "detections.parquet", "scorecard.json", "report.html", "rejects.csv"}
    assert (out / "rejects.csv").read_text(encoding="utf-8") == "file,line,reason\n"


def test_the_size_of_windows_does_not_change_the_alerts(site_folder: Path, out: Path, tmp_path: Path) -> None:
    site = make_site()
    backtest(site, read_history(site_folder / "readings.csv", site, 95), tmp_path)
    assert (tmp_path / "alerts.ndjson").read_bytes() == (out / "alerts.ndjson").read_bytes()


def test_the_past_does_not_know_the_future(site_folder: Path, out: Path, tmp_path: Path) -> None:
    site = make_site()
    cut_ms = START_MS + (LEAK_SLOT + 3 * DAY) * 900_000

    def until(windows: Iterator[Window]) -> Iterator[Window]:
        for window in windows:
            if window.end_ms <= cut_ms:
                yield window

    short = backtest(site, until(read_history(site_folder / "readings.csv", site, 60)), tmp_path)
    whole = read_alerts(out / "alerts.ndjson")
    assert short.alerts == whole[: len(short.alerts)]
    assert short.alerts


def test_a_backtest_needs_no_network(site_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a backtest opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    site = make_site()
    backtest(site, read_history(site_folder / "readings.csv", site, 1440), tmp_path)


def test_nothing_at_all_still_makes_every_file(tmp_path: Path) -> None:
    result = backtest(make_site(), iter(()), tmp_path)
    assert result.alerts == []
    assert (tmp_path / "alerts.ndjson").read_bytes() == b""
    assert pq.read_table(tmp_path / "detections.parquet").num_rows == 0
    assert "no slot was closed" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_detections_are_written_in_the_order_of_each_dma(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.backtest.ROW_GROUP", 50)
    with DetectionsFile(tmp_path / "d.parquet") as file:
        for start in range(0, 300, 30):
            for dma in ("A", "B"):
                rows = np.zeros(30, DETECTION)
                rows["slot_end_ms"] = np.arange(start, start + 30)
                file.add(dma, rows)
    table = pq.read_table(tmp_path / "d.parquet")
    of = np.array(table.column("dma").to_pylist())
    for dma in ("A", "B"):
        assert table.filter(of == dma).column("slot_end_ms").to_pylist() == list(range(300))


def test_a_label_of_an_unknown_dma_stops_before_any_work(site_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("dma,kind,startedAt,endedAt\nQ,abrupt,2026-01-05,\n", encoding="utf-8")
    arguments = ["backtest", str(site_folder), "--readings", str(site_folder / "readings.csv"), "--no-model"]
    arguments += ["--labels", str(tmp_path / "labels.csv"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(cli.nightline, arguments)
    assert "dma 'Q' is not in network.toml" in str(result.exception)
    assert not (tmp_path / "out").exists()


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def arguments(folder: Path, *more: object) -> list[str]:
    return ["backtest", str(folder), "--readings", str(folder / "readings.csv"), *map(str, more)]


def short_site(folder: Path, days: int = 3) -> Path:
    """Three days: A reports, B's meter is silent for most of the time, C never says a word."""
    folder.mkdir()
    (folder / "site.toml").write_text(SITE_TOML, encoding="utf-8")
    (folder / "network.toml").write_text(NETWORK_TOML, encoding="utf-8")
    start = np.datetime64(START_MS, "ms")
    lines = [
        f"{start + np.timedelta64(15 * (slot + 1), 'm')},{50 + slot % 7},{20 if slot < 90 else ''},"
        for slot in range(days * DAY)
    ]
    (folder / "readings.csv").write_text("\n".join(["timestamp,in-A,A-B,in-C", *lines]) + "\n", encoding="utf-8")
    return folder


def test_an_interrupted_backtest_leaves_the_result_before_it_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = short_site(tmp_path / "site")
    done = CliRunner().invoke(cli.nightline, arguments(site, "--out", tmp_path / "out"), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    before = snapshot(tmp_path / "out")

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.backtest.write_report", interrupted)
    for folder in ("out", "new"):
        stopped = CliRunner().invoke(cli.nightline, arguments(site, "--out", tmp_path / folder))
        assert stopped.exit_code != 0
    assert snapshot(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "site"]


def test_a_dma_that_could_not_be_judged_is_named_and_its_time_is_not_counted(tmp_path: Path) -> None:
    site = short_site(tmp_path / "site")
    done = CliRunner().invoke(cli.nightline, arguments(site, "--out", tmp_path / "out"), catch_exceptions=False)
    lines = [line for line in done.output.splitlines() if line.startswith("not judged: ")]
    assert [line.split(":")[1].strip() for line in lines] == ["A", "B", "C"]  # A loses what it hands to B
    assert "a net inflow in 73 of 271 slots; at least 50% are needed" in lines[1]
    card = json.loads((tmp_path / "out" / "scorecard.json").read_text(encoding="utf-8"))
    assert card["summary"]["dmaMonths"] == 0  # all of it is warm-up


def test_a_dma_without_a_whole_night_has_no_minimum_night_flow() -> None:
    site = make_site()
    day = np.zeros(DAY, DETECTION)
    day["slot_end_ms"] = START_MS + 900_000 * np.arange(1, DAY + 1)
    whole, broken = Coverage(900_000), Coverage(900_000)
    whole.add(site, day)
    assert whole.fault(site) is None
    day["observed_m3h"][10] = np.nan  # 02:30 to 02:45
    broken.add(site, day)
    assert "no minimum night flow" in (broken.fault(site) or "")
    assert Coverage(900_000).fault(site) == "no data"


def test_each_dma_is_judged_with_its_own_model_else_with_the_sites(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = {"*": "whole", "B": "own"}
    monkeypatch.setattr("training.registry.champion", lambda _, scope: given.get(scope))
    assert champions(tmp_path, ["A", "B"]) == {"A": "whole", "B": "own"}
    del given["*"]
    assert champions(tmp_path, ["A", "B"]) == {"B": "own"}

    used: dict[str, object] = {}

    class Watch:
        def __init__(self, __: object, dma: str, bundle: object, *_: object) -> None:
            used[dma] = bundle

        def step(self, *_: object) -> None:
            return None

    monkeypatch.setattr("training.backtest.Engine", Watch)
    block = readings(1)
    run_engines(make_site(), [Window(START_MS, START_MS + 86_400_001, block)], {"B": "own"}, lambda *_: None)  # type: ignore[dict-item]
    assert used == {"A": None, "B": "own", "C": None}
