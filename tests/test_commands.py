"""models/commands.py: what people say comes back as it was said, and anything else is refused with a reason."""

from __future__ import annotations

import re

import msgspec
import pytest

from models.commands import LIMIT, Command, decode_command, encode_command

CLOSE = Command(
    schema_version="1.0", command_id="c1", alert_id="a1", dma="ALFA", action="close", by="ann", at=1_795_432_500_000,
    outcome="planned_work", comment="flushing",
)  # fmt: skip
SHELVE = msgspec.structs.replace(CLOSE, action="shelve", outcome=None, shelved_until=CLOSE.at + 1)


def said(**changes: object) -> bytes:
    return msgspec.json.encode(msgspec.to_builtins(CLOSE) | changes)


@pytest.mark.parametrize("command", [CLOSE, SHELVE, msgspec.structs.replace(CLOSE, action="ack", outcome=None)])
def test_a_command_comes_back_as_it_was(command: Command):
    assert decode_command(*encode_command(command)) == command


def test_fields_of_a_later_version_are_passed_over():
    assert decode_command(b"ALFA", said(schemaVersion="1.7", crew="north")) == msgspec.structs.replace(
        CLOSE, schema_version="1.7"
    )


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (b"ALFA", None, "value is null; possible: JSON of at most 65536 bytes"),
        (b"ALFA", b" " * (LIMIT + 1), "value is 65537 bytes"),
        (b"ALFA", b"{", "value is not a command: Input data was truncated"),
        (b"BETA", said(), "key b'BETA' of one about DMA 'ALFA'"),
        (None, said(), "key None of one about DMA 'ALFA'"),
        (b"ALFA", said(schemaVersion="2.0"), "schemaVersion is '2.0'; possible: '1.0'"),
        (b"ALFA", said(outcome=None), "action 'close' with outcome None; possible: an outcome with 'close', and only there"),
        (b"ALFA", said(action="ack"), "action 'ack' with outcome 'planned_work'"),
        (b"ALFA", said(outcome="aliens"), "Invalid enum value 'aliens'"),
        (b"ALFA", said(at=12), "value is not a command: Expected `int` >= 631152000000"),
        (b"ALFA", said(commandId=""), "value is not a command: Expected `str` of length >= 1"),
        (b"ALFA", said(shelvedUntil=CLOSE.at), "action 'close' with shelvedUntil; possible: with 'shelve'"),
    ],
)
def test_what_is_no_command_is_refused_with_a_reason(key: bytes | None, value: bytes | None, reason: str):
    with pytest.raises(ValueError, match=re.escape(reason)):
        decode_command(key, value)
