"""models/planned.py: planned work labels what happens meanwhile, and hides nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from models.config import ConfigError
from models.explain import alert
from models.planned import PlannedWork, during, read_planned
from nightline.cli import nightline
from nightline.sites import load_site
from tests.synthetic import NETWORK_TOML, SITE_TOML, make_site
from tests.test_explain import START, transition

HOUR_MS = 3_600_000
DMAS = {"A": 0, "B": 1}


def read(*lines: str, head: str = "dma,startedAt,endedAt,what,whatZh", timezone: str = "Asia/Shanghai"):
    return read_planned("\n".join((head, *lines)), timezone, DMAS)


def test_a_naive_time_is_the_sites_own_and_windows_are_sorted():
    late, early = (
        "B,2026-03-02T08:00+00:00,2026-03-02T09:00Z,fire test,",
        "A,2026-03-01 22:00,2026-03-02 04:00,flushing,冲洗",
    )
    assert read(late, early) == (
        PlannedWork("A", 1_772_373_600_000, 1_772_395_200_000, "flushing", "冲洗"),
        PlannedWork("B", 1_772_438_400_000, 1_772_442_000_000, "fire test", "fire test"),
    )


def test_no_lines_are_no_windows():
    assert read() == ()
    assert make_site().planned == ()


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("Z,2026-03-01,2026-03-02,x,", "line 2: dma 'Z' is not in network.toml; possible: A, B, or '*' for all"),
        ("A,yesterday,2026-03-02,x,", "line 2: startedAt 'yesterday' cannot be read; possible: ISO 8601, from 1990 to 2100"),
        ("A,2026-03-01,9999-12-31,x,", "line 2: endedAt '9999-12-31' cannot be read"),
        ("A,2026-03-02,2026-03-01,x,", "line 2: endedAt '2026-03-01' is not after startedAt '2026-03-02'"),
        ("A,2026-03-01,2026-03-02,,", "line 2: what ''; possible: a few words, at most 100 characters"),
        ("A,2026-03-01,2026-03-02," + "x" * 101 + ",", "line 2: what 'xxx"),
        ("A", "line 2: startedAt '' cannot be read"),
        ('A,"2026-03-01', "cannot be read: unexpected end of data"),
    ],
)
def test_a_faulty_line_is_named(line: str, fault: str):
    with pytest.raises(ConfigError) as refused:
        read(line)
    assert any(fault in one for one in refused.value.faults), refused.value.faults


def test_every_faulty_line_and_column_is_named_at_once():
    with pytest.raises(ConfigError) as refused:
        read("Z,2026-03-01,2026-03-02,x,", "A,1,2,x,")
    assert len(refused.value.faults) == 3
    with pytest.raises(ConfigError) as refused:
        read(head="dma,from,to,what")
    assert [fault[:36] for fault in refused.value.faults] == [
        "planned.csv: no column 'startedAt'; ", "planned.csv: no column 'endedAt'; po"
    ]  # fmt: skip


def work(dma: str, start_ms: int, end_ms: int) -> PlannedWork:
    return PlannedWork(dma, start_ms, end_ms, "flushing", "冲洗")


@pytest.mark.parametrize(
    ("window", "is_labelled"),
    [
        (work("B", START - HOUR_MS, START + HOUR_MS), True),
        (work("*", START - HOUR_MS, START + HOUR_MS), True),
        (work("A", START - HOUR_MS, START + HOUR_MS), False),  # another DMA's
        (work("B", START - 2 * HOUR_MS, START), True),
        (work("B", START - 2 * HOUR_MS, START - 1), False),  # over before it began
        (work("B", START + 2 * HOUR_MS, START + 3 * HOUR_MS), True),  # detected an hour before the crew was due
        (work("B", START + 2 * HOUR_MS + 1, START + 3 * HOUR_MS), False),
    ],
)
def test_an_alert_says_what_work_was_planned_between_its_start_and_its_detection(window: PlannedWork, is_labelled: bool):
    plain = make_site()
    site = replace(plain, planned=(window,))
    meters = [site.meters[row] for row in site.channels("B")]
    for change, later_ms in ((0, 0), (1, 5 * HOUR_MS), (2, 50 * HOUR_MS)):
        event = transition("burst", change, updated_ms=START + HOUR_MS + later_ms)
        without, said = (alert(place, "B", meters, event, None, "live") for place in (plain, site))
        assert said.alert_id == without.alert_id
        assert (said.severity, said.state, said.estimate) == (without.severity, without.state, without.estimate)
        assert ("planned_work" in said.reasons) == is_labelled
        if is_labelled:
            assert said.title.en == f"{without.title.en}, during planned work: flushing"
            assert said.title.zh == f"{without.title.zh}（计划作业：冲洗）"
            assert said.evidence.against == [*without.evidence.against, "Planned work is under way: flushing."]
            assert said.confidence < without.confidence
        else:
            assert said == without


def test_of_two_windows_the_first_is_named():
    both = (work("B", START, START + 1), PlannedWork("B", START, START + 2, "fire test", ""))
    assert during(both, "B", START, START) is both[0]


def test_a_site_folder_may_hold_planned_work(tmp_path: Path):
    (tmp_path / "site.toml").write_text(SITE_TOML)
    (tmp_path / "network.toml").write_text(NETWORK_TOML)
    assert load_site(tmp_path).planned == ()
    (tmp_path / "planned.csv").write_text("dma,startedAt,endedAt,what\nB,2026-03-01,2026-03-02,flushing\n", "utf-8-sig")
    assert [one.what for one in load_site(tmp_path).planned] == ["flushing"]
    assert "1 windows of planned work" in CliRunner().invoke(nightline, ["check-config", str(tmp_path)]).output
    (tmp_path / "planned.csv").write_text("dma,startedAt,endedAt,what\nX,2026-03-01,2026-03-02,flushing\n")
    with pytest.raises(ConfigError, match=r"planned\.csv: line 2: dma 'X'"):
        load_site(tmp_path)
