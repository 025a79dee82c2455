"""A logger that drifts alone is a meter's fault; what several loggers show is a leak."""

from __future__ import annotations

import numpy as np
import pytest

from models.engine import Engine
from models.lone_loggers import DUE, LEAST_LOGGERS, LONE, QUIET, TELL_DAYS, WITHIN_DAYS, is_lone, new_lone, note_lone
from models.network import parse_site
from models.pairs import DAYS, new_loggers
from models.schema import FLOW, PRESSURE, READING
from tests.synthetic import DAY, SITE_TOML, SLOT_MS, START_MS, demand

KPA_PER_M = 9.80665


def naive_is_lone(days, one, run):
    """`days` (L, n), newest first."""
    with np.errstate(invalid="ignore"):
        counts = (~np.isnan(days[:, :run])).sum(axis=1)
        shifts = np.abs(np.nansum(days[:, :run], axis=1) / np.maximum(counts, 1))
    others = shifts[(counts > 0) & (np.arange(len(days)) != one)]
    return len(others) + 1 >= LEAST_LOGGERS and bool((others * LONE <= shifts[one]).all())


@pytest.mark.parametrize("seed", range(4))
def test_whether_a_logger_moved_alone_agrees_with_its_naive_twin(seed):
    rng, said = np.random.default_rng(seed), []
    for loggers in (LEAST_LOGGERS - 1, LEAST_LOGGERS, 16):
        for run in (2, 5, 10):
            rows, _ = new_loggers(loggers)
            rows["days"] = rng.normal(0.0, 0.1, (loggers + 1, DAYS))
            rows["days"][3] -= rng.choice([0.1, 0.5, 1.0])
            rows["days"][rng.random((loggers + 1, DAYS)) < 0.1] = np.nan
            rows["days"][3, 0] = -0.7
            got = is_lone(rows, 3, run)
            assert got == naive_is_lone(rows["days"][:-1], 3, run)
            said.append((loggers, got))
    assert not any(got for loggers, got in said if loggers < LEAST_LOGGERS)


def test_it_takes_three_days_one_way_to_be_told_and_another_way_begins_anew():
    lone = new_lone(12)
    for day in range(TELL_DAYS - 1):
        note_lone(lone[0], -1, -0.5, 100 + day, 5)
    assert lone[0]["state"] == QUIET
    note_lone(lone[0], 1, 0.5, 103, 7)
    assert (lone[0]["days"], lone[0]["since_ms"]) == (1, 7)
    note_lone(lone[0], 1, 0.5, 104 + WITHIN_DAYS, 9)
    assert (lone[0]["days"], lone[0]["since_ms"]) == (1, 9)
    for day in range(TELL_DAYS - 1):
        note_lone(lone[0], 1, 0.5, 105 + WITHIN_DAYS + day, 9)
    assert lone[0]["state"] == DUE


def town(drift_m=0.0, leak_m3h=0.0, loggers=12, days=62):
    """Twelve loggers; from day 35 one drifts for 20 days, or a leak grows beside it that the next ones feel as well."""
    meters = "".join(f'[[meter]]\nid = "p-{i}"\nkind = "pressure"\ndma = "D"\n' for i in range(loggers))
    site = parse_site(SITE_TOML, '[[dma]]\nid = "D"\n[[meter]]\nid = "in"\nkind = "flow"\nto = "D"\n' + meters)
    rng, flow = np.random.default_rng(8), demand(days, 60.0, 8)
    growth = np.clip((np.arange(days * DAY) / DAY - 35.0) / 20.0, 0.0, 1.0)
    loss = np.linspace(2e-3, 8e-3, loggers)
    head = 450.0 + rng.normal(0.0, 0.5, len(flow))
    pressure = head[:, None] - loss * rng.normal(1.0, 0.02, (len(flow), loggers)) * flow[:, None] ** 2
    pressure += rng.normal(0.0, 0.3, pressure.shape)
    pressure[:, 4] += KPA_PER_M * drift_m * growth
    for at, share in ((4, 0.8), (5, 0.5), (6, 0.3)):
        pressure[:, at] -= share * leak_m3h * growth
    out = np.zeros((len(flow), 1 + loggers), READING)
    out["time_ms"] = (START_MS + SLOT_MS * np.arange(1, len(flow) + 1))[:, None]
    out["value"] = np.round(np.column_stack([flow + leak_m3h * growth, pressure]), 3)
    out["meter"] = [site.meter_row[name] for name in ("in", *(f"p-{i}" for i in range(loggers)))]
    out["kind"] = [FLOW] + [PRESSURE] * loggers
    engine = Engine(site, "D")
    return [alert for part in np.array_split(out.ravel(), 30) for alert in engine.step(part).alerts]


@pytest.mark.parametrize("drift_m", [-1.0, 1.0])
def test_a_logger_that_drifts_is_told_as_its_own_fault_and_not_as_a_leak(drift_m):
    alerts = town(drift_m)
    faults = [alert for alert in alerts if alert.type == "meter_fault"]
    assert [alert.event for alert in faults] == ["raised"]
    first = faults[0]
    assert (first.scope.type, first.scope.id, first.reasons) == ("logger", "p-4", ["drifting"])
    assert ("lower" if drift_m < 0 else "higher") in first.title.en
    assert ("偏低" if drift_m < 0 else "偏高") in first.title.zh
    assert 35.0 < (first.detected_at - START_MS) / 86_400_000 < 60.0
    assert not [alert for alert in alerts if "pressure_below_neighbours" in alert.reasons]


def test_a_leak_that_its_neighbours_feel_is_no_drift():
    alerts = town(leak_m3h=8.0)
    assert not [alert for alert in alerts if alert.type == "meter_fault"]
    assert [alert for alert in alerts if "pressure_below_neighbours" in alert.reasons]


def test_few_loggers_say_nothing_of_drift():
    assert not [alert for alert in town(-1.0, loggers=LEAST_LOGGERS - 1) if alert.type == "meter_fault"]
