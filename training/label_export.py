"""Outcomes that people gave to alerts, as labels: from an archive's commands and alerts, with where each comes from.

Only what was raised gets a label this way, so how many leaks a model misses cannot be learned from these labels alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow.compute as pc

from models.cloudevents import rfc3339
from models.config import ConfigError
from models.network import Site
from training.archive import STATE, read_state, refuse_unfinished
from training.archive_tables import ALERTS, COMMANDS, read_file
from training.labels import ABRUPT, INCIPIENT, LEAK_OUTCOMES, faults_of

SOURCE: Final = "alert"
_FACTS: Final = ("alertId", "revision", "type", "scopeType", "scopeId", "startedAt", "endedAt", "excess_m3h", "origin")
_SAID: Final = ("at", "commandId", "alertId", "dma", "action", "outcome", "by", "comment")


@dataclass(frozen=True)
class Exported:
    """Labels as rows of a labels.csv, in order of their start; and the closed alerts that no label could be made of."""

    rows: list[dict[str, str]]
    refused: list[tuple[str, str]]
    """Alert id and reason."""


def export_labels(archive: Path, site: Site) -> Exported:
    """One label for each closed alert: the outcome that was given last counts, the others are its `history`.

    A label starts and ends with its alert. Where the alert has not ended, a live one ends when it was closed; of a
    replayed one nobody knows. Its size is the largest excess flow of any revision. `kind` is abrupt where a burst was
    raised or confirmed, else incipient, and empty where it was no leak.

    Raises ConfigError where `archive` is none, or another site's.
    """
    state = read_state(archive)
    if state is None:
        raise ConfigError([f"{archive}: holds no {STATE}; possible: a folder that nightline archive keeps"])
    if state.site != site.name:
        raise ConfigError([f"{archive}: is the archive of site {state.site!r}, not {site.name!r}; possible: its own site"])
    refuse_unfinished(archive, state)
    closes: dict[str, list[dict[str, Any]]] = {}
    known: set[str] = set()
    for said in sorted(_rows(archive / COMMANDS, _SAID), key=lambda said: (said["at"], said["commandId"])):
        if said["action"] == "close" and said["commandId"] not in known:
            known.add(said["commandId"])
            closes.setdefault(said["alertId"], []).append(said)
    alerts: dict[str, list[dict[str, Any]]] = {}
    for fact in sorted(_rows(archive / ALERTS, _FACTS), key=lambda fact: fact["revision"]):
        if fact["alertId"] in closes:
            alerts.setdefault(fact["alertId"], []).append(fact)
    rows, refused = [], []
    for alert_id, said_of in sorted(closes.items()):
        revisions = alerts.get(alert_id)
        if revisions is None:
            refused.append((alert_id, "the archive holds no revision of it; possible: an archive that began before it"))
            continue
        row = _label(revisions, said_of)
        faults = faults_of(row, site)
        if faults:
            refused.append((alert_id, "; ".join(faults)))
        else:
            rows.append(row)
    rows.sort(key=lambda row: (row["startedAt"], row["dma"], row["id"]))
    return Exported(rows, refused)


def _label(revisions: list[dict[str, Any]], closes: list[dict[str, Any]]) -> dict[str, str]:
    last, said = revisions[-1], closes[-1]
    outcome = said["outcome"]
    is_leak = outcome in LEAK_OUTCOMES
    kind = ABRUPT if "burst" in (last["type"], outcome.removeprefix("confirmed_")) else INCIPIENT
    sizes = [one["excess_m3h"] for one in revisions if one["excess_m3h"] is not None]
    ended = last["endedAt"]
    if ended is None and last["origin"] == "live":
        ended = max(said["at"], last["startedAt"])
    return {
        "dma": last["scopeId"] if last["scopeType"] == "dma" else said["dma"],
        "kind": kind if is_leak else "",
        "startedAt": rfc3339(last["startedAt"]),
        "endedAt": "" if ended is None else rfc3339(ended),
        "id": last["alertId"],
        "max_m3h": f"{max(sizes):.3f}" if is_leak and sizes and max(sizes) > 0 else "",
        "peakAt": "",
        "outcome": outcome,
        "source": SOURCE,
        "alertId": last["alertId"],
        "by": said["by"],
        "at": rfc3339(said["at"]),
        "comment": said["comment"] or "",
        "history": "; ".join(f"{rfc3339(one['at'])} {one['outcome']} by {one['by']}" for one in closes[:-1]),
    }


def _rows(folder: Path, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Rows of all files below, times as epoch ms."""
    for file in sorted(folder.glob("**/*.parquet")):
        table = read_file(file).select(list(columns))
        for at, field in enumerate(table.schema):
            if str(field.type).startswith("timestamp"):
                table = table.set_column(at, field.name, pc.cast(table.column(at), "int64"))
        yield from table.to_pylist()
