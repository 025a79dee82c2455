"""The kernels once more, as plainly as numpy allows. Imports numpy only, so nothing under test can leak in here."""

import numpy as np


def window_mean(values):
    kept = values[~np.isnan(values)]
    return np.mean(kept) if kept.size else np.nan


def window_std(values):
    kept = values[~np.isnan(values)]
    return np.std(kept) if kept.size else np.nan


def window_min(values):
    kept = values[~np.isnan(values)]
    return np.min(kept) if kept.size else np.nan


def window_max(values):
    kept = values[~np.isnan(values)]
    return np.max(kept) if kept.size else np.nan


def window_median(values):
    kept = values[~np.isnan(values)]
    return np.median(kept) if kept.size else np.nan


def window_mad(values):
    kept = values[~np.isnan(values)]
    return np.median(np.abs(kept - np.median(kept))) if kept.size else np.nan


def _rolling(statistic, values, window):
    return np.array([statistic(values[max(0, i + 1 - window) : i + 1]) for i in range(len(values))], np.float64)


def rolling_mean(values, window):
    return _rolling(window_mean, values, window)


def rolling_std(values, window):
    return _rolling(window_std, values, window)


def rolling_min(values, window):
    return _rolling(window_min, values, window)


def rolling_max(values, window):
    return _rolling(window_max, values, window)


def rolling_median(values, window):
    return _rolling(window_median, values, window)


def rolling_mad(values, window):
    return _rolling(window_mad, values, window)


def ewma(previous, value, alpha):
    if np.isnan(value):
        return previous
    if np.isnan(previous):
        return value
    return (1.0 - alpha) * previous + alpha * value


def ewma_series(values, alpha):
    means, mean = [], np.nan
    for value in values:
        mean = ewma(mean, value, alpha)
        means.append(mean)
    return np.array(means, np.float64)


def seasonal_z(value, expected, spread):
    return (value - expected) / spread if spread > 0 else np.nan


def cusum(previous, z, drift):
    if np.isnan(previous):
        previous = 0.0
    return previous if np.isnan(z) else max(0.0, previous + z - drift)


def cusum_series(z, drift):
    totals, total = [], 0.0
    for one in z:
        total = cusum(total, one, drift)
        totals.append(total)
    return np.array(totals, np.float64)


def roll_block(sensor, value, expected, spread, alpha, window):
    """The eight statistics per event, (n, 8), of sensors whose windows begin empty."""
    past = {}
    out = np.full((len(sensor), 8), np.nan)
    for i, which in enumerate(sensor):
        values = np.array([*past.get(which, []), value[i]])
        past[which] = values
        recent = values[-window:]
        statistics = (window_mean, window_std, window_min, window_max, window_median, window_mad)
        out[i, :6] = [statistic(recent) for statistic in statistics]
        out[i, 6] = ewma_series(values, alpha)[-1]
        out[i, 7] = seasonal_z(value[i], expected[i], spread[i])
    return out
