"""What a model's card says of the thresholds that it brings: of the forest's score and of the other detectors."""

from __future__ import annotations

from models.bundle import DetectorCalibration, Manifest
from models.relearn import LEAST_DAYS

HEADING = ("DMA", "detector", "threshold", "of an engine without labels", "once in, days", "days", "alarms: learned",
           "called normal", "left out", "days left out", "taken over")  # fmt: skip


def detector_rows(m: Manifest) -> list[tuple[str, ...]]:
    """One of each DMA and detector, below HEADING; those that labels have changed first."""
    found = [(dma, name, c) for dma, of in m.detectors.items() for name, c in of.items()]
    return [
        (
            dma, name, f"{c.threshold:.2f}", f"{c.engine_threshold:.2f}", f"{c.return_days:,.0f}", f"{c.days:,}",
            f"{c.alarms}", f"{c.alarms_normal}", f"{c.alarms_excluded}", f"{c.days_excluded}", _taken_over(c),
        )
        for dma, name, c in sorted(found, key=lambda one: not one[2].is_changed)
    ]  # fmt: skip


def changed_by_labels(m: Manifest) -> str:
    """In one line what labels have changed; empty where nothing was learned."""
    found = [c for of in m.detectors.values() for c in of.values()]
    if not found:
        return ""
    lower = sum(c.threshold < c.engine_threshold for c in found)
    higher = sum(c.threshold > c.engine_threshold for c in found)
    normal, excluded = (sum(getattr(c, name) for c in found) for name in ("alarms_normal", "alarms_excluded"))
    return (
        f"calibrations of {len(found)} detectors: labels lower {lower} thresholds and raise {higher}; they call {normal} "
        f"alarms normal and leave {excluded} out"
    )


def _taken_over(c: DetectorCalibration) -> str:
    if c.days < LEAST_DAYS:
        return f"no: fewer than {LEAST_DAYS} days"
    return "yes" if c.is_changed else "by engines that know fewer days"
