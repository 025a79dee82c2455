"""nightline archive: the same files, byte for byte, however the topics were cut into batches and whoever was killed."""

from __future__ import annotations

import base64
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from models.archived import Batch
from models.config import ConfigError
from models.network import parse_site
from models.schema import FLOW, Readings
from streams.archive_batch import Collector
from streams.topics import DETECTIONS, READINGS
from tests.archiving import DAY_MS, SITE, KilledError, Log, Record, content, days_of_a_town, eventful, keep
from tests.fuzz.inputs import detections
from tests.synthetic import NETWORK_TOML, SITE_TOML, START_MS
from tests.test_cloudevents import ALERT
from training.archive import REJECTS, STATE, Archive, read_state
from training.history import read_history
from training.injection.files import rewrite
from training.injection.leaks import Addition

LOG = eventful()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "archive"
    keep(LOG, folder)
    return folder


def read_back(folder: Path, minutes: int = 1440) -> Readings:
    windows = list(read_history(folder, SITE, minutes))
    assert [window.start_ms for window in windows] == sorted({window.start_ms for window in windows})
    for window in windows:
        assert window.start_ms % (minutes * 60_000) == 0
        assert ((window.readings["time_ms"] >= window.start_ms) & (window.readings["time_ms"] < window.end_ms)).all()
    return np.concatenate([window.readings for window in windows])


def in_order(readings: Readings) -> list[tuple[object, ...]]:
    return sorted(readings[["time_ms", "meter", "kind", "value", "quality"]].tolist())


@pytest.mark.parametrize("minutes", [30, 1440, 2000])
def test_each_reading_comes_back_once_and_in_order_of_time(whole: Path, minutes: int):
    got = read_back(whole, minutes)
    assert (np.diff(got["time_ms"]) >= 0).all()
    # A-B is in the files of A and B, in-A in those of A, B and, as a neighbour's inflow, of others
    assert in_order(got) == in_order(days_of_a_town())


def test_the_reading_received_last_wins_and_lies_in_the_file_of_its_day(whole: Path):
    for file in (whole / "readings").glob("*/*.parquet"):
        table = pq.read_table(file, partitioning=None)
        times = table.column("observedAt").cast("int64").to_numpy()
        assert (times // DAY_MS == (np.datetime64(file.stem, "D").astype(int))).all()
        rows = list(zip(times.tolist(), *(table.column(name).to_pylist() for name in ("meterId", "kind")), strict=True))
        assert rows == sorted(set(rows))
    assert table.column_names == ["meterId", "observedAt", "value", "kind", "unit", "quality"]


def test_what_a_killed_router_routes_again_does_not_win_over_what_came_since(whole: Path):
    # `eventful` routes 100 m3/h too much, the correction, and the error once more under the error's own raw offset
    assert in_order(read_back(whole)) == in_order(days_of_a_town())
    assert read_state(whole).counts["repeated readings"] > 0


def test_slots_of_later_versions_lie_beside_older_ones(whole: Path):
    table = pq.read_table(whole / "detections" / "dma=C", partitioning=None)
    slots = [(ms - START_MS) // 900_000 for ms in table.column("slot_end_ms").to_pylist()]
    assert sorted(slots) == list(range(8))
    rows = dict(zip(slots, table.select(["later", "g"]).to_pylist(), strict=True))
    assert rows[2] == {"later": 0.0, "g": None}
    assert rows[3] == {"later": None, "g": 0.0}  # scored again: the later message is what counts
    observed = pq.read_table(whole / "detections" / "dma=A", partitioning=None).column("observed_m3h").to_pylist()
    assert len(observed) == 288
    assert observed.count(0.75) == 3


def test_alerts_and_outcomes_are_kept_once(whole: Path):
    alerts = pq.read_table(whole / "alerts", partitioning=None)
    assert sorted(alerts.column("revision").to_pylist()) == [1, 2]
    assert {msgspec.json.decode(text)["alertId"] for text in alerts.column("alert").to_pylist()} == {ALERT.alert_id}
    commands = pq.read_table(whole / "commands" / "dma=A", partitioning=None)
    assert commands.column("commandId").to_pylist() == ["c1", "c2"]
    assert commands.column("outcome").to_pylist() == ["confirmed_leak", "false_alarm"]


def test_what_cannot_be_read_is_kept_with_its_reason_and_control_records_are_passed_over(whole: Path):
    rows = [msgspec.json.decode(line) for line in (whole / REJECTS).read_bytes().splitlines()]
    assert [(row["topic"], row["partition"]) for row in rows] == [("nl.readings.v1", 0)] * 2 + [("nl.commands.v1", 0)]
    assert base64.b64decode(rows[0]["valueBase64"]) == b"\x00foreign"
    assert "block is torn: found 8 bytes" in rows[0]["reason"]
    assert rows[1]["valueBase64"] is None
    assert "value is null" in rows[1]["reason"]
    assert "missing required field `commandId`" in rows[2]["reason"]
    offsets = [record.offset for dataset, record in LOG.records if dataset == READINGS and record.value == b"\x00foreign"]
    assert rows[0]["offset"] == offsets[0]
    counts = read_state(whole).counts
    assert (counts["rejected"], counts["control records"], counts["commands"]) == (3, 1, 3)


@pytest.mark.parametrize("every", [1, 7, 50])
def test_the_archive_is_the_same_however_it_was_cut_into_batches(whole: Path, every: int, tmp_path: Path):
    keep(LOG, tmp_path / "archive", every)
    assert content(tmp_path / "archive") == content(whole)


def test_a_kill_between_any_two_steps_of_writing_changes_nothing(whole: Path, tmp_path: Path):
    expected, every = content(whole), 30
    steps: list[str] = []
    keep(LOG, tmp_path / "steps", every, steps.append)
    assert {"rejects written", "all written", "archive.json written", "committed", "all moved"} <= set(steps)
    seen = set()
    for at, step in enumerate(steps):
        kind = re.sub(r"[^ ]*parquet", "file", step)
        if (kind, steps[:at].count("committed")) in seen and at % 7:
            continue  # another file at the same place of the same batch; some of them are enough
        seen.add((kind, steps[:at].count("committed")))
        folder, left = tmp_path / str(at), at

        def die(_: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise KilledError

        with pytest.raises(KilledError):
            keep(LOG, folder, every, die)
        keep(LOG, folder, every)
        assert content(folder) == expected, f"killed after step {at}: {step}"
    assert len(seen) > 20


def test_kills_over_and_over_at_drawn_steps_change_nothing(whole: Path, tmp_path: Path):
    for seed in range(5):
        rng, kills = np.random.default_rng(seed), 0
        folder = tmp_path / str(seed)
        while True:
            left = int(rng.integers(1, 60))

            def die(_: str) -> None:
                nonlocal left
                left -= 1
                if not left:
                    raise KilledError

            try:
                keep(LOG, folder, int(rng.integers(20, 90)), die)
            except KilledError:
                kills += 1
                continue
            break
        assert kills
        assert content(folder) == content(whole)


def test_a_kill_in_the_middle_of_a_file_leaves_no_half_of_it(whole: Path, tmp_path: Path):
    folder = tmp_path / "archive"

    def die(step: str) -> None:
        if step.endswith(".parquet written") and "2026-01-05" in step:
            staged = next((folder / ".pending").rglob("*2026-01-05.parquet"))
            staged.write_bytes(staged.read_bytes()[:100])
            with (folder / REJECTS).open("ab") as rejects:
                rejects.write(b'{"half":')
            raise KilledError

    with pytest.raises(KilledError):
        keep(LOG, folder, None, die)
    keep(LOG, folder)
    assert content(folder) == content(whole)


def test_a_batch_that_was_not_put_in_place_is_not_passed_over_by_whoever_reads(tmp_path: Path):
    def die(step: str) -> None:
        if step == "committed":
            raise KilledError

    with pytest.raises(KilledError):
        keep(LOG, tmp_path, None, die)
    with pytest.raises(ConfigError, match="was killed while it put a batch in place; possible: start nightline archive"):
        read_history(tmp_path, SITE, 1440)
    Archive(tmp_path, SITE.name, "nl").close()
    assert in_order(read_back(tmp_path)) == in_order(days_of_a_town())


def test_half_a_reject_is_cut_off_at_the_next_start(whole: Path):
    before = (whole / REJECTS).read_bytes()
    with (whole / REJECTS).open("ab") as rejects:
        rejects.write(b'{"half":')
    Archive(whole, SITE.name, "nl").close()
    assert (whole / REJECTS).read_bytes() == before


def test_a_full_disk_keeps_the_last_batch_and_says_so(whole: Path, tmp_path: Path):
    folder = tmp_path / "archive"
    keep(LOG, folder, 60)
    before = content(folder)
    more = Log()
    more.records = list(LOG.records)
    more._ends, more.raw = dict(LOG._ends), LOG.raw
    later = days_of_a_town(4)[-384:]
    more.route(later)

    def full(step: str) -> None:
        if step == "all written":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(ConfigError, match="No space left on device; the archive stands as of its last batch"):
        keep(more, folder, None, full)
    assert content(folder) == before
    keep(more, folder)
    assert in_order(read_back(folder)) == in_order(np.concatenate([days_of_a_town(), later]))


# whose archive it is


def test_an_archive_of_another_prefix_or_site_is_refused(whole: Path):
    with pytest.raises(ConfigError, match="is the archive of prefix 'nl', not 'other'; possible: another --out"):
        keep(LOG, whole, prefix="other")
    with pytest.raises(ConfigError, match="is the archive of site 'testville', not 'elsewhere'"):
        Archive(whole, "elsewhere", "nl")
    other = parse_site(SITE_TOML.replace("testville", "elsewhere"), NETWORK_TOML)
    with pytest.raises(ConfigError, match="is the archive of site 'testville', not 'elsewhere'; possible: its own site"):
        read_history(whole, other, 60)


def test_two_archivers_cannot_write_to_one_folder(whole: Path):
    with Archive(whole, SITE.name, "nl"), pytest.raises(ConfigError, match=rf"process {os.getpid()} writes to it; possible"):
        Archive(whole, SITE.name, "nl")
    Archive(whole, SITE.name, "nl").close()


def test_a_run_in_which_nothing_came_makes_a_folder_nobodys(tmp_path: Path):
    Archive(tmp_path / "out", SITE.name, "mistaken").close()
    keep(LOG, tmp_path / "out")
    assert read_state(tmp_path / "out").prefix == "nl"


def test_a_folder_of_something_else_is_refused(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(ConfigError, match=r"is no archive and holds 'thesis\.txt'; possible: a new or empty folder"):
        Archive(tmp_path, SITE.name, "nl")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"format":2,"site":"testville","prefix":"nl"}', "format 2; possible: 1, or a newer nightline"),
        ('{"format":1,"si', "is not of an archive: Input data was truncated"),
        ('{"format":1,"site":"testville","prefix":"nl","rejectsBytes":9}', "has 0 bytes, archive.json knows of 9"),
    ],
)
def test_a_state_that_cannot_be_used_is_refused(text: str, reason: str, tmp_path: Path):
    (tmp_path / STATE).write_text(text)
    with pytest.raises(ConfigError, match=reason):
        Archive(tmp_path, SITE.name, "nl")


def test_a_day_that_cannot_be_read_stops_it_and_names_the_file(whole: Path, tmp_path: Path):
    keep(LOG, tmp_path, 100)
    file = next((tmp_path / "readings" / "dma=A").glob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-20])
    more = Log()
    more.raw = LOG.raw
    more.route(days_of_a_town())
    with Archive(tmp_path, SITE.name, "nl") as store:
        collector = Collector(store)
        collector.offsets[READINGS] = {}
        for dataset, record in more.records:
            collector.take(dataset, record)
        with pytest.raises(ConfigError, match=re.escape(f"{file}: cannot be read: ")):
            store.commit(collector.hand_out())


def test_an_archive_without_readings_says_so(tmp_path: Path):
    with Archive(tmp_path, SITE.name, "nl") as store:
        store.commit(Batch(offsets={READINGS: {0: 7}}))
    with pytest.raises(ConfigError, match="holds no readings yet; possible: nightline archive"):
        read_history(tmp_path, SITE, 60)


def test_what_kafka_no_longer_had_is_told_to_whoever_reads_the_archive(tmp_path: Path):
    log = Log()
    log.route(days_of_a_town(1))
    with Archive(tmp_path, SITE.name, "nl") as store:
        collector = Collector(store)
        collector.skip(READINGS, 0, 5, "they were deleted")
        for dataset, record in log.records:
            collector.take(dataset, record._replace(offset=record.offset + 5 * (record.partition == 0)))
        store.commit(collector.hand_out())
    history = read_history(tmp_path, SITE, 1440)
    list(history)
    assert history.rejects.first == [(STATE, 0, "gap: readings.v1 partition 0, 0 to 5: they were deleted")]


def test_a_hole_in_the_log_is_noted(tmp_path: Path):
    with Archive(tmp_path, SITE.name, "nl") as store:
        collector = Collector(store)
        for dataset, record in records_with_a_hole():
            collector.take(dataset, record)
        (gap,) = collector.batch.gaps
    assert (gap.dataset, gap.partition, gap.start, gap.end) == (READINGS, 0, 1, 3)


def records_with_a_hole() -> Iterator[tuple[str, object]]:
    log = Log()
    for part in np.split(days_of_a_town(1), 4):
        log.route(part)
    for dataset, record in log.records:
        if record.partition == 0 and record.offset not in (1, 2):
            yield dataset, record


def test_meters_and_dmas_that_a_network_no_longer_has_are_kept(tmp_path: Path):
    smaller = parse_site(SITE_TOML, NETWORK_TOML.replace("in-C", "in-C2"))
    keep(LOG, tmp_path)
    history = read_history(tmp_path, smaller, 1440)
    got = np.concatenate([window.readings for window in history])
    assert len(got) == 3 * 288
    # after what nobody could read of the topic
    assert [file for file, _, _ in history.rejects.first[:3]] == [REJECTS, REJECTS, "2026-01-04.parquet"]
    assert "meter 'in-C' is not in network.toml; nearest: 'in-C2'" in history.rejects.first[2][2]


def test_leaks_are_injected_into_every_file_of_an_archive(whole: Path, tmp_path: Path):
    row = SITE.meter_row["A-B"]
    times = START_MS + DAY_MS + 900_000 * np.arange(96)
    changed = rewrite(whole, tmp_path, SITE, {(row, FLOW): [Addition(times, np.full(96, 7.0))]})
    before, after = read_back(whole), read_back(tmp_path)
    more = after["value"] - before["value"]
    assert after[["time_ms", "meter", "kind"]].tolist() == before[["time_ms", "meter", "kind"]].tolist()
    assert set(before["meter"][more != 0].tolist()) == {row}
    np.testing.assert_allclose(more[more != 0], 7.0, atol=1e-5)
    assert (more != 0).sum() == 96
    assert changed == 3 * 96  # it lies in the files of A and B, and as a neighbour's in C's
    with pytest.raises(ConfigError, match=r"is the archive of prefix 'nl \(a changed copy\)', not 'nl'"):
        Archive(tmp_path, SITE.name, "nl")


def test_no_foreign_slots_can_make_a_day_unwritable(tmp_path: Path):
    log, rng = Log(), Random(7)  # noqa: S311 - the fuzzer's
    for at in range(4):
        log.score("A", at, 2, features=("f", f"g{at}"))
    made = tuple(record.value for _, record in log.records)
    with Archive(tmp_path, SITE.name, "nl") as store:
        collector = Collector(store)
        for at in range(600):
            blob = detections(rng, made)
            collector.take(DETECTIONS, Record("nl.detections.v1", 0, at, 0, b"A", blob, []))
            if collector.records == 100:
                store.commit(collector.hand_out())
        counts = store.state.counts
    assert counts["slots"] > 50
    assert counts["rejected"] > 100
    assert (tmp_path / "detections" / "dma=A" / "2026-01-04.parquet").exists()


@pytest.mark.parametrize("removed", ["", STATE])
def test_a_folder_that_is_removed_while_it_is_written_to_is_not_begun_anew_in_silence(tmp_path: Path, removed: str):
    batches = [Collector(Batch()) for _ in range(2)]
    for collector, part in zip(batches, (LOG.records[:40], LOG.records[:80]), strict=True):
        for dataset, record in part:
            collector.take(dataset, record)
    folder = tmp_path / "archive"
    with Archive(folder, SITE.name, "nl") as store:
        store.commit(batches[0].hand_out())
        if removed:
            (folder / removed).unlink()
        else:
            shutil.rmtree(folder)
        with pytest.raises(ConfigError, match="was removed, or replaced, while it was written to; possible: start it again"):
            store.commit(batches[1].hand_out())
    assert folder.exists() == bool(removed)
