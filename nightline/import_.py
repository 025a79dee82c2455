"""nightline import csv | battledim"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from models.config import ConfigError
from nightline.calendars import rules_of

if TYPE_CHECKING:
    from training.importers.wide_csv import Imported


@click.group("import")
def import_() -> None:
    """Make a site folder and readings from a data set."""


@import_.command("csv", short_help="A wide CSV or Parquet file of any utility.")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="The site folder to make.")
@click.option("--name", help="Name of the site; default: the name of the folder.")
@click.option("--timezone", help="IANA zone of naive times and of the night, e.g. Europe/Rome; default: UTC.")
@click.option("--country", help="ISO code, e.g. IT: its public holidays are expected like Sundays.")
@click.option("--subdivision", help="Code of a part of the country with holidays of its own, e.g. BZ.")
@click.option("--unit", default="m3/h", show_default=True, help="Unit of flow columns whose name does not end in one.")
@click.option("--pressure", multiple=True, metavar="PATTERN", help="Columns that are pressures, e.g. 'P_*'.")
@click.option("--pressure-unit", default="kPa", show_default=True, help="kPa, MPa, bar or m[H2O].")
@click.option("--skip", multiple=True, metavar="PATTERN", help="Columns to leave out, e.g. label.")
@click.option(
    "--dma-per-column/--one-dma-for-all",
    default=True,
    show_default=True,
    help="Every flow column the inlet of a DMA of its own, or all of them inlets of one.",
)
@click.option("--one-dma", metavar="NAME", help="The same as --one-dma-for-all, with a name for the DMA.")
@click.option("--time-column", help="Default: timestamp, datetime, time or date.")
@click.option("--time-format", help="strptime format of the times, e.g. '%d/%m/%Y %H:%M'; default: ISO 8601.")
@click.option("--slot-minutes", type=int, help="1, 5, 15, 30 or 60; default: from the data.")
@click.option("--force", is_flag=True, help="Write over a site folder that is already there.")
def csv_(
    source: Path,
    out: Path,
    name: str | None,
    timezone: str | None,
    country: str | None,
    subdivision: str | None,
    unit: str,
    pressure: tuple[str, ...],
    pressure_unit: str,
    skip: tuple[str, ...],
    dma_per_column: bool,
    one_dma: str | None,
    time_column: str | None,
    time_format: str | None,
    slot_minutes: int | None,
    force: bool,
) -> None:
    """From a wide CSV or Parquet file: a time column and one column per meter.

    Units may stand at the end of the columns' names (dma1_lps, north_m3h, gate_kpa). The flow columns become inlets.
    """
    from training.importers.wide_csv import CsvOptions, import_csv  # noqa: PLC0415 - pyarrow only when it is used

    if faults := rules_of(country, subdivision).faults:
        raise ConfigError(faults)
    title = name or out.resolve().name
    options = CsvOptions(
        name=title,
        timezone=timezone,
        country=country,
        subdivision=subdivision,
        unit=unit,
        pressure=pressure,
        pressure_unit=pressure_unit,
        skip=skip,
        one_dma=one_dma or (None if dma_per_column else title),
        time_column=time_column,
        time_format=time_format,
        slot_minutes=slot_minutes,
        force=force,
    )
    _say(import_csv(source, out, options), out)


@import_.command(short_help="L-Town's SCADA files (BattLeDIM) and its network.")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="The site folder to make.")
@click.option("--force", is_flag=True, help="Write over a site folder that is already there.")
def battledim(source: Path, out: Path, force: bool) -> None:
    """From L-Town's SCADA files and its network, L-TOWN.inp, in one folder."""
    from training.importers.battledim import import_battledim  # noqa: PLC0415 - pyarrow only when it is used

    _say(import_battledim(source, out, force=force), out)


def _say(made: Imported, out: Path) -> None:
    click.echo(
        f"{out}: {made.dmas} DMA{'s' * (made.dmas != 1)}, {made.meters} meters, {made.rows:,} rows of readings, "
        f"slots of {made.slot_minutes} min" + (f", {made.labels} labels" if made.labels else "")
    )
    for note in made.notes:
        click.echo(f"note: {note}")
    if made.rejects:
        click.echo(f"note: {made.rejects:,} cells, rows or columns were left out; see {out / 'rejects.csv'}")
    labels = f" --labels {out / 'labels.csv'}" if made.labels else ""
    click.echo(f"next: nightline backtest {out} --readings {out / 'readings'}{labels} --out {out / 'backtest'}")
