"""The whole chain on the embedded broker: no Java needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.replay import Replay
from streams.topics import EMBEDDED_OPTIONS, READINGS, topic_name
from tests.integration.support import (
    WorkerProcess,
    history,
    published_alerts,
    read_topic,
    site_folder,
    town,
    uninterrupted,
    windows,
)


def test_replayed_history_gives_the_alerts_of_the_engine_on_the_embedded_broker(tmp_path: Path) -> None:
    pytest.importorskip("confluent_kafka")
    from streams.brokers.embedded import EmbeddedBroker  # noqa: PLC0415

    site, block = town(), history()
    expected, _ = uninterrupted(site, block)
    with (
        EmbeddedBroker() as bootstrap,
        WorkerProcess(site_folder(tmp_path / "site"), bootstrap, "embedded", tmp_path / "log") as worker,
    ):
        worker.wait_until_assigned()
        with Replay(site, bootstrap, "embedded") as feed:
            feed.run(windows(block))
        found = published_alerts(bootstrap, "embedded", **EMBEDDED_OPTIONS)
        assert read_topic(bootstrap, topic_name("embedded", READINGS), **EMBEDDED_OPTIONS)
        assert worker.stop() == 0
    assert found == expected
