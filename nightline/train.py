"""nightline train SITE --readings PATH"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from models.config import ConfigError
from nightline.promote import promote_first
from nightline.sites import load_site
from nightline.times import epoch_ms

if TYPE_CHECKING:
    from models.bundle import Bundle

WINDOW_MINUTES = 1440  # a day at a time; the engine's answers do not depend on it

_DMA = click.option("--dma", help="Of one DMA; of the whole site without.")


@click.command()
@click.argument("site", type=click.Path(path_type=Path))
@click.option("--readings", required=True, type=click.Path(path_type=Path), help="A file or folder of history.")
@click.option("--until", help="Learn only from slots that end by then: ISO 8601; local time of the site without offset.")
@_DMA
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option("--trees", type=click.IntRange(1, 10_000), default=100, show_default=True)
@click.option("--max-samples", type=click.IntRange(2, 32_768), default=256, show_default=True, help="Slots in one tree.")
@click.option("--promote", "to_champion", is_flag=True, help="Make it the first champion at once.")
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
    until_ms = None if until is None else epoch_ms(until, place.timezone, "--until")
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
    before = registry.serving_version(site, bundle.scope)
    if to_champion and before is None:
        promote_first(site, place, bundle)
    _say(bundle, folder, to_champion and before in (None, bundle.version))
    if to_champion and before not in (None, bundle.version):
        possible = f"possible: nightline compare SITE {bundle.version}, then promote"
        raise ConfigError([f"not promoted: {before} serves; {possible}"])
    if history.rejects.count:
        click.echo(f"note: {history.rejects.count:,} rows, cells or columns of the history could not be read")


def _say(bundle: Bundle, folder: Path, champion: bool) -> None:
    m = bundle.manifest
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in m.left_out.items() if count)
    click.echo(
        f"{bundle.id}: {m.metrics['rows']:,.0f} slots of {m.metrics['dmas']:.0f} DMAs; left out: {left_out or 'none'}"
    )
    click.echo(f"score: median {m.metrics['score_p50']:.3f}, 99.9 % below {m.metrics['score_p99.9']:.3f}")
    click.echo(f"version {bundle.version}{' is the champion' if champion else ''}: {folder}")
