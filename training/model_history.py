"""Who promoted which model when, and why: `models/<scope>/history.ndjson`, one entry a line, beside the aliases.

The entry appears first and then the aliases, each by a rename, so a full disk leaves what was there, and an entry whose
alias never came, as its process was killed, is known by it. The history of champions is a
stack: a promotion lies on top of the champion before it, a rollback takes the top away.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from models.config import ConfigError
from models.wire import FOREIGN, brief
from training.registry import Alias, scope_folder, write_through

HISTORY: Final = "history.ndjson"


class Told(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """Where in `readings.v1` a DMA's control record lies: from this offset on it goes on with the model."""

    dma: str
    partition: int
    offset: int


class Entry(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """One line."""

    at: str
    """RFC 3339."""
    by: str
    action: Literal["promoted", "rolledBack", "inShadow"]
    role: Alias
    version: str | None
    """None: no model."""
    before: str | None
    reason: str | None = None
    forced: bool = False
    margin: float | None = None
    worse: list[str] = []
    """What `compare` said against it."""
    comparison: dict[str, Any] | None = None
    """The comparison that it rests on; None where there was nothing to compare with, or nobody had."""
    prefix: str | None = None
    """Of the topics that workers were told on; None where only the registry was changed."""
    told: list[Told] = []


def history(site_folder: Path, scope: str) -> list[Entry]:
    """All entries, oldest first. Raises ConfigError, naming file and line, for one that cannot be read."""
    path = scope_folder(site_folder, scope) / HISTORY
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror or error}"]) from None
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            entries.append(msgspec.json.decode(line, type=Entry))
        except FOREIGN as error:
            raise ConfigError([f"{path}: line {number}: {brief(error)}; possible: an entry as promote writes it"]) from None
    return entries


def champions_before(entries: list[Entry], current: str | None) -> list[str | None]:
    """The champions under the current one, the latest last; empty where the history does not tell how it came to serve.

    An entry that was written by a process killed before it changed the alias never came to be: the next one, or the alias
    itself, still names what served before it.
    """
    stack: list[str | None] = []
    earlier: list[str | None] = []  # without the last entry
    for entry in entries:
        if entry.role != "champion":
            continue
        if stack and stack[-1] != entry.before and earlier and earlier[-1] == entry.before:
            stack = earlier
        if entry.action == "promoted":
            # an alias that was changed by hand meanwhile begins anew
            earlier = stack if stack and stack[-1] == entry.before else [entry.before]
            # one that serves already was only told again, say with --bootstrap now
            stack = earlier if entry.version == entry.before else [*earlier, entry.version]
        else:
            earlier, stack = stack, stack[:-1] if len(stack) > 1 else stack
    for found in (stack, earlier):
        if found and found[-1] == current:
            return found[:-1]
    return []


def record(site_folder: Path, scope: str, entry: Entry, aliases: Mapping[Alias, str | None]) -> None:
    """Add the entry and let the aliases name these versions, or nothing. Raises ConfigError; then nothing was changed."""
    folder = scope_folder(site_folder, scope)
    path = folder / HISTORY
    fresh: dict[Path, Path] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = path.read_bytes() if path.exists() else b""
        contents = {path: before + msgspec.json.encode(entry) + b"\n"}
        contents |= {folder / alias: f"{version}\n".encode() for alias, version in aliases.items() if version is not None}
        for target, content in contents.items():
            fresh[target] = target.with_name(f".{target.name}-{os.getpid()}")
            write_through(fresh[target], content)
        for target, written in fresh.items():
            written.replace(target)
        for alias, version in aliases.items():
            if version is None:
                (folder / alias).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be written: {error.strerror or error}"]) from None
    finally:
        for written in fresh.values():
            with contextlib.suppress(OSError):
                written.unlink(missing_ok=True)
