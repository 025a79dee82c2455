"""`/metrics`: the Prometheus text format 0.0.4, written by hand.

Series of single meters are only there for meters that have trouble, and at most `MOST_LATE` for late readings: a million
healthy meters would else be a million series. Ids that are not in network.toml get none: they are whatever somebody sends.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from streams.drift import STATES
from streams.standing import DmaState, checkpoint_state, dma_states, fault_of, rss_bytes, why_not_ready
from streams.tally import REASONS, Tally, total

if TYPE_CHECKING:
    from streams.worker import Worker

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
MOST_LATE: Final = 1000
"""Meters with the most late readings that have a series of their own; the others are counted together."""
OTHER: Final = "(other)"
"""The `meter` of those that have no series of their own. No meter can be called so."""

Samples = Iterable[tuple[dict[str, str], float | None]]


def escaped(text: str) -> str:
    """A label's value between its quotes."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def number(value: float) -> str:
    """As Prometheus reads it; whole numbers stay whole."""
    if isinstance(value, int):
        return str(int(value))
    if math.isfinite(value):
        return repr(float(value))
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


class Page:
    """The families of one scrape, in the order they are added."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, name: str, kind: str, said: str, samples: Samples) -> None:
        """One family: `kind` is gauge or counter. A value of None is left out; a family without samples as well."""
        lines = []
        for labels, value in samples:
            if value is not None:
                inside = ",".join(f'{label}="{escaped(text)}"' for label, text in labels.items())
                lines.append(
                    f"nightline_{name}{{{inside}}} {number(value)}" if inside else f"nightline_{name} {number(value)}"
                )
        if lines:
            told = said.replace("\\", "\\\\").replace("\n", "\\n")
            self._lines += [f"# HELP nightline_{name} {told}", f"# TYPE nightline_{name} {kind}", *lines]

    def one(self, name: str, kind: str, said: str, value: float | None) -> None:
        """A family of one sample without labels."""
        self.add(name, kind, said, [({}, value)])

    def encode(self) -> bytes:
        """The answer's body."""
        return ("\n".join(self._lines) + "\n").encode()


async def exposition(worker: Worker) -> bytes:
    """The whole page."""
    late: dict[str, int] = {}
    dmas = []
    span: dict[str, tuple[int, int]] = {}
    async for state in dma_states(worker):
        late.update((meter.meter, meter.late) for meter in state.meters if meter.late)
        times = [meter.last_reading_ms for meter in state.meters if meter.last_reading_ms is not None]
        if times:
            span[state.dma] = min(times), max(times)
        state.meters = []  # a page of a large site must not keep them all
        dmas.append(state)
    page = Page()
    _of_process(page, worker)
    _of_partitions(page, worker)
    _of_dmas(page, dmas, span)
    _of_models(page, worker, dmas)
    _of_drift(page, dmas)
    _of_checkpoints(page, worker)
    _of_trouble(page, worker.router.tally, worker.dead_letters, late)
    return page.encode()


def _of_process(page: Page, worker: Worker) -> None:
    labels = {"version": worker.version, "site": worker.site.name, "prefix": worker.prefix}
    page.add("build_info", "gauge", "Always 1; the labels say what runs.", [(labels, 1)])
    page.one("start_timestamp_seconds", "gauge", "When the worker started, Unix time.", worker.started)
    page.one("uptime_seconds", "gauge", "How long the worker has run.", time.time() - worker.started)
    page.one("resident_memory_bytes", "gauge", "Resident memory of the process.", rss_bytes())
    page.one("healthy", "gauge", "1 as /healthz answers 200.", int(fault_of(worker) is None))
    page.one("ready", "gauge", "1 as /readyz answers 200.", int(why_not_ready(worker) is None))


def _of_partitions(page: Page, worker: Worker) -> None:
    places = [({"topic": tp.topic, "partition": str(tp.partition)}, at) for tp, at in sorted(worker.places().items())]
    page.one("partitions_owned", "gauge", "Partitions of both topics that this worker owns.", len(worker.assigned or ()))
    page.add(
        "partition_position_offset", "gauge", "Records before it are processed.", [(of, at.position) for of, at in places]
    )
    page.add("partition_committed_offset", "gauge", "Committed by the group.", [(of, at.committed) for of, at in places])
    page.add("partition_highwater_offset", "gauge", "End of the partition's log.", [(of, at.end) for of, at in places])
    page.add("partition_lag_records", "gauge", "Records still to be processed.", [(of, at.lag_records) for of, at in places])
    progress = worker.progress
    age = None if progress is None else progress.age_seconds
    page.one("highwater_age_seconds", "gauge", "Since the broker last told where the logs end.", age)


def _of_dmas(page: Page, dmas: list[DmaState], span: dict[str, tuple[int, int]]) -> None:
    every = [({"dma": one.dma}, one) for one in dmas]
    seconds = [(of, None if one.watermark_ms is None else one.watermark_ms / 1000) for of, one in every]
    page.add("dma_watermark_timestamp_seconds", "gauge", "Event time up to which a DMA is judged, Unix time.", seconds)
    ages = [(of, one.event_age_seconds) for of, one in every]
    page.add("dma_event_age_seconds", "gauge", "Now less the watermark of a DMA.", ages)
    page.add("dma_open_events", "gauge", "Events under way in a DMA.", [(of, one.open_events) for of, one in every])
    for what, said in (
        ("late", "Readings that came after their slot was closed."),
        ("duplicates", "Readings superseded by a later one of the same meter and time."),
        ("repeated", "Readings that came again after a restart and were dropped."),
    ):
        name = f"dma_{'duplicate' if what == 'duplicates' else what}_readings_total"
        page.add(
            name, "counter", f"{said} Since the worker took the DMA over.", [(of, getattr(one, what)) for of, one in every]
        )
    page.add(
        "dma_last_reading_min_timestamp_seconds", "gauge", "Last reading of the DMA's most silent meter, Unix time.",
        [({"dma": dma}, times[0] / 1000) for dma, times in span.items()],
    )  # fmt: skip
    page.add(
        "dma_last_reading_max_timestamp_seconds", "gauge", "The newest reading of any meter of the DMA, Unix time.",
        [({"dma": dma}, times[1] / 1000) for dma, times in span.items()],
    )  # fmt: skip
    offsets = [(of, one.checkpoint_offset) for of, one in every]
    page.add("dma_checkpoint_offset", "gauge", "What the DMA's last checkpoint includes.", offsets)
    saved = [(of, one.checkpoint_age_seconds) for of, one in every]
    page.add("dma_checkpoint_age_seconds", "gauge", "Since the DMA's state was last written; quiet ones less often.", saved)


def _of_models(page: Page, worker: Worker, dmas: list[DmaState]) -> None:
    named = [
        ({"dma": one.dma, "role": role, "version": model.version, "sha256": model.sha256}, 1)
        for one in dmas
        for role, model in (("champion", one.model), ("challenger", one.challenger))
        if model is not None
    ]
    named += [
        ({"dma": one.dma, "role": "champion", "version": "none", "sha256": ""}, 1) for one in dmas if one.model is None
    ]
    page.add("dma_model_info", "gauge", "Always 1; the labels say which model scores in a DMA, or that none does.", named)
    watcher = worker.keeper.watcher
    page.one("model_controls_taken_total", "counter", "Control records taken since the start.", watcher.swaps)
    page.one(
        "model_controls_refused_total", "counter", "Control records refused since the start; the model before goes on.",
        watcher.refusals,
    )  # fmt: skip


def _of_drift(page: Page, dmas: list[DmaState]) -> None:
    """Of the last whole week of each DMA: no series before one was judged, so that nothing stands for what is not known."""
    said = "1 for how a DMA stands: judged, warming_up (no whole week yet), no_reference (train again), no_model."
    states = [({"dma": one.dma, "state": state}, int(one.drift.state == state)) for one in dmas for state in STATES]
    page.add("drift_state", "gauge", said, states)
    judged = [({"dma": one.dma}, one.drift) for one in dmas if one.drift.state == "judged"]
    said = "Last whole week against the training: largest distance of any feature over its level; drift above 1."
    page.add("drift_ratio", "gauge", said, [(of, drift.ratio) for of, drift in judged])
    said = "Judged weeks over their level, one after the other, up to the last."
    page.add("drift_weeks_in_a_row", "gauge", said, [(of, drift.weeks_in_a_row) for of, drift in judged])
    ends = [(of, None if drift.week_end_ms is None else drift.week_end_ms / 1000) for of, drift in judged]
    page.add("drift_week_end_timestamp_seconds", "gauge", "End of the week that these speak of, Unix time.", ends)
    psi = [({**of, "feature": name}, value) for of, drift in judged for name, value in drift.psi.items()]
    page.add("drift_psi", "gauge", "Population stability index of that week by feature.", psi)
    alarmed = [({"dma": one.dma}, one.leak_alerts) for one in dmas]
    page.add("leak_alerts_total", "counter", "Leaks alarmed since the worker took the DMA over.", alarmed)


def _of_checkpoints(page: Page, worker: Worker) -> None:
    state = checkpoint_state(worker)
    page.one("checkpoint_age_seconds", "gauge", "Since the last checkpoint; absent without partitions.", state.age_seconds)
    page.one("checkpoint_bytes", "gauge", "Size of the last checkpoint.", state.bytes)
    page.one("checkpoint_states", "gauge", "States that the last checkpoint wrote.", state.states)
    page.one("checkpoint_duration_seconds", "gauge", "How long the last checkpoint took.", state.seconds)
    page.one("checkpoint_states_total", "counter", "States written since the start.", state.total_states)
    page.one("checkpoint_bytes_total", "counter", "Bytes of states written since the start.", state.total_bytes)


def _of_trouble(page: Page, tally: Tally, dead_letters: int, late: dict[str, int]) -> None:
    page.one("dead_letters_total", "counter", "Messages written to the dead-letter topic since the start.", dead_letters)
    page.add(
        "rejected_messages_total", "counter", "Raw messages rejected since the start, by the first reason.",
        [({"reason": reason}, tally.reasons[reason]) for reason in REASONS],
    )  # fmt: skip
    # what strangers send is counted, but their ids are no labels
    mine = [*sorted(tally.meters.items()), (OTHER, None)]
    rest = [*tally.strangers.values(), tally.rest]
    rejected = sum(trouble.rejected for trouble in rest) + tally.unnamed
    page.add(
        "meter_rejected_messages_total", "counter", "Rejected raw messages by meter, of meters that have any.",
        [({"meter": meter}, rejected if trouble is None else trouble.rejected or None) for meter, trouble in mine],
    )  # fmt: skip
    clocks: list[tuple[dict[str, str], float | None]] = []
    seen: list[tuple[dict[str, str], float | None]] = []
    for meter, trouble in mine:
        for side in ("ahead", "behind"):
            labels = {"meter": meter, "direction": side}
            if trouble is None:
                clocks.append((labels, total(getattr(one, side) for one in rest)))
            elif (clock := getattr(trouble, side)) is not None:
                clocks.append((labels, clock.readings))
                seen.append((labels, clock.seen_ms / 1000))
    said = "Readings rejected for a wrong clock by meter, of meters that have any."
    page.add("meter_wrong_clock_readings_total", "counter", said, clocks)
    said = "When the last of these came, Unix time."
    page.add("meter_wrong_clock_last_seen_timestamp_seconds", "gauge", said, seen)
    worst = heapq.nlargest(MOST_LATE, late.items(), key=lambda item: (item[1], item[0]))
    others = sum(late.values()) - sum(count for _, count in worst)
    page.add(
        "meter_late_readings_total", "counter", "Late readings by meter, of meters that have any; kept across restarts.",
        [({"meter": meter}, count) for meter, count in [*sorted(worst), (OTHER, others)]],
    )  # fmt: skip
