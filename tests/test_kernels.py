import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numba.core.registry import CPUDispatcher
from numpy.testing import assert_allclose, assert_array_equal

from models import kernels, rings
from tests import naive
from tests.cases import KERNELS, SENSORS, WINDOW

VALUES = st.floats(-1e12, 1e12, allow_nan=False) | st.just(np.nan) | st.sampled_from([0.0, -0.0, 1.0])
SERIES = hnp.arrays(np.float64, st.integers(0, 40), elements=VALUES)
by_name = pytest.mark.parametrize("case", KERNELS, ids=lambda case: case.name)


def compare(case, values, window):
    arguments = case.arguments(values, window)
    got, expected = case.kernel(*arguments), case.oracle(*arguments)
    # rounding grows with the values, not with a difference that may cancel
    size = float(np.nanmax(np.abs(values), initial=1.0)) if values.size else 1.0
    assert_allclose(got, expected, rtol=1e-12, atol=1e-14 * size * max(values.size, 1), err_msg=case.name)


def test_every_public_kernel_has_a_naive_twin_and_a_row_in_the_table():
    public = {
        name
        for module in (kernels, rings)
        for name, thing in vars(module).items()
        if isinstance(thing, CPUDispatcher) and not name.startswith("_")
    }
    twins = {name for name, thing in vars(naive).items() if inspect.isfunction(thing) and not name.startswith("_")}
    assert public == twins == {case.name for case in KERNELS}


def test_the_naive_twins_import_nothing_but_numpy():
    imports = [line for line in inspect.getsource(naive).splitlines() if line.startswith(("import", "from"))]
    assert imports == ["import numpy as np"]


def test_every_kernel_says_what_its_oracle_is():
    for case in KERNELS:
        kernel = getattr(kernels, case.name, None) or getattr(rings, case.name)
        assert "Oracle:" in kernel.__doc__, case.name


@by_name
@settings(max_examples=60, deadline=None)
@given(values=SERIES, window=st.integers(1, 50))
def test_kernels_agree_with_their_naive_twins_whatever_the_values(case, values, window):
    compare(case, values, window)


@by_name
def test_kernels_agree_on_a_long_series_with_gaps(case):
    rng = np.random.default_rng(1)
    values = rng.gamma(2.0, 10.0, 400)
    values[rng.random(400) < 0.1] = np.nan
    values[150 : 150 + WINDOW + 5] = np.nan  # a window with nothing in it
    compare(case, values, WINDOW)


@by_name
@pytest.mark.parametrize("constant", [0.0, 0.1, -3.7e5])
def test_kernels_agree_on_a_constant(case, constant):
    compare(case, np.full(60, constant), 24)


@by_name
def test_kernels_agree_on_values_rounded_to_few_levels(case):
    values = np.round(np.random.default_rng(2).normal(0, 1, 300))
    compare(case, values, 24)


@by_name
def test_kernels_agree_where_everything_is_missing(case):
    compare(case, np.full(20, np.nan), 6)


@by_name
def test_a_window_longer_than_the_data_takes_all_of_it(case):
    compare(case, np.random.default_rng(3).normal(size=15), 90)


def test_the_standard_deviation_does_not_drift_at_an_offset_of_a_billion():
    values = 1e9 + np.random.default_rng(4).normal(0, 1, 5000)
    values[2000] = 1e12  # a spike must leave no trace once it is out of the window
    got = kernels.rolling_std(values, WINDOW)
    assert_allclose(got[2000 + WINDOW :], naive.rolling_std(values, WINDOW)[2000 + WINDOW :], rtol=1e-7)
    assert abs(got[-1] - 1.0) < 0.3


def test_a_block_does_not_drift_at_an_offset_of_a_billion():
    values = 1e9 + np.random.default_rng(5).normal(0, 1, 3000)
    out = np.empty((3000, 8))
    sensor = np.zeros(3000, np.int64)
    states = np.zeros(1, rings.ring_dtype(WINDOW))
    rings.roll_block(sensor, values, values, np.ones(3000), 0.1, states, out)
    assert_allclose(out[:, 1], naive.rolling_std(values, WINDOW), rtol=1e-7, atol=1e-12)
    assert_allclose(out[:, 5], naive.rolling_mad(values, WINDOW), rtol=0, atol=0)


@settings(max_examples=40, deadline=None)
@given(values=SERIES, window=st.sampled_from([1, 2, 3, 5, 8, 33]), cut=st.integers(0, 40))
def test_a_block_cut_anywhere_gives_the_same_bits(values, window, cut):
    rng = np.random.default_rng(values.size)
    sensor = rng.integers(0, SENSORS, values.size)
    flat = np.ones(values.size)
    whole, parts = np.empty((values.size, 8)), np.empty((values.size, 8))
    rings.roll_block(sensor, values, flat, flat, 0.2, np.zeros(SENSORS, rings.ring_dtype(window)), whole)
    states = np.zeros(SENSORS, rings.ring_dtype(window))
    for part in (slice(0, cut), slice(cut, None)):
        rings.roll_block(sensor[part], values[part], flat[part], flat[part], 0.2, states, parts[part])
    assert_array_equal(whole, parts)


@pytest.mark.parametrize("window", [256, 257, 1000])
def test_windows_too_long_for_one_byte_of_rank_agree_too(window):
    values = np.random.default_rng(6).normal(size=2500)
    values[::17] = np.nan
    out = np.empty((2500, 8))
    flat = np.ones(2500)
    states = np.zeros(1, rings.ring_dtype(window))
    rings.roll_block(np.zeros(2500, np.int32), values, flat, flat, 0.1, states, out)
    last = values[-window:]
    expected = [getattr(naive, f"window_{name}")(last) for name in ("mean", "std", "min", "max", "median", "mad")]
    assert_allclose(out[-1, :6], expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("stray", [-1, 3])
def test_a_block_with_an_unknown_sensor_is_refused_before_anything_changes(stray):
    states = np.zeros(3, rings.ring_dtype(4))
    one = np.ones(2)
    with pytest.raises(IndexError, match="has no state"):
        rings.roll_block(np.array([0, stray]), one, one, one, 0.1, states, np.empty((2, 8)))
    assert not states["pushed"].any()


@pytest.mark.parametrize("window", [0, -1, 65_537])
def test_a_window_without_slots_or_with_too_many_is_refused(window):
    with pytest.raises(ValueError, match=r"possible: 1 to 65536"):
        rings.ring_dtype(window)


def test_a_day_of_quarter_hours_fits_fourteen_cache_lines():
    assert rings.ring_dtype(96).itemsize == 896
