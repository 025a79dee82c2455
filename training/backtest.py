"""History through the engines, once, in order of time; what comes out is what live operation would have said.

Files written: alerts.ndjson (one Alert a line, every revision), detections.parquet, scorecard.json, report.html, and
rejects.csv (by the reader of the history).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.detectors import DETECTORS
from models.engine import Engine, StepResult
from models.features import FEATURES
from models.network import Site, longest_lateness_minutes
from models.routing import split
from models.schema import Alert
from training.budgets import budget_row, sites_at
from training.coverage import Coverage
from training.history import Window
from training.labels import Leak
from training.matching import STRICT, Rules
from training.report import write_report
from training.scorecard import score
from training.watched import Watched

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.bundle import Bundle

WINDOW_MINUTES: Final = 1440
"""A day at a time: the engine's answers do not depend on the size of its blocks, and larger ones are no faster."""
ROW_GROUP: Final = 1 << 16


class Contestant(NamedTuple):
    """One of several settings of the same network, or models, that see the same readings."""

    site: Site
    bundle: Bundle | Mapping[str, Bundle] | None
    """Serves all DMAs, or is a mapping from the id of a DMA to its own."""
    silent: Collection[str] = ()
    """Detectors that say nothing."""


@dataclass
class Result:
    """What a backtest found. Counts of readings are per engine: a boundary meter counts in each of its DMAs."""

    alerts: list[Alert] = field(default_factory=list)
    slots: int = 0
    accepted: int = 0
    late: int = 0
    duplicates: int = 0
    coverage: dict[str, Coverage] = field(default_factory=dict)
    watched: dict[str, Watched] = field(default_factory=dict)
    scorecard: dict[str, Any] = field(default_factory=dict)


def run(
    site: Site,
    windows: Iterable[Window],
    bundle: Bundle | Mapping[str, Bundle] | None,
    on_result: Callable[[str, StepResult], None],
) -> None:
    """One causal pass: every window to the engines of the DMAs it concerns; each answer to `on_result(dma, result)`.

    `bundle` serves all DMAs, or is a mapping from the id of a DMA to its own.
    """
    run_side_by_side([Contestant(site, bundle)], windows, lambda _, dma, step: on_result(dma, step))


def run_side_by_side(
    contestants: Sequence[Contestant],
    windows: Iterable[Window],
    on_result: Callable[[int, str, StepResult], None],
    dmas: Collection[str] | None = None,
    *,
    after_training: bool = False,
) -> None:
    """As `run`, for one network under several settings or models: `on_result(place of the contestant, dma, result)`.

    `dmas`: only these. `after_training`: each engine begins without a model and takes its bundle into use behind the
    bundle's training, as where it is promoted: what its calibrations were learned from is past, and not learned once more.
    """
    engines: dict[tuple[int, int], Engine] = {}
    network = contestants[0].site
    lateness_ms = longest_lateness_minutes(network.meters) * 60_000
    subscribers = network.subscribers()
    for window in windows:
        for row, readings in split(window.readings, subscribers):
            dma = network.dmas[row].id
            if dmas is not None and dma not in dmas:
                continue
            for place, (site, bundle, silent) in enumerate(contestants):
                own = bundle.get(dma) if isinstance(bundle, Mapping) else bundle
                if (place, row) not in engines:
                    engines[place, row] = Engine(site, dma, None if after_training else own, silent)
                engine, rest = engines[place, row], readings
                if after_training and own is not None and engine.bundle is not own:
                    # so much later, all slots of the training are closed
                    first = np.searchsorted(readings["time_ms"], own.manifest.trained_until_ms + lateness_ms, "right")
                    if first < len(readings):
                        on_result(place, dma, engine.step(readings[:first], "replay"))
                        engine.use(own)
                        rest = readings[first:]
                on_result(place, dma, engine.step(rest, "replay"))


def backtest(
    site: Site,
    windows: Iterable[Window],
    out: Path,
    bundle: Bundle | Mapping[str, Bundle] | None = None,
    leaks: list[Leak] | None = None,
    rules: Rules = STRICT,
    budgets: Sequence[float] = (),
) -> Result:
    """Run, and write everything into the folder `out`, which exists.

    With `leaks`, the scorecard also tells what multiples of the site's alert budget, `budgets`, would have brought.
    """
    sites, own = sites_at(site, budgets if leaks is not None else ())
    alerts: list[list[Alert]] = [[] for _ in sites]
    result = Result(
        coverage={dma.id: Coverage(dma.slot_minutes * 60_000) for dma in site.dmas},
        watched={dma.id: Watched(dma.slot_minutes * 60_000) for dma in site.dmas},
    )
    with DetectionsFile(out / "detections.parquet") as detections:

        def keep(place: int, dma: str, step: StepResult) -> None:
            alerts[place] += step.alerts
            if place != own:
                return
            result.accepted += step.accepted
            result.late += step.late
            result.duplicates += step.duplicates
            result.slots += len(step.detections)
            if len(step.detections):
                result.coverage[dma].add(site, step.detections)
                result.watched[dma].add(step.detections)
                detections.add(dma, step.detections)

        run_side_by_side([Contestant(each, bundle) for each in sites], windows, keep)
    result.alerts = sorted(alerts[own], key=lambda alert: (alert.updated_at, alert.alert_id, alert.revision))
    write_alerts(out / "alerts.ndjson", result.alerts)
    result.scorecard = score(site, result.alerts, leaks, result.watched, rules)
    if leaks is not None:
        result.scorecard["budgets"] = [
            budget_row(each, site, raised, leaks, result.watched, rules) for each, raised in zip(sites, alerts, strict=True)
        ]
    write_json(out / "scorecard.json", result.scorecard)
    write_report(
        out / "report.html",
        site,
        result.alerts,
        detections=out / "detections.parquet",
        leaks=leaks,
        scorecard=result.scorecard,
    )
    return result


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """For people to read as well: indented."""
    text = json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def write_alerts(path: Path, alerts: Iterable[Alert]) -> None:
    """One JSON Alert a line."""
    encoder = msgspec.json.Encoder()
    with path.open("wb") as file:
        for alert in alerts:
            file.write(encoder.encode(alert) + b"\n")


class DetectionsFile:
    """detections.parquet: `dma`, the fields of DETECTION, and every feature and score as a column of its name."""

    def __init__(self, path: Path) -> None:
        scores = [detector.name for detector in DETECTORS]
        self.schema = pa.schema(
            [
                ("dma", pa.dictionary(pa.int32(), pa.string())),
                ("slot_end_ms", pa.int64()),
                *((name, pa.float64()) for name in ("observed_m3h", "expected_m3h", "lower_m3h", "upper_m3h")),
                ("coverage", pa.float32()),
                ("learnable", pa.bool_()),
                *((name, pa.float32()) for name in (*FEATURES, *scores)),
            ]
        )
        self._writer = pq.ParquetWriter(path, self.schema, compression="zstd")
        self._waiting: dict[str, list[NDArray[np.void]]] = {}
        self._rows = 0

    def add(self, dma: str, detections: NDArray[np.void]) -> None:
        """Take DETECTION rows of one DMA; written when enough have come together."""
        self._waiting.setdefault(dma, []).append(detections)
        self._rows += len(detections)
        if self._rows >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        names = list(self._waiting)
        rows = np.concatenate([np.concatenate(parts) for parts in self._waiting.values()])
        counts = [sum(map(len, parts)) for parts in self._waiting.values()]
        codes = np.repeat(np.arange(len(names), dtype=np.int32), counts)
        columns = [pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(names, pa.string()))]
        plain = self.schema.names[1 : len(self.schema.names) - len(FEATURES) - len(DETECTORS)]
        columns += [pa.array(np.ascontiguousarray(rows[name])) for name in plain]
        for field_name, width in (("features", len(FEATURES)), ("scores", len(DETECTORS))):
            columns += [pa.array(np.ascontiguousarray(rows[field_name][:, at])) for at in range(width)]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self.schema))
        self._waiting, self._rows = {}, 0

    def __enter__(self) -> DetectionsFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            # the file is given up; on a full disk closing it would fail as well, and hide why
            with contextlib.suppress(OSError):
                self._writer.close()
            return
        if self._rows:
            self._flush()
        self._writer.close()
