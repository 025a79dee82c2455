"""Planted against found: which alert names which plant, and what else alarmed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from models.schema import Alert
from training.matching import first_revisions
from training.simulation.plants import HOUR_MS, Plant


@dataclass(frozen=True)
class Verdict:
    """`found` has a pair for every plant that is due an alert, in order of time; None where there is none."""

    found: tuple[tuple[Plant, Alert | None], ...]
    quiet: tuple[Plant, ...]  # ordinary life that was planted too
    unexplained: tuple[Alert, ...]  # raised, but not because of a plant

    @property
    def passed(self) -> bool:
        """Every plant found in time, nothing else raised."""
        return not self.unexplained and all(alert is not None for _, alert in self.found)


def names(plant: Plant, alert: Alert) -> bool:
    """True where the alert is of a right type, on the plant's scope, and was raised between its start and its deadline."""
    deadline_ms = plant.started_ms + plant.within_h * HOUR_MS
    right = alert.type in plant.expected and (alert.scope.type, alert.scope.id) == (plant.scope_type, plant.scope)
    return right and plant.started_ms <= alert.detected_at <= deadline_ms


def judge(plants: Iterable[Plant], alerts: Iterable[Alert]) -> Verdict:
    """Match every plant with the first alert that names it; `alerts` may hold any revisions, in any order.

    One alert explains one plant: a second one for the same leak is unexplained.
    """
    plants = sorted(plants, key=lambda plant: plant.started_ms)
    waiting = first_revisions(alerts)
    found: list[tuple[Plant, Alert | None]] = []
    for plant in plants:
        if plant.is_event:
            alert = next((candidate for candidate in waiting if names(plant, candidate)), None)
            found.append((plant, alert))
            waiting = [candidate for candidate in waiting if candidate is not alert]
    return Verdict(tuple(found), tuple(p for p in plants if not p.is_event), tuple(waiting))
