"""Readings from files: layouts, time zones, order, rejects. Expected times are computed with zoneinfo alone."""

from __future__ import annotations

import csv
import gzip
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.config import ConfigError
from models.network import Site, parse_site
from models.schema import BAD, FLOW, GOOD, KINDS, LEVEL, PRESSURE, READING, REGISTER
from training import history_tables
from training.history import read_history

NETWORK = """
[[dma]]
id = "A"
[[meter]]
id = "in"
kind = "flow"
to = "A"
[[meter]]
id = "p"
kind = "pressure"
dma = "A"
[[meter]]
id = "tank"
kind = "level"
dma = "A"
tankAreaM2 = 10
[[meter]]
id = "home"
kind = "flow"
dma = "A"
"""
ROME = ZoneInfo("Europe/Rome")


def site(timezone: str = "Europe/Rome") -> Site:
    return parse_site(f'name = "s"\ntimezone = "{timezone}"\n', NETWORK)


def ms(text: str, zone: ZoneInfo = ROME, fold: int = 0) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp() * 1000)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def everything(path: Path, window_minutes: int = 60, rejects: Path | None = None, of: Site | None = None) -> np.ndarray:
    parts = [window.readings for window in read_history(path, of or site(), window_minutes, rejects)]
    return np.concatenate(parts) if parts else np.zeros(0, READING)


def reasons(path: Path) -> list[tuple[int, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [(int(row["line"]), row["reason"]) for row in csv.DictReader(file)]


def test_a_wide_file_becomes_readings_in_engine_units_and_empty_cells_are_gaps(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", "timestamp,p,in,tank\n2026-01-05 00:15,300.5,12,\n2026-01-05 00:30,,13,2.5\n")
    got = everything(path)
    at = site().meter_row
    assert got["time_ms"].tolist() == [ms("2026-01-05 00:15")] * 2 + [ms("2026-01-05 00:30")] * 2
    assert got["meter"].tolist() == [at["p"], at["in"], at["in"], at["tank"]]  # the order of the columns
    assert got["value"].tolist() == [300.5, 12.0, 13.0, 2.5]
    assert got["kind"].tolist() == [PRESSURE, FLOW, FLOW, LEVEL]
    assert set(got["quality"]) == {GOOD}


def test_windows_are_aligned_ordered_and_hold_only_their_own_time(tmp_path: Path) -> None:
    rows = "".join(f"2026-01-05 {hour:02}:{minute:02},1\n" for hour in (0, 1, 5) for minute in (0, 20, 40))
    windows = list(read_history(write(tmp_path / "r.csv", "timestamp,in\n" + rows), site(), 30))
    assert all(w.start_ms % 1_800_000 == 0 and w.end_ms - w.start_ms == 1_800_000 for w in windows)
    assert [w.readings.size for w in windows] == [2, 1, 2, 1, 2, 1]  # nothing between 02:00 and 05:00
    for window in windows:
        assert ((window.start_ms <= window.readings["time_ms"]) & (window.readings["time_ms"] < window.end_ms)).all()


def test_the_repeated_hour_is_summer_time_first_and_winter_time_after_the_step_back(tmp_path: Path) -> None:
    times = ["01:30", "02:00", "02:30", "02:00", "02:30", "03:00"]
    text = "timestamp,in\n" + "".join(f"2026-10-25 {t},{i}\n" for i, t in enumerate(times))
    got = everything(write(tmp_path / "r.csv", text))
    expected = [ms(f"2026-10-25 {t}", fold=int(i in (3, 4))) for i, t in enumerate(times)]
    assert got["time_ms"].tolist() == expected
    assert np.diff(got["time_ms"]).tolist() == [1_800_000] * 5


def test_each_meter_of_a_long_file_has_its_own_repeated_hour(tmp_path: Path) -> None:
    rows = [("in", "02:00"), ("p", "02:00"), ("in", "02:00"), ("p", "02:00"), ("p", "03:00")]
    text = "meterId,observedAt,value\n" + "".join(f"{m},2026-10-25T{t}:00,1\n" for m, t in rows)
    got = everything(write(tmp_path / "r.csv", text))
    first, second = ms("2026-10-25 02:00", fold=0), ms("2026-10-25 02:00", fold=1)
    assert got["time_ms"].tolist() == [first, first, second, second, ms("2026-10-25 03:00")]


def test_a_time_that_does_not_exist_moves_forward(tmp_path: Path) -> None:
    text = "timestamp,in\n2026-03-29 01:30,1\n2026-03-29 02:30,2\n2026-03-29 04:00,3\n"
    got = everything(write(tmp_path / "r.csv", text))
    assert got["time_ms"].tolist() == [ms("2026-03-29 01:30"), ms("2026-03-29 03:30"), ms("2026-03-29 04:00")]


@pytest.mark.parametrize("zone", ["Europe/Rome", "Asia/Shanghai", "America/Sao_Paulo", "Australia/Lord_Howe", "UTC"])
def test_local_times_of_two_years_are_those_of_zoneinfo(tmp_path: Path, zone: str) -> None:
    stamps = np.arange(np.datetime64("2017-06-01T00:10"), np.datetime64("2019-06-01"), np.timedelta64(6, "h"))
    text = "timestamp,in\n" + "".join(f"{s},1\n" for s in stamps)
    got = everything(write(tmp_path / "r.csv", text), 1440, of=site(zone))
    assert got["time_ms"].tolist() == [ms(str(s), ZoneInfo(zone)) for s in stamps]


@pytest.mark.parametrize(
    "stamp", ["2026-01-05T02:15:00+02:00", "2026-01-05 00:15:00+00:00", "2026-01-05T00:15:00Z", "1767572100000"]
)
def test_aware_times_and_epoch_milliseconds_are_taken_as_they_are(tmp_path: Path, stamp: str) -> None:
    got = everything(write(tmp_path / "r.csv", f"timestamp,in\n{stamp},1\n"))
    assert got["time_ms"].tolist() == [1_767_572_100_000]


def test_forms_of_time_may_be_mixed_in_one_file(tmp_path: Path) -> None:
    text = "timestamp,in\n2026-01-05 01:15,1\n2026-01-05T00:30:00Z,2\n1767573900000,3\n"
    got = everything(write(tmp_path / "r.csv", text))
    assert np.diff(got["time_ms"]).tolist() == [900_000, 900_000]


def test_long_rows_carry_their_own_kind_unit_and_quality(tmp_path: Path) -> None:
    text = (
        "meterId,observedAt,value,kind,unit,quality,intervalSeconds\n"
        "in,2026-01-05T00:15:00Z,10,flow,L/s,good,\n"
        "p,2026-01-05T00:15:00Z,3,pressure,bar,bad,\n"
        "home,2026-01-05T00:15:00Z,250,volume,L,,900\n"
        "home,2026-01-05T00:15:00Z,1234.5,register,m3,good,\n"
        "tank,2026-01-05T00:15:00Z,,,,,\n"
    )
    got = everything(write(tmp_path / "r.csv", text))
    np.testing.assert_allclose(got["value"], [36.0, 300.0, 1.0, 1234.5])
    assert got["kind"].tolist() == [FLOW, PRESSURE, FLOW, REGISTER]
    assert got["quality"].tolist() == [GOOD, BAD, GOOD, GOOD]


def test_gzip_parquet_and_folders_give_the_same_readings_as_plain_csv(tmp_path: Path) -> None:
    text = "timestamp,in,p\n2026-01-05 00:15,1,2\n2026-01-05 00:30,3,\n"
    expected = everything(write(tmp_path / "r.csv", text))
    with gzip.open(tmp_path / "g.csv.gz", "wt") as file:
        file.write(text)
    stamps = pa.array([ms("2026-01-05 00:15"), ms("2026-01-05 00:30")], pa.timestamp("ms", "UTC"))
    pq.write_table(pa.table({"timestamp": stamps, "in": [1.0, 3.0], "p": [2, None]}), tmp_path / "w.parquet")
    rows = {"meterId": ["in", "p", "in"], "observedAt": [stamps[0], stamps[0], stamps[1]], "value": [1.0, 2.0, 3.0]}
    pq.write_table(pa.table(rows), tmp_path / "l.parquet")
    for name in ("g.csv.gz", "w.parquet", "l.parquet"):
        np.testing.assert_array_equal(everything(tmp_path / name), expected, err_msg=name)
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder / "1.csv", "timestamp,in\n2026-01-05 00:15,1\n2026-01-05 00:30,3\n")
    write(folder / "2.csv", "timestamp,p\n2026-01-05 00:15,2\n2026-01-05 00:30,\n")
    write(folder / "README.txt", "not readings")
    np.testing.assert_array_equal(everything(folder), expected)


def test_semicolons_and_decimal_commas_are_understood(tmp_path: Path) -> None:
    got = everything(write(tmp_path / "r.csv", "﻿Timestamp;in;p\n2026-01-05 00:15;1,5;300,25\n"))
    assert got["value"].tolist() == [1.5, 300.25]


def test_a_decimal_comma_may_first_appear_far_down(tmp_path: Path) -> None:
    rows = "".join(f"2026-01-05 00:{minute:02};0\n" for minute in range(50))
    got = everything(write(tmp_path / "r.csv", f"timestamp;in\n{rows}2026-01-05 01:00;2,5\n"), rejects=tmp_path / "rejects")
    assert got["value"].tolist() == [0.0] * 50 + [2.5]
    assert reasons(tmp_path / "rejects") == []


def test_a_file_out_of_order_is_put_in_order_and_equal_times_stay_as_they_came(tmp_path: Path) -> None:
    stamps = [f"2026-01-{day:02} {hour:02}:00" for day in range(5, 12) for hour in range(24)]
    rows = [f"{m},{t},{i}\n" for m in ("in", "p", "home") for i, t in enumerate(stamps)]
    rows.append(f"in,{stamps[5]},99\n")  # a correction at the end: the last received wins, so it must come last
    got = everything(write(tmp_path / "r.csv", "meterId,observedAt,value\n" + "".join(rows)))
    assert (np.diff(got["time_ms"]) >= 0).all()
    assert got.size == len(rows)
    corrected = got[(got["time_ms"] == ms(stamps[5])) & (got["meter"] == 0)]
    assert corrected["value"].tolist() == [5.0, 99.0]


def test_what_cannot_be_read_goes_to_rejects_with_its_line_and_the_rest_is_kept(tmp_path: Path) -> None:
    text = (
        "timestamp,in,p,FM-9\n"  # 1: FM-9 is no meter
        "2026-01-05 00:15,1,300,1\n"
        "2026-01-05 00:30,nan,301,1\n"  # 3
        "\n"
        "soon,4,304,1\n"  # 5
        "2026-01-05 01:00,5,305,1,7\n"  # 6: a cell too many
        "2026-01-05 01:15,inf,broken,1\n"  # 7: both cells
        "2026-01-05 01:30,7,,1\n"
    )
    got = everything(write(tmp_path / "r.csv", text), rejects=tmp_path / "rejects.csv")
    assert got["value"].tolist() == [1.0, 300.0, 301.0, 7.0]
    told = reasons(tmp_path / "rejects.csv")
    assert sorted(line for line, _ in told) == [1, 3, 5, 6, 7, 7]
    told_of = dict(told)
    assert "'FM-9' is no meter of network.toml; possible:" in told_of[1]
    assert "'soon' cannot be read; possible: ISO 8601" in told_of[5]
    assert told_of[6] == "5 cells; possible: 4"


def test_long_rows_are_rejected_one_by_one_for_their_first_fault(tmp_path: Path) -> None:
    text = (
        "meterId,observedAt,value,kind,unit,quality\n"
        "in,2026-01-05T00:15:00Z,1,flow,m3/h,good\n"
        "inn,2026-01-05T00:15:00Z,1,flow,m3/h,good\n"
        "in,2026-01-05T00:30:00Z,1,flow,gallon,good\n"
        "in,never,1,flow,m3/h,good\n"
        "in,2026-01-05T00:45:00Z,NaN,flow,m3/h,good\n"
        "in,2026-01-05T01:00:00Z,1,volume,m3,good\n"
        "p,2026-01-05T01:15:00Z,1,flow,m3/h,good\n"
        "in,2026-01-05T01:30:00Z,1,flow,m3/h,superb\n"
    )
    got = everything(write(tmp_path / "r.csv", text), rejects=tmp_path / "rejects.csv")
    assert got.size == 1
    told = dict(reasons(tmp_path / "rejects.csv"))
    assert told[3] == "meter 'inn' is not in network.toml; nearest: 'in'"
    assert told[4].startswith("unit 'gallon' is unknown for kind 'flow'; possible: m3/h")
    assert "'never' cannot be read" in told[5]
    assert "is not a number" in told[6]
    assert "needs intervalSeconds" in told[7]
    assert told[8] == "kind 'flow' from a pressure meter; possible: pressure, battery"
    assert "quality 'superb' is unknown" in told[9]


def test_text_far_down_a_file_loses_nothing_before_or_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_tables, "BLOCK_BYTES", 4096)
    stamps = np.arange(np.datetime64("2026-01-05T00:00"), np.datetime64("2026-01-09"), np.timedelta64(5, "m"))
    lines = [f"{t},{i}\n" for i, t in enumerate(stamps)]
    lines[700] = f"{stamps[700]},broken\n"
    lines[20] = f"{stamps[20]},1,2\n"
    lines[900] = f"{stamps[900]},1,2\n"
    path = write(tmp_path / "r.csv", "timestamp,in\n" + "".join(lines))
    got = everything(path, rejects=tmp_path / "rejects.csv")
    assert got["value"].tolist() == [float(i) for i in range(len(stamps)) if i not in (20, 700, 900)]
    assert sorted(line for line, _ in reasons(tmp_path / "rejects.csv")) == [22, 702, 902]


def test_block_boundaries_do_not_change_the_readings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stamps = np.arange(np.datetime64("2026-10-24T00:00"), np.datetime64("2026-10-27"), np.timedelta64(15, "m"))
    path = write(tmp_path / "r.csv", "timestamp,in,p\n" + "".join(f"{t},{i},{i}\n" for i, t in enumerate(stamps)))
    expected = everything(path, 30)
    monkeypatch.setattr(history_tables, "BLOCK_BYTES", 256)
    for window_minutes in (5, 60, 100_000):
        np.testing.assert_array_equal(everything(path, window_minutes), expected)


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("r.csv", b"when,in\n1,2\n", "no time column among when, in; possible: 'timestamp'"),
        ("r.csv", b"timestamp,FM-1\n2026-01-05,2\n", "no column is a meter of network.toml: found 'FM-1'"),
        ("r.csv", b"", "the first line is empty"),
        ("r.csv", b"timestamp,in\nsoon,2\n", "no row has a readable time"),
        ("r.csv.gz", b"this is not gzip", "cannot be read"),
        ("r.parquet", b"this is not parquet", "cannot be read"),
        ("r.csv", b"\xff\xfe\x00timestamp", "cannot be read"),
        ("r.xlsx", b"", "possible: a name ending in .csv, .csv.gz, .parquet"),
    ],
)
def test_a_file_that_cannot_serve_is_one_clear_error(tmp_path: Path, name: str, content: bytes, fault: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as error:
        everything(tmp_path / name)
    assert len(error.value.faults) == 1
    assert name in error.value.faults[0]
    assert fault in error.value.faults[0]


def test_a_gzip_file_that_breaks_off_is_an_error_not_a_short_history(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).random(20_000)
    stamps = np.datetime64("2026-01-05T00:00") + np.arange(20_000) * np.timedelta64(1, "m")
    whole = gzip.compress(("timestamp,in\n" + "".join(f"{t},{v}\n" for t, v in zip(stamps, noise, strict=True))).encode())
    (tmp_path / "r.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="cannot be read"):
        everything(tmp_path / "r.csv.gz")


def test_missing_paths_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file or folder"):
        everything(tmp_path / "nowhere.csv")
    with pytest.raises(ConfigError, match="holds no readings; possible: files ending in"):
        everything(tmp_path)


def test_every_kind_a_meter_may_send_is_a_kind_of_the_schema() -> None:
    from training.history_sources import _KINDS_OF_METER  # noqa: PLC0415

    assert {kind for kinds in _KINDS_OF_METER.values() for kind in kinds} == set(KINDS)


@pytest.mark.parametrize(
    "time",
    ["1970-01-01 00:15", "1989-12-31 12:00", "2100-06-01", "9999-01-01 00:15", "9999999999999999", "9" * 20, "²" * 12],
)
def test_a_time_outside_1990_to_2100_or_of_strange_digits_is_rejected(tmp_path: Path, time: str) -> None:
    path = write(tmp_path / "r.csv", f"timestamp,in\n2026-01-05 00:15,1\n{time},2\n2026-01-05 00:30,3\n")
    assert everything(path, rejects=tmp_path / "rejects.csv")["value"].tolist() == [1.0, 3.0]
    ((line, reason),) = reasons(tmp_path / "rejects.csv")
    assert line == 3
    assert reason.startswith(f"timestamp {time!r} cannot be read; possible: ISO 8601")
    assert reason.endswith("from 1990 to 2100")


def test_an_interval_is_a_whole_number_of_seconds_up_to_a_month(tmp_path: Path) -> None:
    head = "meterId,observedAt,value,kind,unit,intervalSeconds\n"
    given = ["inf", "0.5", "0", "-900", "2678401", "900", "2678400"]
    rows = [f"in,2026-01-05 00:{at:02},5,volume,m3,{seconds}\n" for at, seconds in enumerate(given)]
    path = write(tmp_path / "r.csv", head + "".join(rows))
    got = everything(path, rejects=tmp_path / "rejects.csv")
    np.testing.assert_allclose(got["value"], [20.0, 5 / 744])
    assert [line for line, _ in reasons(tmp_path / "rejects.csv")] == [2, 3, 4, 5, 6]
    assert reasons(tmp_path / "rejects.csv")[1][1] == "intervalSeconds 0.5; possible: whole seconds from 1 to 2678400"


def test_a_damaged_gzip_and_a_giant_header_cell_are_named(tmp_path: Path) -> None:
    packed = gzip.compress(b"timestamp,in\n2026-01-05 00:15,1\n" * 50)
    damaged = packed[:10] + b"\xff" * 40 + packed[50:]
    (tmp_path / "bad.csv.gz").write_bytes(damaged)
    with pytest.raises(ConfigError, match=r"bad\.csv\.gz: cannot be read: Error -3"):
        everything(tmp_path / "bad.csv.gz")
    path = write(tmp_path / "giant.csv", f"timestamp,in,{'x' * 200_000}\n2026-01-05 00:15,1,\n")
    with pytest.raises(ConfigError, match=r"giant\.csv: cannot be read: field larger than field limit"):
        everything(path)


def test_values_that_cannot_be_are_rejected_with_their_unit_in_both_layouts(tmp_path: Path) -> None:
    rejects = tmp_path / "rejects.csv"
    wide = "timestamp,in,p,tank\n2026-01-05 00:15,1e39,-5e8,2\n2026-01-05 00:30,-1e6,1e5,1e4\n"
    assert everything(write(tmp_path / "w.csv", wide), rejects=rejects)["value"].tolist() == [2.0, -1e6, 1e5, 1e4]
    assert reasons(rejects) == [
        (2, "column 'in': value 1e+39 m3/h is beyond what a flow can be; possible: -1e+06 to 1e+06 m3/h"),
        (2, "column 'p': value -5e+08 kPa is beyond what a pressure can be; possible: -200 to 100000 kPa"),
    ]
    rows = ("in,2026-01-05 00:15,3e5,L/s", "p,2026-01-05 00:15,1e308,MPa", "in,2026-01-05 00:30,1,L/s")
    long = "\n".join(("meterId,observedAt,value,unit", *rows, ""))
    assert everything(write(tmp_path / "l.csv", long), rejects=rejects)["value"].tolist() == [3.6]
    (_, flow), (_, pressure) = reasons(rejects)
    assert flow.startswith("value 300000 L/s is 1.08e+06 m3/h, which is beyond what a flow can be")
    assert pressure == "value 1e+308 MPa is beyond what a pressure can be; possible: -200 to 100000 kPa"
