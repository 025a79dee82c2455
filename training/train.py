"""From a site's history to its models: one of the whole site, one a DMA, or one a cluster of alike DMAs.

A cluster's forest is kept once for each of its DMAs, under the scope of that DMA, and its manifest names the members.
Workers, control records, promote and rollback know two kinds of scope, a DMA and the site; a third would need its members
known wherever a model is chosen, and clusters made anew would silently move DMAs from one model to another. The price is
the forest's 0.2 MB for each DMA.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.config import ConfigError, nearest
from models.network import Site
from models.params import params_of
from training.clusters import clusters_of
from training.collect import collect
from training.fit import ForestSettings, Shares, Trained, boundaries, fit, fitted_rows, lack, versioned
from training.history import Window
from training.leave_out import Known, Rows, clean, known_periods

if TYPE_CHECKING:
    from training.search import Search

Per = Literal["site", "dma", "cluster"]
WHOLE = "*"


@dataclass(frozen=True)
class Plan:
    """What is to be trained."""

    per: Per = "site"
    clusters: int | None = None
    """Of `per="cluster"`; None: as many as the silhouette says."""
    settings: ForestSettings = field(default_factory=ForestSettings)
    shares: Shares = field(default_factory=Shares)
    seed: int = 0


@dataclass(frozen=True)
class Model:
    """One fitted forest: the bundles of its scopes, and how long its search took (seconds, 0 without)."""

    trained: Sequence[Trained]
    members: Sequence[str]
    search_seconds: float = 0.0
    silhouette: float = float("nan")
    not_searched: str = ""
    """Why its settings are the plan's although a search was asked for."""


def shard_of(dmas: Iterable[str], number: int, of: int) -> list[str]:
    """Every `of`-th of the DMAs in order of their ids, from the `number`-th on (1 … of)."""
    return sorted(dmas)[number - 1 :: of]


def checked(site: Site, dmas: Sequence[str] | None) -> list[str]:
    """The DMAs asked for, or all. Raises ConfigError for an unknown one."""
    wanted = [dma.id for dma in site.dmas] if dmas is None else list(dict.fromkeys(dmas))
    for dma in wanted:
        if dma not in site.dma_row:
            raise ConfigError([f"DMA {dma!r} is not in network.toml; {nearest(dma, site.dma_row)}"])
    return wanted


def train(
    site: Site,
    windows: Iterable[Window],
    *,
    seed: int,
    trees: int = 100,
    max_samples: int = 256,
    dmas: Sequence[str] | None = None,
    clean_until_ms: int | None = None,
    on_window: Callable[[Window], None] | None = None,
) -> Bundle:
    """One bundle, of the whole site or, with one name in `dmas`, of that DMA, fitted on all that may be learned from.

    `windows` in order of time. Slots that end after `clean_until_ms` (epoch ms) are not used. `on_window` hears of each
    window done. Raises ConfigError for an unknown DMA and where too few slots are left.
    """
    wanted = checked(site, dmas)
    rows = clean_rows(site, windows, wanted, until_ms=clean_until_ms, on_window=on_window)
    scope = wanted[0] if dmas is not None and len(wanted) == 1 else WHOLE
    return fit(site.name, scope, rows, seed=seed, settings=ForestSettings(trees, max_samples)).bundle


def clean_rows(
    site: Site,
    windows: Iterable[Window],
    dmas: Sequence[str],
    *,
    known: Iterable[Known] | None = None,
    since_ms: int | None = None,
    until_ms: int | None = None,
    on_window: Callable[[Window], None] | None = None,
) -> dict[str, Rows]:
    """What may be learned from, by DMA; `known` is by default the site's planned work."""
    periods = known_periods(site) if known is None else list(known)
    found = {}
    slots = collect(site, windows, dmas, until_ms=until_ms, known=periods, on_window=on_window)
    for dma in list(slots):
        found[dma] = clean(
            slots.pop(dma), periods, since_ms=since_ms, until_ms=until_ms,
            return_days=float(params_of(site, dma).return_days), timezone=site.timezone,
        )  # fmt: skip
    return found


def train_models(site: Site, rows: Mapping[str, Rows], plan: Plan, search: Search | None = None) -> Iterator[Model]:
    """The models of a plan, one after the other; DMAs in `too_few` have none.

    Raises ConfigError where no model is left, or the site's settings cannot be searched; of single DMAs and clusters the
    model says it (`not_searched`) and has the plan's settings, so that it costs the others nothing.
    """
    groups, silhouette = _groups(site, rows, plan)
    edges = [boundaries(group, plan.shares) for group in groups]
    leaky = {}
    if search is not None:
        from training.search import best_settings, leaky_slots  # noqa: PLC0415

        of_dma = {dma: edge for group, edge in zip(groups, edges, strict=True) for dma in group}
        leaky = leaky_slots(site, search, rows, of_dma, plan.seed)
    for group, edge in zip(groups, edges, strict=True):
        scope = WHOLE if plan.per == "site" else next(iter(group))
        settings, facts, seconds, not_searched = plan.settings, {}, 0.0, ""
        if search is not None:
            share = None if search.seconds is None else search.seconds / len(groups)
            try:
                found = best_settings(f"{site.name}/{scope}", group, leaky, edge, search, plan.seed, share)
                settings, facts, seconds = found.settings, found.facts, found.seconds
            except ConfigError as error:
                if plan.per == "site":
                    raise
                not_searched = str(error)
        made = fit(site.name, scope, group, seed=plan.seed, settings=settings, shares=plan.shares, search=facts)
        scopes = [scope] if plan.per == "site" else list(group)
        scoped = [_scoped(made, site.name, one) for one in scopes]
        yield Model(scoped, list(group), seconds, silhouette, not_searched)


def too_few(site: Site, rows: Mapping[str, Rows], plan: Plan) -> dict[str, str]:
    """DMAs whose own slots are too few for a model of their own or a place in a cluster, and why."""
    if plan.per == "site":
        return {}
    own = {dma: {dma: rows[dma]} for dma in sorted(rows)}
    faults = {dma: lack(f"{site.name}/{dma}", one, len(_own_rows(rows[dma], dma, plan))) for dma, one in own.items()}
    return {dma: fault for dma, fault in faults.items() if fault}


def _own_rows(rows: Rows, dma: str, plan: Plan) -> NDArray[np.float32]:
    own = {dma: rows}
    return fitted_rows(own, boundaries(own, plan.shares))[dma]


def _groups(site: Site, rows: Mapping[str, Rows], plan: Plan) -> tuple[list[dict[str, Rows]], float]:
    """The DMAs of each forest, and the clusters' silhouette."""
    if plan.per == "site":
        return [dict(rows)], float("nan")
    faults = too_few(site, rows, plan)
    able = [dma for dma in sorted(rows) if dma not in faults]
    if not able:
        raise ConfigError(list(faults.values()))
    if plan.per == "dma":
        return [{dma: rows[dma]} for dma in able], float("nan")
    clusters, silhouette = clusters_of({dma: _own_rows(rows[dma], dma, plan) for dma in able}, plan.clusters)
    return [{dma: rows[dma] for dma in members} for members in clusters], silhouette


def _scoped(trained: Trained, site_name: str, scope: str) -> Trained:
    manifest = trained.bundle.manifest
    if manifest.scope == scope:
        return trained
    own = versioned(msgspec.structs.replace(manifest, id=f"{site_name}/{scope}", scope=scope))
    return replace(trained, bundle=replace(trained.bundle, manifest=own))
