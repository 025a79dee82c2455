"""The report: what is drawn is what was found, in one file that needs nothing else."""

from __future__ import annotations

import html
import json
import math
import re
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.events import CLEARED, RAISED
from models.network import parse_site
from models.schema import Title
from models.state import DETECTION
from tests.scoring import DAY, HOUR, alert, watched_of
from tests.synthetic import START_MS, make_site
from tests.test_explanations import explained
from training.backtest import DetectionsFile
from training.labels import Leak
from training.local_time import LocalTime
from training.report import bucket_max, bucket_mean, daily_means, read_curves, stories, write_report
from training.report_figure import Mark, band_outline, lanes
from training.scorecard import score

SLOTS = 20 * 96


def detections(path: Path, slots: int = SLOTS, dmas: tuple[str, ...] = ("A", "B", "C")) -> Path:
    """Twenty days of a daily curve at 15 min; the first day without a band, the fifth without a flow."""
    rows = np.zeros(slots, DETECTION)
    rows["slot_end_ms"] = START_MS + 900_000 * np.arange(1, slots + 1)
    rows["observed_m3h"] = 50 + 20 * np.sin(np.arange(slots) / 96 * 2 * np.pi)
    rows["expected_m3h"] = rows["observed_m3h"] - 1
    rows["lower_m3h"], rows["upper_m3h"] = rows["expected_m3h"] - 5, rows["expected_m3h"] + 5
    for name in ("expected_m3h", "lower_m3h", "upper_m3h"):
        rows[name][:96] = np.nan
    rows["observed_m3h"][4 * 96 : 5 * 96] = np.nan
    with DetectionsFile(path) as file:
        for dma in dmas:
            file.add(dma, rows)
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    at = START_MS + 10 * DAY
    alerts = [
        alert("id-1", "A", at, title=Title(en="Burst likely in <A> & B", zh="")),
        alert("id-1", "A", at, revision=2, event="cleared", state="cleared", ended_at=at + DAY, updated_at=at + DAY),
        alert("id-2", "B", at, "meter_fault"),
    ]
    leaks = [Leak("p1", "A", "abrupt", at - HOUR, at + DAY, 9.0)]
    watched = {dma: watched_of(50.0, 20 * 24, START_MS) for dma in "ABC"}
    path = folder / "report.html"
    card = score(make_site(), alerts, leaks, watched)
    write_report(path, make_site(), alerts, detections=detections(folder / "d.parquet"), leaks=leaks, scorecard=card)
    return path.read_text(encoding="utf-8")


def figures(page: str) -> dict[str, dict[str, list[dict[str, object]]]]:
    found = re.search(r'<script id="figures" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_report_is_one_file_that_loads_nothing(page: str) -> None:
    without_code = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"<(link|img|iframe)|src=|@import|url\(", without_code)
    assert "Plotly.newPlot" in page
    assert len(page) < 7_000_000


def test_titles_are_plain_and_escaped(page: str) -> None:
    assert html.escape("Burst likely in <A> & B") in page
    assert "<A>" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def test_every_alert_is_explained_in_both_languages_as_it_was_raised_and_how_it_ended(tmp_path: Path) -> None:
    at = START_MS + 10 * DAY
    raised, cleared = explained("burst", RAISED), explained("burst", CLEARED)
    alerts = [
        alert("id-1", "A", at, explanation=raised.explanation),
        alert("id-1", "A", at, revision=2, event="cleared", explanation=cleared.explanation),
        alert("id-2", "B", at),
    ]
    [story, without] = stories(alerts)
    assert story.explanation is not None
    assert story.explanation.check_first == raised.explanation.check_first
    assert (story.explanation.water, story.explanation.ended) == (cleared.explanation.water, cleared.explanation.ended)
    assert without.explanation is None
    watched = {dma: watched_of(50.0, 20 * 24, START_MS) for dma in "ABC"}
    path = tmp_path / "report.html"
    card = score(make_site(), alerts, None, watched)
    write_report(path, make_site(), alerts, detections=detections(tmp_path / "d.parquet"), leaks=None, scorecard=card)
    page = path.read_text(encoding="utf-8")
    table = page.split('<table class="alerts">')[1].split("</table>", maxsplit=1)[0]
    assert table.count("<details>") == 1
    for part in ("observed", "ended", "water"):
        for language in ("en", "zh"):
            assert html.escape(getattr(getattr(story.explanation, part), language)) in table
    assert "<dt>优先排查</dt>" in table


def test_the_table_tells_local_time_and_the_explained_leak(page: str) -> None:
    table = page.split('<table class="alerts">')[1].split("</table>", maxsplit=1)[0]
    assert table.count("<tr>") == 3  # the head and two alerts
    assert "2026-01-15 00:00" in table  # Rome; 23:00 in UTC
    assert "<td>p1</td>" in table
    assert "still open" in table
    assert "✓ found" in page


def test_every_dma_has_its_figure_with_alerts_and_leaks_on_it(page: str) -> None:
    drawn = figures(page)
    assert list(drawn) == ["plot-0", "plot-1", "plot-2", "score-delay", "score-budget"]
    names = [trace.get("name") for trace in drawn["plot-0"]["data"]]
    assert {"Expected band", "Expected", "Net inflow"} <= set(names)
    hover = [str(trace.get("hovertemplate")) for trace in drawn["plot-0"]["data"]]
    assert any("id-1" in text and "2 revisions" in text and "explains leak p1" in text for text in hover)
    assert any("Known leak p1" in text for text in hover)
    kinds = [shape["type"] for shape in drawn["plot-0"]["layout"]["shapes"]]  # type: ignore[call-overload]
    assert sorted(kinds) == ["line", "rect"]
    assert "shapes" not in drawn["plot-2"]["layout"]
    assert [trace["x"] for trace in drawn["plot-0"]["data"] if trace.get("name") == "Net inflow"] == ["time"]
    assert drawn["plot-0"]["time"]


def test_missing_data_is_a_gap_not_a_zero(tmp_path: Path) -> None:
    site = make_site()
    curves = read_curves(detections(tmp_path / "d.parquet"), site.dmas[0], 6_000, LocalTime(site.timezone))
    assert curves is not None
    assert np.isnan(curves.observed[4 * 96 : 5 * 96]).all()
    assert np.isfinite(curves.observed).sum() == SLOTS - 96
    assert np.isnan(curves.lower[:96]).all()
    assert curves.highest is None
    assert curves.missing == pytest.approx(1 / 20)
    assert len(curves.day_ms) == 19


def test_long_histories_are_drawn_with_fewer_points(tmp_path: Path) -> None:
    site = make_site()
    curves = read_curves(detections(tmp_path / "d.parquet"), site.dmas[0], 500, LocalTime(site.timezone))
    assert curves is not None
    assert curves.slots_a_point == 4
    assert len(curves.time_ms) == len(curves.observed) == len(curves.upper) == 480
    assert curves.highest is not None
    assert np.nanmax(curves.highest) == pytest.approx(70, abs=0.01)


def test_fifty_dmas_over_years_stay_below_fifteen_megabytes(tmp_path: Path) -> None:
    names = tuple(f"D{i:02}" for i in range(50))
    network = "".join(f'[[dma]]\nid = "{n}"\n[[meter]]\nid = "m{n}"\nkind = "flow"\nto = "{n}"\n' for n in names)
    site = parse_site('name = "big"\ntimezone = "UTC"\n', network)
    path = detections(tmp_path / "d.parquet", 9_000, names)
    alerts = [alert(f"{n}-{i}", n, START_MS + (10 + i) * DAY) for n in names for i in range(20)]
    watched = {name: watched_of(50.0, 90 * 24, START_MS) for name in names}
    out = tmp_path / "report.html"
    write_report(out, site, alerts, detections=path, leaks=None, scorecard=score(site, alerts, None, watched))
    assert out.stat().st_size < 15_000_000


@given(st.lists(st.one_of(st.floats(-100, 100), st.just(float("nan"))), min_size=1, max_size=40), st.integers(1, 7))
def test_buckets_are_the_mean_and_largest_of_what_is_there(values: list[float], each: int) -> None:
    got_mean, got_max = bucket_mean(np.array(values), each), bucket_max(np.array(values), each)
    for at in range(0, len(values), each):
        part = values[at : at + each]
        there = [value for value in part if not math.isnan(value)]
        enough = len(there) * 2 >= len(part) and there
        expected = sum(there) / len(there) if enough else float("nan")
        np.testing.assert_allclose(got_mean[at // each], expected, rtol=1e-9, atol=1e-9)
        np.testing.assert_equal(got_max[at // each], max(there) if there else float("nan"))


def test_the_band_is_drawn_in_pieces_where_it_has_gaps() -> None:
    lower = np.array([np.nan, 1, 2, np.nan, 3, np.nan])
    x, y = band_outline(np.arange(6.0), lower, lower + 10)
    np.testing.assert_array_equal(x, [1, 2, 2, 1, np.nan, 4, 4, np.nan])
    np.testing.assert_array_equal(y, [11, 12, 2, 1, np.nan, 13, 3, np.nan])


def test_marks_that_overlap_get_lanes_of_their_own() -> None:
    def mark(start: float, end: float) -> Mark:
        return Mark("", start, start, end, "", True, False)

    assert lanes([mark(0, 10), mark(5, 6), mark(7, 20), mark(10, 12)]) == [0, 1, 1, 0]
    assert lanes([mark(0, 1), mark(2, 3)], room_ms=5) == [0, 1]


def test_days_are_local_and_half_empty_days_are_left_out() -> None:
    hours = START_MS + HOUR * np.arange(1, 73)
    observed = np.repeat([10.0, 20.0, 30.0], 24)
    observed[24:38] = np.nan  # 14 of the second day's 24 hours
    day, mean, excess = daily_means(LocalTime("Europe/Rome").ms(hours), observed, np.full(72, 9.0))
    assert [str(np.datetime64(int(d), "ms"))[:13] for d in day] == ["2026-01-05T12", "2026-01-07T12"]
    assert mean.tolist() == [10.0, 30.0]
    assert excess.tolist() == [1.0, 21.0]


def test_wall_clock_times_follow_daylight_saving() -> None:
    clock = LocalTime("Europe/Rome")
    from datetime import datetime  # noqa: PLC0415

    for month in (1, 7):
        moment = datetime(2026, month, 5, 2, 15, tzinfo=ZoneInfo("Europe/Rome"))
        assert clock.text(int(moment.timestamp() * 1000)) == f"2026-{month:02}-05 02:15"
    assert clock.text(None) == "–"


def test_a_story_keeps_the_title_of_the_raise_and_the_facts_of_the_newest_revision() -> None:
    first = alert("x", "A", 0, title=Title(en="raised", zh=""))
    last = alert("x", "A", 0, revision=3, state="cleared", ended_at=DAY, title=Title(en="over", zh=""))
    [story] = stories([last, first])
    assert (story.title, story.last.ended_at, story.revisions) == ("raised", DAY, 3)
