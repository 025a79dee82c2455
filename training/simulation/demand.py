"""What the town draws: a day's rhythm, the week's, the weather's, night users, and chance.

demand = weight * rhythm(hour, weekday) * weather * chance       each junction, each quarter hour, m3/h
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from training.simulation.town import Area

Floats = NDArray[np.float64]

# Household use by local hour, relative. The shape of residential districts: a trough at 03:00, peaks at 07:30 and 19:00;
# on weekends the morning comes two hours later and the evening ends later.
# fmt: off
_WEEKDAY = np.array([.35, .22, .17, .15, .17, .38, 1.05, 1.75, 1.65, 1.35, 1.20, 1.15,
                     1.20, 1.25, 1.10, 1.00, 1.05, 1.20, 1.45, 1.60, 1.50, 1.25, .95, .60])
_WEEKEND = np.array([.48, .29, .19, .16, .16, .22, .45, .85, 1.30, 1.65, 1.75, 1.65,
                     1.50, 1.45, 1.25, 1.15, 1.10, 1.20, 1.40, 1.50, 1.40, 1.20, 1.00, .75])
# fmt: on
_MEAN = float((5 * _WEEKDAY.mean() + 2 * 1.04 * _WEEKEND.mean()) / 7)
_RHYTHM = np.stack([*([_WEEKDAY] * 5), 1.04 * _WEEKEND, 1.04 * _WEEKEND]).ravel() / _MEAN
"""(168,) by hour of the week from Monday 00:00; mean 1."""

LITRES_PER_USE: Final = 20.0
"""Water comes in uses (a shower, a cistern) of about this size: what makes a small district noisier than a large one."""


def local_hours(starts_ms: NDArray[np.int64], timezone: str) -> Floats:
    """Local hour of the week (0 = Monday 00:00, < 168) of each moment."""
    zone = ZoneInfo(timezone)
    moments = [datetime.fromtimestamp(ms / 1000, UTC).astimezone(zone) for ms in starts_ms.tolist()]
    return np.array([m.weekday() * 24 + m.hour + m.minute / 60 for m in moments])


def autoregressive(rng: np.random.Generator, steps: int, phi: float, sd: float) -> Floats:
    """(steps,) AR(1) noise, stationary from the first step, with standard deviation `sd`."""
    shocks = rng.normal(0.0, sd * np.sqrt(1.0 - phi * phi), steps)
    values = np.empty(steps)
    values[0] = rng.normal(0.0, sd)
    for step in range(1, steps):
        values[step] = phi * values[step - 1] + shocks[step]
    return values


def weather(rng: np.random.Generator, steps: int, steps_per_day: int) -> Floats:
    """(steps,) factor around 1: warm and cool spells of several days, and the slow end of summer; a few percent."""
    days = steps // steps_per_day + 2
    daily = autoregressive(rng, days, phi=0.85, sd=0.015) + np.linspace(0.015, -0.015, days)
    return 1.0 + np.interp(np.arange(steps) / steps_per_day, np.arange(days), daily)


def area_demand(rng: np.random.Generator, area: Area, weights: Floats, hours: Floats, warmth: Floats, slot_s: int) -> Floats:
    """(steps, junctions) demand of one DMA in m3/h.

    weights: (junctions,) sum 1, the share of each junction; hours: (steps,) local hour of the week; warmth: (steps,)
    factor of the weather. The mean is `area.mean_m3h` less its background leakage, night users included.
    """
    night_users = np.zeros((len(hours), len(area.junctions)))
    for junction, flow_m3h, start, end, weekdays in area.night_users:
        on = np.isin(hours // 24, weekdays) & (hours % 24 >= start) & (hours % 24 < end)
        night_users[:, area.junctions.index(junction)] += on * flow_m3h * rng.normal(1.0, 0.08, len(hours)).clip(0.5)
    household = area.mean_m3h * (1.0 - area.background) - night_users.sum(axis=1).mean()

    # half an hour of shift and a few percent per hour: no two districts live the same day
    shape = _RHYTHM * rng.normal(1.0, 0.04, 24)[np.arange(168) % 24]
    shape /= shape.mean()
    rhythm = np.interp((hours - rng.uniform(-0.5, 0.5)) % 168, np.arange(169), np.append(shape, shape[0]))
    spell = 1.0 + autoregressive(rng, len(hours), phi=0.95, sd=0.015)
    expected = household * (rhythm * warmth * spell)[:, None] * weights[None, :]

    # uses arrive by chance: variance proportional to the mean
    use_m3h = LITRES_PER_USE * 1e-3 * 3600.0 / slot_s
    drawn = rng.gamma(np.maximum(expected, 1e-9) / use_m3h, use_m3h)
    return drawn + night_users
