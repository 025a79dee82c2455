"""Champion and challenger on the same held-back period, and when a challenger is too much worse."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from models.bundle import Bundle
from models.config import ConfigError
from nightline.cli import nightline
from tests.synthetic import DAY, NETWORK_TOML, SITE_TOML, SLOT_MS, START_MS, make_site, readings, run, step_between
from tests.test_evaluate import windows
from training import registry
from training.compare import MARGIN, Contest, compare, held_back, worse, worst_dmas
from training.labels import Leak
from training.train import train

DAYS, CLEAN = 50, 30
DAY_MS = 86_400_000
SITE = make_site()
LEAKS = [
    Leak("in-training", "A", "abrupt", START_MS + 25 * DAY_MS, START_MS + 26 * DAY_MS, 25.0),
    Leak("big", "C", "abrupt", START_MS + 40 * DAY_MS, START_MS + 44 * DAY_MS, 25.0),
    Leak("unseen", "A", "abrupt", START_MS + 42 * DAY_MS, START_MS + 43 * DAY_MS, 0.1),
]


@pytest.fixture(scope="module")
def block() -> Any:
    quiet_b = step_between(DAYS, 45 * DAY, 47 * DAY, 20.0)  # nobody knows of it: an unexplained alarm
    return readings(
        DAYS, seed=2, a=step_between(DAYS, 25 * DAY, 26 * DAY, 25.0), b=quiet_b,
        c=step_between(DAYS, 40 * DAY, 44 * DAY, 25.0),
    )  # fmt: skip


@pytest.fixture(scope="module")
def bundles(block: Any) -> tuple[Bundle, Bundle]:
    until = START_MS + CLEAN * DAY_MS
    first, second = (
        train(SITE, windows(block), seed=seed, trees=20, max_samples=128, clean_until_ms=until) for seed in (0, 1)
    )
    return first, second


def contest(champion: Bundle | None, challenger: Bundle | None, **fields: Any) -> Contest:
    every = [dma.id for dma in SITE.dmas]
    of = [{} if bundle is None else dict.fromkeys(every, bundle) for bundle in (champion, challenger)]
    names = tuple(None if bundle is None else bundle.version for bundle in (champion, challenger))
    period = {"since_ms": START_MS + CLEAN * DAY_MS, "until_ms": START_MS + DAYS * DAY_MS}
    return Contest(
        **{"scope": "*", "champion": of[0], "challenger": of[1], "dmas": every, "versions": names} | period | fields
    )


@pytest.fixture(scope="module")
def found(block: Any, bundles: tuple[Bundle, Bundle]) -> dict[str, Any]:
    return compare(SITE, windows(block), LEAKS, contest(*bundles))


def test_only_the_held_back_period_counts(found: dict[str, Any]) -> None:
    assert [leak["id"] for leak in found["leaks"]] == ["big", "unseen"]
    for role in ("champion", "challenger"):
        row = found["summary"][role]
        assert (row["leaks"], row["found"], row["unexplained"]) == (2, 1, 1)
        assert row["dmaMonths"] == pytest.approx(3 * (DAYS - CLEAN) / 30.44, rel=0.02)
        assert row["found95"][0] < 0.5 < row["found95"][1]
        assert row["unexplainedPerDmaMonth95"][0] < row["unexplainedPerDmaMonth"] < row["unexplainedPerDmaMonth95"][1]
    assert found["dmas"]["B"]["champion"]["unexplained"] == 1
    assert found["delaysOfBoth"]["leaks"] == 1
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_model_against_itself_is_not_worse_and_without_one_the_alarms_are_those_of_no_model(
    block: Any, bundles: tuple[Bundle, Bundle]
) -> None:
    same = compare(SITE, windows(block), LEAKS, contest(bundles[0], bundles[0]))
    assert same["summary"]["champion"] == same["summary"]["challenger"]
    assert (worse(same, 0.0), same["worstDmas"]) == ([], [])
    without = compare(SITE, windows(block), LEAKS, contest(None, bundles[0]))
    assert without["champion"] is None
    alone, _ = run(SITE, [block])
    since = START_MS + CLEAN * DAY_MS
    of_leaks = {a.alert_id for a in alone if a.type in ("burst", "night_flow_leak") and a.detected_at > since}
    assert without["summary"]["champion"]["leakAlarms"] == len(of_leaks)


def test_without_labels_every_alarm_is_unexplained(block: Any, bundles: tuple[Bundle, Bundle]) -> None:
    bare = compare(SITE, windows(block), None, contest(*bundles))
    assert not bare["labelled"]
    assert bare["summary"]["champion"]["unexplained"] == bare["summary"]["champion"]["leakAlarms"] == 2
    assert bare["leaks"] == []


def test_one_dma_alone_is_compared_alone(block: Any, bundles: tuple[Bundle, Bundle]) -> None:
    alone = compare(SITE, windows(block), LEAKS, contest(*bundles, scope="C", dmas=["C"]))
    assert list(alone["dmas"]) == ["C"]
    assert [leak["id"] for leak in alone["leaks"]] == ["big"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"found": 17}, "it finds 17 of 20 leaks in time, the champion 20"),
        ({"found": 18}, None),
        ({"unexplained": 12}, "it raises 12 unexplained alarms, the champion 10"),
        ({"unexplained": 11}, None),
        ({"delay": 22.5}, "its median delay over the 9 leaks that both find is 22.5 h, the champion's 20.0 h"),
        ({"delay": 22.0}, None),
    ],
)
def test_worse_is_what_is_beyond_the_margin(found: dict[str, Any], change: dict[str, float], said: str | None) -> None:
    made = copy.deepcopy(found)
    for row in made["summary"].values():
        row |= {"leaks": 20, "found": 20, "unexplained": 10}
    made["summary"]["challenger"] |= {name: count for name, count in change.items() if name != "delay"}
    made["delaysOfBoth"] = {"leaks": 9, "champion": 20.0, "challenger": change.get("delay", 20.0)}
    assert worse(made, MARGIN) == ([] if said is None else [said])
    assert worse(made, 1.0) == []


def test_one_alarm_and_one_hour_are_chance(found: dict[str, Any]) -> None:
    made = copy.deepcopy(found)
    for row in made["summary"].values():
        row |= {"leaks": 20, "found": 20, "unexplained": 0}
    made["summary"]["challenger"]["unexplained"] = 1
    made["delaysOfBoth"] = {"leaks": 9, "champion": 0.5, "challenger": 1.5}
    assert worse(made, MARGIN) == []
    made["summary"]["challenger"]["unexplained"] = 2
    assert worse(made, MARGIN) == ["it raises 2 unexplained alarms, the champion 0"]


def test_the_worst_dmas_are_named_first() -> None:
    def row(found: int, unexplained: int) -> dict[str, int]:
        return {"found": found, "unexplained": unexplained}

    dmas = {"A": (5, 0, 4, 0), "B": (5, 0, 5, 3), "C": (5, 1, 2, 0), "D": (1, 1, 2, 0)}
    rows = {dma: {"champion": row(*of[:2]), "challenger": row(*of[2:])} for dma, of in dmas.items()}
    assert worst_dmas(rows) == [
        {"dma": "C", "foundLess": 3, "unexplainedMore": 0},
        {"dma": "A", "foundLess": 1, "unexplainedMore": 0},
        {"dma": "B", "foundLess": 0, "unexplainedMore": 3},
    ]


def test_what_was_trained_on_is_not_held_back(bundles: tuple[Bundle, Bundle]) -> None:
    first = bundles[0]
    longer = Bundle(
        msgspec.structs.replace(first.manifest, trained_until_ms=first.manifest.trained_until_ms + 5), first.forest
    )
    until, last = longer.manifest.trained_until_ms, START_MS + DAYS * DAY_MS
    assert held_back((first, longer), None, None, last) == (until, last)
    assert held_back((None, None), START_MS, None, last) == (START_MS, last)
    assert held_back((first, longer), until + 7, last - 7, last) == (until + 7, last - 7)
    with pytest.raises(ConfigError, match=r"--since .* was trained on slots until .*; possible: that or later"):
        held_back((first, longer), until - 1, None, last)
    with pytest.raises(
        ConfigError, match=r"nothing is held back: model .* possible: later readings, or models trained with"
    ):
        held_back((first, longer), None, None, until)


def test_the_command_prints_a_table_or_json_and_keeps_the_comparison(
    tmp_path: Path, block: Any, bundles: tuple[Bundle, Bundle]
) -> None:
    (tmp_path / "site.toml").write_text(SITE_TOML)
    (tmp_path / "network.toml").write_text(NETWORK_TOML)
    lines = [
        f"{SITE.meters[one['meter']].id},{one['time_ms']},{one['value']},{SITE.meters[one['meter']].kind}" for one in block
    ]
    (tmp_path / "r.csv").write_text("\n".join(["meterId,observedAt,value,kind", *lines]) + "\n")
    leak = LEAKS[1]
    (tmp_path / "l.csv").write_text(
        f"dma,kind,startedAt,endedAt,id\nC,abrupt,{leak.started_ms},{leak.started_ms + 4 * DAY * SLOT_MS},big\n"
    )
    for bundle in bundles:
        registry.save(tmp_path, bundle)
    registry.promote(tmp_path, bundles[0].version)
    asked = ["compare", tmp_path, bundles[1].version, "--readings", tmp_path / "r.csv", "--labels", tmp_path / "l.csv"]
    table = CliRunner().invoke(nightline, [str(word) for word in asked])
    assert table.exit_code == 0, table.output
    assert f"{bundles[1].version} is not worse beyond a margin of 0.1: promote will take it" in table.output
    assert "1 of 1" in table.output
    words = [str(word) for word in (*asked, "--json", "--out", tmp_path / "out" / "c.json")]
    printed = CliRunner().invoke(nightline, words).stdout
    assert json.loads(printed) == json.loads((tmp_path / "out" / "c.json").read_text())
    kept = tmp_path / "models" / "site" / "comparisons" / f"{bundles[1].version}-against-{bundles[0].version}.json"
    assert json.loads(kept.read_text()) == json.loads(printed)
