"""Raw readings in, alerts out: through Kafka and a worker process, compared with the engine in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from streams import topics
from streams.detections import unpack_detections
from streams.replay import NoProgressError, Replay
from streams.topics import ALERTS, DEAD_LETTERS, DETECTIONS, OPEN_ALERTS, topic_name
from tests.integration.support import (
    WorkerProcess,
    assert_same_alerts,
    eventually,
    history,
    published_alerts,
    read_topic,
    site_folder,
    town,
    uninterrupted,
    windows,
)

pytestmark = pytest.mark.kafka


def test_replayed_history_gives_the_alerts_of_the_engine_id_for_id(
    kafka: str, new_prefix: Callable[..., str], tmp_path: Path
) -> None:
    site, block, prefix = town(), history(), new_prefix()
    expected, slots = uninterrupted(site, block)
    assert expected
    with WorkerProcess(site_folder(tmp_path / "site"), kafka, prefix, tmp_path / "log") as worker:
        worker.wait_until_assigned()
        with Replay(site, kafka, prefix) as feed:
            assert feed._followers is not None
            assert feed._followers.members() == 1
            done = feed.run(windows(block))
        assert done.readings == len(block)
        assert worker.stop() == 0

    assert_same_alerts(published_alerts(kafka, prefix), expected)
    assert len(read_topic(kafka, topic_name(prefix, ALERTS))) == len(expected)
    assert read_topic(kafka, topic_name(prefix, DEAD_LETTERS)) == []
    detections = [unpack_detections(record.value) for record in read_topic(kafka, topic_name(prefix, DETECTIONS))]
    assert sum(len(part.columns["slot_end_ms"]) for part in detections) == slots
    open_alerts = {record.key for record in read_topic(kafka, topic_name(prefix, OPEN_ALERTS)) if record.value}
    assert open_alerts == {alert_id.encode() for alert_id, _ in expected}
    titles = [line for line in worker.said.splitlines() if "raised" in line]
    assert len(titles) == len({alert_id for alert_id, _ in expected})
    assert "Traceback" not in worker.said
    # nothing is left in the working folder
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["log", "site"]


def test_two_workers_share_the_work_and_a_kill_loses_and_changes_nothing(
    kafka: str, new_prefix: Callable[..., str], tmp_path: Path
) -> None:
    site, block, prefix = town(), history(), new_prefix()
    expected, _ = uninterrupted(site, block)
    folder = site_folder(tmp_path / "site")
    cuts = windows(block)
    with (
        WorkerProcess(folder, kafka, prefix, tmp_path / "one") as one,
        WorkerProcess(folder, kafka, prefix, tmp_path / "two") as two,
    ):
        one.wait_until_assigned()
        two.wait_until_assigned()

        def kill_one(end_ms: int, _: object) -> None:
            # after the burst in A began and before the one in C ended
            if end_ms == cuts[60].end_ms:
                one.kill()

        with Replay(site, kafka, prefix, layout="single") as feed:
            feed.run(cuts, on_window=kill_one)
        assert two.stop() == 0
    assert one.process.returncode == -9
    assert_same_alerts(published_alerts(kafka, prefix), expected)


def test_a_worker_killed_and_started_again_ends_with_the_same_alerts(
    kafka: str, new_prefix: Callable[..., str], tmp_path: Path
) -> None:
    site, block, prefix = town(), history(), new_prefix()
    expected, _ = uninterrupted(site, block)
    folder = site_folder(tmp_path / "site")
    cuts = windows(block)
    workers = [WorkerProcess(folder, kafka, prefix, tmp_path / "0")]
    try:
        workers[0].wait_until_assigned()

        def kill(end_ms: int, _: object) -> None:
            if end_ms in (cuts[20].end_ms, cuts[62].end_ms):
                workers[-1].kill()
                workers.append(WorkerProcess(folder, kafka, prefix, tmp_path / str(len(workers))))

        with Replay(site, kafka, prefix) as feed:
            feed.run(cuts, on_window=kill)
        assert len(workers) == 3
        assert workers[-1].stop() == 0
    finally:
        for worker in workers:
            worker.__exit__(None, None, None)
    assert_same_alerts(published_alerts(kafka, prefix), expected)


def test_an_exception_in_an_agent_stops_the_worker_loudly_and_acknowledges_nothing(
    kafka: str, new_prefix: Callable[..., str], tmp_path: Path
) -> None:
    site, prefix = town(), new_prefix()
    faulty = (
        "import streams.router\n"
        "from nightline.cli import main\n"
        "def route(self, block): raise RuntimeError('a fault of ours')\n"
        "streams.router.Router.route = route\n"
        "main()\n"
    )
    folder = site_folder(tmp_path / "site")
    command = ["-c", faulty, "worker", str(folder), "--bootstrap", kafka, "--prefix", prefix]
    with WorkerProcess(folder, kafka, prefix, tmp_path / "log", command=command) as worker:
        worker.wait_until_assigned()
        with Replay(site, kafka, prefix, wait=False) as feed:
            feed.run(windows(history(8))[:1])
        assert worker.process.wait(timeout=40) == 1
        assert "agent route: RuntimeError: a fault of ours" in worker.said
        assert "Traceback" in worker.said
    with Replay(site, kafka, prefix) as feed:
        assert feed._followers is not None
        # a worker commits the offset it begins at, to tell the others where it is
        assert set((feed._followers.committed() or {}).values()) <= {0}


def test_replay_says_when_no_worker_follows(
    kafka: str, new_prefix: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.replay.STALL_SECONDS", 1.0)
    with Replay(town(), kafka, new_prefix()) as feed, pytest.raises(NoProgressError, match=r"no worker of group .* 1 s"):
        feed.run(windows(history(8)))


def test_replay_is_patient_with_a_group_that_has_members_and_says_so(
    kafka: str, new_prefix: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.replay.STALL_SECONDS", 1.0)
    monkeypatch.setattr("streams.replay.BUSY_SECONDS", 2.0)
    monkeypatch.setattr("streams.replay.Followers.members", lambda _: 3)
    with Replay(town(), kafka, new_prefix()) as feed, pytest.raises(NoProgressError, match=r"3 workers of .* there.* 2 s"):
        feed.run(windows(history(8)))


def test_topics_apply_again_changes_nothing_and_names_what_differs(kafka: str, new_prefix: Callable[..., str]) -> None:
    prefix = new_prefix(partitions=4)
    said: list[str] = []
    assert topics.apply(kafka, prefix, 4, say=said.append) == 0
    assert said == [f"unchanged {topic_name(prefix, topic.dataset)}" for topic in topics.TOPICS]

    said.clear()
    assert topics.apply(kafka, prefix, 6, say=said.append) == len(topics.TOPICS)
    assert all(line.startswith("differs") and "4 partitions, asked for 6" in line for line in said)

    from kafka.admin import ConfigResource  # noqa: PLC0415

    with topics.admin(kafka) as client:
        dead = topic_name(prefix, DEAD_LETTERS)
        client.alter_configs([ConfigResource("TOPIC", dead, configs={"retention.ms": "1000"})])
        # the broker answers before it has taken the change in
        eventually(lambda: topics.find_topics(client, prefix)[DEAD_LETTERS].config["retention.ms"] == "1000")
    said.clear()
    assert topics.apply(kafka, prefix, 4, say=said.append) == 0
    assert f"changed {dead}: retention.ms from 1000 to {30 * topics.DAY_MS}" in said
