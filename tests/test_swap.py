"""A swap lies in the log: wherever blocks end and workers start anew, the same alerts, before it and after it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest

from models import cloudevents
from models.bundle import ARRAYS, MANIFEST, Bundle
from models.forest import score
from models.packing import Packing
from models.routing import split
from models.schema import ModelRef
from streams import control as controls
from streams.blocks import Block
from streams.checkpoints import Bounds
from streams.checkpoints import Record as Saved
from streams.control import HEADER, Control, control_message
from streams.detections import Detections, unpack_detections
from streams.outbox import Message
from streams.published import Named, digest_of, name_of, pack_bundle, unpack_bundle
from streams.shelf import Shelf, read_models
from streams.swap import SHADOW_SCORE
from streams.topics import ALERTS, DEAD_LETTERS, DETECTIONS
from streams.watcher import Watcher
from tests.simulation.kafka import Record
from tests.status_bench import Worker, metrics_of, status_of
from tests.synthetic import DAY, daily, make_site, readings, step_between
from tests.test_bundle import changed, make

SITE = make_site()
DAYS = 35
AT = 31
"""Days that are in the log before the swap: the burst in A has begun and lasts."""


@cache
def model(seed: int) -> Bundle:
    return make(seed=seed)


@cache
def log() -> tuple[tuple[bytes, bytes, int], ...]:
    """Key, value and day of the packed readings of a town with a burst in A that lasts and one in C that ends."""
    burst = step_between(DAYS, 28 * DAY, DAYS * DAY, 12.0)
    other = step_between(DAYS, 30 * DAY + 30, 30 * DAY + 96, 25.0)
    packing, found = Packing(SITE), []
    for day, block in enumerate(daily(readings(DAYS, a=burst, c=other))):
        for row, part in split(block, SITE.subscribers()):
            dma = SITE.dmas[row].id
            found.append((dma.encode(), packing.pack(dma, part, "live"), day))
    return tuple(found)


def published(bundle: Bundle, publication: str = "p") -> Named:
    return name_of(bundle, publication)


def said(dma: str, named: Named | None, **fields: Any) -> Message:
    values = {"schema_version": "1.0", "dma": dma, "role": "champion", "model": named}
    return control_message(Control(**values | fields))


def everywhere(named: Named | None, day: int = AT, **fields: Any) -> dict[int, list[Message]]:
    return {day: [said(dma.id, named, **fields) for dma in SITE.dmas]}


def records(orders: Mapping[int, Iterable[Message]]) -> list[Record]:
    """The log with messages put in before the readings of their day."""
    found: list[Record] = []

    def add(key: bytes, value: bytes | None, headers: Iterable[tuple[str, bytes]] = ()) -> None:
        found.append(Record("t.readings.v1", 0, len(found), 0, key, value, tuple(headers)))

    days = iter(sorted(orders))
    due = next(days, None)
    for key, value, day in log():
        while due is not None and due <= day:
            for message in orders[due]:
                add(message.key, message.value, message.headers)
            due = next(days, None)
        add(key, value)
    return found


@dataclass
class Came:
    """What came out of a log."""

    alerts: list[tuple[bytes, bytes | None, Any]] = field(default_factory=list)
    detections: list[Detections] = field(default_factory=list)
    letters: list[str] = field(default_factory=list)
    watcher: Any = None

    def add(self, messages: Iterable[Message]) -> None:
        for message in messages:
            if message.dataset == ALERTS:
                self.alerts.append((message.key, message.value, message.headers))
            elif message.dataset == DETECTIONS:
                self.detections.append(unpack_detections(message.value or b""))
            elif message.dataset == DEAD_LETTERS:
                self.letters.append(dict(message.headers)["reason"].decode())

    def rows(self, *columns: str) -> dict[tuple[str, int], tuple[bytes, ...]]:
        """By DMA and slot, the bytes of each column."""
        return {
            (part.dma, end): tuple(part.columns[name][at].tobytes() for name in columns or part.columns)
            for part in self.detections
            for at, end in enumerate(part.columns["slot_end_ms"].tolist())
        }

    def models(self) -> dict[str, list[ModelRef | None]]:
        """By DMA, the models of its slots, each as often as it came anew."""
        found: dict[str, list[ModelRef | None]] = {}
        for part in self.detections:
            mine = found.setdefault(part.dma, [])
            if not mine or mine[-1] != part.model:
                mine.append(part.model)
        return found


def went(orders: Mapping[int, Iterable[Message]], topic: Mapping[str, bytes], size: int = 10_000, restart: int = 0) -> Came:
    """The log through a watcher in blocks of `size` records; after every `restart` of them a new one takes over."""
    everything, came = records(orders), Came()

    def shelf() -> Shelf:
        return Shelf(lambda wanted: {name: topic[name] for name in wanted if name in topic})

    watcher = came.watcher = Watcher(SITE, shelf())
    watcher.restore(0, 1, [], Bounds(None, 0, len(everything)), 0.0)
    for number, start in enumerate(range(0, len(everything), size)):
        block = Block(everything[start : start + size])
        watcher.shelf.bring(watcher.publications_in(block))
        messages, _ = watcher.watch(block)
        watcher.tidy()
        came.add(messages)
        if restart and number % restart == restart - 1:
            saved = [Saved(m.key, m.value) for m in watcher.checkpoint(0, 1, 0.0, everything=True)]
            watcher = came.watcher = Watcher(SITE, shelf())
            watcher.shelf.bring(watcher.publications_of(saved))
            watcher.restore(0, 1, saved, Bounds(block.end, 0, len(everything)), 0.0)
    return came


TOPIC = {"p": pack_bundle(make(seed=0)), "q": pack_bundle(make(seed=1))}
FIRST, SECOND = published(make(seed=0), "p"), published(make(seed=1), "q")


@cache
def swapped() -> Came:
    return went(everywhere(FIRST, 0) | everywhere(SECOND), TOPIC)


@cache
def unswapped() -> Came:
    return went(everywhere(FIRST, 0), TOPIC)


def test_alerts_and_slots_carry_the_model_that_judged_them_from_the_swap_on() -> None:
    came = swapped()
    first, second = (ModelRef(id=one.id, version=one.version, sha256=one.sha256) for one in (FIRST, SECOND))
    assert came.models() == {dma.id: [first, second] for dma in SITE.dmas}
    alerts = [cloudevents.decode(headers, value) for _, value, headers in came.alerts]
    assert {alert.model for alert in alerts} == {first, second}
    last_of_first = {part.dma: part.columns["slot_end_ms"].max() for part in came.detections if part.model == first}
    for alert in alerts:
        if alert.scope.type == "dma":
            assert (alert.model == second) == (alert.updated_at > last_of_first[alert.scope.id])


def test_a_swap_loses_no_slot_and_changes_nothing_before_it() -> None:
    before, after = unswapped().rows(), swapped().rows()
    assert before.keys() == after.keys()
    cut = {
        part.dma: part.columns["slot_end_ms"].max() for part in swapped().detections if part.model.version == FIRST.version
    }
    assert all(before[key] == after[key] for key in before if key[1] <= cut[key[0]])
    scores = unswapped().rows("scores"), swapped().rows("scores")
    assert scores[0] != scores[1]


@pytest.mark.parametrize(("size", "restart"), [(1, 0), (7, 0), (1, 5), (2, 1), (31, 1)])
def test_the_swap_does_not_depend_on_blocks_or_on_who_reads_the_log(size: int, restart: int) -> None:
    """Also where a worker takes over right before, at and right after the control records."""
    came = went(everywhere(FIRST, 0) | everywhere(SECOND), TOPIC, size, restart)
    assert sorted(came.alerts) == sorted(swapped().alerts)
    assert came.rows() == swapped().rows()
    assert came.models() == swapped().models()
    assert came.letters == []


def test_rolled_back_and_forth_nothing_of_the_other_model_lives_on() -> None:
    """The same model twice in a row is no swap; another one in between makes it begin anew."""
    again = published(model(0), "r")
    same = went(everywhere(FIRST, 0) | everywhere(again), TOPIC | {"r": TOPIC["p"]})
    assert same.alerts == unswapped().alerts
    assert same.watcher.swaps == 6
    back = went(everywhere(FIRST, 0) | everywhere(SECOND) | everywhere(again, 33), TOPIC | {"r": TOPIC["p"]})
    assert [ref.version for ref in back.models()["A"]] == [FIRST.version, SECOND.version, FIRST.version]
    assert back.watcher.owned[0].states["A"].champion == again


def test_no_model_can_be_promoted_too() -> None:
    came = went(everywhere(FIRST, 0) | everywhere(None), TOPIC)
    assert came.models()["A"][1:] == [None]
    assert came.watcher.owned[0].states["A"].engine.bundle is None


def test_an_initial_model_serves_only_where_none_was_said() -> None:
    initial = everywhere(SECOND, initial=True)
    assert went(everywhere(FIRST, 0) | initial, TOPIC).alerts == unswapped().alerts
    assert went(everywhere(None, 0) | initial, TOPIC).models() == {dma.id: [None] for dma in SITE.dmas}
    came = went(initial, TOPIC, size=3, restart=2)
    assert came.watcher.owned[0].states["A"].champion == SECOND


# in shadow


def test_a_challenger_does_not_change_a_byte_of_the_alerts_or_of_what_the_champion_scored() -> None:
    orders = everywhere(FIRST, 0) | everywhere(SECOND, 20, role="challenger")
    came, without = went(orders, TOPIC, size=5, restart=9), unswapped()
    assert sorted(came.alerts) == sorted(without.alerts)
    names = tuple(without.detections[0].columns)
    assert came.rows(*names) == without.rows()
    assert came.models() == without.models()


def test_a_challenger_scores_every_slot_beside_the_champion() -> None:
    came = went(everywhere(FIRST, 0) | everywhere(SECOND, 20, role="challenger"), TOPIC)
    reference = ModelRef(id=SECOND.id, version=SECOND.version, sha256=SECOND.sha256)
    in_shadow = [part for part in came.detections if part.challenger is not None]
    assert {part.challenger for part in in_shadow} == {reference}
    assert sum(len(part.columns["slot_end_ms"]) for part in in_shadow) > 3 * 14 * DAY
    for part in in_shadow:
        expected = score(model(1).forest, np.ascontiguousarray(part.columns["features"])).astype(np.float32)
        np.testing.assert_array_equal(part.columns[SHADOW_SCORE], expected)
    assert any(np.isfinite(part.columns[SHADOW_SCORE]).all() for part in in_shadow)
    assert all(SHADOW_SCORE not in part.columns for part in came.detections if part.challenger is None)


def test_a_shadow_ends_when_its_model_is_promoted_or_none_is_named() -> None:
    shadow = everywhere(FIRST, 0) | everywhere(SECOND, 20, role="challenger")
    promoted = went(shadow | everywhere(published(model(1), "r")), TOPIC | {"r": TOPIC["q"]})
    assert promoted.watcher.owned[0].states["A"].challenger is None
    assert promoted.watcher.owned[0].states["A"].shadow is None
    ended = went(shadow | everywhere(None, role="challenger"), TOPIC)
    assert ended.watcher.owned[0].states["A"].challenger is None
    assert ended.alerts == unswapped().alerts


# refused


def torn(value: bytes) -> bytes:
    return value[: len(value) // 2]


def flipped(value: bytes) -> bytes:
    return value[:-9] + bytes([value[-9] ^ 1]) + value[-8:]


def with_manifest(**entries: Any) -> Callable[[bytes], bytes]:
    def change(value: bytes) -> bytes:
        files = changed(unpack_bundle(value).to_files(), **entries)
        head = value[:8] + len(files[MANIFEST]).to_bytes(4, "little") + len(files[ARRAYS]).to_bytes(4, "little")
        return head + files[MANIFEST] + files[ARRAYS]

    return change


BAD: dict[str, tuple[Callable[[bytes], bytes | None], bool, str]] = {
    "torn": (torn, True, "is torn: found"),
    "one bit": (flipped, True, "arrays.npz: sha256 is"),
    "another hash": (lambda _: TOPIC["p"], False, "sha256 is"),
    "other features": (with_manifest(features=["a", "b"]), True, "trained on features a, b; possible: flow_z"),
    "later schema": (with_manifest(schemaVersion="2.0"), True, "schemaVersion is '2.0'; possible: '1.0'"),
    "another version": (with_manifest(version="abcdefabcdef"), True, "version is 'abcdefabcdef'; the control record says"),
    "another DMA's": (with_manifest(scope="Z"), True, "scope is 'Z'; the control record says '*'"),
    "foreign": (lambda _: b"PK\3\4" + bytes(99), True, "starts with b'PK"),
    "absent": (lambda _: None, False, "publication 'q' is not on models.v1"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_model_is_refused_loudly_and_the_champion_goes_on(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    spoil, is_vouched_for, reason = BAD[fault]
    value = spoil(TOPIC["q"])
    topic = {"p": TOPIC["p"]} | ({} if value is None else {"q": value})
    named = replace_digest(SECOND, value) if is_vouched_for and value is not None else SECOND
    with caplog.at_level(logging.ERROR):
        came = went(everywhere(FIRST, 0) | everywhere(named), topic, size=4)
    assert sorted(came.alerts) == sorted(unswapped().alerts)
    assert came.rows() == unswapped().rows()
    assert len(came.letters) == len(SITE.dmas)
    assert all(reason in letter and len(letter.splitlines()) == 1 for letter in came.letters), came.letters
    assert came.watcher.refusals == 3
    assert reason in came.watcher.owned[0].states["A"].refused
    errors = [line for line in caplog.messages if "refused, and the model before it goes on" in line]
    assert len(errors) == 3


def replace_digest(named: Named, value: bytes) -> Named:
    return msgspec.structs.replace(named, digest=digest_of(value))


def test_a_model_refused_once_stays_refused_and_published_anew_it_is_taken() -> None:
    """What is on models.v1 under a key does not change; a new promotion has a new key."""
    topic = {"p": TOPIC["p"], "q": torn(TOPIC["q"]), "r": TOPIC["q"]}
    came = went(everywhere(FIRST, 0) | everywhere(SECOND) | everywhere(published(model(1), "r"), 32), topic)
    assert [ref.version for ref in came.models()["A"]] == [FIRST.version, SECOND.version]
    assert came.watcher.owned[0].states["A"].refused is None


BAD_CONTROLS: dict[str, tuple[Message, str]] = {
    "torn": (Message("", b"A", b'{"schemaVersion":"1.', [HEADER]), "cannot be read: "),
    "null": (Message("", b"A", None, [HEADER]), "value is null"),
    "long": (Message("", b"A", b" " * 70_000, [HEADER]), "value is 70000 bytes; possible: JSON of at most 65536"),
    "of another kind": (Message("", b"A", b"{}", [("nl-control", b"coffee")]), "header nl-control is b'coffee'"),
    "of a stranger": (said("Z", FIRST), "DMA 'Z' is not in network.toml"),
    "of two DMAs": (said("A", FIRST)._replace(key=b"B"), "key b'B' of one of DMA 'A'"),
    "of the future": (said("A", FIRST, schema_version="2.0"), "schemaVersion is '2.0'; possible: '1.0'"),
    "of a strange role": (said("A", FIRST, role="king"), "Invalid enum value 'king'"),
    "without a publication": (said("A", name_of(make(seed=0))), "names no publication"),
}


@pytest.mark.parametrize("fault", BAD_CONTROLS)
def test_a_control_record_that_is_none_is_a_dead_letter_and_changes_nothing(fault: str) -> None:
    message, reason = BAD_CONTROLS[fault]
    came = went(everywhere(FIRST, 0) | {AT: [message]}, TOPIC, size=6)
    assert sorted(came.alerts) == sorted(unswapped().alerts)
    (letter,) = came.letters
    assert reason in letter
    assert came.watcher.refusals == 1


def test_fields_that_a_later_version_adds_are_passed_over() -> None:
    message = said("A", SECOND)
    later = json.loads(message.value or b"") | {"schemaVersion": "1.7", "mood": "good"}
    came = went(everywhere(FIRST, 0) | {AT: [message._replace(value=json.dumps(later).encode())]}, TOPIC)
    assert came.letters == []
    assert came.watcher.owned[0].states["A"].champion == SECOND


def test_a_publication_that_was_not_looked_for_is_a_fault_of_ours_and_not_of_the_record() -> None:
    watcher = Watcher(SITE, Shelf())
    watcher.restore(0, 1, [], Bounds(None, 0, 1), 0.0)
    with pytest.raises(RuntimeError, match="publication 'p' was not looked for"):
        watcher.watch(Block(records(everywhere(FIRST, 0))[:1]))


def test_a_header_of_somebody_else_is_no_control_record() -> None:
    (key, value, _), *_ = log()
    record = Record("t.readings.v1", 0, 0, 0, key, value, (("trace", b"1"),))
    assert not controls.is_control(record)
    watcher = Watcher(SITE, Shelf())
    watcher.restore(0, 1, [], Bounds(None, 0, 1), 0.0)
    watcher.watch(Block([record]))
    assert list(watcher.owned[0].states) == [key.decode()]


def test_a_model_comes_back_from_its_message_and_one_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unpack_bundle(TOPIC["p"]).to_files() == model(0).to_files()
    assert pack_bundle(unpack_bundle(TOPIC["p"])) == TOPIC["p"]
    monkeypatch.setattr("streams.published.MODEL_LIMIT", 100)
    with pytest.raises(ValueError, match=r"has [\d,]+ bytes; possible: at most 100, so fewer or smaller trees"):
        pack_bundle(model(0))


def test_a_topic_that_is_not_there_refuses_no_model_but_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nowhere:
        def __init__(self, **_: object) -> None:
            pass

        def partitions_for_topic(self, _: str) -> set[int]:
            return set()

        def close(self) -> None:
            pass

    monkeypatch.setattr("streams.shelf.KafkaConsumer", Nowhere)
    shelf = Shelf(lambda wanted: read_models("127.0.0.1:9", "nl", wanted))
    with pytest.raises(TimeoutError, match=r"nl\.models\.v1 is not there, or its broker does not say where; possible: "):
        shelf.bring(["*|0123456789ab|x"])
    assert shelf.misses(["*|0123456789ab|x"])  # looked for again, and not refused for good


def test_bundles_that_no_state_uses_are_let_go() -> None:
    came = went(everywhere(FIRST, 0) | everywhere(SECOND), TOPIC, size=5)
    assert set(came.watcher.shelf._found) == {"q"}


def test_the_status_and_the_metrics_say_which_model_judges_and_what_was_refused() -> None:
    worker = Worker()
    worker.recover()
    orders = everywhere(FIRST, 0) | everywhere(SECOND, 20, role="challenger") | everywhere(published(model(2), "gone"))
    worker.keeper.watcher = went(orders, TOPIC).watcher
    found = status_of(worker)
    assert found["models"] == {"taken": 6, "refused": 3}
    for dma in found["dmas"]:
        assert dma["model"] == {"id": FIRST.id, "version": FIRST.version, "sha256": FIRST.sha256}
        assert dma["challenger"]["version"] == SECOND.version
        assert dma["modelRefused"] == "publication 'gone' is not on models.v1"
    families = metrics_of(worker)
    assert sum(families["nightline_model_controls_refused_total"].values()) == 3
    infos = [dict(labels) for labels in families["nightline_dma_model_info"]]
    assert {(info["dma"], info["role"], info["version"]) for info in infos} == {
        (dma.id, role, named.version) for dma in SITE.dmas for role, named in (("champion", FIRST), ("challenger", SECOND))
    }
