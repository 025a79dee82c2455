"""A worker without Kafka, for the tests of what it says of itself; and a parser of what it says to Prometheus."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any

from faust.types import TP

from models.packing import Packing
from streams.blocks import Block
from streams.checkpoints import Bounds
from streams.keeper import Keeper
from streams.metrics import exposition
from streams.progress import Place
from streams.router import Router
from streams.standing import status_json
from streams.watcher import Watcher
from tests.simulation.kafka import Record
from tests.synthetic import START_MS, make_site

RAW, READINGS = TP("p.readings.raw.v1", 0), TP("p.readings.v1", 0)
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class Worker:
    """Of a worker, what its status server asks: real parts, no Kafka."""

    def __init__(self, site: Any = None) -> None:
        self.site, self.prefix, self.version, self.started = site or make_site(), "p", "0.0.0", time.time() - 5
        self.now = 0.0
        self.router = Router(self.site)
        self.keeper = Keeper(Watcher(self.site), "broker", "p", self.post, lambda: self.now)
        self.fault: Exception | None = None
        self.dead_letters = 0
        self.readings_topic = READINGS.topic
        self.assigned: frozenset[TP] | None = None
        self.there: dict[TP, Place] = {}
        self.progress: Any = None
        self.stop = asyncio.Event()

    def post(self, _: Any) -> asyncio.Future[None]:
        posted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        posted.set_result(None)
        return posted

    def places(self) -> dict[TP, Place]:
        return self.there

    def recover(self) -> None:
        """Both partitions are here and caught up with."""
        self.assigned = frozenset((RAW, READINGS))
        self.there = {RAW: Place(7, 5, 9, 7), READINGS: Place(3, None, 3, 3)}
        self.keeper.watcher.restore(0, 1, [], Bounds(None, 0, 0), now=0.0)
        self.keeper.saved.at, self.keeper.recovered = self.now, True

    def take(self, some: Any) -> None:
        """Readings of DMA A."""
        value = Packing(self.site).pack("A", some, "live")
        offset = self.keeper.watcher.owned[0].end
        self.keeper.watcher.watch(Block([Record(READINGS.topic, 0, offset, 0, b"A", value)]))


def raw(value: bytes | None, timestamp: int = START_MS, key: bytes = b"in-A") -> Record:
    return Record(RAW.topic, 0, 0, timestamp, key, value)


def reading(**fields: Any) -> dict[str, Any]:
    return {"meterId": "in-A", "kind": "flow", "value": 1.5, "unit": "m3/h", "observedAt": START_MS} | fields


def parse(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Family -> labels -> value of Prometheus text 0.0.4; fails on whatever is not that."""
    families: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    told: dict[str, set[str]] = {}
    label = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        if line.startswith("#"):
            _, what, name, rest = line.split(" ", 3)
            assert what in ("HELP", "TYPE")
            assert what == "HELP" or rest in ("gauge", "counter")
            assert what not in told.setdefault(name, set()), f"{what} of {name} twice"
            assert name not in families, f"{name} is not in one piece"
            told[name].add(what)
            assert what != "TYPE" or name.endswith("_total") == (rest == "counter"), name
            continue
        found = re.fullmatch(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)", line)
        assert found, line
        assert told[found[1]] == {"HELP", "TYPE"}
        inside, at, labels = found[2] or "", 0, []
        while at < len(inside):
            part = label.match(inside, at)
            assert part, line
            plain = re.sub(r"\\(.)", lambda escape: "\n" if escape[1] == "n" else escape[1], part[2])
            labels.append((part[1], plain))
            at = part.end()
        key = tuple(sorted(labels))
        assert key not in families.setdefault(found[1], {}), f"twice: {line}"
        families[found[1]][key] = float(found[3])
    return families


def metrics_of(worker: Worker) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    return parse(asyncio.run(exposition(worker)).decode())  # type: ignore[arg-type]


def status_of(worker: Worker) -> Any:
    return json.loads(asyncio.run(status_json(worker)))  # type: ignore[arg-type]
