"""Payloads to arrays: `Decoder` against msgspec and the standard library filling the same arrays without any checks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec
import numpy as np

from benchmarks.measure import SEED, Row, race, rate
from models.codec import Decoder
from models.network import Site, parse_site
from models.schema import READING, ColumnarReadings, Reading, Readings

DMAS = 50
INLETS = 4
METERS = DMAS * INLETS
MESSAGES = 20_000
IN_BATCH = 100
START_MS = 1_767_567_600_000
TARGET_SINGLE = 400_000.0
TARGET_COLUMNAR = 2_000_000.0
"""Of the whole chain; decoding is only a part of it."""


def site(in_dma: int = INLETS, lateness_minutes: int = 120) -> Site:
    """Fifty DMAs of four inlets and `in_dma` less four customer meters each."""
    dmas = "".join(f'[[dma]]\nid = "D{i:02}"\n' for i in range(DMAS))
    meters = "".join(
        f'[[meter]]\nid = "FM-{i:04}"\nkind = "flow"\n{"to" if i % in_dma < INLETS else "dma"} = "D{i // in_dma:02}"\n'
        for i in range(DMAS * in_dma)
    )
    stream = f"[stream]\nlatenessMinutes = {lateness_minutes}\n"
    return parse_site(f'name = "bench"\ntimezone = "Europe/Rome"\n{stream}', dmas + meters)


def singles(count: int, meters: int = METERS) -> tuple[list[bytes], Readings]:
    """Messages of one reading each, times as text, and what must come of them."""
    rng = np.random.default_rng(SEED)
    readings = np.zeros(count, READING)
    readings["meter"] = np.arange(count) % meters
    readings["time_ms"] = START_MS + 900_000 * (np.arange(count) // meters)
    readings["value"] = np.round(rng.gamma(3.0, 10.0, count), 2)
    texts = np.datetime_as_string(readings["time_ms"].astype("datetime64[ms]"), unit="s")
    return [
        f'{{"meterId":"FM-{meter:04}","kind":"flow","value":{value!r},"unit":"m3/h","observedAt":"{text}Z"}}'.encode()
        for (_, value, meter, *_), text in zip(readings.tolist(), texts.tolist(), strict=True)
    ], readings


def columnar(count: int, meters: int = METERS) -> tuple[list[bytes], Readings]:
    """Messages of one meter's hundred readings, and what must come of them."""
    rng = np.random.default_rng(SEED)
    readings = np.zeros((count, IN_BATCH), READING)
    readings["meter"] = (np.arange(count) % meters)[:, None]
    readings["time_ms"] = START_MS + 900_000 * (IN_BATCH * (np.arange(count) // meters)[:, None] + np.arange(IN_BATCH))
    readings["value"] = np.round(rng.gamma(3.0, 10.0, readings.shape), 2)
    messages = [
        json.dumps(
            {
                "meterId": f"FM-{batch['meter'][0]:04}",
                "kind": "flow",
                "unit": "m3/h",
                "observedAt": batch["time_ms"].tolist(),
                "value": batch["value"].tolist(),
            },
            separators=(",", ":"),
        ).encode()
        for batch in readings
    ]
    return messages, readings.ravel()


def _fill(rows: Sequence[tuple[str, Any, Any]], place: Site) -> Readings:
    out = np.zeros(len(rows), READING)
    out["meter"] = [place.meter_row[meter] for meter, _, _ in rows]
    out["time_ms"] = [time if isinstance(time, int) else time.timestamp() * 1000 for _, time, _ in rows]
    out["value"] = [value for _, _, value in rows]
    return out


def _peers(place: Site) -> dict[str, tuple[Callable[[list[bytes]], Readings], Callable[[list[bytes]], Readings]]]:
    """Name -> decoders of single and of columnar messages."""
    one, many = msgspec.json.Decoder(Reading), msgspec.json.Decoder(ColumnarReadings)

    def typed_singles(messages: list[bytes]) -> Readings:
        return _fill([(r.meter_id, r.observed_at, r.value) for r in map(one.decode, messages)], place)

    def plain_singles(messages: list[bytes]) -> Readings:
        rows = map(json.loads, messages)
        return _fill([(r["meterId"], datetime.fromisoformat(r["observedAt"]), r["value"]) for r in rows], place)

    def joined(batches: list[tuple[str, list[Any], list[Any]]]) -> Readings:
        out = np.zeros((len(batches), IN_BATCH), READING)
        for row, (meter, times, values) in zip(out, batches, strict=True):
            row["meter"], row["value"] = place.meter_row[meter], values
            row["time_ms"] = [time if not isinstance(time, datetime) else time.timestamp() * 1000 for time in times]
        return out.ravel()

    def typed_columns(messages: list[bytes]) -> Readings:
        return joined([(c.meter_id, c.observed_at, c.value) for c in map(many.decode, messages)])

    def plain_columns(messages: list[bytes]) -> Readings:
        return joined([(c["meterId"], c["observedAt"], c["value"]) for c in map(json.loads, messages)])

    return {"msgspec": (typed_singles, typed_columns), "json": (plain_singles, plain_columns)}


def run() -> list[Row]:
    """All rows of this workload."""
    place = site()
    rows = []
    for form, (messages, expected), which, target in (
        ("single readings", singles(MESSAGES), 0, TARGET_SINGLE),
        (f"columns of {IN_BATCH} readings", columnar(MESSAGES // IN_BATCH * 4), 1, TARGET_COLUMNAR),
    ):
        decoder = Decoder(place)
        contestants: dict[str, Callable[[], Any]] = {"ours": lambda d=decoder, m=messages: d.decode(m)}
        for name, decoders in _peers(place).items():
            contestants[name] = lambda run=decoders[which], m=messages: run(m)
            assert np.array_equal(contestants[name](), expected), name
        got = contestants["ours"]()
        assert np.array_equal(got.readings, expected)
        assert not got.rejects
        seconds = race(contestants)
        ours = rate(seconds.pop("ours"), len(expected))
        best = max(seconds, key=lambda name: rate(seconds[name], len(expected)).median)
        peer = rate(seconds[best], len(expected))
        rows.append(
            Row(f"decode {form}", "readings/s", "more", ours, peer, best, f"{len(expected):,} readings equal", target)
        )
    return rows
