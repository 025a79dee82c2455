"""nightline topics apply | list"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator

import click


def brokers(text: str) -> str | None:
    """host:port[,host:port…], an IPv6 host in brackets, without blanks; None where it is no such list."""
    addresses = [address.strip() for address in text.split(",")]
    for address in addresses:
        found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):([0-9]{1,5})", address)
        if found is None or not 0 < int(found[2]) < 65536:
            return None
    return ",".join(addresses)


def addresses(_: click.Context, __: click.Parameter, value: str) -> str:
    """The value of --bootstrap."""
    found = brokers(value)
    if found is None:
        raise click.ClickException(f"--bootstrap: found {value!r}; possible: host:port[,host:port…], ports 1 to 65535")
    return found


DEFAULT_PREFIX = "nightline"


BOOTSTRAP = click.option(
    "--bootstrap",
    default="127.0.0.1:9092",
    show_default=True,
    callback=addresses,
    help="Kafka brokers, host:port[,host:port…].",
)
PREFIX = click.option("--prefix", default=DEFAULT_PREFIX, show_default=True, help="First part of every topic's name.")


@contextlib.contextmanager
def plain_faults(bootstrap: str) -> Iterator[None]:
    """Whatever Kafka refuses as a ClickException of one line."""
    from kafka.errors import KafkaError  # noqa: PLC0415 - `--help` and a faulty site need no Kafka client

    from streams.topics import KafkaUnavailableError  # noqa: PLC0415

    try:
        yield
    except KafkaUnavailableError as error:
        raise click.ClickException(str(error)) from None
    except KafkaError as error:
        raise click.ClickException(f"Kafka at {bootstrap}: {' '.join(str(error).split())}") from None


@contextlib.contextmanager
def quiet_client() -> Iterator[None]:
    """The client says the same of a lost broker for ever; we say it once."""
    loud = logging.getLogger("kafka")
    level = loud.level
    loud.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        loud.setLevel(level)


@click.group("topics")
def topics() -> None:
    """Create or list the topics."""


@topics.command("apply")
@BOOTSTRAP
@PREFIX
@click.option("--partitions", default=12, show_default=True, type=click.IntRange(min=1))
@click.option("--replication", default=1, show_default=True, type=click.IntRange(min=1))
def apply(bootstrap: str, prefix: str, partitions: int, replication: int) -> None:
    """Create missing topics, set their policies, and name what differs and cannot be changed (then exit code 1)."""
    from streams import topics as kafka  # noqa: PLC0415 - `--help` needs no Kafka client

    try:
        differences = kafka.apply(bootstrap, prefix, partitions, replication, say=click.echo)
    except kafka.KafkaUnavailableError as error:
        raise click.ClickException(str(error)) from None
    if differences:
        raise click.exceptions.Exit(1)


@topics.command("list")
@BOOTSTRAP
@PREFIX
def list_(bootstrap: str, prefix: str) -> None:
    """One line for each of the nine topics."""
    from streams import topics as kafka  # noqa: PLC0415

    try:
        rows = kafka.list_topics(bootstrap, prefix)
    except kafka.KafkaUnavailableError as error:
        raise click.ClickException(str(error)) from None
    for topic, found in rows:
        name = kafka.topic_name(prefix, topic.dataset)
        policy = "compact" if topic.days is None else f"delete, {topic.days} d"
        state = "missing" if found is None else f"{found.partitions} partitions, replication {found.replication}"
        click.echo(f"{name:<36} key {topic.key:<12} {policy:<14} {state}")
