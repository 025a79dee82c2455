"""nightline bench"""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from benchmarks.measure import Row, Sample

WORKLOADS = ("kernels", "forest", "codec", "engine", "transport", "chain")


@click.command()
@click.option("--only", multiple=True, type=click.Choice(WORKLOADS), help="One workload; may be given more than once.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
def bench(only: tuple[str, ...], as_json: bool) -> None:
    """Print the scoreboard: our speed beside our peers'.

    Medians of several rounds in which the contestants take turns; compile time is never in them. A row stands only
    after its result was held against its peer's or a naive one's.
    """
    root = Path(__file__).resolve().parent.parent
    if not (root / "benchmarks" / "measure.py").is_file():
        raise click.ClickException(
            f"{root} holds no benchmarks folder; possible: run it in a checkout of the repository, with its dev extra"
        )
    sys.path.insert(0, str(root))
    # peers' own warnings say nothing about the score
    warnings.simplefilter("ignore")
    rows: list[Row] = []
    for name in only or WORKLOADS:
        click.echo(f"{name} …", err=True)
        try:
            module = importlib.import_module(f"benchmarks.{name}")
        except ModuleNotFoundError as error:
            raise click.ClickException(
                f"workload {name} needs {error.name}; install nightline with its dev, training and demo extras"
            ) from None
        rows += module.run()
    if as_json:
        click.echo(json.dumps([_plain(row) for row in rows], indent=2))
    else:
        _print(rows)


def _plain(row: Row) -> dict[str, Any]:
    return {**asdict(row), "ratio": row.ratio, "met": row.met}


def _shown(sample: Sample) -> str:
    def short(value: float) -> str:
        if value >= 1e6:
            return f"{value / 1e6:.2f} M"
        return f"{value / 1e3:.0f} k" if value >= 1e4 else f"{value:.3g}" if value < 100 else f"{value:.0f}"

    return f"{short(sample.median)} ({short(sample.low)}–{short(sample.high)})"


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
            "–" if row.peer is None else _shown(row.peer),
            row.peer_name,
            "–" if row.ratio is None else f"{row.ratio:.3g}×",
            target + mark,
            row.correct,
        )
    console = Console()
    # a pipe has no width; a table cut to 80 columns would be unreadable
    (console if console.is_terminal else Console(width=200)).print(table)
