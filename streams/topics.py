"""The nine topics of Nightline: their names, policies and limits, and the means to create them.

`<prefix>.<dataset>.v<major>`. The broker must not create topics by itself: a misspelt prefix would then work silently,
with the wrong number of partitions and no retention.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource
from kafka.errors import KafkaError

DEFAULT_PREFIX: Final = "nightline"
DEFAULT_PARTITIONS: Final = 12

DAY_MS: Final = 86_400_000
MIB: Final = 1 << 20

RAW_DAYS: Final = 14
"""How long raw readings are kept."""
RAW_LIMIT: Final = 16 * MIB
"""Largest record batch the raw topic takes; whatever it takes, the dead-letter topic takes with its headers."""
READING_LIMIT: Final = 4 * MIB
"""A longer message is rejected undecoded, as oversized."""
REQUEST_LIMIT: Final = RAW_LIMIT + MIB
PACKED_LIMIT: Final = 900_000
"""Packed readings and detections stay below the broker's default of 1 MiB a batch."""

RAW, READINGS, DETECTIONS, COMMANDS, ALERTS, OPEN_ALERTS, MODELS, CHECKPOINTS, DEAD_LETTERS = (
    "readings.raw.v1",
    "readings.v1",
    "detections.v1",
    "commands.v1",
    "alerts.v1",
    "alerts.open.v1",
    "models.v1",
    "checkpoints.v1",
    "dlq.v1",
)


class KafkaUnavailableError(Exception):
    """No broker, or one that refuses; the message is one clear line."""


@dataclass(frozen=True)
class Topic:
    """One row of the topic table. `days` is None for a compacted topic."""

    dataset: str
    key: str
    days: int | None
    message_bytes: int | None = None
    segment_bytes: int | None = None
    """Compaction passes over the newest segment: small ones bound what a reader of the whole topic must read."""

    @property
    def config(self) -> dict[str, str]:
        """What differs from the broker's defaults, in Kafka's words."""
        if self.days is None:
            config = {"cleanup.policy": "compact"}
        else:
            config = {"cleanup.policy": "delete", "retention.ms": str(self.days * DAY_MS)}
        if self.message_bytes is not None:
            config["max.message.bytes"] = str(self.message_bytes)
        if self.segment_bytes is not None:
            config["segment.bytes"] = str(self.segment_bytes)
            config["min.cleanable.dirty.ratio"] = "0.2"
        return config


TOPICS: Final = (
    Topic(RAW, "meter id", RAW_DAYS, RAW_LIMIT),
    Topic(READINGS, "DMA id", 30),
    Topic(DETECTIONS, "DMA id", 90),
    Topic(COMMANDS, "DMA id", 365),
    Topic(ALERTS, "alert id", 365),
    Topic(OPEN_ALERTS, "alert id", None),
    Topic(MODELS, "publication", None, RAW_LIMIT),
    Topic(CHECKPOINTS, "DMA id", None, RAW_LIMIT, 32 * MIB),
    Topic(DEAD_LETTERS, "original key", 30, REQUEST_LIMIT),
)


def topic_name(prefix: str, dataset: str) -> str:
    """`nightline.readings.raw.v1`"""
    return f"{prefix}.{dataset}"


def worker_group(prefix: str) -> str:
    """The consumer group of all workers of one prefix."""
    return f"{prefix}-worker"


EMBEDDED_OPTIONS: Final[dict[str, Any]] = {"api_version": (2, 3)}
"""What kafka-python needs for an embedded broker, which refuses its question for versions."""

_VERSIONS_V4: Final = b"\x00\x12\x00\x04\x00\x00\x00\x01\x00\x09nightline\x00\x0anightline\x020\x00"
_UNSUPPORTED: Final = 35


def client_options(bootstrap: str) -> dict[str, Any]:
    """What every kafka-python client of this broker needs: nothing, or EMBEDDED_OPTIONS.

    Asks for ApiVersions v4, as kafka-python does; from an embedded broker's answer it would not recover.
    """
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=3) as link:
                link.sendall(len(_VERSIONS_V4).to_bytes(4, "big") + _VERSIONS_V4)
                head = link.recv(10, socket.MSG_WAITALL)
        except (OSError, ValueError):
            continue
        return EMBEDDED_OPTIONS if int.from_bytes(head[8:10], "big") == _UNSUPPORTED else {}
    return {}


def connect(bootstrap: str) -> tuple[KafkaAdminClient, dict[str, Any]]:
    """An admin client, and the options every other kafka-python client of this broker needs.

    Raises KafkaUnavailableError where no broker answers.
    """
    options = client_options(bootstrap)
    loud = logging.getLogger("kafka")
    level = loud.level
    loud.setLevel(logging.CRITICAL)  # it logs every attempt; ours is one line at the end
    try:
        client = KafkaAdminClient(bootstrap_servers=bootstrap, client_id="nightline", bootstrap_timeout_ms=10_000, **options)
    except (KafkaError, OSError, ValueError) as error:
        raise KafkaUnavailableError(f"no Kafka broker answers at {bootstrap}: {_plain(error)}") from error
    finally:
        loud.setLevel(level)
    return client, options


@contextmanager
def admin(bootstrap: str) -> Iterator[KafkaAdminClient]:
    """A connected admin client. Raises KafkaUnavailableError where no broker answers, or for what it refuses."""
    client, _ = connect(bootstrap)
    try:
        yield client
    except KafkaError as error:
        raise KafkaUnavailableError(f"Kafka at {bootstrap} refuses: {_plain(error)}") from error
    finally:
        client.close()


def _plain(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@dataclass(frozen=True)
class Found:
    """A topic as the broker has it."""

    name: str
    partitions: int
    replication: int
    config: dict[str, str]


def prefixes_of(client: KafkaAdminClient) -> list[str]:
    """Prefixes under which the broker has a topic of validated readings."""
    return sorted(name.removesuffix(f".{READINGS}") for name in client.list_topics() if name.endswith(f".{READINGS}"))


def find_topics(client: KafkaAdminClient, prefix: str) -> dict[str, Found]:
    """Dataset -> what the broker has, for those of the nine topics that exist."""
    there = set(client.list_topics())
    wanted = {topic_name(prefix, topic.dataset): topic for topic in TOPICS}
    names = [name for name in wanted if name in there]
    if not names:
        return {}
    settings = client.describe_configs([ConfigResource("TOPIC", name) for name in names], config_filter="all")
    found = {}
    for topic in client.describe_topics(names):
        name = topic["name"]
        values = {key: str(entry["value"]) for key, entry in settings["topic"][name].items()}
        replicas = min((len(part["replica_nodes"]) for part in topic["partitions"]), default=0)
        found[wanted[name].dataset] = Found(name, len(topic["partitions"]), replicas, values)
    return found


def apply(
    bootstrap: str,
    prefix: str = DEFAULT_PREFIX,
    partitions: int = DEFAULT_PARTITIONS,
    replication: int = 1,
    say: Callable[[str], None] = print,
) -> int:
    """Create what is missing, mend what can be mended, and say what differs; running it again changes nothing.

    Cleanup policy, retention and message size are set. Partitions and replication are only reported: more partitions
    would move keys, and with them a DMA's history, to another partition. Returns the number of such differences.
    """
    differences = 0
    with admin(bootstrap) as client:
        found = find_topics(client, prefix)
        missing = {
            topic_name(prefix, topic.dataset): {
                "num_partitions": partitions,
                "replication_factor": replication,
                "configs": topic.config,
            }
            for topic in TOPICS
            if topic.dataset not in found
        }
        if missing:
            client.create_topics(missing, wait_for_metadata=True)
        for topic in TOPICS:
            there = found.get(topic.dataset)
            if there is None:
                say(f"created {topic_name(prefix, topic.dataset)}: {partitions} partitions, {_policy(topic.config)}")
                continue
            wrong = {key: value for key, value in topic.config.items() if there.config.get(key) != value}
            if wrong:
                client.alter_configs([ConfigResource("TOPIC", there.name, configs=wrong)])
                for key, value in wrong.items():
                    say(f"changed {there.name}: {key} from {there.config.get(key)} to {value}")
            for what, has, wants in (
                ("partitions", there.partitions, partitions),
                ("replication factor", there.replication, replication),
            ):
                if has != wants:
                    differences += 1
                    say(f"differs {there.name}: {has} {what}, asked for {wants}; left as it is")
            if not wrong and there.partitions == partitions and there.replication == replication:
                say(f"unchanged {there.name}")
    return differences


def _policy(config: dict[str, str]) -> str:
    if config["cleanup.policy"] == "compact":
        return "compacted"
    return f"kept {int(config['retention.ms']) // DAY_MS} days"


def list_topics(bootstrap: str, prefix: str = DEFAULT_PREFIX) -> list[tuple[Topic, Found | None]]:
    """The nine topics, each with what the broker has of it, or None."""
    with admin(bootstrap) as client:
        found = find_topics(client, prefix)
    return [(topic, found.get(topic.dataset)) for topic in TOPICS]


def missing_topics(bootstrap: str, prefix: str) -> list[str]:
    """Names of the topics that do not exist yet; none for an embedded broker, where they appear on first use."""
    if client_options(bootstrap) == EMBEDDED_OPTIONS:
        return []
    return [topic_name(prefix, topic.dataset) for topic, found in list_topics(bootstrap, prefix) if found is None]
