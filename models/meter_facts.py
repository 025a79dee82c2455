"""What is known of a meter's event, and what its kind says of it: the ground that sentences about meters stand on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from models.events import CLEARED, CLOSED
from models.phrases import HOUR_MS, both, length, moment, named
from models.schema import NEVER, Scope, Sentence, Severity

if TYPE_CHECKING:
    from models.network import Meter, Site


@dataclass(frozen=True)
class MeterFacts:
    """One transition (an EVENT record) of a meter, or of all meters of a DMA at once."""

    transition: Any
    site: Site
    dma: str
    scope: Scope
    meter: Meter | None
    """None where it is about all of the DMA's."""

    @property
    def is_over(self) -> bool:
        """Whether it has cleared."""
        return bool(self.transition["change"] == CLEARED)

    @property
    def is_accepted(self) -> bool:
        """Whether it was closed as the new normal."""
        return bool(self.transition["change"] == CLOSED)

    @property
    def id(self) -> str:
        """Of the meter or of the DMA."""
        return self.scope.id

    @property
    def noun(self) -> Sentence:
        """What kind of meter it is, as a title calls it."""
        if self.meter is not None and self.meter.kind == "level":
            return Sentence(en="Meter", zh="水位计")
        return Sentence(en="Logger", zh="压力记录仪") if self.scope.type == "logger" else Sentence(en="Meter", zh="流量计")

    @property
    def thing(self) -> Sentence:
        """The meter with its kind, at the beginning of a sentence."""
        kind = "flow" if self.meter is None else "customer" if self.meter.is_customer else self.meter.kind
        noun = {
            "flow": Sentence(en="Flow meter", zh="流量计"),
            "pressure": Sentence(en="Pressure logger", zh="压力记录仪"),
            "level": Sentence(en="Level gauge", zh="水位计"),
            "customer": Sentence(en="Customer meter", zh="用户表"),
        }[kind]
        return both("{noun} {id}", "{noun} {id}", noun=noun, id=self.id)

    @property
    def place(self) -> Sentence:
        """The DMA by name and id."""
        return named(self.dma, self.site.dmas[self.site.dma_row[self.dma]].name)

    @property
    def run_ms(self) -> int:
        """How long the slots that it was raised for are."""
        return int(self.transition["slots"]) * self.site.dmas[self.site.dma_row[self.dma]].slot_minutes * 60_000

    @property
    def lasted(self) -> Sentence:
        """From its start to its end, or to this revision."""
        end_ms = self.transition["updated_ms"] if self.transition["ended_ms"] == NEVER else self.transition["ended_ms"]
        return length(float(end_ms - self.transition["started_ms"]))

    def hours(self, name: str) -> Sentence:
        """A field in hours as a length of time."""
        return length(float(self.transition[name]) * HOUR_MS)

    def when(self, name: str) -> str:
        """A time of the transition as local time."""
        return moment(self.transition[name], self.site.timezone)


@dataclass(frozen=True)
class Part:
    """What its kind says of a meter's event."""

    title: Sentence
    reasons: list[str]
    severity: Severity
    observed: Sentence
    expected: Sentence | None
    why: list[Sentence]
    why_not: list[Sentence]
    check_first: list[Sentence]
    """While it lasts."""
    metric: str = "flow"
    unit: str = "m3/h"
    confidence: float = 0.95
    is_blind: bool = False
    """Whether it leaves the net inflow of the DMA unknown."""
    water: Sentence | None = None
    first_day: str | None = None
    """Its start, where only the day is known."""
    against: list[Sentence] = field(default_factory=list)
