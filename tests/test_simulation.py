"""The simulated town: reproducible, hydraulically sound, and its events as large as they claim."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.engine import Engine
from models.network import parse_site
from models.routing import split
from models.schema import Alert, Estimate, Evidence, ModelRef, Scope, Title
from training.history import read_history
from training.labels import read_labels
from training.simulation import town as place
from training.simulation.plants import HOUR_MS, Plant
from training.simulation.run import SLOT_MS, Town, simulate
from training.simulation.verdict import judge

DAY = 96


@pytest.fixture(scope="module")
def town() -> Town:
    return simulate(seed=1)


def plant(town: Town, kind: str) -> Plant:
    return next(p for p in town.plants if p.kind == kind)


def net_inflow(town: Town, dma: str) -> np.ndarray:
    site = parse_site(town.site_toml, town.network_toml)
    signs = site.incidence[site.dma_row[dma], : len(place.FLOW_METERS)]
    return town.truth.flow_m3h @ signs.astype(float)


def night_means(town: Town, dma: str) -> np.ndarray:
    """Mean of 02:00-04:00 of each day; the town starts at local midnight."""
    return net_inflow(town, dma).reshape(-1, DAY)[:, 8:16].mean(axis=1)


def test_the_same_seed_gives_the_same_readings_and_another_seed_others(town: Town) -> None:
    again = simulate(seed=1)
    assert again.readings.tobytes() == town.readings.tobytes()
    assert again.plants == town.plants
    assert simulate(seed=2).readings.tobytes() != town.readings.tobytes()


def test_fewer_than_five_weeks_are_refused() -> None:
    with pytest.raises(ValueError, match="weeks: found 4; possible: at least 5"):
        simulate(seed=1, weeks=4)


def test_every_dma_has_the_inflow_and_the_night_of_a_residential_district(town: Town) -> None:
    for area in place.AREAS:
        clean = net_inflow(town, area.id)[: 21 * DAY]
        assert clean.mean() == pytest.approx(area.mean_m3h, rel=0.05)
        assert 0.2 < night_means(town, area.id)[:21].mean() / clean.mean() < 0.35
        assert clean.max() < 3 * clean.mean()


def test_pressure_stays_above_the_minimum_of_service_everywhere(town: Town) -> None:
    assert town.truth.head_m.min() > 14.0
    assert town.truth.head_m.max() < 65.0


def test_the_burst_and_the_slow_leak_raise_night_flow_by_their_size(town: Town) -> None:
    for kind in ("burst", "slow_leak"):
        leak = plant(town, kind)
        nights = night_means(town, leak.scope)
        last_night = (leak.ended_ms - int(town.truth.starts_ms[0])) // (DAY * SLOT_MS)
        if (leak.ended_ms - int(town.truth.starts_ms[0])) % (DAY * SLOT_MS) < 4 * HOUR_MS:
            last_night -= 1
        risen = nights[last_night] - nights[:21].mean()
        # pressure is higher at night, so a leak is larger than in the mean
        assert 0.75 < risen / leak.size_m3h < 1.5
    assert 0.1 < plant(town, "slow_leak").size_m3h / net_inflow(town, "HARBOUR")[: 21 * DAY].mean() < 0.17
    assert 0.15 < plant(town, "burst").size_m3h / net_inflow(town, "NORTH")[: 21 * DAY].mean() < 0.28


def test_the_opened_valve_gives_one_dma_what_the_other_loses(town: Town) -> None:
    valve = plant(town, "valve_opened")
    open_slots = town.truth.valve_m3h != 0.0
    assert open_slots.sum() == pytest.approx(192, abs=1)
    assert valve.size_m3h > 0.1 * net_inflow(town, valve.scope).mean()
    nights = np.flatnonzero(open_slots.reshape(-1, DAY)[:, 8:16].all(axis=1))
    assert len(nights) == 2
    gained = night_means(town, "MIDTOWN")[nights] - night_means(town, "MIDTOWN")[:21].mean()
    lost = night_means(town, "LAKE")[nights] - night_means(town, "LAKE")[:21].mean()
    assert (gained > 8.0).all()
    np.testing.assert_allclose(gained, -lost, rtol=0.3)


def test_the_stuck_meter_repeats_one_value_and_no_other_flow_repeats_for_an_hour(town: Town) -> None:
    stuck = plant(town, "stuck_meter")
    readings = town.readings[np.argsort(town.readings["time_ms"], kind="stable")]
    for row, meter in enumerate(place.METER_IDS[: len(place.FLOW_METERS)]):
        own = readings[readings["meter"] == row]
        times, first = np.unique(own["time_ms"], return_index=True)
        same = np.diff(own["value"][first]) == 0.0
        inside = (times[1:] > stuck.started_ms + SLOT_MS) & (times[1:] <= stuck.ended_ms)
        if meter == stuck.scope:
            assert same[inside].all()
            assert inside.sum() > 140
            same = same[~inside]
        four_in_a_row = np.convolve(same, np.ones(4), mode="valid") == 4
        assert not four_in_a_row.any(), meter


def test_events_never_meet_in_one_dma(town: Town) -> None:
    homes = {"FM-L1": "LAKE"}
    dmas = [(homes.get(p.scope, p.scope), p) for p in town.plants if p.kind != "hot_weekend"]
    dmas += [("LAKE", plant(town, "valve_opened"))]
    for dma, one in dmas:
        for other_dma, other in dmas:
            if one is not other and dma == other_dma:
                assert one.ended_ms <= other.started_ms or other.ended_ms <= one.started_ms


def test_the_stream_has_gaps_repeats_and_late_readings_within_the_lateness(town: Town) -> None:
    steps, meters = len(town.truth.starts_ms), len(place.METER_IDS)
    keys = town.readings["time_ms"] * meters + town.readings["meter"]
    distinct = len(np.unique(keys))
    assert 0.001 < 1 - distinct / (steps * meters) < 0.012
    assert 0 < len(keys) - distinct < 0.01 * len(keys)
    assert (np.diff(town.arrived_ms) >= 0).all()
    assert (np.diff(town.readings["time_ms"]) < 0).any()
    delay_min = (town.arrived_ms - town.readings["time_ms"]) / 60_000
    assert delay_min.min() > 0
    assert delay_min.max() < place.LATENESS_MIN / 2


def test_windows_hold_every_reading_once_in_order_of_arrival(town: Town) -> None:
    windows = list(town.windows(45))
    assert b"".join(w.readings.tobytes() for w in windows) == town.readings.tobytes()
    assert [w.end_ms for w in windows] == sorted({w.end_ms for w in windows})


def test_the_written_folder_is_a_site_whose_history_reads_back(town: Town, tmp_path: Path) -> None:
    town.write(tmp_path)
    site = parse_site((tmp_path / "site.toml").read_text(), (tmp_path / "network.toml").read_text())
    assert tuple(site.meter_row) == place.METER_IDS
    history = read_history(tmp_path / "readings.csv", site, 1440)
    got = np.concatenate([window.readings for window in history])
    expected = town.readings[np.argsort(town.readings["time_ms"], kind="stable")]
    assert history.rejects.count == 0
    for field in ("time_ms", "meter", "kind", "quality"):
        np.testing.assert_array_equal(got[field], expected[field])
    np.testing.assert_allclose(got["value"], expected["value"], rtol=1e-9)
    leaks = read_labels(tmp_path / "labels.csv", site)
    assert [(leak.id, leak.dma, leak.kind) for leak in leaks] == [
        ("burst", "NORTH", "abrupt"),
        ("slow_leak", "HARBOUR", "incipient"),
    ]
    assert len((tmp_path / "planted.csv").read_text().splitlines()) == 1 + len(town.plants)


def test_the_engine_without_a_model_finds_every_plant_and_nothing_else(town: Town) -> None:
    site = parse_site(town.site_toml, town.network_toml)
    engines = [Engine(site, dma.id) for dma in site.dmas]
    alerts: list[Alert] = []
    for window in town.windows(1440):
        for row, readings in split(window.readings, site.subscribers()):
            alerts += engines[row].step(readings, "replay").alerts
    verdict = judge(town.plants, alerts)
    assert [(p.kind, a and a.type) for p, a in verdict.found if a is None] == []
    assert [(a.type, a.scope.id) for a in verdict.unexplained] == []


def an_alert(kind: str, scope: str, detected_ms: int, alert_id: str = "a") -> Alert:
    nothing = Evidence(
        metric="",
        unit="",
        observed=None,
        expected=None,
        lower=None,
        upper=None,
        coverage=None,
        for_=[],
        against=[],
        meters=[],
    )
    estimate = Estimate(excess_flow=1.0, unit="m3/h", loss_per_day=24.0, lost_so_far=0.0)
    return Alert(
        schema_version="1.0", alert_id=alert_id, revision=1, event="raised", type=kind, severity="low", state="active",
        scope=Scope(type="dma", id=scope), started_at=detected_ms, detected_at=detected_ms, updated_at=detected_ms,
        ended_at=None,
        evidence=nothing, estimate=estimate, confidence=0.5, title=Title(en="", zh=""), reasons=[],
        model=ModelRef(id=None, version=None, sha256=None), origin="replay",
    )  # fmt: skip


BURST = Plant("burst", "dma", "A", 0, 48 * HOUR_MS, ("burst",), within_h=24)
FIRE = Plant("fire_draw", "dma", "A", 0, HOUR_MS)


def test_a_plant_is_found_only_by_the_right_type_and_scope_within_its_time() -> None:
    assert judge([BURST, FIRE], [an_alert("burst", "A", HOUR_MS)]).passed
    for wrong in (
        an_alert("zero_flow", "A", HOUR_MS),
        an_alert("burst", "B", HOUR_MS),
        an_alert("burst", "A", 25 * HOUR_MS),
        an_alert("burst", "A", -1),
    ):
        verdict = judge([BURST], [wrong])
        assert not verdict.passed
        assert verdict.found == ((BURST, None),)
        assert verdict.unexplained == (wrong,)
    assert not judge([BURST], []).passed


def test_a_second_alert_for_the_same_plant_is_unexplained_but_a_second_revision_is_not() -> None:
    first = an_alert("burst", "A", HOUR_MS)
    assert judge([BURST], [msgspec.structs.replace(first, revision=2, event="cleared"), first]).passed
    second = an_alert("burst", "A", 2 * HOUR_MS, "b")
    assert judge([BURST], [first, second]).unexplained == (second,)


def test_an_alert_about_ordinary_life_is_unexplained() -> None:
    assert not judge([FIRE], [an_alert("burst", "A", HOUR_MS)]).passed
