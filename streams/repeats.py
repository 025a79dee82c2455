"""What a router that was killed published, another publishes again: which readings of a block were had before."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from models.packing import Source
from streams.checkpoints import Seen

log = logging.getLogger("nightline")


def fresh_of(seen: dict[str, Seen], dma: str, origin: str, source: Source | None) -> NDArray[np.bool_] | None:
    """(n,) which of a block's readings a DMA has not had, noting them as had in `seen`; None for all of them.

    A raw topic that was deleted and made anew starts again at offset 0. Its messages are newer than all that were seen; a
    message that comes again is not. So their timestamps tell the two apart.
    """
    if source is None:
        return None
    name = f"{origin}:{source.partition}"
    before, fresh = seen.get(name), None
    if before is not None and len(source.offsets) and source.offsets[0] < before.end:
        if source.oldest_ms > before.newest_ms:
            log.warning("DMA %s: raw partition %d starts again at offset %d", dma, source.partition, source.offsets[0])
            before = None
        else:
            fresh = source.offsets >= before.end
    if before is None:
        seen[name] = Seen(source.end, source.newest_ms)
    else:
        seen[name] = Seen(max(before.end, source.end), max(before.newest_ms, source.newest_ms))
    return fresh
