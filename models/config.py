"""Tables of a site's TOML files checked key by key; every fault is named, not only the first."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any


class ConfigError(ValueError):
    """One or more faults in a site folder; `faults` holds one clear line each."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


@dataclass(frozen=True)
class Key:
    """What one key of a table may hold."""

    type: type | tuple[type, ...]
    possible: str
    default: Any = None
    required: bool = False
    check: Callable[[Any], bool] = lambda _: True


def nearest(word: str, possible: Iterable[str], limit: int = 8) -> str:
    """`'x'; nearest: 'y'` where one is close, else the list of what was possible."""
    names = sorted(possible)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"nearest: {close[0]!r}"
    shown = ", ".join(names[:limit])
    return f"possible: {shown}{', …' if len(names) > limit else ''}" if names else "possible: none are defined"


def read_table(table: Any, keys: Mapping[str, Key], where: str, faults: list[str]) -> dict[str, Any]:
    """The table with defaults filled in; every fault is appended to `faults` as `where: key ...`."""
    if not isinstance(table, Mapping):
        faults.append(f"{where}: found {table!r}; possible: a table")
        return {name: key.default for name, key in keys.items()}
    faults += [f"{where}: key {name!r} is unknown; {nearest(name, keys)}" for name in table if name not in keys]
    values: dict[str, Any] = {}
    for name, key in keys.items():
        values[name] = key.default
        if name not in table:
            if key.required:
                faults.append(f"{where}: key {name!r} is missing; possible: {key.possible}")
            continue
        found = table[name]
        # bool is an int in Python; true is not a number of minutes
        right_type = isinstance(found, key.type) and not (isinstance(found, bool) and key.type is not bool)
        if right_type and key.check(found):
            values[name] = found
        else:
            faults.append(f"{where}: key {name!r}: found {found!r}; possible: {key.possible}")
    return values
