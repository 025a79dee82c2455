"""A fitted scikit-learn isolation forest as the arrays of models/forest.py."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

from models.forest import Forest, average_path_length, check, pack_nodes, tree_depths


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
