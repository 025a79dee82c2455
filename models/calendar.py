"""Which weekday a local day behaves like: holidays, make-up workdays, the days beside them, and changes of the clock.

A holiday is expected like a Sunday and a make-up workday like a workday; neither teaches the weekday that it falls on. On
the six Italian DMAs that takes the error of a day-ahead forecast on holidays from 10.5 to 8.2 % of the mean inflow. Tried
and lost there: a profile of the holidays' own (8 holidays of memory 0.2 % of the error worse, 2 of memory 9 %), Friday's or
Saturday's evening before a holiday and Monday's night behind it (1 % better on holidays, 1 % worse beside them)
(2026-11-27).

The calendar itself is found outside (`nightline/calendars.py`); here it is an array with one code a day, looked up by index.
Days beyond it are ordinary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import Final, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

FIRST_YEAR: Final = 1990
LAST_YEAR: Final = 2060
EPOCH: Final = date(1970, 1, 1)
FIRST_DAY: Final = (date(FIRST_YEAR, 1, 1) - EPOCH).days
DAYS: Final = (date(LAST_YEAR + 1, 1, 1) - EPOCH).days - FIRST_DAY

ORDINARY, BESIDE, UNUSUAL, CLOCK_CHANGE = range(4)
"""Kinds of day: like its weekday; the day before or after a holiday; a holiday or make-up workday; the clock changes."""
KINDS_OF_DAY: Final = 4

DayClass = Literal["holiday", "workday"]
DAY_CLASSES: Final[tuple[DayClass, ...]] = ("holiday", "workday")
SUNDAY, FRIDAY, WEDNESDAY = 6, 4, 2
SATURDAY: Final = 5


@njit(cache=False)
def day_of(codes: NDArray[np.uint8], day: int) -> tuple[int, int]:
    """Weekday that a local day (days since 1970-01-01) behaves like, Monday 0, and its kind."""
    at = day - FIRST_DAY
    if at < 0 or at >= codes.shape[0]:
        return (day + 3) % 7, ORDINARY  # 1970-01-01 was a Thursday
    return int(codes[at]) % 8, int(codes[at]) // 8


def ordinary_days(clock_changes: Iterable[int] = ()) -> NDArray[np.uint8]:
    """Codes (DAYS,) of a calendar without holidays; `clock_changes`: days since 1970-01-01 on which the offset changes."""
    codes = ((np.arange(FIRST_DAY, FIRST_DAY + DAYS) + 3) % 7).astype(np.uint8)
    for day in clock_changes:
        if 0 <= day - FIRST_DAY < DAYS:
            codes[day - FIRST_DAY] += 8 * CLOCK_CHANGE
    return codes


def day_codes(classes: Mapping[date, DayClass], clock_changes: Iterable[int] = ()) -> NDArray[np.uint8]:
    """Codes (DAYS,): weekday that each day behaves like, plus 8 times its kind.

    A holiday behaves like a Sunday, a make-up workday on a weekend like a Friday before a free day, else like a Wednesday. A
    workday on what is one anyway says nothing. On the day of a clock change the weekday counts and the kind is CLOCK_CHANGE.
    """
    free = {day for day, kind in classes.items() if kind == "holiday"}
    made_up = {day for day, kind in classes.items() if kind == "workday" and day.weekday() >= SATURDAY}

    def is_free(day: date) -> bool:
        return day in free or (day.weekday() >= SATURDAY and day not in made_up)

    codes = ordinary_days()

    def put(day: date, weekday: int, kind: int) -> None:
        at = (day - EPOCH).days - FIRST_DAY
        if 0 <= at < DAYS:
            codes[at] = weekday + 8 * kind

    one = timedelta(days=1)
    for day in free:
        for near in (day - one, day + one):
            if near not in free:
                put(near, near.weekday(), BESIDE)
    for day in free:
        put(day, SUNDAY, UNUSUAL)
    for day in made_up:
        put(day, FRIDAY if is_free(day + one) else WEDNESDAY, UNUSUAL)
    for number in clock_changes:
        if 0 <= number - FIRST_DAY < DAYS:
            codes[number - FIRST_DAY] = codes[number - FIRST_DAY] % 8 + 8 * CLOCK_CHANGE
    return codes


def read_holidays(text: str, name: str) -> tuple[dict[date, DayClass], list[str]]:
    """Days of a site's own holidays.csv (`date,name,class`), and its faults, one line each naming the line.

    `class` is holiday or workday; later lines about a day that is there already are a fault.
    """
    lines = text.lstrip("\ufeff").splitlines()
    head = [cell.strip().lower() for cell in lines[0].split(",")] if lines else []
    if head != ["date", "name", "class"]:
        found = lines[0][:80] if lines else ""
        return {}, [f"{name}: line 1: found {found!r}; possible: 'date,name,class'"]
    days: dict[date, DayClass] = {}
    faults: list[str] = []
    for number, line in enumerate(lines[1:], 2):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        where = f"{name}: line {number}"
        # a name may hold commas; the date is before the first and the class behind the last
        first, _, rest = line.partition(",")
        kind = rest.rpartition(",")[2].strip().lower()
        try:
            day = date.fromisoformat(first.strip())
        except ValueError:
            faults.append(f"{where}: date: found {first.strip()[:40]!r}; possible: a date as 2026-10-10")
            continue
        found_class = next((known for known in DAY_CLASSES if known == kind), None)
        if found_class is None or rest.count(",") < 1:
            faults.append(f"{where}: class: found {kind[:40]!r}; possible: {', '.join(DAY_CLASSES)}")
        elif not FIRST_YEAR <= day.year <= LAST_YEAR:
            faults.append(f"{where}: date: found {day}; possible: {FIRST_YEAR} to {LAST_YEAR}")
        elif day in days:
            faults.append(f"{where}: date: {day} is there twice; possible: one line a day")
        else:
            days[day] = found_class
    return days, faults
