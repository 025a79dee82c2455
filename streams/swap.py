"""What a control record does to a DMA: another model judges from there on, or scores in shadow.

Both follow from the log alone: a model that cannot be used is refused by everyone who reads the record, and the one before
it goes on. The swap itself takes no reading and closes no slot.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.forest import score
from models.schema import ModelRef, Records

if TYPE_CHECKING:
    from models.bundle import Bundle
    from streams.control import Control
    from streams.published import Named
    from streams.shelf import Shelf
    from streams.watcher import Watched

log = logging.getLogger("nightline")

SHADOW_SCORE = "challenger_score"
"""Column of `detections.v1`: the challenger forest's score of the slot, in (0, 1], higher is stranger; NaN where a feature
is missing. The champion's, averaged and calibrated, is in `scores`."""


def chosen(control: Control, shelf: Shelf) -> Bundle | None:
    """The bundle that a control record names; None for none. Raises ValueError where it must not be used."""
    return None if control.model is None else shelf.judged(control.model, control.dma)


def swap(watched: Watched, control: Control, bundle: Bundle | None) -> str | None:
    """Let the DMA go on with this bundle. What was changed, in words; None where nothing was."""
    named = control.model
    watched.refused = None
    if control.role == "challenger":
        if _digest(watched.challenger) == _digest(named):
            return None
        said = f"challenger: {_called(named)}, before: {_called(watched.challenger)}"
        watched.challenger, watched.shadow = named, bundle
        return said
    if control.initial and watched.told:
        return None
    before, watched.champion, watched.told = watched.champion, named, True
    if named is not None and _digest(watched.challenger) == named.digest:
        watched.challenger = watched.shadow = None  # it is in shadow no more
    if _digest(before) == _digest(named):
        return None
    watched.engine.use(bundle)
    return f"champion: {_called(named)}, before: {_called(before)}"


def _digest(named: Named | None) -> str | None:
    return None if named is None else named.digest


def _called(named: Named | None) -> str:
    return "no model" if named is None else f"model {named.version}"


def reference(named: Named | None) -> ModelRef | None:
    """As alerts and detections name a model."""
    return None if named is None else ModelRef(id=named.id, version=named.version, sha256=named.sha256)


def shadow_columns(watched: Watched, detections: Records) -> dict[str, NDArray[np.float32]]:
    """What the challenger says of these slots (n,), from the very features that the champion saw. Changes nothing."""
    if watched.shadow is None or not len(detections):
        return {}
    return {SHADOW_SCORE: score(watched.shadow.forest, np.ascontiguousarray(detections["features"])).astype(np.float32)}
