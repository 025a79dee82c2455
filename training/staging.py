"""Results that appear whole or not at all: written into a hidden folder, then moved to where they belong."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from models.config import ConfigError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _nothing(_: Path) -> Iterable[Path]:
    return ()


def no_room(where: Path | str, error: OSError, left: str) -> str:
    """One line for a full disk. pyarrow and csv name no file, so whoever knows the folder says it."""
    return f"{where}: cannot be written: {os.strerror(error.errno or errno.ENOSPC)}; {left}; possible: more room there"


@contextmanager
def staged(folder: Path, stale: Callable[[Path], Iterable[Path]] = _nothing) -> Iterator[Path]:
    """A fresh folder to write into; at the end its files move into `folder`, in place of those of the same name.

    `stale(fresh)` names files of `folder`, relative to it, that go at the same moment. After an exception `folder` is
    as it was. The fresh folder lies where a rename reaches `folder`: inside it where it exists, else beside it.

    Raises ConfigError where nothing can be written, or the disk is full before the end.
    """
    base = folder if folder.is_dir() else folder.parent
    try:
        base.mkdir(parents=True, exist_ok=True)
        hidden = Path(tempfile.mkdtemp(dir=base, prefix=".nightline-"))
    except OSError as error:
        raise ConfigError([f"{folder}: cannot be made: {error.strerror}; possible: a folder that can be written"]) from None
    fresh = hidden / "new"
    try:
        fresh.mkdir()
        yield fresh
        _move_in(fresh, folder, hidden / "old", list(stale(fresh)))
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise ConfigError([no_room(folder, error, "nothing in it was changed")]) from None
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _move_in(fresh: Path, folder: Path, old: Path, stale: list[Path]) -> None:
    new = [path.relative_to(fresh) for path in sorted(fresh.rglob("*")) if path.is_file()]
    moved: list[tuple[Path, Path]] = []

    def move(source: Path, target: Path, how: Callable[[Path, Path], object] = Path.rename) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        how(source, target)
        moved.append((source, target))

    try:
        for name in stale:
            if name not in new and (folder / name).exists():
                move(folder / name, old / name)
        for name in new:
            if (folder / name).exists():
                move(folder / name, old / name, _keep)
            move(fresh / name, folder / name)
    except BaseException:
        for source, target in reversed(moved):
            target.rename(source)
        raise


def _keep(source: Path, target: Path) -> None:
    """A second name for it, so that a process killed before the new file comes leaves the old one where it was."""
    try:
        os.link(source, target)
    except OSError:  # a folder, or a file system without links
        source.rename(target)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Waits until no other process is in here with the same folder: for what reads, changes and writes a file.

    The lock is on the folder itself and leaves nothing behind, however the process ends. Raises ConfigError.
    """
    try:
        lock = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise ConfigError([f"{folder}: cannot be read: {error.strerror}; possible: a folder that is there"]) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
