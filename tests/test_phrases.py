"""Numbers, times and names as one would say them, the same in both languages."""

from __future__ import annotations

import pytest

from models.phrases import HOUR_MS, both, flow, ids, length, moment, named, nights, number, volume
from models.schema import Sentence


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-1e-9, "0"), (0.0123, "0.012"), (0.25, "0.25"), (1.04, "1.0"), (12.34, "12.3"), (-7.5, "-7.5"),
     (123.4, "123"), (1234.5, "1,234")],
)  # fmt: skip
def test_numbers_have_the_digits_that_are_known(value, text):
    assert number(value) == text
    assert flow(value) == f"{text} m³/h"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 m³"),
        (3.14, "3.1 m³"),
        (159.4, "159 m³"),
        (999.7, "1,000 m³"),
        (12_345.0, "12,300 m³"),
        (99_960.0, "100,000 m³"),
    ],
)
def test_volumes_have_three_figures(value, text):
    assert volume(value) == text


@pytest.mark.parametrize(
    ("hours", "en", "zh"),
    [(0, "1 min", "1 分钟"), (0.75, "45 min", "45 分钟"), (1, "1 h", "1 小时"), (2.5, "2.5 h", "2.5 小时"),
     (26, "26 h", "26 小时"),
     (48, "2 days", "2 天"), (60, "2.5 days", "2.5 天"), (24 * 40.4, "40 days", "40 天")],
)  # fmt: skip
def test_lengths_of_time_are_in_the_unit_one_would_say(hours, en, zh):
    assert length(hours * HOUR_MS) == Sentence(en=en, zh=zh)


@pytest.mark.parametrize(
    ("zone", "text"),
    [("UTC", "2026-07-01 00:00 (UTC)"), ("Asia/Shanghai", "2026-07-01 08:00 (UTC+8)"),
     ("Europe/Rome", "2026-07-01 02:00 (UTC+2)"), ("Asia/Kolkata", "2026-07-01 05:30 (UTC+5:30)"),
     ("America/St_Johns", "2026-06-30 21:30 (UTC-2:30)"), ("America/New_York", "2026-06-30 20:00 (UTC-4)"),
     ("Pacific/Kiritimati", "2026-07-01 14:00 (UTC+14)")],
)  # fmt: skip
def test_times_are_local_with_the_offset_of_that_day(zone, text):
    assert moment(1_782_864_000_000, zone) == text


def test_nights_count_when_they_lie_whole_within():
    midnight = 1_782_856_800_000  # 2026-07-01 00:00 in Rome
    count = [
        nights(midnight, midnight + hours * HOUR_MS, "Europe/Rome", 120, 240) for hours in (0, 3, 4, 5, 27, 28, 24 * 7 + 4)
    ]
    assert count == [0, 0, 1, 1, 1, 2, 8]
    assert nights(midnight + 3 * HOUR_MS, midnight + 27 * HOUR_MS, "Europe/Rome", 120, 240) == 0


def test_names_are_listed_as_one_would_say_them_and_long_ones_sparingly():
    assert ids(["A"]) == Sentence(en="A", zh="A")
    assert ids(["A", "B", "C"]) == Sentence(en="A, B and C", zh="A、B、C")
    assert ids(list("ABCDEFG")) == Sentence(en="A, B, C, D (7 in all)", zh="A、B、C、D（共 7 个）")
    assert ids(list("ABCDEFG"), is_counted=True) == Sentence(en="A, B, C, D and others", zh="A、B、C、D 等")
    assert ids(["x" * 64, "y" * 64]).en == f"{'x' * 64} (2 in all)"
    assert ids([]) == Sentence(en="", zh="")
    assert named("D7", "D7").zh == "D7"
    assert named("D7", "滨江片区") == Sentence(en="滨江片区 (D7)", zh="滨江片区（D7）")
    assert len(named("D7", "x" * 500).en) == len("x" * 39 + "… (D7)")


def test_no_blank_stands_beside_a_wide_stop():
    assert both("{a} is, {b}.", "{a} 为，{b} 。", a=named("D7", "North"), b=1).zh == "North（D7）为，1。"
