"""Quix Streams decoding: `quix_peer.py BOOTSTRAP TOPIC MESSAGES WORK GROUP`. Its JSON deserialiser is orjson."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

from quixstreams import Application
from stream_tally import Tally

bootstrap, topic, messages, _, group = sys.argv[1:]
tally = Tally(int(messages))

with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
    app = Application(
        bootstrap, consumer_group=group, auto_offset_reset="earliest", auto_create_topics=False, state_dir=folder,
        loglevel="ERROR",
    )  # fmt: skip

    def work(reading: Any) -> None:
        """Counts; the decoding was done before."""
        if tally.add(reading["value"]):
            app.stop()

    app.dataframe(app.topic(topic, value_deserializer="json", key_deserializer="bytes")).update(work)
    app.run()
    tally.say()
    sys.stdout.flush()
os._exit(0)  # its threads need not be waited for
