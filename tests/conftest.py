"""Fixtures of all tests: the kernel cache, and a real Apache Kafka for those marked `kafka`."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from nightline.cli import use_kernel_cache
from tests.proof import table

use_kernel_cache()  # before anything imports numba: workers under test then share the compiled kernels

# The merge gate tries the same examples every time; whoever develops gets new ones with every run.
settings.register_profile("gate", derandomize=True)
if os.environ.get("CI") == "true":
    settings.load_profile("gate")

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "kafka"
UNAVAILABLE = 3


def pytest_configure(config: pytest.Config) -> None:
    # kafka-python 3.0.12 reads its message schemas with a deprecated call of importlib.resources
    config.addinivalue_line("filterwarnings", "ignore:.*is deprecated. Use files:DeprecationWarning")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if lines := table():
        terminalreporter.section("faults injected, and alerts lost, invented or told in two ways")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def kafka() -> Iterator[str]:
    """Bootstrap address of an Apache Kafka of our own. Skips where it cannot be had, but fails where CI is set."""
    start = [sys.executable, str(SCRIPT), "start", "--port", "0", "--minutes", "120"]
    done = subprocess.run(start, capture_output=True, text=True, check=False, timeout=660)
    if done.returncode == UNAVAILABLE and os.environ.get("CI") != "true":
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    bootstrap = done.stdout.strip()
    yield bootstrap
    port = bootstrap.rpartition(":")[2]
    subprocess.run([sys.executable, str(SCRIPT), "stop", "--port", port], capture_output=True, check=False, timeout=60)


@pytest.fixture
def new_prefix(kafka: str) -> Callable[..., str]:
    """Makes a topic prefix nobody else uses, with its nine topics."""
    from streams import topics  # noqa: PLC0415 - most tests need no Kafka client

    def make(partitions: int = 4) -> str:
        prefix = f"test-{uuid.uuid4().hex[:10]}"
        topics.apply(kafka, prefix, partitions, say=lambda _: None)
        return prefix

    return make
