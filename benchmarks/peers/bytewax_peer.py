"""Bytewax decoding, and keeping a sum per meter: `bytewax_peer.py BOOTSTRAP TOPIC MESSAGES decode|stateful GROUP`.

Whole batches are decoded with orjson in one step, which is the fastest way that its documentation shows.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

import orjson
from bytewax import operators as op
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main
from stream_tally import Tally

bootstrap, topic, messages, work, _ = sys.argv[1:]
tally = Tally(int(messages))


class Counted(StatelessSinkPartition[Any]):
    """Where every flow ends."""

    def write_batch(self, items: list[Any]) -> None:
        """Counts."""
        for item in items:
            tally.add(item if work == "decode" else item[1])


class Count(DynamicSink[Any]):
    """One worker has one of them."""

    def build(self, *_: Any) -> Counted:
        """Bytewax asks for it."""
        return Counted()


def decode(batch: Iterable[Any]) -> Iterable[Any]:
    """Messages of a batch to their values."""
    loads = orjson.loads
    return [loads(message.value)["value"] for message in batch]


def decode_keyed(batch: Iterable[Any]) -> Iterable[Any]:
    """The same beside the meter."""
    loads = orjson.loads
    return [(reading["meterId"], reading["value"]) for reading in (loads(message.value) for message in batch)]


def remember(state: float | None, value: Any) -> tuple[float, Any]:
    """A meter's sum so far, which any statistic would need more than."""
    return (state or 0.0) + (sum(value) if type(value) is list else value), value


flow = Dataflow("bench")
source = op.input("read", flow, KafkaSource([bootstrap], [topic], tail=False))
if work == "decode":
    op.output("count", op.flat_map_batch("decode", source, decode), Count())
else:
    keyed = op.flat_map_batch("decode", source, decode_keyed)
    op.output("count", op.stateful_map("remember", keyed, remember), Count())
run_main(flow)
tally.say()
os._exit(0)
