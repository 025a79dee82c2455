"""Models promoted, refused and rolled back under a running worker, killed over it; and the log of it read again."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from kafka import KafkaProducer

from models.cloudevents import decode
from nightline.cli import nightline
from streams.control import Control, control_message
from streams.detections import unpack_detections
from streams.published import digest_of, name_of, new_publication, pack_bundle
from streams.replay import Followers, Replay
from streams.topics import ALERTS, DEAD_LETTERS, DETECTIONS, MODELS, READINGS, REQUEST_LIMIT, connect, topic_name
from tests.integration.support import WorkerProcess, eventually, history, read_topic, site_folder, town, windows
from tests.test_bundle import make
from training import registry
from training.model_history import history as told_in

pytestmark = pytest.mark.kafka

OLD, NEW = make(seed=0), make(seed=1)
SESSION = ("--session-seconds", "2")


def does(*words: object) -> str:
    result = CliRunner().invoke(nightline, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


def say_torn(kafka: str, prefix: str) -> None:
    """A bundle that was cut on its way to models.v1, and control records that vouch for what is there."""
    producer = KafkaProducer(bootstrap_servers=kafka, acks="all", max_request_size=REQUEST_LIMIT)
    publication, value = new_publication(NEW), pack_bundle(NEW)[:-100]
    producer.send(topic_name(prefix, MODELS), key=publication.encode(), value=value).get(30)
    named = name_of(NEW, publication)
    named = type(named)(**{name: getattr(named, name) for name in named.__struct_fields__} | {"digest": digest_of(value)})
    for dma in town().dmas:
        message = control_message(Control(schema_version="1.0", dma=dma.id, role="champion", model=named))
        producer.send(topic_name(prefix, READINGS), key=message.key, value=message.value, headers=message.headers).get(30)
    producer.close()


def copy(kafka: str, source: str, target: str) -> None:
    """The logs of models and readings, record by record, partition by partition."""
    producer = KafkaProducer(bootstrap_servers=kafka, acks="all", max_request_size=REQUEST_LIMIT)
    for dataset in (MODELS, READINGS):
        for record in read_topic(kafka, topic_name(source, dataset)):
            producer.send(
                topic_name(target, dataset), key=record.key, value=record.value, headers=list(record.headers),
                partition=record.partition,
            )  # fmt: skip
        producer.flush()
    producer.close()


def alerts_of(kafka: str, prefix: str) -> dict[tuple[bytes, int], tuple[bytes, Any]]:
    """By id and revision, value and headers; the same ones each time it comes."""
    found: dict[tuple[bytes, int], tuple[bytes, Any]] = {}
    for record in read_topic(kafka, topic_name(prefix, ALERTS)):
        key = record.key, decode(record.headers, record.value).revision
        content = record.value, sorted(record.headers)
        assert found.setdefault(key, content) == content, f"two contents of {key}"
    return found


def slots_of(kafka: str, prefix: str) -> dict[tuple[str, int], Any]:
    """By DMA and end of slot: its scores and the model that judged it; the same each time it comes."""
    found: dict[tuple[str, int], Any] = {}
    for record in read_topic(kafka, topic_name(prefix, DETECTIONS)):
        part = unpack_detections(record.value)
        for at, end in enumerate(part.columns["slot_end_ms"].tolist()):
            said = part.columns["scores"][at].tobytes(), part.model.version if part.model else None
            assert found.setdefault((part.dma, end), said) == said
    return found


@pytest.mark.timeout(240)
def test_a_swap_under_a_running_worker_that_is_killed_over_it_is_where_the_log_has_it(
    kafka: str, new_prefix: Callable[..., str], tmp_path: Path
) -> None:
    site, prefix, cuts = town(), new_prefix(partitions=2), windows(history(28))
    folder, logs = site_folder(tmp_path / "site"), [tmp_path / "one", tmp_path / "two"]
    for bundle in (OLD, NEW):
        registry.save(folder, bundle)
    does("promote", folder, OLD.version)
    kafka_of = ("--bootstrap", kafka, "--prefix", prefix)

    def feed(worker: WorkerProcess, start: int, end: int) -> None:
        with Replay(site, kafka, prefix) as replay:
            replay.run(cuts[start:end])
        assert worker.process.poll() is None, worker.said

    with WorkerProcess(folder, kafka, prefix, logs[0], *SESSION) as one:
        one.wait_until_assigned()
        feed(one, 0, 44)
        said = does("promote", folder, NEW.version, "--force", "--reason", "a test", *kafka_of)
        one.kill()
    with WorkerProcess(folder, kafka, prefix, logs[1], *SESSION) as two:
        two.wait_until_assigned()
        feed(two, 44, 48)
        say_torn(kafka, prefix)
        eventually(lambda: two.said.count("refused, and the model before it goes on") == 3)
        feed(two, 48, 52)
        assert f"champion of testville/*: {OLD.version}, before: {NEW.version}" in does("rollback", folder, *kafka_of)
        feed(two, 52, len(cuts))
        assert two.stop() == 0, two.said
    assert "introduced the folder's champion to DMAs that had none before: A, B, C" in one.said
    assert "introduced" not in two.said
    assert "Traceback" not in one.said + two.said

    entries = told_in(folder, "*")
    assert [entry.action for entry in entries] == ["promoted", "promoted", "rolledBack"]
    controls = {(record.partition, record.offset): record for record in read_topic(kafka, topic_name(prefix, READINGS))}
    for entry in entries[1:]:
        assert {told.dma for told in entry.told} == {"A", "B", "C"}
        for told in entry.told:
            record = controls[told.partition, told.offset]
            assert (record.key, dict(record.headers)) == (told.dma.encode(), {"nl-control": b"model"})
            assert entry is not entries[1] or f"{told.dma} partition {told.partition} offset {told.offset}" in said

    # no slot is lost, each has one model, and the models follow each other once
    slots = slots_of(kafka, prefix)
    for dma in ("A", "B", "C"):
        ends = sorted(end for of, end in slots if of == dma)
        assert len(ends) > 26 * 96
        assert {later - end for end, later in pairwise(ends)} == {900_000}
        versions = [slots[dma, end][1] for end in ends]
        changes = [now for before, now in zip([None, *versions], versions, strict=False) if now != before]
        assert changes == [OLD.version, NEW.version, OLD.version]
    letters = [dict(record.headers)["reason"].decode() for record in read_topic(kafka, topic_name(prefix, DEAD_LETTERS))]
    assert len(letters) == 3
    assert all("model is torn" in letter for letter in letters)

    # the log alone, read again by a worker whose folder has no model
    again, alerts = new_prefix(partitions=2), alerts_of(kafka, prefix)
    assert {decode(headers, value).model.version for value, headers in alerts.values()} >= {NEW.version}
    copy(kafka, prefix, again)
    client, _ = connect(kafka)
    with WorkerProcess(site_folder(tmp_path / "bare"), kafka, again, tmp_path / "three", *SESSION) as three:
        three.wait_until_assigned()
        followers = Followers(client, again)
        followers.wait(followers.ends(), "watched")
        assert three.stop() == 0
    client.close()
    assert alerts_of(kafka, again) == alerts
    assert slots_of(kafka, again) == slots
