"""Silent detectors: they say nothing, the others share their budget, and the scorecard tells what each was worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import accuracy
from models.config import ConfigError
from models.detectors import BURST, DETECTORS, FLOW_SHIFT, NIGHT_FLOW
from models.engine import Engine
from models.network import Site
from models.params import params_of, speaking
from nightline.cli import nightline
from nightline.evaluate import say
from tests import loggers
from tests.synthetic import DAY, NETWORK_TOML, SITE_TOML, SLOT_MS, START_MS, make_site, readings, step_between
from tests.test_evaluate import windows
from training.ablation import ablation_row, ablation_table, able
from training.evaluate import Evaluation, evaluate
from training.labels import Leak
from training.scorecard_page import write_scorecard
from training.train import train

DAYS = 45
STEP = 30 * DAY
SITE = make_site()
LEAKS = [
    Leak("large", "C", "abrupt", START_MS + STEP * SLOT_MS, START_MS + (STEP + 5 * DAY) * SLOT_MS, 25.0),
    Leak("unseen", "A", "incipient", START_MS + STEP * SLOT_MS, None, 0.1, START_MS + (STEP + 10 * DAY) * SLOT_MS),
]


@pytest.fixture(scope="module")
def block() -> Any:
    return readings(DAYS, seed=2, c=step_between(DAYS, STEP, STEP + 5 * DAY, 25.0))


@pytest.fixture(scope="module")
def piped() -> tuple[Site, Any]:
    """A DMA with pressure loggers to compare, in which everybody has something to say."""
    site = loggers.make_site()
    flow, pressure = loggers.columns(DAYS, seed=11)
    loggers.leak(flow, pressure, loggers.ramp(DAYS, 30.4, 36, 6.0), at=3)
    return site, loggers.readings(site, flow, pressure)


@pytest.fixture(scope="module")
def heard(piped: tuple[Site, Any]) -> Any:
    site, block = piped
    return Engine(site, site.dmas[0].id).step(block).detections


@pytest.mark.parametrize("number", range(len(DETECTORS)), ids=[d.name for d in DETECTORS])
def test_a_silent_detector_says_nothing_and_the_others_speak(piped: tuple[Site, Any], heard: Any, number: int) -> None:
    site, block = piped
    got = Engine(site, site.dmas[0].id, silent=[DETECTORS[number].name]).step(block).detections
    assert (got["scores"][:, number] == 0).all()
    assert np.isnan(got["statistics"][:, number]).all()
    for other in (NIGHT_FLOW, BURST, FLOW_SHIFT):
        assert other == number or (got["scores"][:, other] > 0).any()
    has_a_word = DETECTORS[number].name in speaking(site, site.dmas[0].id)
    assert (heard["scores"][:, number] > 0).any() == has_a_word  # the forest, without a model, has none


def test_the_budget_of_a_silent_detector_goes_to_the_others(piped: tuple[Site, Any]) -> None:
    site, dma = piped[0], piped[0].dmas[0].id
    assert set(speaking(site, dma)) - set(speaking(SITE, "B")) == {"pressure_step", "pressure_trend"}
    assert "isolation" not in speaking(site, dma)
    voices = len(speaking(site, dma))
    whole = params_of(site, dma).return_days
    assert params_of(site, dma, ["burst"]).return_days == pytest.approx(whole * (voices - 1) / voices)
    assert params_of(site, dma, ["isolation"]).return_days == whole  # it has no part of it
    assert params_of(SITE, "B", ["pressure_step"]).return_days == params_of(SITE, "B").return_days


def test_a_name_that_is_no_detector_is_told_with_what_is_possible() -> None:
    with pytest.raises(ValueError, match=r"'brust' is no detector; possible: night_flow, burst"):
        Engine(SITE, "A", silent=["brust"])


def test_a_state_of_an_engine_with_a_silent_detector_is_refused_by_one_without() -> None:
    silent, whole = Engine(SITE, "A", silent=["burst", "night_flow"]), Engine(SITE, "A")
    silent.step(readings(2))
    whole.step(readings(2))
    with pytest.raises(ValueError, match="without burst without night_flow"):
        whole.restore(silent.snapshot())
    with pytest.raises(ValueError, match="without burst"):
        silent.restore(whole.snapshot())
    again = Engine(SITE, "A", silent=["night_flow", "burst"])
    again.restore(silent.snapshot())
    assert again.snapshot() == silent.snapshot()


@pytest.fixture(scope="module")
def found(block: Any) -> Evaluation:
    return evaluate(SITE, windows(block), LEAKS, budgets=(), without=["flow_shift", "burst", "night_flow"])


def test_each_row_is_what_engines_without_the_detector_find_alone(block: Any, found: Evaluation) -> None:
    rows = found.scorecard["ablation"]
    assert [row["without"] for row in rows] == ["night_flow", "burst", "flow_shift"]
    engine = Engine(SITE, "C", silent=["burst"])
    alone = [alert for alert in engine.step(block).alerts if alert.event == "raised" and alert.type == "burst"]
    delay_h = (alone[0].detected_at - LEAKS[0].started_ms) / 3_600_000
    assert rows[1]["abrupt"]["medianDelayHours"] == pytest.approx(delay_h, abs=0.01)
    whole = found.scorecard["summary"]["abrupt"]["medianDelayHours"]
    assert rows[1]["difference"]["abruptMedianDelayHoursOfBoth"] == pytest.approx(delay_h - whole, abs=0.011)
    assert delay_h > whole  # the burst detector is the faster one


def leak_row(name: str, delay: float | None, kind: str = "abrupt") -> dict[str, Any]:
    return {"id": name, "kind": kind, "counted": True, "found": delay is not None, "delayHours": delay}


def row_with(found: int, alarms: int, lost: float, f1: float | None) -> dict[str, Any]:
    kinds = {kind: {"found": found, "leaks": 3, "medianDelayHours": 2.0} for kind in ("abrupt", "incipient")}
    rates = {"leakAlarms": alarms, "unexplainedPerDmaMonth": alarms / 10, "lostUnseen_m3": lost, "leakdb": {"f1": f1}}
    return {"timesTheBudget": 1.0, **kinds, **rates}


def test_differences_are_counted_by_hand_and_delays_over_the_leaks_that_both_find() -> None:
    whole, less = row_with(3, 5, 100.0, 80.0), row_with(2, 4, 160.0, 70.5)
    leaks = [leak_row("a", 1.0), leak_row("b", 2.0), leak_row("c", 30.0), leak_row("d", 7.0, "incipient")]
    later = [leak_row("a", 4.0), leak_row("b", None), leak_row("c", 40.0), leak_row("d", None, "incipient")]
    row = ablation_row(less, later, whole, leaks, "burst")
    assert row["difference"] == {
        "abruptFound": -1, "incipientFound": -1,
        "abruptMedianDelayHoursOfBoth": 6.5, "incipientMedianDelayHoursOfBoth": None,
        "leakAlarms": -1, "unexplainedPerDmaMonth": -0.1, "lostUnseen_m3": 60.0, "leakdbF1": -9.5,
    }  # fmt: skip
    assert ablation_table({"budgets": [whole], "ablation": [row]})[1:] == [
        ["all detectors", "3 of 3", "2.0 h", "3 of 3", "2.0 h", "5", "0.5", "100", "80.0"],
        ["without burst", "2 of 3 (−1)", "2.0 h (+6.5 h)", "2 of 3 (−1)", "2.0 h", "4 (−1)", "0.4 (−0.1)", "160 (+60)",
         "70.5 (−9.5)"],
    ]  # fmt: skip


def test_page_and_terminal_show_every_silent_detector(
    tmp_path: Path, found: Evaluation, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scorecard(tmp_path / "card.html", "x", "UTC", found.scorecard)
    page = (tmp_path / "card.html").read_text(encoding="utf-8")
    assert "<th>Unexplained<br>a DMA-month</th>" in page
    say(found.scorecard)
    said = capsys.readouterr().out
    for name in ("night_flow", "burst", "flow_shift"):
        assert f"<td>without {name}</td>" in page
        assert f"without {name}" in said
    assert ablation_table({**found.scorecard, "ablation": []}) == []
    table = accuracy.ablation_rows([("made-up", found.scorecard)])
    assert [row[0] for row in table[1:]] == [
        "**made-up**",
        "… without night_flow",
        "… without burst",
        "… without flow_shift",
    ]
    assert {len(row) for row in table} == {9}


def test_only_detectors_that_have_a_word_can_be_left_out(tmp_path: Path) -> None:
    assert able(SITE, None) == ["night_flow", "burst", "flow_shift"]
    (tmp_path / "site.toml").write_text(SITE_TOML, encoding="utf-8")
    (tmp_path / "network.toml").write_text(NETWORK_TOML, encoding="utf-8")
    (tmp_path / "labels.csv").write_text("dma,kind,startedAt,endedAt\n", encoding="utf-8")
    arguments = ["--readings", "r", "--labels", str(tmp_path / "labels.csv"), "--out", str(tmp_path / "out")]
    for name, why in (("forest", "'forest' is no detector"), ("isolation", "'isolation' has no word in this site")):
        done = CliRunner().invoke(nightline, ["evaluate", str(tmp_path), *arguments, "--without", name])
        assert isinstance(done.exception, ConfigError)
        assert list(done.exception.faults) == [f"without: {why}; possible: night_flow, burst, flow_shift"]


def test_after_training_counts_only_what_no_model_has_seen(block: Any) -> None:
    """Engines begin without the model, as where it is promoted later; its row tells what the forest alone brings."""
    bundle = train(SITE, windows(block)[:25], seed=1, trees=20)
    card = evaluate(
        SITE, windows(block), LEAKS, bundle=bundle, budgets=(), without=["isolation"], after_training=True
    ).scorecard
    until_ms = bundle.manifest.trained_until_ms
    spent = (START_MS + DAYS * DAY * SLOT_MS - until_ms) / (30.44 * 86_400_000)
    assert card["summary"]["dmaMonths"] == pytest.approx(3 * spent, abs=0.05)
    assert [row["without"] for row in card["ablation"]] == ["isolation"]
    assert card["ablation"][0]["abrupt"] == card["withoutModel"]["abrupt"]
    with pytest.raises(ConfigError, match="no model serves this site"):
        evaluate(SITE, windows(block)[:3], LEAKS, budgets=(), after_training=True)
    with pytest.raises(ConfigError, match="no readings behind 2026-"):
        evaluate(SITE, windows(block)[:20], LEAKS, bundle=bundle, budgets=(), after_training=True)
