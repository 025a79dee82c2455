"""streams/standing.py, metrics.py, tally.py and progress.py: what a worker says of itself, and what that costs."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from models.codec import Decoder
from models.engine import Engine
from models.network import parse_site
from streams import keeper as keeper_module
from streams.blocks import Block
from streams.metrics import Page, exposition
from streams.progress import Place, Progress
from streams.standing import status_json
from streams.tally import MOST_METERS, MOST_STRANGERS, REASONS, Tally, reason_class
from streams.watcher import Watched
from tests.status_bench import DAY_MS, HOUR_MS, RAW, READINGS, Worker, metrics_of, parse, raw, reading, status_of
from tests.synthetic import SITE_TOML, START_MS, make_site, readings

# what is said


def test_the_status_names_positions_lag_dmas_meters_and_checkpoints() -> None:
    worker = Worker()
    worker.recover()
    quiet = readings(3)
    mine = quiet[quiet["meter"] == worker.site.meter_row["in-A"]]
    worker.take(mine)
    worker.take(mine[:5])
    found = status_of(worker)
    assert found["partitions"] == [
        {"topic": RAW.topic, "partition": 0, "position": 7, "committed": 5, "highwater": 9, "lagRecords": 2},
        {"topic": READINGS.topic, "partition": 0, "position": 3, "committed": None, "highwater": 3, "lagRecords": 0},
    ]
    (dma,) = found["dmas"]
    watched = worker.keeper.watcher.owned[0].states["A"]
    assert (dma["dma"], dma["watermarkMs"]) == ("A", watched.engine.watermark_ms)
    assert dma["watermark"].endswith(":00.000Z")
    assert dma["eventAgeSeconds"] == pytest.approx(time.time() - dma["watermarkMs"] / 1000, abs=5)
    assert (dma["repeated"], dma["checkpointOffset"], dma["checkpointAgeSeconds"]) == (0, None, None)
    meters = {one["meter"]: one for one in dma["meters"]}
    assert meters["in-A"]["lastReadingMs"] == int(mine["time_ms"].max())
    assert meters["in-A"]["lastReading"].endswith("00.000Z")
    assert meters["in-A"]["late"] == dma["late"] == 5
    assert (found["ready"], found["healthy"], found["fault"]) == (True, True, None)
    assert found["rssBytes"] > 10_000_000
    assert found["uptimeSeconds"] >= 5


def test_rejected_messages_and_wrong_clocks_are_counted_by_reason_and_by_meter() -> None:
    worker = Worker()
    batch = [reading(), reading(meterId="in-C", unit="furlong"), reading(meterId="p-B")]
    messages = [
        raw(b"{", key=b"p-B"),
        raw(None, key=b"\xff"),
        raw(json.dumps(reading(meterId="nobody")).encode()),
        raw(json.dumps(batch).encode()),
        raw(json.dumps(reading(observedAt=START_MS + 2 * HOUR_MS)).encode()),
        raw(json.dumps([reading(observedAt=START_MS - 20 * DAY_MS), reading(observedAt=START_MS - 21 * DAY_MS)]).encode()),
        raw(json.dumps(reading()).encode()),
    ]
    worker.router.route(Block(messages))
    rejected = status_of(worker)["rejected"]
    assert rejected["messages"] == 6
    assert {name: count for name, count in rejected["byReason"].items() if count} == {
        "unreadable": 1, "null_value": 1, "unknown_meter": 1, "unit": 1, "clock_ahead": 1, "clock_behind": 1,
    }  # fmt: skip
    assert rejected["unknownMeterMessages"] == 1
    meters = {one["meter"]: one for one in rejected["byMeter"]}
    assert {meter: one["rejectedMessages"] for meter, one in meters.items()} == {"p-B": 1, "nobody": 1, "in-C": 1, "in-A": 2}
    assert [meter for meter, one in meters.items() if not one["inNetwork"]] == ["nobody"]
    assert meters["in-A"]["clockAhead"] == {"readings": 1, "lastSeen": "2026-01-04T23:00:00.000Z", "offSeconds": 7200.0}
    assert meters["in-A"]["clockBehind"]["readings"] == 2
    families = metrics_of(worker)
    clocks = families["nightline_meter_wrong_clock_readings_total"]
    assert clocks[("direction", "ahead"), ("meter", "in-A")] == 1
    assert clocks[("direction", "behind"), ("meter", "in-A")] == 2
    by_meter = families["nightline_meter_rejected_messages_total"]
    assert by_meter == {(("meter", "in-A"),): 2, (("meter", "in-C"),): 1, (("meter", "p-B"),): 1, (("meter", "(other)"),): 2}
    assert sum(families["nightline_rejected_messages_total"].values()) == 6


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        ("oversized: found 5 bytes; possible: at most 4", "oversized"),
        ("malformed JSON: the value is empty; possible: a reading", "unreadable"),
        ("found 5; possible: a reading, or an array of readings", "unreadable"),
        ("reading 3: meter 'x' is not in network.toml; 1 of 4 readings rejected", "unknown_meter"),
        ("unit: found 'x' for kind 'flow'; possible: m3/h", "unit"),
        ("observedAt 'x' is not a time; possible: an RFC 3339 time", "time"),
        ("key 'observedAt' is missing; possible: a time", "time"),
        ("kind 'level' does not fit flow meter 'x'; possible: flow", "kind"),
        ("observedAt 2026 is more than 1 h ahead of the message's own time", "clock_ahead"),
        ("observedAt 2026 is more than 14 days before the message's own time", "clock_behind"),
        ("value: found true; possible: a number", "value"),
        ("value 1e+39 m3/h is beyond what a flow can be; possible: -1e+06 to 1e+06 m3/h", "value"),
        ("columns differ in length: found 2 and 3; possible: the same number of each", "fields"),
        ("key 'meterId' is missing; possible: text", "fields"),
        ("something new", "other"),
    ],
)
def test_every_reason_has_a_class(reason: str, name: str) -> None:
    assert reason_class(reason) == name
    assert name in REASONS


GOOD = {"meterId": "in-A", "kind": "flow", "value": 1.0, "unit": "m3/h", "observedAt": "2026-01-05T00:00:00Z"}
PACK = {"bn": "in-A", "u": "m3/h", "bt": 1_767_567_600, "v": 1.0}


def test_no_reason_that_the_decoder_gives_is_without_a_class() -> None:
    odd = [None, True, "x", 1e300, -5, [], {}, [1], "", "2026-01-05 00:00"]
    payloads = [b"", b"{", b"\xff", b"null", b"[[]]", b"[1]", b'"x"', None]
    for base, wrap in ((GOOD, False), (PACK, True), ({**GOOD, "value": [1.0], "observedAt": [1_767_567_600_000]}, False)):
        for key in (*base, "quality", "intervalSeconds", "seq", "bver", "n", "t", "bv", "x_"):
            some = [{**base, key: value} for value in odd] + [{name: base[name] for name in base if name != key}]
            some += [{**one, "kind": "volume"} for one in some]
            payloads += [json.dumps([one] if wrap else one).encode() for one in some]
    rejects = Decoder(make_site()).decode(payloads).rejects
    assert len(rejects) > 200
    assert {reject.reason for reject in rejects if reason_class(reject.reason) == "other"} == set()


def test_a_flood_of_made_up_ids_neither_fills_the_memory_nor_hides_a_meter_of_the_site() -> None:
    tally = Tally({f"m{number}" for number in range(MOST_METERS + 10)})
    for number in range(MOST_STRANGERS + 100):
        tally.reject(raw(b"{", key=f"x{number}".encode()), ["malformed JSON"])
    for number in range(MOST_METERS + 10):
        tally.wrong_clock(f"m{number}", "ahead", 1, START_MS, 5)
    assert (len(tally.meters), len(tally.strangers)) == (MOST_METERS, MOST_STRANGERS)
    assert tally.rest.rejected == 100
    assert tally.rest.ahead is not None
    assert tally.rest.ahead.readings == 10
    tally.reject(raw(b"{", key=b"x" * 1000), ["malformed JSON"])
    tally.reject(raw(b"{", key=b"a\nb"), ["malformed JSON"])
    assert tally.unnamed == 2


# Prometheus


def test_label_values_with_quotes_backslashes_and_newlines_come_through() -> None:
    names = ['a"b', "a\\b", "a\nb", "a\\nb", "", "é}{,="]
    page = Page()
    page.add("x_total", "counter", "One\nline \\ only.", [({"meter": name, "z": "1"}, at) for at, name in enumerate(names)])
    page.one("y", "gauge", "Odd values.", float("inf"))
    page.one("absent", "gauge", "Not known.", None)
    families = parse(page.encode().decode())
    assert families["nightline_x_total"] == {(("meter", name), ("z", "1")): at for at, name in enumerate(names)}
    assert families["nightline_y"] == {(): float("inf")}
    assert families.keys() == {"nightline_x_total", "nightline_y"}


def test_the_metrics_are_well_formed_and_say_what_the_status_says() -> None:
    worker = Worker()
    assert metrics_of(worker)["nightline_ready"] == {(): 0}
    worker.recover()
    quiet = readings(3)
    mine = quiet[quiet["meter"] == worker.site.meter_row["in-A"]]
    worker.take(mine)
    families = metrics_of(worker)
    assert families["nightline_ready"] == families["nightline_healthy"] == {(): 1}
    assert families["nightline_partition_lag_records"][("partition", "0"), ("topic", RAW.topic)] == 2
    assert (("partition", "0"), ("topic", READINGS.topic)) not in families["nightline_partition_committed_offset"]
    watermark = status_of(worker)["dmas"][0]["watermarkMs"] / 1000
    assert families["nightline_dma_watermark_timestamp_seconds"] == {(("dma", "A"),): watermark}
    newest = families["nightline_dma_last_reading_max_timestamp_seconds"][(("dma", "A"),)]
    assert newest == int(mine["time_ms"].max()) / 1000
    assert all(name.startswith("nightline_") for name in families)
    # nothing of single meters while none has trouble
    assert families["nightline_meter_late_readings_total"] == {(("meter", "(other)"),): 0}
    worker.take(mine[:4])
    assert metrics_of(worker)["nightline_meter_late_readings_total"][(("meter", "in-A"),)] == 4


def test_the_operators_page_names_no_metric_that_is_not_there() -> None:
    worker = Worker()
    worker.recover()
    quiet = readings(1)
    worker.take(quiet[quiet["meter"] == worker.site.meter_row["in-A"]])
    worker.progress = Progress(Thread(), lambda: 1.0)
    worker.progress.heard_at = 0.5
    there = metrics_of(worker)
    text = Path("docs/OPERATIONS.md").read_text(encoding="utf-8")
    alarms = text[text.index("## What to alarm on") : text.index("Counters begin")]
    rows = [line.split("|") for line in alarms.splitlines() if line.startswith("|")][2:]
    named = [name for row in rows for name in re.findall(r"[a-z]+(?:_[a-z]+)+", row[2])]
    assert len(named) >= 12
    assert [name for name in named if f"nightline_{name}" not in there] == []
    assert all(reason in text for reason in REASONS)


# progress


class Thread:
    """Of Faust's consumer thread, what progress asks."""

    _consumer = None
    thread_loop = None


def test_lag_counts_from_what_is_processed_and_a_log_may_end_in_what_nobody_sees() -> None:
    progress = Progress(Thread())
    progress.begin(progress.forget(), {RAW: 5}, {RAW: 20})
    assert progress.place(RAW, 5, True, None) == Place(5, None, 20, 20)
    progress._fetched[RAW] = 20
    assert progress.place(RAW, 12, False, 12).lag_records == 8
    assert progress.place(RAW, 18, True, 12).lag_records == 0


def test_what_is_known_of_an_assignment_is_forgotten_with_it() -> None:
    progress = Progress(Thread())
    asked = progress.forget()
    progress.forget()  # partitions were taken away while state was being brought back
    progress.begin(asked, {RAW: 5}, {RAW: 20})
    assert progress.starts == {}


def test_ends_are_asked_for_at_most_once_a_second_and_a_silent_broker_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streams.progress.WAIT_SECONDS", 0.05)
    now, asked = [0.0], []

    class Consumer:
        silent = False

        async def end_offsets(self, tps: Any) -> Any:
            asked.append(tps)
            if self.silent:
                await asyncio.sleep(30)
            return dict.fromkeys(tps, 30)

    consumer = Consumer()
    thread: Any = Thread()
    thread._ensure_consumer = lambda: consumer

    async def run() -> None:
        thread.thread_loop = asyncio.get_running_loop()
        progress = Progress(thread, lambda: now[0])
        await progress.refresh()
        progress.begin(progress.forget(), {RAW: 5}, {RAW: 20})
        await progress.refresh()
        assert not asked
        now[0] = 2.0
        await asyncio.gather(progress.refresh(), progress.refresh())
        assert len(asked) == 1
        assert progress.place(RAW, 5, False, None) == Place(5, None, 30, 20)
        consumer.silent, now[0] = True, 9.0
        begin = time.monotonic()
        await asyncio.gather(*(progress.refresh() for _ in range(5)))
        assert time.monotonic() - begin < 1.0
        assert (len(asked), progress.age_seconds) == (2, 7.0)
        progress.close()
        await asyncio.sleep(0)

    asyncio.run(run())


# cost


def big_site(dmas: int, meters: int) -> Any:
    """`dmas` with `meters` each: an inlet, and customers."""
    lines = []
    for number in range(dmas):
        lines.append(f'[[dma]]\nid = "D{number}"\n[[meter]]\nid = "in-{number}"\nkind = "flow"\nto = "D{number}"')
        lines += [f'[[meter]]\nid = "c-{number}-{at}"\nkind = "flow"\ndma = "D{number}"' for at in range(meters - 1)]
    return parse_site(SITE_TOML, "\n".join(lines))


@pytest.mark.parametrize("page", [status_json, exposition])
def test_a_scrape_of_fifty_dmas_and_eight_thousand_meters_holds_the_loop_up_for_less_than_50_ms(page: Any) -> None:
    worker = Worker(big_site(50, 160))
    worker.recover()
    owned = worker.keeper.watcher.owned[0]
    for at, dma in enumerate(worker.site.dmas):
        engine = Engine(worker.site, dma.id)
        for meters in (engine._buffers.channels, engine._buffers.customers):
            meters["latest_ms"] = START_MS + at  # as if all had spoken
        owned.states[dma.id] = Watched(engine)

    async def longest_stall() -> float:
        done, longest = asyncio.Event(), 0.0

        async def tick() -> None:
            nonlocal longest
            before = time.perf_counter()
            while not done.is_set():
                await asyncio.sleep(0)
                now = time.perf_counter()
                longest, before = max(longest, now - before), now

        ticking = asyncio.create_task(tick())
        await asyncio.sleep(0)
        body = await page(worker)
        done.set()
        await ticking
        assert len(body) > 10_000
        return longest

    # the best of three: a machine that has other work to do is none of ours
    assert min(asyncio.run(longest_stall()) for _ in range(3)) < 0.05


def test_the_keeper_knows_for_how_long_a_checkpoint_has_been_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_module, "SAVE_SECONDS", 4.0)
    worker = Worker()
    worker.recover()
    worker.now = 3.0
    assert (worker.keeper.due_seconds, worker.keeper.age_seconds) == (-1.0, 3.0)
    worker.keeper.saved.making_seconds = 1.0  # never more than a tenth of the time goes into making one
    assert worker.keeper.due_seconds == -7.0
