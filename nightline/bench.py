"""nightline bench"""

from __future__ import annotations

import importlib
import json
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from benchmarks.measure import Row, Sample

WORKLOADS = (
    "kernels",
    "forest",
    "codec",
    "engine",
    "transport",
    "chain",
    "latency",
    "ltown",
    "memory",
    "scaling",
    "train",
)
PLOT = Path("out") / "bench.png"


@click.command()
@click.option("--only", multiple=True, type=click.Choice(WORKLOADS), help="One workload; may be given more than once.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON, with every peer's figure.")
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), default=PLOT, show_default=True,
    help="Where to draw ours beside the peers', as PNG.",
)  # fmt: skip
@click.pass_context
def bench(context: click.Context, only: tuple[str, ...], as_json: bool, plot: Path) -> None:
    """Print the scoreboard: our speed beside our peers'.

    Medians of several rounds in which the contestants take turns; compile time is never in them. A row stands only
    after its result was held against its peer's or a naive one's; a result that differs is named, and the exit code is 1.
    Peers that need an environment of their own are installed into the cache folder when they are first asked for.
    """
    root = Path(__file__).resolve().parent.parent
    if not (root / "benchmarks" / "measure.py").is_file():
        raise click.ClickException(
            f"{root} holds no benchmarks folder; possible: run it in a checkout of the repository, with its dev extra"
        )
    sys.path.insert(0, str(root))
    # peers' own warnings say nothing about the score
    warnings.simplefilter("ignore")
    rows: dict[str, list[Row]] = {}
    failed: list[str] = []
    for name in only or WORKLOADS:
        begin = time.monotonic()
        click.echo(f"{name} …", err=True)
        rows[name] = list(_rows(name, failed))
        click.echo(f"{name}: {time.monotonic() - begin:.0f} s", err=True)
    if as_json:
        click.echo(json.dumps([_plain(name, row) for name, found in rows.items() for row in found], indent=2))
    else:
        _print([row for found in rows.values() for row in found])
    _draw(rows, plot)
    if failed:
        click.echo(f"error: {', '.join(dict.fromkeys(failed))}: a result differs, or the workload ended early", err=True)
        context.exit(1)


def _rows(name: str, failed: list[str]) -> Iterator[Row]:
    """The rows of a workload. One that goes wrong ends with a row that says so, and its name in `failed`."""
    from benchmarks.measure import Row, SkippedError  # noqa: PLC0415 - only in a checkout

    try:
        module = importlib.import_module(f"benchmarks.{name}")
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"workload {name} needs {error.name}; install nightline with its dev, training and demo extras"
        ) from None
    try:
        yield from module.run()
    except SkippedError as why:
        yield Row.without(name, f"skipped: {why}")
    except Exception as error:
        failed.append(name)
        said = [line.strip() for line in str(error).splitlines() if line.strip()]
        click.echo(f"error: workload {name}: {type(error).__name__}: {'; '.join(said[:8])}", err=True)
        yield Row.without(name, f"FAILED: {said[0][:160] if said else type(error).__name__}")


def _plain(name: str, row: Row) -> dict[str, Any]:
    return {"workload": name, **asdict(row), "ratio": row.ratio, "met": row.met}


def _draw(rows: dict[str, list[Row]], path: Path) -> None:
    from benchmarks.plot import draw  # noqa: PLC0415 - only in a checkout

    path.parent.mkdir(parents=True, exist_ok=True)
    if draw(rows, path):
        click.echo(f"plot: {path}", err=True)


def _shown(sample: Sample | None) -> str:
    def short(value: float) -> str:
        if value >= 1e6:
            return f"{value / 1e6:.2f} M"
        return f"{value / 1e3:.0f} k" if value >= 1e4 else f"{value:.3g}" if value < 100 else f"{value:.0f}"

    if sample is None:
        return "–"
    return f"{short(sample.median)} ({short(sample.low)}–{short(sample.high)})"


def _peer(row: Row) -> str:
    """The best peer's name, and those that could not run."""
    absent = (f"{name}: {why.partition(':')[0]}" for name, why in row.absent.items())
    return "\n".join([row.peer_name] * bool(row.peer_name) + [*absent])


def _print(rows: list[Row]) -> None:
    from rich.console import Console  # noqa: PLC0415 - not needed for --json
    from rich.table import Table  # noqa: PLC0415

    table = Table(title="median (min–max)")
    for heading in ("work", "unit", "ours", "best peer", "", "ratio", "target", "checked"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        target = "" if row.target is None else f"{'≤' if row.better == 'less' else '≥'} {row.target:,.4g}"
        mark = {None: "", True: " met", False: " missed"}[row.met]
        table.add_row(
            row.work,
            row.unit,
            _shown(row.ours),
            _shown(row.peer),
            _peer(row),
            "–" if row.ratio is None else f"{row.ratio:.3g}×",
            target + mark,
            row.correct,
        )
    console = Console()
    # a pipe has no width; a table cut to 80 columns would be unreadable
    (console if console.is_terminal else Console(width=200)).print(table)
