"""Snapshots: exact, and refused when they are not ours."""

from __future__ import annotations

import pytest

from models.engine import Engine
from models.network import parse_site
from tests.synthetic import NETWORK_TOML, SITE_TOML, make_site, readings


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
    other = parse_site(SITE_TOML, NETWORK_TOML.replace('id = "p-B"', 'id = "p-B2"'))
    with pytest.raises(ValueError, match="network"):
        Engine(other, "A").restore(blob)


def test_a_refused_snapshot_leaves_the_engine_as_it_was(blob):
    engine = Engine(make_site(), "A")
    before = engine.snapshot()
    with pytest.raises(ValueError, match="torn"):
        engine.restore(blob[:-5])
    assert engine.snapshot() == before


def test_another_format_is_refused(blob):
    with pytest.raises(ValueError, match="found format 9; possible: 1"):
        Engine(make_site(), "A").restore(blob.replace(b'"format":1', b'"format":9', 1))
