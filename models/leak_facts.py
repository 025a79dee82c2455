"""What is known of a leak's event: the ground that sentences about leaks stand on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from models.detectors import BURST, FLOW_SHIFT, NIGHT_FLOW
from models.events import CORROBORATED
from models.phrases import moment, named, nights
from models.schema import NEVER, Estimate, Sentence

if TYPE_CHECKING:
    from models.explain_balance import Metered
    from models.explain_pressure import Fall
    from models.network import Meter, Site
    from models.planned import PlannedWork

PRESSURE_SPEAKS_Z: Final = 1.0  # mean residual of the loggers that counts as a word for or against
LEAST_RATE_M3H: Final = 1e-3  # less is no size: pressures may tell of a leak before the inflow does


@dataclass(frozen=True)
class LeakFacts:
    """What is known of one transition (an EVENT record) of a leak."""

    transition: Any
    site: Site
    dma: str
    own: tuple[Meter, ...]
    """The meters of this DMA alone, customers' left out."""
    neighbour: str | None
    """Of a boundary valve: the DMA that lost what this one gained."""
    fall: Fall | None
    """What pressure loggers showed."""
    work: PlannedWork | None
    estimate: Estimate
    metered: Metered
    """What customers' meters show."""
    stuck: str | None
    """Id of the flow meter that it rested on and that was stuck, where that has ended it."""
    silent: frozenset[int]
    """Detectors that can say nothing here: without a model, or with too few loggers or customers."""

    @property
    def kind(self) -> int:
        """Its type, index into events.EVENT_TYPES."""
        return int(self.transition["type"])

    @property
    def change(self) -> int:
        """Index into events.CHANGES."""
        return int(self.transition["change"])

    @property
    def place(self) -> Sentence:
        """The DMA by name and id."""
        return named(self.dma, self.site.dmas[self.site.dma_row[self.dma]].name)

    @property
    def flow_meters(self) -> list[str]:
        """Ids of the flow meters at its borders."""
        return [meter.id for meter in self.own if meter.kind == "flow"]

    @property
    def levels(self) -> list[str]:
        """Ids of the level gauges of its tanks."""
        return [meter.id for meter in self.own if meter.kind == "level"]

    @property
    def loggers(self) -> list[str]:
        """Ids of the pressure loggers."""
        return [meter.id for meter in self.own if meter.kind == "pressure"]

    @property
    def is_pressure_only(self) -> bool:
        """Whether pressures alone have shown it so far."""
        return self.fall is not None and self.fall.is_alone

    @property
    def pressure_word(self) -> int:
        """-1: the loggers' mean fell, as in a burst; +1: it rose; 0: it says nothing."""
        return pressure_word(self.transition)

    @property
    def is_pressure_unmoved(self) -> bool:
        """Whether there is a word of the loggers, and it is that nothing has changed."""
        return self.fall is None and self.pressure_word == 0 and not np.isnan(self.transition["pressure_z"])

    @property
    def flow_score(self) -> float:
        """The stronger score of the two detectors that look at the inflow slot by slot."""
        return float(max(self.transition["scores"][BURST], self.transition["scores"][FLOW_SHIFT]))

    @property
    def night_score(self) -> float:
        """Score of the nights."""
        return float(self.transition["scores"][NIGHT_FLOW])

    @property
    def came_ms(self) -> int:
        """From its start to its detection."""
        return int(self.transition["detected_ms"] - self.transition["started_ms"])

    @property
    def lasted_ms(self) -> int:
        """From its start to its end, or to this revision."""
        end_ms = self.transition["updated_ms"] if self.transition["ended_ms"] == NEVER else self.transition["ended_ms"]
        return int(end_ms - self.transition["started_ms"])

    @property
    def nights(self) -> int:
        """Whole nights that it has lasted."""
        begin_ms, site = int(self.transition["started_ms"]), self.site
        return nights(begin_ms, begin_ms + self.lasted_ms, site.timezone, site.night_start_min, site.night_end_min)

    def when(self, name: str) -> str:
        """A time of the transition as local time."""
        return moment(self.transition[name], self.site.timezone)


def pressure_word(transition: Any) -> int:
    """-1: the loggers' mean fell, as in a burst; +1: it rose; 0: it says nothing."""
    z = float(transition["pressure_z"])
    return 0 if np.isnan(z) or abs(z) < PRESSURE_SPEAKS_Z else int(np.sign(z))


def share_of_mean(facts: LeakFacts) -> str | None:
    """The excess in per cent of the DMA's mean inflow; None where that is not known."""
    mean = float(facts.transition["mean_m3h"])
    excess = facts.estimate.excess_flow
    if not mean > 0.0 or not excess > 0.0:
        return None
    return f"{max(100.0 * excess / mean, 1.0):,.0f}"


def is_confirmed(score: float) -> bool:
    """Whether a detector has at least seconded it."""
    return score >= CORROBORATED
