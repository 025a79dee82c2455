"""nightline replay SITE --readings PATH"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nightline.readings import Log, at_hand, readings_option
from nightline.sites import load_site
from nightline.topics import BOOTSTRAP, PREFIX, plain_faults


@click.command("replay")
@click.argument("site", type=click.Path(path_type=Path))
@readings_option()
@BOOTSTRAP
@PREFIX
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), help="Times real time; as fast as possible without.")
@click.option("--layout", type=click.Choice(["columnar", "single"]), default="columnar", show_default=True)
@click.option("--window", type=click.IntRange(min=1), help="Minutes of history a message or part holds.")
@click.option("--no-wait", is_flag=True, help="Publish without waiting for a worker to follow. "
              "Much faster than real time that makes readings late.")  # fmt: skip
def replay(
    site: Path,
    readings: Path | Log,
    bootstrap: str,
    prefix: str,
    speed: float | None,
    layout: str,
    window: int | None,
    no_wait: bool,
) -> None:
    """Publish history to Kafka, as if it happened."""
    found = load_site(site)
    from streams.replay import (  # noqa: PLC0415 - `--help` and a faulty site need no Kafka client
        Layout,
        NoProgressError,
        Replay,
        Replayed,
        window_minutes,
    )
    from training.history import read_history  # noqa: PLC0415

    widest = window_minutes(found)
    if window is not None and window > widest and not no_wait:
        raise click.ClickException(
            f"--window: found {window} minutes; possible: at most {widest}, half of the site's latenessMinutes, or else "
            "readings come too late for their slot"
        )
    history = read_history(at_hand(readings, found), found, window or widest)
    try:
        wire: Layout = "single" if layout == "single" else "columnar"
        with plain_faults(bootstrap), Replay(found, bootstrap, prefix, wire, wait=not no_wait) as feed, _bar() as bar:
            task = bar.add_task("replay", total=max(1, history.last_ms - history.first_ms), readings=0)

            def shown(end_ms: int, done: Replayed) -> None:
                bar.update(task, completed=min(end_ms, history.last_ms) - history.first_ms, readings=done.readings)

            done = feed.run(history, speed, shown)
    except NoProgressError as error:
        raise click.ClickException(str(error)) from None
    click.echo(
        f"{done.readings} readings in {done.messages} messages, {done.windows} windows; {history.rejects.count} rejected"
    )


def _bar() -> Any:
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %  {task.fields[readings]:,} readings"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
