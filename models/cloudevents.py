"""Alerts as CloudEvents 1.0 over Kafka, binary mode: attributes are `ce_*` headers, the value is plain JSON.

The same alert always gives the same bytes, so a message sent twice is the same message.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from models.schema import Alert
from models.wire import FOREIGN, LAST_MS, brief, shown

TYPE_PREFIX: Final = "nightline.alert."
DATA_SCHEMA: Final = "urn:nightline:schema:alert:v1"
"""The `$id` of docs/schemas/alert.v1.json."""
CONTENT_TYPE: Final = "application/json"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DECODER: Final = msgspec.json.Decoder(Alert)


def rfc3339(time_ms: int) -> str:
    """`2026-11-23T02:15:00.000Z` of an epoch time in ms."""
    moment = _EPOCH + timedelta(milliseconds=time_ms)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def encode(alert: Alert, site_name: str) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """Key, value and headers of the Kafka message of one alert revision."""
    attributes = {
        "ce_specversion": "1.0",
        "ce_id": f"{alert.alert_id}:{alert.revision}",
        "ce_source": f"/nightline/{site_name}",
        "ce_type": TYPE_PREFIX + alert.event,
        "ce_time": rfc3339(alert.updated_at),
        "ce_subject": f"{alert.scope.type}:{alert.scope.id}",
        "ce_dataschema": DATA_SCHEMA,
        "content-type": CONTENT_TYPE,
    }
    headers = [(name, text.encode()) for name, text in attributes.items()]
    return alert.alert_id.encode(), msgspec.json.encode(alert), headers


def decode(headers: Iterable[tuple[str, bytes | None]], value: bytes | None) -> Alert:
    """The alert of a message.

    Raises ValueError, saying what was found and what was possible, for a tombstone, a message that is not a Nightline
    alert, and a value that is not an `Alert`.
    """
    found = {name.lower(): text for name, text in headers}
    version = found.get("ce_specversion")
    if version != b"1.0":
        raise ValueError(f"header ce_specversion: found {_shown(version)}; possible: '1.0'")
    event_type = found.get("ce_type")
    if event_type is None or not event_type.startswith(TYPE_PREFIX.encode()):
        raise ValueError(f"header ce_type: found {_shown(event_type)}; possible: '{TYPE_PREFIX}*'")
    content = found.get("content-type", CONTENT_TYPE.encode())
    if content is None or content.split(b";")[0].strip().lower() != CONTENT_TYPE.encode():
        raise ValueError(f"header content-type: found {_shown(content)}; possible: {CONTENT_TYPE!r}")
    if value is None:
        raise ValueError("value is null (tombstone); possible: an alert")
    try:
        alert = _DECODER.decode(value)
    except FOREIGN as error:
        raise ValueError(f"value is not an alert: {brief(error)}") from None
    for name in ("started_at", "detected_at", "updated_at", "ended_at"):
        time_ms = getattr(alert, name)
        # whoever shows it makes a date of it
        if time_ms is not None and not 0 <= time_ms <= LAST_MS:
            raise ValueError(f"value is not an alert: {name} is {shown(time_ms)}; possible: epoch milliseconds until 2100")
    return alert


def _shown(header: bytes | None) -> str:
    return "none" if header is None else repr(header[:60].decode("utf-8", "replace"))
