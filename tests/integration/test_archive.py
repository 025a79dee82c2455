"""nightline archive on a real Kafka: killed between its steps, beside a running worker, and when Kafka forgets."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click import ClickException
from click.testing import CliRunner
from kafka import KafkaProducer, TopicPartition

from models.config import ConfigError
from nightline.cli import nightline
from streams.replay import Replay
from streams.topics import READINGS, admin, topic_name
from tests.archiving import Log, content, days_of_a_town, eventful, keep
from tests.integration.support import NIGHTLINE, WorkerProcess, eventually, history, site_folder, town, windows

pytestmark = pytest.mark.kafka

MORTAL = """
import os, signal, sys
import streams.archiver, training.archive
left, streams.archiver.BATCH_BYTES = int(sys.argv.pop(1)), int(sys.argv.pop(1))
begin = training.archive.Archive.__init__
def step(_):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
training.archive.Archive.__init__ = lambda self, *words: begin(self, *words, on_step=step)
from nightline.cli import main
main()
"""


def publish(kafka: str, prefix: str, log: Log) -> None:
    producer = KafkaProducer(bootstrap_servers=kafka, acks="all")
    for dataset, record in log.records:
        producer.send(
            topic_name(prefix, dataset), key=record.key, value=record.value, headers=record.headers,
            partition=record.partition, timestamp_ms=record.timestamp,
        )  # fmt: skip
    producer.close()


def command(site: Path, out: Path, kafka: str, prefix: str, *options: str) -> list[str]:
    return ["archive", str(site), "--out", str(out), "--bootstrap", kafka, "--prefix", prefix, *options]


def archive(*words: str) -> tuple[int, str]:
    """Exit code and output; 2 for what the user can mend, as `nightline.cli.main` has it."""
    result = CliRunner().invoke(nightline, list(words), standalone_mode=False)
    if isinstance(result.exception, ConfigError | ClickException):
        return 2, result.output + str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_an_archiver_killed_between_steps_of_writing_ends_with_the_same_files(
    kafka: str, new_prefix: Callable[..., str], tmp_path: Path
) -> None:
    log, prefix, site = eventful(), new_prefix(partitions=2), site_folder(tmp_path / "site")
    publish(kafka, prefix, log)
    keep(log, tmp_path / "expected")
    rng, kills = np.random.default_rng(20261128), 0
    words = command(site, tmp_path / "out", kafka, prefix, "--until-end")
    for _ in range(5):
        left, batch_bytes = (int(rng.integers(low, high)) for low, high in ((3, 25), (10_000, 30_000)))
        run = [sys.executable, "-c", MORTAL, str(left), str(batch_bytes), *words]
        done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        kills += done.returncode != 0
    assert kills >= 3
    code, said = archive(*words)
    assert code == 0, said
    assert re.search(r"0 records behind; last batch|288 slots, since it began", said)
    assert content_but_names(tmp_path / "out", prefix) == content_but_names(tmp_path / "expected", "nl")


def content_but_names(folder: Path, prefix: str) -> dict[str, Any]:
    """Every Parquet file byte for byte; and of the rest what does not name this Kafka and these topics."""
    found: dict[str, Any] = content(folder)
    state = msgspec.json.decode(found.pop("archive.json"))
    # in which order Kafka shows the partitions is its own affair; those in which nothing came are known to be empty
    offsets = {name: {part: at for part, at in of.items() if at} for name, of in state["offsets"].items()}
    rejects = sorted(found.pop("rejects.ndjson").replace(prefix.encode(), b"nl").splitlines())
    return found | {"said": (offsets, state["counts"], state["gaps"], state["seen"]), "rejects": rejects}


def test_history_through_kafka_and_the_archive_or_straight_from_the_topic_gives_the_alerts_of_the_history(
    kafka: str, new_prefix: Callable[..., str], tmp_path: Path
) -> None:
    block, prefix, site = history(28), new_prefix(), site_folder(tmp_path / "site")
    place, cuts = town(), windows(history(28))
    with (tmp_path / "readings.csv").open("w") as file:
        file.write("meterId,observedAt,value\n")
        for meter, time_ms, value in zip(
            block["meter"].tolist(), block["time_ms"].tolist(), block["value"].tolist(), strict=True
        ):
            file.write(f"{place.meters[meter].id},{time_ms},{value!r}\n")
    words = command(site, tmp_path / "out", kafka, prefix)
    archivers = [archiver(words, tmp_path / "archiver-0")]

    def kill(end_ms: int, _: object) -> None:
        if end_ms in (cuts[15].end_ms, cuts[40].end_ms):
            archivers[-1].send_signal(signal.SIGKILL)
            archivers[-1].wait()
            archivers.append(archiver(words, tmp_path / f"archiver-{len(archivers)}"))

    try:
        with WorkerProcess(site, kafka, prefix, tmp_path / "log") as worker:
            worker.wait_until_assigned()
            with Replay(place, kafka, prefix) as feed:
                feed.run(cuts, on_window=kill)
            assert worker.stop() == 0
        archivers[-1].send_signal(signal.SIGTERM)
        assert archivers[-1].wait(timeout=20) == 0
    finally:
        for process in archivers:
            process.kill()
    code, said = archive(*words, "--until-end")
    assert code == 0, said
    assert f"{len(block) + 4 * 28 * 96:,} readings" in said  # four meters; A-B is of two DMAs, three inflows are neighbours'
    found = []
    for readings in (tmp_path / "readings.csv", tmp_path / "out", f"kafka://{kafka}/{prefix}"):
        code, said = archive("backtest", str(site), "--readings", str(readings), "--out", str(tmp_path / "backtest"))
        assert code == 0, said
        found.append((tmp_path / "backtest" / "alerts.ndjson").read_bytes())
    assert found[0]
    assert found == [found[0]] * 3


def archiver(words: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen([sys.executable, *NIGHTLINE, *words, "--every", "1"], stdout=out, stderr=out)


def test_what_kafka_has_deleted_is_said_and_written_down(kafka: str, new_prefix: Callable[..., str], tmp_path: Path) -> None:
    prefix, site, log = new_prefix(partitions=2), site_folder(tmp_path / "site"), Log()
    parts = np.split(days_of_a_town(1), 8)
    for part in parts[:4]:
        log.route(part)
    publish(kafka, prefix, log)
    words = command(site, tmp_path / "out", kafka, prefix, "--until-end")
    assert archive(*words)[0] == 0

    done, log.records = log.records, []
    for part in parts[4:]:
        log.route(part)
    publish(kafka, prefix, log)
    with admin(kafka) as client:
        client.delete_records({TopicPartition(topic_name(prefix, READINGS), 0): 6})
    code, said = archive(*words)
    assert code == 1
    gap = "partition 0, offsets 4 to 5 are not archived: Kafka's log begins at offset 6: they were deleted before they were"
    assert f"ERROR: GAP: {topic_name(prefix, READINGS)} {gap}" in said
    assert "1 GAPS" in said
    # it goes on behind the gap, and says it once
    assert archive(*words)[0] == 0
    # whoever reads the topic for the first time misses nothing that was promised
    readings = f"kafka://{kafka}/{prefix}"
    code, said = archive("backtest", str(site), "--readings", readings, "--out", str(tmp_path / "backtest"))
    assert code == 0, said
    assert f"{topic_name(prefix, READINGS)} begins at offset 6 of partition 0: what was before is gone" in said
    assert "GAP" not in said

    with admin(kafka) as client:
        client.delete_topics([topic_name(prefix, READINGS)])
        eventually(lambda: topic_name(prefix, READINGS) not in client.list_topics())
    code, said = archive(*words)
    assert (code, "has no topic" in said) == (2, True), said
    assert archive("topics", "apply", "--bootstrap", kafka, "--prefix", prefix, "--partitions", "2")[0] == 0
    log.records, again = [], Log()
    again.records = done
    publish(kafka, prefix, again)
    code, said = archive(*words)
    assert code == 1, said
    assert said.count("the topic was made anew") == 2
    # what the new topic holds was had before, so it counts once
    assert len(list((tmp_path / "out" / "readings").glob("*/*.parquet"))) > 0


def lock_of(out: Path) -> str:
    return (out / ".lock").read_text() if (out / ".lock").exists() else ""


def test_a_second_archiver_and_another_prefix_are_refused_and_sigterm_writes_what_came(
    kafka: str, new_prefix: Callable[..., str], tmp_path: Path
) -> None:
    prefix, site, log = new_prefix(partitions=2), site_folder(tmp_path / "site"), Log()
    log.route(days_of_a_town(1))
    publish(kafka, prefix, log)
    words = command(site, tmp_path / "out", kafka, prefix)
    with (tmp_path / "said").open("wb") as out:
        first = subprocess.Popen([sys.executable, *NIGHTLINE, *words], stdout=out, stderr=out)
        try:
            eventually(lambda: str(first.pid) in lock_of(tmp_path / "out"), 20)
            code, said = archive(*words, "--until-end")
            assert (code, f"process {first.pid} writes to it" in said) == (2, True), said
            time.sleep(1.5)  # a batch is due after 300 s
            assert not (tmp_path / "out" / "readings").exists()
            first.send_signal(signal.SIGTERM)
            assert first.wait(timeout=20) == 0
        finally:
            first.kill()
    assert len(list((tmp_path / "out" / "readings").glob("*/*.parquet"))) > 0, (tmp_path / "said").read_text()
    code, said = archive(*command(site, tmp_path / "out", kafka, "another", "--until-end"))
    assert code == 2
    assert f"is the archive of prefix '{prefix}', not 'another'; possible: another --out" in said
