"""Retraining counts: what labels say of the past changes the calibrations that an engine begins with; nothing else does."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from models.bundle import Bundle, DetectorCalibration, ScoreCalibration
from models.detectors import BURST, DETECTORS, ISOLATION, NIGHT_FLOW, PRESSURE_STEP, PRESSURE_TREND
from models.engine import Engine, StepResult
from models.network import longest_lateness_minutes
from models.params import params_of
from models.relearn import relearn
from models.routing import split
from models.schema import Alert, Readings
from models.state import no_past
from nightline.train import train as train_command
from streams.published import pack_bundle
from tests import loggers, naive_relearn
from tests.synthetic import DAY, NETWORK_TOML, SITE_TOML, SLOT_MS, START_MS, daily, make_site, readings, step_between
from tests.test_bundle import changed, make
from tests.test_swap import AT, FIRST, SECOND, SITE, TOPIC, everywhere, published, went
from training.backtest import Contestant, run_side_by_side
from training.card import card
from training.detector_law import Days
from training.fit import ForestSettings, fit
from training.history import Window
from training.labels import KnownEvent, Leak
from training.leave_out import EVENT_OPEN, Known, known_periods
from training.train import clean_rows

DAYS = 60
DAY_MS = 86_400_000
TOWN = make_site()
LEVELS = ("mean", "variance", "days")


@cache
def block() -> Readings:
    """A town whose DMA A has two bursts, and B a night-flow leak."""
    bursts = step_between(DAYS, 28 * DAY + 40, 30 * DAY, 14.0) + step_between(DAYS, 40 * DAY + 40, 42 * DAY, 14.0)
    return readings(DAYS, a=bursts, b=step_between(DAYS, 33 * DAY, 38 * DAY, 4.0))


@cache
def past(dma: str, hours: int = 24) -> tuple[list[StepResult], Engine]:
    """What an engine made of it, in steps of so many hours."""
    cells = (block()["time_ms"] - 1) // (hours * 3_600_000)
    engine, steps = Engine(TOWN, dma), []
    row = TOWN.dma_row[dma]
    for part in np.split(block(), np.flatnonzero(np.diff(cells)) + 1):
        steps += [engine.step(own) for at, own in split(part, TOWN.subscribers()) if at == row]
    return steps, engine


def days_of(dma: str, *known: Known, hours: int = 24) -> Days:
    found = Days(dma, SLOT_MS, TOWN.timezone, known)
    for step in past(dma, hours)[0]:
        found.take(step)
    return found


def raised(dma: str) -> list[Alert]:
    return [alert for step in past(dma)[0] for alert in step.alerts if alert.event == "raised"]


def told(days: Days, until_ms: int = 1 << 62) -> dict[str, DetectorCalibration]:
    return days.told(float(params_of(TOWN, "A").return_days), 0, until_ms)


def labelled(outcome: str | None, dma: str = "A") -> list[Known]:
    """Labels of all its leak alarms."""
    spans = [(alert.alert_id, dma, alert.started_at, alert.detected_at + 2 * DAY_MS) for alert in raised(dma)]
    if outcome is None:
        return known_periods(TOWN, [Leak(name, of, "abrupt", start, end) for name, of, start, end in spans])
    return known_periods(TOWN, [], [KnownEvent(name, of, outcome, start, end) for name, of, start, end in spans])


# learned again


@pytest.mark.parametrize("dma", ["A", "B"])
def test_without_labels_the_engines_own_calibrations_come_out_to_the_bit(dma: str) -> None:
    engine = past(dma)[1]
    assert raised(dma)
    found = days_of(dma).calibrations(float(engine._params.return_days), 0, engine.watermark_ms, with_labels=True)
    for name in LEVELS:
        np.testing.assert_array_equal(found[name], engine._buffers.calibrations[name])
    assert found[BURST]["days"] > no_past()[BURST]["days"] + 20


def test_so_do_those_of_pressures_with_their_alarms_that_count_by_a_share() -> None:
    site = loggers.make_site()
    flow, pressure = loggers.columns(50, seed=3)
    loggers.leak(flow, pressure, loggers.ramp(50, 35.3, 40.0, 0.6), at=2)
    _, steps, engine = loggers.watch(site, loggers.readings(site, flow, pressure))
    days = Days("D", SLOT_MS, site.timezone)
    for step in steps:
        days.take(step)
    assert any(2 in alarm.alarmed for alarm in days.alarms)
    found = days.calibrations(float(engine._params.return_days), 0, engine.watermark_ms, with_labels=False)
    for name in LEVELS:
        np.testing.assert_array_equal(found[name], engine._buffers.calibrations[name])
    assert (found["days"][[PRESSURE_STEP, PRESSURE_TREND]] > 10).all()


@pytest.mark.parametrize("seed", range(5))
def test_relearning_agrees_with_its_naive_twin(seed: int) -> None:
    rng, days, alarms, count = np.random.default_rng(seed), 150, 12, len(DETECTORS)
    maxima = np.where(rng.random((days, count)) < 0.1, np.nan, rng.gumbel(2.0, 1.0, (days, count)).clip(0))
    quiet, at = rng.random(days) < 0.9, np.sort(rng.integers(0, days + 1, alarms))
    length, told = rng.integers(1, 40, alarms), rng.integers(0, 3, (alarms, count)).astype(np.uint8)
    vouched = np.where(rng.random((alarms, count)) < 0.5, np.nan, rng.uniform(3.0, 40.0, (alarms, count)))
    found = no_past()
    relearn(found, 60.0, maxima, quiet, at, length, told, vouched)
    for d, detector in enumerate(DETECTORS):
        prior = detector.prior_mean, detector.prior_sd, detector.long_tail, detector.quarantine_days, detector.share
        own = list(zip(at, length, told[:, d], vouched[:, d], strict=True))
        expected = naive_relearn.relearn(prior, 60.0, maxima[:, d], quiet, own)
        np.testing.assert_allclose([found[d][name] for name in LEVELS], expected, rtol=1e-9)


@pytest.mark.parametrize("hours", [1, 7, 500])
def test_how_the_history_is_cut_leaves_no_trace(hours: int) -> None:
    known = labelled("false_alarm")[:1] + labelled(None)[1:]
    assert told(days_of("A", *known, hours=hours)) == told(days_of("A", *known))


def test_an_alarm_of_a_known_leak_does_not_count_and_its_days_do_not_either() -> None:
    plain, leaks = told(days_of("A"))["burst"], told(days_of("A", *labelled(None)))["burst"]
    assert (plain.alarms, plain.alarms_excluded, plain.is_changed) == (2, 0, False)
    assert (leaks.alarms, leaks.alarms_excluded, leaks.is_changed) == (0, 2, True)
    assert leaks.threshold < leaks.engine_threshold == plain.threshold
    assert leaks.days < plain.days


def test_an_alarm_that_a_label_calls_normal_counts_with_what_it_was() -> None:
    plain, normal = told(days_of("A"))["burst"], told(days_of("A", *labelled("false_alarm")))["burst"]
    assert (normal.alarms, normal.alarms_normal, normal.alarms_excluded) == (0, 2, 0)
    assert normal.threshold > normal.engine_threshold == plain.threshold
    assert normal.days == plain.days


@pytest.mark.parametrize("outcome", ["planned_work", "meter_fault", "unknown"])
def test_what_nothing_can_be_learned_of_counts_neither_way(outcome: str) -> None:
    found = told(days_of("A", *labelled(outcome)))["burst"]
    assert (found.alarms, found.alarms_normal, found.alarms_excluded) == (0, 0, 2)


def test_a_quiet_day_of_planned_work_is_no_day_and_half_a_day_is_one() -> None:
    midnight = START_MS + 50 * DAY_MS
    whole = Known("*", midnight, midnight + DAY_MS, "planned work", "flushing")
    some = replace(whole, until_ms=midnight + DAY_MS // 3)
    plain, less, same = (told(days_of("A", *known)) for known in ((), (whole,), (some,)))
    assert less["burst"].days_excluded == less["night_flow"].days_excluded == 1
    assert less["burst"].days == plain["burst"].days - 1
    assert same["burst"].days == plain["burst"].days
    assert same["night_flow"].days_excluded == 1  # a day has one statistic, and it lay within


def test_nothing_after_the_training_and_nothing_before_since_is_learned() -> None:
    cut = START_MS + 39 * DAY_MS
    assert told(days_of("A"), cut)["burst"].alarms == 1
    later = days_of("A").told(30.0, cut, 1 << 62)["burst"]
    assert (later.alarms, later.days < 20) == (1, True)


# kept for the forest


def test_slots_of_an_event_that_a_label_calls_normal_are_learned_from() -> None:
    def rows(known: list[Known]) -> Any:
        windows = [Window(int(part["time_ms"][0]), int(part["time_ms"][-1]) + 1, part) for part in daily(block())]
        return clean_rows(TOWN, windows, ["A"], known=known)["A"]

    plain, normal = rows([]), rows(labelled("legitimate_use"))
    assert plain.left_out[EVENT_OPEN] > 100
    assert EVENT_OPEN not in normal.left_out
    assert len(normal.ends_ms) == len(plain.ends_ms) + plain.left_out[EVENT_OPEN]
    one = rows(labelled("legitimate_use")[:1])
    assert 0 < one.left_out[EVENT_OPEN] < plain.left_out[EVENT_OPEN]


# taken over


def law(mean: float, **fields: Any) -> DetectorCalibration:
    usual = {"sd": 0.5, "days": 80, "return_days": 90.0, "threshold": mean + 1.0, "engine_threshold": 2.0}
    return DetectorCalibration(**{"mean": mean} | usual | fields)


def brings(seed: int = 0, score: ScoreCalibration | None = None, **detectors: DetectorCalibration) -> Bundle:
    """A model whose training says this of DMA A."""
    bundle = make(seed=seed)
    of = {"calibration": {} if score is None else {"A": score}, "detectors": {"A": detectors}}
    return replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, **of))


SCORE = ScoreCalibration(mean=0.6, sd=0.02, days=200, return_days=90.0, threshold=0.7)


def levels(engine: Engine) -> list[tuple[float, ...]]:
    return [tuple(float(own[name]) for name in LEVELS) for own in engine._buffers.calibrations]


def test_a_new_engine_begins_with_what_its_model_brings_and_so_does_one_at_a_swap() -> None:
    bundle = brings(score=SCORE, burst=law(3.0), night_flow=law(1.5, days=13))
    first, other, swapped = Engine(SITE, "A", bundle), Engine(SITE, "B", bundle), Engine(SITE, "A")
    assert levels(first)[ISOLATION] == (0.6, 0.02**2, 90.0)
    assert levels(first)[BURST] == (3.0, 0.25, 85.0)
    assert levels(first)[NIGHT_FLOW] == levels(other)[NIGHT_FLOW]  # 13 days are too few
    assert levels(other) == levels(Engine(SITE, "B"))
    swapped.use(bundle)
    assert swapped.snapshot() == first.snapshot()


def ran() -> Engine:
    engine = Engine(TOWN, "A")
    engine.restore(past("A")[1].snapshot())
    return engine


def test_an_engine_keeps_its_own_where_labels_have_changed_nothing() -> None:
    engine = ran()
    before = levels(engine)
    engine.use(brings(burst=law(3.0, days=20, engine_threshold=4.0), night_flow=law(1.0, days=20)))
    assert levels(engine)[BURST] == before[BURST]
    assert levels(engine)[NIGHT_FLOW] == (1.0, 0.25, 25.0)


def test_days_that_wait_stay_with_the_engine_and_those_of_the_old_forest_do_not() -> None:
    engine = ran()
    before = engine._buffers.calibrations.copy()
    engine._buffers.calibrations["waiting"][ISOLATION] = 0.7
    engine.use(brings(burst=law(1.0, engine_threshold=2.5)))
    after = engine._buffers.calibrations
    for detector in (BURST, NIGHT_FLOW):
        np.testing.assert_array_equal(after[detector]["waiting"], before[detector]["waiting"])
        assert after[detector]["day_max"] == before[detector]["day_max"]
    assert (before[BURST]["waiting"] >= 0).any()
    assert after[ISOLATION] == no_past()[ISOLATION]


def test_a_rollback_takes_back_what_labels_have_changed_and_no_model_leaves_the_rest() -> None:
    engine = ran()
    before = brings(burst=law(3.0, engine_threshold=4.0))
    engine.use(before)
    engine.use(brings(1, score=SCORE, burst=law(1.0, engine_threshold=2.5)))
    assert levels(engine)[BURST][0] == 1.0
    engine.use(before)
    assert levels(engine)[BURST][0] == 3.0
    engine.use(brings(1, score=SCORE, burst=law(1.0, engine_threshold=2.5)))
    engine.use(None)
    assert levels(engine)[BURST][0] == 1.0
    assert engine._buffers.calibrations[ISOLATION] == no_past()[ISOLATION]


@pytest.mark.parametrize(("size", "restart"), [(7, 0), (1, 5), (31, 1)])
def test_a_swap_that_brings_calibrations_does_not_depend_on_blocks_or_on_who_reads_the_log(size: int, restart: int) -> None:
    bundle = brings(1, score=SCORE, burst=law(2.0, sd=0.1))
    topic = TOPIC | {"c": pack_bundle(bundle)}
    orders = everywhere(FIRST, 0) | everywhere(published(bundle, "c"))
    whole, cut = went(orders, topic), went(orders, topic, size, restart)
    assert sorted(cut.alerts) == sorted(whole.alerts)
    assert cut.rows() == whole.rows()
    plain = went(everywhere(FIRST, 0) | everywhere(SECOND, AT), topic)
    assert whole.rows("scores") != plain.rows("scores")


# in the bundle


def test_training_puts_them_into_the_bundle_and_the_card_says_them() -> None:
    windows = [Window(int(part["time_ms"][0]), int(part["time_ms"][-1]) + 1, part) for part in daily(block())]
    rows = clean_rows(TOWN, windows, ["A", "B"], known=labelled("false_alarm"))
    bundle = fit("testville", "*", rows, seed=0, settings=ForestSettings(trees=8, max_samples=64)).bundle
    again = Bundle.from_files(bundle.to_files())
    assert again.manifest.detectors == bundle.manifest.detectors
    found = bundle.manifest.detectors["A"]["burst"]
    assert (found.alarms_normal, found.is_changed) == (2, True)
    assert set(bundle.manifest.detectors["A"]) == {"night_flow", "burst", "flow_shift"}
    (line,) = [line for line in card(bundle.manifest).splitlines() if line.startswith("| A | burst |")]
    assert [cell.strip() for cell in line.split("|")[3:6]] == [
        f"{found.threshold:.2f}", f"{found.engine_threshold:.2f}", f"{found.return_days:,.0f}"
    ]  # fmt: skip
    assert line.endswith("| 2 | 0 | 0 | yes |")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"mean": "high"}, r"Expected `float`, got `str` - at `\$\.detectors"),
        ({"mean": None}, r"Expected `float`, got `null`"),
        ({"mean": 1e300}, r"Expected `float` <= 1000000000.0"),
        ({"sd": -1.0}, r"Expected `float` >= 0.0 - at `\$\.detectors"),
        ({"days": -3}, r"Expected `int` >= 0 - at"),
    ],
)
def test_a_calibration_that_is_none_is_refused_in_one_line(entry: dict[str, Any], said: str) -> None:
    files = brings(burst=law(1.0)).to_files()
    own = msgspec.to_builtins(law(1.0)) | entry
    with pytest.raises(ValueError, match=r"bundle: manifest\.json: " + said) as error:
        Bundle.from_files(changed(files, detectors={"A": {"burst": own}}))
    assert len(str(error.value).splitlines()) == 1
    score = msgspec.to_builtins(SCORE) | entry
    with pytest.raises(ValueError, match=r"bundle: manifest\.json: "):
        Bundle.from_files(changed(files, calibration={"A": score}))


def test_a_detector_that_this_version_does_not_know_is_passed_over() -> None:
    engine = Engine(SITE, "A", brings(tide=law(9.0), burst=law(3.0)))
    assert levels(engine)[BURST][0] == 3.0
    assert len(levels(engine)) == len(DETECTORS)


# compared


@pytest.mark.parametrize("hours", [24, 100, 10_000])
def test_a_comparison_takes_a_model_into_use_behind_its_training_however_its_windows_are_cut(hours: int) -> None:
    until_ms = START_MS + 45 * DAY_MS
    bundle = brings(score=SCORE, burst=law(2.0, sd=0.1))
    bundle = replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, trained_until_ms=until_ms))
    cells = (block()["time_ms"] - 1) // (hours * 3_600_000)
    parts = np.split(block(), np.flatnonzero(np.diff(cells)) + 1)
    windows = [Window(int(part["time_ms"][0]), int(part["time_ms"][-1]) + 1, part) for part in parts]
    came: list[list[Any]] = [[], []]
    run_side_by_side(
        [Contestant(TOWN, bundle), Contestant(TOWN, None)], windows,
        lambda place, _, step: came[place].append(step.detections), ["A"], after_training=True,
    )  # fmt: skip
    own, plain = (np.concatenate(parts) for parts in came)
    lateness_ms = longest_lateness_minutes(TOWN.meters) * 60_000
    at = int(np.searchsorted(own["slot_end_ms"], until_ms + lateness_ms, "right"))
    assert own[:at].tobytes() == plain[:at].tobytes()
    assert np.nanmax(own["statistics"][at:, ISOLATION]) > 0
    assert np.isnan(plain["statistics"][:, ISOLATION]).all()
    # so long after the training, no slot of it is judged with what was learned from it
    assert own["slot_end_ms"][at] > until_ms
    assert len(own) == len(plain)


def test_training_says_which_labels_come_too_late_to_change_a_threshold(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(SITE_TOML)
    (tmp_path / "network.toml").write_text(NETWORK_TOML)
    lines = [f"{TOWN.meters[one['meter']].id},{one['time_ms']},{one['value']},{TOWN.meters[one['meter']].kind}"
             for one in block()]  # fmt: skip
    (tmp_path / "r.csv").write_text("\n".join(["meterId,observedAt,value,kind", *lines]) + "\n")
    alarms = [(alert.started_at, alert.detected_at, alert.alert_id) for alert in raised("A")]
    alarms.append((START_MS + 58 * DAY_MS, START_MS + 59 * DAY_MS, "late"))
    labels = [f"A,,{start},{end},{name},false_alarm" for start, end, name in alarms]
    (tmp_path / "l.csv").write_text("\n".join(["dma,kind,startedAt,endedAt,id,outcome", *labels]) + "\n")
    asked = [tmp_path, "--readings", tmp_path / "r.csv", "--labels", tmp_path / "l.csv", "--trees", 8, "--no-figures"]
    said = CliRunner().invoke(train_command, [str(word) for word in asked]).output
    assert "; 3 learned, as normal by their outcome" in said
    assert "they call 2 alarms normal and leave 0 out" in said
    assert "note: 1 known periods begin in what is held back and change no threshold yet; possible: --report 0" in said
