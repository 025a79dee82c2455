"""streams/drift.py: what a running worker says of drift; through restarts and hot swaps."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import msgspec
import pytest

from models.bundle import ARRAYS
from models.engine import Engine
from models.network import parse_site
from streams.checkpoints import Checkpoint, pack, unpack
from streams.drift import drift_state, follow, resumed
from streams.published import name_of, pack_bundle
from streams.watcher import Watched
from tests.drifting import NETWORK_TOML, SITE_TOML, slots, trained
from tests.status_bench import Worker, metrics_of, status_of
from tests.test_swap import everywhere, went

SITE = parse_site(SITE_TOML, NETWORK_TOML)


@pytest.fixture(scope="module")
def model():
    return trained()


@cache
def three():
    """A model of the made-up town's three DMAs."""
    return trained(dmas="ABC")


@cache
def came(restart: int, reference: bool = True):
    """Five weeks of a town through watchers with one model; a new one takes over after every `restart` records."""
    bundle = three()
    if not reference:
        manifest = msgspec.structs.replace(bundle.manifest, reference=None)
        bundle = replace(bundle, manifest=manifest, reference=None, arrays=bundle.to_files()[ARRAYS])
    topic = {"p": pack_bundle(bundle)}
    return went(everywhere(name_of(bundle, "p"), 0), topic, size=7 if restart else 10_000, restart=restart)


def test_another_worker_goes_on_with_the_week_that_the_one_before_had_begun():
    states = [
        {dma: drift_state(one.drift) for dma, one in found.watcher.owned[0].states.items()} for found in (came(0), came(3))
    ]
    assert states[0] == states[1]
    assert {state.state for state in states[0].values()} == {"judged"}
    assert sum(one.leak_alerts for one in came(0).watcher.owned[0].states.values()) > 0


def test_no_alert_and_no_slot_changes_by_a_byte_because_drift_is_counted():
    without = came(0, reference=False)
    assert {drift_state(one.drift).state for one in without.watcher.owned[0].states.values()} == {"no_reference"}
    assert came(0).alerts == without.alerts
    for one, other in zip(came(0).detections, without.detections, strict=True):
        assert all(one.columns[name].tobytes() == other.columns[name].tobytes() for name in one.columns)


def watched(model, weeks=3, **kind):
    found = Watched(Engine(SITE, "A", model))
    follow(found, SITE, "A", slots(weeks, 8, first_week=30, **kind))
    return found


def test_the_gauges_speak_of_the_last_whole_week_and_are_absent_before_one(model):
    worker = Worker(SITE)
    worker.recover()
    states = worker.keeper.watcher.owned[0].states
    states["A"], states["B"] = watched(model, shift=1.0), watched(model, weeks=1)
    found = metrics_of(worker)
    of_a = (("dma", "A"),)
    assert found["nightline_drift_ratio"].keys() == {of_a}
    assert found["nightline_drift_ratio"][of_a] > 1
    assert found["nightline_drift_weeks_in_a_row"] == {of_a: 2}
    assert len(found["nightline_drift_psi"]) == 9
    assert found["nightline_drift_state"][("dma", "B"), ("state", "warming_up")] == 1
    assert sum(found["nightline_drift_state"].values()) == 2
    assert found["nightline_leak_alerts_total"][of_a] == 0
    told = {dma["dma"]: dma["drift"] for dma in status_of(worker)["dmas"]}
    assert (told["A"]["week"], told["A"]["weeksInARow"]) == ("2026-08-09T23:00:00.000Z", 2)
    assert told["B"]["ratio"] is None


def test_a_model_that_comes_in_a_swap_begins_its_own_weeks_and_none_has_none(model):
    one, other = watched(model, shift=1.0), trained(weeks=20)
    one.engine.use(other)
    follow(one, SITE, "A", slots(1, 8, first_week=33))
    assert one.drift.bundle is other
    assert drift_state(one.drift).state == "warming_up"
    one.engine.use(replace(other, reference=None))
    follow(one, SITE, "A", slots(1, 8, first_week=34))
    assert drift_state(one.drift).state == "no_reference"
    one.engine.use(None)
    follow(one, SITE, "A", slots(1, 8, first_week=35))
    assert (one.drift, drift_state(one.drift).state) == (None, "no_model")


def test_a_checkpoint_carries_the_week_under_way_and_old_ones_have_none(model):
    rows = slots(4, 8, first_week=30, shift=0.4)
    straight = Watched(Engine(SITE, "A", model))
    follow(straight, SITE, "A", rows)
    half = Watched(Engine(SITE, "A", model))
    follow(half, SITE, "A", rows[:400])
    state = Checkpoint("A", 0, 1, 7, 0, None, ("A",), {}, b"", drift=half.drift.save())
    again = Watched(Engine(SITE, "A", model), drift=resumed(model, SITE, "A", unpack(pack(state)).drift))
    follow(again, SITE, "A", rows[400:])
    assert drift_state(again.drift) == drift_state(straight.drift)
    assert drift_state(again.drift).state == "judged"
    assert unpack(pack(replace(state, drift=None))).drift is None
