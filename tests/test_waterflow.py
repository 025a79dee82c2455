"""A real pipe branch in Italy (river's WaterFlow): two months of hourly flow with gaps, three lows and one small peak."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime

import numpy as np
import pytest
from click.testing import CliRunner

from nightline.cli import nightline

SITE_TOML = 'name = "waterflow"\ntimezone = "Europe/Rome"\n[stream]\nlatenessMinutes = 1440\n'
NETWORK_TOML = '[[dma]]\nid = "branch"\nslotMinutes = 60\n[[meter]]\nid = "FM"\nkind = "flow"\nto = "branch"\n'


def write_waterflow(folder):
    """The data set as a site folder with long-CSV readings."""
    datasets = pytest.importorskip("river.datasets")
    (folder / "site.toml").write_text(SITE_TOML)
    (folder / "network.toml").write_text(NETWORK_TOML)
    with (folder / "readings.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["meterId", "observedAt", "value", "kind", "unit"])
        for features, flow_lps in datasets.WaterFlow():
            rows.writerow(["FM", features["Time"].isoformat(), flow_lps, "flow", "L/s"])
    return folder


@pytest.fixture(scope="module")
def backtest(tmp_path_factory):
    folder = write_waterflow(tmp_path_factory.mktemp("waterflow"))
    arguments = ["backtest", str(folder), "--readings", str(folder / "readings.csv"), "--out", str(folder / "out")]
    result = CliRunner().invoke(nightline, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return folder / "out"


def detections(out):
    parquet = pytest.importorskip("pyarrow.parquet")
    return parquet.read_table(out / "detections.parquet").to_pydict()


def test_every_slot_is_judged_and_gaps_stay_gaps(backtest):
    table = detections(backtest)
    ends = np.array(table["slot_end_ms"])
    assert (np.diff(ends) == 3_600_000).all()
    observed = np.array(table["observed_m3h"], float)
    assert np.isfinite(observed).sum() == pytest.approx(1268, abs=5)  # the low is flat for five hours: suspect
    assert np.isnan(observed).sum() > 40
    assert np.nanmax(observed) == pytest.approx(109.68 * 3.6)


def test_the_branch_is_warm_after_two_weeks_and_the_expectation_is_close(backtest):
    table = detections(backtest)
    expected, observed = np.array(table["expected_m3h"], float), np.array(table["observed_m3h"], float)
    warm = np.isfinite(expected)
    first = datetime.fromtimestamp(table["slot_end_ms"][int(np.argmax(warm))] / 1000, UTC)
    assert datetime(2022, 4, 3, tzinfo=UTC) < first < datetime(2022, 4, 8, tzinfo=UTC)
    error = np.abs(expected - observed)[warm & np.isfinite(observed)]
    assert np.median(error) < 0.02 * np.nanmean(observed)


def test_lows_and_a_small_pumping_peak_are_no_leak(backtest):
    alerts = [json.loads(line) for line in (backtest / "alerts.ndjson").read_text().splitlines()]
    assert {alert["type"] for alert in alerts} <= {"data_gap"}


def test_the_day_and_a_third_without_readings_is_a_gap_that_ends(backtest):
    alerts = [json.loads(line) for line in (backtest / "alerts.ndjson").read_text().splitlines()]
    begins, ends = (datetime(2022, 4, day, hour, tzinfo=UTC) for day, hour in ((24, 0), (25, 7)))
    first = [alert for alert in alerts if alert["startedAt"] == alerts[0]["startedAt"]]
    assert [alert["event"] for alert in first] == ["raised", "cleared"]
    assert first[-1]["startedAt"] == begins.timestamp() * 1000
    assert abs(first[-1]["endedAt"] - ends.timestamp() * 1000) <= 3_600_000
