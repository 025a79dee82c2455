"""`python -m tests.schemas`: JSON Schemas of the wire types -> docs/schemas.

`--freeze` also writes them beside the golden messages of the current schema version, where the compatibility test takes
what was promised from. Freeze when a version is released, and never again after that.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from models.cloudevents import DATA_SCHEMA
from models.commands import Command
from models.schema import SCHEMA_VERSION, Alert, ColumnarReadings, Reading
from streams.control import Control

ROOT = Path(__file__).resolve().parent.parent
COMMITTED = ROOT / "docs" / "schemas"
GOLDEN = ROOT / "tests" / "golden"

SCHEMAS: dict[str, tuple[type, str]] = {
    "reading.v1.json": (Reading, "urn:nightline:schema:reading:v1"),
    "columnar-readings.v1.json": (ColumnarReadings, "urn:nightline:schema:columnar-readings:v1"),
    "alert.v1.json": (Alert, DATA_SCHEMA),
    "model-control.v1.json": (Control, "urn:nightline:schema:model-control:v1"),
    "command.v1.json": (Command, "urn:nightline:schema:command:v1"),
}


def generate(name: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of one file of docs/schemas."""
    root, identifier = SCHEMAS[name]
    schema = msgspec.json.schema(root)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": identifier} | schema


def text_of(schema: dict[str, Any]) -> str:
    """Sorted and indented, so a change of the types is a small difference."""
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def frozen(version: str) -> Path:
    """Where the schemas of a released version stay."""
    return GOLDEN / f"v{version}" / "schemas"


_SAYS_NOTHING = {"$schema", "$id", "$defs", "description", "title", "examples"}
_WALKED = {"properties", "required", "items", "anyOf", "enum", "type"}


def incompatible(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What breaks a reader or a writer of `old` that meets `new`: one line per fault, empty when compatible.

    The rule of models/schema.py: only optional fields and further values of an enumeration are added. Whatever the walk
    does not understand counts as a fault when it differs.
    """
    faults: list[str] = []
    _compare(_resolve(old, old), _resolve(new, new), "$", (old, new), faults)
    return faults


def _resolve(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        found: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found | {key: value for key, value in schema.items() if key not in {"$ref", *_SAYS_NOTHING}}
    return schema


def _compare(
    old: dict[str, Any], new: dict[str, Any], at: str, roots: tuple[dict[str, Any], dict[str, Any]], faults: list[str]
) -> None:
    """Append the faults of two resolved schemas at one place."""
    if _type(old) != _type(new):
        faults.append(f"{at}: was {_type(old)}, is {_type(new)}")
        return
    faults += [f"{at}: value {gone!r} was removed" for gone in old.get("enum", []) if gone not in new.get("enum", [])]
    for keyword in sorted((old.keys() | new.keys()) - _SAYS_NOTHING - _WALKED):
        if old.get(keyword, ...) != new.get(keyword, ...):
            faults.append(f"{at}: {keyword} was {old.get(keyword)!r}, is {new.get(keyword)!r}")

    had, has = old.get("properties", {}), new.get("properties", {})
    needed, needs = set(old.get("required", [])), set(new.get("required", []))
    faults += [f"{at}.{name}: was removed" for name in had if name not in has]
    faults += [f"{at}.{name}: is new and required" for name in has if name not in had and name in needs]
    faults += [f"{at}.{name}: was optional, is required" for name in has if name in had and name in needs - needed]
    faults += [f"{at}.{name}: was required, is optional" for name in has if name in had and name in needed - needs]
    pairs = [(had[name], has[name], f"{at}.{name}") for name in had if name in has]
    if "items" in old and "items" in new:
        pairs.append((old["items"], new["items"], f"{at}[]"))
    # alternatives of one type are told apart by their order; _type has already compared their types
    alternatives = [
        sorted((_resolve(one, root) for one in side.get("anyOf", [])), key=_type)
        for side, root in zip((old, new), roots, strict=True)
    ]
    pairs += [(was, now, at) for was, now in zip(*alternatives, strict=True)]
    for was, now, place in pairs:
        _compare(_resolve(was, roots[0]), _resolve(now, roots[1]), place, roots, faults)


def _type(schema: dict[str, Any]) -> str:
    """The type in one word; of alternatives, all of them in order."""
    if "anyOf" in schema:
        return " | ".join(sorted(_type(one) for one in schema["anyOf"]))
    if "$ref" in schema:
        return "object"
    if "enum" in schema:
        return "enumeration"
    found = schema.get("type", "anything")
    return found if isinstance(found, str) else " | ".join(sorted(found))


def main(freeze: bool) -> None:
    """Write all files."""
    for folder in [COMMITTED, *([frozen(SCHEMA_VERSION)] if freeze else [])]:
        folder.mkdir(parents=True, exist_ok=True)
        for name in SCHEMAS:
            (folder / name).write_text(text_of(generate(name)), encoding="utf-8")
            print((folder / name).relative_to(ROOT))


if __name__ == "__main__":
    main(freeze="--freeze" in sys.argv[1:])
