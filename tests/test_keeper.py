"""streams/keeper.py: no checkpoint includes what is not confirmed, and its cost follows time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from faust.types import TP

from models.packing import Packing, Source
from streams import keeper as module
from streams.blocks import Block
from streams.checkpoints import Bounds, LostStateError, pack, unpack
from streams.checkpoints import Record as Saved
from streams.keeper import REPLAY_SAVE_SECONDS, SAVE_SECONDS, Keeper
from streams.outbox import Message, Posted
from streams.published import name_of
from streams.shelf import Shelf
from streams.topics import CHECKPOINTS
from streams.watcher import REFRESH_SECONDS, Watcher
from tests.simulation.kafka import Record
from tests.synthetic import make_site, readings
from tests.test_bundle import make

SITE = make_site()
QUIET = readings(2)
MINE = QUIET[QUIET["meter"] == SITE.meter_row["in-A"]]
PARTITION = TP("p.readings.v1", 0)


class Consumer:
    """Of Faust's, what a keeper asks."""

    def __init__(self) -> None:
        self.epoch = 1
        self.released: list[int] = []
        self.flows = True

    def is_current(self, block: Block) -> bool:
        return self.flows and block.epoch == self.epoch

    def committed(self, _: TP) -> int:
        return 0

    def release(self, _: TP, end: int, epoch: int) -> bool:
        self.released.append(end)
        return epoch == self.epoch


class Bench:
    """A keeper with its clock, its broker, and what was published."""

    def __init__(self) -> None:
        self.now = 0.0
        self.published: list[Message] = []
        self.broker_fails = False
        self.broker_seconds = 0.0
        self.is_slow = False
        self.waiting: list[asyncio.Future[None]] = []
        self.runner = asyncio.Runner()
        self.keeper = Keeper(Watcher(SITE), "broker", "p", self.post, lambda: self.now)
        self.keeper.consumer = self.consumer = Consumer()

    def post(self, messages: list[Message]) -> asyncio.Future[None]:
        posted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.broker_fails:
            posted.set_exception(RuntimeError("the broker refuses"))
            return posted
        self.published += messages
        if self.is_slow:
            self.waiting.append(posted)
        else:
            self.now += self.broker_seconds
            posted.set_result(None)
        return posted

    def confirm(self) -> None:
        """What a slow broker was given so far."""
        while self.waiting:
            self.waiting.pop(0).set_result(None)

    def checkpoints(self) -> list[int]:
        """The offset of each checkpoint published."""
        return [unpack(m.value or b"").offset for m in self.published if m.dataset == CHECKPOINTS]

    def recover(self) -> None:
        self.runner.run(self.keeper.recover({PARTITION: Bounds(None, 0, 9)}))

    def watch(self, offset: int, origin: str = "live") -> Posted | None:
        some = MINE[offset * 10 : offset * 10 + 10]
        source = Source(0, offset * 10 + 10, 0, 0, MINE["time_ms"][offset * 10 : offset * 10 + len(some)] * 0 + offset * 10)
        value = Packing(SITE).pack("A", some, origin, source)
        return self.runner.run(self.keeper.watch(Block([Record(PARTITION.topic, 0, offset, 0, b"A", value)], None, 1)))

    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.runner.run(self.keeper.save_when_due())


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(module, "read_checkpoints", lambda _, __, numbers: ({number: [] for number in numbers}, 4))
    bench = Bench()
    bench.recover()
    yield bench
    bench.runner.close()


def test_a_checkpoint_is_taken_by_the_clock_and_only_of_what_changed(bench: Bench) -> None:
    assert bench.watch(0)
    assert bench.watch(1)
    bench.tick(SAVE_SECONDS - 1)
    assert bench.checkpoints() == []
    bench.tick(1)
    assert bench.checkpoints() == [2]
    assert bench.consumer.released == [2]
    bench.tick(SAVE_SECONDS)
    assert bench.checkpoints() == [2]


def test_more_readings_cost_no_more_checkpoints(bench: Bench) -> None:
    for offset in range(15):
        bench.watch(offset)
    bench.tick(SAVE_SECONDS)
    assert bench.checkpoints() == [15]


def test_a_quiet_state_is_written_again_when_the_partition_has_moved_on(bench: Bench) -> None:
    bench.watch(0)
    bench.tick(SAVE_SECONDS)
    bench.keeper.watcher.owned[0].end = 500  # another DMA's readings
    bench.tick(SAVE_SECONDS)
    assert bench.checkpoints() == [1]
    bench.tick(REFRESH_SECONDS)
    assert bench.checkpoints() == [1, 500]


def test_a_replay_is_saved_sooner_for_its_sender_waits(bench: Bench) -> None:
    bench.watch(0, "replay")
    bench.tick(REPLAY_SAVE_SECONDS)
    assert bench.checkpoints() == [1]


def test_waiting_for_the_broker_does_not_put_off_the_next_checkpoint(bench: Bench) -> None:
    bench.watch(0)
    bench.broker_seconds = 30.0
    bench.tick(SAVE_SECONDS)
    bench.broker_seconds = 0.0
    bench.watch(1)
    bench.tick(SAVE_SECONDS)
    assert bench.checkpoints() == [1, 2]


def test_nothing_is_saved_or_processed_after_a_block_that_was_not_confirmed(bench: Bench) -> None:
    bench.broker_fails = True
    posted = bench.watch(0)
    assert posted is not None
    assert str(posted.confirmed.exception()) == "the broker refuses"
    bench.broker_fails = False
    bench.tick(SAVE_SECONDS)
    assert bench.checkpoints() == []
    assert bench.consumer.released == []
    with pytest.raises(RuntimeError, match="was never confirmed: the broker refuses"):
        bench.watch(1)
    bench.recover()
    assert bench.watch(0)


def test_blocks_go_on_while_the_broker_confirms_and_a_checkpoint_waits_for_all_of_them(bench: Bench) -> None:
    bench.is_slow = True
    bench.watch(0)
    bench.watch(1)

    async def save() -> None:
        bench.now += SAVE_SECONDS
        saving = asyncio.create_task(bench.keeper.save_when_due())
        for _ in range(5):
            await asyncio.sleep(0)
        assert bench.checkpoints() == []  # its readings' alerts are on their way
        bench.is_slow = False
        bench.confirm()
        await saving

    bench.runner.run(save())
    assert bench.checkpoints() == [2]
    assert bench.consumer.released == [2]


def test_a_checkpoint_that_is_cut_short_leaves_what_it_waited_for_under_way(bench: Bench) -> None:
    bench.is_slow = True
    posted = bench.watch(0)
    assert posted is not None

    async def cut_short() -> None:
        bench.now += SAVE_SECONDS
        saving = asyncio.create_task(bench.keeper.save_when_due())
        await asyncio.sleep(0)
        saving.cancel()

    bench.runner.run(cut_short())
    assert not posted.confirmed.done()
    bench.is_slow = False
    bench.confirm()
    bench.tick(0)
    assert bench.checkpoints() == [1]


def test_a_checkpoint_that_was_not_confirmed_releases_nothing(bench: Bench) -> None:
    bench.watch(0)
    bench.broker_fails = True
    with pytest.raises(RuntimeError, match="the broker refuses"):
        bench.tick(SAVE_SECONDS)
    assert bench.consumer.released == []


def test_a_block_from_before_a_seek_or_of_a_partition_given_up_is_left_alone(bench: Bench) -> None:
    bench.consumer.epoch = 2
    assert not bench.watch(0)
    bench.consumer.epoch = 1
    bench.consumer.flows = False
    assert not bench.watch(0)
    bench.consumer.flows = True
    bench.keeper.watcher.drop([0])
    assert not bench.watch(0)
    assert bench.published == []


def test_a_closed_keeper_has_saved_everything_and_takes_nothing_more(bench: Bench) -> None:
    bench.watch(0)
    bench.keeper.watcher.owned[0].end = 7
    bench.runner.run(bench.keeper.close())
    assert bench.checkpoints() == [7]
    assert not bench.watch(1)
    bench.tick(1000)
    bench.runner.run(bench.keeper.before_handover())
    assert bench.checkpoints() == [7]


def test_a_handover_that_takes_too_long_is_no_fault(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HANDOVER_SECONDS", 0.02)

    bench.watch(0)
    bench.is_slow = True
    bench.runner.run(bench.keeper.before_handover())
    assert bench.consumer.released == []


def test_what_a_router_sent_twice_is_taken_once(bench: Bench) -> None:
    bench.watch(0)
    before = bench.keeper.watcher.owned[0].states["A"].engine.snapshot()
    some = MINE[:10]
    source = Source(0, 10, 0, 0, MINE["time_ms"][:10] * 0)
    again = Record(PARTITION.topic, 0, 1, 0, b"A", Packing(SITE).pack("A", some, "live", source))
    assert bench.runner.run(bench.keeper.watch(Block([again], None, 1)))
    watched = bench.keeper.watcher.owned[0].states["A"]
    assert watched.repeated == 10
    assert watched.engine.snapshot() == before


def test_a_raw_topic_made_anew_is_not_taken_for_a_repetition(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.watch(0)
    newer = Source(0, 10, 5_000, 6_000, MINE["time_ms"][:10] * 0)
    record = Record(PARTITION.topic, 0, 1, 0, b"A", Packing(SITE).pack("A", MINE[10:20], "live", newer))
    assert bench.runner.run(bench.keeper.watch(Block([record], None, 1)))
    assert bench.keeper.watcher.owned[0].states["A"].repeated == 0
    assert "starts again at offset 0" in caplog.text


def test_a_state_scored_with_a_model_that_is_gone_is_refused_and_goes_on_without_only_with_rebuild(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.watch(0)
    bench.tick(10)
    (mine,) = [m.value for m in bench.published if m.dataset == CHECKPOINTS]
    Watcher(SITE).restore(0, 4, [Saved(b"A", mine)], Bounds(1, 0, 9), 0.0)
    gone = [Saved(b"A", pack(replace(unpack(mine or b""), model="0123456789ab")))]
    with pytest.raises(LostStateError, match=r"A was scored with model 0123456789ab, which is neither on models\.v1 nor"):
        Watcher(SITE).restore(0, 4, gone, Bounds(1, 0, 9), 0.0)
    assert caplog.text == ""
    Watcher(SITE, rebuild=True).restore(0, 4, gone, Bounds(1, 0, 9), 0.0)
    assert "it goes on without a model until one is promoted" in caplog.text


def test_a_state_from_before_models_were_published_goes_on_with_the_folders_model_of_that_version(bench: Bench) -> None:
    bench.watch(0)
    bench.tick(10)
    (mine,) = [m.value for m in bench.published if m.dataset == CHECKPOINTS]
    model = make(seed=0)
    old = [Saved(b"A", pack(replace(unpack(mine or b""), model=model.version)))]
    folder = {("*", model.version): model}
    watcher = Watcher(SITE, Shelf(load=lambda scope, version: folder.get((scope, version))))
    watcher.restore(0, 4, old, Bounds(1, 0, 9), 0.0)
    watched = watcher.owned[0].states["A"]
    assert watched.engine.bundle is model
    assert watched.champion == name_of(model)
