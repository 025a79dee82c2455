"""The scorecard's plots, whatever there is to draw."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from models.network import Site, parse_site
from tests.scoring import DAY, HOUR, alert, watched_of
from training.budgets import budget_row
from training.labels import Leak
from training.matching import STRICT
from training.scorecard import score
from training.scorecard_figure import budget_figure, delay_figure
from training.scorecard_page import write_scorecard

MONTHS = 50 * 24 * HOUR / (30.44 * DAY)


def town(dmas: int) -> Site:
    parts = (f'[[dma]]\nid = "{n}"\n[[meter]]\nid = "in-{n}"\nkind = "flow"\nto = "{n}"\n' for n in range(dmas))
    return parse_site('name = "t"\ntimezone = "UTC"\n', "".join(parts))


def card_of(dmas: int, alarms: list[tuple[str, int]], leaks: list[Leak]) -> dict[str, Any]:
    """Fifty days of 20 m3/h, hour by hour, in each DMA; alarms as (dma, time)."""
    site = town(dmas)
    watched = {dma.id: watched_of(20.0, 50 * 24) for dma in site.dmas}
    alerts = [alert(f"a{number}", dma, time) for number, (dma, time) in enumerate(alarms)]
    card = score(site, alerts, leaks, watched)
    return card | {"budgets": [budget_row(site, site, alerts, leaks, watched, STRICT)]}


def burst(name: str, dma: str, size: float | None = 5.0, start: int = 20 * DAY) -> Leak:
    return Leak(name, dma, "abrupt", start, start + 3 * DAY, size)


@pytest.mark.parametrize("dmas", [1, 50])
def test_one_leak_that_was_found_lies_between_the_ends_of_both_axes(dmas: int) -> None:
    card = card_of(dmas, [("0", 20 * DAY + HOUR)], [burst("x", "0")])
    delay, budget = delay_figure(card), budget_figure(card)
    assert delay is not None
    assert budget is not None
    [points] = delay["data"]
    assert (points["x"], points["y"], points["marker"]["symbol"]) == ([25.0], [1.0], ["circle"])
    low, high = delay["layout"]["xaxis"]["range"]
    assert low < math.log10(25.0) < high
    assert len(delay["layout"]["xaxis"]["tickvals"]) >= 2
    names = {trace["name"]: trace for trace in budget["data"]}
    ours = names["Nightline at × its budget"]
    assert (ours["y"], ours["text"]) == ([100.0], ["×1"])
    # no alarm was unexplained: it stands at the left end, which says 0
    axis = budget["layout"]["xaxis"]
    assert (axis["tickvals"][0], axis["ticktext"][0]) == (ours["x"][0], "0")
    assert axis["range"][0] < math.log10(ours["x"][0]) < math.log10(axis["tickvals"][1])
    assert names["this site's budget"]["x"] == ours["x"]


def test_leaks_that_nobody_found_stand_on_top_and_the_curve_at_0() -> None:
    card = card_of(2, [("1", 40 * DAY)], [burst("x", "0"), burst("y", "1", 1.0), burst("unknown size", "0", None, 30 * DAY)])
    delay, budget = delay_figure(card), budget_figure(card)
    assert delay is not None
    assert budget is not None
    [points] = delay["data"]
    assert points["marker"]["symbol"] == ["x", "x"]  # one of unknown size has no place
    assert set(points["y"]) == {delay["layout"]["yaxis"]["tickvals"][-1]}
    assert delay["layout"]["yaxis"]["ticktext"][-1] == "never"
    ours = next(trace for trace in budget["data"] if trace["name"] == "Nightline at × its budget")
    assert ours["y"] == [0.0]
    assert ours["x"] == [pytest.approx(1 / card["summary"]["dmaMonths"])]


def test_kinds_and_verdicts_are_told_apart_without_colour() -> None:
    grown = Leak("g", "0", "incipient", 20 * DAY, None, 5.0, 30 * DAY)
    late = [("0", 45 * DAY), ("1", 22 * DAY)]
    figure = delay_figure(card_of(3, late, [grown, burst("late", "1"), burst("never", "2")]))
    assert figure is not None
    symbols = {trace["name"]: set(trace["marker"]["symbol"]) for trace in figure["data"]}
    assert symbols == {"abrupt": {"circle-open", "x"}, "incipient": {"triangle-up-open"}}


@pytest.mark.parametrize("leaks", [[], [burst("before the data", "0", 5.0, -9 * DAY)]])
def test_without_leaks_there_is_no_plot_and_no_empty_place_for_one(tmp_path: Path, leaks: list[Leak]) -> None:
    card = card_of(1, [("0", 20 * DAY)], leaks)
    assert delay_figure(card) is None
    assert budget_figure(card) is None
    write_scorecard(tmp_path / "card.html", "x", "UTC", card)
    page = (tmp_path / "card.html").read_text(encoding="utf-8")
    assert 'class="plot"' not in page
    assert '<div class="pair">' not in page


def test_labels_of_near_points_do_not_cover_each_other() -> None:
    card = card_of(1, [("0", 40 * DAY)], [burst("x", "0")])
    [row] = card["budgets"]
    rows = [
        row | {"timesTheBudget": times, "unexplained": count}
        for times, count in ((0.5, 10), (1.0, 11), (2.0, 12), (4.0, 90))
    ]
    figure = budget_figure(card | {"budgets": rows})
    assert figure is not None
    shifts = [label["yshift"] for label in figure["layout"]["annotations"]]
    assert len(set(shifts[:3])) == 3
    assert shifts[3] == shifts[0]
