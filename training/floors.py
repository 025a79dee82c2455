"""What chance finds, and what the simplest rule finds: a detector that is no better is worth nothing.

The random detector raises as many alarms in each DMA as the one under test, at times drawn evenly from the time judged;
what chance finds with as many alarms as a rule raises stands beside each rule too.
The rules alarm on a night whose MNF lies so many percent above the lowest of the last ten nights without an alarm: what
LeakDB (2018) compares with, on the MNF of DOMAIN's formula instead of the lowest slot of the day, and with an alarm from
the end of the night instead of midnight before it. No threshold of theirs knows the site.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from models.network import Site
from training.event_score import score_events
from training.labels import LEAK_KINDS, Leak
from training.matching import Alarm, Rules, assign
from training.slot_score import score_slots
from training.watched import Watched

REPEATS: Final = 1000
SEED: Final = 0
MNF_NIGHTS: Final = 10
MNF_RISES: Final = (0.1, 0.2)


def floors(
    site: Site, alarms: Sequence[Alarm], leaks: Sequence[Leak], watched: Mapping[str, Watched], rules: Rules
) -> list[dict[str, Any]]:
    """One row a floor, the random detector first; `alarms` are those of the detector under test.

    Takes a second or two where rules alarm hundreds of times.
    """
    rows: list[dict[str, Any]] = [random_floor(alarms, leaks, watched, rules)]
    for rise in MNF_RISES:
        raised = mnf_alarms(site, watched, rise)
        summary = score_events(site, raised, leaks, watched, rules)["summary"]
        rows.append(
            {"name": f"MNF {rise:.0%} above its lowest of {MNF_NIGHTS} nights", "rise": rise}
            | {key: summary[key] for key in _SHOWN}
            | {
                "leakdb": score_slots(raised, leaks, watched),
                "chance": random_floor(raised, leaks, watched, rules),
            }
        )
    return rows


_SHOWN: Final = (
    "leakAlarms", "found", *LEAK_KINDS, "unexplained", "unexplainedPerDmaMonth", "unexplainedOutsideLeaks",
    "unexplainedOutsideLeaksPerDmaMonth",
)  # fmt: skip


def random_floor(
    alarms: Sequence[Alarm], leaks: Sequence[Leak], watched: Mapping[str, Watched], rules: Rules
) -> dict[str, Any]:
    """Leaks that chance finds in time with as many alarms per DMA: median and 95th percentile of many draws, by kind."""
    rng = np.random.default_rng(SEED)
    found = {kind: np.zeros(REPEATS, np.int64) for kind in LEAK_KINDS}
    count = 0
    for dma, part in watched.items():
        warm_ms, judged_ms = part.warm_ms, part.ends_ms[part.judged]
        raised = sum(a.dma == dma and a.is_of_a_leak and a.raised_ms >= warm_ms for a in alarms)
        ours = [leak for leak in leaks if leak.dma == dma and warm_ms <= leak.started_ms < part.span_ms[1]]
        count += raised
        if not raised or not ours or not len(judged_ms):
            continue
        windows = [(leak.started_ms, rules.deadline_ms(leak)) for leak in ours]
        times = np.sort(rng.choice(judged_ms, (REPEATS, raised)), axis=1)
        for repeat, drawn in enumerate(times.tolist()):
            for window in assign(drawn, windows).values():
                found[ours[window].kind][repeat] += 1
    return {
        "name": f"random: as many alarms, {REPEATS:,} draws",
        "leakAlarms": count,
        "found": _spread(sum(found.values())),
        **{kind: {"found": _spread(found[kind])} for kind in LEAK_KINDS},
    }


def _spread(found: Any) -> dict[str, float]:
    return {"median": float(np.median(found)), "p95": float(np.quantile(found, 0.95, method="higher"))}


def mnf_alarms(site: Site, watched: Mapping[str, Watched], rise: float) -> list[Alarm]:
    """Alarms of the rule, ascending by time: raised when a night that is too high ends, over with the first that is not."""
    alarms: list[Alarm] = []
    for dma, part in watched.items():
        nights = part.nights(site)
        lowest: deque[float] = deque(maxlen=MNF_NIGHTS)
        since: int | None = None
        for over_ms, flow in zip(nights.over_ms.tolist(), nights.mnf_m3h.tolist(), strict=True):
            is_high = len(lowest) == MNF_NIGHTS and flow - min(lowest) > rise * min(lowest)
            if is_high:
                since = over_ms if since is None else since
                continue
            if since is not None:
                alarms.append(Alarm(f"mnf-{dma}-{since}", dma, "night_flow_leak", since, over_ms))
                since = None
            lowest.append(flow)
        if since is not None:
            alarms.append(Alarm(f"mnf-{dma}-{since}", dma, "night_flow_leak", since))
    return sorted(alarms, key=lambda alarm: (alarm.raised_ms, alarm.id))
