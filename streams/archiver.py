"""Topics to an archive: a consumer without a group, whose offsets are kept with what it read.

Nothing is left to Kafka but the log. Where to go on is what the store says, so a batch and the offset behind it are kept
together or not at all; and what Kafka no longer has is said, written into the archive, and never passed over in silence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from models.archived import Batch, Store
from streams.archive_batch import CHECKSUMMED, DATASETS, Collector
from streams.replay import partitions_of
from streams.topics import KafkaUnavailableError, connect, topic_name

BATCH_BYTES: Final = 64 << 20
"""A batch is written before it takes more memory, however young it is."""
FETCH_BYTES: Final = 16 << 20
POLL_MS: Final = 500
SILENT_SECONDS: Final = 30.0
"""So long without a record, though there are some, is worth a word; to `until_end` it is the end."""


@dataclass
class Progress:
    """What this run has done, for one line about it."""

    counts: dict[str, int] = field(default_factory=dict)
    dmas: set[str] = field(default_factory=set)
    batches: int = 0
    gaps: int = 0
    behind: int | None = 0
    """Records of the topics that are not read yet; None where Kafka does not answer."""
    write_seconds: float = 0.0
    """That the last batch took."""

    def line(self) -> str:
        """`1,234 readings of 5 DMAs, …`"""
        named = ("readings", "slots", "alert revisions", "commands")
        said = [f"{self.counts.get(name, 0):,} {name}" for name in named]
        said[0] += f" of {len(self.dmas)} DMA{'s' * (len(self.dmas) != 1)}"
        said.append(f"{self.counts.get('rejected', 0):,} rejected")
        if self.gaps:
            said.append(f"{self.gaps} GAPS")
        behind = "Kafka does not answer" if self.behind is None else f"{self.behind:,} records behind"
        return f"archived {', '.join(said)}; {behind}; last batch {self.write_seconds:.1f} s"


class Archiver:
    """Reads from where `store` ends. Use as a context manager."""

    def __init__(
        self,
        bootstrap: str,
        prefix: str,
        store: Store,
        say: Callable[[str], None],
        every_s: float,
        clock: Callable[[], float] = time.monotonic,
        datasets: Sequence[str] = DATASETS,
        on_batch: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        """`datasets`: those to read, of DATASETS. `on_batch` hears of every batch that is kept.

        Raises KafkaUnavailableError.
        """
        self._store, self._say, self._every_s, self._clock, self._on_batch = store, say, every_s, clock, on_batch
        self._datasets = {topic_name(prefix, dataset): dataset for dataset in datasets}
        self._collector = Collector(store)
        self.progress = Progress()
        self._admin, options = connect(bootstrap)
        try:
            self._partitions = partitions_of(self._admin, list(self._datasets))
            self._ids = self._topic_ids()
            # the client's own checksum runs byte by byte in Python: 109 of 187 s of a year of 50 DMAs, profiled (2026-11-28)
            self._consumer = KafkaConsumer(
                bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False, auto_offset_reset="none",
                max_partition_fetch_bytes=4 << 20, fetch_max_bytes=FETCH_BYTES,
                check_crcs=not set(datasets) <= CHECKSUMMED, **options,
            )  # fmt: skip
        except BaseException:
            self._admin.close()
            raise
        self._consumer.assign(self._partitions)

    def __enter__(self) -> Archiver:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()
        self._admin.close()

    def run(
        self, stopped: Callable[[], bool], until_end: bool, on_fetch: Callable[[int, int], None] = lambda *_: None
    ) -> Progress:
        """Until `stopped`, or with `until_end` until everything is kept that the topics held at the start.

        With `until_end` `on_fetch` hears after every fetch how many records are read, and of how many.
        Raises KafkaUnavailableError where nothing comes though there is more, with `until_end`; else it waits for Kafka.
        Whatever the store raises ends it; what is kept by then is whole.
        """
        self._begin()
        goal = self._ends() if until_end else {}
        start = {tp: self._position(tp) for tp in goal}
        written = heard = self._clock()
        told = False
        while not stopped():
            found = self._poll()
            now = self._clock()
            if found:
                heard, told = now, False
            for tp, records in found.items():
                self._take(self._datasets[tp.topic], records)
            if until_end:
                read = (min(self._position(tp), end) - start[tp] for tp, end in goal.items())
                on_fetch(sum(read), sum(goal[tp] - at for tp, at in start.items()))
            if until_end and all(self._position(tp) >= end for tp, end in goal.items()):
                break
            if now - heard > SILENT_SECONDS and not found:
                behind = self._behind()
                if behind != 0 and until_end:
                    raise KafkaUnavailableError(
                        f"Kafka has shown nothing for {SILENT_SECONDS:.0f} s, and "
                        f"{'does not answer' if behind is None else f'{behind} records wait'}; possible: the same command "
                        "again"
                    )
                if behind != 0 and not told:
                    told = True
                    self._say(
                        "Kafka does not answer; waiting" if behind is None else f"nothing comes, {behind} records wait"
                    )
                heard = now
            if now - written >= self._every_s:
                self._look_for_partitions()
                self._commit()
                written = self._clock()
        self._commit()
        return self.progress

    def _position(self, tp: TopicPartition) -> int:
        return self._collector.offsets[self._datasets[tp.topic]].get(tp.partition, 0)

    def _begin(self) -> None:
        """Go to where the store ends, and say what of the log is not there any more."""
        collector = self._collector
        for topic, dataset in self._datasets.items():
            before, now = collector.topic_ids.get(topic), self._ids.get(topic)
            if before is not None and now is not None and before != now:
                for partition, at in sorted(collector.offsets[dataset].items()):
                    reason = (
                        "the topic was made anew: what followed and was not archived is lost; it is read from its beginning"
                    )
                    self._count_gap(topic, collector.skip(dataset, partition, at, reason))
                    del collector.offsets[dataset][partition]
            if now is not None:
                collector.topic_ids[topic] = now
        self._seek(self._partitions)

    def _seek(self, partitions: list[TopicPartition]) -> None:
        firsts, ends = self._consumer.beginning_offsets(partitions), self._consumer.end_offsets(partitions)
        forgotten: dict[str, list[str]] = {}
        for tp in partitions:
            dataset, first = self._datasets[tp.topic], firsts[tp]
            at = self._collector.offsets[dataset].get(tp.partition)
            if at is None:
                # the first time: nothing was promised of what went before
                at = self._collector.offsets[dataset][tp.partition] = first
                if first:
                    forgotten.setdefault(tp.topic, []).append(f"{first} of partition {tp.partition}")
            elif at < first:
                self._lost(
                    dataset, tp, first, f"Kafka's log begins at offset {first}: they were deleted before they were read"
                )
            elif at > ends[tp]:
                reason = f"Kafka's log ends at offset {ends[tp]}, before that: it was cut or made anew, and is read again"
                self._lost(dataset, tp, at, reason)
                self._collector.offsets[dataset][tp.partition] = first
            self._consumer.seek(tp, self._collector.offsets[dataset][tp.partition])
        for topic, begins in forgotten.items():
            self._say(f"{topic} begins at offset {', '.join(begins)}: what was before is gone")

    def _lost(self, dataset: str, tp: TopicPartition, to: int, reason: str) -> None:
        gap = self._collector.skip(dataset, tp.partition, to, reason)
        self._count_gap(tp.topic, gap)

    def _count_gap(self, topic: str, gap: Any) -> None:
        self.progress.gaps += 1
        lost = f"offsets {gap.start} to {gap.end - 1} are not archived" if gap.end > gap.start else f"offset {gap.start}"
        self._say(f"ERROR: GAP: {topic} partition {gap.partition}, {lost}: {gap.reason}")

    def _poll(self) -> dict[TopicPartition, list[Any]]:
        try:
            found: dict[TopicPartition, list[Any]] = self._consumer.poll(timeout_ms=POLL_MS)
        except (OffsetOutOfRangeError, NoOffsetForPartitionError):
            self._seek(self._partitions)
            return {}
        except KafkaError as error:
            if not error.retriable:
                raise
            return {}
        return found

    def _take(self, dataset: str, records: list[Any]) -> None:
        for record in records:
            if record.offset < self._collector.offsets[dataset].get(record.partition, 0):
                continue  # fetched before a seek
            gaps = len(self._collector.batch.gaps)
            self._collector.take(dataset, record)
            for gap in self._collector.batch.gaps[gaps:]:
                self._count_gap(record.topic, gap)
            if self._collector.batch.bytes >= BATCH_BYTES:
                self._commit()

    def _commit(self) -> None:
        """Keep what has come together, if anything has."""
        if not self._collector.records and not self._collector.batch.gaps:
            return
        batch = self._collector.hand_out()
        start = self._clock()
        self._store.commit(batch)
        self._told(batch, self._clock() - start)

    def _told(self, batch: Batch, seconds: float) -> None:
        progress = self.progress
        progress.batches += 1
        progress.write_seconds = seconds
        for name, count in batch.counts.items():
            progress.counts[name] = progress.counts.get(name, 0) + count
        progress.dmas |= batch.readings.keys()
        progress.behind = self._behind()
        self._on_batch(progress)

    def _ends(self) -> dict[TopicPartition, int]:
        return dict(self._consumer.end_offsets(self._partitions))

    def _behind(self) -> int | None:
        """Records that are not read yet; None where Kafka does not answer."""
        try:
            ends = self._ends()
        except KafkaError:
            return None
        return sum(max(0, end - self._position(tp)) for tp, end in ends.items())

    def _look_for_partitions(self) -> None:
        """A topic may be given more while we read; they are read from their first record."""
        try:
            found = partitions_of(self._admin, list(self._datasets))
        except (KafkaError, KafkaUnavailableError):
            return  # it does not answer now, and is asked again
        new = [tp for tp in found if tp not in self._partitions]
        if new:
            self._partitions = [*self._partitions, *new]
            self._consumer.assign(self._partitions)
            self._seek(self._partitions)
            self._say(f"{len(new)} new partitions are read as well")

    def _topic_ids(self) -> dict[str, str]:
        """Topic -> what tells it from one of the same name made later; none of a broker that does not say."""
        told = {topic["name"]: str(topic.get("topic_id")) for topic in self._admin.describe_topics(list(self._datasets))}
        nothing = {"None", "", "00000000-0000-0000-0000-000000000000"}
        return {name: found for name, found in told.items() if found not in nothing}
