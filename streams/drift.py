"""Drift in a running worker: each DMA's slots of the week under way, counted beside the engine and never by it.

The gauges speak of the last whole week (Monday to Monday, local time) that the DMA's present model judged from its begin, so
they are there a week or two after a promotion, and say what `nightline drift` says of the same slots. What was counted is
part of the DMA's checkpoint: a restart or another owner goes on with it. Nothing here changes an alert.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

from models.cloudevents import rfc3339
from models.drift import COLUMNS
from models.drift_weeks import Saved, Weeks, week_start_ms

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.network import Site
    from models.schema import Records
    from streams.watcher import Watched

State = Literal["no_model", "no_reference", "warming_up", "judged"]
STATES: Final[tuple[State, ...]] = ("no_model", "no_reference", "warming_up", "judged")


class DriftState(msgspec.Struct, rename="camel"):
    """What is known of a DMA's drift; only `state` before a whole week was judged."""

    state: State
    week: str | None = None
    """When the judged week began."""
    week_end_ms: int | None = None
    share: float | None = None
    """Of its slots that counted."""
    ratio: float | None = None
    """The largest distance over its level: above 1 it is drift."""
    worst: str | None = None
    """Whose distance that is."""
    weeks_in_a_row: int = 0
    """Judged weeks over their level, up to it."""
    psi: dict[str, float] = {}
    """Population stability index by feature."""


def follow(watched: Watched, site: Site, dma: str, detections: Records) -> None:
    """Count the slots of one step against the model that judged them; another model begins anew."""
    bundle = watched.engine.bundle
    if watched.drift is None or watched.drift.bundle is not bundle:
        watched.drift = resumed(bundle, site, dma, None)
    if watched.drift is not None:
        watched.drift.take(detections)


def resumed(bundle: Bundle | None, site: Site, dma: str, saved: Saved | None) -> Weeks | None:
    """The weeks of a DMA, as a checkpoint saved them; None without a model."""
    if bundle is None:
        return None
    weeks = Weeks(bundle, dma, site.timezone, site.dmas[site.dma_row[dma]].slot_minutes * 60_000)
    if saved is not None:
        weeks.restore(saved)
    return weeks


def drift_state(weeks: Weeks | None) -> DriftState:
    """For `/status` and `/metrics`."""
    if weeks is None:
        return DriftState("no_model")
    last = weeks.last
    if last is None or last.found is None or last.worst is None:
        return DriftState("warming_up" if weeks.has_reference else "no_reference")
    return DriftState(
        "judged",
        week=rfc3339(week_start_ms(last.number, weeks.timezone)),
        week_end_ms=week_start_ms(last.number + 1, weeks.timezone),
        share=round(last.share, 4),
        ratio=last.ratio,
        worst=last.worst[0],
        weeks_in_a_row=weeks.in_a_row,
        psi=dict(zip(COLUMNS, last.found[0].tolist(), strict=True)),
    )
