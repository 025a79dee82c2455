"""nightline backtest SITE --readings PATH --out DIR"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from models.config import ConfigError
from nightline.readings import Log, at_hand, readings_option
from nightline.rules import budgets_option, rule_options
from nightline.sites import load_site

if TYPE_CHECKING:
    from models.network import Site
    from training.backtest import Result
    from training.history import History


@click.command()
@click.argument("site", type=click.Path(path_type=Path))
@readings_option()
@click.option(
    "--labels", type=click.Path(path_type=Path), help="Known leaks: dma, kind, startedAt, endedAt, id, max_m3h, peakAt."
)
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for what comes out.")
@rule_options
@budgets_option
@click.option("--no-model", is_flag=True, help="Do not load the champion models of the site.")
def backtest(
    site: Path, readings: Path | Log, labels: Path | None, out: Path, abrupt_hours: float, incipient_days: float,
    budgets: list[float], no_model: bool,
) -> None:  # fmt: skip
    """Run history through the engine, without Kafka; write alerts, detections, a scorecard and a report.

    Every reading is taken in order of its time, once: what is found is what would have been found live. Naive times are
    the site's local time; what cannot be read is listed in OUT/rejects.csv. With known leaks, other alert budgets are tried
    in the same pass, for the report's curve.
    """

    from nightline.progress import with_progress  # noqa: PLC0415 - numba and pyarrow only when they are used
    from training.backtest import WINDOW_MINUTES  # noqa: PLC0415
    from training.backtest import backtest as run_backtest  # noqa: PLC0415
    from training.history import read_history  # noqa: PLC0415
    from training.labels import read_labels  # noqa: PLC0415
    from training.matching import Rules  # noqa: PLC0415
    from training.staging import staged  # noqa: PLC0415

    place = load_site(site)
    leaks = None if labels is None else read_labels(labels, place)
    bundle = None
    if not no_model:
        from training.registry import champions  # noqa: PLC0415

        bundle = champions(site, place.dma_row)
    if isinstance(readings, Path) and readings.is_dir() and readings.resolve() in (out.resolve(), *out.resolve().parents):
        raise ConfigError([f"--out {out}: lies in the readings, {readings}; possible: a folder outside of them"])
    with staged(out) as fresh:
        history = read_history(at_hand(readings, place), place, WINDOW_MINUTES, fresh / "rejects.csv")
        result = run_backtest(
            place, with_progress(history, "backtest"), fresh, bundle, leaks, Rules(abrupt_hours, incipient_days), budgets
        )
    _say(place, result, history, out)


def _say(site: Site, result: Result, history: History, out: Path) -> None:
    raised = {alert.alert_id: alert for alert in result.alerts}
    counts = Counter(alert.type for alert in raised.values())
    kinds = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    days = (history.last_ms - history.first_ms) / 86_400_000
    click.echo(
        f"{site.name}: {result.slots:,} slots of {len(site.dmas)} DMA{'s' * (len(site.dmas) != 1)} in {days:.0f} days"
    )
    click.echo(f"alerts: {len(raised)}{f' ({kinds})' if kinds else ''}, {len(result.alerts)} revisions")
    of_dma = Counter(alert.scope.id for alert in raised.values() if alert.scope.type == "dma")
    for name, count in of_dma.most_common(20):
        click.echo(f"  {name}: {count}")
    summary = result.scorecard["summary"]
    if result.scorecard["labelled"]:
        found = ", ".join(f"{summary[kind]['found']} of {summary[kind]['leaks']} {kind}" for kind in ("abrupt", "incipient"))
        click.echo(f"known leaks found: {found}; unexplained alarms: {summary['unexplained']}")
        left_out = result.scorecard["leaksInWarmUp"]
        if left_out:
            click.echo(f"note: not counted, as they started in warm-up: {', '.join(left_out)}")
    whole_ms = max(coverage.slots * coverage.slot_ms for coverage in result.coverage.values())
    for dma, coverage in result.coverage.items():
        fault = coverage.fault(site, whole_ms)
        if fault is not None:
            click.echo(f"not judged: {dma}: {fault}")
    if result.late:
        click.echo(f"note: {result.late:,} readings came later than their meters' lateness and were not judged")
    if history.rejects.count:
        click.echo(f"note: {history.rejects.count:,} rows, cells or columns were left out; see {out / 'rejects.csv'}")
    click.echo(f"report: {out / 'report.html'}")
