"""Contestants that live in an environment of their own: one process for all rounds, which times each itself."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Seconds
from benchmarks.peers.environment import HERE, NotHereError, python

ONE_CORE = {
    f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMBA", "RAYON")
}  # ours has one core, too


class Remote:
    """`script` of this folder, run in the environment `name` with `data` beside it as arrays. Raises NotHereError."""

    def __init__(self, name: str, script: str, data: dict[str, NDArray[Any]]) -> None:
        interpreter = python(name)
        self._folder = tempfile.TemporaryDirectory(prefix="nightline-peer-")
        arrays = Path(self._folder.name) / "data.npz"
        np.savez(arrays, **data)
        self._errors = Path(self._folder.name) / "stderr"  # a file: nobody reads a pipe while rounds are run
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                [str(interpreter), str(HERE / script), str(arrays)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, **ONE_CORE},
            )  # fmt: skip
        try:
            self.names: list[str] = json.loads(self._answer())
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            said = [text for text in self._errors.read_text().splitlines() if text.strip()] or ["nothing"]
            raise NotHereError(f"does not run here: {said[-1][:120]}")
        return line

    def _ask(self, *words: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(words) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def contestant(self, name: str) -> Callable[[], Seconds]:
        """To be raced against ours."""
        return lambda: Seconds(self._ask("round", name))

    def result(self, name: str) -> NDArray[Any]:
        """What it computes."""
        path = Path(self._folder.name) / "result.npy"
        self._ask("result", name, str(path))
        return np.load(path)

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()
        self._folder.cleanup()
