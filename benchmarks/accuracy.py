"""What Nightline finds on the development data sets, as one table: `make accuracy`.

    .venv/bin/python -m benchmarks.accuracy [--out out/accuracy] [--only hanoi] [--data FOLDER]

Every figure comes out of `nightline` commands that anybody can run; they are printed, and stand under the table. The data
sets lie beside a checkout for development (`shared/data`) and are not part of the product: one that is absent is skipped.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import SkippedError, shared_data
from training.ablation import CAPTION, HEADS, ablation_table
from training.page import hours, short

ROOT: Final = Path(__file__).resolve().parent.parent
TIMEOUT_S: Final = 900
NO_LEAKS: Final = "dma,kind,startedAt,endedAt\n"
BURSTS, INCIPIENT = 100, 60
"""Leaks in the drawn campaigns on real DMAs: one in some 17 months of DMA time at a time leaves most of it clean."""


@dataclass
class Run:
    """Commands of one data set, and what they gave."""

    out: Path
    data: Callable[[str], Path]
    commands: list[str] = field(default_factory=list)
    rows: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    sizes: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    forests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def nightline(self, *words: object) -> None:
        """Run one command; raises RuntimeError with its last words where it fails."""
        texts = [str(word) for word in words]
        shown = "nightline " + " ".join(texts).replace(str(self.out), f"out/{self.out.name}")
        shown = re.sub(r"\S*/shared/data/", "../shared/data/", shown)
        self.commands.append(shown)
        print(f"$ {shown}", file=sys.stderr, flush=True)
        command = [sys.executable, "-c", "from nightline.cli import main; main()", *texts]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S, cwd=ROOT)
        if done.returncode != 0:
            raise RuntimeError(f"{shown}: {' '.join(done.stderr.split()[-40:])}")

    def evaluate(self, name: str, site: Path, readings: Path, labels: Path) -> None:
        """A row of the table, with and without each detector."""
        words = ("--labels", labels, "--ablation", "--no-model")
        self.rows.append((name, self._scorecard(labels.parent / "evaluate", site, "--readings", readings, *words)))

    def train(self, site: Path, until: str) -> None:
        """A forest of the first half of a history: of what no label and no suspicion speaks against."""
        self.nightline("train", site, "--readings", site / "readings", "--until", until, "--promote", "--no-figures")

    def with_forest(self, name: str, site: Path, readings: Path, labels: Path) -> None:
        """What comes after its training, with and without it."""
        words = ("--labels", labels, "--without", "isolation", "--after-training", "--budgets", 1)
        card = self._scorecard(labels.parent / "evaluate-forest", site, "--readings", readings, *words)
        self.forests.append((name, card))

    def both(self, name: str, site: Path, until: str) -> None:
        """`evaluate`, and `with_forest` of one trained until then, on a site's own readings and labels."""
        self.evaluate(name, site, site / "readings", site / "labels.csv")
        self.train(site, until)
        self.with_forest(name, site, site / "readings", site / "labels.csv")

    def _scorecard(self, out: Path, *words: object) -> dict[str, Any]:
        self.nightline("evaluate", *words, "--out", out)
        found: dict[str, Any] = json.loads((out / "scorecard.json").read_text(encoding="utf-8"))
        return found


def bwdf(run: Run) -> None:
    """Six real DMAs: as they are, with bursts, with leaks that grow; and the smallest burst found in each."""
    site = run.out / "bwdf"
    source = run.data("bwdf") / "inflow_hourly_lps.csv.gz"
    place = ("--timezone", "Europe/Rome", "--country", "IT")
    run.nightline("import", "csv", source, "--out", site, *place, "--unit", "L/s", "--force")
    clean = run.out / "bwdf-clean" / "labels.csv"
    clean.parent.mkdir(parents=True, exist_ok=True)
    clean.write_text(NO_LEAKS, encoding="utf-8")
    sets = [("bwdf, 6 real DMAs as they are", site / "readings", clean)]
    for kind, count, name in (("burst", BURSTS, "bursts"), ("incipient", INCIPIENT, "leaks that grow 10 to 30 d")):
        leaky = run.out / f"bwdf-{kind}"
        drawn = ("--campaign", count, "--kind", kind, "--seed", 1)
        run.nightline("inject", site, "--readings", site / "readings", "--out", leaky, *drawn)
        sets.append((f"bwdf, {name} of 3 to 40 % of mean inflow", leaky / "readings", leaky / "labels.csv"))
    for title, readings, labels in sets:
        run.evaluate(title, site, readings, labels)
    run.train(site, "2022-02-01")
    for title, readings, labels in sets:
        run.with_forest(title, site, readings, labels)
    sizes = run.out / "bwdf-detectability"
    run.nightline("detectability", site, "--readings", site / "readings", "--out", sizes, "--starts", 20, "--no-model")
    run.sizes.append(("bwdf", json.loads((sizes / "detectability.json").read_text(encoding="utf-8"))))


def ltown(run: Run) -> None:
    """A simulated year with fourteen leaks that overlap: from three flow meters, and with 33 pressure loggers."""
    source = run.data("ltown-2018")
    for name, folder, words in (
        ("3 flow meters", "ltown-flows", ("--flows-only",)),
        ("with 33 pressure loggers", "ltown", ()),
        ("with 33 pressure loggers and sensor noise", "ltown-noise", ("--noise", 1)),
    ):
        site = run.out / folder
        run.nightline("import", "battledim", source, "--out", site, "--force", *words)
        run.both(f"L-Town 2018, {name}", site, "2018-07-01")


def hanoi(run: Run) -> None:
    """Ten simulated years of one network, with LeakDB's own score."""
    site = run.out / "hanoi"
    run.nightline("import", "leakdb", run.data("hanoi"), "--out", site, "--force")
    run.both("Hanoi, 10 scenarios", site, "2018-07-01")


SETS: Final = {"bwdf": bwdf, "ltown": ltown, "hanoi": hanoi}


def _found(part: dict[str, Any]) -> str:
    if not part["leaks"]:
        return "–"
    low, high = (f"{100 * end:.0f}" for end in part["found95"])
    return f"{part['found']} of {part['leaks']} ({low}–{high} %)"


def _by_chance(random: dict[str, Any], part: dict[str, Any], kind: str) -> str:
    found = random[kind]["found"]
    return f"{found['median']:g} (≤ {found['p95']:g})" if part[kind]["leaks"] else "–"


def _rate(summary: dict[str, Any], name: str) -> str:
    low, high = (short(end) for end in summary[f"{name}95"])
    return f"{short(summary[name])} ({low}–{high})"


def event_rows(rows: Sequence[tuple[str, dict[str, Any]]]) -> list[list[str]]:
    """Detection by event, ours and the floors'."""
    table = [
        [
            "data", "abrupt ≤ 24 h", "by chance", "median", "incipient ≤ 14 d", "by chance", "median of all", "alarms",
            "unexplained a DMA-month", "of these without a leak", "lost before an alarm",
        ]
    ]  # fmt: skip
    for name, card in rows:
        summary = card["summary"]
        random, *rules = card["floors"]
        unseen = summary["lostBeforeFound_m3"] + summary["lostOfMissed_m3"]
        table.append(
            [
                f"**{name}**",
                _found(summary["abrupt"]),
                _by_chance(random, summary, "abrupt"),
                hours(summary["abrupt"]["medianDelayHours"]),
                _found(summary["incipient"]),
                _by_chance(random, summary, "incipient"),
                hours(summary["incipient"]["medianDelayHoursOfAll"]),
                str(summary["leakAlarms"]),
                _rate(summary, "unexplainedPerDmaMonth"),
                _rate(summary, "unexplainedOutsideLeaksPerDmaMonth"),
                f"{unseen / summary['leaked_m3']:.0%}" if summary["leaked_m3"] else "–",
            ]
        )
        for rule in rules:
            cells = [(_found(rule[kind]), _by_chance(rule["chance"], rule, kind)) for kind in ("abrupt", "incipient")]
            rates = short(rule["unexplainedPerDmaMonth"]), short(rule["unexplainedOutsideLeaksPerDmaMonth"])
            delays = hours(rule["abrupt"]["medianDelayHours"]), hours(rule["incipient"]["medianDelayHoursOfAll"])
            first, last = (*cells[0], delays[0]), (*cells[1], delays[1])
            table.append(["… " + rule["name"], *first, *last, str(rule["leakAlarms"]), *rates, ""])
    return table


def size_rows(rows: Sequence[tuple[str, dict[str, Any]]]) -> list[list[str]]:
    """Leaks found by size, in standard deviations of the night flow."""
    table = [["data", "kind", "size, night-flow sds", "found in time", "median delay"]]
    for name, card in rows:
        for part in card["byNightSd"]:
            size = f"{part['from']:g} to {part['below']:g}" if part["below"] else f"from {part['from']:g}"
            table.append([name, part["kind"], size, _found(part), hours(part["medianDelayHours"])])
    return table


def ablation_rows(rows: Sequence[tuple[str, dict[str, Any]]]) -> list[list[str]]:
    """Each data set with all detectors and without each."""
    table = [["data", *HEADS[1:]]]
    for name, card in rows:
        _, whole, *less = ablation_table(card)
        table += [[f"**{name}**", *whole[1:]], *(["… " + row[0], *row[1:]] for row in less)]
    return table


def slot_rows(rows: Sequence[tuple[str, dict[str, Any]]]) -> list[list[str]]:
    """LeakDB's score, ours and the floors'; of data whose leaks do not overlap."""
    table = [["data", "TPR", "TNR", "F1", "early detection"]]
    for name, card in rows:
        if not name.startswith("Hanoi"):
            continue
        scored = [(f"**{name}**", card), *(("… " + floor["name"], floor) for floor in card["floors"])]
        for label, part in scored:
            if "leakdb" in part:
                figures = [part["leakdb"][key] for key in ("truePositiveRate", "trueNegativeRate", "f1", "earlyDetection")]
                table.append([label, *("–" if figure is None else f"{figure:.1f}" for figure in figures)])
    return table


def detectable_rows(sizes: Sequence[tuple[str, dict[str, Any]]]) -> list[list[str]]:
    """The smallest burst found in each DMA."""
    table = [["DMA", "mean inflow, m³/h", "starts", "within 24 h, m³/h", "of mean", "within 7 d, m³/h", "of mean"]]
    for name, found in sizes:
        for dma, part in found["dmas"].items():
            cells = []
            for within in ("within24h", "within168h"):
                size, share = part[within]["m3h"], part[within]["shareOfMeanInflow"]
                cells += ["not found", "> 100 %"] if size is None else [f"{size:.3g}", f"{100 * share:.1f} %"]
            table.append([f"{name} {dma}", short(part["meanInflow_m3h"]), str(part["trials"]), *cells])
    return table


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table; the first row is its head."""
    lines = [" | ".join(row) for row in rows]
    return "\n".join(f"| {line} |" for line in [lines[0], " | ".join(["---"] * len(rows[0])), *lines[1:]])


def _commit() -> str:
    def git(*words: str) -> str:
        asked = subprocess.run(["git", *words], capture_output=True, text=True, check=False, cwd=ROOT)
        return asked.stdout.strip()

    changed = " with changes that are not committed" if git("status", "--porcelain", "--untracked-files=no") else ""
    return (git("rev-parse", "--short", "HEAD") or "unknown") + changed


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the chosen sets; print the tables and write them to OUT/accuracy.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "accuracy")
    parser.add_argument("--only", action="append", choices=list(SETS))
    parser.add_argument("--data", type=Path, help="folder with the data sets; default: shared/data beside the repository")
    chosen = parser.parse_args(arguments)
    chosen.out.mkdir(parents=True, exist_ok=True)
    run = Run(chosen.out, shared_data if chosen.data is None else lambda name: _inside(chosen.data, name))
    begin, skipped = time.monotonic(), []
    for name in chosen.only or SETS:
        try:
            SETS[name](run)
        except SkippedError as why:
            skipped.append(f"{name}: skipped: {why}")
    said = [f"Commit {_commit()}, {datetime.now(UTC):%Y-%m-%d}, {time.monotonic() - begin:.0f} s.", *skipped]
    tables = {
        "By event. In brackets 95 % intervals (Wilson; exact Poisson); of chance the 95th percentile.": event_rows(run.rows),
        "By size:": size_rows(run.rows),
        f"Without each detector. {CAPTION}": ablation_rows(run.rows),
        "The isolation forest, fitted on the first half of each history and judged on the second:": ablation_rows(
            run.forests
        ),
        "LeakDB's score, by slot, in percent:": slot_rows(run.rows),
        "The smallest burst found at 80 % of the starts:": detectable_rows(run.sizes),
    }
    for title, rows in tables.items():
        if len(rows) > 1:
            said += [title, markdown(rows)]
    said += ["```\n" + "\n".join(run.commands) + "\n```"] * bool(run.commands)
    text = "\n\n".join(said) + "\n"
    (chosen.out / "accuracy.md").write_text(text, encoding="utf-8")
    print(text)


def _inside(data: Path, name: str) -> Path:
    if not (data / name).is_dir():
        raise SkippedError(f"found no {data / name}")
    return data / name


if __name__ == "__main__":
    main()
