"""`--readings kafka://…`: addresses, what a topic gives on the embedded broker, and one line for what cannot be read."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from models.config import ConfigError
from models.network import parse_site
from nightline.cli import nightline
from nightline.readings import FOLDER, Log, _Source, at_hand
from streams.topics import EMBEDDED_OPTIONS, READINGS, topic_name
from tests.archiving import SITE, days_of_a_town, eventful
from training.history import read_history

POSSIBLE = "possible: kafka://HOST:PORT[,HOST:PORT…][/PREFIX], e.g. kafka://127.0.0.1:9092/nightline, or a file or folder"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kafka://127.0.0.1:9092", Log("127.0.0.1:9092", "nightline")),
        ("kafka://127.0.0.1:9092/", Log("127.0.0.1:9092", "nightline")),
        ("kafka://a:1,b.c:2/north", Log("a:1,b.c:2", "north")),
        ("kafka://[::1]:9092/a.b-c_d/", Log("[::1]:9092", "a.b-c_d")),
        ("out/readings", Path("out/readings")),
        ("./kafka:", Path("kafka:")),
        ("a:b", Path("a:b")),
    ],
)
def test_an_address_is_brokers_and_a_prefix_and_all_else_a_path(text: str, expected: Log | Path) -> None:
    assert _Source().convert(text, None, None) == expected


@pytest.mark.parametrize(
    "text",
    [
        "kafka://", "kafka://host", "kafka://host:0", "kafka://host:9092,", "kafka:/host:9092", "kafka:host:9092",
        "KAFKA://host:9092", "kafka://host:9092/a/b", "kafka://host:9092/a b", "kafka:///nightline", "s3://bucket/readings",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(click.ClickException) as refused:
        _Source().convert(text, None, None)
    assert refused.value.message == f"--readings: found {text!r}; {POSSIBLE}"


@pytest.mark.parametrize("name", ["backtest", "train", "evaluate", "compare", "detectability", "inject", "replay", "drift"])
def test_every_command_that_reads_history_knows_the_address(name: str) -> None:
    result = CliRunner().invoke(nightline, [name, "site", *(["v"] * (name == "compare")), "--readings", "kafka://host"])
    assert result.output == f"Error: --readings: found 'kafka://host'; {POSSIBLE}\n"


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    """An embedded broker that holds a town's readings under `town`, and under other prefixes what is none of them."""
    pytest.importorskip("confluent_kafka")
    from kafka import KafkaProducer  # noqa: PLC0415

    from streams.brokers.embedded import EmbeddedBroker  # noqa: PLC0415

    with EmbeddedBroker() as bootstrap:
        producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", **EMBEDDED_OPTIONS)
        for dataset, record in eventful().records:
            if dataset == READINGS:
                name = topic_name("town", READINGS)
                producer.send(name, key=record.key, value=record.value, headers=record.headers, partition=record.partition)
        producer.send(topic_name("foreign", READINGS), key=b"A", value=b"\x00foreign", partition=1)
        assert producer.partitions_for(topic_name("empty", READINGS))  # it makes a topic that is asked for
        producer.close()
        yield bootstrap


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders go."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def command() -> click.Context:
    return click.Context(click.Command("any"))


def test_a_topic_is_read_once_as_its_archive_would_be_and_its_folder_goes_with_the_command(
    broker: str, folder: Path, command: click.Context, capsys: pytest.CaptureFixture[str]
) -> None:
    with command:
        source = at_hand(Log(broker, "town"), SITE)
        assert source.parent == folder
        for _ in range(2):  # as often as a command likes
            history = read_history(source, SITE, 1440)
            got = np.concatenate([window.readings for window in history])
            assert (np.diff(got["time_ms"]) >= 0).all()
            names = ["time_ms", "meter", "kind", "value", "quality"]
            assert sorted(got[names].tolist()) == sorted(days_of_a_town()[names].tolist())
        # of late, repeated, corrected and twice routed readings nothing is left; of foreign records the reason
        reasons = [reason.partition(": ") for _, _, reason in history.rejects.first]
        assert [place.rpartition(" ")[0] for place, _, _ in reasons] == ["town.readings.v1 partition 0 offset"] * 2
        assert reasons[0][2].startswith("block is torn")
        assert reasons[1][2].startswith("value is null")
    assert list(folder.iterdir()) == []
    out, err = capsys.readouterr()
    assert out == ""
    assert f"note: kafka://{broker}/town: " in err
    assert "readings of 3 DMAs, 2 rejected; " in err


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_ended_takes_its_folder_along(
    broker: str, folder: Path, command: click.Context, signum: int
) -> None:
    def run() -> None:
        with command:
            at_hand(Log(broker, "town"), SITE)
            assert [path.name.startswith(FOLDER) for path in folder.iterdir()] == [True]
            os.kill(os.getpid(), signum)

    before = signal.signal(signum, signal.SIG_DFL)  # under nohup SIGHUP is ignored, and stays so
    try:
        with pytest.raises(SystemExit) as stop:
            run()
        assert signal.getsignal(signum) is signal.SIG_DFL
    finally:
        signal.signal(signum, before)
    assert stop.value.code == 128 + signum
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("prefix", "said"),
    [
        (
            "twon",
            "Kafka has no topic twon.readings.v1; possible: kafka://{b}/empty, kafka://{b}/foreign, kafka://{b}/town",
        ),
        ("empty", "empty.readings.v1 is empty; possible: a worker that routes readings to it, or another prefix"),
        (
            "foreign",
            "foreign.readings.v1 holds no readings, but 1 rejected, e.g. foreign.readings.v1 partition 1 offset 0: block is",
        ),
    ],
)
def test_a_topic_without_readings_is_refused_in_one_line(
    broker: str, folder: Path, command: click.Context, prefix: str, said: str
) -> None:
    with command, pytest.raises(click.ClickException) as refused:
        at_hand(Log(broker, prefix), SITE)
    assert refused.value.message.startswith(f"kafka://{broker}/{prefix}: {said.format(b=broker)}")
    assert list(folder.iterdir()) == []


def test_a_topic_of_other_dmas_is_refused_and_one_of_some_is_noted(
    broker: str, folder: Path, command: click.Context, capsys: pytest.CaptureFixture[str]
) -> None:
    def place(*dmas: str) -> str:
        return "".join(f'[[dma]]\nid = "{dma}"\n[[meter]]\nid = "in-{dma}"\nkind = "flow"\nto = "{dma}"\n' for dma in dmas)

    site = 'name = "testville"\ntimezone = "UTC"\n'
    with command:
        with pytest.raises(ConfigError) as refused:
            at_hand(Log(broker, "town"), parse_site(site, place("D", "E")))
        (fault,) = refused.value.faults
        assert "town.readings.v1 is of other DMAs than network.toml: 'A', 'B', 'C'; " in fault
        assert "or another prefix" in fault
        capsys.readouterr()
        at_hand(Log(broker, "town"), parse_site(site, place("A", "D")))
        assert "note: town.readings.v1 has DMAs that are not in network.toml: 'B', 'C'; " in capsys.readouterr().err


def test_a_disk_without_room_is_one_line(broker: str, folder: Path, command: click.Context) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # no file may grow beyond: to a program a kind of full disk
    try:
        with command, pytest.raises(ConfigError) as refused:
            at_hand(Log(broker, "town"), SITE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (fault,) = refused.value.faults
    possible = "possible: more room there, or TMPDIR elsewhere"
    assert fault == f"{folder}: cannot be written: File too large; readings are kept there; {possible}"
    assert list(folder.iterdir()) == []
