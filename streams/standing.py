"""How a worker stands: whether it is well and ready, and what `/status` and `/metrics` say of it.

Read in the worker's own loop, between two blocks: nothing is locked, and each DMA is consistent in itself. With many
meters the loop gets its turn every `TURN_SECONDS`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
from faust.types import TP

from models.cloudevents import rfc3339
from models.schema import NEVER
from streams.drift import DriftState, drift_state
from streams.progress import Place
from streams.tally import REASONS, Clock, Tally, Trouble
from streams.watcher import Watched

if TYPE_CHECKING:
    from models.engine import Engine
    from streams.published import Named
    from streams.worker import Worker

OVERDUE_SECONDS: Final = 60.0
"""A checkpoint that has been due for so long is a fault."""
TURN_SECONDS: Final = 0.01


class PartitionState(msgspec.Struct, rename="camel"):
    """One partition that this worker owns."""

    topic: str
    partition: int
    position: int
    """Records before it are processed."""
    committed: int | None
    highwater: int
    lag_records: int


class MeterState(msgspec.Struct, rename="camel", gc=False):
    """How one meter reports."""

    meter: str
    last_reading: str | None
    last_reading_ms: int | None
    readings: int
    late: int


class ModelState(msgspec.Struct, rename="camel"):
    """A model that scores in a DMA."""

    id: str
    version: str
    sha256: str
    """Of its arrays, as alerts tell it."""


class DmaState(msgspec.Struct, rename="camel"):
    """One DMA whose engine is here. Late, duplicates and repeated count from when this worker took it over."""

    dma: str
    partition: int
    watermark: str | None
    """End of the newest judged slot, event time."""
    watermark_ms: int | None
    event_age_seconds: float | None
    """Now less the watermark."""
    open_events: int
    late: int
    duplicates: int
    repeated: int
    checkpoint_offset: int | None
    checkpoint_age_seconds: float | None
    meters: list[MeterState]
    model: ModelState | None = None
    """The champion; None where no model scores."""
    challenger: ModelState | None = None
    model_refused: str | None = None
    """Why the last control record was refused, since this worker took the DMA over; the model before it goes on."""
    drift: DriftState = msgspec.field(default_factory=partial(DriftState, "no_model"))
    leak_alerts: int = 0
    """Leaks alarmed, since this worker took the DMA over."""


class ClockState(msgspec.Struct, rename="camel"):
    """Readings of one meter that its clock put too far ahead or behind; none of them was used."""

    readings: int
    last_seen: str
    """By the newest message's own time."""
    off_seconds: float
    """Of the last of them, from its message's own time."""


class TroubleState(msgspec.Struct, rename="camel"):
    """What was wrong with one meter's messages since the worker's start."""

    meter: str
    in_network: bool
    """Whether network.toml knows it."""
    rejected_messages: int
    clock_ahead: ClockState | None
    clock_behind: ClockState | None


class RejectedState(msgspec.Struct, rename="camel"):
    """Messages of the raw topic that became dead letters since the worker's start."""

    messages: int
    by_reason: dict[str, int]
    by_meter: list[TroubleState]
    """Also those meters that have only wrong clocks."""
    other_meters: TroubleState
    """Together, those that were too many to be counted one by one."""
    unknown_meter_messages: int
    """No meter can be read from them."""


class CheckpointState(msgspec.Struct, rename="camel"):
    """The last checkpoint; `total...` since the worker's start."""

    age_seconds: float | None
    """None while there is nothing to save."""
    bytes: int
    states: int
    seconds: float
    total_states: int
    total_bytes: int


class Status(msgspec.Struct, rename="camel"):
    """`/status`."""

    site: str
    prefix: str
    version: str
    pid: int
    started: str
    uptime_seconds: float
    healthy: bool
    fault: str | None
    ready: bool
    not_ready_reason: str | None
    rss_bytes: int
    dead_letters: int
    highwater_age_seconds: float | None
    """Since the broker last told where the logs end."""
    partitions: list[PartitionState]
    checkpoint: CheckpointState
    rejected: RejectedState
    dmas: msgspec.Raw
    models: ModelsState


class ModelsState(msgspec.Struct, rename="camel"):
    """Control records since the worker's start."""

    taken: int
    refused: int


def fault_of(worker: Worker) -> str | None:
    """Why the worker should be started again; None when it is well."""
    if worker.fault is not None:
        return f"fault: {type(worker.fault).__name__}: {worker.fault}"
    keeper = worker.keeper
    if keeper.watcher.owned and keeper.due_seconds > OVERDUE_SECONDS and not worker.stop.is_set():
        return f"no checkpoint for {keeper.age_seconds:.0f} s, although one is due"
    return None


def why_not_ready(worker: Worker) -> str | None:
    """What is still to be done before the worker has caught up with what was there when it got its partitions."""
    fault = fault_of(worker)
    if fault is not None:
        return fault
    if worker.stop.is_set():
        return "stopping"
    if worker.assigned is None:
        return "waiting for Kafka to share the partitions out"
    mine = {tp.partition for tp in worker.assigned if tp.topic == worker.readings_topic}
    places = worker.places()
    if not worker.assigned <= places.keys() or not mine <= worker.keeper.watcher.owned.keys():
        return "recovering: state is being brought back from its checkpoints"
    behind = [place.missing_records for place in places.values() if place.missing_records]
    if behind:
        return f"catching up: {sum(behind)} records to go in {len(behind)} of {len(places)} partitions"
    return None


async def dma_states(worker: Worker) -> AsyncIterator[DmaState]:
    """Every DMA whose engine is here, in order of partition and id."""
    turn = time.perf_counter()
    for partition, owned in sorted(worker.keeper.watcher.owned.items()):
        for dma, watched in sorted(owned.states.items()):
            if time.perf_counter() - turn > TURN_SECONDS:
                await asyncio.sleep(0)
                turn = time.perf_counter()
            # taken away meanwhile: whoever owns it now speaks of it
            if worker.keeper.watcher.owned.get(partition) is owned:
                yield _dma_state(worker, partition, dma, watched)


def _dma_state(worker: Worker, partition: int, dma: str, watched: Watched) -> DmaState:
    engine, keeper = watched.engine, worker.keeper
    watermark = engine.watermark_ms
    is_known = watermark != NEVER
    return DmaState(
        dma=dma,
        partition=partition,
        watermark=rfc3339(watermark) if is_known else None,
        watermark_ms=watermark if is_known else None,
        event_age_seconds=time.time() - watermark / 1000 if is_known else None,
        open_events=engine.open_events,
        late=watched.late,
        duplicates=watched.duplicates,
        repeated=watched.repeated,
        checkpoint_offset=watched.saved_offset,
        checkpoint_age_seconds=None if watched.saved_offset is None else keeper.since(watched.saved_at),
        meters=_meter_states(engine),
        model=_model_state(watched.champion),
        challenger=_model_state(watched.challenger),
        model_refused=watched.refused,
        drift=drift_state(watched.drift),
        leak_alerts=watched.leak_alerts,
    )


def _model_state(named: Named | None) -> ModelState | None:
    return None if named is None else ModelState(named.id, named.version, named.sha256)


def _meter_states(engine: Engine) -> list[MeterState]:
    health = engine.meter_health()
    last = np.array([0 if one.last_ms is None else one.last_ms for one in health], "datetime64[ms]")
    said = np.datetime_as_string(last, timezone="UTC").tolist()  # a tenth of the time of one by one
    return [
        MeterState(one.meter, None if one.last_ms is None else text, one.last_ms, one.readings, one.late)
        for one, text in zip(health, said, strict=True)
    ]


def partition_states(places: dict[TP, Place]) -> list[PartitionState]:
    """In order of topic and number."""
    return [
        PartitionState(tp.topic, tp.partition, at.position, at.committed, at.end, at.lag_records)
        for tp, at in sorted(places.items())
    ]


def checkpoint_state(worker: Worker) -> CheckpointState:
    """The last checkpoint."""
    keeper, saved = worker.keeper, worker.keeper.saved
    age = keeper.age_seconds if keeper.watcher.owned else None
    return CheckpointState(age, saved.bytes, saved.states, saved.seconds, saved.total, saved.total_bytes)


def _rejected_state(tally: Tally) -> RejectedState:
    by_meter = [_trouble_state(meter, True, found) for meter, found in sorted(tally.meters.items())]
    by_meter += [_trouble_state(meter, False, found) for meter, found in sorted(tally.strangers.items())]
    return RejectedState(
        messages=tally.messages,
        by_reason={name: tally.reasons[name] for name in REASONS},
        by_meter=by_meter,
        other_meters=_trouble_state("", False, tally.rest),
        unknown_meter_messages=tally.unnamed,
    )


def _trouble_state(meter: str, in_network: bool, found: Trouble) -> TroubleState:
    return TroubleState(meter, in_network, found.rejected, _clock_state(found.ahead), _clock_state(found.behind))


def _clock_state(clock: Clock | None) -> ClockState | None:
    return None if clock is None else ClockState(clock.readings, rfc3339(clock.seen_ms), clock.seconds)


async def status_json(worker: Worker) -> bytes:
    """The document of `/status`."""
    encode = msgspec.json.Encoder().encode
    # DMA by DMA: one document of a large site, encoded at once, would hold the loop up
    dmas = b"[" + b",".join([encode(state) async for state in dma_states(worker)]) + b"]"
    fault, reason, progress = fault_of(worker), why_not_ready(worker), worker.progress
    return encode(
        Status(
            site=worker.site.name,
            prefix=worker.prefix,
            version=worker.version,
            pid=os.getpid(),
            started=rfc3339(int(worker.started * 1000)),
            uptime_seconds=time.time() - worker.started,
            healthy=fault is None,
            fault=fault,
            ready=reason is None,
            not_ready_reason=reason,
            rss_bytes=rss_bytes(),
            dead_letters=worker.dead_letters,
            highwater_age_seconds=None if progress is None else progress.age_seconds,
            partitions=partition_states(worker.places()),
            checkpoint=checkpoint_state(worker),
            rejected=_rejected_state(worker.router.tally),
            dmas=msgspec.Raw(dmas),
            models=ModelsState(worker.keeper.watcher.swaps, worker.keeper.watcher.refusals),
        )
    )


def rss_bytes() -> int:
    """Memory of this process that is resident; where the system does not tell, the most it ever was."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        import resource  # noqa: PLC0415 - not there on every system
        import sys  # noqa: PLC0415

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
