"""Injected files: in the same form, read back as the readings with the leak in them, and letter for letter elsewhere."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from models.config import ConfigError
from models.network import Site
from nightline.cli import nightline
from nightline.sites import load_site
from tests.synthetic import NETWORK_TOML, SITE_TOML, START_MS, readings
from training.history import read_history
from training.injection.files import rewrite
from training.injection.leaks import Injector, Planted, add_to
from training.injection.recorded import Recorded
from training.labels import read_labels

DAYS = 20
DAY_MS = 86_400_000
LEAK = Planted("x", "B", START_MS + 10 * DAY_MS + 60_000, START_MS + 12 * DAY_MS, 8.0, DAY_MS)


def site_of(folder: Path) -> Site:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "site.toml").write_text(SITE_TOML, encoding="utf-8")
    (folder / "network.toml").write_text(NETWORK_TOML, encoding="utf-8")
    return load_site(folder)


def table(site: Site) -> tuple[list[str], list[str], NDArray[np.float64]]:
    """Meters, local times and values of a quiet town."""
    rows = readings(DAYS).reshape(-1, 4)
    stamps = rows["time_ms"][:, 0].astype("datetime64[ms]") + np.timedelta64(1, "h")
    return [site.meters[meter].id for meter in rows["meter"][0]], [str(t)[:19] for t in stamps], rows["value"].copy()


def wide(path: Path, site: Site, separator: str = ",", decimal: str = ".") -> None:
    names, stamps, values = table(site)
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8", newline="") as file:
        file.write(separator.join(["timestamp", *names, "note"]) + "\n")
        for number, (stamp, row) in enumerate(zip(stamps, values, strict=True)):
            cells = [f"{value:.2f}".replace(".", decimal) for value in row]
            if number % 50 == 7:
                cells[0] = ""
            if number % 50 == 8:
                cells[1] = "n/a"
            note = '"a, b"' if separator == "," else "a, b"
            file.write(separator.join([stamp if number % 90 else "some day", *cells, note]) + "\n")
            if number == 1000:
                file.write(separator.join([stamp, "1"]) + "\n")  # too few cells


def long(path: Path, site: Site) -> None:
    names, stamps, values = table(site)
    with path.open("w", encoding="utf-8") as file:
        file.write("meterId,observedAt,value,kind,unit,intervalSeconds,comment\n")
        for number, (stamp, row) in enumerate(zip(stamps, values, strict=True)):
            for name, value in zip(names, row.tolist(), strict=True):
                if name == "p-B":
                    file.write(f"{name},{stamp},{value / 100:.4f},pressure,bar,,\n")
                elif name == "A-B":
                    file.write(f"{name},{stamp},{value / 4:.4f},volume,m3,900,\n")
                elif name == "in-A" and number % 3:
                    file.write(f"{name},{stamp},{value / 3.6:.4f},,L/s,,odd\n")
                else:
                    file.write(f"{name},{stamp},{value:.2f},,,,\n")
            if number % 100 == 5:
                file.write(f"in-Q,{stamp},1,,,,\nin-A,{stamp},many,,,,\n")


def parquet(path: Path, site: Site) -> None:
    names, stamps, values = table(site)
    columns = {name: pa.array(np.round(values[:, at], 0 if name == "in-A" else 2)) for at, name in enumerate(names)}
    columns["in-A"] = columns["in-A"].cast(pa.int64())
    times = pa.array(np.array(stamps, "datetime64[ms]"))
    pq.write_table(pa.table({"timestamp": times, **columns, "note": pa.array(["x"] * len(stamps))}), path)


MAKERS = {
    "wide.csv": wide,
    "wide.csv.gz": wide,
    "semicolon.csv": lambda path, site: wide(path, site, ";", ","),
    "long.csv": long,
    "wide.parquet": parquet,
}


def read(path: Path, site: Site) -> NDArray[np.void]:
    block = np.concatenate([window.readings for window in read_history(path, site, 1440)])
    return block[np.lexsort((block["kind"], block["meter"], block["time_ms"]))]


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_read_back_is_the_readings_with_the_leak_in_them(tmp_path: Path, name: str) -> None:
    site = site_of(tmp_path / "site")
    source = tmp_path / "in" / name
    source.parent.mkdir()
    MAKERS[name](source, site)
    before = source.read_bytes()
    recorded = Recorded(site, read_history(source, site, 1440))
    additions = Injector(recorded).additions([LEAK])
    (tmp_path / "out").mkdir()
    changed = rewrite(source, tmp_path / "out", site, additions)
    assert source.read_bytes() == before
    clean, got = read(source, site), read(tmp_path / "out" / name, site)
    expected = add_to(clean, additions)
    np.testing.assert_array_equal(got[["time_ms", "meter", "kind"]], clean[["time_ms", "meter", "kind"]])
    np.testing.assert_allclose(got["value"], expected["value"], atol=1e-4 if name == "long.csv" else 5e-6)  # bar
    # 2 days of in-A, A-B and p-B, less what is missing
    assert changed == int((expected["value"] != clean["value"]).sum())
    assert 0.9 * 3 * 192 < changed <= 3 * 192


@pytest.mark.parametrize("name", ["wide.csv", "semicolon.csv", "long.csv"])
def test_cells_without_a_leak_stay_letter_for_letter(tmp_path: Path, name: str) -> None:
    site = site_of(tmp_path / "site")
    source = tmp_path / name
    MAKERS[name](source, site)
    additions = Injector(Recorded(site, read_history(source, site, 1440))).additions([LEAK])
    (tmp_path / "out").mkdir()
    changed = rewrite(source, tmp_path / "out", site, additions)
    old, new = source.read_text(encoding="utf-8").splitlines(), (tmp_path / "out" / name).read_text("utf-8").splitlines()
    assert len(old) == len(new)
    differing = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
    separator = ";" if name.startswith("semi") else ","
    cells = 0
    for a, b in differing:
        [left], [right] = csv.reader([a], delimiter=separator), csv.reader([b], delimiter=separator)
        assert len(left) == len(right)
        cells += sum(x != y for x, y in zip(left, right, strict=True))
    assert cells == changed > 0


def made_site(folder: Path) -> Path:
    site_of(folder)
    wide(folder / "readings.csv", load_site(folder))
    return folder


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(nightline, [str(a) for a in arguments])
    if result.exception is not None and isinstance(result.exception, ConfigError):
        return "\n".join(result.exception.faults)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_writes_readings_and_labels_that_evaluate_reads(tmp_path: Path) -> None:
    folder = made_site(tmp_path / "site")
    source, out = folder / "readings.csv", tmp_path / "leaky"
    said = invoke("inject", folder, "--readings", source, "--out", out, "--dma", "C", "--size", "30%",
                  "--start", "2026-01-20T02:10", "--days", "3")  # fmt: skip
    assert "1 bursts and 0 incipient leaks" in said
    [leak] = read_labels(out / "labels.csv", load_site(folder))
    assert (leak.dma, leak.kind) == ("C", "abrupt")
    assert leak.started_ms == START_MS + 15 * DAY_MS + 130 * 60_000
    assert (leak.ended_ms or 0) - leak.started_ms == 3 * DAY_MS
    mean = float(np.mean(readings(DAYS).reshape(-1, 4)["value"][:, 2]))
    assert leak.max_m3h == pytest.approx(0.3 * mean, rel=0.02)
    said = invoke("evaluate", folder, "--readings", out / "readings", "--labels", out / "labels.csv", "--out", out / "card",
                  "--budgets", "1,2")  # fmt: skip
    assert "1 of 1" in said
    assert {path.name for path in (out / "card").iterdir()} == {"scorecard.json", "scorecard.html", "rejects.csv"}


def test_leaks_that_are_known_stay_in_the_labels_and_files_without_a_meter_are_copied(tmp_path: Path) -> None:
    folder = made_site(tmp_path / "site")
    (folder / "readings").mkdir()
    (folder / "readings.csv").rename(folder / "readings" / "a.csv")
    other = folder / "readings" / "b.csv"
    other.write_text("timestamp;p-B\n2026-01-20 00:00:30;395,5\n", encoding="utf-8")
    known = tmp_path / "known.csv"
    known.write_text("dma,kind,startedAt,endedAt,id\nA,incipient,2026-01-18 10:00,,old\n", encoding="utf-8")
    invoke("inject", folder, "--readings", folder / "readings", "--labels", known, "--out", tmp_path / "out", "--dma", "C",
           "--size", "4m3h", "--start", "2026-01-20")  # fmt: skip
    assert (tmp_path / "out" / "readings" / "b.csv").read_bytes() == other.read_bytes()
    site = load_site(folder)
    got = read_labels(tmp_path / "out" / "labels.csv", site)
    assert [leak.id for leak in got] == ["old", "leak-001"]
    assert got[0] == read_labels(known, site)[0]
    assert got[1].max_m3h == 4.0


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--dma", "Q", "--size", "5%", "--start", "2026-01-20"], "--dma 'Q' is not in network.toml; possible: A, B, C"),
        (["--size", "5%", "--start", "2026-01-20"], "--dma: found none; possible: one of A, B, C"),
        (["--dma", "A", "--size", "5%"], "--start is missing; possible: ISO 8601"),
        (["--dma", "A", "--size", "5%", "--start", "soon"], "--start 'soon'; possible: ISO 8601"),
        (["--dma", "A", "--size", "5%", "--start", "2027-01-20"], "outside the readings of A"),
        (["--dma", "A", "--size", "big", "--start", "2026-01-20"], "--size 'big'; possible: e.g. '12.5m3h'"),
        (["--dma", "A", "--size", "0m3h", "--start", "2026-01-20"], "--size '0m3h'; possible: e.g. '12.5m3h'"),
        (["--dma", "A", "--kind", "incipient", "--ramp", "long", "--size", "5%", "--start", "2026-01-20"],
         "--ramp 'long'; possible: hours or days"),
        (["--campaign", "2", "--size", "40-3%"], "--size '40-3%'; possible with --campaign: a range"),
    ],
)  # fmt: skip
def test_what_cannot_be_planted_is_named_in_one_line(tmp_path: Path, arguments: list[str], fault: str) -> None:
    folder = made_site(tmp_path / "site")
    said = invoke("inject", folder, "--readings", folder / "readings.csv", "--out", tmp_path / "out", *arguments)
    assert fault in said
    assert not (tmp_path / "out").exists()


def test_the_readings_are_never_written_over(tmp_path: Path) -> None:
    folder = made_site(tmp_path / "site")
    (folder / "readings").mkdir()
    (folder / "readings.csv").rename(folder / "readings" / "readings.csv")
    arguments = ["--dma", "A", "--size", "5%", "--start", "2026-01-20"]
    before = (folder / "readings" / "readings.csv").read_bytes()
    for source in (folder / "readings", folder / "readings" / "readings.csv"):
        said = invoke("inject", folder, "--readings", source, "--out", folder, *arguments)
        assert "possible: a" in said
    assert (folder / "readings" / "readings.csv").read_bytes() == before


@pytest.mark.parametrize(("words", "n1"), [((), 1.0), (("--pipes", "rigid"), 0.5), (("--pipes", "flexible"), 1.5),
                                           (("--pipes", "rigid", "--n1", "0.8"), 0.8)])  # fmt: skip
def test_the_leak_follows_the_pressure_as_its_pipes_do(tmp_path: Path, words: tuple[str, ...], n1: float) -> None:
    """Oracle: FAVAD on the pressures in the file."""
    site = site_of(tmp_path / "site")
    wide(tmp_path / "readings.csv", site)
    arguments = [
        "--readings",
        str(tmp_path / "readings.csv"),
        "--out",
        str(tmp_path / "out"),
        "--dma",
        "B",
        "--size",
        "8m3h",
    ]
    start = "2026-01-15T00:00"
    CliRunner().invoke(
        nightline, ["inject", str(tmp_path / "site"), *arguments, "--start", start, *words], catch_exceptions=False
    )

    def flow_and_pressure(path: Path) -> NDArray[np.float64]:
        block = np.concatenate([w.readings for w in read_history(path, site, 1440)])
        at = START_MS + 11 * DAY_MS + np.array([3, 19]) * 3_600_000
        rows = [block[(block["meter"] == site.meter_row[name]) & np.isin(block["time_ms"], at)] for name in ("A-B", "p-B")]
        return np.array([row["value"] for row in rows])

    clean, leaky = flow_and_pressure(tmp_path / "readings.csv"), flow_and_pressure(tmp_path / "out" / "readings")
    night, day = (leaky - clean)[0]
    assert night / day == pytest.approx((clean[1, 0] / clean[1, 1]) ** n1, rel=1e-4)
    assert night > day > 5.0
