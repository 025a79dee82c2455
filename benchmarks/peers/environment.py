"""Virtual environments of the peers that do not belong into ours: their pins clash with it, or only a benchmark wants them.

`NAME.lock` says what is in one, hash by hash; `NAME.in` is what the lock was made of (`make peers-lock`). An environment is
built when a workload first asks for it, under the cache folder, and named after its lock: a new lock is a new environment.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click

HERE = Path(__file__).resolve().parent
BUILD_S = 900.0
"""isotree compiles its C++ for some minutes."""
COMPILED_HERE = ("isotree",)
"""No wheels are published: built without isolation, so that the lock holds for what builds them too."""


class NotHereError(Exception):
    """A peer that cannot be had on this machine; the message says why, in a few words."""


def cache() -> Path:
    """Where environments are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nightline" / "peers"


def place(name: str) -> Path:
    """The folder of an environment, whether it is there or not. Another Python is another environment."""
    digest = hashlib.sha256((HERE / f"{name}.lock").read_bytes())
    digest.update(sys.version.encode())
    return cache() / f"{name}-{digest.hexdigest()[:12]}"


@functools.cache
def _built(name: str) -> Path | NotHereError:
    """The environment's Python. What failed is not tried again in this process: each row would wait for it anew."""
    folder = place(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # two benches at once build it once
        ready, found = folder / "ready", folder / "bin" / "python"
        if not (ready.exists() and found.exists()):  # the Python that it was made of may have been removed
            click.echo(f"  building the environment of peer {name} in {folder}", err=True)
            shutil.rmtree(folder, ignore_errors=True)
            try:
                _build(name, folder)
            except NotHereError as error:
                shutil.rmtree(folder, ignore_errors=True)
                return error
            ready.touch()
    return found


def _build(name: str, folder: Path) -> None:
    lock = HERE / f"{name}.lock"
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    hashed = [*pip, "--require-hashes", "-r"]
    _run([sys.executable, "-m", "venv", str(folder)])
    if name in COMPILED_HERE:
        tools = folder / "tools.lock"
        tools.write_text(_without(name, lock.read_text()))
        _run([*hashed, str(tools)])
        _run([*hashed, str(lock), "--no-build-isolation"])
    else:
        _run([*hashed, str(lock), "--only-binary", ":all:"])


def _run(step: list[str]) -> None:
    try:
        done = subprocess.run(step, capture_output=True, text=True, check=False, timeout=BUILD_S)
    except subprocess.TimeoutExpired:
        raise NotHereError(f"not installable here: not built within {BUILD_S / 60:.0f} minutes") from None
    if done.returncode:
        raise NotHereError(f"not installable here: {_reason(done.stderr or done.stdout)}")


def _without(name: str, lock: str) -> str:
    """A lock less one package: what must be there before that one is built."""
    kept, is_kept = [], True
    for line in lock.splitlines():
        if line[:1].isalnum():
            is_kept = not line.startswith(f"{name}==")
        if is_kept:
            kept.append(line)
    return "\n".join(kept) + "\n"


def _reason(said: str) -> str:
    """The line of an installer's output that says most, shortened."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if "rror" in line] or lines or ["no reason given"]
    return telling[-1][:120]


def python(name: str) -> Path:
    """The Python of a peer's environment, built first where it is not there yet. Raises NotHereError."""
    found = _built(name)
    if isinstance(found, NotHereError):
        raise found
    return found
