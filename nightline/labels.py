"""nightline labels export | import"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from models.config import ConfigError
from nightline.promote import who
from nightline.sites import load_site


@click.group()
def labels() -> None:
    """Known leaks, and what was none: out of an archive, or in from a utility's own log."""


@labels.command("export")
@click.argument("site", type=click.Path(path_type=Path))
@click.option("--archive", required=True, type=click.Path(path_type=Path), help="A folder that nightline archive keeps.")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The labels.csv to write.")
def export(site: Path, archive: Path, out: Path) -> None:
    """Make labels of the outcomes that people gave to alerts.

    The outcome given last counts. OUT is written anew; one that holds labels of other sources is not touched.
    """
    place = load_site(site)
    from training.label_export import SOURCE, export_labels  # noqa: PLC0415 - pyarrow only when it is used
    from training.label_files import text_of  # noqa: PLC0415
    from training.labels import LEAK_OUTCOMES, read_rows  # noqa: PLC0415
    from training.staging import staged  # noqa: PLC0415

    if out.exists():
        others = sum(row.get("source") != SOURCE for row in read_rows(out))
        if others:
            possible = f"another --out, and then: nightline labels import {site} THAT"
            raise ConfigError([f"{out}: holds {others} labels that do not come from alerts; possible: {possible}"])
    found = export_labels(archive, place)
    with staged(out.parent) as fresh:
        (fresh / out.name).write_text(text_of(found.rows), encoding="utf-8")
    leaks = sum(row["outcome"] in LEAK_OUTCOMES for row in found.rows)
    click.echo(f"{out}: {leaks} leaks, {len(found.rows) - leaks} that were none")
    for alert, reason in found.refused:
        click.echo(f"no label: alert {alert}: {reason}", err=True)


@labels.command("import")
@click.argument("site", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--column", "columns", multiple=True, metavar="OURS=THEIRS", help="What FILE calls a column: dma=Zone. Again "
              "for each.")  # fmt: skip
@click.option("--kind", type=click.Choice(["abrupt", "incipient"]), help="Of leaks that name none.")
@click.option("--source", help="Where they come from.  [default: the name of FILE]")
@click.option("--replace", is_flag=True, help="A row takes the place of another of its id that says something else.")
def import_(
    site: Path, file: Path, columns: tuple[str, ...], kind: str | None, source: str | None, replace: bool
) -> None:  # fmt: skip
    """Take labels, as of a utility's repair log, into SITE/labels.csv.

    Needed are dma and startedAt; also read are kind, endedAt, id, max_m3h, peakAt, outcome, comment. Rows are merged by id.
    What is refused is listed with its reason in SITE/labels-rejects.csv; then the exit code is 1.
    """
    place = load_site(site)
    from training import label_files as files  # noqa: PLC0415
    from training.labels import read_labels, read_rows  # noqa: PLC0415
    from training.registry import write_through  # noqa: PLC0415
    from training.staging import alone, staged  # noqa: PLC0415

    headers = {}
    for column in columns:
        ours, sign, theirs = column.partition("=")
        if not (ours and sign and theirs):
            raise ConfigError([f"--column {column!r}; possible: OURS=THEIRS, e.g. dma=Zone"])
        headers[ours] = theirs
    new = files.read_repair_log(file, headers)
    target = site / files.FILE
    stamp = {"source": source or file.name, "by": who(), "at": datetime.now(UTC).isoformat(timespec="seconds")}
    with alone(site):  # of two imports at once the second sees what the first has added
        before = []
        if target.exists():
            read_labels(target, place)  # names every fault of it
            before = read_rows(target)
        merged = files.merge(place, before, new, stamp, kind, replace)
        with staged(site) as fresh:
            if merged.added or merged.replaced:
                write_through(fresh / files.FILE, files.text_of(merged.rows).encode())
            if merged.refused:
                write_through(fresh / files.REJECTS, files.rejects_text(merged.refused, file.name).encode())
    click.echo(
        f"{target}: {merged.added} added, {merged.same} there already, {merged.replaced} replaced, "
        f"{len(merged.refused)} refused; {len(merged.rows)} labels now"
    )
    for one, other in merged.overlaps:
        click.echo(f"note: leak {one} runs at the same time as {other} of its DMA; possible: the same leak, told twice")
    if len(merged.overlaps) == files.MOST_OVERLAPS:
        click.echo("note: … and perhaps more")
    if merged.refused:
        line, reason, _ = merged.refused[0]
        click.echo(f"refused: {site / files.REJECTS}, e.g. line {line}: {reason}", err=True)
        raise click.exceptions.Exit(1)
