"""nightline evaluate SITE --readings PATH --labels PATH --out DIR"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nightline.readings import Log, at_hand, readings_option
from nightline.rules import budgets_option, rule_options
from nightline.sites import load_site

if TYPE_CHECKING:
    from rich.console import Console


@click.command()
@click.argument("site", type=click.Path(path_type=Path))
@readings_option()
@click.option("--labels", required=True, type=click.Path(path_type=Path),
              help="Known leaks: dma, kind, startedAt, endedAt, id, max_m3h, peakAt.")  # fmt: skip
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the scorecard.")
@rule_options
@budgets_option
@click.option("--ablation", is_flag=True, help="Tell what each detector is worth: the same without each of them.")
@click.option("--without", multiple=True, metavar="DETECTOR", help="The same without this one; may be repeated.")
@click.option("--no-model", is_flag=True, help="Do not load the champion models of the site.")
@click.option("--after-training", is_flag=True,
              help="Models come into use where their training ended, and only what is later counts.")  # fmt: skip
def evaluate(
    site: Path, readings: Path | Log, labels: Path, out: Path, abrupt_hours: float, incipient_days: float,
    budgets: list[float], ablation: bool, without: tuple[str, ...], no_model: bool, after_training: bool,
) -> None:  # fmt: skip
    """Hold what the engine finds in history against known leaks; write scorecard.json and scorecard.html.

    Strictly, by event: an alarm in the leak's DMA soon after its start, one alarm for one leak; every other alarm is
    unexplained. Beside it stand what as many random alarms would find, a fixed-threshold rule on the minimum night flow,
    LeakDB's score, and what other alert budgets would have brought; with --ablation also what each detector is worth. One
    pass over the history.
    """
    from nightline.progress import with_progress  # noqa: PLC0415 - numba and pyarrow only when they are used
    from training.ablation import able, chosen  # noqa: PLC0415
    from training.backtest import WINDOW_MINUTES, write_json  # noqa: PLC0415
    from training.evaluate import evaluate as run_evaluation  # noqa: PLC0415
    from training.history import read_history  # noqa: PLC0415
    from training.labels import read_labels  # noqa: PLC0415
    from training.matching import Rules  # noqa: PLC0415
    from training.registry import champions  # noqa: PLC0415
    from training.scorecard_page import write_scorecard  # noqa: PLC0415
    from training.staging import staged  # noqa: PLC0415

    place = load_site(site)
    leaks = read_labels(labels, place)
    bundle = None if no_model else champions(site, place.dma_row)
    silent = able(place, bundle) if ablation else chosen(place, bundle, without)
    with staged(out) as fresh:
        history = read_history(at_hand(readings, place), place, WINDOW_MINUTES, fresh / "rejects.csv")
        windows = with_progress(history, "evaluate")
        found = run_evaluation(place, windows, leaks, Rules(abrupt_hours, incipient_days), bundle, budgets, without=silent,
                               after_training=after_training)  # fmt: skip
        write_json(fresh / "scorecard.json", found.scorecard)
        write_scorecard(fresh / "scorecard.html", place.name, place.timezone, found.scorecard, f"{len(leaks)} known leaks")
    say(found.scorecard)
    if bundle and not after_training:
        click.echo("note: what the model was trained on is in these figures; --after-training counts only what came later")
    if history.rejects.count:
        click.echo(f"note: {history.rejects.count:,} rows, cells or columns were left out; see {out / 'rejects.csv'}")
    click.echo(f"scorecard: {out / 'scorecard.html'}")


def say(scorecard: Mapping[str, Any]) -> None:
    """The scorecard as tables on the terminal."""
    from rich.console import Console  # noqa: PLC0415 - `--help` needs none of it
    from rich.table import Table  # noqa: PLC0415

    from training.labels import LEAK_KINDS  # noqa: PLC0415
    from training.page import hours, short  # noqa: PLC0415
    from training.scorecard_page import chance, class_name, interval, notes, percent, within  # noqa: PLC0415

    def cells(part: Mapping[str, Any]) -> tuple[str, ...]:
        delays = hours(part["medianDelayHours"]), hours(part["medianDelayHoursOfAll"])
        return f"{part['found']} of {part['leaks']}", percent(part["found95"]), *delays

    console = Console()
    console = console if console.is_terminal else Console(width=140)  # a pipe has no width
    summary = scorecard["summary"]
    table = Table(title=f"{summary['leaks']} known leaks, {summary['dmaMonths']:g} DMA-months judged")
    for heading in ("leaks", "found", "95 %", "median delay", "of all, missed = ∞"):
        table.add_column(heading)
    for kind in LEAK_KINDS:
        part = summary[kind]
        table.add_row(f"{kind}, within {within(scorecard, kind)}", *cells(part), end_section=kind != "abrupt")
    for part in scorecard["byNightSd"]:
        table.add_row(f"{part['kind']}, {class_name(part, share=False)} night-flow sds", *cells(part))
    console.print(table)

    _, *rules = scorecard["floors"]
    rows = [(f"{part['timesTheBudget']:g} × budget", part) for part in scorecard["budgets"]]
    rows += [("without the model", scorecard["withoutModel"])] if "withoutModel" in scorecard else []
    rows += [(f"MNF {floor['rise']:.0%} too high", floor) for floor in rules]
    table = Table(caption="chance: as many alarms in the same DMAs at random times, median and 95th percentile")
    headings = "|alarms|abrupt|chance|incipient|chance|unexplained|a month|no leak|TPR|TNR|F1|early"
    for heading in headings.split("|"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, row in rows:
        found = [(f"{row[kind]['found']} of {row[kind]['leaks']}", chance(row, kind)) for kind in LEAK_KINDS]
        rates = [str(row["unexplained"]), short(row["unexplainedPerDmaMonth"]), str(row["unexplainedOutsideLeaks"])]
        scores = ["–" if score is None else f"{score:.1f}" for score in list(row["leakdb"].values())[:4]]
        table.add_row(name, str(row["leakAlarms"]), *found[0], *found[1], *rates, *scores)
    console.print(table)
    _say_ablation(console, scorecard)
    console.print(
        f"unexplained alarms: {summary['unexplained']} ({summary['unexplainedOutsideLeaks']} without a known leak, "
        f"{summary['unexplainedLate']} too late, {summary['unexplainedRepeats']} again), "
        f"{short(summary['unexplainedPerDmaMonth'])} a DMA-month, 95 %: {interval(summary['unexplainedPerDmaMonth95'])}",
        highlight=False,
    )
    bound = " at most" if summary["volumesAreBounds"] else ""
    console.print(
        f"water lost{bound}: {summary['leaked_m3']:,.0f} m³; before an alarm found it {summary['lostBeforeFound_m3']:,.0f}, "
        f"by leaks not found in time {summary['lostOfMissed_m3']:,.0f}",
        highlight=False,
    )
    for line in notes(scorecard):
        console.print(f"note: {line}", highlight=False)


def _say_ablation(console: Console, scorecard: Mapping[str, Any]) -> None:
    from rich.table import Table  # noqa: PLC0415 - `--help` needs none of it

    from training.ablation import CAPTION, ablation_table  # noqa: PLC0415

    rows = ablation_table(scorecard)
    if not rows:
        return
    table = Table(title="without each detector", caption=CAPTION)
    for heading in rows[0]:
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=not heading)
    for row in rows[1:]:
        table.add_row(*row)
    console.print(table)
