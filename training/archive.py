"""A folder of Parquet files by DMA and day, and the offsets they reach: both together, or neither.

A batch is written in five steps. A process may be killed between any two, or in the middle of one:

1. The rejects are appended to rejects.ndjson. What lies behind the length that archive.json tells is cut off at the next
   start.
2. Each day's file that the batch changes is written anew under `.pending/<generation>/`, old rows and new, and flushed
   to the disk. A `.pending` of another generation than archive.json's is thrown away at the next start.
3. archive.json, with the offsets and this generation, takes the place of the old one by a rename: **this is the commit.**
4. The files of `.pending` take the places of the old ones by renames. The next start does what is left of it.
5. `.pending/<generation>` is removed.

So the archive after any number of kills holds, byte for byte, what it would without them.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from models.archived import Batch, Offsets, Rejected
from models.cloudevents import rfc3339
from models.config import ConfigError
from models.wire import FIRST_MS, FOREIGN, LAST_MS, brief
from training.archive_tables import KEYS, merged, read_file, tables_of, write_file
from training.staging import NO_ROOM, no_room

STATE: Final = "archive.json"
REJECTS: Final = "rejects.ndjson"
PENDING: Final = ".pending"
LOCK: Final = ".lock"
_FRESH: Final = f".{STATE}"
FORMAT: Final = 1


class _Gap(msgspec.Struct):
    dataset: str
    partition: int
    start: int
    end: int
    reason: str


class State(msgspec.Struct, rename="camel"):
    """archive.json."""

    format: int
    site: str
    prefix: str
    generation: int = 0
    """Of the last batch."""
    offsets: Offsets = {}
    topic_ids: dict[str, str] = {}
    seen: dict[str, dict[str, tuple[int, int]]] = {}
    counts: dict[str, int] = {}
    """Of everything since the archive began; a reading that came twice, or was corrected, counts twice."""
    gaps: list[_Gap] = []
    rejects_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0


def read_state(folder: Path) -> State | None:
    """What archive.json says; None where there is none. Raises ConfigError for one that cannot be used."""
    path = folder / STATE
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    try:
        found = msgspec.json.decode(text, type=State)
    except FOREIGN as error:
        raise ConfigError([f"{path}: is not of an archive: {brief(error)}; possible: put it back from a copy"]) from None
    if found.format != FORMAT:
        raise ConfigError([f"{path}: format {found.format}; possible: {FORMAT}, or a newer nightline"])
    return found


def refuse_unfinished(folder: Path, state: State) -> None:
    """Raises ConfigError where a killed archiver's last batch, which archive.json counts, has not been put in its place."""
    if not (folder / PENDING / str(state.generation)).is_dir():
        return
    try:
        lock = os.open(folder / LOCK, os.O_RDONLY)
    except FileNotFoundError:  # a copy
        lock = None
    try:
        if lock is not None:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # it is at it
    finally:
        if lock is not None:
            os.close(lock)
    possible = "start nightline archive on it once, which puts the rest in place"
    raise ConfigError([f"{folder}: its archiver was killed while it put a batch in place; possible: {possible}"])


class _Reject(msgspec.Struct):
    """What whoever reads a line of rejects.ndjson wants of it."""

    topic: str
    partition: int
    offset: int
    reason: str


def rejects_of(folder: Path) -> Iterator[tuple[int, str, str]]:
    """Line, topic and what was wrong of each record in rejects.ndjson; a line that cannot be read is of topic ''."""
    path = folder / REJECTS
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                one = msgspec.json.decode(line, type=_Reject)
            except FOREIGN as error:
                yield number, "", f"cannot be read: {brief(error)}"
                continue
            yield number, one.topic, f"{one.topic} partition {one.partition} offset {one.offset}: {one.reason}"


def begin_copy(archive: Path, out: Path) -> None:
    """Make the folder `out` an archive of the same site, for files that were changed: no archiver takes it for its own."""
    state = read_state(archive)
    if state is not None:
        copy = State(format=FORMAT, site=state.site, prefix=f"{state.prefix} (a changed copy)", gaps=state.gaps)
        (out / STATE).write_bytes(msgspec.json.encode(copy) + b"\n")


def _nothing(_: str) -> None:
    pass


class Archive:
    """An archive that is written to: one process at a time. Use as a context manager."""

    def __init__(
        self, folder: Path, site: str, prefix: str, on_step: Callable[[str], None] = _nothing, is_lasting: bool = True
    ) -> None:
        """Opens it, or begins one, and finishes what a killed process left. `on_step` hears of every step of writing.

        One that is not lasting goes with the process: nothing of it is flushed to the disk.

        Raises ConfigError where it is of another site or prefix, written to by somebody else, or not to be written.
        """
        self.folder, self._on_step, self._is_lasting = folder, on_step, is_lasting
        self._lock: int | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            self._state = self._open(site, prefix)
        except OSError as error:
            self.close()
            raise self._refused(error) from None
        except BaseException:
            self.close()
            raise
        self.offsets: Offsets = self._state.offsets
        self.topic_ids = self._state.topic_ids
        self.seen = self._state.seen

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others write to it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def state(self) -> State:
        """As of the last batch."""
        return self._state

    def commit(self, batch: Batch) -> None:
        """Keep a batch. Raises ConfigError where the disk refuses, or the folder is gone: then nothing of it is kept."""
        self._refuse_removed()
        before = self._state
        state = msgspec.structs.replace(
            before,
            generation=before.generation + 1,
            offsets=batch.offsets,
            topic_ids=batch.topic_ids,
            seen=batch.seen,
            counts={name: before.counts.get(name, 0) + batch.counts.get(name, 0) for name in before.counts | batch.counts},
            gaps=[*before.gaps, *(_Gap(g.dataset, g.partition, g.start, g.end, g.reason) for g in batch.gaps)],
        )
        pending = self._pending(state)
        try:
            state.rejects_bytes = self._append_rejects(batch.rejected)
            self._stage(batch, pending)
            fresh = self._prepare(state)
        except OSError as error:
            shutil.rmtree(pending, ignore_errors=True)
            raise self._refused(error) from None
        try:
            self._put(fresh)
            self._state = state
            self._move_in(pending)
        except OSError as error:  # the next start goes on from whichever archive.json there is
            raise self._refused(error) from None

    def _refuse_removed(self) -> None:
        """Going on would make a folder that claims, and lacks, all that the removed one held."""
        try:
            ours = self._lock is not None and os.path.samestat(os.fstat(self._lock), (self.folder / LOCK).stat())
        except OSError:
            ours = False
        if not ours or (self._state.generation and not (self.folder / STATE).is_file()):
            possible = "start it again, and what Kafka still has is archived anew"
            raise ConfigError([f"{self.folder}: was removed, or replaced, while it was written to; possible: {possible}"])

    # the steps

    def _open(self, site: str, prefix: str) -> State:
        state = read_state(self.folder)
        if state is None:
            strange = sorted(
                path.name for path in self.folder.iterdir() if path.name not in (LOCK, PENDING, REJECTS, _FRESH)
            )
            if strange:
                raise ConfigError(
                    [f"{self.folder}: is no archive and holds {strange[0]!r}; possible: a new or empty folder"]
                )
            state = State(format=FORMAT, site=site, prefix=prefix)  # of nobody yet: a mistaken prefix leaves nothing behind
        for what, asked, found in (("site", site, state.site), ("prefix", prefix, state.prefix)):
            if asked != found:
                raise ConfigError(
                    [f"{self.folder}: is the archive of {what} {found!r}, not {asked!r}; possible: another --out"]
                )
        self._move_in(self._pending(state))
        shutil.rmtree(self.folder / PENDING, ignore_errors=True)
        rejects = self.folder / REJECTS
        size = rejects.stat().st_size if rejects.exists() else 0
        if size < state.rejects_bytes:
            found = f"{rejects}: has {size} bytes, archive.json knows of {state.rejects_bytes}"
            raise ConfigError([f"{found}; possible: put it back from a copy"])
        if size > state.rejects_bytes:
            os.truncate(rejects, state.rejects_bytes)
        return state

    def _pending(self, state: State) -> Path:
        return self.folder / PENDING / str(state.generation)

    def _append_rejects(self, rejected: list[Rejected]) -> int:
        """Returns how long the file is now."""
        if not rejected:
            return self._state.rejects_bytes
        path = self.folder / REJECTS
        with path.open("ab") as file:
            file.truncate(self._state.rejects_bytes)  # a batch that failed may have left some
            for one in rejected:
                file.write(msgspec.json.encode(_reject_row(one)) + b"\n")
            size = file.tell()
        self._sync(path)
        self._sync(self.folder)
        self._on_step("rejects written")
        return size

    def _stage(self, batch: Batch, pending: Path) -> None:
        shutil.rmtree(pending, ignore_errors=True)
        pending.mkdir(parents=True)
        for dataset, name, rows in tables_of(batch):
            target, staged = self.folder / name, pending / name.replace("/", "|")
            # a file may get rows twice: of one batch, when a DMA's days come in several parts
            old = next((read_file(path) for path in (staged, target) if path.exists()), None)
            write_file(staged, merged(old, rows, KEYS[dataset]))
            self._on_step(f"{name} written")
            self._sync(staged)
        self._sync(pending)
        self._sync(pending.parent)
        self._on_step("all written")

    def _prepare(self, state: State) -> Path:
        fresh = self.folder / _FRESH
        fresh.write_bytes(json.dumps(msgspec.to_builtins(state, str_keys=True), indent=1, sort_keys=True).encode() + b"\n")
        self._sync(fresh)
        self._on_step("archive.json written")
        return fresh

    def _put(self, fresh: Path) -> None:
        fresh.replace(self.folder / STATE)
        self._sync(self.folder)
        self._on_step("committed")

    def _move_in(self, pending: Path) -> None:
        if not pending.is_dir():
            return
        folders: set[Path] = set()
        for staged in sorted(pending.iterdir()):
            target = self.folder / staged.name.replace("|", "/")
            for parent in (target.parent.parent, target.parent):
                if not parent.exists():
                    parent.mkdir()
                    folders.add(parent.parent)
            staged.replace(target)
            folders.add(target.parent)
            self._on_step(f"{target.name} moved")
        for folder in sorted(folders):
            self._sync(folder)
        self._on_step("all moved")
        shutil.rmtree(pending)
        self._on_step("pending removed")

    def _sync(self, path: Path) -> None:
        """What was written there is on the disk."""
        if not self._is_lasting:
            return
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _take_lock(self) -> None:
        """Held until the process ends, however it ends."""
        path = self.folder / LOCK
        self._lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            by = os.pread(self._lock, 32, 0).decode(errors="replace").strip() or "unknown"
            raise ConfigError([f"{self.folder}: process {by} writes to it; possible: one archiver a folder"]) from None
        os.truncate(path, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _refused(self, error: OSError) -> ConfigError:
        if error.errno in NO_ROOM:
            if not self._is_lasting:
                return ConfigError([no_room(self.folder.parent, error, "readings are kept there") + ", or TMPDIR elsewhere"])
            return ConfigError([no_room(self.folder, error, "the archive stands as of its last batch")])
        where = error.filename or self.folder
        return ConfigError(
            [f"{where}: cannot be written: {error.strerror or error}; possible: a folder that can be written"]
        )


def _reject_row(one: Rejected) -> dict[str, Any]:
    def text(found: bytes | None) -> str | None:
        return None if found is None else base64.b64encode(found).decode()

    dated = FIRST_MS <= one.time_ms <= LAST_MS
    return {
        "topic": one.topic, "partition": one.partition, "offset": one.offset,
        "timestamp": rfc3339(one.time_ms) if dated else one.time_ms, "reason": one.reason, "keyBase64": text(one.key),
        "valueBase64": text(one.value),
    }  # fmt: skip
