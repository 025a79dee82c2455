"""Log lines of other people's code: a client that retries for ever says the same thing for ever."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from streams.checkpoints import LostStateError

OURS: Final = "nightline"
QUIET_SECONDS: Final = 30.0
ALIKE: Final = 60
"""Lines of one logger whose first characters agree are the same line: what follows is counters and addresses."""
_KEPT: Final = 1000


class Repeats(logging.Filter):
    """Lets the same line through once in `QUIET_SECONDS`, with the number of those held back. Ours always pass."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """True for what is to be written; a count of what was held back is added to it."""
        if record.name == OURS:
            return True
        now, message = self._clock(), record.getMessage()
        line = record.name, message[:ALIKE]
        before, held = self._said.get(line, (None, 0))
        if before is not None and now - before < QUIET_SECONDS:
            self._said[line] = before, held + 1
            return False
        if len(self._said) >= _KEPT:
            self._said.clear()
        self._said[line] = now, 0
        if held:
            record.msg, record.args = f"{message} ({held} more like it were held back)", ()
        return True


def is_no_refusal(record: logging.LogRecord) -> bool:
    """A filter: False for others' report of a state that cannot be used. The worker says it, in one line, as it stops."""
    error = record.exc_info[1] if record.exc_info else None
    return record.name == OURS or not isinstance(error, LostStateError)
