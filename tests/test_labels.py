"""labels.csv: read in local time, every fault named; and the water a leak has lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.config import ConfigError
from tests.synthetic import make_site
from training.labels import Leak, read_labels

HOUR = 3_600_000
DAY = 24 * HOUR


def test_labels_are_read_in_local_time(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(
        "dma,kind,startedAt,endedAt,id,max_m3h,peakAt\nA,incipient,2026-01-05 00:00,,x,5.5,2026-01-06T00:00:00+01:00\n",
        encoding="utf-8",
    )
    start = 1_767_567_600_000
    assert read_labels(path, make_site()) == [Leak("x", "A", "incipient", start, None, 5.5, start + DAY)]


def test_every_faulty_label_is_named(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    rows = "Z,abrupt,2026-01-05,2026-01-06\nA,slow,2026-01-05,2026-01-06\nA,abrupt,soon,2026-01-06\n"
    path.write_text("dma,kind,startedAt,endedAt\n" + rows, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        read_labels(path, make_site())
    faults = error.value.faults
    assert len(faults) == 3
    assert "line 2: dma 'Z' is not in network.toml; possible: A, B, C" in faults[0]
    assert "line 3: kind 'slow'; possible: abrupt, incipient" in faults[1]
    assert "line 4: time 'soon' cannot be read" in faults[2]
    path.write_text("zone,start\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="no column 'dma'"):
        read_labels(path, make_site())


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("A,abrupt,2026-01-25,2026-01-20,x,,", "line 2: endedAt '2026-01-20' is before startedAt; possible: a later time"),
        ("A,abrupt,2026-01-25,,x,,2026-01-20", "line 2: peakAt '2026-01-20' is before startedAt; possible: a later time"),
        ("A,abrupt,2026-01-25,,x,,later", "line 2: time 'later' cannot be read"),
        ("A,abrupt,2026-01-25,,x,nan,", "line 2: max_m3h 'nan'; possible: a finite number from 0 on, or nothing"),
        ("A,abrupt,2026-01-25,,x,1e999,", "line 2: max_m3h '1e999'; possible: a finite number from 0 on, or nothing"),
        ("A,abrupt,2026-01-25,,x,-1,", "line 2: max_m3h '-1'; possible: a finite number from 0 on, or nothing"),
        ("A,abrupt,2026-01-25,,x,many,", "line 2: max_m3h 'many'; possible: a finite number from 0 on, or nothing"),
        (f"A,abrupt,2026-01-25,,{'x' * 200_000},,", "cannot be read: field larger than field limit"),
    ],
)
def test_a_label_that_ends_before_it_starts_or_has_no_finite_size_is_named(tmp_path: Path, row: str, fault: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(f"dma,kind,startedAt,endedAt,id,max_m3h,peakAt\n{row}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        read_labels(path, make_site())
    assert len(error.value.faults) == 1
    assert f"{path}: {fault}" in error.value.faults[0]


@pytest.mark.parametrize(
    ("until_h", "peak_h", "end_h"), [(5, 10, 40), (10, 10, 40), (25, 10, 40), (60, 10, 40), (25, 40, 30)]
)
def test_lost_volume_is_the_sum_of_a_flow_that_grows_until_its_peak(until_h: int, peak_h: int, end_h: int) -> None:
    leak = Leak("x", "A", "incipient", 7 * HOUR, (7 + end_h) * HOUR, 12.0, (7 + peak_h) * HOUR)
    minutes = (np.arange(min(until_h, end_h) * 60) + 0.5) / 60
    expected = (12.0 * np.minimum(minutes / peak_h, 1.0)).sum() / 60
    assert leak.lost_m3((7 + until_h) * HOUR) == pytest.approx(expected, rel=1e-6)


def test_of_a_leak_whose_growth_is_not_known_the_volume_is_a_bound() -> None:
    assert Leak("x", "A", "incipient", 0, None, 10.0).lost_m3(2 * HOUR) == 20.0
    assert Leak("x", "A", "incipient", 0, None, 10.0).volume_is_a_bound
    assert not Leak("x", "A", "abrupt", 0, None, 10.0).volume_is_a_bound
    assert Leak("x", "A", "abrupt", 0, None).lost_m3(DAY) is None
    assert Leak("x", "A", "abrupt", 5 * HOUR, None, 10.0).lost_m3(HOUR) == 0.0
