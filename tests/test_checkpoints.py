"""streams/checkpoints.py: a checkpoint is whole or refused, and a partition goes on where nothing is lost."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.checkpoints import (
    MAGIC,
    VERSION,
    Bounds,
    Checkpoint,
    LostStateError,
    Record,
    Seen,
    Start,
    pack,
    unpack,
    where_to_start,
)

ONE = Checkpoint("A", 2, 4, 70, 1_700_000_000_000, "v1", ("A", "B"), {"live:0": Seen(12, 99)}, b"state of A")
BLOB = pack(ONE)
DMAS = ("A", "B", "C")


def test_a_checkpoint_comes_back_as_it_was() -> None:
    assert unpack(BLOB) == ONE


def test_a_checkpoint_cut_anywhere_is_refused() -> None:
    for length in range(len(BLOB)):
        with pytest.raises(ValueError, match="checkpoint"):
            unpack(BLOB[:length])


def test_a_flipped_bit_never_goes_unnoticed() -> None:
    for bit in set(range(8 * len(BLOB))) - set(range(6 * 8, 8 * 8)):  # two bytes mean nothing yet
        torn = bytearray(BLOB)
        torn[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match="checkpoint"):
            unpack(bytes(torn))


@given(st.binary(max_size=60), st.integers(0, 70))
def test_random_bytes_under_a_good_checksum_never_crash(body: bytes, head_bytes: int) -> None:
    blob = struct.pack("<4sHHII", MAGIC, VERSION, 0, head_bytes, zlib.crc32(body)) + body
    with pytest.raises(ValueError, match="checkpoint"):
        unpack(blob)


def test_a_header_nested_too_deeply_is_refused() -> None:
    # an unknown field is skipped, and skipping goes as deep as the field
    head = b"\x81\xa5later" + b"\x91" * 20_000 + b"\xc0"
    with pytest.raises(ValueError, match="checkpoint header cannot be read: maximum recursion depth"):
        unpack(struct.pack("<4sHHII", MAGIC, VERSION, 0, len(head), zlib.crc32(head)) + head)


def test_another_version_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="checkpoint version: found 9; possible: 1"):
        unpack(BLOB[:4] + b"\x09\x00" + BLOB[6:])


def record(dma: str, offset: int, known: tuple[str, ...] = ("A", "B"), **fields: object) -> Record:
    return Record(dma.encode(), pack(replace(ONE, dma=dma, offset=offset, known=known, **fields)))


def torn(of: Record) -> Record:
    assert of.value is not None
    return Record(of.key, of.value[:-1] + bytes([of.value[-1] ^ 1]))


def start(
    records: list[Record],
    bounds: tuple[int | None, int, int] = (100, 0, 120),
    rebuild: bool = False,
    restore: Callable[[Checkpoint], None] = lambda _: None,
) -> Start:
    return where_to_start(2, 4, DMAS, records, Bounds(*bounds), restore, rebuild)


def test_a_partition_nobody_has_read_starts_with_what_is_retained() -> None:
    assert start([], (None, 7, 50)) == Start(7)


def test_a_partition_goes_on_from_the_lowest_offset_a_state_needs_whatever_was_committed() -> None:
    found = start([record("A", 70), record("B", 90), record("A", 100)])
    assert (found.offset, found.warnings) == (90, [])
    assert {dma: state.offset for dma, state in found.states.items()} == {"A": 100, "B": 90}


def test_a_state_further_than_the_commit_does_not_move_the_start_past_it() -> None:
    assert start([record("A", 110), record("B", 115)]).offset == 100


def test_an_older_checkpoint_serves_when_the_newest_is_torn() -> None:
    found = start([record("A", 60), torn(record("A", 100)), record("B", 100)])
    assert found.offset == 60
    (warning,) = found.warnings
    assert re.search(r"state of DMA A: checkpoint is torn: CRC32.*an older one, at 60, serves", warning)


def test_a_state_without_a_usable_checkpoint_is_built_anew_where_the_log_is_whole() -> None:
    found = start([torn(record("A", 100)), record("B", 100)])
    assert found.offset == 0
    assert set(found.states) == {"B"}
    assert "DMA A: checkpoint is torn" in found.warnings[0]
    assert "built anew from offset 0" in found.warnings[0]


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([torn(record("A", 100)), record("B", 100)], "DMA A: checkpoint is torn"),
        ([record("B", 100)], "DMA A: it has no record"),
        ([record("A", 100, partitions=6), record("B", 100)], "had 6 partitions then, and has 4 now"),
        ([Record(b"A", record("B", 100).value), record("B", 100)], "it is of DMA 'B' in partition 2"),
        ([record("A", 30), record("B", 100)], "DMA A: it includes 30 records, and what follows is deleted up to 40"),
        ([], "100 records were processed, and there is no checkpoint of any"),
    ],
)
def test_a_state_that_would_be_lost_is_refused_unless_rebuilding_is_allowed(records: list[Record], reason: str) -> None:
    with pytest.raises(LostStateError, match=re.escape(reason)) as refused:
        start(records, (100, 40, 120))
    assert "--rebuild" in str(refused.value)
    assert "\n" not in str(refused.value)
    found = start(records, (100, 40, 120), rebuild=True)
    assert found.offset == 40
    assert reason in found.warnings[0]


def test_what_the_engine_refuses_counts_as_unusable() -> None:
    def restore(checkpoint: Checkpoint) -> None:
        if checkpoint.dma == "A":
            raise ValueError("state: found network 1; possible: network 2")

    with pytest.raises(LostStateError, match="found network 1; possible: network 2"):
        start([record("A", 100), record("B", 100)], (100, 40, 120), restore=restore)


def test_a_dma_that_never_had_readings_is_not_missed() -> None:
    found = start([record("A", 100), record("B", 100)])
    assert "C" not in found.states
    assert found.warnings == []


def test_states_of_dmas_that_left_the_network_are_passed_over() -> None:
    found = start([record("A", 100, known=("A", "Z")), record("Z", 3, known=("A", "Z"))])
    assert set(found.states) == {"A"}
    assert found.offset == 100


def test_a_readings_topic_made_anew_is_refused_and_with_permission_the_states_go_on() -> None:
    with pytest.raises(LostStateError, match="ends at offset 5, but 100 was processed: it was made anew"):
        start([record("A", 100), record("B", 90)], (100, 0, 5))
    found = start([record("A", 100), record("B", 90)], (100, 0, 5), rebuild=True)
    assert found.offset == 0
    assert {state.offset for state in found.states.values()} == {0}
