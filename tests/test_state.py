"""Snapshots: exact, and refused when they are not ours."""

from __future__ import annotations

import zlib
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.balance import BALANCE_DAY, DAYS, METERED
from models.engine import Engine
from models.network import parse_site
from models.schema import NEVER
from tests import loggers
from tests.synthetic import NETWORK_TOML, SITE_TOML, SLOT_MS, START_MS, make_site, readings

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="module")
def blob():
    engine = Engine(make_site(), "A")
    engine.step(readings(3))
    return engine.snapshot()


def test_a_restored_snapshot_is_the_same_snapshot(blob):
    engine = Engine(make_site(), "A")
    engine.restore(blob)
    assert engine.snapshot() == blob


@pytest.mark.parametrize("cut", [0, 10, 200, -1])
def test_a_torn_snapshot_is_refused(blob, cut):
    with pytest.raises(ValueError, match="torn"):
        Engine(make_site(), "A").restore(blob[:cut])


def test_a_flipped_bit_is_refused(blob):
    torn = bytearray(blob)
    torn[len(torn) // 2] ^= 1
    with pytest.raises(ValueError, match="torn"):
        Engine(make_site(), "A").restore(bytes(torn))


def test_a_snapshot_of_another_dma_is_refused(blob):
    with pytest.raises(ValueError, match=r"found DMA 'A'.*possible: 'C'"):
        Engine(make_site(), "C").restore(blob)


def test_a_snapshot_of_another_network_is_refused(blob):
    other = parse_site(SITE_TOML, NETWORK_TOML.replace('id = "in-A"', 'id = "in-A2"'))
    with pytest.raises(ValueError, match="network"):
        Engine(other, "A").restore(blob)


def test_a_refused_snapshot_leaves_the_engine_as_it_was(blob):
    engine = Engine(make_site(), "A")
    before = engine.snapshot()
    with pytest.raises(ValueError, match="torn"):
        engine.restore(blob[:-5])
    assert engine.snapshot() == before


def test_another_format_is_refused(blob):
    with pytest.raises(ValueError, match="found format 9; possible: 2, 3, 4, 5, 6, 7"):
        Engine(make_site(), "A").restore(blob.replace(b'"format":7', b'"format":9', 1))


def test_a_state_of_format_1_is_refused_in_one_line():
    site = parse_site(
        'name = "old"\ntimezone = "UTC"\n',
        '[[dma]]\nid = "A"\nslotMinutes = 60\n[[meter]]\nid = "m"\nkind = "flow"\nto = "A"\n',
    )
    with pytest.raises(ValueError, match=r"^state of 'A': found format 1; possible: 2, 3, 4, 5, 6, 7$"):
        Engine(site, "A").restore((FIXTURES / "state-format-1.bin").read_bytes())


def test_arrays_of_another_shape_are_refused(blob):
    head, _, body = blob.partition(b"\n")
    swapped = head.replace(b'"levels":[2,672]', b'"levels":[672,2]')
    assert swapped != head
    with pytest.raises(ValueError, match=r"array 'levels': found shape \(672, 2\); possible: \(2, 672\)"):
        Engine(make_site(), "A").restore(swapped + b"\n" + body)


def test_a_state_outlives_a_new_meter_of_another_dma_and_another_lateness():
    grown = parse_site(
        SITE_TOML.replace("240", "60"),
        NETWORK_TOML + '[[dma]]\nid = "D"\n[[meter]]\nid = "in-D"\nkind = "flow"\nto = "D"\n',
    )
    block = readings(12, seed=1)
    half = len(block) // 2
    one, other = Engine(make_site(), "A"), Engine(grown, "A")
    one.step(block[:half])
    other.restore(one.snapshot())
    assert other.step(block[half:]).detections.tobytes() == one.step(block[half:]).detections.tobytes()


CUSTOMERS_TOML = (
    NETWORK_TOML.replace(
        '[[meter]]\nid = "in-A"', '[[meter]]\nid = "house-1"\nkind = "flow"\ndma = "A"\n[[meter]]\nid = "in-A"'
    )
    + '[[meter]]\nid = "house-2"\nkind = "flow"\ndma = "A"\n'
)
"""A customer before and one behind the DMA's other meters."""


def with_customers():
    """READING of 20 days. From day 17 on the inlet of A is stuck; its houses report at noon."""
    site = parse_site(SITE_TOML, CUSTOMERS_TOML)
    block = readings(20, seed=3)
    block["meter"] += 1
    stuck = (block["meter"] == site.meter_row["in-A"]) & (block["time_ms"] > START_MS + 17 * 96 * SLOT_MS)
    block["value"][stuck] = 77.5
    houses = np.zeros(40, block.dtype)
    houses["meter"] = np.repeat([site.meter_row["house-1"], site.meter_row["house-2"]], 20)
    houses["time_ms"] = START_MS + SLOT_MS * 96 * np.tile(np.arange(20), 2) + 12 * 3_600_000
    block = np.concatenate([block, houses])
    block = block[np.argsort(block["time_ms"], kind="stable")]
    return site, block, len(block) - 301


@pytest.mark.parametrize("version", [2, 3, 4, 5, 6])
def test_a_state_of_an_older_format_goes_on_as_if_it_were_of_this_one(version):
    """Made on 2026-11-24, -27 and -28 by the engines of those days, from the first readings of `with_customers`."""
    site, block, half = with_customers()
    engine, old = Engine(site, "A"), Engine(site, "A")
    engine.step(block[:half])
    old.restore((FIXTURES / f"state-format-{version}.bin").read_bytes())
    assert old.open_events == (1 if version < 6 else 2)  # shifts of the flow find a burst in what the stuck inlet says
    assert (old._buffers.events["noted_ms"] == NEVER).all()
    assert [health.readings for health in old.meter_health() if health.meter.startswith("house")] == [19, 19]
    assert old.meter_health() == engine.meter_health()
    expected, got = engine.step(block[half:]), old.step(block[half:])
    # the burst that the engine of format 6 saw in the stuck inlet is withdrawn, which this one did days ago
    withdrawn = [alert.event for alert in got.alerts if "meter_stuck" in alert.reasons]
    assert withdrawn == ["cleared"] * (version == 6)
    assert [alert.alert_id for alert in got.alerts[len(withdrawn) :]] == [alert.alert_id for alert in expected.alerts]
    assert got[2:] == expected[2:]
    np.testing.assert_array_equal(got.detections["slot_end_ms"], expected.detections["slot_end_ms"])
    # the shape of the week was learned without a level, which begins anew
    np.testing.assert_allclose(got.detections["expected_m3h"], expected.detections["expected_m3h"], rtol=0.05)
    learned_since = {"watch", "clocks", "use", "judged_day"} if version < 4 else set()
    for name in {"channels", "customers", "heard", "watch", "clocks", "use", "judged_day", "night_flow"} - learned_since:
        found, array = getattr(old._buffers, name), getattr(engine._buffers, name)
        for part in array.dtype.names or [...]:
            # the file's floats are of another machine, whose logarithm may differ in the last bit
            np.testing.assert_allclose(found[part], array[part], rtol=1e-9, err_msg=f"{name} {part}")


def test_a_state_of_format_4_goes_on_with_its_flows_as_before_and_loggers_that_begin_anew():
    """Made on 2026-11-28 by the engine before it compared pressure loggers, with a burst open."""
    site = loggers.make_site()
    flow, pressure = loggers.columns(20, seed=5)
    loggers.leak(flow, pressure, loggers.ramp(20, 17.0, 20.0, 25.0), at=2)
    block = loggers.readings(site, flow, pressure)
    old = Engine(site, "D")
    old.restore((FIXTURES / "state-format-4-loggers.bin").read_bytes())
    assert old.open_events == 1
    assert old._buffers.events["logger"].max() == -1
    assert (old._buffers.loggers["hours"] == 0.0).all()
    assert (old._buffers.calibrations["waiting"][3:] == -1.0).all()
    assert old._buffers.calibrations["days"][1] == 6.0
    expected = old._buffers.series["mean_level"][0]
    result = old.step(block[-300:])
    assert len(result.detections) > 20
    assert np.isfinite(result.detections["expected_m3h"]).all()
    assert old._buffers.series["mean_level"][0] == pytest.approx(expected, rel=0.1)
    again = Engine(site, "D")
    again.restore(old.snapshot())
    assert again.snapshot() == old.snapshot()


def test_a_state_of_format_2_with_readings_of_a_meter_that_is_not_there_is_refused():
    blob = (FIXTURES / "state-format-2.bin").read_bytes()
    head, _, body = blob.partition(b"\n")
    header = msgspec.json.decode(head)
    at = len(body) - 22 * header["arrays"]["pending"][0] + 16  # the channel of the first reading that waits
    body = body[:at] + (0).to_bytes(4, "little") + body[at + 4 :]  # a customer
    header["crc"] = zlib.crc32(body)
    engine = Engine(with_customers()[0], "A")
    before = engine.snapshot()
    with pytest.raises(ValueError, match=r"^state of 'A': found readings or events of meters that it does not have$"):
        engine.restore(msgspec.json.encode(header) + b"\n" + body)
    assert engine.snapshot() == before


def test_a_customer_meter_adds_little_to_a_state():
    town = NETWORK_TOML + "".join(f'[[meter]]\nid = "c{n}"\nkind = "flow"\ndma = "A"\n' for n in range(500))
    sizes = [len(Engine(parse_site(SITE_TOML, text), "A").snapshot()) for text in (NETWORK_TOML, town)]
    of_the_dma = DAYS * BALANCE_DAY.itemsize
    assert sizes[1] - sizes[0] == pytest.approx(500 * (24 + 90 + METERED.itemsize) + of_the_dma, abs=20)
    assert METERED.itemsize == 73
