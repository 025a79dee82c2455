"""Runs targets over seeds, times each input, and bounds what one may take of the machine."""

from __future__ import annotations

import contextlib
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

SLOW_SECONDS: Final = 2.0
"""No input may take longer."""
MORE_BYTES: Final = 1 << 30
"""So much address space an input may take beyond what the process has: a header that claims 2**60 elements must fail."""
_SHOWN: Final = 20


class Fault(AssertionError):  # noqa: N818 - not an error of this program
    """What a target did is against its contract."""


class TooSlowError(BaseException):
    """Not an Exception: nothing under test may swallow it."""


@dataclass(frozen=True)
class Target:
    """`make` builds an input of a random; `check` tells whether it was accepted, and raises whatever is not allowed."""

    name: str
    make: Callable[[Random], Any]
    check: Callable[[Any], bool]

    def input(self, seed: int) -> Any:
        """The input of a seed, always the same."""
        return self.make(Random(f"{self.name} {seed}"))  # noqa: S311 - must be the same again


@dataclass
class Result:
    """What came of one target."""

    target: str
    inputs: int = 0
    rejected: int = 0
    slowest_seconds: float = 0.0
    slowest_seed: int = -1
    faults: dict[int, str] = field(default_factory=dict)

    def row(self) -> str:
        """One line of the table."""
        faults = f"{len(self.faults)} faults" if self.faults else "no fault"
        slowest = f"{1000 * self.slowest_seconds:9.2f} ms (seed {self.slowest_seed})"
        return f"{self.target:12} {self.inputs:10,} {self.rejected:10,} rejected, slowest {slowest:28} {faults}"


def run(target: Target, seeds: Iterable[int]) -> Result:
    """Every seed; faults are collected, not raised."""
    result = Result(target.name)
    with _bounded():
        for seed in seeds:
            made = target.input(seed)
            accepted, seconds, fault = _one(target, made)
            if seconds > SLOW_SECONDS / 4 and fault is None:
                seconds = min(seconds, _one(target, made)[1])  # it may have been the machine
            if seconds > SLOW_SECONDS:
                fault = fault or f"took {seconds:.1f} s"
            result.inputs += 1
            result.rejected += not accepted
            if seconds > result.slowest_seconds:
                result.slowest_seconds, result.slowest_seed = seconds, seed
            if fault is not None:
                result.faults[seed] = fault
                if len(result.faults) >= _SHOWN:
                    break
    return result


def _one(target: Target, made: Any) -> tuple[bool, float, str | None]:
    """Whether it was accepted, the seconds it took, and what was against the contract."""
    accepted, fault = False, None
    start = time.perf_counter()
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, 5 * SLOW_SECONDS)
        accepted = target.check(made)
    except TooSlowError:
        fault = f"took more than {5 * SLOW_SECONDS:.0f} s"
    except Exception as error:  # noqa: BLE001, RUF100 - whatever it is, it is a fault
        fault = f"{type(error).__name__}: {str(error)[:300]}"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return accepted, time.perf_counter() - start, fault


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """Memory by the kernel, where it does that; time by a timer that pytest-timeout does not use."""

    def ring(*_: object) -> None:
        raise TooSlowError

    before = signal.signal(signal.SIGVTALRM, ring)
    limit = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MORE_BYTES, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)
        signal.signal(signal.SIGVTALRM, before)
