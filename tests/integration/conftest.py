"""Fixtures of the tests that strike what lies around a worker."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import UNAVAILABLE
from tests.integration.broker import Broker


@pytest.fixture
def broker() -> Iterator[Broker]:
    broker = Broker()
    started = broker.start()
    if started.returncode == UNAVAILABLE and os.environ.get("CI") != "true":
        pytest.skip(started.stderr.strip().splitlines()[-1])
    assert started.returncode == 0, started.stderr
    yield broker
    broker.remove()


@pytest.fixture
def small_disk() -> Iterator[Callable[[Path, str], None]]:
    """Mounts a disk of a size at a folder, or gives it another size. Skips where that is not allowed."""
    mounted: list[Path] = []

    def mount(at: Path, size: str) -> None:
        at.mkdir(parents=True, exist_ok=True)
        options = f"size={size}" if at not in mounted else f"remount,size={size}"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(at)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("no `mount` here")
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
        if at not in mounted:
            mounted.append(at)

    yield mount
    for at in mounted:
        # lazily: a process that is just ending may still hold a file
        subprocess.run(["umount", "-l", str(at)], capture_output=True, check=False)
        shutil.rmtree(at.parent if at.parent.name.startswith("node-") else at, ignore_errors=True)
