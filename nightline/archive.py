"""nightline archive SITE --out DIR"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import click

from nightline.sites import load_site
from nightline.topics import BOOTSTRAP, PREFIX, plain_faults, quiet_client

GAPS: Final = 1
"""Exit code of a run that found records gone which were never archived."""


@click.command()
@click.argument("site", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="The archive's folder.")
@BOOTSTRAP
@PREFIX
@click.option(
    "--every", default=300.0, show_default=True, type=click.FloatRange(min=1), help="Seconds between batches; a full one is "
    "written at once.",
)  # fmt: skip
@click.option("--until-end", is_flag=True, help="Stop when everything is kept that the topics hold now.")
def archive(site: Path, out: Path, bootstrap: str, prefix: str, every: float, until_end: bool) -> None:
    """Keep readings, scored slots, alerts and what people said of them as Parquet files by DMA and day (UTC).

    Runs beside the workers until it is stopped (SIGTERM, Ctrl-C), may be killed at any moment, and goes on where DIR ends.
    `--readings DIR` of backtest, train, evaluate and others reads it. What cannot be read is kept in DIR/rejects.ndjson.
    """
    place = load_site(site)
    from streams.archiver import Archiver  # noqa: PLC0415 - `--help` and a faulty site need no Kafka client
    from training.archive import Archive  # noqa: PLC0415 - pyarrow only when it is used

    with Archive(out, place.name, prefix) as store, _asked_to_stop() as asked, plain_faults(bootstrap), quiet_client():
        with Archiver(bootstrap, prefix, store, _say, every, on_batch=lambda done: _say(done.line())) as archiver:
            done = archiver.run(lambda: bool(asked), until_end)
        counts = store.state.counts
    total = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()) if count)
    click.echo(f"{out}: {total or 'nothing yet'}, since it began")
    if counts.get("rejected"):
        click.echo(f"note: what was rejected is in {out / 'rejects.ndjson'}, with reason, topic, partition and offset")
    if done.gaps:
        sys.exit(GAPS)


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """Signals that came; the batch at hand is written before the command ends."""
    asked: list[int] = []
    before = {number: signal.signal(number, lambda got, _: asked.append(got)) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(line: str) -> None:
    click.echo(f"{datetime.now().astimezone():%H:%M:%S} {line}")
