"""The smallest leak found: what is said of it holds when the whole history is run anew with such a leak in it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from models.config import ConfigError
from nightline.cli import nightline
from tests.synthetic import DAY, NETWORK_TOML, SITE_TOML, SLOT_MS, START_MS, daily, make_site, readings, run, step_between
from training.detectability import Detectability, Trial, as_json, detectability
from training.history import Window
from training.injection.leaks import Injector, Planted, add_to
from training.injection.recorded import Recorded

DAYS = 75
HOUR = 3_600_000
SITE = make_site()


def windows(block: NDArray[np.void]) -> Iterator[Window]:
    for part in daily(block):
        start = int((part["time_ms"][0] - 1) // 86_400_000) * 86_400_000
        yield Window(start, start + 86_400_000, part)


@pytest.fixture(scope="module")
def block() -> NDArray[np.void]:
    return readings(DAYS, seed=4)


@pytest.fixture(scope="module")
def found(block: NDArray[np.void]) -> list[Detectability]:
    return detectability(SITE, lambda _: windows(block), dmas=["B", "C"], starts=3, seed=1)


def test_each_dma_has_its_trials_at_different_hours(found: list[Detectability]) -> None:
    assert [row.dma for row in found] == ["B", "C"]
    assert "pulls 1 of them down" in found[0].note
    for row in found:
        assert len(row.trials) == 3
        for trial in row.trials:
            assert START_MS + 42 * 24 * HOUR <= trial.started_ms <= START_MS + (DAYS - 7) * 24 * HOUR
            assert 0 < trial.smallest_m3h[168] <= trial.smallest_m3h[24] < row.mean_m3h
    assert len({trial.started_ms % (24 * HOUR) for row in found for trial in row.trials}) == 6


def test_a_run_of_the_whole_history_finds_that_size_and_not_a_smaller_one(
    block: NDArray[np.void], found: list[Detectability]
) -> None:
    injector = Injector(Recorded(SITE, windows(block)))
    for row in found:
        for trial in row.trials[:2]:
            for within_h, size in trial.smallest_m3h.items():
                for factor, expected in ((1.0, True), (0.97, False)):
                    leak = Planted("x", row.dma, trial.started_ms, START_MS + 2 * DAYS * 24 * HOUR, size * factor)
                    alerts, _ = run(SITE, [add_to(block, injector.additions([leak]))])
                    delays = [
                        (alert.detected_at - trial.started_ms) / HOUR
                        for alert in alerts
                        if alert.scope.id == row.dma and alert.type in ("burst", "night_flow_leak")
                    ]
                    assert any(0 < delay <= within_h for delay in delays) is expected


def test_a_start_with_a_leak_of_its_own_is_not_used(block: NDArray[np.void]) -> None:
    leaky = readings(DAYS, seed=4, c=step_between(DAYS, 40 * DAY, 60 * DAY, 25.0))
    [row] = detectability(SITE, lambda _: windows(leaky), dmas=["C"], starts=3, seed=1)
    assert row.not_quiet > 0
    assert all(trial.started_ms > START_MS + 60 * DAY * SLOT_MS for trial in row.trials)


def test_the_same_seed_gives_the_same_answer(block: NDArray[np.void], found: list[Detectability]) -> None:
    again = detectability(SITE, lambda _: windows(block), dmas=["C"], starts=3, seed=1)
    assert again[0].trials == found[1].trials


def test_the_size_is_the_one_found_at_four_of_five_starts() -> None:
    row = Detectability("C", 50.0, "", [Trial(0, {24: size, 168: 1.0}) for size in (3.0, math.inf, 1.0, 4.0, 2.0)])
    assert row.size_m3h(24, 0.8) == 4.0
    assert row.size_m3h(24, 0.81) == math.inf
    assert row.size_m3h(24, 0.2) == 1.0
    part = as_json(SITE, [row], 0.9)["dmas"]["C"]
    assert part["within24h"] == {"m3h": None, "shareOfMeanInflow": None, "each_m3h": [3.0, None, 1.0, 4.0, 2.0]}
    assert part["within168h"]["shareOfMeanInflow"] == 0.02
    assert Detectability("C", 50.0, "").size_m3h(24, 0.8) == math.inf


def test_a_history_too_short_says_what_is_needed() -> None:
    block = readings(30)
    with pytest.raises(ConfigError, match="DMA 'A': too short a history to try leaks in; possible: more than 49 days"):
        detectability(SITE, lambda _: windows(block), dmas=["A"])


def test_the_command_prints_a_table_and_writes_a_page(tmp_path: Path, block: NDArray[np.void]) -> None:
    (tmp_path / "site.toml").write_text(SITE_TOML, encoding="utf-8")
    (tmp_path / "network.toml").write_text(NETWORK_TOML, encoding="utf-8")
    rows = block.reshape(-1, 4)
    lines = [",".join(["timestamp", *(SITE.meters[meter].id for meter in rows["meter"][0])])]
    lines += [f"{t},{','.join(map(repr, v.tolist()))}" for t, v in zip(rows["time_ms"][:, 0], rows["value"], strict=True)]
    (tmp_path / "readings.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    arguments = ["detectability", str(tmp_path), "--readings", str(tmp_path / "readings.csv")]
    done = CliRunner().invoke(
        nightline, [*arguments, "--dma", "C", "--starts", "3", "--seed", "1", "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 0, done.output
    made = json.loads((tmp_path / "out" / "detectability.json").read_text(encoding="utf-8"))
    assert made["dmas"]["C"]["trials"] == 3
    assert f"{made['dmas']['C']['within24h']['m3h']:.3g}" in done.output
    page = (tmp_path / "out" / "detectability.html").read_text(encoding="utf-8")
    assert "within 24 h" in page
    refused = CliRunner().invoke(nightline, [*arguments, "--dma", "Q"])
    assert "--dma 'Q' is not in network.toml; possible: A, B, C" in str(refused.exception)
