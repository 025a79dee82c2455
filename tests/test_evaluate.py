"""Evaluation: one pass for all budgets, each as if it ran alone, and a page and a table of what came out."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks import accuracy
from models.config import ConfigError
from nightline.cli import nightline
from nightline.evaluate import say
from tests.synthetic import DAY, NETWORK_TOML, SITE_TOML, SLOT_MS, START_MS, daily, make_site, readings, run, step_between
from training.evaluate import Evaluation, evaluate
from training.history import Window
from training.labels import Leak
from training.matching import Rules
from training.scorecard_page import write_scorecard
from training.train import train

DAYS = 50
SITE = make_site()
START = 30 * DAY
LEAKS = [
    Leak("big", "C", "abrupt", START_MS + START * SLOT_MS, START_MS + (START + 5 * DAY) * SLOT_MS, 25.0),
    Leak("unseen", "A", "incipient", START_MS + START * SLOT_MS, None, 0.1, START_MS + (START + 10 * DAY) * SLOT_MS),
    Leak("early", "B", "abrupt", START_MS + DAY * SLOT_MS, START_MS + 2 * DAY * SLOT_MS, 1.0),
]


def windows(block: Any) -> list[Window]:
    return [Window(int(part["time_ms"][0]), int(part["time_ms"][-1]) + 1, part) for part in daily(block)]


@pytest.fixture(scope="module")
def block() -> Any:
    return readings(DAYS, seed=2, c=step_between(DAYS, START, START + 5 * DAY, 25.0))


@pytest.fixture(scope="module")
def found(block: Any) -> Evaluation:
    return evaluate(SITE, windows(block), LEAKS, budgets=(0.5, 20.0))


def test_the_alerts_are_those_of_an_engine_of_that_budget_alone(block: Any, found: Evaluation) -> None:
    expected, _ = run(SITE, [block])
    assert [(a.alert_id, a.revision) for a in found.alerts] == [(a.alert_id, a.revision) for a in expected]
    assert [row["timesTheBudget"] for row in found.scorecard["budgets"]] == [0.5, 1.0, 20.0]
    generous = dataclasses.replace(SITE, alerts_per_week=20 * SITE.alerts_per_week)
    alone = evaluate(generous, windows(block), LEAKS, budgets=()).scorecard
    assert alone["budgets"][0]["leakAlarms"] == found.scorecard["budgets"][-1]["leakAlarms"]
    assert alone["budgets"][0]["alertsPerWeek"] == found.scorecard["budgets"][-1]["alertsPerWeek"]


def test_the_scorecard_tells_found_missed_and_uncounted_leaks(found: Evaluation) -> None:
    card = found.scorecard
    by_id = {leak["id"]: leak for leak in card["leaks"]}
    assert (by_id["big"]["found"], by_id["unseen"]["found"], by_id["early"]["counted"]) == (True, False, False)
    assert card["leaksInWarmUp"] == ["early"]
    assert (card["summary"]["abrupt"]["leaks"], card["summary"]["incipient"]["leaks"]) == (1, 1)
    assert card["leakdb"]["earlyDetection"] is not None
    assert [floor["name"].split(" ")[0] for floor in card["floors"]] == ["random:", "MNF", "MNF"]
    assert json.loads(json.dumps(card, allow_nan=False)) == card


def test_rules_can_be_other_than_strict(block: Any) -> None:
    card = evaluate(SITE, windows(block), LEAKS, Rules(abrupt_within_hours=0.1), budgets=()).scorecard
    assert card["summary"]["abrupt"]["found"] == 0
    assert {leak["id"]: leak["lateHours"] is not None for leak in card["leaks"]}["big"]


def test_the_page_draws_every_leak_and_every_budget(tmp_path: Path, found: Evaluation) -> None:
    path = tmp_path / "scorecard.html"
    write_scorecard(path, "test & ville", SITE.timezone, found.scorecard, "3 known leaks")
    page = path.read_text(encoding="utf-8")
    assert "test &amp; ville" in page
    figures = json.loads(re.search(r'id="figures" type="application/json">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    assert list(figures) == ["score-delay", "score-budget"]
    drawn = [trace for trace in figures["score-delay"]["data"] if trace.get("text")]
    assert sum(len(trace["text"]) for trace in drawn) == 3
    [ours] = [trace for trace in figures["score-budget"]["data"] if trace["name"].startswith("Nightline")]
    assert ", ".join(ours["text"]) == "×0.5, ×1, ×20"
    assert "in warm-up" in page
    assert page.count('<span class="id">') == len(found.scorecard["unexplainedAlarms"])
    assert "not counted: 1 known leaks started in a DMA&#x27;s warm-up (early)" in page


def test_a_scorecard_without_leaks_has_its_rates(tmp_path: Path, block: Any, capsys: pytest.CaptureFixture[str]) -> None:
    card = evaluate(SITE, windows(block), [], budgets=()).scorecard
    write_scorecard(tmp_path / "scorecard.html", "x", "UTC", card)
    say(card)
    said = capsys.readouterr().out
    assert "0 known leaks" in said
    assert f"unexplained alarms: {card['summary']['leakAlarms']} " in said


def test_budgets_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(SITE_TOML, encoding="utf-8")
    (tmp_path / "network.toml").write_text(NETWORK_TOML, encoding="utf-8")
    for budgets in ("1,none", "0", "-1", "nan"):
        arguments = ["--readings", "r", "--labels", "l", "--out", str(tmp_path / "out"), "--budgets", budgets]
        done = CliRunner().invoke(nightline, ["evaluate", str(tmp_path), *arguments])
        assert isinstance(done.exception, ConfigError)
        assert f"--budgets {budgets!r}; possible: numbers above 0" in done.exception.faults[0]


def test_the_table_of_accuracy_is_made_of_scorecards(found: Evaluation) -> None:
    rows = [("made-up", found.scorecard)]
    table = accuracy.event_rows(rows)
    assert {len(row) for row in table} == {11}
    assert table[1][:3] == ["**made-up**", "1 of 1 (21–100 %)", "0 (≤ 0)"]
    assert [row[0][:8] for row in table[2:]] == ["… MNF 10", "… MNF 20"]
    assert accuracy.slot_rows([("Hanoi", found.scorecard)])[1][0] == "**Hanoi**"
    text = accuracy.markdown(table)
    assert text.splitlines()[1] == "| " + " | ".join(["---"] * 11) + " |"


def test_data_that_is_absent_is_skipped_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    accuracy.main(["--data", str(tmp_path), "--out", str(tmp_path / "out")])
    said = (tmp_path / "out" / "accuracy.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip() == said.strip()
    for name in ("bwdf", "ltown-2018", "hanoi"):
        assert f"skipped: found no {tmp_path / name}" in said


def test_with_a_model_the_scorecard_tells_what_it_would_be_without(block: Any, found: Evaluation) -> None:
    bundle = train(SITE, windows(block)[:30], seed=1, trees=20)
    card = evaluate(SITE, windows(block), LEAKS, bundle=bundle, budgets=()).scorecard
    assert card["withoutModel"] == found.scorecard["budgets"][1]
    assert [row["timesTheBudget"] for row in card["budgets"]] == [1.0]
    assert "withoutModel" not in found.scorecard
