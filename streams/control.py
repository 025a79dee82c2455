"""Control records: readings of `readings.v1` that are none, but say which model a DMA is judged with from there on.

Key: the DMA's id, so it lies in the log that the DMA's engine reads. Header `nl-control` with value `model`; value: a
`Control` in JSON. Whoever reads `readings.v1` passes over records with this header.

The place of a swap is therefore a place in the log, the same for every worker, after every restart, and in every replay
of the log; how the log is cut into blocks does not matter.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

import msgspec

from models.wire import FOREIGN, brief, shown
from streams.outbox import Message
from streams.published import Named
from streams.topics import READINGS

HEADER: Final = ("nl-control", b"model")
SCHEMA_VERSION: Final = "1.0"
LIMIT: Final = 64 * 1024

Role = Literal["champion", "challenger"]


class Control(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """Value of a control record. Within 1.x only optional fields are added, and readers ignore what they do not know."""

    schema_version: str
    dma: str
    """The key, again."""
    role: Role
    """Champion: judges and alerts from here on. Challenger: scores beside it in `detections.v1`, and alerts nobody."""
    model: Named | None
    """Null: no model in this role from here on."""
    initial: bool = False
    """Only for a DMA whose champion no control record has spoken of yet: what a worker found in its folder at the start."""
    promoted_at: str | None = None
    """RFC 3339, for people; decides nothing. This and the next two."""
    by: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Told:
    """A control record that was read."""

    dma: str
    control: Control
    record: Any
    origin: ClassVar[None] = None
    """It is neither live nor replayed."""


_CONTROL: Final = msgspec.json.Decoder(Control)


def is_control(record: Any) -> bool:
    """Whether a record of `readings.v1` (aiokafka's) says something instead of holding readings."""
    return any(name == HEADER[0] for name, _ in record.headers)


def read_control(record: Any, dmas: Collection[str]) -> Told:
    """The control record. Raises ValueError for what is none, or of another version or DMA."""
    value = record.value
    if HEADER not in record.headers:
        found = next(content for name, content in record.headers if name == HEADER[0])
        raise ValueError(f"control record: header {HEADER[0]} is {brief(found)}; possible: {HEADER[1]!r}")
    if value is None or len(value) > LIMIT:
        size = "null" if value is None else f"{len(value)} bytes"
        raise ValueError(f"control record: value is {size}; possible: JSON of at most {LIMIT} bytes")
    try:
        control = _CONTROL.decode(value)
    except FOREIGN as error:
        raise ValueError(f"control record cannot be read: {brief(error)}") from None
    if control.schema_version.split(".", maxsplit=1)[0] != SCHEMA_VERSION.split(".", maxsplit=1)[0]:
        raise ValueError(f"control record: schemaVersion is {shown(control.schema_version)}; possible: {SCHEMA_VERSION!r}")
    if record.key != control.dma.encode():
        raise ValueError(f"control record: key {brief(record.key)} of one of DMA {shown(control.dma)}; possible: its id")
    if control.dma not in dmas:
        raise ValueError(f"control record: DMA {shown(control.dma)} is not in network.toml")
    return Told(control.dma, control, record)


def control_message(control: Control) -> Message:
    """The record that says it."""
    return Message(READINGS, control.dma.encode(), msgspec.json.encode(control), [HEADER])
