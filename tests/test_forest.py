import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.ensemble import IsolationForest

from models.forest import EMPTY, Forest, average_path_length, check, pack_nodes, score, score_row, tree_depths
from training.flatten import flatten


def grow(seed=0, rows=400, features=8, **settings):
    x = np.random.default_rng(seed).normal(size=(rows, features)).astype(np.float32)
    return IsolationForest(random_state=seed, **{"n_estimators": 20, **settings}).fit(x), x


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    rows=st.integers(2, 300),
    features=st.integers(1, 12),
    trees=st.integers(1, 21),
    max_samples=st.integers(1, 256),
    share=st.floats(0.1, 1.0),
    bootstrap=st.booleans(),
    constant=st.booleans(),
    levels=st.booleans(),
)
def test_scores_are_those_of_scikit_learn(seed, rows, features, trees, max_samples, share, bootstrap, constant, levels):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, features)).astype(np.float32)
    if constant:
        x[:, 0] = 3.0
    if levels:
        x = np.round(x)  # ties, -0.0 and leaves of many rows
    grown = IsolationForest(
        n_estimators=trees,
        max_samples=min(max_samples, rows),
        max_features=share,
        bootstrap=bootstrap,
        random_state=seed % 1000,
    ).fit(x)
    other = np.concatenate([x, rng.normal(0, 3, size=(50, features)).astype(np.float32), x[:1] * 0, -x[:1] * 0])
    got = score(flatten(grown), other)
    assert_allclose(got, -grown.score_samples(other), rtol=0, atol=1e-12)


def test_a_default_forest_agrees_to_the_last_bits_far_and_near():
    grown, x = grow(rows=5000, n_estimators=100)
    far = np.concatenate([x * scale for scale in (0.0, 1e-30, 1.0, 1e3, 1e30)])
    assert_allclose(score(flatten(grown), far), -grown.score_samples(far), rtol=0, atol=1e-15)


def test_values_exactly_on_a_threshold_go_the_way_scikit_learn_sends_them():
    grown, _ = grow(rows=60, features=2, max_samples=60)
    tree = grown.estimators_[0].tree_
    cuts = tree.threshold[tree.children_left >= 0].astype(np.float32)
    near = np.concatenate([cuts, np.nextafter(cuts, np.float32(np.inf)), np.nextafter(cuts, np.float32(-np.inf))])
    rows = np.stack([np.repeat(near, len(near)), np.tile(near, len(near))], axis=1)
    assert_allclose(score(flatten(grown), rows), -grown.score_samples(rows), rtol=0, atol=1e-12)


def test_float64_rows_are_cast_to_float32_first_as_scikit_learn_does():
    grown, _ = grow()
    rows = np.random.default_rng(1).normal(size=(200, 8))
    forest = flatten(grown)
    assert_array_equal(score(forest, rows), score(forest, rows.astype(np.float32)))
    assert_allclose(score(forest, rows), -grown.score_samples(rows), rtol=0, atol=1e-12)


def test_contamination_does_not_matter():
    plain, x = grow()
    other, _ = grow(contamination=0.2)
    assert_array_equal(score(flatten(plain), x), score(flatten(other), x))


@pytest.mark.parametrize("trees", [1, 7, 8, 9, 100])
def test_a_rows_score_does_not_depend_on_its_block(trees):
    grown, x = grow(n_estimators=trees)
    forest = flatten(grown)
    whole = score(forest, x)
    assert_array_equal(whole, np.concatenate([score(forest, part) for part in np.array_split(x, 61)]))
    assert_array_equal(whole, [score_row(forest, row) for row in x])


def test_one_row_scores_inside_other_kernels_and_from_any_layout():
    grown, x = grow()
    forest = flatten(grown)

    @njit
    def total(forest, x):
        return sum([score_row(forest, x[i]) for i in range(len(x))])

    assert total(forest, x) == pytest.approx(score(forest, x).sum())
    assert_array_equal(score(forest, np.asfortranarray(x)), score(forest, x))
    assert_array_equal(score(forest, np.repeat(x, 2, axis=0)[::2]), score(forest, x))


def test_a_row_with_a_missing_feature_has_no_score_and_leaves_the_others_theirs():
    grown, x = grow()
    forest = flatten(grown)
    holed = x[:50].copy()
    holed[3, 5] = np.nan
    got = score(forest, holed)
    assert np.isnan(got[3])
    assert np.isnan(score_row(forest, holed[3]))
    keep = np.arange(50) != 3
    assert_array_equal(got[keep], score(forest, x[:50])[keep])


def test_a_forest_of_single_samples_scores_a_half():
    grown, x = grow(max_samples=1)
    assert (score(flatten(grown), x) == 0.5).all()


def test_no_rows_have_no_scores():
    grown, _ = grow()
    assert score(flatten(grown), np.zeros((0, 8), np.float32)).shape == (0,)


def test_another_number_of_columns_is_refused():
    forest = flatten(grow()[0])
    with pytest.raises(ValueError, match="another number of columns"):
        score(forest, np.zeros((3, 7), np.float32))
    with pytest.raises(ValueError, match="another number of columns"):
        score_row(forest, np.zeros(9, np.float32))


def test_average_path_lengths_are_scikit_learns():
    from sklearn.ensemble._iforest import _average_path_length  # noqa: PLC0415 - private, so only where it is the oracle

    n = np.arange(0, 3000)
    assert_allclose(average_path_length(n), _average_path_length(n), rtol=1e-15)


def test_thresholds_are_rounded_down_to_float32():
    """For a float32 x the test `x <= t` has one answer in float64; the packed node must give the same."""
    rng = np.random.default_rng(3)
    thresholds = np.concatenate([rng.normal(size=200), 10.0 ** rng.uniform(-40, 38, 100), [0.0, -0.0, -1e-50, 1e-50]])
    for threshold in thresholds:
        nodes = pack_nodes(np.array([threshold, 0.0, 0.0]), np.zeros(3, np.int64), np.array([1, 1, 2]))
        forest = Forest(nodes, np.array([0.0, 1.0, 2.0]), np.array([0, 3], np.int32), np.array([1], np.int32), 1, 1.0)
        check(forest)
        x = np.float32(threshold)
        xs = np.array([x, np.nextafter(x, np.float32(np.inf)), np.nextafter(x, np.float32(-np.inf)), 0.0, -0.0])
        left = score(forest, xs.reshape(-1, 1).astype(np.float32)) == 0.5
        assert_array_equal(left, xs.astype(np.float32).astype(np.float64) <= threshold, err_msg=repr(threshold))


def corrupt(**changed):
    forest = flatten(grow(n_estimators=3)[0])
    arrays = {name: np.array(value) for name, value in forest._asdict().items() if isinstance(value, np.ndarray)}
    for name, (where, value) in changed.items():
        arrays[name][where] = value
    return forest._replace(**arrays)


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"nodes": (1, (np.int64(5) << 32) | 0)}, "does not come after it"),
        ({"nodes": (0, (np.int64(5) << 32) | 0xFFFF)}, "outside its tree"),
        ({"nodes": (0, (np.int64(5) << 32) | (np.int64(8) << 16) | 1)}, "splits on a feature beyond the 8"),
        ({"nodes": (0, (np.int64(5) << 32) | 0)}, "is a leaf that can be left"),
        ({"nodes": (0, (np.int64(0x7FFFFFFF) << 32) | 0)}, "says depth"),
        ({"path": (4, np.nan)}, "not finite"),
        ({"path": (4, -1.0)}, "negative"),
        ({"roots": (1, 0)}, "must rise"),
        ({"roots": (-1, 10**6)}, "must rise"),
        ({"roots": (0, 1)}, "must rise"),
        ({"depths": (0, 2**31 - 1)}, "says depth"),
    ],
)
def test_arrays_that_no_forest_has_are_refused(changed, fault):
    check(corrupt())
    with pytest.raises(ValueError, match=fault):
        check(corrupt(**changed))


def test_arrays_of_another_type_or_number_are_refused():
    forest = corrupt()
    for name, wrong in [
        ("nodes", forest.nodes.astype(np.int32)),
        ("path", forest.path.reshape(-1, 1)),
        ("depths", forest.depths[:-1]),
        ("path", forest.path[:-1]),
        ("roots", forest.roots[:1]),
        ("denominator", np.inf),
        ("denominator", -1.0),
        ("denominator", 0.0),
    ]:
        with pytest.raises(ValueError, match="forest"):
            check(forest._replace(**{name: wrong}))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_random_nodes_are_refused_or_can_be_walked(data):
    forest = corrupt()
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, forest.nodes.size - 1))
        forest.nodes[where] = data.draw(st.integers(-(2**63), 2**63 - 1))
    try:
        check(forest)
    except ValueError:
        return
    assert np.isfinite(score(forest, np.zeros((9, 8), np.float32))).all()


def test_trees_too_large_for_packed_nodes_are_refused():
    size = (1 << 16) + 1
    with pytest.raises(ValueError, match="max_samples <= 32768"):
        pack_nodes(np.zeros(size), np.zeros(size, np.int64), np.arange(size))
    with pytest.raises(ValueError, match="possible: 0 to 65535"):
        pack_nodes(np.zeros(3), np.array([1 << 16, 0, 0]), np.array([1, 1, 2]))


def test_no_forest_is_what_an_engine_without_a_bundle_carries():
    assert EMPTY.depths.size == 0
    assert tree_depths(EMPTY.nodes, EMPTY.roots).size == 0
    with pytest.raises(ValueError, match="must rise"):
        check(EMPTY)
