"""Models in the simulation: promoted, put in shadow and taken away at any moment, some of them torn."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle, DetectorCalibration
from models.schema import Alert
from models.state import DETECTION, INNER
from streams import checkpoints
from streams.blocks import Block
from streams.checkpoints import Bounds
from streams.control import SCHEMA_VERSION, Control, Role, control_message
from streams.detections import unpack_detections
from streams.outbox import Message
from streams.published import name_of, new_publication, pack_bundle
from streams.shelf import Shelf
from streams.topics import DETECTIONS, MODELS, READINGS
from streams.watcher import Watcher
from tests.simulation.kafka import PARTITIONS, Kafka
from tests.synthetic import make_site
from tests.test_bundle import make

if TYPE_CHECKING:
    from tests.simulation.world import World


@cache
def models() -> tuple[Bundle, ...]:
    """Two that differ; labels have changed thresholds of the second."""
    first, second = make(seed=0), make(seed=1)
    law = DetectorCalibration(mean=1.0, sd=0.3, days=60, return_days=90.0, threshold=2.0, engine_threshold=3.0)
    detectors = {dma.id: {"burst": law, "night_flow": law} for dma in make_site().dmas}
    return first, replace(second, manifest=msgspec.structs.replace(second.manifest, detectors=detectors))


def slots_of(blobs: Iterable[bytes]) -> dict[tuple[str, int], bytes]:
    """By DMA and end of slot, what `detections.v1` says of it, and of which models."""
    rows = {}
    for blob in blobs:
        part = unpack_detections(blob)
        by = b"" if part.model is None and part.challenger is None else repr((part.model, part.challenger)).encode()
        for at, end_ms in enumerate(part.columns["slot_end_ms"].tolist()):
            rows[part.dma, end_ms] = b"".join(part.columns[name][at].tobytes() for name in part.columns) + by
    return rows


def shown(row: NDArray[np.void]) -> bytes:
    """A DETECTION row as `slots_of` has it."""
    return b"".join(row[name].tobytes() for name in DETECTION.names or () if name not in INNER)


def shelf_of(kafka: Kafka) -> Shelf:
    """Of a worker that reads `models.v1`."""

    def read(wanted: Collection[str]) -> dict[str, bytes]:
        found = {record.key.decode(): record.value for record in kafka.all_of(MODELS)}
        return {name: value for name in wanted if (value := found.get(name)) is not None}

    return Shelf(read)


def say_model(world: World) -> None:
    """Publish a model and say so to some DMAs; to each of them it comes at another place of what else is written."""
    bundle = world.random.choice((*models(), None))
    role: Role = world.random.choice(("champion", "champion", "challenger"))
    named, is_torn = None, False
    if bundle is not None:
        publication = new_publication(bundle)
        named = name_of(bundle, publication)
        value = pack_bundle(bundle)
        is_torn = world.chance("torn model", 0.3)
        if is_torn:
            value = value[: world.random.randrange(len(value))]
        world.kafka.append(Message(MODELS, publication.encode(), value, []))
    for dma in world.site.dmas:
        if world.random.random() < 0.7:
            control = Control(schema_version=SCHEMA_VERSION, dma=dma.id, role=role, model=named)
            world.kafka.append(control_message(control))
            world.injected[f"{role} named"] += 1
            number = zlib.crc32(dma.id.encode()) % PARTITIONS
            if is_torn:
                world.refused.add((number, world.kafka.logs[READINGS, number][-1].offset))


def read_again(world: World) -> tuple[dict[tuple[str, int], Alert], dict[tuple[str, int], bytes]]:
    """What one reader makes of the whole log of `readings.v1`, in one block a partition."""
    watcher = Watcher(world.site, shelf_of(world.kafka))
    alerts: dict[tuple[str, int], Alert] = {}
    slots: dict[tuple[str, int], bytes] = {}
    for number in range(PARTITIONS):
        log = world.kafka.logs[READINGS, number]
        saved = [checkpoints.Record(r.key, r.value) for r in world.begun[number]]
        watcher.restore(number, PARTITIONS, saved, Bounds(None, 0, len(log)), now=0.0)
        if log:
            block = Block(log)
            watcher.shelf.bring(watcher.publications_in(block))
            messages, said = watcher.watch(block)
            alerts.update({(alert.alert_id, alert.revision): alert for alert in said})
            slots.update(slots_of(m.value or b"" for m in messages if m.dataset == DETECTIONS))
    return alerts, slots
