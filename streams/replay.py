"""History to Kafka as if it happened: in order of event time, never further ahead of the workers than they can follow.

The engine waits `latenessMinutes` of event time for a meter before it goes on without it. Meters of one DMA lie in
several partitions, which workers read at their own pace, so what is published but not yet routed must not span more
event time than that. Readings go out in parts of at most half the lateness and `PART_BYTES`; a part is published when
the workers have committed all parts but the last one. `watch` commits only behind a checkpoint, so it is waited for every
`UNWATCHED_BYTES` and at the end, which bounds what lies between the two; an embedded broker drops what is not read in
time, and gets a bound of one part.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import msgspec
import numpy as np
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import KafkaError

from models.network import Site
from models.schema import GOOD, KINDS, QUALITIES, Readings
from streams.topics import (
    EMBEDDED_OPTIONS,
    RAW,
    READINGS,
    REQUEST_LIMIT,
    KafkaUnavailableError,
    connect,
    topic_name,
    worker_group,
)

Layout = Literal["single", "columnar"]

UNIT: Final = {"flow": "m3/h", "volume": "m3/h", "register": "m3", "pressure": "kPa", "level": "m", "battery": "%"}
"""Units of a READING array, by kind; a battery's volts or percent are one and the same number to the engine."""

HEADERS: Final = [("nl-origin", b"replay")]
PART_BYTES: Final = 2 << 20
"""Two parts on the way, and their packed twins, fit the 5 MB of an embedded broker's partition."""
UNWATCHED_BYTES: Final = 64 << 20
"""Of raw messages published since `watch` was last waited for."""
COLUMN_LENGTH: Final = 20_000
"""Entries of one columnar message; far below the limit of a reading message."""
STALL_SECONDS: Final = 30.0
"""How long nothing may move when the group has no member."""
BUSY_SECONDS: Final = 180.0
"""How long nothing may move when it has: a worker that starts reads its partitions again first."""
POLL_SECONDS: Final = 0.01


class NoProgressError(Exception):
    """No worker takes what was published; the message is one clear line."""


class Window(Protocol):
    """`training.history.Window`: readings of [start_ms, end_ms), in order of time."""

    end_ms: int
    readings: Readings


@dataclass
class Replayed:
    """What has been published so far."""

    readings: int = 0
    messages: int = 0
    bytes: int = 0
    windows: int = 0


def window_minutes(site: Site) -> int:
    """The widest window that is safe: half the shortest lateness."""
    return max(1, site.shortest_lateness_minutes // 2)


def encode(site: Site, readings: Readings, layout: Layout) -> Iterator[tuple[bytes, bytes, int]]:
    """Key (meter id), value and number of readings of each message of one window."""
    if layout == "single":
        yield from _singles(site, readings)
    else:
        yield from _columns(site, readings)


def _singles(site: Site, readings: Readings) -> Iterator[tuple[bytes, bytes, int]]:
    write = msgspec.json.Encoder().encode
    meters = [(meter.id, meter.id.encode()) for meter in site.meters]
    rows = zip(
        readings["meter"].tolist(), readings["kind"].tolist(), readings["value"].tolist(),
        readings["time_ms"].tolist(), readings["quality"].tolist(), strict=True,
    )  # fmt: skip
    for meter, kind, value, time_ms, quality in rows:
        name, key = meters[meter]
        word = KINDS[kind]
        reading = {"meterId": name, "kind": word, "value": value, "unit": UNIT[word], "observedAt": time_ms}
        if quality != GOOD:
            reading["quality"] = QUALITIES[quality]
        yield key, write(reading), 1


def _columns(site: Site, readings: Readings) -> Iterator[tuple[bytes, bytes, int]]:
    write = msgspec.json.Encoder().encode
    groups = readings["meter"].astype(np.int64) * len(KINDS) + readings["kind"]
    order = np.argsort(groups, kind="stable")
    edges = np.flatnonzero(np.diff(groups[order])) + 1
    for part in np.split(readings[order], edges):
        for start in range(0, len(part), COLUMN_LENGTH):
            rows = part[start : start + COLUMN_LENGTH]
            meter, word = site.meters[int(rows["meter"][0])].id, KINDS[int(rows["kind"][0])]
            columns = {
                "meterId": meter,
                "kind": word,
                "unit": UNIT[word],
                "observedAt": rows["time_ms"].tolist(),
                "value": rows["value"].tolist(),
            }
            if (rows["quality"] != GOOD).any():
                columns["quality"] = [QUALITIES[code] for code in rows["quality"].tolist()]
            yield meter.encode(), write(columns), len(rows)


def partitions_of(client: KafkaAdminClient, topics: list[str]) -> list[TopicPartition]:
    """Of all `topics`. Raises KafkaUnavailableError for one that does not exist."""
    found = []
    for topic in client.describe_topics(topics):
        if not topic["partitions"]:
            raise KafkaUnavailableError(f"Kafka has no topic {topic['name']}; create it with: nightline topics apply")
        found += [TopicPartition(topic["name"], part["partition_index"]) for part in topic["partitions"]]
    return found


class Followers:
    """How far the workers of a prefix have come."""

    def __init__(self, client: KafkaAdminClient, prefix: str) -> None:
        self._client, self._group = client, worker_group(prefix)
        self.raw, self.readings = topic_name(prefix, RAW), topic_name(prefix, READINGS)
        self._partitions = partitions_of(client, [self.raw, self.readings])

    def committed(self) -> dict[TopicPartition, int] | None:
        """Committed offset by partition of both topics; partitions without one are left out. None: no answer just now."""
        try:
            found = self._client.list_group_offsets({self._group: self._partitions})[self._group]
        except KafkaError as error:
            if error.retriable:
                return None
            raise
        return {tp: offset.offset for tp, offset in found.items() if offset.offset >= 0}

    def ends(self) -> dict[TopicPartition, int]:
        """Where `readings.v1` ends now."""
        wanted = {tp: OffsetSpec.LATEST for tp in self._partitions if tp.topic == self.readings}
        return {tp: end.offset for tp, end in self._client.list_partition_offsets(wanted).items()}

    def wait(self, goal: dict[TopicPartition, int], what: str) -> None:
        """Until the committed offsets have reached `goal`. Raises NoProgressError when nothing moves for so long."""
        last: dict[TopicPartition, int] | None = None
        moved, patience = time.monotonic(), STALL_SECONDS
        while True:
            committed = self.committed()
            if committed is None:  # the broker is away: nobody's fault, and it may come back
                last, moved = None, time.monotonic()
                time.sleep(1.0)
                continue
            if all(committed.get(tp, 0) >= offset for tp, offset in goal.items()):
                return
            if committed != last:
                last, moved, patience = committed, time.monotonic(), STALL_SECONDS
            elif time.monotonic() - moved > patience:
                behind = sum(max(0, offset - committed.get(tp, 0)) for tp, offset in goal.items())
                members = self.members()
                if not members:
                    raise NoProgressError(
                        f"no worker of group {self._group} has {what} anything for {patience:.0f} s, "
                        f"{behind} messages wait; start one with: nightline worker SITE (or publish with --no-wait)"
                    )
                if patience >= BUSY_SECONDS:
                    raise NoProgressError(
                        f"{members} workers of group {self._group} are there, but have not {what} anything for "
                        f"{patience:.0f} s, {behind} messages wait; their logs may say why"
                    )
                patience = min(patience + STALL_SECONDS, BUSY_SECONDS)
            time.sleep(POLL_SECONDS)

    def members(self) -> int:
        """How many workers the group has; 0 where the broker cannot say, as an embedded one."""
        loud = logging.getLogger("kafka.admin")
        level = loud.level
        loud.setLevel(logging.ERROR)  # it complains of every member whose metadata is Faust's
        try:
            return len(self._client.describe_groups([self._group])[self._group]["members"])
        except (KafkaError, LookupError, TypeError):
            return 0
        finally:
            loud.setLevel(level)


class Replay:
    """Publishes windows. Use as a context manager; `client_options` are for kafka-python."""

    def __init__(self, site: Site, bootstrap: str, prefix: str, layout: Layout = "columnar", wait: bool = True) -> None:
        self.site, self.layout = site, layout
        self.done = Replayed()
        self._client, options = connect(bootstrap)
        self._raw = topic_name(prefix, RAW)
        try:
            partitions_of(self._client, [self._raw])
            self._followers = Followers(self._client, prefix) if wait else None
        except BaseException:
            self._client.close()
            raise
        self._producer = KafkaProducer(
            bootstrap_servers=bootstrap, acks="all", linger_ms=5, batch_size=256 * 1024,
            max_request_size=REQUEST_LIMIT, **options,
        )  # fmt: skip
        self._unconfirmed: list[Any] = []
        self._part_bytes = 0
        self._last: dict[TopicPartition, int] = {}
        self._to_watch: dict[TopicPartition, int] = {}
        self._unwatched_bytes = 0
        self._unwatched_limit = PART_BYTES if options == EMBEDDED_OPTIONS else UNWATCHED_BYTES

    def __enter__(self) -> Replay:
        return self

    def __exit__(self, *_: object) -> None:
        self._producer.close()
        self._client.close()

    def run(
        self,
        windows: Iterable[Window],
        speed: float | None = None,
        on_window: Callable[[int, Replayed], None] = lambda *_: None,
    ) -> Replayed:
        """Publish all windows, at `speed` times real time or as fast as the workers follow; wait for the last one.

        Raises NoProgressError when no worker follows, KafkaError when the broker does not take a message.
        """
        begin, first_ms = time.monotonic(), None
        for window in windows:
            if speed:
                first_ms = window.end_ms if first_ms is None else first_ms
                time.sleep(max(0.0, begin + (window.end_ms - first_ms) / 1000 / speed - time.monotonic()))
            self._publish(window.readings)
            self.done.windows += 1
            on_window(window.end_ms, self.done)
        self._end_part()
        if self._followers is not None:
            self._followers.wait(self._last, "routed")
            self._followers.wait(self._followers.ends(), "watched")
        return self.done

    def _publish(self, readings: Readings) -> None:
        """One window, in one or more parts."""
        for key, value, count in encode(self.site, readings, self.layout):
            self._unconfirmed.append(self._producer.send(self._raw, value=value, key=key, headers=HEADERS))
            self._part_bytes += len(value)
            self.done.readings += count
            self.done.messages += 1
            self.done.bytes += len(value)
            if self._part_bytes >= PART_BYTES:
                self._end_part()
        self._end_part()

    def _end_part(self) -> None:
        """Confirm the part, then wait until all parts but this one are routed, and watched up to the last time we asked."""
        if not self._unconfirmed:
            return
        self._producer.flush()
        ends: dict[TopicPartition, int] = {}
        for future in self._unconfirmed:
            sent = future.get(timeout=60)
            tp = TopicPartition(sent.topic, sent.partition)
            ends[tp] = max(ends.get(tp, 0), sent.offset + 1)
        self._unconfirmed.clear()
        self._unwatched_bytes += self._part_bytes
        self._part_bytes = 0
        if self._followers is not None:
            self._followers.wait(self._last, "routed")
            if self._unwatched_bytes >= self._unwatched_limit:
                self._unwatched_bytes = 0
                self._followers.wait(self._to_watch, "watched")
                self._to_watch = self._followers.ends()
        self._last |= ends
