"""One worker: a Faust app with the block transport and the agents `route` and `watch`.

Start as many as there are partitions, at most; Kafka shares the partitions out among them. A worker stops in three
ways: on SIGTERM or SIGINT after leaving the group (exit code 0, or 1 when that took too long), on a fault of ours or of
the broker with one line and the traceback (exit code 1), or killed, which loses nothing: what no checkpoint includes is
read again. A proper stop takes a last checkpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faust
import numpy as np
from faust.types import TP
from mode.supervisors import CrashingSupervisor

from models import scan
from models.drift import BINS, COLUMNS, count
from models.engine import Engine
from models.features import FEATURES
from models.forest import EMPTY, score
from models.network import Site
from models.packing import Packing
from models.routing import split
from models.schema import KINDS, READING
from models.topology import Subscribers
from streams import records
from streams.alignment import skew_ms
from streams.blocks import Block, Continuity, block_topic
from streams.checkpoints import Bounds
from streams.keeper import TICK_SECONDS, Keeper
from streams.logs import Repeats, is_no_refusal
from streams.outbox import Outbox, Posted
from streams.progress import Place, Progress
from streams.promotion import Words, introduce
from streams.router import Router
from streams.shelf import Load, Shelf, read_models
from streams.status import StatusServer, listen
from streams.topics import DEAD_LETTERS, MIB, PACKED_LIMIT, RAW, READINGS, REQUEST_LIMIT, topic_name, worker_group
from streams.transport import Transport
from streams.watcher import Watcher, announce

if TYPE_CHECKING:
    from models.bundle import Bundle

log = logging.getLogger("nightline")

BLOCKS_QUEUED = 4
"""Blocks that wait for an agent. Each may hold a whole fetch, so this bounds the memory of a worker that is behind."""
BLOCKS_UNDER_WAY = 8
"""Blocks of an agent that Kafka has not confirmed: it processes the next meanwhile."""
FETCH_BYTES = 4 * MIB
SESSION_SECONDS = 10.0
"""So long after its last sign of life a worker's partitions go to others."""
SETTLE_SECONDS, STOP_SECONDS = 4.0, 5.0
"""For the last checkpoint, and for everything else: a stop takes less than 10 s."""


class Worker:
    """The app and its agents. Built inside the running event loop."""

    def __init__(
        self,
        site: Site,
        load: Load | None,
        bootstrap: str,
        prefix: str,
        data: Path,
        rebuild: bool = False,
        session_seconds: float = SESSION_SECONDS,
    ) -> None:
        """`load`: the models of the site's folder, for states that name one of these."""
        self.site, self.prefix = site, prefix
        self.version, self.started = importlib.metadata.version("nightline"), time.time()
        self.dead_letters = 0
        """Confirmed by Kafka, since the start."""
        self.assigned: frozenset[TP] | None = None
        """Of both topics; None until Kafka has said, and while it shares them out again."""
        self.fault: Exception | None = None
        self.stop = asyncio.Event()
        self.router = Router(site)
        self.app = app = faust.App(
            worker_group(prefix),
            broker=[f"kafka://{address.strip()}" for address in bootstrap.split(",")],
            datadir=str(data),
            store="memory://",
            web_enabled=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            broker_session_timeout=session_seconds,
            broker_heartbeat_interval=session_seconds / 5,
            broker_commit_interval=0.1,
            stream_buffer_maxsize=BLOCKS_QUEUED,
            stream_wait_empty=True,
            consumer_auto_offset_reset="earliest",
            consumer_max_fetch_size=FETCH_BYTES,
            producer_max_request_size=REQUEST_LIMIT,
            producer_max_batch_size=PACKED_LIMIT,
            web_tables_enabled=False,
            web_router_enabled=False,
        )
        self.outbox = Outbox(app, prefix)
        read = partial(read_models, bootstrap, prefix)
        shelf = Shelf(read) if load is None else Shelf(read, load)
        self.keeper = Keeper(Watcher(site, shelf, rebuild), bootstrap, prefix, self.outbox.post)
        self.readings_topic = topic_name(prefix, READINGS)
        app.transport = self._transport = Transport(
            app.conf.broker_consumer, app, recovered_topics=[self.readings_topic],
            recover=self._recover, before_handover=self.keeper.before_handover,
            aligned=(topic_name(prefix, RAW), skew_ms(site.shortest_lateness_minutes)),
        )  # fmt: skip
        self._agent("route", topic_name(prefix, RAW), self._route)
        self._agent("watch", self.readings_topic, self._watch)
        app.on_partitions_revoked.connect(self._on_revoked)
        self.app.on_partitions_assigned.connect(self._on_assigned)

    def _agent(self, name: str, topic: str, handle: Callable[[Block], Awaitable[Posted | None]]) -> None:
        async def agent(stream: Any) -> None:
            continuity = Continuity()
            left = -1  # after a block that was left alone nothing may be processed until a seek
            under_way: asyncio.Queue[tuple[Any, Posted]] = asyncio.Queue(BLOCKS_UNDER_WAY)
            acknowledging = asyncio.create_task(self._acknowledge(name, under_way))
            try:
                async for event in stream.noack().events():
                    block = event.value
                    if self.app.consumer.is_current(block) and block.epoch != left and self.fault is None:
                        continuity.check(block)
                        posted = await handle(block)
                        if posted is not None:
                            continuity.passed(block)
                            block.let_go()
                            await under_way.put((event, posted))
                            continue
                        left = block.epoch
                    self.app.consumer.leave(event.message)
            except asyncio.CancelledError:
                if not self.app.should_stop:
                    raise  # only a stop may end an agent; anything else must be seen
            except Exception as error:
                self._fail(error, name)
                self.app.consumer.leave(event.message)
            finally:
                acknowledging.cancel()

        self.app.agent(block_topic(self.app, topic), name=name, concurrency=1, supervisor_strategy=CrashingSupervisor)(agent)

    async def _acknowledge(self, name: str, under_way: asyncio.Queue[tuple[Any, Posted]]) -> None:
        """Blocks in order, each once Kafka has confirmed what it brought about."""
        while True:
            event, posted = await under_way.get()
            try:
                await asyncio.shield(posted.confirmed)  # the keeper waits for it too
                self._tell(event.value, posted)
            except Exception as error:
                self._fail(error, name)
            if self.fault is None:
                event.ack()
            else:
                self.app.consumer.leave(event.message)

    def _fail(self, error: Exception, agent: str = "") -> None:
        if agent:
            log.critical("agent %s: %s: %s", agent, type(error).__name__, error, exc_info=error)
        self.fault = self.fault or error
        self.keeper.abandon()
        self.stop.set()

    async def _route(self, block: Block) -> Posted:
        messages = self.router.route(block)
        return Posted(self.outbox.post(messages), messages, [])

    async def _watch(self, block: Block) -> Posted | None:
        return await self.keeper.watch(block)

    async def _recover(self, wanted: dict[TP, Bounds]) -> dict[TP, int]:
        """Faust passes over some exceptions of a seek; a state that cannot be brought back must end the worker."""
        self.keeper.consumer = self.app.consumer
        try:
            return await self.keeper.recover(wanted)
        except Exception as error:
            self._fail(error)
            raise

    async def keep(self) -> None:
        """Checkpoints by the clock, until the worker stops."""
        while not self.stop.is_set():
            await asyncio.sleep(TICK_SECONDS)
            try:
                await self.keeper.save_when_due()
            except Exception as error:
                self._fail(error)

    async def settle(self) -> None:
        """The last checkpoint, committed: the next start goes on exactly here."""
        await self.keeper.close()
        await self.app.consumer.commit()

    def _tell(self, block: Block, posted: Posted) -> None:
        """One line for each alert revision, and one for the dead letters of a block."""
        announce(posted.alerts, log.info)
        reasons = [dict(m.headers)["reason"].decode() for m in posted.messages if m.dataset == DEAD_LETTERS]
        self.dead_letters += len(reasons)
        if reasons:
            log.warning(
                "%s partition %d: %d of %d messages to %s; the first: %s",
                block.topic, block.partition, len(reasons), block.count,
                topic_name(self.prefix, DEAD_LETTERS), reasons[0],
            )  # fmt: skip

    @property
    def progress(self) -> Progress | None:
        """Of the consumer; None before there is one."""
        consumer = self._transport.made
        return None if consumer is None else consumer.progress

    def places(self) -> dict[TP, Place]:
        """Where each partition is; empty until state is brought back after an assignment."""
        consumer = self._transport.made
        if consumer is None or self.assigned is None:
            return {}
        owned = self.keeper.watcher.owned.items()
        return consumer.places({TP(self.readings_topic, partition): one.end for partition, one in owned})

    async def _on_revoked(self, _: Any, revoked: Iterable[TP], **__: Any) -> None:
        self.assigned = None
        if self.progress is not None:
            self.progress.forget()
        self.keeper.watcher.drop(tp.partition for tp in revoked if tp.topic == self.readings_topic)

    async def _on_assigned(self, _: Any, assigned: Iterable[TP], **__: Any) -> None:
        self.assigned = frozenset(assigned)
        by_topic: dict[str, list[int]] = {}
        for tp in self.assigned:
            by_topic.setdefault(tp.topic, []).append(tp.partition)
        owned = "; ".join(f"{topic} {','.join(map(str, sorted(parts)))}" for topic, parts in sorted(by_topic.items()))
        log.info("partitions: %s", owned or "none")


def warm_up(site: Site) -> float:
    """Compile the kernels before joining the group: later it would look like a dead worker. Returns seconds.

    A throw-away engine of each DMA closes a few slots.
    """
    begin = time.perf_counter()
    records.warm_up()
    scan.warm_up(site)
    for dma in site.dmas:
        rows = site.channels(dma.id)
        steps = dma.slot_minutes * 60_000 * np.arange(1, 4)
        readings = np.zeros(len(rows) * len(steps), READING)
        readings["time_ms"] = np.repeat(1_700_000_000_000 + steps, len(rows))
        readings["meter"] = np.tile(rows, len(steps))
        readings["kind"] = np.tile([KINDS.index(site.meters[row].kind) for row in rows], len(steps))
        Engine(site, dma.id).step(readings, "live")
    score(EMPTY, np.zeros((0, len(FEATURES)), np.float32))
    of = len(COLUMNS)
    count(np.zeros((0, of), np.float32), np.zeros((of, BINS - 1), np.float32), np.zeros((of, BINS), np.int32))
    split(readings[:0], Subscribers(np.zeros(1, np.int32), np.zeros(0, np.int32)))
    packing = Packing(site)
    packing.unpack(packing.pack(site.dmas[-1].id, readings, "live"))
    return time.perf_counter() - begin


def set_up_logging(level: int = logging.INFO) -> None:
    """Ours from `level`, everybody else's warnings without repetitions; one line each on stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Repeats())
    handler.addFilter(is_no_refusal)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("nightline").setLevel(level)
    logging.getLogger("mode.timers").setLevel(logging.ERROR)  # a commit slower than its timer is nobody's trouble
    # used here only to read checkpoints, which succeeds or raises; it logs what it cancels when it is closed
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    logging.getLogger("aiokafka.consumer.group_coordinator").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """A group that has its first member, or one more, is none."""
    said = record.getMessage()
    return "because it is rebalancing" not in said and "GroupCoordinatorNotAvailable" not in said


async def _serve(worker: Worker, listener: socket.socket | None) -> int:
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, worker.stop.set)
    status = StatusServer(worker)
    # before the group is joined: whoever asks shall see a recovery that takes long
    if listener is not None:
        await status.start(listener)
    try:
        return await _run(worker)
    finally:
        await status.stop()  # last: until then it says why the worker stops


async def _run(worker: Worker) -> int:
    app = worker.app
    await app.start()
    keeping = asyncio.create_task(worker.keep())
    while not (worker.stop.is_set() or app.should_stop):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(worker.stop.wait(), 0.1)
    crashed = app.crashed or worker.fault is not None
    is_settled = crashed or await _settle(worker)
    # not wait_for: it would wait for ever for Faust, which swallows the cancellation while messages are not acked
    stopping = asyncio.ensure_future(app.stop())
    await asyncio.wait([stopping], timeout=STOP_SECONDS)
    stopped = stopping.done()
    if not stopped:
        log.warning("left without a proper good-bye: something did not stop within %.0f s", STOP_SECONDS)
    if crashed or worker.fault is not None:
        reason = worker.fault or app.crash_reason
        log.error("worker stopped: %s: %s", type(reason).__name__, reason)
        return 1
    if not (stopped and is_settled):
        return 1
    stopping.result()
    await keeping
    log.info("worker stopped")
    return 0


async def _settle(worker: Worker) -> bool:
    """The last checkpoint. Without it nothing is lost, but the next start has more to do."""
    try:
        async with asyncio.timeout(SETTLE_SECONDS):
            await worker.settle()
    except Exception as error:
        log.warning("no last checkpoint: %s: %s", type(error).__name__, error or f"not within {SETTLE_SECONDS:.0f} s")
        return False
    return True


def run_worker(
    site: Site, champions: Mapping[str, Bundle], bootstrap: str, prefix: str, rebuild: bool = False,
    session_seconds: float = SESSION_SECONDS, status: str | None = None, load: Load | None = None,
) -> int:  # fmt: skip
    """Consume until told to stop. Returns the exit code.

    `champions`: those of the site's folder, by DMA; each is introduced to the DMAs that never had one. `load`: any model
    of that folder. `status`: HOST:PORT to tell there how the worker is, "off", or None for the default or a free port.
    Raises StatusAddressError where that cannot be had, KafkaUnavailableError where champions cannot be published.
    """
    listener = listen(status)
    seconds = warm_up(site)
    versions = ", ".join(sorted({bundle.version for bundle in champions.values()})) or "none"
    log.info(
        "nightline worker: site %s, %d DMAs, %d meters, broker %s, topics %s.*, folder's model %s, kernels ready in %.1f s",
        site.name, len(site.dmas), len(site.meters), bootstrap, prefix, versions, seconds,
    )  # fmt: skip
    words = Words(datetime.now(UTC).isoformat(timespec="seconds"), f"worker on {socket.gethostname()}")
    introduced = introduce(bootstrap, prefix, champions, words)
    if introduced:
        log.info("introduced the folder's champion to DMAs that had none before: %s", ", ".join(introduced))

    async def main(data: Path) -> int:
        code = await _serve(Worker(site, load, bootstrap, prefix, data, rebuild, session_seconds), listener)
        if code:
            shutil.rmtree(data, ignore_errors=True)
            logging.shutdown()
            os._exit(code)  # a crashed consumer's thread, or a task that swallows its cancellation, may never end
        return code

    with tempfile.TemporaryDirectory(prefix="nightline-worker-", ignore_cleanup_errors=True) as folder:
        return asyncio.run(main(Path(folder)))
