"""LeakDB's two layouts become one site with a DMA for every scenario."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from models.config import ConfigError
from nightline.cli import nightline
from nightline.sites import load_site
from tests.test_importers import data, invoke, table
from training.importers.leakdb import import_leakdb
from training.labels import read_labels

TIMES = [f"2018-01-01 {i // 2:02}:{i % 2 * 30:02}:00" for i in range(48)]
LEAKING = [0] * 20 + [1] * 10 + [0] * 18


def one_column(path: Path, name: str, values: list[float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{time},{value}\n" for time, value in zip(TIMES, values, strict=True))
    path.write_text(f"Timestamp,{name}\n{rows}", encoding="utf-8")


def original(folder: Path) -> Path:
    """Three scenarios in the data set's own layout: a clean one, one with its leak told, one with labels alone."""
    for number in (1, 2, 10):
        here = folder / f"Scenario-{number}"
        one_column(here / "Flows" / "Link_1.csv", "Value", [100.0 + number + 5 * leak for leak in LEAKING])
        one_column(here / "Flows" / "Link_2.csv", "Value", [50.0] * 48)
        for node in (2, 10):
            one_column(here / "Pressures" / f"Node_{node}.csv", "Value", [40.0 + node] * 48)
        one_column(here / "Labels.csv", "Label", [0.0] * 48 if number == 1 else [float(leak) for leak in LEAKING])
    leaks = folder / "Scenario-2" / "Leaks"
    leaks.mkdir()
    facts = {
        "Leak Node": "13", "Leak Area": "0.01", "Leak Type": "incipient", "Leak Start": TIMES[20], "Leak End": TIMES[29],
        "Peak Time": TIMES[25],
    }  # fmt: skip
    rows = "".join(f"{name} , {value}\n" for name, value in facts.items())
    (leaks / "Leak_13_info.csv").write_text(f"Description , Value\n{rows}", encoding="utf-8")
    one_column(leaks / "Leak_13_demand.csv", "Description", [5.25 * leak for leak in LEAKING])
    (folder / "Hanoi_CMH.inp").write_text("[TITLE]\n", encoding="utf-8")
    return folder


def test_the_original_layout_becomes_a_dma_for_every_scenario(tmp_path: Path) -> None:
    made = import_leakdb(original(tmp_path / "Hanoi_CMH"), tmp_path / "site")
    assert (made.dmas, made.meters, made.rows, made.slot_minutes, made.labels) == (3, 9, 3 * 48, 30, 2)
    site, values = table(tmp_path / "site")
    assert [dma.id for dma in site.dmas] == ["S001", "S002", "S010"]  # by number, not by name
    assert site.accept_after_days == 3650
    assert [meter.id for meter in site.meters if meter.home == "S010"] == ["FM-S010", "P-S010-2", "P-S010-10"]
    np.testing.assert_allclose(list(values["FM-S002"].values()), [102.0 + 5 * leak for leak in LEAKING])
    np.testing.assert_allclose(list(values["P-S010-10"].values()), [50.0 * 9.80665] * 48)
    derived, told = read_labels(tmp_path / "site" / "labels.csv", site)
    assert (told.dma, told.kind, told.id, told.max_m3h) == ("S002", "incipient", "2-13", 5.25)
    assert (told.peak_ms or 0) - told.started_ms == 5 * 1_800_000
    assert (derived.dma, derived.kind, derived.max_m3h) == ("S010", "abrupt", None)
    assert (derived.started_ms, derived.ended_ms) == (told.started_ms, told.ended_ms)


def test_other_inlets_can_be_named(tmp_path: Path) -> None:
    source = original(tmp_path / "in")
    import_leakdb(source, tmp_path / "site", inlets=("1", "2"))
    site = load_site(tmp_path / "site")
    assert [meter.id for meter in site.meters if meter.to_dma == "S001"] == ["FM-S001", "FM-S001-2"]
    with pytest.raises(ConfigError, match=r"Link_9\.csv: no such file; possible with --inlet: Link_1, Link_2"):
        import_leakdb(source, tmp_path / "other", inlets=("9",))


def test_one_file_a_scenario_with_its_table_of_leaks(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for number in (1, 2):
        rows = [f"{time},{70 + number},40.5,{leak}" for time, leak in zip(TIMES, LEAKING, strict=True)]
        (source / f"scenario_{number:02}.csv").write_text("timestamp,inflow_m3h,P_7,label\n" + "\n".join(rows) + "\n")
    made = import_leakdb(source, tmp_path / "unlabelled")
    assert made.labels == 2  # of the column
    (source / "leaks.csv").write_text(
        "scenario,node,start,end,type,peak_time,diameter_m,max_leak_m3h\n1,,,,none,,0,0\n"
        "2,7,2018-01-01 10:00:00,2018-01-01 14:30:00,abrupt,2018-01-01 10:00:00,0.1,9.5\n"
    )
    said = invoke("import", "leakdb", source, "--out", tmp_path / "site")
    assert "2 DMAs, 4 meters, 96 rows of readings, slots of 30 min, 1 labels" in said
    with (tmp_path / "site" / "labels.csv").open(newline="") as file:
        [label] = csv.DictReader(file)
    assert (label["dma"], label["id"], label["max_m3h"], label["peakAt"]) == ("S002", "2-7", "9.500", "2018-01-01 10:00:00")
    again = CliRunner().invoke(nightline, ["import", "leakdb", str(source), "--out", str(tmp_path / "site"), "--force"])
    assert again.exit_code == 0, again.output


def test_a_folder_without_scenarios_says_what_is_possible(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a folder; possible: a folder with Scenario-1"):
        import_leakdb(tmp_path / "none", tmp_path / "site")
    with pytest.raises(ConfigError, match="no scenarios in the folder; possible: folders Scenario-N"):
        import_leakdb(tmp_path, tmp_path / "site")
    source = original(tmp_path / "in")
    one_column(source / "Scenario-2" / "Pressures" / "Node_2.csv", "Value", [40.0] * 48)
    path = source / "Scenario-2" / "Pressures" / "Node_2.csv"
    path.write_text(path.read_text().replace("2018-01-01 23:30:00", "2018-01-02 23:30:00"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"Node_2\.csv: other times than in Link_1\.csv"):
        import_leakdb(source, tmp_path / "site")


def test_hanoi_is_ten_scenarios_with_eleven_leaks(tmp_path: Path) -> None:
    made = import_leakdb(data("hanoi"), tmp_path / "site")
    assert (made.dmas, made.meters, made.labels, made.rejects) == (10, 320, 11, 0)
