"""Every decoder that reads bytes from outside, its valid inputs, and its contract.

A target gives a valid value or raises ValueError with one line; the Decoder and the Router never raise, and give a reject
with one line. Nothing else is allowed: no other exception, no hang, no memory for what only a header claims.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np

from models import cloudevents
from models.bundle import MANIFEST, Bundle, Manifest
from models.codec import Decoder
from models.commands import decode_command, encode_command
from models.engine import Engine
from models.features import FEATURES
from models.forest import score
from models.packing import Packing, unpack_named
from models.schema import HIGHEST, KINDS, LOWEST, QUALITIES, READING, Readings
from models.wire import FIRST_MS, LAST_MS
from streams.blocks import Block
from streams.checkpoints import pack, unpack
from streams.detections import unpack_detections
from streams.router import Router
from streams.topics import DEAD_LETTERS, READINGS
from tests.fuzz import inputs
from tests.fuzz.inputs import SITE
from tests.fuzz.run import Fault, Target
from tests.payloads import same
from tests.test_agents import Record
from training.card import card


def must(holds: object, what: str) -> None:
    """Raises Fault where something does not hold."""
    if not holds:
        raise Fault(what)


def one_line(reason: str) -> None:
    """A reason must be fit for a log and a header."""
    must(reason.strip(), "the reason is empty")
    must(len(reason.splitlines()) == 1, f"the reason has several lines: {reason[:300]!r}")
    must(len(reason) <= 4000, f"the reason has {len(reason)} characters: {reason[:300]!r}")
    reason.encode()


def attempt(call: Callable[..., Any], *arguments: Any) -> Any:
    """What it gives, None where it refused with one line."""
    try:
        return call(*arguments)
    except ValueError as error:
        one_line(str(error))
        return None


def plausible(found: Readings) -> None:
    """Each reading can be."""
    must(found.dtype == READING, "dtype")
    must((found["kind"] < len(KINDS)).all() and (found["quality"] < len(QUALITIES)).all(), "kind or quality out of range")
    must(((found["meter"] >= 0) & (found["meter"] < len(SITE.meters))).all(), "meter out of range")
    must(((found["time_ms"] >= FIRST_MS) & (found["time_ms"] <= LAST_MS)).all(), "time out of range")
    value, kind = found["value"], found["kind"]
    must(((value >= LOWEST[kind]) & (value <= HIGHEST[kind])).all(), "value out of range or not finite")


def _check_decode(payloads: list[bytes | None]) -> bool:
    decoded = Decoder(SITE).decode(payloads)
    must(same(decoded, Decoder(SITE).parse(payloads)), "the scanner and msgspec differ")
    plausible(decoded.readings)
    must(len(decoded.message) == len(decoded.readings), "message of each reading")
    must((np.diff(decoded.message) >= 0).all(), "messages not ascending")
    rejected = [reject.message for reject in decoded.rejects]
    must(rejected == sorted(set(rejected)), "rejects not ascending, or two of one payload")
    for reject in decoded.rejects:
        one_line(reject.reason)
    for at in set(range(len(payloads))) - set(rejected) - set(decoded.message.tolist()):
        json.loads(payloads[at] or b"")  # neither: then it is JSON, and holds gaps and base fields only
    return not rejected


def _check_block(blob: bytes) -> bool:
    block, named = attempt(Packing(SITE).unpack, blob), attempt(unpack_named, blob)
    must((block is None) == (named is None), "read with its site and not without, or the other way round")
    if block is None:
        return False
    plausible(block.readings)
    must(len(named.readings) + named.unknown == len(block.readings) + block.unknown, "not as many readings without its site")
    must(len(named.readings) >= len(block.readings), "readings are lost without its site")
    must(isinstance(block.dma, str) and block.origin in ("live", "replay") and block.unknown >= 0, "header")
    if block.source is not None:
        offsets = block.source.offsets
        must(len(offsets) == len(block.readings) and (np.diff(offsets) >= 0).all(), "offsets")
        must((offsets >= 0).all() and (offsets <= block.source.end).all(), "offsets out of range")
    return True


def _check_checkpoint(blob: bytes) -> bool:
    found = attempt(unpack, blob)
    if found is not None:
        must(unpack(pack(found)) == found, "does not come back from its own bytes")
    return found is not None


def _check_detections(blob: bytes) -> bool:
    found = attempt(unpack_detections, blob)
    if found is None:
        return False
    must(isinstance(found.dma, str) and isinstance(found.origin, str), "dma or origin")
    must(all(isinstance(name, str) for name in (*found.features, *found.detectors, *found.columns)), "names")
    must(len({len(column) for column in found.columns.values()}) <= 1, "columns of different lengths")
    must(all(column.dtype.kind in "biuf" for column in found.columns.values()), "columns that are no numbers")
    return True


def _check_alert(made: tuple[list[tuple[str, bytes]], bytes | None]) -> bool:
    alert = attempt(cloudevents.decode, *made)
    if alert is None:
        return False
    _, value, headers = cloudevents.encode(alert, "town")
    must(cloudevents.decode(headers, value) == alert, "does not come back from its own bytes")
    return True


def _check_command(made: tuple[bytes, bytes]) -> bool:
    command = attempt(decode_command, *made)
    if command is None:
        return False
    must(decode_command(*encode_command(command)) == command, "does not come back from its own bytes")
    return True


_ROWS: Final = np.random.default_rng(1).normal(size=(3, len(FEATURES))).astype(np.float32)


def _check_bundle(files: dict[str, bytes]) -> bool:
    found = attempt(Bundle.from_files, files)
    if found is None:
        return False
    must(np.isfinite(score(found.forest, _ROWS)).all(), "a score is not finite")
    must(msgspec.json.decode(found.to_files()[MANIFEST], type=Manifest) == found.manifest, "manifest does not come back")
    must(card(found.manifest), "has no card")
    return True


def _check_state(blob: bytes) -> bool:
    engine, fresh = Engine(SITE, "A"), Engine(SITE, "A")
    before = engine.snapshot()
    try:
        engine.restore(blob)
    except ValueError as error:
        one_line(str(error))
        must(engine.snapshot() == before, "a refused state changed the engine")
        return False
    for name, expected in fresh._buffers._asdict().items():
        found = getattr(engine._buffers, name)
        must((found.shape, found.dtype) == (expected.shape, expected.dtype), f"{name}: {found.shape}, not {expected.shape}")
    again = engine.snapshot()
    other = Engine(SITE, "A")
    other.restore(again)
    must(other.snapshot() == again, "does not come back from its own bytes")
    return True


def _check_route(records: list[Record]) -> bool:
    messages = Router(SITE).route(Block(list(records)))
    dead = set()
    for message in messages:
        for name, text in message.headers:
            must(isinstance(text, bytes) and name.encode() is not None, "header")
        if message.dataset == DEAD_LETTERS:
            headers = dict(message.headers)
            one_line(headers["reason"].decode())
            dead.add(int(headers["offset"]))
        else:
            must(message.dataset == READINGS, message.dataset)
            block = Packing(SITE).unpack(message.value or b"")  # what is published must be readable: a fault if not
            must(block.unknown == 0 and len(block.readings), "a published block has readings that nobody can use")
            must(block.dma.encode() == message.key and block.source is not None, "block")
            plausible(block.readings)
    must(dead <= {record.offset for record in records}, "a dead letter of no record")
    must({record.offset for record in records if record.value is None} <= dead, "a null value without a dead letter")
    return not dead


TARGETS: Final = {
    target.name: target
    for target in (
        Target("decode", inputs.payloads, _check_decode),
        Target("block", inputs.block, _check_block),
        Target("detections", inputs.detections, _check_detections),
        Target("alert", inputs.alert, _check_alert),
        Target("command", inputs.command, _check_command),
        Target("bundle", inputs.bundle, _check_bundle),
        Target("checkpoint", inputs.checkpoint, _check_checkpoint),
        Target("state", inputs.state, _check_state),
        Target("route", inputs.records, _check_route),
    )
}
