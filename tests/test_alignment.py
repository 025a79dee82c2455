"""Which fetched records go on: alone, beside other workers, with wrong clocks, and when something is stuck."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from streams.alignment import ALWAYS, FOLLOWERS, NEVER, STUCK_SECONDS, Aligner, Position, levels, note, position, skew_ms
from streams.blocks import UNKNOWN_MS, times_ms

T0 = 1_763_971_200_000
MINUTE = 60_000
SKEW = 6 * MINUTE
P, Q, R = (TP("raw", number) for number in range(3))


@dataclass(frozen=True)
class Record:
    offset: int
    timestamp: int | None
    topic: str = "raw"
    partition: int = 0
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


def log_of(*minutes: float, start: int = 0) -> list[Record]:
    return [Record(start + i, int(T0 + minute * MINUTE)) for i, minute in enumerate(minutes)]


def aligner(*own: TP, others: dict[TP, Position] | None = None) -> Aligner:
    made = Aligner("raw", SKEW)
    made.assign(own)
    made.observe(others or {}, 0.0)
    return made


def offsets(taken: dict[TP, list[Any]]) -> dict[TP, list[int]]:
    return {tp: [record.offset for record in records] for tp, records in taken.items()}


def test_skew_is_a_tenth_of_the_lateness_and_at_least_a_minute() -> None:
    assert [skew_ms(minutes) for minutes in (0, 5, 60, 1440)] == [MINUTE, MINUTE, 6 * MINUTE, 144 * MINUTE]


def test_a_partition_that_is_ahead_is_cut_at_the_horizon_and_goes_on_with_the_other() -> None:
    made = aligner(P, Q)
    assert offsets(made.take({P: log_of(0, 5, 10, 20)}, {P: 0, Q: 3}, 0)) == {}  # nothing of Q is known yet
    assert offsets(made.take({Q: log_of(2, 3)}, {P: 0, Q: 1}, 0)) == {P: [0, 1], Q: [0, 1]}
    assert made.is_holding
    assert offsets(made.take({}, {P: 0, Q: 1}, 0)) == {}
    assert offsets(made.take({Q: log_of(12, start=2)}, {P: 0, Q: 0}, 0)) == {P: [2], Q: [2]}
    assert offsets(made.take({}, {P: 0, Q: 0}, 0)) == {P: [3]}
    assert not made.is_holding


def test_a_partition_that_ends_in_markers_of_transactions_keeps_no_other_worker_waiting() -> None:
    made = aligner(P)
    made.take({P: log_of(0, 5)}, {P: 0}, 0, {P: 4})  # offsets 2 and 3 are markers
    assert made.reached(P, 0) == note(T0, 0), "what is delivered is not committed yet"
    made.committed(P, 2)
    said = made.reached(P, 2)
    assert said == note(T0 + 5 * MINUTE, 4)
    assert Aligner._other(position(2, said, 4)) == ALWAYS
    assert Aligner._other(position(2, note(T0 + 5 * MINUTE, 2), 4)) != ALWAYS


def test_a_partition_without_backlog_keeps_nobody_waiting() -> None:
    made = aligner(P, Q)
    assert offsets(made.take({P: log_of(0, 600)}, {P: 9, Q: 0}, 0)) == {P: [0]}
    assert offsets(made.take({}, {P: 9, Q: 0}, 0)) == {P: [1]}


def test_a_gap_in_all_partitions_is_crossed() -> None:
    made = aligner(P, Q)
    assert offsets(made.take({P: log_of(0, 600), Q: log_of(1, 602)}, {P: 9, Q: 9}, 0)) == {P: [0], Q: [0]}
    assert made.is_ready
    assert offsets(made.take({}, {P: 9, Q: 9}, 0)) == {P: [1], Q: [1]}


def test_only_a_partition_of_which_much_is_kept_is_not_fetched() -> None:
    made = aligner(P, Q)
    made.take({P: log_of(*range(100, 100 + FOLLOWERS + 1))}, {P: 0, Q: 9}, 0)
    assert made.held() == {P}
    made = aligner(P, Q)
    made.take({P: log_of(*range(100, 100 + FOLLOWERS))}, {P: 0, Q: 9}, 0)
    assert made.held() == set()


def test_records_without_a_time_wait_for_nobody_and_keep_nobody_waiting() -> None:
    made = aligner(P, Q)
    nameless = [Record(i, time) for i, time in enumerate((-1, 0, 1000))]
    assert offsets(made.take({P: nameless, Q: log_of(0)}, {P: 9, Q: 9}, 0)) == {P: [0, 1, 2], Q: [0]}
    assert offsets(made.take({Q: log_of(900, start=1)}, {P: 9, Q: 9}, 0)) == {Q: [1]}


def test_a_clock_that_is_ahead_moves_nobody_and_the_rest_behind_it_is_still_aligned() -> None:
    made = aligner(P, Q)
    ahead = [record if i != 2 else Record(2, T0 + 10**12) for i, record in enumerate(log_of(*range(20)))]
    assert offsets(made.take({P: ahead, Q: log_of(0)}, {P: 9, Q: 9}, 0)) == {P: [0, 1, 2, 3, 4, 5, 6], Q: [0]}


def test_a_clock_ahead_at_the_end_of_a_fetch_is_seen_through_with_the_next() -> None:
    made = aligner(P, Q)
    made.take({P: log_of(0, 9000), Q: log_of(0)}, {P: 9, Q: 9}, 0)
    assert P not in made.held()
    made.take({P: log_of(1, 2, 3, start=2)}, {P: 9, Q: 9}, 0)
    assert not made.is_holding


@pytest.mark.parametrize("stamp", [None, -(2**63), 2**62, 2**63 - 1, 4_102_444_800_001])
def test_a_message_whose_own_time_is_none_has_no_say(stamp: int | None) -> None:
    """As the last of its partition it once put that ahead of all others, with a level that no note could hold."""
    times = times_ms([Record(0, T0), Record(1, stamp)])
    assert times.tolist() == [T0, UNKNOWN_MS]
    assert levels(times, NEVER, SKEW).tolist() == [T0, T0]


def test_levels_never_fall_and_follow_trusted_times() -> None:
    times = np.array([T0, T0 + 5, -1, T0 + 3, T0 + 9 * SKEW, T0 + 6, T0 + 7, T0 + 8], np.int64)
    got = levels(times, NEVER, SKEW) - T0
    assert got.tolist() == [0, 5, 5, 5, 5, 6, 7, 8]
    # a level that was taken over from such a clock is forgotten
    assert levels(np.array([T0, T0 + 1]), T0 + 10**12, SKEW).tolist() == [T0, T0 + 1]


def test_others_keep_us_waiting_where_their_next_record_is() -> None:
    made = aligner(P, others={Q: Position(10, 20, T0 + 4 * MINUTE)})
    assert offsets(made.take({P: log_of(0, 9, 11)}, {P: 9}, 0)) == {P: [0]}  # its own head is at 0
    assert offsets(made.take({}, {P: 9}, 0)) == {P: [1]}
    assert offsets(made.take({}, {P: 9}, 0)) == {}
    made.observe({Q: Position(20, 20, T0 + 4 * MINUTE)}, 1.0)
    assert offsets(made.take({}, {P: 9}, 0)) == {P: [2]}


def test_nothing_goes_on_before_the_group_is_known_or_beside_a_partition_that_nobody_has_spoken_of() -> None:
    made = Aligner("raw", SKEW)
    made.assign([P])
    assert made.take({P: log_of(0)}, {P: 0}, 0) == {}
    made.observe({Q: Position(None, 5, None)}, 0.0)
    assert made.take({}, {P: 0}, 0) == {}
    made.observe(None, 1.0)  # the broker can't tell
    assert offsets(made.take({}, {P: 0}, 0)) == {P: [0]}


def test_what_is_stuck_is_named_once_and_waited_for_again_when_it_moves() -> None:
    stuck, waiting = Position(10, 20, T0), Position(5, 20, T0 + 100 * MINUTE)
    made = aligner(P, others={Q: stuck, R: waiting})
    made.take({P: log_of(90, 200)}, {P: 9}, 0)
    for second in range(1, int(STUCK_SECONDS)):
        made.observe({Q: stuck, R: waiting}, float(second))
        assert made.take({}, {P: 9}, float(second)) == {}
    made.observe({Q: stuck, R: waiting}, STUCK_SECONDS)
    assert [line.split(":")[0] for line in made.warnings] == ["raw partition 1"]
    assert offsets(made.take({}, {P: 9}, STUCK_SECONDS)) == {P: [0]}
    assert made.take({}, {P: 9}, STUCK_SECONDS) == {}  # R, that waited for Q as we did, is waited for
    made.observe({Q: Position(11, 20, T0 + MINUTE), R: Position(20, 20, T0)}, STUCK_SECONDS + 1)
    assert made.take({}, {P: 9}, STUCK_SECONDS + 1) == {}


def test_a_minute_without_being_called_is_no_minute_of_waiting() -> None:
    made = aligner(P, Q)
    made.take({P: log_of(90)}, {P: 9, Q: 9}, 0)
    assert made.take({}, {P: 9, Q: 9}, 10 * STUCK_SECONDS) == {}
    assert made.warnings == []


def test_a_note_names_the_next_record_that_is_not_committed() -> None:
    made = aligner(P, Q)
    made.take({P: log_of(0, 5, 600), Q: log_of(0)}, {P: 9, Q: 9}, 0)
    assert made.reached(P, 0) == note(T0, 0)
    assert made.reached(P, 2) == note(T0 + 600 * MINUTE, 2)
    made.take({Q: log_of(599, start=1)}, {P: 9, Q: 9}, 0)
    assert made.reached(P, 2) == note(T0 + 600 * MINUTE, 2)  # delivered, not committed
    made.committed(P, 2)
    assert made.reached(P, 3) == note(T0 + 600 * MINUTE, 3)
    assert made.reached(R, 3) is None
    made.forget()
    assert made.reached(P, 3) is None
    assert not made.is_holding


def test_notes_are_read_as_written_and_anything_else_says_nothing() -> None:
    assert position(5, note(T0, 7), 9) == Position(7, 9, T0)
    assert position(5, note(NEVER, 5), 9) == Position(5, 9, NEVER)
    assert position(5, "", 9) == Position(5, 9, None)
    assert position(5, "t=soon", 9) == Position(5, 9, None)
    assert position(None, "", 9) == Position(None, 9, None)


STEPS = st.lists(st.integers(0, 15), min_size=0, max_size=40)


@given(st.lists(STEPS, min_size=1, max_size=4), st.data())
def test_every_record_once_in_order_and_never_more_than_a_skew_ahead(gaps: list[list[int]], data: st.DataObject) -> None:
    logs = {TP("raw", n): log_of(*np.cumsum(steps).tolist()) for n, steps in enumerate(gaps)}
    run(logs, data, monotone=True)


TIMES = st.lists(st.one_of(st.just(-1), st.integers(0, 600), st.just(10**9)), min_size=0, max_size=40)


@given(st.lists(TIMES, min_size=1, max_size=4), st.data())
def test_whatever_the_clocks_say_every_record_goes_on_once_in_order(times: list[list[int]], data: st.DataObject) -> None:
    logs = {
        TP("raw", n): [Record(i, -1 if minute < 0 else T0 + minute * MINUTE) for i, minute in enumerate(minutes)]
        for n, minutes in enumerate(times)
    }
    run(logs, data, monotone=False)


def run(logs: dict[TP, list[Record]], data: st.DataObject, monotone: bool) -> None:
    made = aligner(*logs)
    fetched_to = dict.fromkeys(logs, 0)
    done: dict[TP, list[Record]] = {tp: [] for tp in logs}
    while any(len(done[tp]) < len(log) for tp, log in logs.items()):
        fetched = {}
        for tp in sorted(set(logs) - made.held()):
            size = data.draw(st.integers(0, 30))
            if part := logs[tp][fetched_to[tp] : fetched_to[tp] + size]:
                fetched[tp] = part
                fetched_to[tp] += len(part)
        unread = {tp: len(log) - fetched_to[tp] for tp, log in logs.items()}
        kept_all = all(len(done[tp]) < fetched_to[tp] or not unread[tp] for tp in logs)
        # where each partition is before the step: its next record
        heads = {tp: log[len(done[tp])].timestamp for tp, log in logs.items() if len(done[tp]) < len(log)}
        taken = made.take(fetched, unread, 0.0)
        assert taken or not kept_all, "nothing goes on though everything that waits is here"
        for tp, records in taken.items():
            if monotone:
                assert records[-1].timestamp <= min(heads.values()) + SKEW
            done[tp] += records
    assert done == logs
    assert not made.is_holding
    made.take({}, dict.fromkeys(logs, 0), 0.0)
    assert made._lowest() == ALWAYS
