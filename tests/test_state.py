"""Snapshots: exact, and refused when they are not ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.engine import Engine
from models.network import parse_site
from tests.synthetic import NETWORK_TOML, SITE_TOML, make_site, readings

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
    with pytest.raises(ValueError, match="found format 9; possible: 2"):
        Engine(make_site(), "A").restore(blob.replace(b'"format":2', b'"format":9', 1))


def test_a_state_of_format_1_is_refused_in_one_line():
    site = parse_site(
        'name = "old"\ntimezone = "UTC"\n',
        '[[dma]]\nid = "A"\nslotMinutes = 60\n[[meter]]\nid = "m"\nkind = "flow"\nto = "A"\n',
    )
    with pytest.raises(ValueError, match=r"^state of 'A': found format 1; possible: 2$"):
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
