"""`--readings`: history in files, in an archive, or straight from the topic of readings.

What a topic holds is archived into a temporary folder first. So memory stays bounded, and order, repeats, corrections,
rejects and gaps are those of an archive.
"""

from __future__ import annotations

import contextlib
import math
import re
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from models.config import ConfigError, nearest
from nightline.topics import DEFAULT_PREFIX, brokers, plain_faults, quiet_client

if TYPE_CHECKING:
    from models.network import Site
    from streams.archiver import Progress

FORM: Final = "kafka://HOST:PORT[,HOST:PORT…][/PREFIX]"
EXAMPLE: Final = "kafka://127.0.0.1:9092/nightline"
FOLDER: Final = "nightline-kafka-"
"""What the names of temporary folders begin with."""
MOST_NAMED: Final = 5


@dataclass(frozen=True)
class Log:
    """The topic of readings of one prefix."""

    bootstrap: str
    prefix: str

    def __str__(self) -> str:
        return f"kafka://{self.bootstrap}/{self.prefix}"


class _Source(click.ParamType):
    """A path, or FORM: pathlib would make one slash of two."""

    name = "path"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,  # noqa: ARG002 - click's signature
        ctx: click.Context | None,  # noqa: ARG002
    ) -> Path | Log:
        if isinstance(value, Path | Log):
            return value
        scheme = re.match(r"(kafka:|[a-z][a-z0-9+.-]*://)", value, re.IGNORECASE)
        if scheme is None:
            return Path(value)
        address, _, prefix = value.removeprefix("kafka://").partition("/")
        found = brokers(address) if value.startswith("kafka://") else None
        named = prefix.removesuffix("/") or DEFAULT_PREFIX
        if found is None or re.fullmatch(r"[A-Za-z0-9._-]{1,200}", named) is None:
            possible = f"possible: {FORM}, e.g. {EXAMPLE}, or a file or folder"
            raise click.ClickException(f"--readings: found {value!r}; {possible}")
        return Log(found, named)


def readings_option(text: str = "CSV or Parquet file, a folder of them, an archive", *, required: bool = True) -> Any:
    """`--readings`, which a command hands to `at_hand`."""
    return click.option("--readings", required=required, type=_Source(), help=f"{text}, or {FORM}.")


def at_hand(readings: Path | Log, site: Site) -> Path:
    """What `training.history.read_history` reads: the path itself, or all that the topic holds now.

    Call it once in a command, for every call reads the topic. The folder goes when the command ends, by SIGTERM too.
    Raises click.ClickException or ConfigError, of one line, where there is nothing to read for this site.
    """
    if isinstance(readings, Path):
        return readings
    from streams.topics import READINGS, topic_name  # noqa: PLC0415 - files need no Kafka client

    topic = topic_name(readings.prefix, READINGS)
    with plain_faults(readings.bootstrap), quiet_client():
        _check_topic(readings, topic)
        context = click.get_current_context()
        context.with_resource(_leaving_by_signal())
        folder = Path(context.with_resource(tempfile.TemporaryDirectory(prefix=FOLDER)))
        done = _fetch(readings, site, folder)
    _check_found(readings, topic, site, folder, done)
    size = sum(file.stat().st_size for file in folder.rglob("*.parquet")) / 1e6
    _note(
        f"{readings}: {done.counts['readings']:,} readings of {len(done.dmas)} DMA{'s' * (len(done.dmas) != 1)}, "
        f"{done.counts.get('rejected', 0):,} rejected; {size:,.0f} MB in {folder} until this command ends"
    )
    return folder


def _check_topic(log: Log, topic: str) -> None:
    """Before anything asks for the topic: an embedded broker would make it."""
    from streams.topics import admin, prefixes_of  # noqa: PLC0415

    with admin(log.bootstrap) as client:
        prefixes = prefixes_of(client)
    if log.prefix not in prefixes:
        others = ", ".join(str(Log(log.bootstrap, prefix)) for prefix in prefixes[:MOST_NAMED])
        possible = others or "nightline topics apply, and a worker that routes readings to it"
        raise click.ClickException(f"{log}: Kafka has no topic {topic}; possible: {possible}")


def _fetch(log: Log, site: Site, folder: Path) -> Progress:
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress as Bar  # noqa: PLC0415

    from streams.archiver import Archiver  # noqa: PLC0415
    from streams.topics import READINGS  # noqa: PLC0415
    from training.archive import Archive  # noqa: PLC0415

    console = Console(stderr=True)
    with (
        Archive(folder, site.name, log.prefix, is_lasting=False) as store,
        Archiver(log.bootstrap, log.prefix, store, _note, math.inf, datasets=(READINGS,)) as archiver,
        Bar(console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("from Kafka", total=None)
        return archiver.run(
            lambda: False, until_end=True, on_fetch=lambda read, of: bar.update(task, completed=read, total=max(1, of))
        )


def _check_found(log: Log, topic: str, site: Site, folder: Path, done: Progress) -> None:
    """Refuses what no history of this site can be read from."""
    if not done.dmas:
        from training.archive import rejects_of  # noqa: PLC0415

        others = ", ".join(f"{count:,} {name}" for name, count in sorted(done.counts.items()) if count)
        first = next((f", e.g. {reason}" for _, _, reason in rejects_of(folder)), "")
        found = f"holds no readings, but {others}{first}" if others else "is empty"
        possible = "a worker that routes readings to it, or another prefix"
        raise click.ClickException(f"{log}: {topic} {found}; possible: {possible}")
    foreign = sorted(done.dmas - site.dma_row.keys())
    if not foreign:
        return
    named = ", ".join(map(repr, foreign[:MOST_NAMED])) + ", …" * (len(foreign) > MOST_NAMED)
    if len(foreign) == len(done.dmas):
        fault = f"{log}: {topic} is of other DMAs than network.toml: {named}"
        raise ConfigError([f"{fault}; {nearest(foreign[0], site.dma_row)}, or another prefix"])
    _note(f"{topic} has DMAs that are not in network.toml: {named}; readings of meters that are not are left out")


def _note(line: str) -> None:
    """On stderr: what a command prints may be JSON."""
    click.echo(line if line.startswith("ERROR") else f"note: {line}", err=True)


@contextlib.contextmanager
def _leaving_by_signal() -> Iterator[None]:
    """SIGTERM and SIGHUP end the process as an exception does: what is temporary goes."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before: dict[int, Callable[..., Any] | int | None] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:  # whoever ignores it, or listens, goes on doing so
                before[number] = signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
