"""Real data, both ways: `nightline backtest` and replay -> Kafka -> worker must give the same alerts, id for id.

Cut to the months named here to keep the run short; the whole of both sets is compared with the commands of the README.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from models.schema import Alert
from nightline.cli import nightline
from tests.integration.support import WorkerProcess, published_alerts
from tests.test_waterflow import write_waterflow

pytestmark = pytest.mark.kafka

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def command(*arguments: object) -> None:
    result = CliRunner().invoke(nightline, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def cut(source: Path, target: Path, first: str, last: str) -> None:
    """Header and the rows with first <= timestamp < last of a wide CSV that begins with its timestamps."""
    with gzip.open(source, "rt") as rows, gzip.open(target, "wt", compresslevel=1) as kept:
        kept.write(next(rows))
        kept.writelines(row for row in rows if first <= row[: len(first)] < last)


def italian_dmas(folder: Path) -> tuple[Path, Path]:
    """Six real DMAs, eleven months with gaps and both clock changes."""
    if not DATA.is_dir():
        pytest.skip("the data sets of ../shared/data are not here")
    cut(DATA / "bwdf" / "inflow_hourly_lps.csv.gz", folder / "inflow_lps.csv.gz", "2021-03", "2022-02")
    command(
        "import", "csv", folder / "inflow_lps.csv.gz", "--out", folder / "site", "--timezone", "Europe/Rome", "--unit", "L/s"
    )
    return folder / "site", folder / "site" / "readings"


def l_town(folder: Path) -> tuple[Path, Path]:
    """L-Town with its boundary meter, tank and pressure loggers, ten weeks with four leaks, customer meters left out."""
    source = DATA / "ltown-2018"
    if not source.is_dir():
        pytest.skip("the data sets of ../shared/data are not here")
    (folder / "source").mkdir()
    (folder / "source" / "L-TOWN.inp").write_bytes((source / "L-TOWN.inp").read_bytes())
    for name in ("flows_m3h_level_m.csv.gz", "pressures_m.csv.gz"):
        cut(source / name, folder / "source" / name, "2018-01-01", "2018-03-12")
    command("import", "battledim", folder / "source", "--out", folder / "site")
    return folder / "site", folder / "site" / "readings"


def waterflow(folder: Path) -> tuple[Path, Path]:
    """river's pipe branch, told a larger budget so that there is something to compare."""
    write_waterflow(folder)
    site = folder / "site.toml"
    site.write_text(site.read_text() + "[alerts]\nbudgetPerWeek = 7\n")
    return folder, folder / "readings.csv"


@pytest.mark.parametrize("prepare", [italian_dmas, l_town, waterflow])
def test_backtest_and_kafka_agree_id_for_id(
    prepare: Callable[[Path], tuple[Path, Path]], kafka: str, new_prefix: Callable[..., str], tmp_path: Path
) -> None:
    site, readings = prepare(tmp_path)
    prefix, out = new_prefix(), tmp_path / "backtest"
    command("backtest", site, "--readings", readings, "--out", out)
    lines = (out / "alerts.ndjson").read_bytes().splitlines()
    expected = {(a.alert_id, a.revision): a for a in (msgspec.json.decode(line, type=Alert) for line in lines)}
    assert expected
    with WorkerProcess(site, kafka, prefix, tmp_path / "log") as worker:
        worker.wait_until_assigned()
        command("replay", site, "--readings", readings, "--bootstrap", kafka, "--prefix", prefix)
        assert worker.stop() == 0
    assert published_alerts(kafka, prefix) == expected
