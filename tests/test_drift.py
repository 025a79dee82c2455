"""models/drift.py, drift_weeks.py: distances against plain loops, levels that keep their word, weeks whatever the blocks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from models.bundle import ARRAYS, MANIFEST, Bundle
from models.drift import (
    BINS,
    COLUMNS,
    MIN_SHARED_WEEKS,
    MIN_WEEKS,
    count,
    distances,
    own_levels,
    quantile_edges,
    shared_levels,
)
from models.drift_weeks import Weeks, week_numbers, week_start_ms
from models.features import FEATURES
from tests import naive_drift as naive
from tests.drifting import HOUR_MS, WEEK_SLOTS, ZONE, slots, trained
from tests.synthetic import START_MS
from tests.test_bundle import changed, with_arrays


@pytest.fixture(scope="module")
def model() -> Bundle:
    return trained()


def counted(rows, edges):
    counts = np.zeros((rows.shape[1], BINS), np.int32)
    count(np.ascontiguousarray(rows, np.float32), edges, counts)
    return counts


def test_counts_are_those_of_a_plain_loop_and_an_edge_belongs_below():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 3)).astype(np.float32)
    rows[:, 2] = 0.0  # a column that never moves: all its edges are one
    edges = quantile_edges(rows)
    rows = np.concatenate([rows, edges.T, [[-99, 99, 1]]]).astype(np.float32)
    np.testing.assert_array_equal(counted(rows, edges), naive.count_bins(rows, edges))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 500)), min_size=BINS, max_size=BINS))
@settings(max_examples=100, deadline=None)
def test_distances_are_those_of_plain_loops_and_never_infinite(pairs):
    week, reference = np.array(pairs).T
    week[0] += 1
    reference[-1] += 1
    got = distances(week[None], reference[None])[:, 0]
    np.testing.assert_allclose(got, [naive.psi(week, reference), naive.ks(week, reference)], atol=1e-12)
    assert np.isfinite(got).all()
    assert 0 <= got[1] <= 1


def test_what_has_not_changed_is_at_no_distance_and_empty_bins_add_none():
    counts = np.array([[3, 0, 0, 5] * 4])
    np.testing.assert_allclose(distances(counts, 7 * counts), 0, atol=1e-12)


def test_the_distance_of_bins_comes_near_to_the_exact_one_of_kolmogorov_and_smirnov():
    rng = np.random.default_rng(3)
    before, after = rng.normal(size=(5000, 1)), rng.normal(0.4, 1.2, size=(900, 1))
    edges = quantile_edges(before.astype(np.float32))
    got = distances(counted(after, edges), counted(before, edges))[1, 0]
    exact = ks_2samp(before[:, 0], after[:, 0]).statistic
    assert exact - 0.03 < got <= exact + 1e-6


def test_one_week_a_year_is_over_its_level_by_chance():
    """Weeks with a level of their own, as seasons and weather give them: 60 DMAs trained on a year, a year after it."""
    rng = np.random.default_rng(11)
    over = weeks = 0
    for _ in range(60):
        level = rng.normal(scale=0.3, size=(104, 1, 3))
        rows = (level + rng.normal(size=(104, 100, 3))).astype(np.float32)
        edges = quantile_edges(rows[:52].reshape(-1, 3))
        counts = np.stack([counted(week, edges) for week in rows])
        levels = own_levels(counts[:52], np.arange(52))
        ratios = (distances(counts[52:], counts[:52].sum(0)) / levels).max(axis=(1, 2))
        over, weeks = over + int((ratios > 1).sum()), weeks + 52
    assert 0.3 < 52 * over / weeks < 1.7


def test_too_few_weeks_give_no_level_and_few_dmas_no_shared_one():
    counts = np.ones((MIN_WEEKS, 2, BINS), np.int32)
    assert np.isnan(own_levels(counts[1:], np.arange(1, MIN_WEEKS))).all()
    assert np.isfinite(own_levels(counts, np.arange(MIN_WEEKS))).all()
    many = np.ones((MIN_SHARED_WEEKS, 2, BINS), np.int32)
    assert np.isnan(shared_levels(many, np.zeros(len(many), np.int64))).all()
    assert np.isfinite(shared_levels(many, np.arange(len(many)) % 2)).all()
    assert np.isnan(shared_levels(many[1:], np.arange(1, len(many)) % 2)).all()


def test_weeks_begin_on_a_local_monday_and_have_the_hours_that_the_clock_gives_them():
    spring = int(
        week_numbers(np.array([1_774_656_000_000]), "Europe/Rome")[0]
    )  # 28 March 2026: the clock changes a day later
    start, end = week_start_ms(spring, "Europe/Rome"), week_start_ms(spring + 1, "Europe/Rome")
    assert (end - start) // HOUR_MS == 167
    assert week_numbers(np.array([start, start + 1, end]), "Europe/Rome").tolist() == [spring - 1, spring, spring]


def follow(bundle, rows, cuts=(), zone=ZONE, dma="A"):
    """The ended weeks, with a state saved and brought back at every cut."""
    weeks, found = Weeks(bundle, dma, zone, HOUR_MS), []
    for part in np.split(rows, sorted(cuts)):
        found += weeks.take(part)
        saved = weeks.save()
        weeks = Weeks(bundle, dma, zone, HOUR_MS)
        if saved is not None:
            weeks.restore(saved)
    return found, weeks


def said(found):
    return [(week.number, week.rows, week.counts.tobytes(), week.ratio) for week in found]


@given(st.lists(st.integers(0, 5 * WEEK_SLOTS), max_size=6))
@settings(max_examples=25, deadline=None)
def test_blocks_and_restarts_leave_no_trace_in_the_weeks(model, cuts):
    rows = slots(5, 9, first_week=30, shift=0.5)
    whole, weeks = follow(model, rows)
    again, resumed = follow(model, rows, cuts)
    assert said(again) == said(whole)
    assert (resumed.in_a_row, said([resumed.last])) == (weeks.in_a_row, said([weeks.last]))
    assert len(whole) == 4  # nothing has said yet that the fifth is over
    assert said(resumed.finish())[0][0] == whole[-1].number + 1


def test_weeks_like_those_of_the_training_are_none_and_a_shift_is_drift_at_once(model):
    alike, _ = follow(model, slots(9, 77, first_week=30))
    assert sum(week.ratio > 1 for week in alike) <= 1
    moved, weeks = follow(model, slots(4, 78, first_week=30, shift=1.0))
    assert all(week.ratio > 1 for week in moved)
    assert weeks.in_a_row == 3


def test_a_week_that_was_not_seen_from_its_begin_or_is_half_empty_is_not_judged(model):
    rows = slots(3, 5, first_week=30)
    late, _ = follow(model, rows[10:])
    assert len(late) == 1
    rows["learnable"][: WEEK_SLOTS // 2 + 1] = False
    holed, weeks = follow(model, rows)
    assert [week.ratio is None for week in holed] == [True, False]
    rows["features"][WEEK_SLOTS + 3, 2] = np.nan
    assert follow(model, rows)[0][1].rows == WEEK_SLOTS - 1
    assert weeks.last.number == holed[1].number


def test_slots_that_straddle_midnight_do_not_hold_the_weeks_up(model):
    found, _ = follow(model, slots(4, 5, first_week=30), zone="Asia/Kolkata")
    assert len(found) == 3


def test_another_dma_is_held_against_all_of_them_and_a_state_of_another_model_is_left_alone(model):
    new = Weeks(model, "NEW", ZONE, HOUR_MS)
    assert model.reference.dmas[new.reference_row] == "*"
    assert Weeks(trained(weeks=5, dmas="A"), "A", ZONE, HOUR_MS).has_reference is False
    _, old = follow(model, slots(3, 5, first_week=30))
    other = Weeks(dataclasses.replace(model, manifest=trained(weeks=20).manifest), "A", ZONE, HOUR_MS)
    other.restore(old.save())
    assert other.last is None
    assert other.save() is None


def test_a_reference_survives_the_way_through_its_files_and_is_part_of_the_hash(model):
    again = Bundle.from_files(model.to_files())
    for got, expected in zip(again.reference, model.reference, strict=True):
        np.testing.assert_array_equal(got, expected)
    assert again.to_files() == model.to_files()
    assert trained().to_files() == model.to_files()
    assert model.manifest.reference.weeks == [30, 30, 60]
    assert model.manifest.reference.dmas == ["A", "B", "*"]


def test_bundles_without_a_reference_or_with_one_of_another_version_can_be_used_and_say_so(model):
    files = model.to_files()
    facts = {"dmas": ["A"], "columns": list(COLUMNS), "quantiles": [0.5], "weeks": [9], "leakAlarms": [0], "judgedDays": [1]}
    assert Bundle.from_files(changed(files, reference=None)).reference is None
    later = Bundle.from_files(changed(files, reference=facts))
    assert later.reference is None
    assert later.to_files()[ARRAYS] == files[ARRAYS]  # or a worker would refuse it once it was published


def test_a_torn_reference_is_refused_in_one_line(model):
    files = model.to_files()
    facts = model.manifest.reference
    more = {"dmas": [*facts.dmas, "D"], "columns": facts.columns, "quantiles": facts.quantiles, "weeks": [9] * 4,
            "leakAlarms": [0] * 4, "judgedDays": [1.0] * 4}  # fmt: skip
    for fault, torn in (
        ("of 4 DMAs", changed(files, reference=more)),
        ("drift_edges.npy", with_arrays(files, dataclasses.replace(model, reference=None).to_files()[ARRAYS])),
        ("must not be negative", _with(model, counts=-model.reference.counts)),
        ("finite and rise", _with(model, edges=model.reference.edges[..., ::-1])),
        ("must be positive", _with(model, levels=-model.reference.levels)),
        ("nor without end", changed(files, reference=vars_of(facts) | {"leakAlarms": [-1, 0, 0]})),
        ("nor without end", changed(files, reference=vars_of(facts) | {"judgedDays": [1.0, -1.0, 1.0]})),
    ):
        with pytest.raises(ValueError, match=fault) as error:
            Bundle.from_files(torn)
        assert len(str(error.value).splitlines()) == 1


def vars_of(facts):
    return {"dmas": facts.dmas, "columns": facts.columns, "quantiles": facts.quantiles, "weeks": facts.weeks,
            "leakAlarms": facts.leak_alarms, "judgedDays": facts.judged_days}  # fmt: skip


def _with(model, **arrays):
    files = dataclasses.replace(model, reference=model.reference._replace(**arrays)).to_files()
    return with_arrays(files, files[ARRAYS])


def test_the_reference_is_of_the_very_rows_that_were_trained_on(model):
    rows = slots(30, 0)["features"]
    edges = quantile_edges(np.ascontiguousarray(rows))
    np.testing.assert_array_equal(model.reference.edges[0, : len(FEATURES)], edges)
    np.testing.assert_array_equal(model.reference.counts[0, : len(FEATURES)], naive.count_bins(rows, edges))
    assert model.reference.judged_days == (210.0, 210.0, 420.0)
    assert MANIFEST in model.to_files()
    assert model.manifest.trained_from_ms == START_MS + HOUR_MS
