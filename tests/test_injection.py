"""Leaks added to readings: no water appears or vanishes, pressure drives and feels them, and only values change."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.config import ConfigError
from models.network import Site, parse_site
from models.schema import FLOW, PRESSURE, READING, REGISTER
from tests.synthetic import SLOT_MS, START_MS, make_site, readings
from training.history import Window
from training.injection.campaign import Plan, draw, labels_of
from training.injection.hydraulics import favad_factor, hydraulics_of
from training.injection.leaks import Injector, Planted, add_to, added_at
from training.injection.recorded import Recorded

HOUR = 3_600_000
DAY = 24 * HOUR


def recorded_of(site: Site, block: NDArray[np.void]) -> Recorded:
    return Recorded(site, [Window(0, 1, block[: len(block) // 2]), Window(1, 2, block[len(block) // 2 :])])


def town(**changes: NDArray[np.float64]) -> tuple[Site, NDArray[np.void]]:
    return make_site(), readings(21, **changes)


def net(site: Site, block: NDArray[np.void], dma: str) -> NDArray[np.float64]:
    recorded = recorded_of(site, block)
    return recorded.net_inflow(dma, recorded.grid(recorded.meters(dma)))


def test_a_leak_is_water_of_its_own_dma_alone_on_whatever_way_it_came() -> None:
    site, block = town()
    leak = Planted("x", "B", START_MS + 10 * DAY + 7 * 60_000, START_MS + 12 * DAY, 8.0)
    leaky = add_to(block, Injector(recorded_of(site, block), n1=0).additions([leak]))
    gained = {dma: net(site, leaky, dma) - net(site, block, dma) for dma in "ABC"}
    np.testing.assert_allclose(gained["A"], 0, atol=1e-9)  # it came in through A, and went on
    np.testing.assert_allclose(gained["C"], 0, atol=1e-9)
    assert gained["B"].sum() * SLOT_MS / HOUR == pytest.approx(8.0 * (48 - 7 / 60))
    first = 10 * 96
    assert gained["B"][first : first + 2] == pytest.approx([8.0 * 8 / 15, 8.0])  # it began seven minutes into a slot
    assert gained["B"][12 * 96 - 1 : 12 * 96 + 1] == pytest.approx([8.0, 0.0])


@settings(deadline=None)
@given(
    started=st.integers(0, 5 * DAY),
    lasts=st.integers(60_000, 10 * DAY),
    ramp=st.integers(0, 12 * DAY),
    step=st.sampled_from([60_000, 900_000, HOUR]),
)
def test_flow_over_all_intervals_is_the_volume_lost(started: int, lasts: int, ramp: int, step: int) -> None:
    leak = Planted("x", "A", started, started + lasts, 6.0, ramp)
    times = np.arange(step, 20 * DAY, step)
    flow = leak.flow_m3h(times, step)
    assert flow.min() >= -1e-6
    assert flow.max() <= 6.0 + 1e-6
    # rounding of volumes that grow to some 1,000 m3
    assert flow.sum() * step / HOUR == pytest.approx(leak.label.lost_m3(20 * DAY), rel=1e-6, abs=1e-6)


def test_inlets_share_the_leak_as_they_share_the_flow_and_a_gap_is_bridged_with_the_usual_share() -> None:
    site = parse_site(
        'name = "two"\ntimezone = "UTC"\n',
        '[[dma]]\nid = "A"\n[[meter]]\nid = "big"\nkind = "flow"\nto = "A"\n'
        '[[meter]]\nid = "small"\nkind = "flow"\nto = "A"\n',
    )
    block = np.zeros((200, 2), READING)
    block["time_ms"] = (HOUR * np.arange(1, 201))[:, np.newaxis]
    block["meter"], block["value"] = [0, 1], [30.0, 10.0]
    block["value"][100:, 0], block["value"][100:, 1] = 10.0, 30.0
    flat = np.delete(block.ravel(), [2 * 50 + 1])  # the small one is missing at 51 h
    leak = Planted("x", "A", 0, 200 * HOUR, 4.0)
    additions = Injector(recorded_of(site, flat)).additions([leak])
    big = added_at(additions[0, FLOW], HOUR * np.arange(1, 201))
    assert big[[0, 49, 99, 100, 199]] == pytest.approx([3.0, 3.0, 3.0, 1.0, 1.0])
    assert big[50] == pytest.approx(3.0)  # as of 50 h, which is not too old yet
    assert added_at(additions[1, FLOW], np.array([51 * HOUR])) == [0.0]  # no reading, nothing to add to
    small = added_at(additions[1, FLOW], HOUR * np.arange(1, 201))
    both = np.delete(big + small, 50)
    np.testing.assert_allclose(both, 4.0)


def test_a_dma_without_inlets_has_no_leak() -> None:
    site, block = town()
    only_b = block[block["meter"] == site.meter_row["in-C"]]
    with pytest.raises(ConfigError, match="DMA 'A': no inlet with readings"):
        Injector(recorded_of(site, only_b)).additions([Planted("x", "A", START_MS, START_MS + DAY, 1.0)])


def test_resistance_is_found_where_pressure_falls_with_the_inflow() -> None:
    site, block = town()  # p-B = 400 - 0.01 b^2
    known = hydraulics_of(recorded_of(site, block), "B")
    found = known.resistance[site.meter_row["p-B"]]
    assert found["B"] == pytest.approx(0.01, rel=0.05)  # the noise of the flow meter makes it a little less
    assert found.get("A", 0.0) < 0.0002  # it came through A, where no pressure is lost
    assert "pulls 1 of them down" in known.note
    rising = block.copy()
    of_logger = rising["kind"] == PRESSURE
    rising["value"][of_logger] = 800.0 - rising["value"][of_logger]
    known = hydraulics_of(recorded_of(site, rising), "B")
    assert known.resistance == {}
    assert "none of them falls as the inflow grows" in known.note
    assert hydraulics_of(recorded_of(site, block), "A").note == "A: no pressure logger, so a leak of constant size"


@pytest.mark.parametrize("n1", [0.5, 1.0, 1.5])
def test_a_leak_follows_the_pressure_and_pulls_it_down(n1: float) -> None:
    site, block = town()
    recorded = recorded_of(site, block)
    leak = Planted("x", "B", START_MS + 10 * DAY, START_MS + 12 * DAY, 8.0)
    additions = Injector(recorded, n1).additions([leak])
    times = START_MS + 10 * DAY + SLOT_MS * np.arange(1, 192)
    pressure = recorded.pressures[site.meter_row["p-B"]]
    flow = added_at(additions[site.meter_row["A-B"], FLOW], times)
    expected = 8.0 * (pressure.at(times) / pressure.values.mean()) ** n1
    np.testing.assert_allclose(flow, expected, rtol=1e-9)
    before = recorded.net_inflow("B", times)
    fall = -added_at(additions[site.meter_row["p-B"], PRESSURE], times)
    np.testing.assert_allclose(fall, 0.01 * ((before + flow) ** 2 - before**2), rtol=0.05)
    assert (fall > 0).all()


def test_the_leak_of_the_favad_test_vector() -> None:
    """DOMAIN: hours at 36, 40, 38, 30 and 34 m give 19.600 h/day at N1 = 1 for a night rate taken at 40 m."""
    site = parse_site(
        'name = "f"\ntimezone = "UTC"\n',
        '[[dma]]\nid = "A"\n[[meter]]\nid = "m"\nkind = "flow"\nto = "A"\n'
        '[[meter]]\nid = "p"\nkind = "pressure"\ndma = "A"\n',
    )
    heads = np.array([36.0] * 2 + [40.0] * 2 + [38.0] * 3 + [30.0] * 15 + [34.0] * 2)
    block = np.zeros((24, 2), READING)
    block["time_ms"] = (HOUR * np.arange(1, 25))[:, np.newaxis]
    block["meter"], block["kind"] = [0, 1], [FLOW, PRESSURE]
    block["value"][:, 0], block["value"][:, 1] = 50.0, heads * 9.80665
    recorded = recorded_of(site, block.ravel())
    times = HOUR * np.arange(1, 25)
    for n1, ndf in ((0.5, 21.656), (1.0, 19.600), (1.5, 17.796)):
        factor = favad_factor(recorded, hydraulics_of(recorded, "A"), times, n1)
        assert factor.sum() / factor[2] == pytest.approx(ndf, abs=0.001)


def test_a_register_counts_the_leak_and_keeps_it() -> None:
    site = parse_site('name = "r"\ntimezone = "UTC"\n', '[[dma]]\nid = "A"\n[[meter]]\nid = "m"\nkind = "flow"\nto = "A"\n')
    block = np.zeros(240, READING)
    block["time_ms"], block["kind"] = HOUR * np.arange(1, 241), REGISTER
    block["value"] = 1000.0 + 20.0 * np.arange(240)
    leak = Planted("x", "A", 100 * HOUR + HOUR // 2, 150 * HOUR, 6.0)
    leaky = add_to(block, Injector(recorded_of(site, block)).additions([leak]))
    gained = leaky["value"] - block["value"]
    np.testing.assert_allclose(gained[:100], 0.0)
    assert gained[[100, 101, 149, 239]] == pytest.approx([3.0, 9.0, 6.0 * 49.5, 6.0 * 49.5])
    assert (np.diff(leaky["value"]) >= 20.0 - 1e-9).all()


def test_leaks_at_the_same_time_add_up() -> None:
    site, block = town()
    injector = Injector(recorded_of(site, block))
    one = Planted("x", "C", START_MS + 5 * DAY, START_MS + 9 * DAY, 3.0)
    two = Planted("y", "C", START_MS + 7 * DAY, START_MS + 12 * DAY, 5.0, 2 * DAY)
    times = START_MS + SLOT_MS * np.arange(1, 21 * 96)
    meter = site.meter_row["in-C"], FLOW
    both = added_at(injector.additions([one, two])[meter], times)
    apart = [added_at(injector.additions([leak])[meter], times) for leak in (one, two)]
    np.testing.assert_allclose(both, apart[0] + apart[1])
    assert both.max() == pytest.approx(8.0, rel=0.01)


def test_a_campaign_keeps_its_promises_and_its_seed() -> None:
    site, block = make_site(), readings(120)
    recorded = recorded_of(site, block)
    plan = Plan(clean_days=20, rest_days=3)
    leaks = draw(recorded, 12, 7, ["A", "B", "C"], plan)
    assert leaks == draw(recorded, 12, 7, ["A", "B", "C"], plan)
    assert leaks != draw(recorded, 12, 8, ["A", "B", "C"], plan)
    assert {leak.dma for leak in leaks} == set("ABC")
    assert {leak.ramp_ms > 0 for leak in leaks} == {True, False}
    for leak in leaks:
        assert 0.03 <= leak.size_m3h / recorded.mean_inflow(leak.dma) <= 0.4
        assert START_MS + 20 * DAY <= leak.started_ms < leak.ended_ms <= START_MS + 120 * DAY
    for dma in "ABC":
        ours = [leak for leak in leaks if leak.dma == dma]
        assert all(after.started_ms >= before.ended_ms + 3 * DAY for before, after in pairwise(ours))
    assert [label.id for label in labels_of([leak.label for leak in leaks], site)] == [leak.id for leak in leaks]


def test_a_campaign_that_has_no_room_says_so() -> None:
    site, block = make_site(), readings(60)
    with pytest.raises(ConfigError, match=r"found room for \d+ of 50 leaks"):
        draw(recorded_of(site, block), 50, 1, ["C"])


def test_a_campaign_keeps_out_of_gaps() -> None:
    site, block = make_site(), readings(100)
    day = (block["time_ms"] - START_MS) / DAY
    recorded = recorded_of(site, block[(day < 50) | (day > 80)])
    for leak in draw(recorded, 6, 3, ["A", "B", "C"], Plan(kinds=("abrupt",), clean_days=10)):
        blind_ms = min(leak.ended_ms, START_MS + 80 * DAY) - max(leak.started_ms, START_MS + 50 * DAY)
        assert blind_ms <= 0.11 * (leak.ended_ms - leak.started_ms)
