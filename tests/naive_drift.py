"""Distances of models/drift.py as plain loops."""

import numpy as np


def count_bins(rows, edges):
    """How many of rows (n, C) lie in each bin (C, B + 1) between edges (C, B); an edge belongs to the bin below it."""
    counts = np.zeros((rows.shape[1], edges.shape[1] + 1), np.int32)
    for row in rows:
        for c, value in enumerate(row):
            counts[c, sum(1 for edge in edges[c] if edge < value)] += 1
    return counts


def psi(week, reference):
    """Of two lists of counts, both shrunk towards their sum by half a row a bin."""
    n, m, more, total = sum(week), sum(reference), len(week) / 2, 0.0
    for a, b in zip(week, reference, strict=True):
        if a + b > 0:
            both = (a + b) / (n + m)
            p, q = (a + more * both) / (n + more), (b + more * both) / (m + more)
            total += (p - q) * np.log(p / q)
    return total


def ks(week, reference):
    """Largest difference of the shares below any edge."""
    far = 0.0
    for k in range(len(week)):
        far = max(far, abs(sum(week[: k + 1]) / sum(week) - sum(reference[: k + 1]) / sum(reference)))
    return far
