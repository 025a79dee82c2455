"""streams/detections.py: scored slots come back as they were, and nothing else comes back at all."""

from __future__ import annotations

import json
import re
import struct
from typing import Any

import numpy as np
import pytest

from models.state import DETECTION, INNER
from streams.detections import MAGIC, pack_detections, unpack_detections


def rows(count: int) -> np.ndarray:
    found = np.zeros(count, DETECTION)
    found["slot_end_ms"] = np.arange(count)
    found["observed_m3h"] = np.nan
    return found


(BLOB,) = pack_detections("A", "live", rows(3), ("f",), ("d",), 1 << 20)
(SIZE,) = struct.unpack_from("<I", BLOB, 4)
HEADER = json.loads(BLOB[8 : 8 + SIZE])


def changed(behind: bytes = BLOB[8 + SIZE :], **header: Any) -> bytes:
    head = json.dumps(HEADER | header).encode()
    return MAGIC + struct.pack("<I", len(head)) + head + behind


def test_scored_slots_come_back_as_they_were():
    found = unpack_detections(BLOB)
    assert (found.dma, found.origin, found.features, found.detectors) == ("A", "live", ("f",), ("d",))
    assert set(found.columns) == set(DETECTION.names or ()) - set(INNER)
    for name, column in found.columns.items():
        np.testing.assert_array_equal(column, rows(3)[name])


def test_many_slots_are_several_messages_and_none_are_none():
    parts = list(pack_detections("A", "live", rows(100), (), (), 10_000))
    assert len(parts) > 1
    assert np.concatenate([unpack_detections(part).columns["slot_end_ms"] for part in parts]).tolist() == list(range(100))
    assert list(pack_detections("A", "live", rows(0), (), (), 10_000)) == []


def test_a_message_cut_anywhere_is_refused():
    for length in range(len(BLOB)):
        with pytest.raises(ValueError, match="detections message is torn"):
            unpack_detections(BLOB[:length])


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (b"NLD2" + BLOB[4:], "starts with b'NLD2'; possible: b'NLD1'"),
        (BLOB + b"x", f"found {len(BLOB) + 1} bytes; possible: {len(BLOB)}"),
        (changed(rows=4), "bytes; possible:"),
        (changed(rows=2**60), "its header cannot be read: Expected `int` <= 2147483648"),
        (changed(rows=2**31), "bytes; possible:"),
        (changed(rows=-1), "its header cannot be read: Expected `int` >= 0"),
        (changed(rows=1.5), "its header cannot be read: Expected `int`, got `float`"),
        (changed(rows=10**30), "its header cannot be read: "),
        (changed(dma=None), "its header cannot be read: Expected `str`, got `null`"),
        (changed(features=7), "its header cannot be read: Expected `array`, got `int`"),
        (changed(columns=[["x", "O", []]]), "its header cannot be read: Expected `str` matching regex"),
        (changed(columns=[["x", "U999999999", []]]), "its header cannot be read: Expected `str` matching regex"),
        (changed(columns=[["x", "(9,9)f8", []]]), "its header cannot be read: Expected `str` matching regex"),
        (changed(columns=[["x", "<f8", [-1]]]), "its header cannot be read: Expected `int` >= 1"),
        (changed(columns=[["x", "<f8", [65536] * 4]]), "bytes; possible:"),
        (changed(columns=[["x", "<f8", [1] * 99]]), "its header cannot be read: Expected `array` of length <= 4"),
        (changed(columns=[["x", "<f8", []], ["x", "<f8", []]]), "found"),
        (changed(bytes(48), columns=[["x", "<f8", []], ["x", "<f8", []]]), "column 'x' is there twice"),
        (changed(columns=[["x"]]), "its header cannot be read: "),
        (MAGIC + struct.pack("<I", 50_000) + b"[" * 50_000, "its header cannot be read: "),
        (MAGIC + struct.pack("<I", 50_010) + b'{"later":' + b"[" * 50_001, "its header cannot be read: "),
        (MAGIC + struct.pack("<I", 4) + b"\xff" * 4, "its header cannot be read: "),
        (MAGIC + struct.pack("<I", 2**32 - 1) + BLOB[8:], "its header cannot be read: "),
    ],
)
def test_foreign_bytes_are_refused_with_a_reason(blob: bytes, reason: str):
    with pytest.raises(ValueError, match=re.escape(reason)) as refused:
        unpack_detections(blob)
    assert str(refused.value).startswith("detections message is torn: ")
    assert len(str(refused.value).splitlines()) == 1
