"""`nightline drift`: the weekly report of detections that lie in files, and one clear line for what cannot be read."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from models.bundle import ARRAYS, Bundle
from nightline import cli
from nightline.drift import drift as command
from tests.drifting import NETWORK_TOML, SITE_TOML, slots, trained
from tests.synthetic import SITE_TOML as OTHER_SITE
from tests.test_bundle import changed, with_arrays
from training import registry
from training.alarm_rate import more_than_before, more_than_budget
from training.backtest import DetectionsFile


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A site with a champion, and ten weeks after its training: A as before, B drifts from the seventh week on."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "site.toml").write_text(SITE_TOML, encoding="utf-8")
    (folder / "network.toml").write_text(NETWORK_TOML, encoding="utf-8")
    bundle = trained()
    registry.save(folder, bundle)
    registry.promote(folder, bundle.version)
    write(folder / "detections.parquet", {
        "A": slots(10, 50, first_week=30),
        "B": np.concatenate([slots(6, 61, first_week=30), slots(4, 62, first_week=36, shift=1.2)]),
    })  # fmt: skip
    return folder


def write(path, by_dma):
    with DetectionsFile(path) as file:
        for dma, rows in by_dma.items():
            file.add(dma, rows)


def run(*words):
    return CliRunner().invoke(command, [str(word) for word in words])


def without_reference(bundle):
    """As one was before bundles had any."""
    files = bundle.to_files()
    files = with_arrays(files, dataclasses.replace(bundle, reference=None).to_files()[ARRAYS])
    return Bundle.from_files(changed(files, reference=None, version="00000000001d"))


def told(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_dma_that_drifts_is_named_with_what_since_when_and_what_to_do(place, tmp_path):
    result = run(place, "--detections", place, "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert "B: since the week of 2026-09-14 (4 weeks): " in result.stdout
    assert "is higher: " in result.stdout
    assert "nightline train SITE --readings PATH --since 2026-09-14; compare; promote" in result.stdout
    found = json.loads((tmp_path / "out" / "drift.json").read_text(encoding="utf-8"))
    assert found["drifting"] == ["B"]
    assert (found["dmas"]["A"]["verdict"], found["dmas"]["B"]["verdict"]) == ("as trained", "drift")
    assert [len(row["weeks"]) for row in found["dmas"].values()] == [8, 8]
    page = (tmp_path / "out" / "drift.html").read_text(encoding="utf-8")
    assert "since the week of 2026-09-14" in page
    assert "https://" not in page.split("<script>")[0]


def test_nothing_is_promoted_or_trained_by_a_report(place):
    before = sorted((path.name, path.stat().st_mtime_ns) for path in (place / "models").rglob("*"))
    assert run(place, "--detections", place).exit_code == 0
    assert sorted((path.name, path.stat().st_mtime_ns) for path in (place / "models").rglob("*")) == before


def test_cron_hears_of_drift_by_the_exit_code(place, tmp_path):
    assert run(place, "--detections", place / "detections.parquet", "--fail").exit_code == 1
    write(tmp_path / "detections.parquet", {"A": slots(10, 50, first_week=30)})
    assert run(place, "--detections", tmp_path, "--fail").exit_code == 0


def test_an_archive_by_dma_and_day_says_the_same_as_one_file(place, tmp_path):
    whole = told(run(place, "--detections", place, "--json"))
    table = pq.read_table(place / "detections.parquet")
    for dma in "AB":
        own = table.filter(pa.compute.equal(table["dma"], dma)).drop_columns(["dma"])
        days = own["slot_end_ms"].to_numpy() // 86_400_000
        for day in np.unique(days):
            file = tmp_path / "detections" / f"dma={dma}" / f"{np.datetime64(int(day), 'D')}.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(own.filter(pa.array(days == day)), file)
    assert told(run(place, "--detections", tmp_path, "--json")) == whole


def test_more_leak_alarms_than_in_training_are_drift_without_any_feature(place, tmp_path):
    rows = slots(10, 50, first_week=30)
    write(tmp_path / "detections.parquet", {"A": rows})
    alerts = pa.table({
        "event": ["raised"] * 6 + ["updated"] * 9, "type": ["burst"] * 15, "scopeId": ["A"] * 15,
        "detectedAt": pa.array(rows["slot_end_ms"][-15:], pa.timestamp("ms", "UTC")),
    })  # fmt: skip
    (tmp_path / "alerts").mkdir()
    pq.write_table(alerts, tmp_path / "alerts" / "2026-10-01.parquet")
    found = told(run(place, "--detections", tmp_path, "--json"))
    alarms = found["dmas"]["A"]["alarms"]
    assert (alarms["count"], alarms["trainingCount"], found["drifting"]) == (6, 1, ["A"])
    assert "6 leak alarms in 56 days, where the training window had 1 in 210" in found["dmas"]["A"]["says"][0]


def test_the_chance_of_so_many_alarms_is_the_binomial_and_the_poisson_sum():
    expected = sum(math.comb(7, k) * 0.2**k * 0.8 ** (7 - k) for k in range(3, 8))
    assert more_than_before(3, 50, 4, 200) == pytest.approx(expected)
    assert more_than_before(0, 50, 0, 200) == pytest.approx(1)
    assert more_than_before(3, 0, 4, 200) is None
    assert more_than_budget(2, 0.7) == pytest.approx(1 - math.exp(-0.7) * 1.7)


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--detections", "nowhere"], "no such file or folder; possible: detections.parquet of a backtest"),
        (["--detections", "site.toml"], "not a Parquet file that can be read"),
        (["--detections", "short"], "found 6.8 days of slots; possible: a whole week and more"),
        (["--detections", "other"], "no column 'flow_z': not detections of this version"),
        (["--detections", "unknown"], "DMA 'C' is not in network.toml"),
        (["--detections", "twice"], "slots come twice"),
        (["--detections", "detections.parquet", "--model", "0123456789ab"], "version '0123456789ab' is not there"),
        (["--detections", "detections.parquet", "--model", "old"], "has no reference of what it was trained on; possible: "),
        (["--detections", "detections.parquet", "--model", "young"], "trained on too few whole weeks"),
        (["--detections", "detections.parquet", "--alerts", "nowhere"], "no such file or folder; possible: alerts.ndjson"),
        ([], "possible: --detections PATH, or --readings PATH"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_said_in_one_line(place, tmp_path, monkeypatch, capsys, words, fault):
    rows = slots(1, 3, first_week=30)
    for name, parts in (("short", {"A": rows[5:]}), ("unknown", {"C": rows}), ("twice", {"A": rows})):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "a.parquet", parts)
    write(tmp_path / "twice" / "b.parquet", {"A": rows})
    (tmp_path / "other").mkdir()
    table = pq.read_table(tmp_path / "short" / "a.parquet")
    pq.write_table(table.drop_columns(["flow_z"]), tmp_path / "other" / "a.parquet")
    stored = {"old": without_reference(trained()), "young": trained(weeks=5)}
    for bundle in stored.values():
        registry.save(place, bundle)
    texts = [stored[word].version if word in stored else word for word in words]
    for at, word in enumerate(words[1:], 1):
        if words[at - 1] in ("--detections", "--alerts"):
            texts[at] = str((tmp_path if (tmp_path / word).exists() else place) / word)
    monkeypatch.setattr("sys.argv", ["nightline", "drift", str(place), *texts])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    printed = capsys.readouterr().err
    assert fault in printed
    assert len([line for line in printed.splitlines() if line.lower().startswith("error")]) == 1


def test_a_site_without_a_model_is_told_how_to_get_one(tmp_path, monkeypatch, capsys):
    (tmp_path / "site.toml").write_text(OTHER_SITE, encoding="utf-8")
    (tmp_path / "network.toml").write_text(NETWORK_TOML, encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["nightline", "drift", str(tmp_path), "--detections", str(tmp_path)])
    with pytest.raises(SystemExit):
        cli.main()
    assert "no model serves; possible: nightline train SITE" in capsys.readouterr().err
