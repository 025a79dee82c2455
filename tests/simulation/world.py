"""Kafka as lists, workers as objects, and everything that can go wrong in between, by a seed.

The real `Router`, `Watcher` and `checkpoints` run in it; only Faust, the network and the clock are played. A publish that
is cut short by a kill leaves some prefix of its messages in each partition, as Kafka would. A worker that lost its
partitions without knowing (a zombie) goes on publishing and writing checkpoints; its commits are refused.
"""

from __future__ import annotations

import json
import random
import zlib
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, Final

from models import cloudevents
from models.network import Site
from models.routing import split
from models.schema import Alert, Readings
from streams import checkpoints
from streams.blocks import Block
from streams.checkpoints import Bounds, Checkpoint
from streams.outbox import Message
from streams.router import Router
from streams.topics import ALERTS, CHECKPOINTS, DEAD_LETTERS, DETECTIONS, OPEN_ALERTS, RAW, READINGS
from streams.watcher import Watcher
from streams.worker import BLOCKS_UNDER_WAY
from tests.simulation import swaps
from tests.simulation.kafka import PARTITIONS, Kafka
from tests.synthetic import DAY, make_site, readings, step_between

QUIET_DAYS, DAYS = 21, 25
PACE_MS: Final = 60 * 60_000
"""What is published and not yet routed spans no more event time than this: an outage is not what is simulated here."""
DELAY_MS: Final = 90 * 60_000
"""So late a reading may come; with the pace it stays below the site's lateness of four hours."""


class KilledError(Exception):
    """The worker is dead from here on."""


@cache
def quiet() -> tuple[Site, Readings, dict[str, bytes]]:
    """The site, the readings after three quiet weeks, and each engine's state at their end."""
    from models.engine import Engine  # noqa: PLC0415 - compiles

    site = make_site()
    burst = step_between(DAYS, 22 * DAY + 30, 24 * DAY, 10.0)
    block = readings(DAYS, seed=1, b=burst)
    cut = int((block["time_ms"] <= block["time_ms"][0] + (QUIET_DAYS * DAY - 1) * 900_000).sum())
    engines = {dma.id: Engine(site, dma.id) for dma in site.dmas}
    for row, part in split(block[:cut], site.subscribers()):
        engines[site.dmas[row].id].step(part)
    return site, block[cut:], {dma: engine.snapshot() for dma, engine in engines.items()}


def wire(site: Site, row: Any) -> tuple[bytes, bytes]:
    """Key and value of one reading."""
    meter = site.meters[int(row["meter"])]
    unit = "kPa" if meter.kind == "pressure" else "m3/h"
    body = {"meterId": meter.id, "kind": meter.kind, "value": float(row["value"]), "unit": unit}
    return meter.id.encode(), json.dumps(body | {"observedAt": int(row["time_ms"])}).encode()


def expected() -> tuple[dict[tuple[str, int], Alert], dict[tuple[str, int], bytes]]:
    """Alerts, and detection rows by DMA and slot, of one uninterrupted pass."""
    from models.engine import Engine  # noqa: PLC0415

    site, block, states = quiet()
    alerts, slots = {}, {}
    for dma, state in states.items():
        engine = Engine(site, dma)
        engine.restore(state)
        mine = {site.dmas[row].id: part for row, part in split(block, site.subscribers())}[dma]
        result = engine.step(mine)
        alerts.update({(alert.alert_id, alert.revision): alert for alert in result.alerts})
        slots.update({(dma, int(row["slot_end_ms"])): swaps.shown(row) for row in result.detections})
    return alerts, slots


class Worker:
    """One life of a worker process."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number
        self.watcher = Watcher(quiet()[0], swaps.shelf_of(world.kafka))
        self.raw_at: dict[int, int] = {}
        self.under_way: deque[tuple[list[Message], Callable[[], None] | None]] = deque()
        self.is_zombie = False

    def take(self, partitions: list[int]) -> None:
        """After a rebalance: these partitions of both topics, from where they go on."""
        kafka = self.world.kafka
        self.raw_at = {number: kafka.committed.get((RAW, number), 0) for number in partitions}
        self.watcher.drop(list(self.watcher.owned))
        for number in partitions:
            records = [checkpoints.Record(r.key, r.value) for r in kafka.logs[CHECKPOINTS, number]]
            self.watcher.shelf.bring(self.watcher.publications_of(records))
            bounds = Bounds(kafka.committed.get((READINGS, number)), 0, len(kafka.logs[READINGS, number]))
            self.watcher.restore(number, PARTITIONS, records, bounds, now=self.world.clock)

    def post(self, messages: list[Message], then: Callable[[], None] | None = None) -> None:
        """On their way, behind what is; `then` once they are confirmed."""
        self.under_way.append((messages, then))
        if len(self.under_way) > BLOCKS_UNDER_WAY:
            self.confirm(1)
        if self.world.random.random() < 0.5:
            self.confirm(self.world.random.randint(0, len(self.under_way)))

    def confirm(self, count: int | None = None) -> None:
        """The oldest so many posts, or all; up to a kill a prefix of everything in each partition."""
        world = self.world
        for _ in range(len(self.under_way) if count is None else count):
            messages, then = self.under_way[0]
            if messages and world.chance("kill in a publish", world.kill):
                of_partition: dict[tuple[str, int], list[Message]] = defaultdict(list)
                for message in (message for posted, _ in self.under_way for message in posted):
                    number = message.partition if message.partition is not None else zlib.crc32(message.key) % PARTITIONS
                    of_partition[message.dataset, number].append(message)
                for some in of_partition.values():
                    for message in some[: world.random.randint(0, len(some))]:
                        world.kafka.append(message)
                raise KilledError
            self.under_way.popleft()
            for message in messages:
                world.kafka.append(message)
            if then is not None:
                then()

    def commit(self, topic: str, partition: int, offset: int) -> None:
        if self.world.chance("kill before a commit", self.world.kill):
            raise KilledError
        if self.world.kafka.owner.get((topic, partition)) == self.number and not self.is_zombie:
            before = self.world.kafka.committed.get((topic, partition), 0)
            self.world.kafka.committed[topic, partition] = max(before, offset)

    def block(self, topic: str, partition: int, at: int) -> Block | None:
        log = self.world.kafka.logs[topic, partition]
        if at >= len(log):
            return None
        size = self.world.random.choice((1, 2, 5, 20, 100))
        return Block(log[at : at + size])

    def route(self, partition: int) -> bool:
        block = self.block(RAW, partition, self.raw_at[partition])
        if block is None:
            return False
        end = block.end
        self.post(self.world.router.route(block), lambda: self.commit(RAW, partition, end))
        self.raw_at[partition] = end
        return True

    def watch(self, partition: int) -> bool:
        block = self.block(READINGS, partition, self.watcher.owned[partition].end)
        if block is None:
            return False
        committed = self.world.kafka.committed.get((READINGS, partition), 0)
        self.watcher.shelf.bring(self.watcher.publications_in(block))
        messages, _ = self.watcher.watch(block, publish=block.end > committed)
        self.watcher.tidy()
        self.post(messages)
        return True

    def checkpoint(self, everything: bool = False) -> None:
        self.confirm()
        ends = {number: owned.end for number, owned in self.watcher.owned.items()}
        for number in ends:
            self.post(self.watcher.checkpoint(number, PARTITIONS, self.world.clock, everything))
        self.confirm()
        for number, end in ends.items():
            self.commit(READINGS, number, end)


class World:
    """One seed."""

    def __init__(self, seed: int, kill: float = 0.01, promote: float = 0.0) -> None:
        """`promote`: so often in a step a model is promoted, put in shadow or taken away, some of them torn."""
        self.promote = promote
        self.random = random.Random(seed)  # noqa: S311 - a simulation
        self.kill = kill
        self.injected: Counter[str] = Counter()
        self.kafka = Kafka()
        self.clock = 0.0
        self.site, self.rest, states = quiet()
        self.router = Router(self.site)
        self.torn: set[tuple[int, int]] = set()
        self.planted: set[tuple[int, int]] = set()
        for dma, state in states.items():
            number = zlib.crc32(dma.encode()) % PARTITIONS
            known = tuple(sorted(d for d in states if zlib.crc32(d.encode()) % PARTITIONS == number))
            value = checkpoints.pack(Checkpoint(dma, number, PARTITIONS, 0, 0, None, known, {}, state))
            self.kafka.append(Message(CHECKPOINTS, dma.encode(), value, [], number))
        self.begun = {number: list(self.kafka.logs[CHECKPOINTS, number]) for number in range(PARTITIONS)}
        self.refused: set[tuple[int, int]] = set()
        self.feed = self._feed()
        self.workers: list[Worker] = []
        self.zombies: list[Worker] = []
        self.rebalance()

    def chance(self, what: str, share: float) -> bool:
        hit = self.random.random() < share
        self.injected[what] += hit
        return hit

    def _feed(self) -> list[tuple[int, bytes, bytes, bool]]:
        """Arrival time, key, value and whether it is poison; delayed, duplicated, reordered."""
        rows = []
        for row in self.rest:
            time_ms = int(row["time_ms"])
            key, value = wire(self.site, row)
            delay = self.random.randrange(DELAY_MS) if self.chance("delayed reading", 0.2) else 0
            rows.append((time_ms + delay, key, value, False))
            if self.chance("duplicated reading", 0.1):
                rows.append((time_ms + self.random.randrange(DELAY_MS), key, value, False))
            if self.chance("poison", 0.1):
                poison = self.random.choice(
                    (
                        b"{",
                        b"\xff\xff",
                        b"[]]",
                        value.replace(b"m3/h", b"furlong"),
                        value.replace(key, b"nobody"),
                        value[:-9],
                    )
                )
                if poison != value:
                    rows.append((time_ms, key, poison, True))
        rows.sort(key=lambda row: row[0])
        return rows

    def rebalance(self) -> None:
        """New lives or new shares for one to three workers; an old one may not have heard of it."""
        for worker in self.workers:
            if self.chance("zombie", 0.3):
                worker.is_zombie = True
                self.zombies.append(worker)
            elif self.random.random() < 0.5:  # a handover with a last checkpoint, or none in time
                self.guarded(worker, worker.checkpoint)
        count = self.random.randint(1, PARTITIONS)
        self.injected[f"rebalance to {count} workers"] += 1
        numbers = list(range(PARTITIONS))
        self.random.shuffle(numbers)
        self.workers = [Worker(self, self.random.getrandbits(60)) for _ in range(count)]
        for at, worker in enumerate(self.workers):
            mine = numbers[at::count]
            for number in mine:
                self.kafka.owner[RAW, number] = self.kafka.owner[READINGS, number] = worker.number
            worker.take(mine)

    def guarded(self, worker: Worker, action: Any, *args: Any) -> Any:
        """A step of a worker, which may be its last."""
        try:
            return action(*args)
        except KilledError:
            if worker in self.zombies:
                self.zombies.remove(worker)
            elif worker in self.workers:
                partitions = list(worker.raw_at)
                self.workers.remove(worker)
                heir = Worker(self, self.random.getrandbits(60))
                for number in partitions:
                    self.kafka.owner[RAW, number] = self.kafka.owner[READINGS, number] = heir.number
                heir.take(partitions)
                self.workers.append(heir)
            return True

    def step(self) -> None:
        """One random step of one worker, living or thought dead."""
        self.clock += self.random.choice((0.01, 1.0, 300.0))
        worker = self.random.choice(self.zombies if self.zombies and self.random.random() < 0.2 else self.workers)
        action = self.random.choice(("route", "route", "watch", "watch", "checkpoint"))
        if action == "checkpoint":
            if self.random.random() < 0.3:
                self.guarded(worker, worker.checkpoint, self.random.random() < 0.1)
        else:
            self.guarded(worker, getattr(worker, action), self.random.choice(list(worker.raw_at)))
        if self.zombies and self.random.random() < 0.01:
            self.zombies.pop(self.random.randrange(len(self.zombies)))
        if self.random.random() < 0.002:
            self.rebalance()
        if self.random.random() < 0.003:
            self.injected["compaction"] += 1
            self.compact()
        if self.random.random() < 0.002:
            self.tear()
        if self.promote and self.random.random() < self.promote:
            swaps.say_model(self)

    def compact(self) -> None:
        """Keep the newest record of each key but those of the last few records. Offsets of this topic are never used."""
        for number in range(PARTITIONS):
            log = self.kafka.logs[CHECKPOINTS, number]
            if self.torn & {(number, record.offset) for record in log[-20:]}:
                continue  # with the older one gone there would be nothing to fall back on
            clean, rest = log[:-2], log[-2:]
            newest = {record.key: record for record in clean}
            self.kafka.logs[CHECKPOINTS, number] = [r for r in clean if newest[r.key] is r] + rest

    def tear(self) -> None:
        """One bit of the newest checkpoint of a partition, where an older one of that DMA can serve."""
        log = self.kafka.logs[CHECKPOINTS, self.random.randrange(PARTITIONS)]
        older = [record for record in log[:-1] if record.key == log[-1].key]
        if older and (log[-1].partition, older[-1].offset) not in self.torn and log[-1].value:
            self.torn.add((log[-1].partition, log[-1].offset))
            torn = bytearray(log[-1].value)
            torn[self.random.randrange(len(torn))] ^= 1 << self.random.randrange(8)
            log[-1] = replace(log[-1], value=bytes(torn))
            self.injected["torn checkpoint"] += 1

    def lag_ms(self) -> int:
        """Event time between what is published last and the oldest raw message that is not routed."""
        oldest = [
            self.kafka.logs[RAW, number][self.kafka.committed.get((RAW, number), 0)].timestamp
            for number in range(PARTITIONS)
            if self.kafka.committed.get((RAW, number), 0) < len(self.kafka.logs[RAW, number])
        ]
        newest = max((log[-1].timestamp for (topic, _), log in self.kafka.logs.items() if topic == RAW and log), default=0)
        return newest - min(oldest, default=newest)

    def run(self) -> None:
        """Feed everything, and go on until nothing is left to do."""
        at = 0
        while at < len(self.feed):
            while at < len(self.feed) and self.lag_ms() < PACE_MS:
                for arrival, key, value, is_poison in self.feed[at : at + self.random.randint(1, 8)]:
                    number = zlib.crc32(key) % PARTITIONS
                    if is_poison:
                        self.planted.add((number, len(self.kafka.logs[RAW, number])))
                    self.kafka.append(Message(RAW, key, value, []), timestamp=arrival)
                    at += 1
            self.step()
        self.kill = 0.0
        self.zombies.clear()
        for worker in self.workers:
            for number in worker.raw_at:
                while worker.route(number):
                    pass
            worker.confirm()
        for worker in self.workers:
            for number in worker.raw_at:
                while worker.watch(number):
                    pass
            worker.checkpoint()

    def counts(self) -> list[str]:
        """Each message counts once in each DMA that reads its meter, however often it was published."""
        from models.engine import Engine  # noqa: PLC0415

        sent = Counter(self.site.meter_row[key.decode()] for _, key, _, is_poison in self.feed if not is_poison)
        faults = []
        for worker in self.workers:
            for owned in worker.watcher.owned.values():
                for dma, watched in owned.states.items():
                    before = Engine(self.site, dma)
                    before.restore(quiet()[2][dma])
                    more = watched.engine._buffers.channels["readings"] - before._buffers.channels["readings"]
                    wanted = [sent[row] for row in self.site.channels(dma)]
                    if more.tolist() != wanted:
                        faults.append(f"readings of {dma}: {more.tolist()} were counted, {wanted} were sent")
        return faults

    def check(self) -> list[str]:
        """What was lost or is there twice with two contents; nothing, if the promise holds."""
        alerts, slots = swaps.read_again(self) if self.promote else expected()
        faults = []
        contents: dict[tuple[str, int], bytes | None] = {}
        found: dict[tuple[str, int], Alert] = {}
        for record in self.kafka.all_of(ALERTS):
            alert = cloudevents.decode(record.headers, record.value)
            key = alert.alert_id, alert.revision
            if contents.setdefault(key, record.value) != record.value:
                faults.append(f"two contents of {key}")
            found[key] = alert
        if found != alerts:
            faults.append(f"alerts: {len(alerts.keys() - found.keys())} lost, {len(found.keys() - alerts.keys())} invented")
        rows = swaps.slots_of(record.value or b"" for record in self.kafka.all_of(DETECTIONS))
        if rows != slots:
            faults.append(f"slots: {len(slots.keys() - rows.keys())} lost, {len(rows.keys() - slots.keys())} invented")
        faults += self.counts()
        letters: dict[str, set[tuple[int, int]]] = {RAW: set(), READINGS: set()}
        for record in self.kafka.all_of(DEAD_LETTERS):
            headers = dict(record.headers)
            letters[headers["topic"].decode()].add((int(headers["partition"]), int(headers["offset"])))
        for found_of, planted in ((letters[RAW], self.planted), (letters[READINGS], self.refused)):
            if found_of != planted:
                faults.append(f"dead letters: {len(planted - found_of)} lost, {len(found_of - planted)} invented")
        still_open = {r.key: r.value for r in self.kafka.all_of(OPEN_ALERTS)}
        newest = {a.alert_id.encode(): a for _, a in sorted(alerts.items(), key=lambda item: item[0][1])}
        if not self.injected["zombie"] and {k for k, v in still_open.items() if v} != set(newest):
            faults.append("alerts.open.v1 does not hold the open alerts")
        return faults
