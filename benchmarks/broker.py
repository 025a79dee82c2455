"""A real Apache Kafka for the workloads that need one (`scripts/kafka`)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import SkippedError

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "kafka"
UNAVAILABLE = 3
START_S, STOP_S = 660, 60  # Maven fetches the jars at the first start


class NoKafkaError(SkippedError):
    """Java or Maven is missing; the message says which."""


@contextmanager
def kafka(minutes: int = 20) -> Iterator[str]:
    """Bootstrap address of a node on a free port of 127.0.0.1, gone afterwards. Raises NoKafkaError."""
    start = [sys.executable, str(SCRIPT), "start", "--port", "0", "--minutes", str(minutes)]
    done = subprocess.run(start, capture_output=True, text=True, check=False, timeout=START_S)
    if done.returncode == UNAVAILABLE:
        raise NoKafkaError(done.stderr.strip().splitlines()[-1])
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    bootstrap = done.stdout.strip()
    try:
        yield bootstrap
    finally:
        stop = [sys.executable, str(SCRIPT), "stop", "--port", bootstrap.rpartition(":")[2]]
        subprocess.run(stop, capture_output=True, check=False, timeout=STOP_S)
