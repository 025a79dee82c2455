"""nightline compare SITE VERSION --readings PATH [--labels PATH]"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nightline.readings import Log, at_hand, readings_option
from nightline.rules import rule_options
from nightline.sites import check_scope, load_site
from nightline.times import epoch_ms

if TYPE_CHECKING:
    from models.bundle import Bundle

NONE = "none"


@click.command()
@click.argument("site", type=click.Path(path_type=Path))
@click.argument("version")
@readings_option("History, which must reach past the training: a file, a folder, an archive")
@click.option("--labels", type=click.Path(path_type=Path), help="Known leaks; without them every leak alarm is unexplained.")
@click.option("--dma", help="A model of one DMA; of the whole site without.")
@click.option("--against", help="Version to compare with, or none.  [default: the champion, none where there is none]")
@click.option("--since", help="Begin of the held-back period: ISO 8601.  [default: end of the training of both]")
@click.option("--until", help="End of the held-back period.  [default: end of the readings]")
@click.option("--margin", type=click.FloatRange(0, 1), help="What promote will be told.  [default: 0.1]")
@rule_options
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON instead.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write it to this JSON file too.")
def compare(
    site: Path, version: str, readings: Path | Log, labels: Path | None, dma: str | None, against: str | None,
    since: str | None, until: str | None, margin: float | None, abrupt_hours: float, incipient_days: float, as_json: bool,
    out: Path | None,
) -> None:  # fmt: skip
    """Hold a challenger against the champion on a period that neither was trained on; keep the result for promote."""
    from nightline.progress import with_progress  # noqa: PLC0415 - numba and pyarrow only when they are used
    from training import registry  # noqa: PLC0415
    from training.backtest import WINDOW_MINUTES  # noqa: PLC0415
    from training.compare import MARGIN, Contest, held_back, worse  # noqa: PLC0415
    from training.compare import compare as run_comparison  # noqa: PLC0415
    from training.history import read_history  # noqa: PLC0415
    from training.labels import read_labels  # noqa: PLC0415
    from training.matching import Rules  # noqa: PLC0415
    from training.promotion import save_comparison  # noqa: PLC0415

    place, scope = load_site(site), dma or "*"
    check_scope(place, dma)
    challenger = registry.load(site, scope, version)
    serving = registry.serving_version(site, scope)
    other = serving if against is None else None if against == NONE else against
    champion = None if other is None else _load(site, scope, other)
    leaks = None if labels is None else read_labels(labels, place)
    history = read_history(at_hand(readings, place), place, WINDOW_MINUTES)
    asked = [None if text is None else epoch_ms(text, place.timezone, name)
             for text, name in ((since, "--since"), (until, "--until"))]  # fmt: skip
    since_ms, until_ms = held_back((champion, challenger), *asked, history.last_ms)
    dmas = registry.served_by(site, scope, "champion", place.dma_row)
    contest = Contest(
        scope, _of_all(champion, dmas), _of_all(challenger, dmas), dmas, since_ms, until_ms, (other, version)
    )  # fmt: skip
    windows = with_progress(history, "compare")
    found = run_comparison(place, windows, leaks, contest, Rules(abrupt_hours, incipient_days))
    kept = save_comparison(site, found)
    text = json.dumps(found, ensure_ascii=False, indent=2, allow_nan=False)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", encoding="utf-8")
    if as_json:
        click.echo(text)
        return
    _say(found)
    faults = worse(found, MARGIN if margin is None else margin)
    for fault in faults:
        click.echo(f"worse: {fault}")
    limit = f"{MARGIN if margin is None else margin:g}"
    verdict = "promote will refuse it without --force" if faults else "promote will take it"
    click.echo(f"{version} is {'' if faults else 'not '}worse beyond a margin of {limit}: {verdict}; kept as {kept}")


def _load(site: Path, scope: str, version: str) -> Bundle:
    from training import registry  # noqa: PLC0415

    own = version in registry.versions(site, scope)
    return registry.load(site, scope if own else "*", version)


def _of_all(bundle: Bundle | None, dmas: list[str]) -> dict[str, Bundle]:
    return {} if bundle is None else dict.fromkeys(dmas, bundle)


def _say(found: Mapping[str, Any]) -> None:
    """One row a contestant, one for both in each DMA that differs, and the worst DMAs."""
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from training.page import hours  # noqa: PLC0415

    console = Console()
    console = console if console.is_terminal else Console(width=140)  # a pipe has no width
    period = f"{found['period']['from']} to {found['period']['until']}"
    table = Table(title=f"{found['site']}, scope {found['scope']}, held back: {period}")
    for heading in ("", "model", "found", "95 %", "median delay", "unexplained", "a DMA-month", "95 %"):
        table.add_column(heading)

    def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
        rate, span = row["unexplainedPerDmaMonth"], row["unexplainedPerDmaMonth95"]
        leaks = ("–", "–", "–")
        if found["labelled"]:
            low, high = row["found95"]
            leaks = (
                f"{row['found']} of {row['leaks']}", f"{low:.0%} to {high:.0%}" if row["leaks"] else "–",
                hours(row["medianDelayHours"]),
            )  # fmt: skip
        rates = ("–", "–") if rate is None else (f"{rate:.3f}", f"{span[0]:.3f} to {span[1]:.3f}")
        return (*leaks, str(row["unexplained"]), *rates)

    for role in ("champion", "challenger"):
        table.add_row(role, found[role] or "no model", *cells(found["summary"][role]), end_section=role == "challenger")
    for dma, rows in found["dmas"].items():
        same = cells(rows["champion"]) == cells(rows["challenger"])
        for role in ("champion",) if same else ("champion", "challenger"):
            table.add_row(dma, "both" if same else role, *cells(rows[role]))
    console.print(table)
    worst = ", ".join(
        f"{row['dma']} ({row['foundLess']} fewer found, {row['unexplainedMore']} more unexplained)"
        for row in found["worstDmas"]
    )
    click.echo(f"worse than the champion in: {worst or 'no DMA'}")
