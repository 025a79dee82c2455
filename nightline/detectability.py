"""nightline detectability SITE --readings PATH"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from models.config import ConfigError, nearest
from nightline.readings import Log, at_hand, readings_option
from nightline.rules import exponent, pressure_options
from nightline.sites import load_site

if TYPE_CHECKING:
    from training.history import Window


@click.command()
@click.argument("site", type=click.Path(path_type=Path))
@readings_option()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for detectability.json and .html.")
@click.option("--dma", "dmas", multiple=True, help="Of this DMA alone; may be given more than once.")
@click.option("--starts", type=click.IntRange(1, 1000), default=10, show_default=True, help="Moments to try bursts at.")
@click.option("--share", type=click.FloatRange(0, 1, min_open=True), default=0.8, show_default=True,
              help="Share of the starts at which the size must be found.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of the starts.")
@pressure_options
@click.option("--no-model", is_flag=True, help="Do not load the champion models of the site.")
def detectability(
    site: Path, readings: Path | Log, out: Path | None, dmas: tuple[str, ...], starts: int, share: float, seed: int,
    pipes: str, n1: float | None, no_model: bool,
) -> None:  # fmt: skip
    """The smallest burst that would be found in each DMA, within 24 h and within 7 days.

    Bursts are added to the DMA's own history at several moments, and their size halved in on. So it is known, before a
    crew relies on it, what silence about a DMA means at the site's alert budget.
    """
    from rich.console import Console  # noqa: PLC0415 - `--help` and a faulty site need none of these
    from rich.table import Table  # noqa: PLC0415

    from nightline.progress import with_progress  # noqa: PLC0415
    from training.backtest import WINDOW_MINUTES, write_json  # noqa: PLC0415
    from training.detectability import as_json  # noqa: PLC0415
    from training.detectability import detectability as measure  # noqa: PLC0415
    from training.detectability_page import cells, write_detectability  # noqa: PLC0415
    from training.history import read_history  # noqa: PLC0415
    from training.page import short  # noqa: PLC0415
    from training.registry import champions  # noqa: PLC0415
    from training.staging import staged  # noqa: PLC0415

    place = load_site(site)
    for dma in dmas:
        if dma not in place.dma_row:
            raise ConfigError([f"--dma {dma!r} is not in network.toml; {nearest(dma, place.dma_row)}"])
    bundle = None if no_model else champions(site, place.dma_row)
    source = at_hand(readings, place)

    def history(what: str) -> Iterator[Window]:
        return with_progress(read_history(source, place, WINDOW_MINUTES), what)

    chosen = dmas or tuple(place.dma_row)
    found = measure(place, history, bundle, dmas=chosen, starts=starts, seed=seed, n1=exponent(pipes, n1))
    made = as_json(place, found, share)
    table = Table(title=f"smallest burst found at {share:.0%} of the starts")
    for heading in ("DMA", "mean inflow", "starts", "24 h, m³/h", "of mean", "7 days, m³/h", "of mean"):
        table.add_column(heading, justify="left" if heading == "DMA" else "right")
    for dma, part in made["dmas"].items():
        table.add_row(dma, short(part["meanInflow_m3h"]), str(part["trials"]), *cells(part))
    console = Console()
    (console if console.is_terminal else Console(width=120)).print(table)
    for row in found:
        click.echo(f"note: {row.note}")
        if len(row.trials) < starts:
            click.echo(
                f"note: {row.dma}: {len(row.trials)} of {starts} starts were quiet; the others had alarms of their own"
            )
    if out is not None:
        with staged(out) as fresh:
            write_json(fresh / "detectability.json", made)
            write_detectability(fresh / "detectability.html", made)
        click.echo(f"page: {out / 'detectability.html'}")
