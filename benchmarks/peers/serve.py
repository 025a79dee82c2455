"""The far end of `remote.py`; runs in a peer's environment, so it knows nothing but numpy.

Commands on stdin, one a line: `round NAME` is answered with the seconds that it took, `result NAME PATH` with `ok` once the
result lies in PATH. The first line on stdout says in JSON which contestants there are.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np


def serve(contestants: dict[str, Callable[[], Any]], finish: dict[str, Callable[[Any], Any]] | None = None) -> None:
    """Answer until stdin ends. `finish` makes of a contestant's result what is compared; it is not timed."""
    print(json.dumps(list(contestants)), flush=True)
    for line in sys.stdin:
        command, name, *rest = line.split()
        if command == "round":
            gc.collect()
            begin = time.perf_counter()
            contestants[name]()
            print(time.perf_counter() - begin, flush=True)
        else:
            found = contestants[name]()
            np.save(rest[0], (finish or {}).get(name, np.asarray)(found))
            print("ok", flush=True)
