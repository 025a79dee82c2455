"""What people say about alerts, on `commands.v1`: acknowledged, shelved, commented on, closed with an outcome.

Key: the DMA's id; value: a `Command` in JSON. Outcomes are where labels come from. Within 1.x only optional fields are
added, and readers ignore fields they do not know.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, get_args

import msgspec

from models.schema import Outcome
from models.wire import FIRST_MS, FOREIGN, LAST_MS, brief, shown

SCHEMA_VERSION: Final = "1.0"
LIMIT: Final = 64 * 1024

Action = Literal["ack", "shelve", "comment", "close"]
OUTCOMES: Final[tuple[str, ...]] = get_args(Outcome)

_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
_Who = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Moment = Annotated[int, msgspec.Meta(ge=FIRST_MS, le=LAST_MS)]


class Command(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """One thing said about one alert, as published to `commands.v1`."""

    schema_version: str
    command_id: _Id
    """Chosen by the sender. What is sent twice under one id counts once."""
    alert_id: _Id
    dma: _Id
    """The key, again: the DMA the alert is about, or that its meter belongs to."""
    action: Action
    by: _Who
    at: _Moment
    """When it was said, epoch milliseconds."""
    outcome: Outcome | None = None
    """What it was: with `close`, and only there."""
    comment: Annotated[str, msgspec.Meta(max_length=10_000)] | None = None
    shelved_until: _Moment | None = None
    """With `shelve`: when it is to be shown again, epoch milliseconds."""


_DECODER: Final = msgspec.json.Decoder(Command)


def encode_command(command: Command) -> tuple[bytes, bytes]:
    """Key and value of its message. The same command always gives the same bytes."""
    return command.dma.encode(), msgspec.json.encode(command)


def decode_command(key: bytes | None, value: bytes | None) -> Command:
    """The command of a message. Raises ValueError, saying what was found and what was possible."""
    if value is None or len(value) > LIMIT:
        size = "null" if value is None else f"{len(value)} bytes"
        raise ValueError(f"command: value is {size}; possible: JSON of at most {LIMIT} bytes")
    try:
        command = _DECODER.decode(value)
    except FOREIGN as error:
        raise ValueError(f"value is not a command: {brief(error)}") from None
    if command.schema_version.split(".", maxsplit=1)[0] != SCHEMA_VERSION.split(".", maxsplit=1)[0]:
        raise ValueError(f"command: schemaVersion is {shown(command.schema_version)}; possible: {SCHEMA_VERSION!r}")
    if key != command.dma.encode():
        raise ValueError(f"command: key {brief(key)} of one about DMA {shown(command.dma)}; possible: its id")
    if (command.action == "close") != (command.outcome is not None):
        raise ValueError(
            f"command: action {command.action!r} with outcome {command.outcome!r}; possible: an outcome with 'close', and "
            f"only there, one of {', '.join(OUTCOMES)}"
        )
    if (command.action == "shelve") < (command.shelved_until is not None):
        raise ValueError(f"command: action {command.action!r} with shelvedUntil; possible: with 'shelve'")
    return command
