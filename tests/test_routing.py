"""models/routing.py: every engine gets its readings, in order of arrival, and no others."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.network import parse_site
from models.routing import split
from models.schema import READING, Readings
from models.topology import Subscribers


def readings_of(meters: list[int]) -> Readings:
    """Readings of these meter rows; the value is the place of arrival."""
    readings = np.zeros(len(meters), READING)
    readings["meter"] = meters
    readings["value"] = np.arange(len(meters))
    return readings


def plain(parts: list[tuple[int, Readings]]) -> list[tuple[int, list[float]]]:
    return [(dma, part["value"].tolist()) for dma, part in parts]


def of(wanted: list[list[int]]) -> Subscribers:
    """Each meter row's DMA rows, as the site has them."""
    start = np.cumsum([0, *(len(dmas) for dmas in wanted)])
    dma = [dma for dmas in wanted for dma in sorted(dmas)]
    return Subscribers(start.astype(np.int32), np.array(dma, np.int32))


SUBSCRIBERS = st.lists(st.lists(st.integers(0, 5), unique=True, max_size=4), min_size=1, max_size=8)


@settings(deadline=None)  # the first compiles
@given(SUBSCRIBERS, st.data())
def test_split_does_what_a_loop_over_readings_does(subscribers: list[list[int]], data: st.DataObject):
    meters = data.draw(st.lists(st.integers(0, len(subscribers) - 1), max_size=40))
    expected: dict[int, list[float]] = {}
    for place, meter in enumerate(meters):
        for dma in subscribers[meter]:
            expected.setdefault(dma, []).append(float(place))
    got = split(readings_of(meters), of(subscribers))
    assert plain(got) == sorted(expected.items())
    assert all(part.dtype == READING for _, part in got)


def test_a_boundary_meter_goes_to_both_of_its_dmas():
    site = parse_site(
        'name = "town"\ntimezone = "UTC"\n',
        """
        [[dma]]
        id = "ALFA"
        [[dma]]
        id = "BETA"
        [[dma]]
        id = "GAMMA"
        [[meter]]
        id = "inlet"
        kind = "flow"
        to = "ALFA"
        [[meter]]
        id = "boundary"
        kind = "flow"
        from = "ALFA"
        to = "BETA"
        [[meter]]
        id = "far"
        kind = "flow"
        to = "GAMMA"
        [[meter]]
        id = "logger"
        kind = "pressure"
        dma = "BETA"
        """,
    )
    got = split(readings_of([1, 2, 3, 1, 0]), site.subscribers())
    # BETA also reads its neighbour's inlet: it tells an opened valve from a burst
    assert plain(got) == [(0, [0, 3, 4]), (1, [0, 2, 3, 4]), (2, [1])]


def test_no_readings_and_no_subscribers_give_nothing():
    assert split(readings_of([]), of([[0]])) == []
    assert split(readings_of([0, 0]), of([[]])) == []


def test_the_parts_are_copies():
    readings = readings_of([0, 0])
    split(readings, of([[0]]))[0][1]["value"] = -1.0
    assert readings["value"].tolist() == [0, 1]
