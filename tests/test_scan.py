"""models/scan.py, scan_text.py, words.py and meter_index.py: the compiled scanner held against msgspec, byte for byte."""

from __future__ import annotations

import ctypes
import json
import mmap
import sys
from random import Random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models import scan
from models.codec import Decoder
from models.meter_index import MeterIndex
from models.network import Meter, parse_site
from models.schema import UNITS
from tests.fuzz.inputs import SITE as FUZZ_SITE
from tests.fuzz.inputs import raw_payload
from tests.payloads import payload, same
from tests.test_codec import NOON, NOON_MS, SITE, columns, reading

SEEDS = st.integers(0, 2**32)


def seeded(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - must be the same again


def agree(payloads: list[bytes | None], site: object = SITE) -> Decoder:
    """Holds the scanner against msgspec; the decoder that scanned."""
    decoder, oracle = Decoder(site), Decoder(site)  # type: ignore[arg-type]
    if not same(decoder.decode(payloads), oracle.parse(payloads)):
        for one in payloads:
            assert same(decoder.decode([one]), oracle.parse([one])), one
        raise AssertionError(payloads)
    return decoder


def sent(fields: object) -> bytes:
    return json.dumps(fields).encode()


def left(*payloads: bytes | str) -> int:
    """How many the scanner left to msgspec, after it was held against that."""
    return agree([one.encode() if isinstance(one, str) else one for one in payloads]).parsed


# whatever may come


@settings(deadline=None, max_examples=300)
@given(SEEDS, st.integers(1, 12))
def test_any_spelling_is_decoded_as_by_msgspec(seed: int, count: int):
    rng = seeded(seed)
    agree([payload(rng) for _ in range(count)])


@settings(deadline=None, max_examples=300)
@given(SEEDS, st.integers(1, 4))
def test_changed_bytes_are_decoded_as_by_msgspec(seed: int, count: int):
    rng = seeded(seed)
    agree([raw_payload(rng) for _ in range(count)], FUZZ_SITE)


@settings(deadline=None)
@given(
    st.lists(st.binary(max_size=20) | st.text(' \t\n{}[],:"-+.eE0123456789null', max_size=20).map(str.encode), max_size=5)
)
def test_any_bytes_are_decoded_as_by_msgspec(payloads: list[bytes]):
    agree([*payloads])


def test_most_of_what_another_encoder_writes_is_scanned():
    rng = seeded(1)
    payloads = [payload(rng) for _ in range(2_000)]
    assert 0.15 * len(payloads) < len(payloads) - agree(payloads).parsed  # or the property above holds for nothing


# numbers

DIGITS = st.text("0123456789", min_size=1, max_size=20)


@settings(deadline=None, max_examples=400)
@given(st.booleans(), DIGITS, st.none() | DIGITS, st.none() | st.integers(-30, 30), st.sampled_from(["e", "E", "e+"]))
def test_a_number_is_the_nearest_float(minus: bool, whole: str, fraction: str | None, power: int | None, mark: str):
    text = "-" * minus + whole + ("" if fraction is None else f".{fraction}") + ("" if power is None else f"{mark}{power}")
    head = '{"meterId":"FM-01","kind":"register","unit":"m3","observedAt":1795400100000,"value":'
    agree([f"{head}{text}}}".encode()])


@settings(deadline=None)
@given(st.floats(-1e6, 1e6))
@example(0.1 + 0.2)
@example(5e-324)
@example(123456.78)
def test_a_float_comes_back_as_it_was(value: float):
    agree([sent(reading(value=value)), sent(columns() | {"value": [value, None, 1]})])


@pytest.mark.parametrize(
    "text", ["12", "12.5", "0", "0.25", "-3.125", "1e3", "2E-2", "12.50", "9007199254740992e-12", "123456789e-22"]
)
def test_a_number_of_up_to_53_bits_is_scanned(text: str):
    assert left(sent(reading(value="V")).replace(b'"V"', text.encode())) == 0


@pytest.mark.parametrize(
    "text", ["-0", "-0.0", "01", "1.", ".5", "+1", "1e", "9007199254740993e-12", "1e-23", "0x1", "NaN", "1" * 300]
)
def test_a_number_that_is_no_json_or_takes_more_is_left(text: str):
    assert left(sent(reading(value="V")).replace(b'"V"', text.encode())) == 1


# times


def test_every_day_of_the_range_is_read_at_its_begin_and_its_end():
    days = np.arange(np.datetime64("1990-01-01"), np.datetime64("2100-01-01"))
    for clock in ("00:00:00", "23:59:59"):
        texts = [f"{day}T{clock}Z" for day in days.astype(str).tolist()]
        decoder = Decoder(SITE)
        found = decoder.decode([sent(columns() | {"observedAt": texts, "value": [1] * len(texts)})])
        expected = (days.astype("datetime64[s]") + np.timedelta64(86_399 if clock > "1" else 0, "s")).astype(np.int64) * 1000
        assert decoder.parsed == 0
        assert np.array_equal(found.readings["time_ms"], expected)


@pytest.mark.parametrize(
    "shape", ["2026-{}-{}T02:15:00Z", "2024-02-23T{}:{}:00Z", "2026-11-23T02:{}:{}Z", "2026-11-23T02:15:00+{}:{}"]
)
def test_two_figures_of_a_time_are_read_as_by_msgspec(shape: str):
    """All of 00 to 99, and letters beside the figures."""
    pairs = [f"{n:02}" for n in range(100)]
    odd = ["0/", "/0", "0:", ":0", "1 ", "-1", "+1", "0a", "1\\"]
    for first in (*pairs[:64:3], *odd, "12", "59", "60", "99"):
        agree([sent(reading(observedAt=shape.format(first, second))) for second in (*pairs, *odd)])


@pytest.mark.parametrize(
    "text", [NOON, "2026-11-23T10:15:00+08:00", "2026-11-22T21:45:00.250-04:30", "2026-11-23T02:15:00.123999Z"]
)
def test_an_rfc3339_time_is_scanned(text: str):
    assert left(sent(reading(observedAt=text)), sent(columns() | {"observedAt": [text, NOON_MS, text]})) == 0


def test_less_than_a_millisecond_is_dropped():
    texts = [f"2026-11-23T02:15:00.{'9' * size}Z" for size in range(1, 12)]
    assert left(*[sent(reading(observedAt=text)) for text in texts]) == 5  # beyond microseconds msgspec rounds


@settings(deadline=None)
@given(st.text("0123456789-+:.TtZz ", max_size=34))
def test_any_text_in_place_of_a_time_is_read_as_by_msgspec(text: str):
    agree([sent(reading(observedAt=text)), sent(reading(observedAt=NOON[:19] + text))])


# what is scanned, and what is not


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\r\n", "\t:\n")])
def test_common_shapes_are_scanned(separators: tuple[str, str]):
    meters = {"pressure": "PT-01", "level": "TK-01"}
    shapes = [
        reading(meterId=meters.get(kind, "FM-01"), kind=kind, unit=unit, intervalSeconds=900, seq=8812, quality="uncertain")
        for kind, units in UNITS.items()
        for unit in units
    ]
    shapes += [dict(reversed(shape.items())) for shape in shapes]
    shapes += [reading(intervalSeconds=None, firmware="v1.2 (b)", ok=True, lost=False, note=None, rssi=-71.5)]
    shapes += [reading(observedAt=NOON_MS), [], shapes[:3], [reading()] * 100]
    shapes += [columns(), columns(quality="bad", seq=1), columns(quality=["good", "bad", "uncertain"])]
    shapes += [columns() | {"value": [None, 1, None]}, columns() | {"value": [], "observedAt": []}]
    assert left(*[json.dumps(shape, separators=separators) for shape in shapes]) == 1  # `[]` is too short


ODD = [
    b"{}", b"[{}]", b"[[]]", b"", b"null", b"[1]", sent(reading())[:-1], b"[" + sent(reading()), sent([reading()]) + b"]",
    sent(reading()) + b",", sent(reading()) + b"\0", b"\xef\xbb\xbf" + sent(reading()), b"[" + sent(reading()) + b",]",
    sent(reading()).replace(b"}", b",}"), b'{"value":1,' + sent(reading())[1:],
    sent(reading(meterId="FM-9")), sent(reading(meterId="FM\x0001")), sent(reading()).replace(b"FM-01", b"FM-01\0"),
    sent(reading()).replace(b"FM-01", b"FM\\u002d01"), sent(reading(meterId="PT-01")), sent(reading(kind=["flow"])),
    sent(reading()).replace(b'"flow"', b'"flow\0"'), sent(reading(unit="m3/h\0")), sent(reading(unit="kPa")),
    sent(reading(kind="volume", unit="L")), sent(reading(intervalSeconds=0)), sent(reading(value=1e9)),
    sent(reading(value=None)), sent(reading(quality=None)), sent(reading(quality=["good"])), sent(reading(observedAt=1)),
    sent(reading(more=[])), sent(reading(more={})), sent(reading(more="\n")), sent(reading(more="é")),
    sent(reading(more="\x7f")).replace(b"\\u007f", b"\x7f"), sent(reading(observedAt=[NOON])),
    sent(columns() | {"value": [1.0]}), sent(columns() | {"value": 1}), sent(columns(quality=["good"])),
    sent([reading(), columns()]), sent([reading(), reading(value=None)]),
    sent([{"n": "FM-01", "u": "m3/h", "v": 1, "t": NOON_MS / 1000}]),
]  # fmt: skip


@pytest.mark.parametrize("one", ODD)
def test_what_is_odd_is_left_as_a_whole(one: bytes):
    decoder = agree([sent(reading()), one, sent(columns())])
    assert decoder.parsed == 1


def test_readings_come_in_order_of_arrival_whoever_read_them():
    scanned, parsed = sent(reading()), sent(reading(observedAt=NOON.lower()))
    decoder = agree([scanned, parsed, sent([reading()] * 3), sent(columns()), None, parsed, scanned])
    assert decoder.parsed == 3
    found = decoder.decode([parsed, scanned, parsed])
    assert found.message.tolist() == [0, 1, 2]


def test_more_entries_than_may_be_are_left():
    most = sent(columns() | {"observedAt": [NOON_MS] * 200_001, "value": [1] * 200_001})
    assert left(most) == 1
    assert left(most.replace(b"1795400100000, ", b"", 1).replace(b"1, ", b"", 1)) == 0


# where a payload lies


def test_a_payload_that_is_cut_anywhere_does_not_see_its_neighbours():
    text = b" ".join((sent(columns(quality=["good", "bad", "good"])), sent([reading(), reading(seq=1)]), sent(reading())))
    data = np.frombuffer(text, np.uint8)
    rng = seeded(5)
    starts = [at for at in range(len(text)) if text[at : at + 2] in (b'{"', b"[{")]
    spans = [(start, stop - start) for start in starts for stop in range(start, len(text) + 1)]
    spans += [(at, rng.randrange(len(text) - at + 1)) for at in range(len(text))]
    at, size = np.array(spans).T
    decoder, oracle = Decoder(SITE), Decoder(SITE)
    assert same(decoder.decode_spans(data, at, size), oracle.parse([text[begin : begin + n] for begin, n in spans]))
    assert 3 <= len(spans) - decoder.parsed < 30  # the whole ones


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect by name of libc")
@pytest.mark.parametrize(
    "shape", [reading(), [reading()], columns(), reading(value=1), {"value": 12.5} | reading(value=...)]
)
def test_nothing_outside_of_the_bytes_is_read(shape: object):
    """They begin and end at pages that must not be touched; the process would die."""
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 3 * page)
    whole = np.frombuffer(memory, np.uint8)
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    text, decoder, oracle = sent(shape), Decoder(SITE), Decoder(SITE)
    ends = [text[:size] for size in range(len(text) + 1)]
    begins = [text[start:] for start in range(len(text))]
    for guarded in (0, 2 * page):
        assert protect(whole.ctypes.data + guarded, page, 0) == 0
    for one in ends + begins:
        for begin in (page, 2 * page - len(one)):
            whole[begin : begin + len(one)] = np.frombuffer(one, np.uint8)
            span = whole[begin : begin + len(one)]
            found = decoder.decode_spans(span, np.zeros(1, np.int64), np.array([len(one)]))
            assert same(found, oracle.parse([one]))
    for guarded in (0, 2 * page):
        assert protect(whole.ctypes.data + guarded, page, mmap.PROT_READ | mmap.PROT_WRITE) == 0


def test_spans_may_overlap_and_come_in_any_order():
    one, other = sent(reading(value=1)), sent([reading(value=2)])
    data = np.frombuffer(other + one, np.uint8)
    found = Decoder(SITE).decode_spans(
        data, np.array([len(other), 1, 0, 0]), np.array([len(one), len(other) - 2, len(other), -1])
    )
    assert found.readings["value"].tolist() == [1, 2, 2]
    assert found.message.tolist() == [0, 1, 2]
    assert [reject.message for reject in found.rejects] == [3]


def test_a_decoder_that_has_seen_other_blocks_scans_the_same():
    payloads = [sent(reading()), sent(columns()), sent(reading(kind="register", unit="L"))]
    decoder = Decoder(SITE)
    first = decoder.decode(payloads)
    assert same(decoder.decode(payloads[::-1] * 3 + payloads), Decoder(SITE).parse(payloads[::-1] * 3 + payloads))
    assert same(decoder.decode(payloads), first)


def test_nothing_is_left_to_compile_after_the_warm_up():
    scan.warm_up(SITE)
    compiled = len(scan._scan.signatures), len(scan._merge.signatures)
    table = np.array([[0, 0], [len(sent(reading())), -1]]).T
    for data in (np.frombuffer(sent(reading()), np.uint8), np.frombuffer(bytearray(sent(reading())), np.uint8)):
        Decoder(SITE).decode_spans(data, table[:, 0], table[:, 1])
        Decoder(SITE).decode_spans(data, table[:1, 0].copy(), table[:1, 1].copy())
    parsed = sent(reading(observedAt=NOON.lower())), sent(columns() | {"observedAt": [NOON.lower()] * 3})
    assert agree([sent(reading()), *parsed, sent(reading(value=None)), sent(columns())]).parsed == 3
    assert (len(scan._scan.signatures), len(scan._merge.signatures)) == compiled


# the meters


def test_every_meter_of_any_length_is_found_and_no_other():
    rng = seeded(9)
    letters = "ABCXYZabcxyz0123456789._:+-"
    ids = {"".join(rng.choices(letters, k=rng.randrange(1, 65))) for _ in range(3_000)} | {
        "F" * size for size in range(1, 65)
    }
    tables = "".join(f'[[meter]]\nid = "{name}"\nkind = "flow"\ndma = "A"\n' for name in sorted(ids))
    inlet = '[[meter]]\nid = "inlet"\nkind = "flow"\nto = "A"\n'
    site = parse_site('name = "t"\ntimezone = "UTC"\n', f'[[dma]]\nid = "A"\n{inlet}{tables}')
    decoder = Decoder(site)
    found = decoder.decode([sent(reading(meterId=name)) for name in ids])
    assert decoder.parsed == 0
    assert found.readings["meter"].tolist() == [site.meter_row[name] for name in ids]
    strangers = [name[:-1] + "~" for name in ids] + [name + "F" for name in ids] + [name[1:] for name in ids]
    strangers = [name for name in strangers if name not in ids]
    decoder.decode([sent(reading(meterId=name)) for name in strangers])
    assert decoder.parsed == len(strangers)


def test_a_meter_takes_little_memory():
    meters = [Meter(f"FM-{row:07}", "flow", dma="A") for row in range(100_000)]
    index = MeterIndex.of(meters)
    assert index.slots.nbytes + index.entries.nbytes <= (24 + len(meters[0].id)) * len(meters)
