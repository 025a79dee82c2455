"""The table at the end of a run: each fault, how often it was injected, and what was lost, invented or told in two ways."""

from __future__ import annotations

from collections.abc import Mapping

_ROWS: dict[str, list[int]] = {}


def proven(injected: Mapping[str, int], wrong: int) -> None:
    """Add to the table: these faults together, and how many alerts, letters or answers were not as they must be."""
    for what, times in injected.items():
        row = _ROWS.setdefault(what, [0, 0])
        row[0] += times
        row[1] += wrong


def table() -> list[str]:
    """Lines of the table; none where nothing was injected."""
    if not _ROWS:
        return []
    width = max(map(len, _ROWS))
    lines = [f"{'injected':{width}}  {'times':>12}  {'wrong':>6}"]
    return lines + [f"{what:{width}}  {times:12,}  {wrong:6,}" for what, (times, wrong) in sorted(_ROWS.items())]
