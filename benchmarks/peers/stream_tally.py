"""What a peer on Kafka counts, and how it says so. Knows nothing but the standard library."""

from __future__ import annotations

import json
import time
from typing import Any


class Tally:
    """Messages, the sum of their `value`, and the time from the first to the last."""

    def __init__(self, wanted: int) -> None:
        self.wanted, self.count, self.total = wanted, 0, 0.0
        self.first = self.last = 0.0

    def add(self, value: Any) -> bool:
        """Note the value, or the values, of one message. True with the last."""
        if not self.count:
            self.first = time.perf_counter()
        self.count += 1
        self.total += sum(value) if type(value) is list else value
        if self.count != self.wanted:
            return False
        self.last = time.perf_counter()
        return True

    def say(self, **more: Any) -> None:
        """One line of JSON on stdout."""
        seconds = self.last - self.first
        print(json.dumps({"count": self.count, "sum": self.total, "seconds": seconds, **more}), flush=True)
