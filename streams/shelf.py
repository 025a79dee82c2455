"""The models that a worker has at hand: those of the site's folder, and those it has read from `models.v1`.

A control record names a publication; what is found there is judged once, and the judgement kept. It must not depend on
who judges, and when: a publication is looked for on `models.v1` alone, whatever the worker's own folder may hold.
A state names the model that scored it; that one was accepted before, so any copy with the same digest will do.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from kafka import KafkaConsumer, TopicPartition

from models.bundle import Bundle
from streams.published import Named, digest_of, name_of, unpack_bundle
from streams.topics import EMBEDDED_OPTIONS, MODELS, client_options, topic_name

log = logging.getLogger("nightline")

READ_SECONDS: Final = 60.0

Read = Callable[[Collection[str]], Mapping[str, bytes]]
"""The values of these publications, of those that are there. May block; raises where the topic cannot be read."""
Load = Callable[[str, str], Bundle | None]
"""Scope and version -> the bundle of the site's folder; None where it has none, or it cannot be used."""


def _nothing_published(_: Collection[str]) -> Mapping[str, bytes]:
    return {}


def _no_folder(_: str, __: str) -> None:
    return None


class Shelf:
    """See above."""

    def __init__(self, read: Read = _nothing_published, load: Load = _no_folder) -> None:
        self._read, self._load = read, load
        self._found: dict[str, tuple[str, Bundle] | str] = {}
        """Publication -> digest and bundle, or what is wrong with it."""
        self._own: dict[str, Bundle] = {}
        """Digest -> bundle that came with the folder."""

    def misses(self, publications: Iterable[str | None]) -> set[str]:
        """Those of which nothing is known yet."""
        return {one for one in publications if one is not None} - self._found.keys()

    def bring(self, publications: Collection[str]) -> None:
        """Read and judge these. Blocks; for a thread."""
        values = self._read(publications) if publications else {}
        for publication in publications:
            value = values.get(publication)
            if value is None:
                self._found[publication] = f"publication {publication!r} is not on {MODELS}"
                continue
            try:
                self._found[publication] = digest_of(value), unpack_bundle(value)
            except ValueError as error:
                self._found[publication] = f"publication {publication!r} of {MODELS}: {error}"

    def judged(self, named: Named, dma: str) -> Bundle:
        """The published bundle, if it is what its name says and may judge this DMA. Raises ValueError."""
        if named.publication is None:
            raise ValueError("control record names no publication; possible: the key of a message on models.v1")
        if named.publication not in self._found:  # not a fault of the record: it must not be refused for it
            raise RuntimeError(f"publication {named.publication!r} was not looked for")
        found = self._found[named.publication]
        if isinstance(found, str):
            raise ValueError(found)
        digest, bundle = found
        where = f"publication {named.publication!r} of {MODELS}"
        if digest != named.digest:
            raise ValueError(f"{where}: sha256 is {digest[:12]}…; the control record says {named.digest[:12]}…")
        for what, has, says in (
            ("id", bundle.id, named.id),
            ("version", bundle.version, named.version),
            ("scope", bundle.scope, named.scope),
            ("arrays sha256", bundle.sha256, named.sha256),
        ):
            if has != says:
                raise ValueError(f"{where}: {what} is {has!r}; the control record says {says!r}")
        if bundle.scope not in ("*", dma):
            raise ValueError(f"{where}: it is of scope {bundle.scope!r}; possible: '*' or {dma!r}")
        return bundle

    def of_state(self, named: Named) -> Bundle | None:
        """The bundle of this digest, wherever it is; None where it is nowhere."""
        if named.digest in self._own:
            return self._own[named.digest]
        found = self._found.get(named.publication or "")
        if isinstance(found, tuple) and found[0] == named.digest:
            return found[1]
        self._own_named(named.scope, named.version)
        return self._own.get(named.digest)

    def by_version(self, scopes: Iterable[str], version: str) -> Named | None:
        """The folder's model of this version, of the first scope that has it: states before 2026-11-28 tell no more."""
        for scope in scopes:
            named = self._own_named(scope, version)
            if named is not None:
                return named
        return None

    def _own_named(self, scope: str, version: str) -> Named | None:
        own = self._load(scope, version)
        if own is None:
            return None
        named = name_of(own)
        self._own[named.digest] = own
        return named

    def keep_only(self, publications: Collection[str]) -> None:
        """Let go of bundles that no state uses; what was refused stays known."""
        self._found = {key: one for key, one in self._found.items() if isinstance(one, str) or key in publications}


def read_models(bootstrap: str, prefix: str, wanted: Collection[str]) -> dict[str, bytes]:
    """The newest value of each publication that is on `models.v1`. Blocks; raises TimeoutError when it cannot be read."""
    topic, keys = topic_name(prefix, MODELS), {one.encode(): one for one in wanted}
    options = client_options(bootstrap)
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, max_partition_fetch_bytes=32 << 20,
        fetch_max_bytes=64 << 20, **options,
    )  # fmt: skip
    found: dict[str, bytes] = {}
    try:
        tps = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        if not tps and options == EMBEDDED_OPTIONS:
            return found  # there a topic is made when it is first written to
        if not tps:  # or a model would be refused for good by this worker, and taken by others
            raise TimeoutError(f"{topic} is not there, or its broker does not say where; possible: nightline topics apply")
        consumer.assign(tps)
        consumer.seek_to_beginning(*tps)
        ends = consumer.end_offsets(tps)
        deadline = time.monotonic() + READ_SECONDS
        while any(consumer.position(tp) < ends[tp] for tp in tps):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{topic} could not be read to its end within {READ_SECONDS:.0f} s")
            for batch in consumer.poll(timeout_ms=200).values():
                for record in batch:
                    name = keys.get(record.key)
                    if name is not None:
                        if record.value is None:
                            found.pop(name, None)
                        else:
                            found[name] = record.value
    finally:
        consumer.close()
    return found
