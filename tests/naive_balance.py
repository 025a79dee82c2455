"""The balance of a DMA with its customers' meters once more, from all readings at once. Imports numpy only."""

import numpy as np

DAY_MS = 86_400_000


def metered_days(times_ms, meters, flows_m3h, customers, first_day, days, usual_days, whole_hours):
    """Per day: metered mean (m3/h), share of the usual use that was whole, customers with a whole day; NaN, 0, 0 without.

    One reading an hour; of several for the same time any counts once.
    """
    usual = np.full(customers, np.nan)
    out = []
    for day in range(first_day, first_day + days):
        means = np.full(customers, np.nan)
        for customer in range(customers):
            own = (meters == customer) & ((times_ms - 1) // DAY_MS == day)
            _, once = np.unique(times_ms[own], return_index=True)
            if len(once) >= whole_hours:
                means[customer] = np.mean(np.round(flows_m3h[own][once], 4))
        known = ~np.isnan(usual)
        whole = known & ~np.isnan(means)
        if usual[whole].sum() > 0.0:
            share = usual[whole].sum() / usual[known].sum()
            out.append((means[whole].sum() / share, share, int(whole.sum())))
        else:
            out.append((np.nan, 0.0, 0))
        first = np.isnan(usual) & ~np.isnan(means)
        usual[whole] += (means[whole] - usual[whole]) / usual_days
        usual[first] = means[first]
    return np.array(out)


def supplied_days(ends_ms, inflow_m3h, due_m3h, first_day, days, coverage):
    """Per day: mean net inflow, what is missing in proportion to what was due; NaN where too much is missing."""
    out = []
    for day in range(first_day, first_day + days):
        own = (ends_ms - 1) // DAY_MS == day
        there = own & ~np.isnan(inflow_m3h)
        if there.sum() < coverage * 96:
            out.append(np.nan)
        elif np.isnan(due_m3h[own]).any():
            out.append(np.mean(inflow_m3h[there]))
        else:
            out.append(inflow_m3h[there].sum() / due_m3h[there].sum() * due_m3h[own].sum() / own.sum())
    return np.array(out)


def level_and_share(values, rises, start, prior, noise, drift, surprise):
    """Level and share after all values, NaN for a day without: the Kalman filter with matrices. `start`: level, variance."""
    state, covariance = np.array([start[0], prior[0]]), np.diag([start[1], prior[1] ** 2])
    for value, rise in zip(values, rises, strict=True):
        covariance = covariance + np.diag([(drift * noise) ** 2, 0.0])
        if np.isnan(value):
            continue
        row = np.array([1.0, rise])
        variance = row @ covariance @ row + noise**2
        gain = covariance @ row / variance
        error = np.clip(value - row @ state, -surprise * np.sqrt(variance), surprise * np.sqrt(variance))
        state = state + gain * error
        covariance = covariance - np.outer(gain, gain) * variance
        state[1] = max(state[1], 0.0)
    return state
