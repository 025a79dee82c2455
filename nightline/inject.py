"""nightline inject SITE --readings PATH --out DIR"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import click

from models.config import ConfigError, nearest
from nightline.readings import Log, at_hand, readings_option
from nightline.rules import exponent, pressure_options
from nightline.sites import load_site

if TYPE_CHECKING:
    from models.network import Site
    from training.injection.leaks import Injector, Planted
    from training.injection.recorded import Recorded

KINDS = {"burst": "abrupt", "incipient": "incipient"}
DAY_MS = 86_400_000
DEFAULT_RAMP, DEFAULT_DAYS = "14d", {"burst": 5.0, "incipient": 28.0}
_UNITS_MS = {"h": 3_600_000, "d": DAY_MS}


@click.command()
@click.argument("site", type=click.Path(path_type=Path))
@readings_option()
@click.option("--labels", type=click.Path(path_type=Path), help="Leaks known already, to be kept in OUT/labels.csv.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the new history.")
@click.option("--dma", "dmas", multiple=True, help="Where; more than one with --campaign. Default: the only one, or all.")
@click.option("--kind", type=click.Choice(list(KINDS)), help="Default: burst; with --campaign both.")
@click.option("--size", help="'12.5m3h', or '8%' of the DMA's mean inflow; with --campaign a range, '3-40%' by default.")
@click.option("--start", help="ISO 8601; local time of the site without an offset.")
@click.option("--ramp", default=DEFAULT_RAMP, show_default=True, help="How long an incipient leak grows: '36h', '10d'.")
@click.option(
    "--days", type=click.FloatRange(min=0, min_open=True), help="How long it runs; default: burst 5, incipient 28."
)
@click.option("--campaign", type=click.IntRange(1, 10_000), metavar="N", help="Draw N leaks of all sizes, hours and DMAs.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of the campaign.")
@click.option("--clean-days", type=click.FloatRange(min=0), default=42.0, show_default=True,
              help="A campaign leaves so much of the beginning clean.")  # fmt: skip
@pressure_options
def inject(
    site: Path, readings: Path | Log, labels: Path | None, out: Path, dmas: tuple[str, ...], kind: str | None,
    size: str | None, start: str | None, ramp: str, days: float | None, campaign: int | None, seed: int,
    clean_days: float, pipes: str, n1: float | None,
) -> None:  # fmt: skip
    """Add leaks to a history, and write it with labels: OUT/readings, in the same form, and OUT/labels.csv.

    The water comes in through the DMA's inlets as their flows are at the time. With pressure loggers in the DMA it follows
    their pressure (FAVAD) and pulls down those that fall when the inflow grows. The original files are not changed.

        nightline inject SITE --readings PATH --out leaky --dma ALFA --size 8% --start 2026-03-01T02:00

        nightline inject SITE --readings PATH --out leaky --campaign 40 --seed 1
    """
    from rich.console import Console  # noqa: PLC0415 - `--help` and a faulty site need none of these

    from nightline.progress import with_progress  # noqa: PLC0415
    from training.backtest import WINDOW_MINUTES  # noqa: PLC0415
    from training.history import read_history  # noqa: PLC0415
    from training.importers.site_folder import write_labels  # noqa: PLC0415
    from training.injection.campaign import labels_of  # noqa: PLC0415
    from training.injection.files import rewrite  # noqa: PLC0415
    from training.injection.leaks import Injector  # noqa: PLC0415
    from training.injection.recorded import Recorded  # noqa: PLC0415
    from training.labels import read_labels  # noqa: PLC0415
    from training.staging import staged  # noqa: PLC0415

    place = load_site(site)
    for dma in dmas:
        if dma not in place.dma_row:
            raise ConfigError([f"--dma {dma!r} is not in network.toml; {nearest(dma, place.dma_row)}"])
    if isinstance(readings, Path):
        _check_out(out, readings)
    known = [] if labels is None else read_labels(labels, place)
    source = at_hand(readings, place)
    history = read_history(source, place, WINDOW_MINUTES)
    recorded = Recorded(place, with_progress(history, "read"))
    if campaign:
        leaks = _campaign(recorded, dmas or tuple(place.dma_row), kind, size, campaign, seed, clean_days)
    else:
        leaks = [_single(recorded, place, dmas, kind or "burst", size, start, ramp, days)]
    injector = Injector(recorded, exponent(pipes, n1))
    additions = injector.additions(leaks)
    with staged(out) as fresh, Console(stderr=True).status("writing the readings"):
        (fresh / "readings").mkdir()
        changed = rewrite(source, fresh / "readings", place, additions)
        write_labels(fresh / "labels.csv", labels_of([*known, *(leak.label for leak in leaks)], place))
    _say(leaks, injector, changed, site, out)


def _check_out(out: Path, readings: Path) -> None:
    if readings.is_dir() and readings.resolve() in (out.resolve(), (out / "readings").resolve(), *out.resolve().parents):
        raise ConfigError([f"--out {out}: lies in the readings, {readings}; possible: a folder outside of them"])
    if (out / "readings").resolve() == readings.resolve().parent:
        raise ConfigError([f"--out {out}: would write over the readings, {readings}; possible: another folder"])


def _campaign(
    recorded: Recorded, dmas: tuple[str, ...], kind: str | None, size: str | None, count: int, seed: int, clean_days: float
) -> list[Planted]:
    from training.injection.campaign import Plan, draw  # noqa: PLC0415

    kinds = tuple(KINDS.values()) if kind is None else (KINDS[kind],)
    found = re.fullmatch(r"\s*([\d.]+)\s*-\s*([\d.]+)\s*%\s*", size or "3-40%")
    low, high = (float(end) / 100 for end in found.groups()) if found else (0.0, 0.0)
    if not 0 < low <= high:
        raise ConfigError([f"--size {size!r}; possible with --campaign: a range of the mean inflow, e.g. '3-40%'"])
    return draw(recorded, count, seed, dmas, Plan(kinds=kinds, shares=(low, high), clean_days=clean_days))


def _single(
    recorded: Recorded, site: Site, dmas: tuple[str, ...], kind: str, size: str | None, start: str | None, ramp: str,
    days: float | None,
) -> Planted:  # fmt: skip
    from training.injection.leaks import Planted  # noqa: PLC0415

    chosen = dmas or tuple(site.dma_row)
    if len(chosen) != 1:
        raise ConfigError([f"--dma: found {', '.join(dmas) or 'none'}; possible: one of {', '.join(site.dma_row)}"])
    first_ms, last_ms = recorded.span_ms(chosen[0])
    if start is None:
        raise ConfigError(["--start is missing; possible: ISO 8601, e.g. 2026-03-01T02:00, or --campaign N"])
    started_ms = _epoch_ms(start, site.timezone)
    if not first_ms <= started_ms < last_ms:
        raise ConfigError([f"--start {start!r}: outside the readings of {chosen[0]}; possible: a time that they cover"])
    lasts_ms = int((days or DEFAULT_DAYS[kind]) * DAY_MS)
    return Planted(
        "leak-001", chosen[0], started_ms, started_ms + lasts_ms, _size_m3h(size, recorded, chosen[0]),
        0 if kind == "burst" else _duration_ms(ramp),
    )  # fmt: skip


def _size_m3h(text: str | None, recorded: Recorded, dma: str) -> float:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(m3h|m3/h|%)\s*", text or "")
    if not found or not float(found[1]) > 0:
        raise ConfigError([f"--size {text!r}; possible: e.g. '12.5m3h', or '8%' of the mean inflow of {dma}"])
    size = float(found[1])
    return size / 100 * recorded.mean_inflow(dma) if found[2] == "%" else size


def _duration_ms(text: str) -> int:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([hd])\s*", text)
    if not found or not float(found[1]) > 0:
        raise ConfigError([f"--ramp {text!r}; possible: hours or days, e.g. '36h', '10d'"])
    return int(float(found[1]) * _UNITS_MS[found[2]])


def _epoch_ms(text: str, timezone: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError([f"--start {text!r}; possible: ISO 8601, e.g. 2026-03-01T02:00"]) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(timezone))).timestamp() * 1000)


def _say(leaks: list[Planted], injector: Injector, changed: int, site: Path, out: Path) -> None:
    bursts = sum(leak.ramp_ms == 0 for leak in leaks)
    click.echo(f"{out}: {bursts} bursts and {len(leaks) - bursts} incipient leaks; {changed:,} values changed")
    for dma in dict.fromkeys(leak.dma for leak in leaks):
        click.echo(f"  {injector.hydraulics(dma).note}")
    where = f"--readings {out / 'readings'} --labels {out / 'labels.csv'}"
    click.echo(f"next: nightline evaluate {site} {where} --out {out / 'evaluate'}")
