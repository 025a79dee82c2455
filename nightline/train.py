"""nightline train SITE --readings PATH, nightline promote SITE VERSION"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import click

from nightline.sites import load_site

if TYPE_CHECKING:
    from models.bundle import Bundle

WINDOW_MINUTES = 1440  # a day at a time; the engine's answers do not depend on it

_DMA = click.option("--dma", help="Of one DMA, for backtests, not yet for the worker; of the whole site without.")


@click.command()
@click.argument("site", type=click.Path(path_type=Path))
@click.option("--readings", required=True, type=click.Path(path_type=Path), help="A file or folder of history.")
@click.option("--until", help="Learn only from slots that end by then: ISO 8601; local time of the site without offset.")
@_DMA
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option("--trees", type=click.IntRange(1, 10_000), default=100, show_default=True)
@click.option("--max-samples", type=click.IntRange(2, 32_768), default=256, show_default=True, help="Slots in one tree.")
@click.option("--promote", "to_champion", is_flag=True, help="Make it the champion at once.")
def train(
    site: Path,
    readings: Path,
    until: str | None,
    dma: str | None,
    seed: int,
    trees: int,
    max_samples: int,
    to_champion: bool,
) -> None:
    """Fit the isolation forest on a site's history.

    The history runs through the engine; slots with an open event or without enough data are left out. The model lands in
    SITE/models and serves nobody before it is promoted.
    """
    place = load_site(site)
    until_ms = None if until is None else _epoch_ms(until, place.timezone)
    from rich.console import Console  # noqa: PLC0415 - `--help` and a faulty site need none of these
    from rich.progress import Progress  # noqa: PLC0415

    from training import registry  # noqa: PLC0415
    from training.fit import train as fit  # noqa: PLC0415
    from training.history import read_history  # noqa: PLC0415

    history = read_history(readings, place, WINDOW_MINUTES)
    first_ms, last_ms = history.first_ms, min(history.last_ms, until_ms or history.last_ms)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("train", total=max(1, last_ms - first_ms))
        bundle = fit(
            place,
            history,
            seed=seed,
            trees=trees,
            max_samples=max_samples,
            dmas=None if dma is None else [dma],
            clean_until_ms=until_ms,
            on_window=lambda window: progress.update(task, completed=min(window.end_ms, last_ms) - first_ms),
        )
    folder = registry.save(site, bundle)
    if to_champion:
        registry.promote(site, bundle.version, bundle.scope)
    _say(bundle, folder, to_champion)
    if history.rejects.count:
        click.echo(f"note: {history.rejects.count:,} rows, cells or columns of the history could not be read")


@click.command()
@click.argument("site", type=click.Path(path_type=Path))
@click.argument("version")
@_DMA
def promote(site: Path, version: str, dma: str | None) -> None:
    """Make a trained model the champion. An older version rolls back."""
    load_site(site)
    from training import registry  # noqa: PLC0415 - a faulty site needs no numba

    before = registry.alias_version(site, dma or "*", "champion")
    bundle = registry.promote(site, version, dma or "*")
    click.echo(f"champion of {bundle.id}: {version}" + (f", before: {before}" if before else ""))


def _epoch_ms(text: str, timezone: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.ClickException(f"--until: found {text!r}; possible: ISO 8601, e.g. 2026-03-01T00:00") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(timezone))
    return int(moment.timestamp() * 1000)


def _say(bundle: Bundle, folder: Path, champion: bool) -> None:
    m = bundle.manifest
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in m.left_out.items() if count)
    click.echo(
        f"{bundle.id}: {m.metrics['rows']:,.0f} slots of {m.metrics['dmas']:.0f} DMAs; left out: {left_out or 'none'}"
    )
    click.echo(f"score: median {m.metrics['score_p50']:.3f}, 99.9 % below {m.metrics['score_p99.9']:.3f}")
    click.echo(f"version {bundle.version}{' is the champion' if champion else ''}: {folder}")
