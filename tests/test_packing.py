"""models/packing.py: blocks survive the wire, a change of the network, and nothing else."""

from __future__ import annotations

import re
import struct
import zlib

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models.network import Site, parse_site
from models.packing import MAGIC, VERSION, Packing, Source, unpack_named
from models.schema import BATTERY, FLOW, KINDS, PRESSURE, QUALITIES, READING, Readings
from models.wire import FIRST_MS, LAST_MS


def site_of(*meters: str) -> Site:
    """'id:kind' -> a site with one DMA, whose first meter is its inlet."""
    tables = ""
    for number, meter in enumerate(meters):
        name, kind = meter.split(":")
        place = 'to = "ALFA"' if number == 0 else 'dma = "ALFA"'
        if kind == "level":
            place += "\ntankAreaM2 = 5.0"
        tables += f'[[meter]]\nid = "{name}"\nkind = "{kind}"\n{place}\n'
    return parse_site('name = "town"\ntimezone = "UTC"\n', f'[[dma]]\nid = "ALFA"\n{tables}')


SITE = site_of("in:flow", "house:flow", "logger:pressure", "tank:level")


def block_of(*rows: tuple[int, float, int, int, int]) -> Readings:
    return np.array(list(rows), READING)


T = 1_795_400_100_000
SOME = block_of(
    (T + 1000, 1.5, 1, FLOW, 0), (T + 500, -2.0, 0, FLOW, 2), (T + 1000, 300.0, 2, PRESSURE, 1), (T, 3.6, 3, BATTERY, 0)
)  # fmt: skip


def test_a_block_comes_back_as_it_was():
    block = Packing(SITE).unpack(Packing(SITE).pack("ALFA", SOME, "replay"))
    assert (block.dma, block.origin, block.unknown) == ("ALFA", "replay", 0)
    assert block.readings.dtype == READING
    assert block.readings.tolist() == SOME.tolist()


@given(arrays.arrays(np.int64, st.integers(0, 40), elements=st.integers(FIRST_MS, LAST_MS)), st.data())
def test_every_bit_of_time_and_value_survives(times: np.ndarray, data: st.DataObject):
    readings = np.zeros(len(times), READING)
    readings["time_ms"] = times
    readings["value"] = data.draw(arrays.arrays(np.float64, len(times), elements=st.floats(-1e6, 1e6)))
    got = Packing(SITE).unpack(Packing(SITE).pack("ALFA", readings, "live")).readings
    assert got.tobytes() == readings.tobytes()


def test_the_same_readings_give_the_same_bytes():
    assert Packing(SITE).pack("ALFA", SOME, "live") == Packing(SITE).pack("ALFA", SOME.copy(), "live")


SOURCE = Source(7, 1_000_004, 10, 20, np.array([999_999, 1_000_000, 1_000_000, 1_000_003]))


def test_a_block_says_which_message_each_reading_came_in():
    got = Packing(SITE).unpack(Packing(SITE).pack("ALFA", SOME, "live", SOURCE)).source
    assert got is not None
    assert (got.partition, got.end, got.oldest_ms, got.newest_ms) == (7, 1_000_004, 10, 20)
    assert got.offsets.tolist() == SOURCE.offsets.tolist()


@pytest.mark.parametrize("offsets", [[5, 4, 6, 7], [4, 5, 6, 11]])
def test_a_block_whose_offsets_are_out_of_order_is_refused(offsets: list[int]):
    # from the offsets it is told which readings were had before: wrong ones would drop others
    source = Source(7, 10, 10, 20, np.array([4, 4, 4, 4]))
    blob = Packing(SITE).pack("ALFA", SOME, "live", source)
    head = struct.unpack_from("<4sHHII", blob)[3]
    body = blob[16:-16] + (np.array(offsets) - 4).astype("<u4").tobytes()
    with pytest.raises(ValueError, match="block names offsets out of order; possible: ascending, up to its end 10"):
        Packing(SITE).unpack(struct.pack("<4sHHII", MAGIC, VERSION, 0, head, zlib.crc32(body)) + body)


def test_offsets_stay_with_their_readings_when_others_are_left_out():
    later = site_of("in:flow", "logger:flow", "tank:level")
    got = Packing(later).unpack(Packing(SITE).pack("ALFA", SOME, "live", SOURCE))
    assert got.readings["value"].tolist() == [-2.0, 3.6]
    assert got.source is not None
    assert got.source.offsets.tolist() == [1_000_000, 1_000_003]


def test_a_block_of_version_1_is_still_read():
    blob = bytearray(Packing(SITE).pack("ALFA", SOME, "live"))
    blob[4] = 1
    got = Packing(SITE).unpack(bytes(blob))
    assert got.readings.tolist() == SOME.tolist()
    assert got.source is None


def test_an_empty_block_is_a_block():
    assert len(Packing(SITE).unpack(Packing(SITE).pack("ALFA", SOME[:0], "live")).readings) == 0


def test_an_unpacked_block_can_be_written_to():
    Packing(SITE).unpack(Packing(SITE).pack("ALFA", SOME, "live")).readings["value"] = 0.0


def test_a_block_outlives_new_and_reordered_meters():
    later = site_of("new:flow", "tank:level", "logger:pressure", "in:flow", "house:flow")
    got = Packing(later).unpack(Packing(SITE).pack("ALFA", SOME, "live"))
    names = [later.meters[row].id for row in got.readings["meter"].tolist()]
    assert names == ["house", "in", "logger", "tank"]
    assert got.unknown == 0


def test_meters_that_are_gone_or_of_another_kind_are_left_out_and_counted():
    later = site_of("in:flow", "logger:flow", "tank:level")
    got = Packing(later).unpack(Packing(SITE).pack("ALFA", SOME, "live"))
    assert got.readings["value"].tolist() == [-2.0, 3.6]
    assert got.unknown == 2


@pytest.mark.parametrize(("field", "found"), [("kind", len(KINDS)), ("quality", len(QUALITIES)), ("kind", 255)])
def test_kinds_and_qualities_of_a_later_version_are_left_out_and_counted(field: str, found: int):
    readings = SOME.copy()
    readings[field][0] = found
    got = Packing(SITE).unpack(Packing(SITE).pack("ALFA", readings, "live"))
    assert (len(got.readings), got.unknown) == (3, 1)


@pytest.mark.parametrize(
    ("field", "found"),
    [("value", np.nan), ("value", np.inf), ("value", -1e39), ("time_ms", -1), ("time_ms", 2**62), ("time_ms", -(2**63))],
)
def test_values_and_times_that_cannot_be_are_left_out_and_counted(field: str, found: float):
    readings = SOME.copy()
    readings[field][1] = found
    got = Packing(SITE).unpack(Packing(SITE).pack("ALFA", readings, "live", SOURCE))
    assert (len(got.readings), got.unknown) == (3, 1)
    assert got.source is not None
    assert got.source.offsets.tolist() == [999_999, 1_000_000, 1_000_003]


BLOB = Packing(SITE).pack("ALFA", SOME, "live")


def test_a_block_cut_anywhere_is_refused():
    for length in range(len(BLOB)):
        with pytest.raises(ValueError, match="block is torn"):
            Packing(SITE).unpack(BLOB[:length])


def test_a_flipped_bit_never_goes_unnoticed():
    reserved = range(6 * 8, 8 * 8)  # they mean nothing yet
    for bit in set(range(8 * len(BLOB))) - set(reserved):
        torn = bytearray(BLOB)
        torn[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match="block"):
            Packing(SITE).unpack(bytes(torn))


def sealed(header: object, columns: bytes) -> bytes:
    """A block whose checksum is right, whatever is in it."""
    packed = msgspec.msgpack.encode(header)
    body = packed + columns
    return struct.pack("<4sHHII", MAGIC, VERSION, 0, len(packed), zlib.crc32(body)) + body


HEADER = {"dma": "ALFA", "origin": "live", "count": 1, "meters": ["in"]}


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (b"\x89PNG" + BLOB[4:], "not a block of readings: starts with b'\\x89PNG'; possible: b'NLRB'"),
        (BLOB[:4] + b"\x03\x00" + BLOB[6:], "block version: found 3; possible: 1, 2"),
        (BLOB + b"\x00", "block is torn: CRC32"),
        (sealed({"dma": "ALFA"}, b""), "block header cannot be read: Object missing required field `origin`"),
        (sealed(HEADER | {"origin": "dream"}, bytes(22)), "block header cannot be read: Invalid enum value 'dream'"),
        (sealed(HEADER | {"count": -1}, b""), "block is torn: found"),
        (sealed(HEADER | {"count": 2}, bytes(22)), "block is torn: found"),
        (sealed(HEADER | {"count": 2**62}, bytes(22)), "block is torn: found"),
        (sealed(HEADER, bytes(16) + b"\x07\x00\x00\x00" + bytes(2)), "block names meter 7; possible: 0 to 0"),
        (sealed(HEADER, bytes(16) + b"\xff\xff\xff\xff" + bytes(2)), "block names meter -1; possible: 0 to 0"),
        (sealed(HEADER | {"meters": []}, bytes(22)), "block names meter 0; possible: none"),
    ],
)
def test_foreign_bytes_are_refused_with_a_reason(blob: bytes, reason: str):
    with pytest.raises(ValueError, match=re.escape(reason)):
        Packing(SITE).unpack(blob)
    with pytest.raises(ValueError, match=re.escape(reason)):
        unpack_named(blob)


@pytest.mark.parametrize("nested", [b"\x91", b"\x81\xa1a"])
def test_a_header_nested_too_deeply_is_refused(nested: bytes):
    head = b"\x86" + msgspec.msgpack.encode(HEADER)[1:] + b"\xa1x\x01\xa5later" + nested * 20_000 + b"\xc0"
    blob = struct.pack("<4sHHII", MAGIC, VERSION, 0, len(head), zlib.crc32(head)) + head
    with pytest.raises(ValueError, match="block header cannot be read: maximum recursion depth"):
        Packing(SITE).unpack(blob)


def test_the_reason_is_one_line_whatever_the_header_says():
    with pytest.raises(ValueError, match="Invalid enum value") as refused:
        Packing(SITE).unpack(sealed(HEADER | {"origin": "a\nb\u2028c" * 1000}, b""))
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 300


@given(st.binary(max_size=80))
def test_random_bytes_are_refused(blob: bytes):
    with pytest.raises(ValueError, match="block"):
        Packing(SITE).unpack(blob)


@given(st.binary(max_size=60), st.integers(0, 70))
def test_random_bytes_under_a_good_checksum_never_crash(body: bytes, header_bytes: int):
    blob = struct.pack("<4sHHII", MAGIC, VERSION, 0, header_bytes, zlib.crc32(body)) + body
    with pytest.raises(ValueError, match="block"):
        Packing(SITE).unpack(blob)
    with pytest.raises(ValueError, match="block"):
        unpack_named(blob)


def test_a_block_is_read_without_its_site_as_with_it():
    odd = SOME.copy()
    odd["value"][1], odd["kind"][2] = np.nan, 255
    for readings, unknown in ((SOME, 0), (odd, 2), (SOME[:0], 0)):
        for source in (SOURCE, None):
            if source is not None and len(readings) != len(source.offsets):
                continue
            blob = Packing(SITE).pack("ALFA", readings, "replay", source)
            named, bound = unpack_named(blob), Packing(SITE).unpack(blob)
            assert (named.dma, named.origin, named.unknown) == ("ALFA", "replay", unknown)
            assert [named.meters[place] for place in named.readings["meter"].tolist()] == [
                SITE.meters[row].id for row in bound.readings["meter"].tolist()
            ]
            for field in ("time_ms", "value", "kind", "quality"):
                assert named.readings[field].tolist() == bound.readings[field].tolist()
            assert (named.source is None) == (source is None)
            if source is not None:
                assert named.source.offsets.tolist() == bound.source.offsets.tolist()


def test_an_unknown_origin_cannot_be_packed():
    with pytest.raises(ValueError, match="dream"):
        Packing(SITE).pack("ALFA", SOME, "dream")
