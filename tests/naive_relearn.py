"""Calibrations learned again, once more and as plainly as can be. Imports numpy only, as `naive.py`."""

import numpy as np


def relearn(prior, return_days, maxima, quiet, alarms):
    """Mean, variance and days of one detector. `prior`: its mean, sd, long_tail, quarantine_days, share.

    `maxima` and `quiet` by day; `alarms`: day, length, told (0, 1 or 2) and the statistic vouched for, or NaN.
    """
    mean, sd, long_tail, quarantine, share = prior
    variance, days, waiting = sd**2, 5.0, []

    def level():
        days_of_law = np.log(return_days / share)
        tail = 2 * days_of_law - 1 if long_tail else np.sqrt(6) / np.pi * (days_of_law - np.euler_gamma)
        return mean + np.sqrt(variance) * tail

    def most():
        return min(level(), mean + 3 * np.sqrt(variance)) if long_tail else level()

    def take(value, known):
        nonlocal mean, variance
        gain = 1 / min(known + 1, 90)
        mean, variance = mean + gain * (value - mean), (1 - gain) * (variance + gain * (value - mean) ** 2)

    for day in range(len(maxima) + 1):
        for at, length, told, vouched in alarms:
            if at == day:
                waiting = [np.nan] * min(length, len(waiting)) + waiting[length:]
                if told:
                    take(most() if np.isnan(vouched) else min(vouched, 1.5 * level()), max(days, 89) if told == 2 else days)
                    days += told == 1
        if day < len(maxima):
            if len(waiting) >= quarantine and not np.isnan(waiting[quarantine - 1]):
                take(min(waiting[quarantine - 1], most()), days)
                days += 1
            waiting.insert(0, maxima[day] if quiet[day] else np.nan)
    return mean, variance, days
