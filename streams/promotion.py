"""Says to the workers which model to judge with: the bundle to `models.v1`, and then one control record for each DMA.

The control records are sent once Kafka has confirmed the bundle, so whoever reads one finds it. Sent twice, which a retry
may do, one changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from kafka import KafkaProducer
from kafka.errors import KafkaError

from streams.control import SCHEMA_VERSION, Control, Role, control_message
from streams.published import Named, digest_of, name_of, new_publication, pack_bundle
from streams.shelf import read_models
from streams.topics import MODELS, READINGS, REQUEST_LIMIT, KafkaUnavailableError, client_options, missing_topics, topic_name

if TYPE_CHECKING:
    from models.bundle import Bundle

CONFIRM_SECONDS: Final = 60.0
INTRODUCED: Final = "introduced|"
"""Keys of models.v1 that begin so name a DMA to which a folder's champion was introduced; that they are there counts."""


class HalfPublishedError(KafkaUnavailableError):
    """Some DMAs were told and others not; the message is one clear line."""


@dataclass(frozen=True)
class Placed:
    """Where in `readings.v1` the control record of a DMA lies: from this offset on it is judged with the model."""

    dma: str
    partition: int
    offset: int


@dataclass(frozen=True)
class Words:
    """What a control record tells people."""

    promoted_at: str
    by: str
    reason: str | None = None


def publish(bootstrap: str, prefix: str, wanted: Mapping[str, Bundle | None], role: Role, words: Words) -> list[Placed]:
    """Let each DMA of `wanted` be judged with its bundle, or none. Returns once Kafka has confirmed everything.

    Raises KafkaUnavailableError where nothing was said to any worker, HalfPublishedError where some DMAs were told (do it
    again), ValueError for a bundle that is too large.
    """
    missing = missing_topics(bootstrap, prefix)
    if missing:
        raise KafkaUnavailableError(
            f"Kafka at {bootstrap} has no topic {', '.join(missing)}; create them with: "
            f"nightline topics apply --bootstrap {bootstrap} --prefix {prefix}"
        )
    with _producer(bootstrap) as producer:
        named = _publish_bundles(producer, prefix, wanted)
        return _tell(producer, prefix, {dma: _control(dma, named[dma], role, words) for dma in wanted})


def introduce(bootstrap: str, prefix: str, champions: Mapping[str, Bundle], words: Words) -> list[str]:
    """Publish the champions of a folder for DMAs to which none was introduced yet, as initial ones; returns these DMAs.

    A worker does it before it joins the group. Two at once, or one that is killed over it, only say it twice.
    """
    if not champions:
        return []
    try:
        known = read_models(bootstrap, prefix, [INTRODUCED + dma for dma in champions])
    except (KafkaError, TimeoutError) as error:
        raise KafkaUnavailableError(f"{MODELS} at {bootstrap} cannot be read: {_plain(error)}") from error
    fresh = {dma: bundle for dma, bundle in champions.items() if INTRODUCED + dma not in known}
    if fresh:
        with _producer(bootstrap) as producer:
            named = _publish_bundles(producer, prefix, fresh)
            controls = {dma: _control(dma, named[dma], "champion", words, initial=True) for dma in fresh}
            _tell(producer, prefix, controls)
            for dma, bundle in fresh.items():
                value = msgspec.json.encode({"version": bundle.version, "at": words.promoted_at})
                producer.send(topic_name(prefix, MODELS), key=(INTRODUCED + dma).encode(), value=value).get(CONFIRM_SECONDS)
    return sorted(fresh)


def _control(dma: str, named: Named | None, role: Role, words: Words, initial: bool = False) -> Control:
    return Control(
        schema_version=SCHEMA_VERSION, dma=dma, role=role, model=named, initial=initial, promoted_at=words.promoted_at,
        by=words.by, reason=words.reason,
    )  # fmt: skip


@contextmanager
def _producer(bootstrap: str) -> Iterator[KafkaProducer]:
    try:
        producer = KafkaProducer(
            bootstrap_servers=bootstrap, acks="all", max_request_size=REQUEST_LIMIT, **client_options(bootstrap)
        )
    except (KafkaError, OSError, ValueError) as error:
        raise KafkaUnavailableError(f"no Kafka broker answers at {bootstrap}: {_plain(error)}") from None
    try:
        yield producer
    except KafkaError as error:
        raise KafkaUnavailableError(
            f"Kafka at {bootstrap} refuses: {_plain(error)}; nothing was said to any worker"
        ) from error
    finally:
        producer.close()


def _plain(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _publish_bundles(producer: KafkaProducer, prefix: str, wanted: Mapping[str, Bundle | None]) -> dict[str, Named | None]:
    """Each bundle once, confirmed; the name of each DMA's."""
    published: dict[str, Named] = {}
    named: dict[str, Named | None] = {}
    for dma, bundle in wanted.items():
        if bundle is None:
            named[dma] = None
            continue
        value = pack_bundle(bundle)
        digest = digest_of(value)
        if digest not in published:
            publication = new_publication(bundle)
            producer.send(topic_name(prefix, MODELS), key=publication.encode(), value=value).get(CONFIRM_SECONDS)
            published[digest] = name_of(bundle, publication)
        named[dma] = published[digest]
    return named


def _tell(producer: KafkaProducer, prefix: str, controls: Mapping[str, Control]) -> list[Placed]:
    topic = topic_name(prefix, READINGS)
    placed: list[Placed] = []
    for dma, control in controls.items():
        message = control_message(control)
        try:
            sent: Any = producer.send(topic, key=message.key, value=message.value, headers=message.headers).get(
                CONFIRM_SECONDS
            )
        except KafkaError as error:
            if not placed:
                raise
            told = ", ".join(one.dma for one in placed)
            raise HalfPublishedError(
                f"Kafka refused the control record of DMA {dma}: {_plain(error)}; told were {told}, the others not; "
                "possible: the same command again"
            ) from error
        placed.append(Placed(dma, sent.partition, sent.offset))
    return placed
