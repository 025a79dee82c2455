"""One town in a fresh process: `scaling_worker.py METERS DMAS`; messages of one reading through decoder, routes and engines.

Says in JSON what each round took. Messages are made before; the first round, in which caches fill and kernels compile, is
not timed.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np

from benchmarks.towns import SLOT_MS, START_MS, town
from models.codec import Decoder
from models.engine import Engine
from models.routing import split

READINGS = 200_000
"""A round has at least so many, and whole slots."""
ROUNDS = 5
BLOCK = 5_000
"""Messages, as of a fetch."""


def main(meters: int, dmas: int) -> None:
    """All rounds; raises unless every reading is taken and every slot is scored."""
    own = meters // dmas
    place = town(dmas, 1, own - 1)
    decoder, subscribers = Decoder(place), place.subscribers()
    engines = [Engine(place, dma.id) for dma in place.dmas]
    slots = -(-READINGS // meters)
    values = np.round(np.random.default_rng(1).gamma(3.0, 10.0, meters), 2).tolist()
    heads = [
        f'{{"meterId":"FM-{row:07}","kind":"flow","value":{value!r},"unit":"m3/h","observedAt":"'
        for row, value in enumerate(values)
    ]
    seconds = []
    for number in range(1 + ROUNDS):
        moments = START_MS + SLOT_MS * (1 + number * slots + np.arange(slots))
        tails = [f'{text}Z"}}' for text in np.datetime_as_string(moments.astype("datetime64[ms]"), unit="s").tolist()]
        messages = [(head + tail).encode() for tail in tails for head in heads]
        taken = scored = 0
        begin = time.perf_counter()
        for first in range(0, len(messages), BLOCK):
            for row, part in split(decoder.decode(messages[first : first + BLOCK]).readings, subscribers):
                result = engines[row].step(part)
                taken += result.accepted
                scored += len(result.detections)
        seconds.append(time.perf_counter() - begin)
        assert taken == len(messages), f"{taken} readings taken, expected {len(messages)}"
        assert number == 0 or scored == slots * dmas, f"{scored} slots scored, expected {slots * dmas}"
    print(json.dumps({"count": slots * meters, "seconds": seconds[1:], "slots": slots * dmas}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
