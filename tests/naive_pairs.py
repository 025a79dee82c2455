"""The arithmetic of `models/pairs.py` once more, as plainly as numpy allows. Imports numpy only, as `naive.py`."""

import numpy as np


def pair_residual(lifted, partners, slopes, i):
    """Median over the partners of logger i of own less slope times partner's."""
    if np.isnan(lifted[i]):
        return np.nan
    pairs = [lifted[i] - slopes[i, k] * lifted[j] for k, j in enumerate(partners[i]) if j >= 0 and not np.isnan(lifted[j])]
    return np.median(pairs) if len(pairs) >= 2 else np.nan


def pair_moments(hours, memory):
    """Means (n,) and covariances (n, n) of hourly means (T, n) without gaps, the newest weighted most.

    The weight of hour t of T is gain_t * product of (1 - gain) of all later ones, with gain_t = 1 / min(t, memory). While T
    is not above `memory` all weights are 1 / T, and these are the plain mean and covariance.
    """
    gains = 1.0 / np.minimum(np.arange(1, len(hours) + 1), memory)
    weights = gains * np.append(np.cumprod((1.0 - gains)[::-1])[::-1][1:], 1.0)
    mean = weights @ hours
    return mean, ((hours - mean) * weights[:, None]).T @ (hours - mean)


def pair_partners(cov, most):
    """Partners (L, most) and slopes of each of L loggers from covariances (L + 1, L + 1), the last of the inflow.

    Of what the inflow does not explain, with the highest squared correlation first.
    """
    rest = cov[:-1, :-1] - np.outer(cov[:-1, -1], cov[-1, :-1]) / cov[-1, -1]
    merit = rest**2 / np.outer(np.diag(rest), np.diag(rest))
    np.fill_diagonal(merit, -1.0)
    partners = np.argsort(-merit, axis=1)[:, :most]
    slopes = np.take_along_axis(rest / np.diag(rest)[None, :], partners, axis=1)
    return partners, slopes
