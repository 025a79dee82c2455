"""Stock Faust: `faust_peer.py BOOTSTRAP TOPIC MESSAGES nothing|json GROUP`. Says what it read of each partition."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from collections import defaultdict
from typing import Any

import faust
from faust.serializers.codecs import Codec
from stream_tally import Tally

GIVE_UP_S, STOP_S = 90.0, 5.0


class Raw(Codec):
    """Bytes as they are."""

    def _loads(self, s: Any) -> Any:
        return s

    def _dumps(self, s: Any) -> Any:
        return s


async def main(bootstrap: str, topic: str, messages: int, work: str, group: str) -> None:
    """Read so many messages and stop; more may have been fetched."""
    tally, done = Tally(messages), asyncio.Event()
    counts: dict[int, int] = defaultdict(int)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        app = faust.App(
            group, broker=f"kafka://{bootstrap}", datadir=folder, store="memory://", web_enabled=False,
            topic_allow_declare=False, topic_disable_leader=True, broker_session_timeout=10.0, broker_heartbeat_interval=2.0,
            consumer_auto_offset_reset="earliest",
        )  # fmt: skip
        raw = Raw()

        async def read(stream: Any) -> None:
            async for event in stream.events():
                if tally.count < messages:
                    counts[event.message.partition] += 1
                    if tally.add(len(event.value) if work == "nothing" else event.value["value"]):
                        done.set()

        serializer = raw if work == "nothing" else "json"
        app.agent(app.topic(topic, value_serializer=serializer, key_serializer=raw), name="read")(read)
        await app.start()
        with contextlib.suppress(TimeoutError):  # what is missing then shows in the counts
            await asyncio.wait_for(done.wait(), GIVE_UP_S)
        tally.say(partitions=counts)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(app.stop(), STOP_S)
    os._exit(0)  # a consumer's thread may outlive its app, and the result is out


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5]))
