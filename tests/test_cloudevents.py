"""models/cloudevents.py: CloudEvents 1.0, Kafka protocol binding, binary content mode."""

from __future__ import annotations

import json
import re
import uuid

import msgspec
import pytest

from models.cloudevents import decode, encode, rfc3339
from models.schema import Alert, Estimate, Evidence, ModelRef, Scope, Title

ALERT = Alert(
    schema_version="1.0",
    alert_id=str(uuid.uuid5(uuid.NAMESPACE_URL, "a night flow leak")),
    revision=3,
    event="updated",
    type="night_flow_leak",
    severity="high",
    state="active",
    scope=Scope(type="dma", id="DMA-A"),
    started_at=1_795_392_000_000,
    detected_at=1_795_399_200_000,
    updated_at=1_795_400_100_250,
    ended_at=None,
    evidence=Evidence(
        metric="mnf",
        unit="m3/h",
        observed=18.2,
        expected=11.0,
        lower=9.1,
        upper=13.0,
        coverage=0.97,
        for_=["night flow is above its band"],
        against=[],
        meters=["FM-0012"],
    ),
    estimate=Estimate(excess_flow=7.2, unit="m3/h", loss_per_day=172.8, lost_so_far=16.2),
    confidence=0.83,
    title=Title(en="Night flow is high in DMA-A", zh="DMA-A 夜间流量偏高"),
    reasons=["mnf_above_band"],
    model=ModelRef(id=None, version=None, sha256=None),
    origin="live",
)


def test_attributes_are_headers_and_the_value_is_the_plain_alert():
    key, value, headers = encode(ALERT, "town")
    assert key == ALERT.alert_id.encode()
    assert dict(headers) == {
        "ce_specversion": b"1.0",
        "ce_id": f"{ALERT.alert_id}:3".encode(),
        "ce_source": b"/nightline/town",
        "ce_type": b"nightline.alert.updated",
        "ce_time": b"2026-11-23T02:15:00.250Z",
        "ce_subject": b"dma:DMA-A",
        "ce_dataschema": b"urn:nightline:schema:alert:v1",
        "content-type": b"application/json",
    }
    assert json.loads(value)["evidence"]["for"] == ["night flow is above its band"]
    assert "偏高" in value.decode()


def test_every_required_attribute_is_there_and_no_header_is_twice():
    names = [name for name, _ in encode(ALERT, "town")[2]]
    assert {"ce_specversion", "ce_id", "ce_source", "ce_type"} <= set(names)
    assert len(names) == len(set(names))
    # the specification: lower-case letters and digits only
    assert all(re.fullmatch(r"ce_[a-z0-9]+|content-type", name) for name in names)


def test_the_same_alert_gives_the_same_bytes():
    again = msgspec.json.decode(msgspec.json.encode(ALERT), type=Alert)
    assert encode(ALERT, "town") == encode(again, "town")


def test_an_alert_comes_back_as_it_was():
    _, value, headers = encode(ALERT, "town")
    assert decode(headers, value) == ALERT


def test_readers_ignore_fields_and_headers_they_do_not_know():
    _, value, headers = encode(ALERT, "town")
    later = json.dumps(json.loads(value) | {"tenant": "north"}).encode()
    assert decode([*headers, ("ce_traceparent", b"00-1")], later) == ALERT
    typed = [(n, b"application/json; charset=utf-8" if n == "content-type" else v) for n, v in headers]
    assert decode(typed, value) == ALERT


@pytest.mark.parametrize(
    ("header", "found", "reason"),
    [
        ("ce_specversion", None, "header ce_specversion: found none; possible: '1.0'"),
        ("ce_specversion", b"2.0", "header ce_specversion: found '2.0'; possible: '1.0'"),
        ("ce_type", None, "header ce_type: found none; possible: 'nightline.alert.*'"),
        ("ce_type", b"com.other", "header ce_type: found 'com.other'"),
        ("content-type", b"application/avro", "header content-type: found 'application/avro'"),
    ],
)
def test_a_message_that_is_no_alert_of_ours_is_refused(header: str, found: bytes | None, reason: str):
    _, value, headers = encode(ALERT, "town")
    changed = [(name, text) for name, text in headers if name != header]
    if found is not None:
        changed.append((header, found))
    with pytest.raises(ValueError, match=re.escape(reason)):
        decode(changed, value)


@pytest.mark.parametrize("value", [None, b"", b"{}", b"\xff", b"[" * 100_000])
def test_a_value_that_is_no_alert_is_refused(value: bytes | None):
    with pytest.raises(ValueError, match="value is"):
        decode(encode(ALERT, "town")[2], value)


def test_a_header_without_a_value_is_refused():
    _, value, headers = encode(ALERT, "town")
    for name in ("ce_specversion", "ce_type", "content-type"):
        with pytest.raises(ValueError, match=f"header {name}: found none"):
            decode([*headers, (name, None)], value)


@pytest.mark.parametrize("name", ["startedAt", "detectedAt", "updatedAt", "endedAt"])
@pytest.mark.parametrize("time_ms", [-1, 4_102_444_800_001, 2**62, 10**30])
def test_a_time_that_no_date_can_be_made_of_is_refused(name: str, time_ms: int):
    _, value, headers = encode(ALERT, "town")
    with pytest.raises(ValueError, match=r"value is not an alert: \w+_at is -?\d+; possible: epoch milliseconds until 2100"):
        decode(headers, json.dumps(json.loads(value) | {name: time_ms}).encode())


def test_the_reason_is_one_line_whatever_the_value_says():
    _, value, headers = encode(ALERT, "town")
    with pytest.raises(ValueError, match="Invalid enum value") as refused:
        decode(headers, json.dumps(json.loads(value) | {"event": "a\nb\u2028" * 999}, ensure_ascii=False).encode())
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 300


def test_times_are_rfc3339_in_utc():
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(1_795_400_100_007) == "2026-11-23T02:15:00.007Z"
