"""The model registry: a plain folder in the site's, that git, rsync and people can read.

    models/<scope>/<version>/{arrays.npz, manifest.json, card.md, card.png}
    models/<scope>/champion       a text file that holds the version that serves
    models/<scope>/challenger     the one in shadow

The scope of the whole site, `*`, is the folder `site`; a DMA's is `dma-<id>`, so that no id can be mistaken for it or lead
out of the registry. A version's arrays and manifest never change once they are there; the card is for people, and nothing
checks it. Folders and aliases appear by a rename: a reader sees the old state or the new one, and processes that train at
the same time into one folder, even the same model, do not disturb each other.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Literal

from models.bundle import ARRAYS, MANIFEST, Bundle
from models.config import ConfigError, nearest
from training.card import plain

Alias = Literal["champion", "challenger"]
FOLDER: Final = "models"
_VERSION: Final = re.compile(r"[0-9a-f]{12}")


def scope_folder(site_folder: Path, scope: str) -> Path:
    """Where a scope's versions lie."""
    return site_folder / FOLDER / ("site" if scope == "*" else f"dma-{scope}")


def versions(site_folder: Path, scope: str) -> list[str]:
    """The versions there are, sorted by name."""
    folder = scope_folder(site_folder, scope)
    return sorted(path.name for path in folder.glob("*") if path.is_dir() and _VERSION.fullmatch(path.name))


def save(site_folder: Path, bundle: Bundle, card: Mapping[str, bytes] | None = None) -> Path:
    """Store a bundle under its scope and version; returns its folder. Saving the same again changes nothing.

    `card`: files for people beside it; by default what the manifest says. Raises ConfigError where that version is there
    with other arrays or another manifest, or the folder cannot be written.
    """
    folder = scope_folder(site_folder, bundle.scope)
    target = folder / bundle.version
    files = bundle.to_files()
    try:
        if not target.exists():
            folder.parent.mkdir(exist_ok=True)  # of a site's folder that is gone no other is made
            folder.mkdir(exist_ok=True)
            fresh = Path(tempfile.mkdtemp(dir=folder, prefix=".new-"))
            try:
                for file, content in {**files, **(plain(bundle.manifest) if card is None else card)}.items():
                    write_through(fresh / file, content)
                fresh.chmod(0o755)  # mkdtemp makes it private; a worker may run as another user
                try:
                    fresh.rename(target)
                except OSError:
                    if not target.exists():  # else another process was faster
                        raise
            finally:
                shutil.rmtree(fresh, ignore_errors=True)  # there only where the rename was not reached
        if _read(target) != files:
            raise ConfigError([f"{target}: this version is there with other content; possible: remove it first"])
    except OSError as error:
        raise ConfigError([f"{target}: cannot be written: {error.strerror or error}"]) from None
    return target


def load(site_folder: Path, scope: str, version: str) -> Bundle:
    """The bundle of a version. Raises ConfigError where it is missing, torn or not for this engine."""
    folder = scope_folder(site_folder, scope)
    if not _VERSION.fullmatch(version) or not (folder / version).is_dir():
        raise ConfigError([f"{folder}: version {version!r} is not there; {nearest(version, versions(site_folder, scope))}"])
    try:
        bundle = Bundle.from_files(_read(folder / version))
    except OSError as error:
        raise ConfigError([f"{folder / version}: cannot be read: {error.strerror or error}"]) from None
    except ValueError as error:
        raise ConfigError([f"{folder / version}: {error}"]) from None
    if (bundle.scope, bundle.version) != (scope, version):
        found = f"version {bundle.version!r} of scope {bundle.scope!r}"
        raise ConfigError([f"{folder / version}: {MANIFEST}: found {found}; possible: {version!r} of {scope!r}"])
    return bundle


def promote(site_folder: Path, version: str, scope: str = "*", alias: Alias = "champion") -> Bundle:
    """Let the alias name this version, after loading it; an older version rolls back. Raises ConfigError as `load` does."""
    bundle = load(site_folder, scope, version)
    path = scope_folder(site_folder, scope) / alias
    try:
        fresh = path.with_name(f".{alias}-{os.getpid()}")
        try:
            write_through(fresh, f"{version}\n".encode())
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)  # there only where the rename was not reached
    except OSError as error:
        raise ConfigError([f"{path}: cannot be written: {error.strerror or error}"]) from None
    return bundle


def alias_version(site_folder: Path, scope: str, alias: Alias) -> str | None:
    """The version an alias names; None where there is no such alias."""
    path = scope_folder(site_folder, scope) / alias
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from None


def aliased(site_folder: Path, scope: str, alias: Alias) -> Bundle | None:
    """The bundle an alias names; None where there is no such alias. Raises ConfigError for one that leads nowhere."""
    version = alias_version(site_folder, scope, alias)
    if version is None:
        return None
    try:
        return load(site_folder, scope, version)
    except ConfigError as error:
        path = scope_folder(site_folder, scope) / alias
        raise ConfigError([f"{path}: {fault}" for fault in error.faults]) from None


def champion(site_folder: Path, scope: str) -> Bundle | None:
    """The bundle that serves a scope (a DMA's id, or `*`), or None."""
    return aliased(site_folder, scope, "champion")


def champions(site_folder: Path, dmas: Iterable[str]) -> dict[str, Bundle]:
    """The bundle that serves each DMA: its own champion, else the site's; a DMA that has neither is left out."""
    whole = champion(site_folder, "*")
    serving = {dma: champion(site_folder, dma) or whole for dma in dmas}
    return {dma: bundle for dma, bundle in serving.items() if bundle is not None}


def _read(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (ARRAYS, MANIFEST) if (folder / name).exists()}


def serving_version(site_folder: Path, scope: str) -> str | None:
    """The version that serves a scope: its own champion, else the site's."""
    own = alias_version(site_folder, scope, "champion")
    return own if own is not None or scope == "*" else alias_version(site_folder, "*", "champion")


def served_by(site_folder: Path, scope: str, alias: Alias, dmas: Iterable[str]) -> list[str]:
    """The DMAs that a scope's alias speaks for: those without an alias of their own, or the one."""
    return [dma for dma in dmas if alias_version(site_folder, dma, alias) is None] if scope == "*" else [scope]


def write_through(path: Path, content: bytes) -> None:
    """Write through to the disk: a rename must not outlive what it names."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
