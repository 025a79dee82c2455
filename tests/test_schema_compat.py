"""The wire contract: committed schemas are the generated ones, releases stay unbroken, old messages still decode."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest

from models.codec import Decoder
from models.commands import decode_command, encode_command
from models.network import parse_site
from models.schema import BATTERY, FLOW, LEVEL, PRESSURE, READING, REGISTER, SCHEMA_VERSION, Alert
from tests.schemas import COMMITTED, GOLDEN, SCHEMAS, frozen, generate, incompatible, text_of

RELEASED = sorted(path.name.removeprefix("v") for path in GOLDEN.iterdir() if path.is_dir())


def golden(version: str, name: str) -> bytes:
    return (GOLDEN / f"v{version}" / name).read_bytes()


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_committed_schema_is_the_generated_one(name: str):
    committed = (COMMITTED / name).read_text(encoding="utf-8")
    assert committed == text_of(generate(name)), "run: make schemas"


def test_no_other_file_passes_for_a_schema():
    assert {path.name for path in COMMITTED.glob("*.json")} == set(SCHEMAS)


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schema_is_valid_json_schema(name: str):
    jsonschema.Draft202012Validator.check_schema(generate(name))


def test_the_current_version_is_among_the_golden_ones():
    assert SCHEMA_VERSION in RELEASED, "a new version: python -m tests.schemas --freeze, and add golden messages"


@pytest.mark.parametrize("version", RELEASED)
@pytest.mark.parametrize("name", SCHEMAS)
def test_the_types_keep_what_a_released_version_promised(version: str, name: str):
    promised = json.loads((frozen(version) / name).read_text(encoding="utf-8"))
    assert incompatible(promised, generate(name)) == [], "a breaking change is a new topic"


# The checker itself

BASE: dict[str, Any] = {
    "$ref": "#/$defs/Thing",
    "$defs": {
        "Thing": {
            "type": "object",
            "required": ["id", "kind", "inner"],
            "properties": {
                "id": {"type": "string", "minLength": 1},
                "kind": {"enum": ["a", "b"]},
                "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
                "many": {"type": "array", "items": {"anyOf": [{"enum": ["x", "y"]}, {"type": "integer"}]}},
                "inner": {"$ref": "#/$defs/Inner"},
            },
        },
        "Inner": {"type": "object", "required": ["flow"], "properties": {"flow": {"type": "number"}}},
    },
}


def thing(schema: dict[str, Any]) -> dict[str, Any]:
    return schema["$defs"]["Thing"]["properties"]


def rename(schema: dict[str, Any]) -> None:
    thing(schema)["identifier"] = thing(schema).pop("id")


BREAKING: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "removed property": (lambda s: thing(s).pop("note"), "$.note: was removed"),
    "renamed property": (rename, "$.id: was removed"),
    "removed nested property": (lambda s: s["$defs"]["Inner"]["properties"].clear(), "$.inner.flow: was removed"),
    "retyped": (lambda s: thing(s)["id"].update(type="integer"), "$.id: was string, is integer"),
    "nested retyped": (
        lambda s: s["$defs"]["Inner"]["properties"]["flow"].update(type="string"),
        "$.inner.flow: was number, is string",
    ),
    "alternative added": (
        lambda s: thing(s)["note"]["anyOf"].append({"type": "integer"}),
        "$.note: was null | string, is integer | null | string",
    ),
    "alternative removed": (lambda s: thing(s)["note"]["anyOf"].pop(), "$.note: was null | string, is string"),
    "enumeration opened": (
        lambda s: thing(s).update(kind={"type": "string"}),
        "$.kind: was enumeration, is string",
    ),
    "new required property": (
        lambda s: (thing(s).update(site={"type": "string"}), s["$defs"]["Thing"]["required"].append("site")),
        "$.site: is new and required",
    ),
    "optional made required": (
        lambda s: s["$defs"]["Thing"]["required"].append("note"),
        "$.note: was optional, is required",
    ),
    "required made optional": (
        lambda s: s["$defs"]["Thing"]["required"].remove("id"),
        "$.id: was required, is optional",
    ),
    "enum value removed": (lambda s: thing(s)["kind"]["enum"].remove("b"), "$.kind: value 'b' was removed"),
    "enum value removed in a list": (
        lambda s: thing(s)["many"]["items"]["anyOf"][0]["enum"].remove("y"),
        "$.many[]: value 'y' was removed",
    ),
    "limit tightened": (lambda s: thing(s)["id"].update(minLength=2), "$.id: minLength was 1, is 2"),
    "default changed": (lambda s: thing(s)["note"].update(default=""), "$.note: default was None, is ''"),
    "unknown keyword": (lambda s: thing(s)["id"].update(contentEncoding="base64"), "$.id: contentEncoding was None"),
}

HARMLESS: dict[str, Callable[[dict[str, Any]], object]] = {
    "nothing": copy.deepcopy,
    "new optional property": lambda s: thing(s).update(site={"type": "string"}),
    "new optional nested property": lambda s: s["$defs"]["Inner"]["properties"].update(unit={"type": "string"}),
    "new enum value": lambda s: thing(s)["kind"]["enum"].append("c"),
    "new words": lambda s: s["$defs"]["Thing"].update(description="better", title="Thing"),
    "another order": lambda s: thing(s)["note"]["anyOf"].reverse(),
    "renamed definition": lambda s: (
        s["$defs"].update(Core=s["$defs"].pop("Inner")),
        thing(s)["inner"].update({"$ref": "#/$defs/Core"}),
    ),
}


@pytest.mark.parametrize("case", BREAKING)
def test_the_checker_finds(case: str):
    change, fault = BREAKING[case]
    changed = copy.deepcopy(BASE)
    change(changed)
    assert any(found.startswith(fault) for found in incompatible(BASE, changed)), incompatible(BASE, changed)


@pytest.mark.parametrize("case", HARMLESS)
def test_the_checker_allows(case: str):
    changed = copy.deepcopy(BASE)
    HARMLESS[case](changed)
    assert incompatible(BASE, changed) == []


# Golden messages: they are never edited, only new folders are added

SITE = parse_site(
    'name = "town"\ntimezone = "Asia/Shanghai"\n',
    """
    [[dma]]
    id = "DMA-A"
    [[meter]]
    id = "FM-0012"
    kind = "flow"
    to = "DMA-A"
    [[meter]]
    id = "PT-0003"
    kind = "pressure"
    dma = "DMA-A"
    [[meter]]
    id = "TK-0001"
    kind = "level"
    dma = "DMA-A"
    tankAreaM2 = 50
    """,
)
FM, PT, TK = range(3)
T = 1_795_371_300_000  # 2026-11-22T18:15:00Z

READINGS = {
    ("1.0", "reading.json"): [(T, 44.424, FM, FLOW, 1)],
    ("1.0", "reading-array.json"): [
        (T, 1.0, FM, FLOW, 0),
        (T, 310.0, PT, PRESSURE, 0),
        (T + 500, 8812.5, FM, REGISTER, 2),
        (T, 3.2, TK, LEVEL, 0),
        (T, 3.6, PT, BATTERY, 0),
    ],
    ("1.0", "senml.json"): [
        (T, 7.2, FM, FLOW, 0),
        (T + 900_000, 7.4, FM, FLOW, 0),
        (T, 310.0, PT, PRESSURE, 0),
    ],
    ("1.0", "columnar-readings.json"): [
        (T - 900_000, 1.5, FM, FLOW, 0),
        (T + 6_300_000, 1.25, FM, FLOW, 1),
    ],
}


@pytest.mark.parametrize(("version", "name"), READINGS)
def test_golden_readings_decode_to_what_they_always_meant(version: str, name: str):
    decoded = Decoder(SITE).decode([golden(version, name)])
    expected = np.array(READINGS[version, name], READING)
    assert decoded.rejects == []
    for field in ("time_ms", "meter", "kind", "quality"):
        assert decoded.readings[field].tolist() == expected[field].tolist()
    np.testing.assert_allclose(decoded.readings["value"], expected["value"], rtol=1e-12)


def of_the_names_in(sent: Any, known: Any) -> Any:
    """What of a message an older one has names for, at every depth."""
    if isinstance(sent, dict) and isinstance(known, dict):
        return {name: of_the_names_in(sent[name], value) for name, value in known.items() if name in sent}
    return sent


@pytest.mark.parametrize("version", RELEASED)
def test_a_golden_alert_decodes_and_encodes_to_itself(version: str):
    raw = golden(version, "alert.json")
    alert = msgspec.json.decode(raw, type=Alert)
    assert (alert.alert_id, alert.revision, alert.event) == ("6f1f7a0e-6a3f-5c0e-9b83-0d3a54c6f0aa", 3, "cleared")
    assert alert.evidence.upper is None
    assert alert.title.zh == "DMA-A 夜间流量偏高"
    # fields that came after this version may be added, with their defaults
    assert of_the_names_in(json.loads(msgspec.json.encode(alert)), json.loads(raw)) == json.loads(raw)


@pytest.mark.parametrize("version", RELEASED)
def test_a_golden_command_decodes_and_encodes_to_itself(version: str):
    raw = golden(version, "command.json")
    command = decode_command(b"DMA-A", raw)
    assert (command.action, command.outcome, command.at) == ("close", "confirmed_leak", 1_795_432_500_000)
    key, value = encode_command(command)
    sent = json.loads(value)
    assert key == b"DMA-A"
    assert {name: sent[name] for name in json.loads(raw)} == json.loads(raw)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("reading.v1.json", "reading.json"),
        ("columnar-readings.v1.json", "columnar-readings.json"),
        ("alert.v1.json", "alert.json"),
        ("command.v1.json", "command.json"),
    ],
)
def test_golden_messages_satisfy_the_committed_schema(schema: str, message: str):
    for version in RELEASED:
        jsonschema.validate(
            json.loads(golden(version, message)),
            json.loads((COMMITTED / schema).read_text(encoding="utf-8")),
            format_checker=jsonschema.FormatChecker(),
        )


def test_every_golden_message_is_tested():
    messages = {(path.parent.name.removeprefix("v"), path.name) for path in Path(GOLDEN).glob("v*/*.json")}
    others = {(version, name) for version in RELEASED for name in ("alert.json", "command.json")}
    assert messages == {*READINGS, *others}
