"""The worker of chain.py: `chain_worker.py FORM BOOTSTRAP PREFIX READINGS`, one line of JSON on stdout."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.codec import site
from models.engine import Engine
from streams.topics import RAW, topic_name
from streams.worker import Worker, warm_up

IN_DMA = 160
"""Four inlets and the customer meters: 8,000 meters in 50 DMAs, the size of a mid-size town."""
LATENESS_MINUTES = {"single": 120, "columns": 27 * 60}
"""A message of columns holds 25 hours of one meter."""
QUIET_S = 0.5
GIVE_UP_S = 60.0
STOP_S = 10.0


class Watch:
    """Times the worker's own functions from outside; none of them knows."""

    def __init__(self, worker: Worker, wanted: int) -> None:
        self.worker, self.wanted = worker, wanted
        self.readings = self.late = self.slots = self.alerts = 0
        self.first = self.last = 0.0
        self.complete = asyncio.Event()
        route, watch, step = worker.router.route, worker.keeper.watcher.watch, Engine.step

        def timed_route(block: Any) -> Any:
            self.first = self.first or time.perf_counter()  # before the first message is looked at
            return route(block)

        def counted_step(engine: Engine, readings: Any, origin: Any = "live") -> Any:
            result = step(engine, readings, origin)
            self.readings += len(readings)
            self.late += result.late
            self.slots += len(result.detections)
            return result

        def timed_watch(block: Any, publish: bool = True) -> Any:
            messages, alerts = watch(block, publish)
            self.alerts += len(alerts)
            self.last = time.perf_counter()
            if self.readings >= self.wanted:
                self.complete.set()
            return messages, alerts

        worker.router.route, worker.keeper.watcher.watch = timed_route, timed_watch  # type: ignore[method-assign]
        Engine.step = counted_step  # type: ignore[method-assign]

    def committed(self, topic: str) -> int:
        """Offsets committed over the topic's partitions."""
        offsets = self.worker.app.consumer._committed_offset.items()
        return sum(offset or 0 for tp, offset in offsets if tp.topic == topic)


async def main(form: str, bootstrap: str, prefix: str, wanted: int) -> None:
    """Work through the topic, then say what was done."""
    place = site(IN_DMA, LATENESS_MINUTES[form])
    warm_up(place)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        worker = Worker(place, None, bootstrap, prefix, Path(folder))
        watch = Watch(worker, wanted)
        await worker.app.start()
        with contextlib.suppress(TimeoutError):  # what is missing then shows in the counts
            await asyncio.wait_for(watch.complete.wait(), GIVE_UP_S)
        await asyncio.sleep(QUIET_S)  # the last publications are confirmed and committed
        said = {
            "readings": watch.readings,
            "late": watch.late,
            "slots": watch.slots,
            "alerts": watch.alerts,
            "raw_committed": watch.committed(topic_name(prefix, RAW)),
            "per_second": watch.readings / max(watch.last - watch.first, 1e-9),
        }
        print(json.dumps(said), flush=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(worker.app.stop(), STOP_S)
    os._exit(0)  # a consumer's thread may outlive its app, and the result is out


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
