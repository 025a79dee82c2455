"""Payloads to arrays: `Decoder` against msgspec and the standard library filling the same arrays without any checks.

"msgspec, all checks" is `Decoder.parse`: what decodes whatever the compiled scanner leaves.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import chain
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import SEED, Row, Sample, race, rate
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
TARGET_BATCH = 2_000_000.0
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


def arrays(messages: Sequence[bytes]) -> list[bytes]:
    """Messages of one reading each as arrays of a hundred."""
    return [b"[" + b",".join(messages[at : at + IN_BATCH]) + b"]" for at in range(0, len(messages), IN_BATCH)]


def spans(messages: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """As they lie in the bytes of a fetch."""
    size = np.array([len(message) for message in messages], np.int64)
    return np.frombuffer(b"".join(messages), np.uint8), np.cumsum(size) - size, size


def _fill(rows: Sequence[tuple[str, Any, Any]], place: Site) -> Readings:
    out = np.zeros(len(rows), READING)
    out["meter"] = [place.meter_row[meter] for meter, _, _ in rows]
    out["time_ms"] = [time if isinstance(time, int) else time.timestamp() * 1000 for _, time, _ in rows]
    out["value"] = [value for _, _, value in rows]
    return out


Decode = Callable[[list[bytes]], Readings]


def _peers(place: Site) -> dict[str, tuple[Decode, Decode, Decode]]:
    """Name -> decoders of single messages, of arrays and of columns."""
    one, many = msgspec.json.Decoder(Reading), msgspec.json.Decoder(ColumnarReadings)
    batch = msgspec.json.Decoder(list[Reading])

    def typed(readings: Iterable[Reading]) -> Readings:
        return _fill([(r.meter_id, r.observed_at, r.value) for r in readings], place)

    def plain(rows: Iterable[dict[str, Any]]) -> Readings:
        return _fill([(r["meterId"], datetime.fromisoformat(r["observedAt"]), r["value"]) for r in rows], place)

    def joined(batches: list[tuple[str, list[Any], list[Any]]]) -> Readings:
        out = np.zeros((len(batches), IN_BATCH), READING)
        for row, (meter, times, values) in zip(out, batches, strict=True):
            row["meter"], row["value"] = place.meter_row[meter], values
            row["time_ms"] = [time if not isinstance(time, datetime) else time.timestamp() * 1000 for time in times]
        return out.ravel()

    return {
        "msgspec": (
            lambda messages: typed(map(one.decode, messages)),
            lambda messages: typed(chain.from_iterable(map(batch.decode, messages))),
            lambda messages: joined([(c.meter_id, c.observed_at, c.value) for c in map(many.decode, messages)]),
        ),
        "json": (
            lambda messages: plain(map(json.loads, messages)),
            lambda messages: plain(chain.from_iterable(map(json.loads, messages))),
            lambda messages: joined([(c["meterId"], c["observedAt"], c["value"]) for c in map(json.loads, messages)]),
        ),
    }


def run() -> list[Row]:
    """All rows of this workload."""
    place = site()
    alone, of_alone = singles(MESSAGES)
    rows = []
    for which, (form, messages, expected, target) in enumerate(
        (
            ("single readings", alone, of_alone, TARGET_SINGLE),
            (f"arrays of {IN_BATCH} readings", arrays(alone), of_alone, TARGET_BATCH),
            (f"columns of {IN_BATCH} readings", *columnar(MESSAGES // IN_BATCH * 4), TARGET_BATCH),
        )
    ):
        decoder, lying = Decoder(place), spans(messages)
        contestants: dict[str, Callable[[], Any]] = {
            "ours": lambda d=decoder, s=lying: d.decode_spans(*s).readings,
            "msgspec, all checks": lambda d=decoder, m=messages: d.parse(m).readings,
        }
        for name, decoders in _peers(place).items():
            contestants[name] = lambda run=decoders[which], m=messages: run(m)
        for name, contestant in contestants.items():
            assert np.array_equal(contestant(), expected), name
        assert decoder.parsed == 0, f"{decoder.parsed} messages were left to msgspec"
        seconds = race(contestants)
        ours = rate(seconds.pop("ours"), len(expected))
        peers: dict[str, Sample | str] = {name: rate(taken, len(expected)) for name, taken in seconds.items()}
        checked = f"{len(expected):,} readings equal"
        rows.append(Row.beside(f"decode {form}", "readings/s", "more", ours, peers, checked, target))
    return rows
