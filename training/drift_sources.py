"""Detections and leak alarms of a backtest or an archive, read back in order of time, a part at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.config import ConfigError, nearest
from models.features import FEATURES
from models.network import Site
from models.schema import LEAK_TYPES, Alert
from models.state import DETECTION
from models.wire import brief
from training.report import read_alerts

DETECTIONS: Final = "detections.parquet"
_NEEDED: Final = ("slot_end_ms", "observed_m3h", "expected_m3h", "learnable", *FEATURES)


def read_detections(path: Path, site: Site) -> Iterator[tuple[str, NDArray[np.void]]]:
    """(DMA, DETECTION rows in order of time), of which only what drift needs is filled.

    `path`: detections.parquet of a backtest, a folder with one, an archive, or any folder of such files by DMA
    (`dma=<id>/`). Raises ConfigError: no Parquet, a column is missing, an unknown DMA, slots that come twice.
    """
    newest: dict[str, int] = {}
    for file in _files(path):
        for table in _tables(file):
            for dma, rows in _by_dma(table, file):
                if dma not in site.dma_row:
                    raise ConfigError([f"{file}: DMA {dma!r} is not in network.toml; {nearest(dma, site.dma_row)}"])
                ends = rows["slot_end_ms"]
                if not (np.diff(ends) > 0).all() or (dma in newest and ends[0] <= newest[dma]):
                    raise ConfigError(
                        [f"{file}: DMA {dma!r}: slots come twice; possible: the detections of one backtest or archive"]
                    )
                newest[dma] = int(ends[-1])
                yield dma, rows


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if (path / DETECTIONS).is_file():
        return [path / DETECTIONS]
    folder = path / "detections" if (path / "detections").is_dir() else path
    every = sorted(folder.rglob("*.parquet"))
    found = [file for file in every if not any(part.startswith(".") for part in file.relative_to(folder).parts)]
    if not found:
        what = "no Parquet file in it" if path.is_dir() else "no such file or folder"
        raise ConfigError([f"{path}: {what}; possible: {DETECTIONS} of a backtest, or an archive"])
    return found


def _tables(file: Path) -> Iterator[pa.Table]:
    try:
        with pq.ParquetFile(file) as parquet:
            names = parquet.schema_arrow.names
            missing = [name for name in _NEEDED if name not in names]
            if missing:
                raise ConfigError(
                    [f"{file}: no column {missing[0]!r}: not detections of this version; possible: those that a backtest "
                     "or an archive of it wrote"]
                )  # fmt: skip
            columns = [*(["dma"] if "dma" in names else []), *_NEEDED]
            for group in range(parquet.num_row_groups):
                yield parquet.read_row_group(group, columns)
    except (pa.ArrowException, OSError) as error:
        raise ConfigError([f"{file}: not a Parquet file that can be read: {brief(error)}"]) from None


def _by_dma(table: pa.Table, file: Path) -> Iterator[tuple[str, NDArray[np.void]]]:
    try:
        rows = _rows(table)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise ConfigError([f"{file}: not detections: {brief(error)}"]) from None
    if not len(rows):
        return
    if "dma" not in table.column_names:
        if not file.parent.name.startswith("dma="):
            raise ConfigError([f"{file}: no column 'dma'; possible: that column, or a folder named dma=<id>"])
        yield file.parent.name.removeprefix("dma="), rows[np.argsort(rows["slot_end_ms"], kind="stable")]
        return
    names = np.asarray(table["dma"].cast(pa.string()).to_pylist(), object)
    for dma in dict.fromkeys(names.tolist()):
        own = rows[names == dma]
        yield dma, own[np.argsort(own["slot_end_ms"], kind="stable")]


def _rows(table: pa.Table) -> NDArray[np.void]:
    rows = np.zeros(len(table), DETECTION)
    for name in ("slot_end_ms", "observed_m3h", "expected_m3h", "learnable"):
        kind = pa.from_numpy_dtype(DETECTION[name])
        column = table[name].cast(kind)
        if name in ("slot_end_ms", "learnable") and column.null_count:
            raise ValueError(f"column {name!r} has empty cells")
        rows[name] = column.to_numpy()
    for at, name in enumerate(FEATURES):
        rows["features"][:, at] = table[name].cast(pa.float32()).to_numpy()
    return rows


def leak_alarms(alerts: Iterable[Alert]) -> NDArray[np.int64]:
    """When leaks were alarmed, ascending epoch ms."""
    times = [alert.detected_at for alert in alerts if alert.event == "raised" and alert.type in LEAK_TYPES]
    return np.sort(np.array(times, np.int64))


def alarms_beside(detections: Path) -> Path | None:
    """Where the alerts of these detections lie, if they do: alerts.ndjson, or an archive's folder."""
    folder = detections if detections.is_dir() else detections.parent
    for place in (folder / "alerts.ndjson", folder / "alerts", folder.parent / "alerts"):
        if place.exists():
            return place
    return None


def read_leak_alarms(path: Path) -> dict[str, NDArray[np.int64]]:
    """When leaks were alarmed in each DMA, ascending epoch ms. Raises ConfigError."""
    if not path.is_dir():
        try:
            alerts = read_alerts(path)
        except (OSError, ValueError) as error:
            raise ConfigError([f"{path}: not alerts as a backtest writes them: {brief(error)}"]) from None
        by_dma = {alert.scope.id for alert in alerts}
        return {dma: leak_alarms(alert for alert in alerts if alert.scope.id == dma) for dma in sorted(by_dma)}
    found: defaultdict[str, list[int]] = defaultdict(list)
    for file in sorted(path.glob("*.parquet")):
        try:
            rows: list[dict[str, Any]] = pq.read_table(file, columns=["event", "type", "scopeId", "detectedAt"]).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise ConfigError([f"{file}: not an archive's alerts: {brief(error)}"]) from None
        for row in rows:
            if row["event"] == "raised" and row["type"] in LEAK_TYPES:
                found[row["scopeId"]].append(round(row["detectedAt"].timestamp() * 1000))
    return {dma: np.sort(np.array(times, np.int64)) for dma, times in found.items()}
