"""nightline labels import: a utility's log merged into labels.csv by id, each refused row with its reason."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from threading import Thread

import pytest
from click.testing import CliRunner, Result

from models.config import ConfigError
from nightline.cli import nightline
from tests.synthetic import NETWORK_TOML, SITE_TOML, make_site
from training.label_files import MOST_OVERLAPS, merge, read_repair_log
from training.labels import KnownEvent, read_known_events, read_labels, time_of
from training.staging import alone

SITE = make_site()
LOG = """Auftrag,Zone,Beginn,Ende,Art
R-1,A,2026-03-01 08:00,2026-03-02 17:00,
R-2,B,2026-03-04 02:00,,confirmed_burst
R-3,Z,2026-03-05 00:00,,
R-4,C,gestern,,
R-5,C,2026-04-01 06:00,2026-04-01 12:00,planned_work
"""
NAMED = [word for pair in ("id=Auftrag", "dma=Zone", "startedAt=Beginn", "endedAt=Ende", "outcome=Art") for word in
         ("--column", pair)]  # fmt: skip


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "site.toml").write_text(SITE_TOML)
    (tmp_path / "site" / "network.toml").write_text(NETWORK_TOML)
    (tmp_path / "repairs.csv").write_text(LOG)
    return tmp_path / "site"


def take(site: Path, *options: str, text: str | None = None) -> Result:
    file = site.parent / "repairs.csv"
    if text is not None:
        file.write_text(text)
    return CliRunner().invoke(nightline, ["labels", "import", str(site), str(file), *NAMED, *options])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_repair_log_becomes_labels_and_each_refused_row_has_its_reason(site: Path):
    said = take(site, "--kind", "incipient", "--source", "SAP PM")
    assert said.exit_code == 1
    assert "labels.csv: 3 added, 0 there already, 0 replaced, 2 refused; 3 labels now" in said.output
    leaks = read_labels(site / "labels.csv", SITE)
    assert [(leak.id, leak.dma, leak.kind) for leak in leaks] == [("R-1", "A", "incipient"), ("R-2", "B", "abrupt")]
    start = 1_775_019_600_000  # 2026-04-01 06:00 in Tunis
    assert read_known_events(site / "labels.csv", SITE) == [
        KnownEvent("R-5", "C", "planned_work", start, start + 6 * 3_600_000)
    ]
    rows = rows_of(site / "labels.csv")
    assert {row["source"] for row in rows} == {"SAP PM"}
    assert all(row["by"] and row["at"].startswith("20") for row in rows)
    rejects = rows_of(site / "labels-rejects.csv")
    assert [(row["line"], row["id"], row["file"]) for row in rejects] == [
        ("4", "R-3", "repairs.csv"),
        ("5", "R-4", "repairs.csv"),
    ]
    assert "dma 'Z' is not in network.toml; possible: A, B, C" in rejects[0]["reason"]
    assert "time 'gestern' cannot be read" in rejects[1]["reason"]


def test_what_is_there_already_is_taken_once_and_conflicts_are_refused_unless_replaced(site: Path):
    good = "".join(LOG.splitlines(keepends=True)[:3])
    assert take(site, "--kind", "abrupt", text=good).exit_code == 0
    before = (site / "labels.csv").read_bytes()
    # the same moment in other words
    again = good.replace("2026-03-01 08:00", "2026-03-01T08:00:00+01:00")
    said = take(site, "--kind", "abrupt", text=again)
    assert "0 added, 2 there already, 0 replaced, 0 refused" in said.output
    assert (site / "labels.csv").read_bytes() == before

    moved = good.replace("2026-03-02 17:00", "2026-03-03 17:00")
    said = take(site, "--kind", "abrupt", text=moved)
    assert (said.exit_code, (site / "labels.csv").read_bytes()) == (1, before)
    assert "id 'R-1' is there with endedAt '2026-03-02 17:00', not '2026-03-03 17:00'; possible: --replace" in said.output
    said = take(site, "--kind", "abrupt", "--replace", text=moved)
    assert (said.exit_code, "1 replaced" in said.output) == (0, True)
    row = rows_of(site / "labels.csv")[0]
    assert row["endedAt"] == "2026-03-03 17:00"
    assert "abrupt 2026-03-01 08:00/2026-03-02 17:00 by" in row["history"]


def test_rows_without_an_id_are_known_again(site: Path):
    log = "dma,kind,startedAt,endedAt\nA,abrupt,2026-03-01,2026-03-02\n"
    (site / "labels.csv").write_text(log)
    file = site.parent / "plain.csv"
    file.write_text(log + "B,abrupt,2026-03-01,2026-03-02\n")
    for added in (1, 0):
        said = CliRunner().invoke(nightline, ["labels", "import", str(site), str(file)])
        assert f"{added} added, {2 - added} there already" in said.output
    assert len(read_labels(site / "labels.csv", SITE)) == 2


def test_two_leaks_of_one_time_and_dma_are_pointed_out(site: Path):
    assert take(site, "--kind", "abrupt", text=LOG[: LOG.index("R-2")]).exit_code == 0
    said = take(site, "--kind", "abrupt", text=LOG[: LOG.index("R-2")].replace("R-1", "R-7"))
    assert "note: leak R-7 runs at the same time as R-1 of its DMA" in said.output


def test_a_leak_without_a_kind_is_refused_with_what_is_possible():
    row = {"dma": "A", "startedAt": "2026-03-01", "id": "x"}
    merged = merge(SITE, [], [(2, row)], {}, None, replace=False)
    assert [(line, reason) for line, reason, _ in merged.refused] == [(2, "kind ''; possible: abrupt, incipient")]


def test_a_column_that_is_not_there_is_named(tmp_path: Path):
    file = tmp_path / "log.csv"
    file.write_text("zone,startedAt\nA,2026-03-01\n")
    with pytest.raises(ConfigError, match="no column 'dma'; possible: startedAt, zone; or --column dma=ITS-NAME"):
        read_repair_log(file, {})
    with pytest.raises(ConfigError, match=r"--column dmas: is no column of labels\.csv; nearest: 'dma'"):
        read_repair_log(file, {"dmas": "zone"})
    file.write_text("dma,startedAt\n")
    with pytest.raises(ConfigError, match="holds no rows"):
        read_repair_log(file, {})


def test_a_row_with_too_many_cells_is_refused(tmp_path: Path):
    file = tmp_path / "log.csv"
    file.write_text("dma,kind,startedAt,endedAt\nA,abrupt,2026-03-01,2026-03-02,more\n")
    merged = merge(SITE, [], read_repair_log(file, {}), {}, None, replace=False)
    assert [reason for _, reason, _ in merged.refused] == ["more cells than columns"]


def test_a_file_with_short_rows_semicolons_or_cells_of_two_lines_is_read_as_it_looks(site: Path):
    (site / "labels.csv").write_text("dma,kind,startedAt,endedAt,id\nA,abrupt,2026-03-01\n")  # ends in mid-row
    file = site.parent / "excel.csv"
    file.write_text('\ufeffdma; startedAt;endedAt;comment\r\nB;2026-03-01;;"two\nlines"\r\nZ;2026-03-02;;\r\n')
    said = CliRunner().invoke(nightline, ["labels", "import", str(site), str(file), "--kind", "abrupt"])
    assert "1 added, 0 there already, 0 replaced, 1 refused; 2 labels now" in said.output
    assert "line 4: dma 'Z'" in said.output
    assert [leak.dma for leak in read_labels(site / "labels.csv", SITE)] == ["A", "B"]
    for content, reason in ((b"dma,dma,startedAt\nA,B,2026-03-01\n", "column 'dma' is there twice"),
                            (b"dma,startedAt,comment\nA,2026-03-01,\xe9\n", "possible: text in UTF-8"),
                            (b"", "holds no rows")):  # fmt: skip
        file.write_bytes(content)
        said = CliRunner().invoke(nightline, ["labels", "import", str(site), str(file), "--kind", "abrupt"])
        assert isinstance(said.exception, ConfigError)
        assert reason in str(said.exception)


def test_thousands_of_leaks_are_merged_in_seconds_and_their_overlaps_cut_short(monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr("training.label_files.time_of", lambda text, site: asked.append(text) or time_of(text, site))
    rows = [(n, {"dma": "A", "startedAt": f"2026-03-{1 + n % 28:02d} 0{n % 10}:00", "id": str(n)}) for n in range(2, 602)]
    merged = merge(SITE, [], rows, {}, "abrupt", replace=False)
    assert (merged.added, len(merged.overlaps)) == (600, MOST_OVERLAPS)
    assert len(asked) <= 4 * 600  # 180,000 pairs; parsing a time takes 80 µs


def test_overlaps_are_those_that_every_pair_tells(site: Path):
    spans = [(3, 5), (1, 2), (5, 9), (6, 7), (2, 3), (20, None), (8, 30)]
    rows = [
        {"dma": "AB"[n == 3], "startedAt": f"2026-03-{a:02d}", "endedAt": f"2026-03-{b:02d}" if b else "", "id": str(n)}
        for n, (a, b) in enumerate(spans)
    ]
    merged = merge(SITE, [], list(enumerate(rows, 2)), {}, "abrupt", replace=False)
    expected = {
        (str(n), str(m)) for n, (a, b) in enumerate(spans) for m, (c, d) in enumerate(spans[:n])
        if 3 not in (n, m) and a <= (d or 99) and c <= (b or 99)
    }  # fmt: skip
    assert (set(merged.overlaps), len(merged.overlaps)) == (expected, len(expected))
    assert merge(SITE, merged.rows, list(enumerate(rows, 2)), {}, "abrupt", replace=False).overlaps == []


def test_an_import_waits_for_the_one_that_is_at_it_and_sees_what_it_has_added(site: Path):
    with alone(site):
        other = Thread(target=take, args=(site, "--kind", "abrupt"))
        other.start()
        other.join(0.5)
        assert other.is_alive()
        (site / "labels.csv").write_text("dma,kind,startedAt,endedAt,id\nA,abrupt,2026-03-01,,first\n")
    other.join(60)
    assert [leak.id for leak in read_labels(site / "labels.csv", SITE)] == ["first", "R-1", "R-2"]


def test_an_import_killed_between_any_two_steps_leaves_the_old_labels_or_the_new(
    site: Path, monkeypatch: pytest.MonkeyPatch
):
    assert take(site, "--kind", "abrupt", text=LOG[: LOG.index("R-2")]).exit_code == 0
    seen = set()

    def watched(*_: object) -> None:
        seen.add(tuple(leak.id for leak in read_labels(site / "labels.csv", SITE)))

    for name in ("link", "rename", "replace", "fsync"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *given, real=real: (watched(), real(*given), watched())[1])
    assert take(site, "--kind", "abrupt", text=LOG[: LOG.index("R-3")]).exit_code == 0
    assert seen == {("R-1",), ("R-1", "R-2")}


def test_an_outcome_nobody_knows_is_a_fault(tmp_path: Path):
    file = tmp_path / "labels.csv"
    file.write_text("dma,kind,startedAt,endedAt,outcome\nA,abrupt,2026-03-01,,aliens\n")
    with pytest.raises(
        ConfigError, match="line 2: outcome 'aliens'; possible: confirmed_leak, confirmed_burst, planned_work"
    ):
        read_labels(file, SITE)


@pytest.mark.parametrize(("outcome", "is_normal"), [("false_alarm", True), ("legitimate_use", True), ("planned_work", False),
                                                    ("meter_fault", False), ("unknown", False)])  # fmt: skip
def test_which_outcomes_training_keeps(outcome: str, is_normal: bool):
    assert KnownEvent("x", "A", outcome, 0, None).is_normal is is_normal
