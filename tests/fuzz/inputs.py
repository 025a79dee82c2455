"""Valid inputs of every decoder, made by the real encoders, and how each kind of them is changed."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from functools import cache
from random import Random
from typing import Final

import msgspec
import numpy as np

from models import cloudevents
from models.bundle import ARRAYS, MANIFEST
from models.commands import Command, encode_command
from models.detectors import DETECTORS
from models.engine import Engine
from models.features import FEATURES
from models.packing import Packing, Source
from models.schema import KINDS
from models.state import DETECTION
from models.wire import LAST_MS
from streams.checkpoints import Checkpoint, Seen, pack
from streams.detections import pack_detections
from streams.router import REPLAY_HEADER
from tests.drifting import trained
from tests.fuzz import mutate
from tests.synthetic import START_MS, make_site, readings
from tests.test_agents import Record
from tests.test_cloudevents import ALERT

SITE: Final = make_site()
NOON: Final = "2026-01-05T11:00:00Z"
NOON_MS: Final = START_MS + 12 * 3_600_000


# readings.raw.v1

SINGLE = {"meterId": "in-A", "kind": "flow", "value": 12.5, "unit": "m3/h", "observedAt": NOON, "quality": "good", "seq": 7}
RAW: Final = tuple(
    json.dumps(one)
    for one in (
        SINGLE,
        SINGLE | {"observedAt": NOON_MS},
        SINGLE | {"kind": "volume", "unit": "m3", "intervalSeconds": 900},
        SINGLE | {"meterId": "p-B", "kind": "pressure", "unit": "m[H2O]", "value": 35},
        [SINGLE, SINGLE | {"meterId": "in-C", "kind": "register", "unit": "L"}, SINGLE | {"kind": "battery", "unit": "V"}],
        {
            "meterId": "A-B",
            "kind": "flow",
            "unit": "L/s",
            "observedAt": [NOON_MS + at for at in range(6)],
            "value": [1.0, None, 3, 4.5, None, 6],
            "quality": ["good", "bad", "uncertain", "good", "good", "good"],
        },
        {"meterId": "in-C", "kind": "flow", "unit": "m3/d", "observedAt": [NOON, NOON], "value": [1.0, 2.0]},
        [
            {"bn": "in-", "bt": NOON_MS / 1000, "bu": "m3/h", "bver": 10, "bv": 1.5},
            {"n": "A", "v": 12.5},
            {"n": "C", "v": 1, "t": 60, "u": "l/s"},
        ],
        [
            {"n": "p-B", "u": "Pa", "v": 300_000, "t": NOON_MS / 1000},
            {"n": "in-A", "u": "%EL", "v": 50, "t": NOON_MS / 1000},
        ],
    )
)
_RAW_BYTES: Final = tuple(text.encode() for text in RAW)


def raw_payload(rng: Random) -> bytes | None:
    """A payload of the raw topic: now and then a good one, or none."""
    how = rng.random()
    if how < 0.06:
        return rng.choice(_RAW_BYTES)
    if how < 0.08:
        return None
    if how < 0.3:
        return mutate.raw(rng.choice(_RAW_BYTES), _RAW_BYTES, rng)
    return mutate.json_text(mutate.tree(json.loads(rng.choice(RAW)), rng), rng)


# readings.v1

_HEAD: Final = struct.Struct("<4sHHII")


def sealed(blob: bytes) -> bytes:
    """A block or checkpoint with the checksum its body has."""
    if len(blob) < _HEAD.size:
        return blob
    magic, version, zero, size, _ = _HEAD.unpack_from(blob)
    return _HEAD.pack(magic, version, zero, size, zlib.crc32(blob[_HEAD.size :])) + blob[_HEAD.size :]


def behind_header(blob: bytes, others: tuple[bytes, ...], rng: Random) -> bytes:
    """A block or checkpoint with its header, what is behind it, or any byte changed; mostly under a right checksum."""
    if rng.random() < 0.3:
        changed = mutate.raw(blob, others, rng)
        return sealed(changed) if rng.random() < 0.8 else changed
    magic, version, zero, size, _ = _HEAD.unpack_from(blob)
    head, rest = blob[_HEAD.size :][:size], blob[_HEAD.size + size :]
    if rng.random() < 0.6:
        head = mutate.msgpack(mutate.tree(msgspec.msgpack.decode(head), rng), rng)
    else:
        rest = mutate.columns(rest, rng)
    claimed = len(head) if rng.random() < 0.95 else rng.choice(mutate.INTEGERS) % 2**32
    return sealed(_HEAD.pack(magic, version, zero, claimed, 0) + head + rest)


@cache
def _blocks() -> tuple[bytes, ...]:
    some = readings(1)[:40]
    some["kind"][3], some["quality"][5] = KINDS.index("battery"), 2
    source = Source(3, 1_000_060, NOON_MS, NOON_MS + 9, np.arange(40) // 2 + 1_000_000)
    old = bytearray(Packing(SITE).pack("B", some[:7], "live"))
    old[4] = 1
    return (
        Packing(SITE).pack("A", some, "live", source), Packing(SITE).pack("A", some[:1], "replay"), bytes(old),
        Packing(SITE).pack("C", some[:0], "live"),
    )  # fmt: skip


# checkpoints.v1


@cache
def _checkpoints() -> tuple[bytes, ...]:
    state = b"{}\n" + bytes(200)
    one = Checkpoint("A", 3, 4, 10_000, START_MS, "v1", ("A", "B"), {"live:0": Seen(5, 6), "replay:1": Seen(-1, 0)}, state)
    return pack(one), pack(Checkpoint("", 0, 1, 0, 0, None, (), {}, b""))


# detections.v1


@cache
def _detections() -> tuple[bytes, ...]:
    rows = np.zeros(5, DETECTION)
    names = tuple(detector.name for detector in DETECTORS)
    return tuple(
        blob for part in (rows, rows[:1]) for blob in pack_detections("A", "live", part, FEATURES, names, 1 << 20)
    )  # fmt: skip


def detections(rng: Random, made: tuple[bytes, ...] = ()) -> bytes:
    """Of `made`, or of messages of our own."""
    blob = rng.choice(made or _detections())
    if rng.random() < 0.3:
        return mutate.raw(blob, _detections(), rng)
    (size,) = struct.unpack_from("<I", blob, 4)
    header = mutate.json_text(mutate.tree(json.loads(blob[8 : 8 + size]), rng), rng)
    claimed = len(header) if rng.random() < 0.95 else rng.choice(mutate.INTEGERS) % 2**32
    return blob[:4] + struct.pack("<I", claimed) + header + mutate.columns(blob[8 + size :], rng)


# alerts.v1


def alert(rng: Random) -> tuple[list[tuple[str, bytes | None]], bytes | None]:
    _, value, sent = cloudevents.encode(ALERT, "town")
    headers: list[tuple[str, bytes | None]] = list(sent)
    if rng.random() < 0.3:
        at = rng.randrange(len(headers))
        name, text = headers[at]
        headers[at] = rng.choice(
            (
                (name, None),
                (name, b""),
                (name, mutate.raw(text or b"", [value], rng)),
                (name.upper(), text),
                (name + "\n", text),
            )
        )
    if rng.random() < 0.02:
        return headers, None
    if rng.random() < 0.25:
        return headers, mutate.raw(value, [value], rng)
    return headers, mutate.json_text(mutate.tree(json.loads(value), rng), rng)


# commands.v1

COMMAND: Final = Command(
    schema_version="1.0", command_id="c1", alert_id=ALERT.alert_id, dma="A", action="close", by="ann", at=NOON_MS,
    outcome="confirmed_leak", comment="DN 150",
)  # fmt: skip


def command(rng: Random) -> tuple[bytes, bytes]:
    key, value = encode_command(COMMAND)
    if rng.random() < 0.3:
        return key, mutate.raw(value, [value], rng)
    return key, mutate.json_text(mutate.tree(json.loads(value), rng), rng)


# model bundles


@cache
def _bundle() -> dict[str, bytes]:
    return trained(weeks=8, dmas="A", trees=3, samples=16).to_files()


def bundle(rng: Random) -> dict[str, bytes]:
    files = dict(_bundle())
    arrays, manifest = files[ARRAYS], json.loads(files[MANIFEST])
    how = rng.random()
    if how < 0.5:
        # stored, not compressed: what is changed in a member is behind a CRC that zipfile checks
        files[ARRAYS] = arrays = _rezipped(arrays, rng) if rng.random() < 0.7 else mutate.raw(arrays, [arrays], rng)
        manifest["arraysSha256"] = hashlib.sha256(arrays).hexdigest()
        files[MANIFEST] = json.dumps(manifest).encode()
    elif how < 0.6:
        files[MANIFEST] = mutate.raw(files[MANIFEST], [files[MANIFEST]], rng)
    else:
        files[MANIFEST] = mutate.json_text(mutate.tree(manifest, rng), rng)
    if rng.random() < 0.01:
        del files[rng.choice(list(files))]
    return files


def _rezipped(content: bytes, rng: Random) -> bytes:
    """The archive with bytes of a member's header or data changed, and the CRC of that member made right in both places."""
    out = bytearray(content)
    for _ in range(rng.choice((1, 1, 3))):
        start = content.find(b"\x93NUMPY", rng.randrange(len(content)))
        if start >= 0:
            at = min(len(out) - 8, start + (rng.randrange(128) if rng.random() < 0.4 else rng.randrange(128, 1500)))
            width = rng.choice((1, 2, 4, 8))
            out[at : at + width] = (rng.choice(mutate.INTEGERS) * rng.choice((1, -1)) % (1 << 8 * width)).to_bytes(
                width, "little"
            )
    local, central = 0, content.find(b"PK\x01\x02")
    while out[local : local + 4] == b"PK\x03\x04" and out[central : central + 4] == b"PK\x01\x02":
        (size,) = struct.unpack_from("<I", content, local + 22)
        name, extra = struct.unpack_from("<HH", content, local + 26)
        data = local + 30 + name + extra
        crc = struct.pack("<I", zlib.crc32(out[data : data + size]))
        out[local + 14 : local + 18] = out[central + 16 : central + 20] = crc
        local, central = data + size, content.find(b"PK\x01\x02", central + 4)
    return bytes(out)


# states


@cache
def _states() -> tuple[bytes, ...]:
    engine, other = Engine(SITE, "A"), Engine(SITE, "C")
    engine.step(readings(3))
    return engine.snapshot(), Engine(SITE, "A").snapshot(), other.snapshot()


def state(rng: Random) -> bytes:
    """A header line of JSON with the body's CRC; another format is only changed byte by byte."""
    blob = rng.choice(_states())
    head, _, body = blob.partition(b"\n")
    if rng.random() < 0.4 or not head.startswith(b"{"):
        return mutate.raw(blob, _states(), rng)
    header = json.loads(head)
    if rng.random() < 0.3:
        body = mutate.columns(body, rng)
        header["crc"] = zlib.crc32(body)
        return json.dumps(header).encode() + b"\n" + body
    names = list(header["arrays"])
    if rng.random() < 0.4:
        # the same number of elements in another shape
        name = rng.choice(names)
        shape = header["arrays"][name]
        header["arrays"][name] = rng.choice((shape[::-1], [*shape, 1], [1, *shape], [-1], [int(np.prod(shape))], shape[:1]))
    else:
        header = mutate.tree(header, rng)
    return mutate.json_text(header, rng) + b"\n" + body


# the router


def records(rng: Random) -> list[Record]:
    stamps = (
        START_MS,
        NOON_MS,
        NOON_MS,
        NOON_MS,
        -1,
        0,
        1,
        None,
        -(2**63),
        2**63 - 1,
        2**62 + 1,
        253_402_300_800_000,
        LAST_MS + 1,
    )
    names = ("nl-origin", "reason", "topic", "x-reason", "", "a\nb", "tr\\xffce", "é" * 300, "offset")
    offset = rng.choice((0, 5, 2**31, 2**61))
    records = []
    for _ in range(rng.choice((1, 1, 2, 5))):
        offset += rng.choice((1, 1, 2, 1000))
        headers = [
            (rng.choice(names), rng.choice((None, b"", b"replay", b"\xff", b"live")))
            for _ in range(rng.choice((0, 0, 1, 4)))
        ]
        if rng.random() < 0.3:
            headers.append(REPLAY_HEADER)
        records.append(
            Record(
                raw_payload(rng), rng.choice(stamps), offset,  # type: ignore[arg-type] # None: of message format 0
                key=rng.choice((None, b"", b"in-A", b"\xff\xfe", b"k" * 70_000)), headers=tuple(headers),
            )
        )  # fmt: skip
    return records


def payloads(rng: Random) -> list[bytes | None]:
    """What one fetch brings of the raw topic."""
    return [raw_payload(rng) for _ in range(rng.choice((1, 1, 1, 3)))]


def block(rng: Random) -> bytes:
    """A message of readings.v1."""
    return behind_header(rng.choice(_blocks()), _blocks(), rng)


def checkpoint(rng: Random) -> bytes:
    """A message of checkpoints.v1."""
    return behind_header(rng.choice(_checkpoints()), _checkpoints(), rng)
