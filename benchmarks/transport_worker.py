"""One contestant of transport.py: `transport_worker.py block|stock BOOTSTRAP TOPIC COUNT`, one line of JSON on stdout."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from typing import Any

import faust
from faust.serializers.codecs import Codec

from streams.blocks import block_topic
from streams.transport import Transport

QUIET_S = 0.3
GIVE_UP_S = 30.0
STOP_S = 10.0


class _Raw(Codec):
    """Bytes as they are: neither contestant decodes."""

    def _loads(self, s: Any) -> Any:
        return s

    def _dumps(self, s: Any) -> Any:
        return s


class Tally:
    """What has come so far."""

    def __init__(self, wanted: int) -> None:
        self.wanted, self.count, self.size = wanted, 0, 0
        self.first = self.last = 0.0
        self.before = 0  # messages of the first event: their fetch was not timed
        self.complete = asyncio.Event()

    def add(self, count: int, size: int) -> None:
        """Note messages just handled."""
        self.last = time.perf_counter()
        if not self.first:
            self.first, self.before = self.last, count
        self.count += count
        self.size += size
        if self.count >= self.wanted:
            self.complete.set()


def make(kind: str, bootstrap: str, topic: str, tally: Tally, folder: str) -> faust.App:
    """The app with its one agent."""
    app = faust.App(
        f"bench-{topic}",
        broker=f"kafka://{bootstrap}",
        datadir=folder,
        store="memory://",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=2.0,
        broker_commit_interval=0.1,
        consumer_auto_offset_reset="earliest",
        stream_wait_empty=True,
    )

    async def blocks(stream: Any) -> None:
        async for event in stream.noack().events():
            records = event.value.records
            tally.add(len(records), sum([len(record.value) for record in records]))
            event.ack()

    async def messages(stream: Any) -> None:
        async for event in stream.noack().events():
            tally.add(1, len(event.value))
            event.ack()

    if kind == "block":
        app.transport = Transport(app.conf.broker_consumer, app)
        app.agent(block_topic(app, topic), name="read")(blocks)
    else:
        raw = _Raw()
        app.agent(app.topic(topic, value_serializer=raw, key_serializer=raw), name="read")(messages)
    return app


async def main(kind: str, bootstrap: str, topic: str, wanted: int) -> None:
    """Read everything, wait whether more comes, say what came."""
    tally = Tally(wanted)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        app = make(kind, bootstrap, topic, tally, folder)
        await app.start()
        with contextlib.suppress(TimeoutError):  # what is missing then shows in the counts
            await asyncio.wait_for(tally.complete.wait(), GIVE_UP_S)
        await asyncio.sleep(QUIET_S)  # a duplicate would come now; the commit timer has run
        committed = sum(offset or 0 for tp, offset in app.consumer._committed_offset.items() if tp.topic == topic)
        said = {
            "count": tally.count, "bytes": tally.size, "committed": committed,
            "per_second": (tally.count - tally.before) / max(tally.last - tally.first, 1e-9),
        }  # fmt: skip
        print(json.dumps(said), flush=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(app.stop(), STOP_S)
    os._exit(0)  # a consumer's thread may outlive its app, and the result is out


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
