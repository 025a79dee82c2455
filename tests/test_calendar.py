"""Which weekday a day behaves like: holidays, make-up workdays, days beside them, nights when the clock changes."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from models.calendar import (
    BESIDE,
    CLOCK_CHANGE,
    DAYS,
    EPOCH,
    FIRST_DAY,
    FRIDAY,
    LAST_YEAR,
    ORDINARY,
    SUNDAY,
    UNUSUAL,
    WEDNESDAY,
    day_codes,
    day_of,
    read_holidays,
)
from models.zones import clock_change_days


def number(day):
    return (day - EPOCH).days


def of(classes, day, changes=()):
    return day_of(day_codes(classes, changes), number(day))


def test_without_a_calendar_every_day_is_its_weekday():
    codes = day_codes({})
    for day in range(FIRST_DAY, FIRST_DAY + DAYS, 11):
        assert day_of(codes, day) == (date.fromordinal(EPOCH.toordinal() + day).weekday(), ORDINARY)


def test_a_holiday_is_like_a_sunday_and_the_days_beside_it_keep_their_weekday():
    wednesday = date(2021, 6, 2)
    classes = {wednesday: "holiday"}
    assert of(classes, wednesday) == (SUNDAY, UNUSUAL)
    assert of(classes, date(2021, 6, 1)) == (1, BESIDE)
    assert of(classes, date(2021, 6, 3)) == (3, BESIDE)
    assert of(classes, date(2021, 6, 4)) == (4, ORDINARY)


def test_a_make_up_workday_is_like_the_workday_in_its_place():
    """Chinese National Day 2026: Sunday 20 September and Saturday 10 October are worked."""
    classes = {date(2026, 9, 20): "workday", date(2026, 10, 10): "workday"}
    assert of(classes, date(2026, 9, 20)) == (WEDNESDAY, UNUSUAL)  # Monday is worked too
    assert of(classes, date(2026, 10, 10)) == (FRIDAY, UNUSUAL)  # Sunday is free


def test_a_workday_that_is_one_anyway_says_nothing():
    assert of({date(2026, 9, 21): "workday"}, date(2026, 9, 21)) == (0, ORDINARY)


def test_days_beyond_the_calendar_are_their_weekday():
    codes = day_codes({date(LAST_YEAR, 12, 31): "holiday"})
    for day in (date(LAST_YEAR + 1, 1, 1), date(1989, 12, 31), date(2100, 2, 28)):
        assert day_of(codes, number(day)) == (day.weekday(), ORDINARY)


def test_the_clock_changes_on_the_last_sundays_of_march_and_october():
    """Oracle: the European rule, written down."""
    codes = day_codes({date(2027, 3, 28): "holiday"}, clock_change_days("Europe/Rome"))
    for year in (2021, 2022, 2027, 2050):
        for month in (3, 10):
            last = max(day for day in (date(year, month, d) for d in range(20, 32)) if day.weekday() == SUNDAY)
            assert day_of(codes, number(last)) == (SUNDAY, CLOCK_CHANGE)
            assert day_of(codes, number(last) - 7) == (SUNDAY, ORDINARY)


def test_a_zone_without_summer_time_has_no_such_day():
    days = np.array(clock_change_days("Asia/Shanghai"))
    assert (days < number(date(1992, 1, 1))).all()  # China changed its clocks until 1991


def test_holidays_csv_is_read_with_names_that_hold_commas_and_with_comments():
    text = "\ufeffdate,name,class\n2026-10-10,Make-up, for National Day,workday\n\n# ours\n2026-08-16, San Rocco ,holiday\n"
    days, faults = read_holidays(text, "holidays.csv")
    assert faults == []
    assert days == {date(2026, 10, 10): "workday", date(2026, 8, 16): "holiday"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("2026-13-01,x,holiday", "line 2: date: found '2026-13-01'"),
        ("2026-10-01,x,feast", "line 2: class: found 'feast'; possible: holiday, workday"),
        ("2026-10-01,holiday", "line 2: class: found 'holiday'; possible: holiday, workday"),
        ("1950-10-01,x,holiday", f"line 2: date: found 1950-10-01; possible: 1990 to {LAST_YEAR}"),
        ("2026-10-01,x,holiday\n2026-10-01,y,workday", "line 3: date: 2026-10-01 is there twice"),
    ],
)
def test_a_faulty_line_is_named(line, said):
    _, faults = read_holidays(f"date,name,class\n{line}\n", "holidays.csv")
    assert len(faults) == 1
    assert said in faults[0]


@pytest.mark.parametrize("text", ["", "2026-10-01,x,holiday\n", "date;name;class\n"])
def test_a_file_without_its_head_line_is_one_fault(text):
    assert read_holidays(text, "holidays.csv")[1][0].endswith("possible: 'date,name,class'")
