"""A site's holidays and make-up workdays, by its country's rules and its own holidays.csv."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final

from models.calendar import FIRST_YEAR, LAST_YEAR, DayClass, read_holidays
from models.config import ConfigError, nearest
from models.network import Site

FILE: Final = "holidays.csv"
ESTIMATED: Final = "(estimated)"


@dataclass
class Found:
    """What is known of a site's calendar, and of it what is not."""

    classes: dict[date, DayClass] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    """What site.toml asks for and nobody has; the days are then ordinary."""
    notes: list[str] = field(default_factory=list)
    """What the rules do not say."""


def calendar_of(site: Site, folder: Path) -> Found:
    """The days of the site's country and subdivision, with those of `folder`/holidays.csv put over them.

    Raises ConfigError naming every faulty line of that file.
    """
    found = rules_of(site.country, site.subdivision)
    path = folder / FILE
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return found
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from None
    own, faults = read_holidays(text, str(path))
    if faults:
        raise ConfigError(faults)
    found.classes |= own
    return found


def rules_of(country: str | None, subdivision: str | None) -> Found:
    """Public holidays and make-up workdays of all years that the `holidays` package knows a rule for."""
    if country is None:
        return Found()
    import holidays  # noqa: PLC0415 - a tenth of a second, and only a site with a country needs it

    known = holidays.list_supported_countries(include_aliases=False)
    if country not in known:
        return Found(faults=[f"site.toml: [calendar]: key 'country': no calendar of {country!r}; {nearest(country, known)}"])
    parts: Sequence[str] = known[country]
    faults = []
    if subdivision is not None and subdivision not in parts:
        where = f"site.toml: [calendar]: key 'subdivision': {country} has no {subdivision!r}"
        faults.append(f"{where}; {nearest(subdivision, parts, limit=32)}")
        subdivision = None
    rules = holidays.country_holidays(country, subdiv=subdivision)
    first, last = max(FIRST_YEAR, rules.start_year), min(LAST_YEAR, rules.end_year)
    # a year that has been filled in may bring days of its neighbours
    named = holidays.country_holidays(country, subdiv=subdivision, years=range(first, last + 1))
    classes: dict[date, DayClass] = dict.fromkeys(named, "holiday")
    made_up = sorted(named.weekend_workdays)
    classes |= dict.fromkeys(made_up, "workday")
    notes = []
    if last < LAST_YEAR:
        notes.append(f"holidays of {country} are known to {last}; what comes later belongs into {FILE}")
    if made_up:
        notes.append(f"make-up workdays of {country} are known to {made_up[-1].year}; what comes later belongs into {FILE}")
    estimated = [day for day, name in named.items() if ESTIMATED in name]
    if estimated:
        notes.append(f"some holidays of {country} follow the moon; from {min(estimated).year} on their dates are estimates")
    return Found(classes, faults, notes)
