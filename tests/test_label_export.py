"""nightline labels export: outcomes of alerts as labels; the last one counts, the others are its history."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from models.config import ConfigError
from models.network import parse_site
from models.schema import Estimate, Scope
from nightline.cli import nightline
from tests.archiving import DAY_MS, SITE, Log, keep
from tests.synthetic import NETWORK_TOML, SITE_TOML
from tests.test_cloudevents import ALERT
from training.label_export import export_labels
from training.labels import read_known_events, read_labels

T = ALERT.updated_at


def excess(size: float) -> Estimate:
    return msgspec.structs.replace(ALERT.estimate, excess_flow=size)


def archive_of(folder: Path) -> Path:
    """Four alerts: a burst that two people judged, planned work, one that was only acknowledged, one nobody archived."""
    log = Log()
    for revision, size in ((1, 5.0), (2, 9.25), (3, 8.0)):
        ended = T + DAY_MS if revision == 3 else None
        log.alert(
            alert_id="burst", revision=revision, type="burst", estimate=excess(size), ended_at=ended, updated_at=T + revision
        )
    log.alert(alert_id="work", revision=1)
    log.alert(alert_id="fault", revision=1, type="meter_fault", scope=Scope(type="meter", id="in-C"), estimate=None)
    log.alert(alert_id="old", revision=1, origin="replay")
    log.alert(alert_id="open", revision=1)
    for number, (alert, outcome, by) in enumerate(
        [
            ("burst", "false_alarm", "ann"), ("burst", "confirmed_leak", "ben"), ("work", "planned_work", "ann"),
            ("fault", "meter_fault", "ann"), ("old", "confirmed_leak", "ann"), ("lost", "confirmed_leak", "ann"),
        ]
    ):  # fmt: skip
        log.command(
            command_id=f"c{number}", alert_id=alert, outcome=outcome, by=by, at=T + (2 + number) * DAY_MS, comment="x"
        )
    log.command(command_id="c1", alert_id="burst", outcome="confirmed_leak", by="ben", at=T + 3 * DAY_MS)
    log.command(command_id="c9", alert_id="open", action="ack", outcome=None)
    keep(log, folder)
    return folder


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return archive_of(tmp_path_factory.mktemp("labels") / "archive")


def write(archive: Path, folder: Path) -> tuple[Path, str]:
    folder.mkdir(exist_ok=True)
    (folder / "site.toml").write_text(SITE_TOML)
    (folder / "network.toml").write_text(NETWORK_TOML)
    out = folder / "from-alerts.csv"
    said = CliRunner().invoke(
        nightline, ["labels", "export", str(folder), "--archive", str(archive), "--out", str(out)], catch_exceptions=False
    )
    assert said.exit_code == 0, said.output
    return out, said.output


def test_closed_alerts_become_labels_with_where_they_come_from(archive: Path, tmp_path: Path):
    out, said = write(archive, tmp_path / "site")
    assert "from-alerts.csv: 2 leaks, 2 that were none" in said
    assert "no label: alert lost: the archive holds no revision of it" in said
    burst, old = sorted(read_labels(out, SITE), key=lambda leak: leak.id)
    assert (burst.id, burst.dma, burst.kind, burst.max_m3h) == ("burst", "A", "abrupt", 9.25)
    assert (burst.started_ms, burst.ended_ms) == (ALERT.started_at, T + DAY_MS)
    # nobody knows when a replayed leak ended: the time of the click is another year's
    assert (old.kind, old.ended_ms) == ("incipient", None)
    events = {event.id: event for event in read_known_events(out, SITE)}
    assert {event.outcome for event in events.values()} == {"planned_work", "meter_fault"}
    assert events["work"].ended_ms == T + 4 * DAY_MS  # live, and not cleared: until it was closed
    with out.open(newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    row = rows["burst"]
    assert (row["source"], row["alertId"], row["by"], row["outcome"]) == ("alert", "burst", "ben", "confirmed_leak")
    assert re.fullmatch(r"2026-11-25T02:15:00\.250Z false_alarm by ann", row["history"])
    assert row["at"] == "2026-11-26T02:15:00.250Z"
    assert rows["work"]["kind"] == ""


def test_exporting_again_gives_the_same_and_import_takes_it_once(archive: Path, tmp_path: Path):
    out, _ = write(archive, tmp_path / "site")
    before = out.read_bytes()
    assert write(archive, tmp_path / "site")[0].read_bytes() == before
    for expected in ("4 added, 0 there already", "0 added, 4 there already"):
        said = CliRunner().invoke(nightline, ["labels", "import", str(tmp_path / "site"), str(out)])
        assert expected in said.output
    assert read_labels(tmp_path / "site" / "labels.csv", SITE) == read_labels(out, SITE)
    with (tmp_path / "site" / "labels.csv").open(newline="") as file:
        assert {row["source"] for row in csv.DictReader(file)} == {"alert"}


def test_a_later_outcome_of_an_alert_wins_when_it_is_imported_and_an_older_one_does_not(archive: Path, tmp_path: Path):
    site = tmp_path / "site"
    out, _ = write(archive, site)
    old = out.read_text()
    line = next(line for line in old.splitlines() if line.startswith("A,abrupt"))
    later = line.replace("A,abrupt", "A,").replace("confirmed_leak", "planned_work").replace("2026-11-26", "2026-11-29")
    new = old.replace(line, later)
    for text, expected, outcome in ((old, "4 added", "confirmed_leak"), (new, "1 replaced, 0 refused", "planned_work"),
                                    (old, "0 replaced, 1 refused", "planned_work")):  # fmt: skip
        out.write_text(text)
        said = CliRunner().invoke(nightline, ["labels", "import", str(site), str(out)])
        assert expected in said.output
        with (site / "labels.csv").open(newline="") as file:
            row = next(row for row in csv.DictReader(file) if row["id"] == "burst")
        assert (row["outcome"], row["history"]) == (outcome, "2026-11-25T02:15:00.250Z false_alarm by ann")


def test_labels_of_other_sources_are_not_written_over(archive: Path, tmp_path: Path):
    out, _ = write(archive, tmp_path / "site")
    out.write_text("dma,kind,startedAt,endedAt\nA,abrupt,2026-03-01,\n")
    with pytest.raises(ConfigError, match="holds 1 labels that do not come from alerts; possible: another --out"):
        write(archive, tmp_path / "site")


def test_a_folder_that_is_no_archive_of_the_site_is_refused(archive: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"holds no archive\.json; possible: a folder that nightline archive keeps"):
        export_labels(tmp_path, SITE)
    with pytest.raises(ConfigError, match="is the archive of site 'testville', not 'elsewhere'"):
        export_labels(archive, parse_site(SITE_TOML.replace("testville", "elsewhere"), NETWORK_TOML))
