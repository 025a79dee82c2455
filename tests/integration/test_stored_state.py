"""Checkpoints and models that went bad between two lives of a worker: served by an older one, built anew, or refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from kafka import KafkaProducer, TopicPartition

from models.bundle import ARRAYS, MANIFEST
from models.engine import Engine
from models.network import parse_site
from streams.checkpoints import VERSION, pack, unpack
from streams.replay import Replay
from streams.topics import ALERTS, CHECKPOINTS, DEAD_LETTERS, DETECTIONS, READINGS, REQUEST_LIMIT, admin, topic_name
from tests.integration.support import (
    NIGHTLINE,
    START_SECONDS,
    TOWN_TOML,
    Window,
    WorkerProcess,
    assert_same_alerts,
    history,
    published_alerts,
    read_topic,
    site_folder,
    town,
    uninterrupted,
    windows,
)
from tests.synthetic import NETWORK_TOML
from tests.test_bundle import make
from training import registry

DAYS = 28
OTHER_TOWN = parse_site(TOWN_TOML.replace('"Africa/Tunis"', '"Europe/Rome"'), NETWORK_TOML)


def torn(value: bytes) -> bytes:
    """One bit flipped, far behind the header."""
    middle = len(value) // 2
    return value[:middle] + bytes([value[middle] ^ 16]) + value[middle + 1 :]


def of_older_version(value: bytes) -> bytes:
    return value[:4] + (VERSION - 1).to_bytes(2, "little") + value[6:]


def of_older_format(value: bytes) -> bytes:
    """A whole checkpoint around an engine's state of a format that is read no more."""
    found = unpack(value)
    head, line, body = found.state.partition(b"\n")
    before, name, after = head.partition(b'"format":')
    number, comma, rest = after.partition(b",")
    assert int(number) > 1
    older = before + name + b"1" + comma + rest
    return pack(replace(found, state=older + line + body))


def of_another_network(value: bytes) -> bytes:
    """A whole checkpoint of a DMA of the same name in another site."""
    found = unpack(value)
    return pack(replace(found, state=Engine(OTHER_TOWN, found.dma).snapshot()))


Fault = Callable[[bytes], bytes]
SAID = {torn: "is torn", of_older_version: "version", of_older_format: "format", of_another_network: "of network"}


class Stored:
    """The checkpoints of a prefix, to be spoiled while no worker runs."""

    def __init__(self, kafka: str, prefix: str) -> None:
        self.kafka, self.prefix, self.topic = kafka, prefix, topic_name(prefix, CHECKPOINTS)

    def write(self, dma: str, *values: bytes | None) -> None:
        """Behind what is there, where it lies."""
        producer = KafkaProducer(bootstrap_servers=self.kafka, acks="all", max_request_size=REQUEST_LIMIT)
        for value in values:
            producer.send(self.topic, key=dma.encode(), value=value, partition=self._of(dma)[-1].partition).get(30)
        producer.close()

    def values(self, dma: str) -> list[bytes]:
        return [record.value for record in self._of(dma) if record.value is not None]

    def delete(self, dataset: str, share: float = 1.0) -> None:
        """The oldest records of each partition of a topic, as retention would."""
        topic = topic_name(self.prefix, dataset)
        ends: dict[TopicPartition, int] = {}
        for record in read_topic(self.kafka, topic):
            tp = TopicPartition(topic, record.partition)
            ends[tp] = max(ends.get(tp, 0), record.offset + 1)
        with admin(self.kafka) as client:
            if dataset == CHECKPOINTS:  # a compacted topic deletes nothing before its policy allows it
                set_policy(client, topic, "compact,delete")
            client.delete_records({tp: max(1, int(end * share)) for tp, end in ends.items()})

    def _of(self, dma: str) -> list[object]:
        return [record for record in read_topic(self.kafka, self.topic) if record.key == dma.encode()]


def set_policy(client: object, topic: str, policy: str) -> None:
    from kafka.admin import ConfigResource  # noqa: PLC0415

    client.alter_configs([ConfigResource("TOPIC", topic, configs={"cleanup.policy": policy})])  # type: ignore[attr-defined]


class Lives:
    """One worker after the other on the same topics; each takes a part of a history and is stopped properly."""

    def __init__(self, kafka: str, prefix: str, tmp_path: Path) -> None:
        self.kafka, self.prefix, self.tmp_path = kafka, prefix, tmp_path
        self.folder = site_folder(tmp_path / "site")
        self.number = 0

    def start(self, *options: str) -> WorkerProcess:
        self.number += 1
        return WorkerProcess(self.folder, self.kafka, self.prefix, self.tmp_path / f"log-{self.number}", *options)

    def live(self, part: list[Window], *options: str) -> str:
        with self.start(*options) as worker:
            worker.wait_until_assigned()
            with Replay(town(), self.kafka, self.prefix) as feed:
                feed.run(part)
            assert worker.stop() == 0, worker.said
            assert "Traceback" not in worker.said
            return worker.said

    def refuse(self) -> str:
        """The one line with which it refuses."""
        with self.start() as worker:
            assert worker.process.wait(timeout=START_SECONDS) == 1, worker.said
            (line,) = [line for line in worker.said.splitlines() if " INFO " not in line]
            assert "ERROR   worker stopped: LostStateError: checkpoints.v1 partition 0: " in line
            return line


def published(kafka: str, prefix: str, dataset: str = ALERTS) -> int:
    return len(read_topic(kafka, topic_name(prefix, dataset)))


@pytest.mark.kafka
def test_spoiled_and_missing_checkpoints_and_a_torn_model_between_five_lives_change_nothing(
    kafka: str, new_prefix: Callable[..., str], tmp_path: Path
) -> None:
    site, block, prefix, bundle = town(), history(DAYS), new_prefix(partitions=2), make(seed=0)
    expected, _ = uninterrupted(site, block, bundle)
    cuts = windows(block)
    stored, lives = Stored(kafka, prefix), Lives(kafka, prefix, tmp_path)
    version = registry.save(lives.folder, bundle)
    registry.promote(lives.folder, bundle.version)
    lives.live(cuts[:40])

    # an older one is there, and what came after it must be read again
    for dma, fault in zip("ABC", (torn, of_older_version, of_another_network), strict=True):
        older, newest = stored.values(dma)[0], stored.values(dma)[-1]
        assert unpack(older).offset < unpack(newest).offset
        stored.write(dma, older, fault(newest))
    said = lives.live(cuts[40:48])
    for dma, fault in zip("ABC", (torn, of_older_version, of_another_network), strict=True):
        (warning,) = [line for line in said.splitlines() if f"WARNING state of DMA {dma}: " in line]
        assert SAID[fault] in warning
        assert "an older one, at" in warning
        assert "serves" in warning

    # none is usable, and readings.v1 is whole
    for dma, fault in zip("ABC", (of_older_format, torn, of_another_network), strict=True):
        stored.write(dma, *[fault(stored.values(dma)[-1])] * 2)
    said = lives.live(cuts[48:50])
    for dma, fault in zip("ABC", (of_older_format, torn, of_another_network), strict=True):
        assert any(f"DMA {dma}: " in line and SAID[fault] in line for line in said.splitlines()), said
    assert "state is built anew from offset 0" in said

    # one is missing, though others of its partition name it
    partition = {dma: unpack(stored.values(dma)[-1]).partition for dma in "ABC"}
    gone = next(dma for dma in "ABC" if [*partition.values()].count(partition[dma]) > 1)
    stored.write(gone, None)
    said = lives.live(cuts[50:52])
    assert f"DMA {gone}: it has no record; state is built anew from offset 0" in said

    # the model is torn: the worker waits until it is mended, and does not go on without
    arrays = (version / ARRAYS).read_bytes()
    (version / ARRAYS).write_bytes(torn(arrays))
    with lives.start() as worker:
        assert worker.process.wait(timeout=START_SECONDS) == 2
        assert len(worker.said.splitlines()) == 1, worker.said
    (version / ARRAYS).write_bytes(arrays)

    # all are missing
    stored.delete(CHECKPOINTS)
    said = lives.live(cuts[52:])
    assert "records were processed, and there is no checkpoint of any; state is built anew from offset 0" in said

    found = published_alerts(kafka, prefix)
    spoiled = {"spoiled or missing checkpoints between two lives, real Kafka": 10}
    assert_same_alerts(found, expected, spoiled)
    assert published(kafka, prefix) == len(expected)  # what is built anew publishes nothing again
    assert read_topic(kafka, topic_name(prefix, DEAD_LETTERS)) == []


@pytest.mark.kafka
def test_where_the_log_is_cut_a_worker_refuses_in_one_line_and_goes_on_with_rebuild(
    kafka: str, new_prefix: Callable[..., str], tmp_path: Path
) -> None:
    prefix = new_prefix(partitions=1)
    cuts = windows(history(DAYS))
    stored, lives = Stored(kafka, prefix), Lives(kafka, prefix, tmp_path)
    lives.live(cuts[:48])
    stored.delete(READINGS, share=0.5)
    faults = dict(zip("ABC", (torn, of_older_format, of_another_network), strict=True))
    for dma, fault in faults.items():
        stored.write(dma, *[fault(stored.values(dma)[-1])] * 2)
    before, judged = published(kafka, prefix), published(kafka, prefix, DETECTIONS)

    line = lives.refuse()
    for dma, fault in faults.items():
        assert SAID[fault] in line.split(f"DMA {dma}: ")[1].split("; DMA")[0]
    assert "possible: start with --rebuild" in line
    assert published(kafka, prefix) == before  # refusing has said and done nothing else

    said = lives.live(cuts[48:], "--rebuild")
    assert "state is built anew from offset" in said
    assert published(kafka, prefix, DETECTIONS) > judged  # fewer alerts than before, maybe, but it judges


# models


def torn_arrays(version: Path, alias: Path) -> None:
    (version / ARRAYS).write_bytes(torn((version / ARRAYS).read_bytes()))


def old_manifest(version: Path, alias: Path) -> None:
    path = version / MANIFEST
    path.write_text(path.read_text().replace('"schemaVersion": "1.', '"schemaVersion": "0.'))


def half_a_manifest(version: Path, alias: Path) -> None:
    path = version / MANIFEST
    path.write_bytes(path.read_bytes()[:100])


def no_arrays(version: Path, alias: Path) -> None:
    (version / ARRAYS).unlink()


def no_version(version: Path, alias: Path) -> None:
    shutil.rmtree(version)


def an_empty_alias(version: Path, alias: Path) -> None:
    alias.write_text("")


MODEL_FAULTS = {
    torn_arrays: "sha256",
    old_manifest: "schemaVersion is '0.",
    half_a_manifest: "manifest.json: not a JSON object",
    no_arrays: "arrays.npz is missing",
    no_version: "is not there",
    an_empty_alias: "version '' is not there",
}


def test_a_model_that_went_bad_is_refused_in_one_line_whatever_is_wrong_with_it(tmp_path: Path) -> None:
    processes = {}
    for fault in MODEL_FAULTS:
        folder = site_folder(tmp_path / fault.__name__)
        bundle = make(seed=0)
        version = registry.save(folder, bundle)
        registry.promote(folder, bundle.version)
        fault(version, version.parent / "champion")
        # no broker is asked before the model is known to be good
        command = [sys.executable, *NIGHTLINE, "worker", str(folder), "--bootstrap", "127.0.0.1:1"]
        processes[fault] = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for fault, process in processes.items():
        _, said = process.communicate(timeout=START_SECONDS)
        assert process.returncode == 2, said
        assert len(said.splitlines()) == 1, said
        assert said.startswith("error: ")
        assert MODEL_FAULTS[fault] in said
        assert str(tmp_path / fault.__name__ / "models" / "site" / "champion") in said
