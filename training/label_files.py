"""labels.csv as a file that grows: rows are merged by id, and what is refused is told row by row."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import islice
from pathlib import Path
from typing import Final

from models.config import ConfigError, nearest
from models.network import Site
from training.labels import COLUMNS, LEAK_OUTCOMES, faults_of, numbered_rows, time_of

FILE: Final = "labels.csv"
REJECTS: Final = "labels-rejects.csv"
_SAME: Final = ("dma", "kind", "startedAt", "endedAt", "max_m3h", "peakAt", "outcome")
"""What a label says; two rows of one id that agree on it are one."""
_TIMES: Final = ("startedAt", "endedAt", "peakAt")
MOST_OVERLAPS: Final = 20


@dataclass
class Merged:
    """What became of the rows of an import."""

    rows: list[dict[str, str]]
    """Of the whole labels.csv now."""
    added: int = 0
    same: int = 0
    replaced: int = 0
    refused: list[tuple[int, str, dict[str, str]]] = field(default_factory=list)
    """Line, reason, and the row as it was read."""
    overlaps: list[tuple[str, str]] = field(default_factory=list)
    """Ids of new leaks, and of others of the same DMA that run at the same time: may be one leak told twice. The first
    `MOST_OVERLAPS` of them."""


def read_repair_log(path: Path, headers: Mapping[str, str]) -> list[tuple[int, dict[str, str]]]:
    """The rows of a utility's own log with their lines, by our columns; `headers`: our column -> what the file calls it.

    Raises ConfigError where a column that is needed, or that `headers` names, is not there.
    """
    strange = [name for name in headers if name not in COLUMNS]
    if strange:
        raise ConfigError([f"--column {name}: is no column of labels.csv; {nearest(name, COLUMNS, 20)}" for name in strange])
    rows, there = numbered_rows(path)
    if not rows:
        raise ConfigError([f"{path}: holds no rows; possible: a header line, and one row for each leak"])
    names = {name: headers.get(name, name) for name in COLUMNS}
    wanted = {names[name] for name in ("dma", "startedAt")} | set(headers.values())
    missing = sorted(name for name in wanted if name not in there)
    if missing:
        raise ConfigError(
            [f"{path}: no column {name!r}; {nearest(name, there)}; or --column dma=ITS-NAME" for name in missing]
        )
    found = []
    for line, row in rows:
        ours = {name: (row.get(names[name]) or "").strip() for name in COLUMNS}
        found.append((line, ours | ({"\0cells": "too many"} if None in row else {})))
    return found


def merge(
    site: Site,
    before: Sequence[dict[str, str]],
    new: Sequence[tuple[int, dict[str, str]]],
    stamp: Mapping[str, str],
    kind: str | None,
    replace: bool,
) -> Merged:
    """Put `new` rows, with their lines, into those of a labels.csv. `stamp` fills `source`, `by` and `at` where a row does
    not; `kind` is that of leaks that name none.

    A row is refused where it is faulty, or says something else than the row of its id that is there, unless `replace`: then
    the old one goes into the new one's `history`. Of two exports of one alert the later outcome wins by itself.
    """
    merged = Merged([dict.fromkeys(COLUMNS, "") | row for row in before])
    places = {row["id"] or _id_of(row, site): place for place, row in enumerate(merged.rows)}
    for line, given in new:
        if given.get("\0cells"):
            merged.refused.append((line, "more cells than columns", given))
            continue
        row = {name: given.get(name) or stamp.get(name, "") for name in COLUMNS}
        is_leak = not row["outcome"] or row["outcome"] in LEAK_OUTCOMES
        if is_leak and not row["kind"]:
            row["kind"] = "abrupt" if row["outcome"] == "confirmed_burst" else kind or ""
        faults = faults_of(row, site)
        if faults:
            merged.refused.append((line, "; ".join(faults), given))
            continue
        row["id"] = row["id"] or _id_of(row, site)
        place = places.get(row["id"])
        if place is None:
            places[row["id"]] = len(merged.rows)
            merged.rows.append(row)
            merged.added += 1
            continue
        there = merged.rows[place]
        differs = [name for name in _SAME if _said(row, name, site) != _said(there, name, site)]
        if not differs:
            merged.same += 1
        elif _is_later(row, there, site):
            merged.rows[place] = there | row  # its own history is whole
            merged.replaced += 1
        elif replace:
            # what only the old row tells stays
            merged.rows[place] = there | row | {"history": _history(there, row)}
            merged.replaced += 1
        else:
            first = differs[0]
            reason = f"id {row['id']!r} is there with {first} {there[first]!r}, not {row[first]!r}; possible: --replace"
            merged.refused.append((line, reason, given))
    merged.overlaps = list(islice(_overlaps(merged.rows, len(before), site), MOST_OVERLAPS))
    return merged


def _is_later(row: Mapping[str, str], there: Mapping[str, str], site: Site) -> bool:
    """Both come from one alert, and `row` tells an outcome that is as new or newer."""
    if not row["alertId"] or (row["source"], row["alertId"]) != (there["source"], there["alertId"]):
        return False
    at, before = time_of(row["at"], site), time_of(there["at"], site)
    return at is not None and before is not None and at >= before


def _said(row: Mapping[str, str], name: str, site: Site) -> object:
    """So that a time, or a number, is the same however it is written."""
    text = row[name].strip()
    if not text:
        return None
    if name in _TIMES:
        return time_of(text, site) or text
    return float(text) if name == "max_m3h" else text


def _id_of(row: Mapping[str, str], site: Site) -> str:
    """The same for the same DMA, start and outcome: a log that is imported again is known again."""
    said = [str(_said(row, name, site)) for name in ("dma", "startedAt", "kind", "outcome")]
    return "log-" + hashlib.sha256("|".join(said).encode()).hexdigest()[:12]


def _overlaps(rows: Sequence[Mapping[str, str]], first_new: int, site: Site) -> Iterator[tuple[str, str]]:
    """Pairs of leaks of one DMA that run at one time, the later row first, which is a new one."""
    running: dict[str, list[tuple[int, int]]] = {}
    for start, place in sorted((time_of(row["startedAt"], site) or 0, place) for place, row in enumerate(rows)):
        row = rows[place]
        if row["outcome"] and row["outcome"] not in LEAK_OUTCOMES:
            continue
        others = running.setdefault(row["dma"], [])
        while others and others[0][0] < start:
            heappop(others)
        for _, other in sorted(others, key=lambda one: one[1]):
            if max(place, other) >= first_new:
                yield rows[max(place, other)]["id"], rows[min(place, other)]["id"]
        heappush(others, (time_of(row["endedAt"], site) or 2**62, place))


def _history(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    was = f"{old['at'] or 'before'} {old['outcome'] or old['kind']} {old['startedAt']}/{old['endedAt']}"
    was += f" by {old['by'] or old['source'] or 'unknown'}"
    return "; ".join(part for part in (old["history"], was, new["history"]) if part)


def text_of(rows: Sequence[Mapping[str, str]]) -> str:
    """The file; columns of our own first, others after them as they were."""
    more = dict.fromkeys(name for row in rows for name in row if name not in COLUMNS)
    out = io.StringIO()
    writer = csv.DictWriter(out, [*COLUMNS, *more], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def rejects_text(refused: Sequence[tuple[int, str, Mapping[str, str]]], file: str) -> str:
    """`file,line,reason` and the row."""
    out = io.StringIO()
    writer = csv.DictWriter(
        out, ["file", "line", "reason", *COLUMNS], restval="", extrasaction="ignore", lineterminator="\n"
    )
    writer.writeheader()
    for line, reason, row in refused:
        writer.writerow({**row, "file": file, "line": line, "reason": reason})
    return out.getvalue()
