import json
import shutil
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from benchmarks.measure import Row, Sample, each, race, rate
from nightline import bench as module
from nightline.bench import WORKLOADS, bench

ROOT = Path(__file__).resolve().parent.parent


def row(better, ours, peer, target):
    sample = Sample(ours, ours, ours)
    return Row("work", "unit", better, sample, peer and Sample(peer, peer, peer), "peer", "checked", target)


def test_one_workload_prints_its_rows_as_json():
    result = CliRunner().invoke(bench, ["--only", "codec", "--json"])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert [found["peer_name"] in ("msgspec", "json") for found in rows] == [True, True]
    assert all(found["ours"]["low"] <= found["ours"]["median"] <= found["ours"]["high"] for found in rows)
    assert all(
        found["correct"] == f"{count} readings equal" for found, count in zip(rows, ("20,000", "80,000"), strict=True)
    )


def test_every_workload_has_its_file_and_its_line_in_the_readme():
    readme = (ROOT / "benchmarks" / "README.md").read_text()
    for name in WORKLOADS:
        assert (ROOT / "benchmarks" / f"{name}.py").is_file()
        assert f"| {name} |" in readme


def test_an_installation_without_the_repository_says_so(monkeypatch, tmp_path):
    (tmp_path / "nightline").mkdir()
    shutil.copy(module.__file__, tmp_path / "nightline" / "bench.py")
    monkeypatch.setattr(module, "__file__", str(tmp_path / "nightline" / "bench.py"))
    result = CliRunner().invoke(bench, ["--only", "codec"])
    assert result.exit_code != 0
    assert "holds no benchmarks folder; possible: run it in a checkout" in result.output
    assert isinstance(result.exception, SystemExit | click.ClickException)


@pytest.mark.parametrize(
    ("better", "ours", "peer", "target", "ratio", "met"),
    [
        ("less", 2.0, 10.0, 3.0, 5.0, True),
        ("less", 4.0, 2.0, 3.0, 0.5, False),
        ("more", 4.0, 2.0, 3.0, 2.0, True),
        ("more", 2.0, None, 3.0, None, False),
        ("more", 2.0, None, None, None, None),
    ],
)
def test_a_ratio_above_one_is_always_in_our_favour(better, ours, peer, target, ratio, met):
    found = row(better, ours, peer, target)
    assert (found.ratio, found.met) == (ratio, met)


def test_contestants_take_turns_after_one_round_that_is_not_timed():
    calls = []
    seconds = race({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3)
    assert calls == ["a", "b"] * 4
    assert {name: len(found) for name, found in seconds.items()} == {"a": 3, "b": 3}


def test_samples_are_medians_with_their_extremes():
    assert each([1.0, 3.0, 2.0], 10, 1e3) == Sample(200.0, 100.0, 300.0)
    assert rate([1.0, 4.0, 2.0], 8) == Sample(4.0, 2.0, 8.0)
