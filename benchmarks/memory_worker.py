"""One town in a fresh process: `memory_worker.py METERS IN_DMA`; a line of JSON after each stage of a worker's start.

Resident memory as Linux has it, less what the process had with a town of one DMA and every kernel compiled.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.towns import SLOT_MS, START_MS, texts, town
from models.codec import Decoder
from models.engine import Engine
from models.network import parse_site
from models.routing import split
from streams.worker import warm_up

IN_MESSAGES = 10_000
SLOTS = 2
"""Readings a meter: the first fills the decoder's caches, the second closes a slot."""


def resident() -> int:
    """Bytes of this process, after whatever is free went back to the system."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(meters: int, in_dma: int) -> None:
    """Site, decoder and routes, engines, and two readings of each meter."""
    small = town(1, 1, 1)
    warm_up(small)
    Decoder(small).decode([b'{"meterId":"FM-0000000","kind":"flow","value":1.5,"unit":"m3/h","observedAt":0}'])
    before, begin = resident(), time.perf_counter()

    def say(stage: str) -> None:
        seconds = time.perf_counter() - begin
        print(json.dumps({"stage": stage, "bytes": resident() - before, "seconds": seconds}), flush=True)

    place = parse_site(*texts(meters // in_dma, 1, in_dma - 1))
    say("site")
    decoder, subscribers = Decoder(place), place.subscribers()
    say("routes")
    engines = [Engine(place, dma.id) for dma in place.dmas]
    say("engines")
    taken = 0
    for slot in range(SLOTS):
        moment = np.datetime_as_string(np.datetime64(START_MS + SLOT_MS * (slot + 1), "ms"), unit="s")
        for first in range(0, meters, IN_MESSAGES):
            payloads = [
                b'{"meterId":"FM-%07d","kind":"flow","value":1.5,"unit":"m3/h","observedAt":"%sZ"}' % (row, moment.encode())
                for row in range(first, min(first + IN_MESSAGES, meters))
            ]
            for row, part in split(decoder.decode(payloads).readings, subscribers):
                taken += engines[row].step(part).accepted
    assert taken == SLOTS * meters, f"{taken} readings taken, expected {SLOTS * meters}"
    say("readings")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
