"""Site folders from data sets: what is made passes the site's own check and reads back as it was."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from models.config import ConfigError
from models.network import Site
from nightline.cli import nightline
from nightline.sites import load_site
from training.history import read_history
from training.importers.battledim import import_battledim
from training.importers.epanet import read_inp
from training.importers.site_folder import slot_for
from training.importers.wide_csv import CsvOptions, import_csv

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
INP = """
[JUNCTIONS]
;ID   Elev
 n1   10
 n2   10
 n3   10
 n4   10
[RESERVOIRS]
 R1   100
[TANKS]
 T1   98.68  3.5  0  4  16.0  0   ;LEVEL SENSOR
[PIPES]
 p227  R1  n1  20 200 140 0 Open
 p235  R1  n2  20 200 140 0 Open
 p1    n1  n2  20 200 140 0 Open
 p2    T1  n3  20 200 140 0 Open
 p3    n3  n4  20 200 140 0 Open
[PUMPS]
 PUMP_1  n2  T1  HEAD 1
"""


def data(*parts: str) -> Path:
    path = DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"development data {'/'.join(parts)} is not beside the repository (shared/data)")
    return path


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(nightline, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def table(folder: Path) -> tuple[Site, dict[str, dict[int, float]]]:
    """Values by meter and time."""
    site = load_site(folder)
    values: dict[str, dict[int, float]] = {meter.id: {} for meter in site.meters}
    for window in read_history(folder / "readings", site, 1440):
        for reading in window.readings:
            values[site.meters[reading["meter"]].id][int(reading["time_ms"])] = float(reading["value"])
    return site, values


def official(folder: Path) -> Path:
    """A folder in the competition's own format: semicolon, decimal comma."""
    folder.mkdir()
    stamps = [f"2019-01-01 {i // 12:02}:{i % 12 * 5:02}" for i in range(48)]
    columns = {
        "Flows": {"PUMP_1": 40.5, "p227": 70.25, "p235": 80.75},
        "Pressures": {"n1": 28.83, "n3": 40.0},
        "Levels": {"T1": 3.41},
        "Demands": {"n3": 482.19, "n4": 100.0},
    }
    for name, values in columns.items():
        rows = [";".join(["Timestamp", *values])]
        rows += [";".join([t, *(f"{v}".replace(".", ",") for v in values.values())]) for t in stamps]
        (folder / f"2019_SCADA_{name}.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    flows = [0.0] * 12 + [20.0] * 12 + [0.0] * 24, [0.0] * 6 + [i * 0.1 for i in range(1, 43)], [5.0] * 24 + [0.0] * 24
    rows = ["Timestamp;p1;p3;p2"]
    rows += [";".join([t, *(f"{flow[i]:.2f}".replace(".", ",") for flow in flows)]) for i, t in enumerate(stamps)]
    (folder / "2019_Leakages.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "L-TOWN.inp").write_text(INP, encoding="utf-8")
    return folder


def labels(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_official_files_become_two_dmas_with_the_pump_between_them(tmp_path: Path) -> None:
    import_battledim(official(tmp_path / "in"), tmp_path / "site")
    site, values = table(tmp_path / "site")
    ends = {meter.id: (meter.kind, meter.from_dma, meter.to_dma, meter.dma) for meter in site.meters}
    assert ends == {
        "PUMP_1": ("flow", "AB", "C", None),
        "p227": ("flow", None, "AB", None),
        "p235": ("flow", None, "AB", None),
        "T1": ("level", None, None, "C"),
        "P-n1": ("pressure", None, None, "AB"),
        "P-n3": ("pressure", None, None, "C"),
        "AMR-n3": ("flow", None, None, "C"),
        "AMR-n4": ("flow", None, None, "C"),
    }
    assert site.meters[site.meter_row["T1"]].area_m2 == pytest.approx(np.pi * 8**2, rel=1e-5)
    assert [dma.slot_minutes for dma in site.dmas] == [5, 5]
    assert site.shortest_lateness_minutes == 1440
    for meter, expected in {"p227": 70.25, "P-n1": 28.83 * 9.80665, "T1": 3.41, "AMR-n3": 0.48219}.items():
        np.testing.assert_allclose(list(values[meter].values()), [expected] * 48, rtol=1e-6)


def test_pressures_and_demands_can_be_left_out(tmp_path: Path) -> None:
    import_battledim(official(tmp_path / "in"), tmp_path / "site", flows_only=True)
    assert [meter.id for meter in load_site(tmp_path / "site").meters] == ["PUMP_1", "p227", "p235", "T1"]


def test_sensor_noise_is_small_and_the_same_for_the_same_seed(tmp_path: Path) -> None:
    source = official(tmp_path / "in")
    for name, seed in (("clean", None), ("one", 1), ("again", 1), ("other", 2)):
        import_battledim(source, tmp_path / name, noise_seed=seed)
    (_, clean), (_, one), (_, again), (_, other) = (table(tmp_path / name) for name in ("clean", "one", "again", "other"))
    assert one == again
    assert one["p227"] != other["p227"]
    for meter, sd in {"p227": 0.005 * 70.25, "P-n1": 0.5, "T1": 0.001}.items():
        off = np.array([one[meter][time] - value for time, value in clean[meter].items()])
        assert 0.7 * sd < off.std() < 1.3 * sd
        assert abs(off.mean()) < 0.5 * sd
    assert one["AMR-n3"] == clean["AMR-n3"]


def test_leaks_are_read_from_the_official_flow_table(tmp_path: Path) -> None:
    made = import_battledim(official(tmp_path / "in"), tmp_path / "site")
    names = ("id", "dma", "kind", "startedAt", "max_m3h", "peakAt")
    assert [tuple(row[name] for name in names) for row in labels(tmp_path / "site")] == [
        ("p3", "C", "incipient", "2019-01-01 00:30", "4.200", "2019-01-01 03:55"),
        ("p1", "AB", "abrupt", "2019-01-01 01:00", "20.000", "2019-01-01 01:00"),
    ]
    assert any("p2 was leaking before the record begins" in note for note in made.notes)


def test_leaks_are_read_from_the_official_list_before_the_flow_table(tmp_path: Path) -> None:
    source = official(tmp_path / "in")
    (source / "dataset_configuration.yaml").write_text(
        "leakages:\n  # linkID, startTime, endTime, leakDiameter (m), leakType, peakTime\n"
        "  - p3, 2019-01-15 23:00, 2019-02-01 09:50, 0.020246, abrupt, 2019-01-15 23:00\n",
        encoding="utf-8",
    )
    import_battledim(source, tmp_path / "site")
    assert [(r["id"], r["dma"], r["kind"], r["endedAt"]) for r in labels(tmp_path / "site")] == [
        ("p3", "C", "abrupt", "2019-02-01 09:50")
    ]


def test_only_the_flows_and_the_network_are_needed(tmp_path: Path) -> None:
    source = official(tmp_path / "in")
    for name in ("Pressures", "Levels", "Demands"):
        (source / f"2019_SCADA_{name}.csv").unlink()
    made = import_battledim(source, tmp_path / "site")
    assert len(load_site(tmp_path / "site").meters) == 3
    assert any("no level of T1" in note for note in made.notes)
    (source / "2019_SCADA_Flows.csv").unlink()
    with pytest.raises(ConfigError, match=r"no flows in the folder; possible: <year>_SCADA_Flows\.csv"):
        import_battledim(source, tmp_path / "other")
    with pytest.raises(ConfigError, match=r"not a folder"):
        import_battledim(source / "L-TOWN.inp", tmp_path / "other")


def test_a_network_without_links_or_tank_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.inp").write_text("[TITLE]\nnothing\n")
    with pytest.raises(ConfigError, match=r"a\.inp: no \[PIPES\]"):
        read_inp(tmp_path / "a.inp")


def test_a_wide_csv_makes_a_dma_of_every_flow_column(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("timestamp,north_lps,South Gate,label\n2026-01-05 00:00,10,1,0\n2026-01-05 00:30,,2,1\n")
    out = invoke("import", "csv", source, "--out", tmp_path / "site", "--unit", "L/s", "--skip", "label")
    assert "no --timezone given" in out
    site, values = table(tmp_path / "site")
    assert [(dma.id, dma.name, dma.slot_minutes) for dma in site.dmas] == [
        ("north", "north", 30),
        ("South-Gate", "South Gate", 30),
    ]
    assert list(values["FM-north"].values()) == [36.0]
    assert list(values["FM-South-Gate"].values()) == [3.6, 7.2]
    assert "2 DMAs" in invoke("check-config", tmp_path / "site")


def test_pressures_need_to_know_their_dma(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("time;q1;q2;P_1\n05/01/2026 00:00;1,5;2;30\n05/01/2026 00:15;1;2;31\n")
    options = CsvOptions("s", pressure=("P_*",), pressure_unit="m[H2O]", time_format="%d/%m/%Y %H:%M")
    with pytest.raises(ConfigError, match="whose are they"):
        import_csv(source, tmp_path / "site", options)
    invoke(
        "import", "csv", source, "--out", tmp_path / "site", "--one-dma", "Old town", "--pressure", "P_*",
        "--pressure-unit", "m[H2O]", "--time-format", "%d/%m/%Y %H:%M", "--timezone", "Europe/Rome",
    )  # fmt: skip
    site, values = table(tmp_path / "site")
    assert [(dma.id, dma.name) for dma in site.dmas] == [("Old-town", "Old town")]
    assert values["FM-q1"] == {1767567600000: 1.5, 1767568500000: 1.0}
    np.testing.assert_allclose(list(values["P_1"].values()), [30 * 9.80665, 31 * 9.80665])


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (CsvOptions("s", unit="gpm"), "unit 'gpm' is unknown for kind 'flow'; possible: m3/h"),
        (CsvOptions("s", skip=("lable",)), "no column matches 'lable'; nearest: 'label'"),
        (CsvOptions("s", time_column="tim"), "no column 'tim'; nearest: 'time'"),
        (CsvOptions("s", timezone="Europe/Roma"), "'Europe/Roma'; possible: an IANA zone"),
    ],
)
def test_wrong_options_are_named_before_anything_is_written(tmp_path: Path, options: CsvOptions, fault: str) -> None:
    source = tmp_path / "in.csv"
    source.write_text("time,q,label\n2026-01-05 00:00,1,0\n2026-01-05 01:00,1,0\n")
    with pytest.raises(ConfigError) as error:
        import_csv(source, tmp_path / "site", options)
    assert fault in str(error.value)
    assert not (tmp_path / "site" / "site.toml").exists()


def test_a_site_that_is_already_there_is_not_overwritten_unasked(tmp_path: Path) -> None:
    source = official(tmp_path / "in")
    import_battledim(source, tmp_path / "site")
    with pytest.raises(ConfigError, match="already holds a site"):
        import_battledim(source, tmp_path / "site")
    import_battledim(source, tmp_path / "site", force=True)


@pytest.mark.parametrize(("minutes", "slot"), [(0.25, 1), (1, 1), (2, 30), (5, 5), (10, 30), (15, 15), (20, 60), (60, 60)])
def test_slots_hold_whole_intervals(minutes: float, slot: int) -> None:
    assert slot_for(minutes) == slot


def test_readings_further_apart_than_any_slot_are_refused() -> None:
    with pytest.raises(ConfigError, match="1440 minutes apart; possible: at most 60"):
        slot_for(1440)


def test_the_italian_inflows_import_with_one_command(tmp_path: Path) -> None:
    source = data("bwdf", "inflow_hourly_lps.csv.gz")
    invoke("import", "csv", source, "--timezone", "Europe/Rome", "--out", tmp_path / "site")
    site, values = table(tmp_path / "site")
    assert [dma.slot_minutes for dma in site.dmas] == [60] * 6
    with gzip.open(source, "rt") as file:
        rows = list(csv.DictReader(file))
    given = sum(1 for row in rows for name, cell in row.items() if name != "timestamp_local" and cell)
    assert sum(map(len, values.values())) == given  # nothing lost, and no two readings of one time
    every = sorted({time for times in values.values() for time in times})
    steps = np.diff(every)
    # the clock changes leave neither hole nor double; at one hour, 2021-04-24 12:00, every cell is empty
    assert (steps == 3_600_000).sum() == len(steps) - 1
    assert steps.max() == 7_200_000
    assert (tmp_path / "site" / "rejects.csv").read_text() == "file,line,reason\n"


def test_area_c_of_l_town_is_what_lies_behind_the_pump() -> None:
    network = read_inp(data("ltown-2018", "L-TOWN.inp"))
    with data("ltown-2018", "node_area.csv").open(newline="") as file:
        expected = {row["node"] for row in csv.DictReader(file) if row["area"] == "C"}
    assert network.behind("T1", {"PUMP_1"}) == expected


def test_the_year_of_l_town_imports_whole(tmp_path: Path) -> None:
    source = data("ltown-2018")
    out = invoke("import", "battledim", source, "--out", tmp_path / "site")
    assert "2 DMAs, 119 meters" in out
    assert "14 labels" in out
    assert len(labels(tmp_path / "site")) == 14
    site = load_site(tmp_path / "site")
    history = read_history(tmp_path / "site" / "readings", site, 1440)
    count = sum(window.readings.size for window in history)
    assert count == 119 * 105_120
    assert history.rejects.count == 0


WIDE = "timestamp,q\n2026-01-05 00:00,1\n2026-01-05 00:15,2\n"


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_failing_forced_import_leaves_the_old_site_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "in.csv"
    source.write_text(WIDE)
    import_csv(source, tmp_path / "site", CsvOptions("old"))
    before = snapshot(tmp_path)
    with pytest.raises(ConfigError, match="possible: an IANA zone"):
        import_csv(source, tmp_path / "site", CsvOptions("new", timezone="Europe/Roma", force=True))
    assert snapshot(tmp_path) == before

    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.importers.wide_csv.write_readings", full)
    with pytest.raises(ConfigError, match=r"site: cannot be written: No space .* nothing in it was changed"):
        import_csv(source, tmp_path / "site", CsvOptions("new", force=True))
    assert snapshot(tmp_path) == before


def test_a_move_that_breaks_off_half_way_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "in.csv"
    source.write_text(WIDE)
    import_csv(source, tmp_path / "site", CsvOptions("old"))
    before = snapshot(tmp_path)
    rename = Path.rename

    def stuck(self: Path, target: Path) -> Path:
        if self.name == "site.toml" and self.parent.name == "new":
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stuck)
    with pytest.raises(OSError, match="Input/output"):
        import_csv(source, tmp_path / "site", CsvOptions("new", force=True))
    assert snapshot(tmp_path) == before


def test_a_forced_import_takes_only_the_readings_of_the_import_before(tmp_path: Path) -> None:
    import_battledim(official(tmp_path / "in"), tmp_path / "site")
    (tmp_path / "site" / "readings" / "notes.txt").write_text("mine")
    (tmp_path / "site" / "models").mkdir()
    (tmp_path / "site" / "models" / "card.md").write_text("mine")
    source = tmp_path / "in.csv"
    source.write_text(WIDE)
    import_csv(source, tmp_path / "site", CsvOptions("new", force=True))
    assert sorted(path.name for path in (tmp_path / "site" / "readings").iterdir()) == ["notes.txt", "readings.csv.gz"]
    assert (tmp_path / "site" / "models" / "card.md").read_text() == "mine"
    (tmp_path / "site" / "readings" / "meter-7.csv").write_text(WIDE)
    with pytest.raises(ConfigError, match=r"found 'meter-7\.csv', which no import made; possible: move it"):
        import_csv(source, tmp_path / "site", CsvOptions("new", force=True))
    assert (tmp_path / "site" / "readings" / "meter-7.csv").exists()


def test_a_source_inside_the_readings_it_would_replace_is_refused(tmp_path: Path) -> None:
    readings = tmp_path / "site" / "readings"
    readings.mkdir(parents=True)
    source = readings / "readings.csv"
    source.write_text(WIDE)
    for force in (False, True):
        with pytest.raises(ConfigError, match="which the import writes; possible: another folder for --out"):
            import_csv(source, tmp_path / "site", CsvOptions("s", force=force))
    elsewhere = tmp_path / "in.csv"
    elsewhere.write_text(WIDE)
    for force in (False, True):
        with pytest.raises(ConfigError, match=r"found 'readings\.csv', but no site\.toml beside"):
            import_csv(elsewhere, tmp_path / "site", CsvOptions("s", force=force))
    assert snapshot(tmp_path / "site") == {"readings/readings.csv": WIDE.encode()}


def test_cells_too_large_to_convert_are_rejected_by_line(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text(WIDE + "2026-01-05 00:30,1e308\n")
    made = import_csv(source, tmp_path / "site", CsvOptions("s", unit="L/s"))
    assert (made.rows, made.rejects) == (3, 1)
    assert "in.csv,4,column 'q': 1e+308 is too large" in (tmp_path / "site" / "rejects.csv").read_text()


@pytest.mark.parametrize("minutes", [0, 5, 7])
def test_slots_shorter_than_the_interval_or_of_no_known_length_are_refused(tmp_path: Path, minutes: int) -> None:
    source = tmp_path / "in.csv"
    source.write_text(WIDE)
    with pytest.raises(ConfigError, match=f"slots of {minutes} minutes for .* 15 minutes apart; possible: 15, 30, 60"):
        import_csv(source, tmp_path / "site", CsvOptions("s", slot_minutes=minutes))
    assert import_csv(source, tmp_path / "site", CsvOptions("s", slot_minutes=30)).slot_minutes == 30
