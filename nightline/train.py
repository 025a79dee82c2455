"""nightline train SITE --readings PATH"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from models.config import ConfigError
from nightline.promote import promote_first
from nightline.readings import Log, at_hand, readings_option
from nightline.sites import load_site
from nightline.times import epoch_ms

if TYPE_CHECKING:
    from models.network import Site
    from training.history import History, Window
    from training.leave_out import Known
    from training.train import Model, Plan

WINDOW_MINUTES = 1440  # a day at a time; the engine's answers do not depend on it
MOST_FIGURES = 20
"""Models of one run that get a figure unless told: one takes about half a second."""
MOST_LINES = 20
_UNITS_S = {"s": 1.0, "min": 60.0, "h": 3600.0}


def _seconds(_: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|h)\s*", text)
    if not found or not float(found[1]) > 0:
        raise click.BadParameter(f"found {text!r}; possible: e.g. '90s', '5min', '1h'", param=parameter)
    return float(found[1]) * _UNITS_S[found[2]]


def _shard(_: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise click.BadParameter(f"found {text!r}; possible: i/n with i from 1 to n, e.g. 1/4", param=parameter)
    return int(found[1]), int(found[2])


@click.command()
@click.argument("site", type=click.Path(path_type=Path))
@readings_option()
@click.option("--labels", type=click.Path(path_type=Path), help="Known events, which are left out with their recovery.")
@click.option("--since", help="Learn only from slots that end after it; the engine warms up on what is before.")
@click.option("--until", help="Learn only from slots that end by then: ISO 8601; local time of the site without offset.")
@click.option("--recovery-hours", type=click.FloatRange(0, 87_600), default=48.0, show_default=True,
              help="Left out after a known event, too.")  # fmt: skip
@click.option("--dma", "dmas", multiple=True, help="Only these; a model for each unless --per cluster.")
@click.option("--per", type=click.Choice(["site", "dma", "cluster"]),
              help="One forest for the site, each DMA, or alike DMAs.  [default: site; with --dma: dma]")  # fmt: skip
@click.option("--clusters", type=click.IntRange(min=1), help="So many.  [default: by silhouette]")
@click.option("--shard", callback=_shard, help="i/n: every n-th DMA from the i-th on, for a cluster of machines.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option("--trees", type=click.IntRange(1, 10_000), default=100, show_default=True)
@click.option("--max-samples", type=click.IntRange(2, 32_768), default=256, show_default=True, help="Slots in one tree.")
@click.option("--max-features", type=click.IntRange(1, 8), default=8, show_default=True, help="Features in one tree.")
@click.option("--calibrate", type=click.FloatRange(0, 0.5), default=0.15, show_default=True,
              help="Share of the slots, later than those fitted on, that calibrates and searches.")  # fmt: skip
@click.option("--report", type=click.FloatRange(0, 0.4), default=0.15, show_default=True,
              help="Share, the latest, that is held back for the card's figures.")  # fmt: skip
@click.option("--search", "seconds", callback=_seconds, help="Search the forest's settings for so long: '5min', '1h'.")
@click.option("--trials", type=click.IntRange(1, 100_000), help="Search with so many trials: the same every time.")
@click.option("--figures/--no-figures", default=None, help=f"On the cards.  [default: of up to {MOST_FIGURES} models]")
@click.option("--promote", "to_champion", is_flag=True, help="Make it the first champion at once.")
def train(
    site: Path, readings: Path | Log, labels: Path | None, since: str | None, until: str | None, recovery_hours: float,
    dmas: tuple[str, ...], per: str | None, clusters: int | None, shard: tuple[int, int] | None, seed: int, trees: int,
    max_samples: int, max_features: int, calibrate: float, report: float, seconds: float | None, trials: int | None,
    figures: bool | None, to_champion: bool,
) -> None:  # fmt: skip
    """Fit isolation forests on a site's history.

    The history runs through the engine. Known events, planned work and what the engine itself suspects are left out, and it
    is said how much. The models land in SITE/models and serve nobody before they are promoted.
    """
    place = load_site(site)
    kind = per or ("dma" if dmas else "site")
    _check(kind, dmas, clusters, shard)
    since_ms, until_ms = (
        None if text is None else epoch_ms(text, place.timezone, name)
        for text, name in ((since, "--since"), (until, "--until"))
    )
    if since_ms is not None and until_ms is not None and since_ms >= until_ms:
        raise ConfigError([f"--since {since} is not before --until {until}; possible: an earlier --since"])
    from training.fit import ForestSettings, Shares  # noqa: PLC0415 - `--help` and a faulty site need none of these
    from training.search import Search  # noqa: PLC0415
    from training.train import Plan, checked, clean_rows, shard_of, too_few, train_models  # noqa: PLC0415

    wanted = checked(place, dmas or None)
    wanted = wanted if shard is None else shard_of(wanted, *shard)
    if not wanted:
        click.echo(f"shard {shard and shard[0]}/{shard and shard[1]}: no DMA; the others have them all")
        return
    known = _known(labels, place, recovery_hours)
    source = at_hand(readings, place)
    history = _read(source, place)
    if since_ms is not None and since_ms >= history.last_ms:
        raise ConfigError([f"--since {since}: the readings end before it; possible: an earlier time"])
    if until_ms is not None and until_ms <= history.first_ms:
        raise ConfigError([f"--until {until}: the readings begin after it; possible: a later time"])
    rows = clean_rows(place, _bar(history, "train", until_ms), wanted, known=known, since_ms=since_ms, until_ms=until_ms)
    plan = Plan(kind, clusters, ForestSettings(trees, max_samples, max_features), Shares(calibrate, report), seed)  # type: ignore[arg-type]
    search = None
    if seconds is not None or trials is not None:
        search = Search(lambda word: _bar(_read(source, place), word, until_ms), trials, seconds)
    models = _saved(site, train_models(place, rows, plan, search), plan, len(wanted), figures)
    for fault in list(too_few(place, rows, plan).values())[:MOST_LINES]:
        click.echo(f"no model: {fault}")
    _say(site, models, known, recovery_hours, since is not None)
    if report:
        _say_too_late(models, known, min(history.last_ms, until_ms or history.last_ms))
    if history.rejects.count:
        click.echo(f"note: {history.rejects.count:,} rows, cells or columns of the history could not be read")
    if to_champion:
        _promote(site, place, models)


def _check(per: str, dmas: Sequence[str], clusters: int | None, shard: tuple[int, int] | None) -> None:
    if per == "site" and dmas:
        raise ConfigError(["--per site: found --dma too; possible: --per dma or cluster, or no --dma"])
    if shard is not None and per != "dma":
        raise ConfigError([f"--shard: a {per}'s forest needs all of its DMAs in one place; possible: --per dma"])
    if clusters is not None and per != "cluster":
        raise ConfigError([f"--clusters: found --per {per}; possible: --per cluster"])


def _read(readings: Path, place: Site) -> History:
    from training.history import read_history  # noqa: PLC0415

    return read_history(readings, place, WINDOW_MINUTES)


def _bar(history: History, name: str, until_ms: int | None) -> Iterator[Window]:
    """The windows with a bar on stderr that is full at `until_ms`."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    first_ms, last_ms = history.first_ms, min(history.last_ms, until_ms or history.last_ms)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=max(1, last_ms - first_ms))
        for window in history:
            yield window
            progress.update(task, completed=min(window.end_ms, last_ms) - first_ms)


def _known(labels: Path | None, place: Site, recovery_hours: float) -> list[Known]:
    from training.labels import read_known_events, read_labels  # noqa: PLC0415
    from training.leave_out import known_periods  # noqa: PLC0415

    if labels is None:
        return known_periods(place, recovery_hours=recovery_hours)
    return known_periods(place, read_labels(labels, place), read_known_events(labels, place), recovery_hours)


def _saved(site: Path, models: Iterable[Model], plan: Plan, count: int, figures: bool | None) -> list[Model]:
    """Keep every model as soon as it is there: what ended early has not worked in vain."""
    from training import registry  # noqa: PLC0415
    from training.card import card_files  # noqa: PLC0415

    drawn = figures if figures is not None else plan.per == "site" or count <= MOST_FIGURES
    kept = []
    for model in models:
        for trained in model.trained:
            registry.save(site, trained.bundle, card_files(trained, figure=drawn, search_seconds=model.search_seconds))
        kept.append(model)
    return kept


def _say(site: Path, models: Sequence[Model], known: Sequence[Known], recovery_hours: float, warm_up: bool) -> None:
    from training.leave_out import said  # noqa: PLC0415

    manifests = [model.trained[0].bundle.manifest for model in models]
    by_dma = {dma: (m.left_out_by_dma[dma], m.left_out_hours[dma]) for m in manifests for dma in m.left_out_by_dma}
    used = sum(len(m.left_out_windows) for m in manifests)
    left = [period for period in known if not period.is_normal]
    reasons = ", ".join(sorted({period.reason for period in left}))
    normal = f"; {len(known) - len(left)} learned, as normal by their outcome" if len(left) < len(known) else ""
    click.echo(
        f"known periods: {len(left)}{f' ({reasons})' if reasons else ''}, {used} in the history, each with "
        f"{recovery_hours:g} h of recovery{normal}{'; before --since the engine only warmed up' if warm_up else ''}"
    )
    for dma, (slots, hours) in sorted(by_dma.items())[:MOST_LINES]:
        click.echo(f"left out of {dma}: {said(slots, hours)}")
    if len(by_dma) > MOST_LINES:
        total: dict[str, int] = {}
        for slots, _ in by_dma.values():
            total = {reason: total.get(reason, 0) + slots.get(reason, 0) for reason in {**total, **slots}}
        click.echo(f"… and of {len(by_dma) - MOST_LINES} more; of all: {said(total)}")
    for model in models[:MOST_LINES]:
        _say_model(site, model)
    if len(models) > MOST_LINES:
        click.echo(f"… and {len(models) - MOST_LINES} more models")


def _say_too_late(models: Sequence[Model], known: Sequence[Known], last_ms: int) -> None:
    until_ms = min(model.trained[0].bundle.manifest.trained_until_ms for model in models)
    late = sum(until_ms < period.from_ms <= last_ms for period in known)
    if late:
        click.echo(
            f"note: {late} known periods begin in what is held back and change no threshold yet; possible: --report 0, or a "
            "later training"
        )


def _say_model(site: Path, model: Model) -> None:
    from training.card_calibration import changed_by_labels  # noqa: PLC0415
    from training.registry import scope_folder  # noqa: PLC0415

    m = model.trained[0].bundle.manifest
    line = f"{m.id}: {m.metrics['rows']:,.0f} slots of {m.metrics['dmas']:.0f} DMAs; score: median "
    line += f"{m.metrics['score_p50']:.3f}, 99.9 % below {m.metrics['score_p99.9']:.3f}"
    if m.calibration:
        days, alarms = (sum(getattr(c, name) for c in m.calibration.values()) for name in ("report_days", "report_alarms"))
        expected = sum(c.report_days / c.return_days for c in m.calibration.values())
        line += f"; held back: {alarms} of {days} days above the threshold, {expected:.1f} expected"
    click.echo(line)
    changed = changed_by_labels(m)
    if changed:
        click.echo(f"  {changed}")
    if model.not_searched:
        click.echo(f"  not searched, so with the settings given: {model.not_searched}")
    if m.search:
        click.echo(
            f"  search: {m.search['trials']:.0f} trials in {model.search_seconds:.0f} s: {m.settings}; finds "
            f"{m.search['found']:.1%} of the slots with an added leak at one chance alarm a week, the usual settings "
            f"{m.search['found_with_usual_settings']:.1%}"
        )
    if len(model.trained) > 1:
        found = f"silhouette {model.silhouette:.2f}" if model.silhouette > 0 else "no cut tells them apart"
        click.echo(f"  a cluster of {len(model.members)} DMAs, {found}")
    for trained in model.trained[:MOST_LINES]:
        click.echo(f"version {trained.bundle.version} of {trained.bundle.id}: {scope_folder(site, trained.bundle.scope)}")


def _promote(site: Path, place: Site, models: Sequence[Model]) -> None:
    """Where no champion serves yet; else one line says what serves, after all others were promoted."""
    from training.registry import serving_version  # noqa: PLC0415
    from training.staging import alone  # noqa: PLC0415

    faults = []
    bundles = [trained.bundle for model in models for trained in model.trained]
    with alone(site):
        serving = {bundle.scope: serving_version(site, bundle.scope) for bundle in bundles}
        for bundle in bundles:
            before = serving[bundle.scope]
            if before is None:
                promote_first(site, place, bundle)
            elif before != bundle.version:
                possible = f"possible: nightline compare SITE {bundle.version}, then promote"
                faults.append(f"{bundle.id} is not promoted: {before} serves; {possible}")
    if faults:
        raise ConfigError(faults)
    click.echo("the champions: " + ", ".join(f"{bundle.id} {bundle.version}" for bundle in bundles[:MOST_LINES]))
