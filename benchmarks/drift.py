"""How often drift is said where nothing changed, and how soon where something did: the tables of docs/DRIFT.md.

    nightline import csv ../shared/data/bwdf/inflow_hourly_lps.csv.gz --out out/italy --timezone Europe/Rome --unit L/s \\
        --country IT
    .venv/bin/python -m benchmarks.drift --site out/italy --out out/drift

Models are trained on the first year of these six real DMAs, and on half of it. Into copies of what comes after, changes are
written at three dates; each DMA and date is one case. Some two minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from benchmarks.measure import SEED

YEAR_END, HALF_END = "2022-01-10", "2021-07-12"
STARTS: Final = ("2022-03-07", "2022-06-06", "2022-09-12")
WITHIN: Final = 8
"""Weeks in which a change is to be said."""
Change = Callable[[pd.DataFrame, pd.Series], pd.DataFrame]


def _gain(share: float) -> Change:
    return lambda flow, weeks: flow.mul(1 + share * (weeks >= 0), axis=0)


def _noise(times: float) -> Change:
    """White noise beside the meter's own, so many times as much together: by differences a week apart, MAD over sqrt(2)."""

    def change(flow: pd.DataFrame, weeks: pd.Series) -> pd.DataFrame:
        steps = flow.diff(168)
        own = 1.4826 * (steps - steps.median()).abs().median() / np.sqrt(2)
        added = np.random.default_rng(SEED).normal(size=flow.shape) * np.sqrt(times**2 - 1) * own.to_numpy()
        return flow + added * (weeks >= 0).to_numpy()[:, None]

    return change


def _district(flow: pd.DataFrame, weeks: pd.Series) -> pd.DataFrame:
    """Every week 2 % of the DMA's demand more, for 20 weeks."""
    return flow.mul(1 + 0.02 * np.clip(weeks + 1, 0, 20), axis=0)


def _flat(flow: pd.DataFrame, weeks: pd.Series) -> pd.DataFrame:
    """A new night user: 10 % of the mean inflow, from 23:00 to 05:00."""
    night = (flow.index.hour >= 23) | (flow.index.hour < 5)
    return flow + np.outer((weeks >= 0).to_numpy() & night, 0.1 * flow.mean().to_numpy())


CHANGES: Final[dict[str, Change]] = {
    "nothing": lambda flow, _: flow,
    "meter reads 15 % higher": _gain(0.15),
    "meter reads 15 % lower": _gain(-0.15),
    "meter reads 30 % lower": _gain(-0.3),
    "sensor swapped, noise doubled": _noise(2),
    "sensor swapped, noise tripled": _noise(3),
    "new district, +2 % a week": _district,
    "night use of 10 % of the mean": _flat,
}


def judged(place: Any, readings: Path, bundles: Mapping[str, Any]) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """The judged weeks of every DMA, and the weeks in which a leak was alarmed."""
    from models.drift_weeks import week_numbers  # noqa: PLC0415 - after the cache is set
    from training.backtest import WINDOW_MINUTES, run  # noqa: PLC0415
    from training.drift import follow  # noqa: PLC0415
    from training.drift_sources import leak_alarms  # noqa: PLC0415
    from training.history import read_history  # noqa: PLC0415

    followed = follow(place, bundles)

    def keep(dma: str, step: Any) -> None:
        followed[dma].take(step.detections)
        followed[dma].alarms.append(leak_alarms(step.alerts))

    run(place, read_history(readings, place, WINDOW_MINUTES), bundles, keep)
    alarmed = {dma: week_numbers(np.concatenate(one.alarms), place.timezone) for dma, one in followed.items()}
    return {dma: [week for week in one.found if week.ratio is not None] for dma, one in followed.items()}, alarmed


def verdicts(weeks: list[Any], first: int, last: float) -> tuple[int, int, int, int | None]:
    """Of weeks first <= number < last: judged, over their level, begins of drift, and in which week it was said first."""
    inside = [week for week in weeks if first <= week.number < last]
    over = [week.ratio > 1 for week in inside]
    said = [k for k in range(1, len(over)) if over[k] and over[k - 1]]
    begins = sum(k < 2 or not over[k - 2] for k in said)
    return len(over), sum(over), begins, inside[said[0]].number - first + 1 if said else None


def more_alarms(weeks: Any, first: int, last: int, reference: Any, dma: str) -> int:
    """How often a DMA begins to be said to have more leak alarms than in training; `weeks` are those of its alarms."""
    from training.alarm_rate import more_than_before  # noqa: PLC0415 - after the cache is set
    from training.drift import RARE  # noqa: PLC0415

    at = reference.dmas.index(dma)
    before = reference.leak_alarms[at], reference.judged_days[at]
    counts = [int(((weeks > week - WITHIN) & (weeks <= week)).sum()) for week in range(first + WITHIN - 1, last + 1)]
    rare = [more_than_before(count, 7 * WITHIN, *before) < RARE for count in counts]
    return sum(rare[k] and not (k and rare[k - 1]) for k in range(len(rare)))


def main() -> None:
    """Print the table."""
    from nightline.cli import use_kernel_cache  # noqa: PLC0415

    use_kernel_cache()
    from models.drift_weeks import week_numbers  # noqa: PLC0415 - after the cache is set
    from nightline.sites import load_site  # noqa: PLC0415
    from training.backtest import WINDOW_MINUTES  # noqa: PLC0415
    from training.history import read_history  # noqa: PLC0415
    from training.train import train  # noqa: PLC0415

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/drift"))
    parser.add_argument("--site", type=Path, required=True)
    out, folder = parser.parse_args().out, parser.parse_args().site
    place = load_site(folder)
    flow = pd.read_csv(folder / "readings" / "readings.csv.gz", index_col="timestamp", parse_dates=True)
    out.mkdir(parents=True, exist_ok=True)

    def epoch(text: str) -> int:
        return int(pd.Timestamp(text, tz=place.timezone).timestamp() * 1000)

    def number(text: str) -> int:
        return int(week_numbers(np.array([epoch(text) + 3_600_000]), place.timezone)[0])

    bundles = {
        end: train(place, read_history(folder / "readings", place, WINDOW_MINUTES), seed=0, clean_until_ms=epoch(end))
        for end in (YEAR_END, HALF_END)
    }
    heads = ["trained on", "judged DMA-weeks after it", "over the level, a DMA-year", "drift said, a DMA-year"]
    print("| " + " | ".join([*heads, "PSI over 0.25", "more alarms said"]) + " |")
    print("|---|---|---|---|---|---|")
    for end, bundle in bundles.items():
        weeks, alarms = judged(place, folder / "readings", dict.fromkeys(place.dma_row, bundle))
        found = [verdicts(one, number(end), np.inf) for one in weeks.values()]
        total, over, said = (sum(part[k] for part in found) for k in range(3))
        after = [week for one in weeks.values() for week in one if week.number >= number(end)]
        last = max(week.number for week in after)
        more = sum(more_alarms(times, number(end), last, bundle.reference, dma) for dma, times in alarms.items())
        thumb = np.mean([week.found[0].max() > 0.25 for week in after])
        rates = f"{52 * over / total:.2f} ({over}) | {52 * said / total:.2f} ({said})"
        print(f"| 2021-01 to {end} | {total} | {rates} | {thumb:.0%} | {more} |")
    print()
    print(
        f"| change | cases | first week over | said within {WITHIN} weeks | said in week, median | leak alarmed | either |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, change in CHANGES.items():
        firsts, found, alarmed, either = [], [], 0, 0
        for start in STARTS:
            at = pd.Series((flow.index - pd.Timestamp(start)).days // 7, flow.index)
            changed = change(flow, at)
            changed.to_csv(out / "readings.csv")
            weeks, alarms = judged(place, out / "readings.csv", dict.fromkeys(place.dma_row, bundles[YEAR_END]))
            begin = number(start)
            for dma, one in weeks.items():
                has_alarm = bool(((alarms[dma] >= begin) & (alarms[dma] < begin + WITHIN)).any())
                found.append(verdicts(one, begin, begin + WITHIN)[3])
                alarmed, either = alarmed + has_alarm, either + (has_alarm or found[-1] is not None)
                firsts += [week.ratio > 1 for week in one if week.number == begin]
        said = [one for one in found if one is not None]
        median = f"{np.median(said):g}" if said else "–"
        print(
            f"| {name} | {len(found)} | {sum(firsts)} of {len(firsts)} | {len(said)} | {median} | {alarmed} | {either} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
