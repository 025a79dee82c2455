"""Kills, rebalances, zombies, torn checkpoints, delays, duplicates and poison, by seeds: nothing lost, nothing twice.

`python -m tests.simulation SEED` runs one again.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import pytest

from streams import watcher
from streams.checkpoints import where_to_start
from tests.proof import proven
from tests.simulation import world as simulated
from tests.simulation.world import World


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)  # copies of readings whose slot is closed are late, by the thousand


def run(seeds: range, promote: float = 0.0) -> tuple[Counter[str], dict[int, list[str]]]:
    """What was injected in all, and the faults of the seeds that had any."""
    injected: Counter[str] = Counter()
    faults = {}
    for seed in seeds:
        world = World(seed, promote=promote)
        world.run()
        found = world.check()
        injected += world.injected
        if found:
            faults[seed] = found
    return injected, faults


def test_nothing_is_lost_and_nothing_is_there_twice_with_two_contents() -> None:
    injected, faults = run(range(200))
    assert faults == {}
    assert len(injected) == 11
    assert min(injected.values()) > 100, injected


MODEL_FAULTS = ("champion named", "challenger named", "torn model")


def test_models_promoted_at_any_moment_are_where_the_log_has_them_whoever_reads_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)  # torn ones are refused loudly
    injected, faults = run(range(500, 530), promote=0.01)
    proven({f"simulated: {what}": injected[what] for what in MODEL_FAULTS}, len(faults))
    assert faults == {}
    assert min(injected[what] for what in MODEL_FAULTS) > 100, injected


def test_the_simulation_notices_a_swap_that_waits_for_the_end_of_its_block(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    as_it_is = watcher.groupby

    def groupby(parts: Any, key: Any) -> Any:
        return as_it_is(sorted(parts, key=lambda part: (part.dma, part.origin is None)), key=key)

    monkeypatch.setattr(watcher, "groupby", groupby)
    assert run(range(500, 510), promote=0.01)[1]


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_thousands_of_seeds() -> None:
    injected, faults = run(range(10_000, 13_000))
    proven({f"simulated: {what}": count for what, count in injected.items()} | {"simulated runs": 3000}, len(faults))
    assert faults == {}


def test_the_simulation_notices_a_worker_that_goes_on_at_the_committed_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    def at_committed(*args: Any) -> Any:
        start = where_to_start(*args)
        start.offset = args[4].committed or 0
        return start

    monkeypatch.setattr(watcher, "where_to_start", at_committed)
    assert run(range(20))[1]


def test_the_simulation_notices_readings_that_are_taken_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "unseen", lambda _, packed: packed.readings)
    assert run(range(5))[1]


def test_the_simulation_notices_a_checkpoint_before_its_alerts(monkeypatch: pytest.MonkeyPatch) -> None:
    def watch(self: Any, partition: int) -> bool:
        block = self.block(simulated.READINGS, partition, self.watcher.owned[partition].end)
        if block is None:
            return False
        messages, _ = self.watcher.watch(block)
        self.checkpoint()
        self.post(messages)
        return True

    monkeypatch.setattr(simulated.Worker, "watch", watch)
    assert run(range(10))[1]
