"""nightline drift SITE --detections PATH"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from models.config import ConfigError
from nightline.readings import Log, at_hand, readings_option
from nightline.sites import load_site

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.network import Site
    from training.drift import Followed


@click.command()
@click.argument("site", type=click.Path(path_type=Path))
@click.option("--detections", type=click.Path(path_type=Path), help="detections.parquet of a backtest, or an archive.")
@readings_option("Instead, history to run through the engine first: a file, a folder, an archive", required=False)
@click.option("--alerts", type=click.Path(path_type=Path), help="alerts.ndjson, or alerts of an archive.  [default: beside]")
@click.option("--model", help="Version to compare with.  [default: the champion of each DMA]")
@click.option("--weeks", type=click.IntRange(1, 520), default=8, show_default=True, help="Whole weeks to report.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON instead.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for drift.json and drift.html.")
@click.option("--fail", is_flag=True, help="Exit with code 1 where a DMA drifts: for cron.")
def drift(
    site: Path, detections: Path | None, readings: Path | Log | None, alerts: Path | None, model: str | None, weeks: int,
    as_json: bool, out: Path | None, fail: bool,
) -> None:  # fmt: skip
    """Say which DMAs no longer look like what their model was trained on: a weekly report. Nothing is changed.

    Each whole week (Monday to Monday, local time) is held against the weeks of the training window: the features, the
    model's score, and how often leaks were alarmed. A person decides what follows.
    """
    from training.drift import drift_report, follow  # noqa: PLC0415 - numba and pyarrow only when they are used

    if (detections is None) == (readings is None):
        raise click.ClickException("found neither or both; possible: --detections PATH, or --readings PATH")
    place = load_site(site)
    followed = follow(place, _bundles(site, place, model))
    if readings is not None:
        _run(place, at_hand(readings, place), followed)
    elif detections is not None:
        _read(place, detections, alerts, followed)
    found = drift_report(place, followed, weeks)
    text = json.dumps(found, ensure_ascii=False, indent=2, allow_nan=False)
    if out is not None:
        from training.drift_page import write_drift  # noqa: PLC0415
        from training.staging import staged  # noqa: PLC0415

        with staged(out) as fresh:
            (fresh / "drift.json").write_text(text + "\n", encoding="utf-8")
            write_drift(fresh / "drift.html", found)
    if as_json:
        click.echo(text)
    else:
        _say(found)
        if out is not None:
            click.echo(f"report: {out / 'drift.html'}")
    if fail and found["drifting"]:
        sys.exit(1)


def _bundles(site: Path, place: Site, version: str | None) -> dict[str, Bundle]:
    """The model of each DMA: its champion, or this version, of the site or of one DMA."""
    from training import registry  # noqa: PLC0415

    if version is None:
        return registry.champions(site, place.dma_row)
    for dma in place.dma_row:
        if version in registry.versions(site, dma):
            return {dma: registry.load(site, dma, version)}
    return dict.fromkeys(place.dma_row, registry.load(site, "*", version))


def _run(place: Site, readings: Path, followed: dict[str, Followed]) -> None:
    from models.engine import StepResult  # noqa: PLC0415
    from nightline.progress import with_progress  # noqa: PLC0415
    from training.backtest import WINDOW_MINUTES, run  # noqa: PLC0415
    from training.drift_sources import leak_alarms  # noqa: PLC0415
    from training.history import read_history  # noqa: PLC0415

    def keep(dma: str, step: StepResult) -> None:
        if dma in followed:
            followed[dma].take(step.detections)
            followed[dma].alarms.append(leak_alarms(step.alerts))

    bundles = {dma: one.weeks.bundle for dma, one in followed.items()}
    run(place, with_progress(read_history(readings, place, WINDOW_MINUTES), "drift"), bundles, keep)
    for one in followed.values():
        one.end()


def _read(place: Site, detections: Path, alerts: Path | None, followed: dict[str, Followed]) -> None:
    from training.drift_sources import alarms_beside, read_detections, read_leak_alarms  # noqa: PLC0415

    if alerts is not None and not alerts.exists():
        raise ConfigError([f"{alerts}: no such file or folder; possible: alerts.ndjson, or alerts of an archive"])
    for dma, rows in read_detections(detections, place):
        if dma in followed:
            followed[dma].take(rows)
    for one in followed.values():
        one.end()
    beside = alerts or alarms_beside(detections)
    if beside is None:
        click.echo(f"note: no alerts beside {detections}: their rate is not judged", err=True)
    for dma, times in ({} if beside is None else read_leak_alarms(beside)).items():
        if dma in followed:
            followed[dma].alarms.append(times)
    for one in followed.values():
        one.has_alarms = beside is not None


def _say(found: Mapping[str, Any]) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from training.drift import notes, suggestion  # noqa: PLC0415

    console = Console()
    console = console if console.is_terminal else Console(width=140)  # a pipe has no width
    count = len(found["weeks"])
    table = Table(title=f"{found['site']}: {count} week{'s' * (count != 1)} from {found['weeks'][0]}")
    for heading in ("DMA", "verdict", "model", "weeks trained", "over its level", "furthest", "weeks in a row", "alarms"):
        table.add_column(heading)
    for dma, row in found["dmas"].items():
        alarms = row["alarms"]
        rates = (
            "–"
            if alarms is None
            else f"{alarms['perDmaMonth'] or 0:.2f} a month, trained {alarms['trainingPerDmaMonth'] or 0:.2f}"
        )
        ratio = "–" if row["ratio"] is None else f"{row['ratio']:.2f}"
        table.add_row(
            dma, row["verdict"], row["model"], str(row["trainingWeeks"]), ratio, row["worst"] or "–",
            str(row["weeksInARow"]), rates,
        )  # fmt: skip
    console.print(table)
    for dma, row in found["dmas"].items():
        for said in row["says"]:
            click.echo(f"{dma}: {said}")
        if row["verdict"] == "drift":
            click.echo(f"  {suggestion(dma, row)}")
    for note in notes(found):
        click.echo(f"note: {note}")
