"""Fit the isolation forest on a site's history, on the engine's own features: training cannot compute them otherwise.

Only slots that the engine calls learnable are used: warm, and without an open event, so that a forest does not learn a leak
as normal. Deterministic: the same history, seed and versions give the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

from models.bundle import SCHEMA_VERSION, Bundle, Manifest, facts_of, pack_arrays
from models.config import ConfigError, nearest
from models.engine import Engine, StepResult
from models.features import FEATURES
from models.forest import Forest, average_path_length, check, pack_nodes, score, tree_depths
from models.network import Site, longest_lateness_minutes
from models.routing import split
from training.drift_reference import Past, reference_of
from training.history import Window

MIN_ROWS: Final = 256
"""Below this a forest says more about the sample than about the site; it is also Liu's sample for one tree."""
QUANTILES: Final = (0.5, 0.9, 0.99, 0.999)


@dataclass
class Rows:
    """Slots of one DMA that were fit to learn from, and how many were not, by reason."""

    features: list[NDArray[np.float32]] = field(default_factory=list)
    """Parts of (n, features), in order of time."""
    first_ms: int = 0
    last_ms: int = 0
    not_learnable: int = 0
    not_finite: int = 0
    after_clean: int = 0
    past: Past | None = None
    """When the rows were, for the drift reference; None without one."""

    def take(self, step: StepResult, clean_until_ms: int | None) -> None:
        """Add the slots of one step."""
        detections = step.detections
        clean = np.ones(len(detections), np.bool_)
        if clean_until_ms is not None:
            clean = detections["slot_end_ms"] <= clean_until_ms
        learnable = clean & detections["learnable"]
        finite = learnable & np.isfinite(detections["features"]).all(axis=1)
        self.after_clean += int((~clean).sum())
        self.not_learnable += int((clean & ~learnable).sum())
        self.not_finite += int((learnable & ~finite).sum())
        if self.past is not None:
            self.past.take(step, finite, clean_until_ms)
        if finite.any():
            ends = detections["slot_end_ms"][finite]
            self.first_ms, self.last_ms = self.first_ms or int(ends[0]), int(ends[-1])
            self.features.append(np.ascontiguousarray(detections["features"][finite], np.float32))


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
    """A bundle for the whole site, or, with one name in `dmas`, for that DMA.

    `windows` in order of time. Slots that end after `clean_until_ms` (epoch ms) are not used. `on_window` hears of each
    window done. Raises ConfigError for an unknown DMA and where fewer than MIN_ROWS slots are left.
    """
    wanted = [dma.id for dma in site.dmas] if dmas is None else list(dmas)
    for dma in wanted:
        if dma not in site.dma_row:
            raise ConfigError([f"DMA {dma!r} is not in network.toml; {nearest(dma, site.dma_row)}"])
    rows = _collect(site, windows, wanted, clean_until_ms, on_window)
    scope = wanted[0] if dmas is not None and len(wanted) == 1 else "*"
    return fit(site.name, scope, rows, seed=seed, trees=trees, max_samples=max_samples)


def _collect(
    site: Site,
    windows: Iterable[Window],
    wanted: Sequence[str],
    clean_until_ms: int | None,
    on_window: Callable[[Window], None] | None,
) -> dict[str, Rows]:
    lateness_ms = longest_lateness_minutes(site.meters) * 60_000
    engines = {site.dma_row[dma]: Engine(site, dma) for dma in sorted(wanted, key=site.dma_row.__getitem__)}
    rows = {row: Rows(past=Past(site.timezone, site.dmas[row].slot_minutes * 60_000)) for row in engines}
    subscribers = site.subscribers()
    for window in windows:
        if clean_until_ms is not None and window.start_ms > clean_until_ms + lateness_ms:
            break  # nothing before it can still be open
        for row, readings in split(window.readings, subscribers):
            if row in engines:
                rows[row].take(engines[row].step(readings, "replay"), clean_until_ms)
        if on_window is not None:
            on_window(window)
    return {site.dmas[row].id: found for row, found in rows.items()}


def fit(site_name: str, scope: str, rows: dict[str, Rows], *, seed: int, trees: int, max_samples: int) -> Bundle:
    """The bundle of what `_collect` found; DMAs in the order of `rows`."""
    x = np.concatenate([np.zeros((0, len(FEATURES)), np.float32), *(part for r in rows.values() for part in r.features)])
    left_out = {
        "warming up, event open or data missing": sum(r.not_learnable for r in rows.values()),
        "feature not finite": sum(r.not_finite for r in rows.values()),
        "after the clean period": sum(r.after_clean for r in rows.values()),
    }
    if len(x) < MIN_ROWS:
        why = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        raise ConfigError(
            [f"training: found {len(x)} slots to learn from ({why}); possible: at least {MIN_ROWS}, so more history"]
        )
    grown = IsolationForest(n_estimators=trees, max_samples=min(max_samples, len(x)), random_state=seed).fit(x)
    forest = flatten(grown)
    scores = score(forest, x)
    pasts = {dma: found.past for dma, found in rows.items() if found.past is not None}
    reference = reference_of(pasts, {dma: rows[dma].features for dma in pasts}, forest)
    used = [r for r in rows.values() if r.features]
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        id=f"{site_name}/{scope}",
        scope=scope,
        version="",
        features=list(FEATURES),
        trained_from_ms=min(r.first_ms for r in used),
        trained_until_ms=max(r.last_ms for r in used),
        data_sha256=_data_sha256(rows),
        arrays_sha256=hashlib.sha256(pack_arrays(forest, reference)).hexdigest(),
        code_version=f"nightline {version('nightline')}, scikit-learn {version('scikit-learn')}",
        seed=seed,
        denominator=forest.denominator,
        settings={"trees": trees, "max_samples": min(max_samples, len(x))},
        metrics={
            "rows": float(len(x)),
            "dmas": float(len(used)),
            **{f"score_p{100 * q:g}": float(np.quantile(scores, q)) for q in QUANTILES},
            "score_max": float(scores.max()),
        },
        left_out=left_out,
        reference=None if reference is None else facts_of(reference),
    )
    return Bundle(_versioned(manifest), forest, reference)


def _versioned(manifest: Manifest) -> Manifest:
    """The manifest with a version made of data, settings, seed and result: the same training has the same version."""
    facts = (manifest.data_sha256, manifest.arrays_sha256, manifest.seed, manifest.code_version, manifest.settings)
    digest = hashlib.sha256(repr(facts).encode()).hexdigest()
    return msgspec.structs.replace(manifest, version=digest[:12])


def _data_sha256(rows: dict[str, Rows]) -> str:
    digest = hashlib.sha256()
    for dma, found in rows.items():
        digest.update(f"{dma}:{sum(len(part) for part in found.features)}\n".encode())
        for part in found.features:
            digest.update(part.astype("<f4", copy=False).tobytes())
    return digest.hexdigest()


def flatten(grown: IsolationForest) -> Forest:
    """A fitted IsolationForest as the arrays of models/forest.py: `score` gives its `-score_samples`.

    Trees are re-laid breadth first, and a tree's features renamed to columns of X (max_features < 1 gives each its own
    subset). Raises ValueError for trees too large for packed nodes.
    """
    parts = [_flatten_tree(e.tree_, f) for e, f in zip(grown.estimators_, grown.estimators_features_, strict=True)]
    nodes = [part[0] for part in parts]
    roots = np.concatenate([[0], np.cumsum([len(part) for part in nodes])]).astype(np.int32)
    joined = np.concatenate(nodes)
    forest = Forest(
        nodes=joined,
        path=np.concatenate([part[1] for part in parts]),
        roots=roots,
        depths=tree_depths(joined, roots),
        features=int(grown.n_features_in_),
        denominator=float(len(parts) * average_path_length(np.array([grown.max_samples_]))[0]),
    )
    check(forest)
    return forest


def _flatten_tree(tree: Any, columns: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Packed nodes and path lengths of one scikit-learn tree, breadth first, siblings side by side."""
    lefts, rights = tree.children_left.tolist(), tree.children_right.tolist()
    order, depth, left = [0], [0], []
    for at, node in enumerate(order):  # grows while it is walked
        if lefts[node] < 0:
            left.append(at)
            continue
        left.append(len(order))
        order += [lefts[node], rights[node]]
        depth += [depth[at] + 1] * 2
    own = np.array(order)
    leaf = tree.children_left[own] < 0
    feature = np.where(leaf, 0, columns[np.where(leaf, 0, tree.feature[own])])
    path = np.where(leaf, np.array(depth) + average_path_length(tree.n_node_samples[own]), 0.0)
    return pack_nodes(tree.threshold[own], feature, np.array(left)), path
