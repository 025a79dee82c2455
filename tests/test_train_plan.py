"""What `nightline train` leaves out, for whom it fits, and that the same history always gives the same models."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from models.bundle import ARRAYS, CARD, MANIFEST
from models.config import ConfigError
from models.detectors import isolation
from models.features import FEATURES
from models.forest import score
from models.network import parse_site
from models.state import ROW
from nightline.train import train as train_command
from tests import synthetic
from training import registry
from training.card import FIGURE, card_files
from training.clusters import clusters_of
from training.fit import LATER, ForestSettings, Shares, boundaries, in_period
from training.history import Window
from training.labels import KnownEvent, Leak
from training.leave_out import KNOWN_EVENT, KNOWN_LEAK, PLANNED, known_periods, totals
from training.score_law import daily_maxima, statistic
from training.search import Search
from training.train import Plan, clean_rows, shard_of, too_few, train_models

DAYS = 44
DAY_MS = 86_400_000
SMALL = ForestSettings(trees=8, max_samples=64)


def day_ms(day):
    return synthetic.START_MS + round(day * DAY_MS)


def windows(block, hours=24):
    cell = (block["time_ms"] - 1) // (hours * 3_600_000)
    parts = np.split(block, np.flatnonzero(np.diff(cell)) + 1)
    return [Window(int(part["time_ms"][0]), int(part["time_ms"][-1]) + 1, part) for part in parts]


@pytest.fixture(scope="module")
def site():
    return synthetic.make_site()


@pytest.fixture(scope="module")
def quiet(site):
    return clean_rows(site, windows(synthetic.readings(DAYS)), list(site.dma_row))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, site):
    path = tmp_path_factory.mktemp("train")
    (path / "site.toml").write_text(synthetic.SITE_TOML)
    (path / "network.toml").write_text(synthetic.NETWORK_TOML)
    lines = ["meterId,observedAt,value,kind"]
    for one in synthetic.readings(DAYS):
        meter = site.meters[one["meter"]]
        lines.append(f"{meter.id},{one['time_ms']},{one['value']},{meter.kind}")
    (path / "history.csv").write_text("\n".join(lines) + "\n")
    return path


def run(folder, *arguments):
    words = [folder, "--readings", folder / "history.csv", "--trees", 8, "--max-samples", 64, *arguments]
    return CliRunner().invoke(train_command, [str(word) for word in words])


def test_a_known_leak_and_its_recovery_are_left_out_of_its_dma_and_named(site, quiet):
    leak = Leak("main-st", "A", "abrupt", day_ms(30), day_ms(32))
    known = known_periods(site, [leak], recovery_hours=24)
    rows = clean_rows(site, windows(synthetic.readings(DAYS)), ["A", "B"], known=known)
    assert rows["A"].left_out[KNOWN_LEAK] == 3 * synthetic.DAY
    assert rows["A"].left_out_hours[KNOWN_LEAK] == 72.0
    assert not ((rows["A"].ends_ms > day_ms(30)) & (rows["A"].ends_ms <= day_ms(33))).any()
    assert [(window.what, window.slots) for window in rows["A"].windows] == [("main-st", 3 * synthetic.DAY)]
    assert (rows["B"].left_out, rows["B"].windows) == (quiet["B"].left_out, [])


def test_a_leak_that_was_never_repaired_is_left_out_to_the_end(site):
    known = known_periods(site, [Leak("old", "A", "incipient", day_ms(35), None)])
    rows = clean_rows(site, windows(synthetic.readings(DAYS)), ["A"], known=known)
    assert rows["A"].ends_ms[-1] <= day_ms(35)


def test_planned_work_and_outcomes_are_left_out_but_what_is_normal_is_learned(quiet):
    planned = "dma,startedAt,endedAt,what\n*,2026-02-10 22:00,2026-02-11 04:00,flushing\n"
    site = parse_site(synthetic.SITE_TOML, synthetic.NETWORK_TOML, planned)
    events = [
        KnownEvent("meter", "A", "meter_fault", day_ms(30), day_ms(31)),
        KnownEvent("festival", "A", "legitimate_use", day_ms(33), day_ms(34)),
    ]
    known = known_periods(site, [], events, recovery_hours=0)
    rows = clean_rows(site, windows(synthetic.readings(DAYS)), ["A", "B"], known=known)
    assert totals(rows.values())[PLANNED] == 2 * 7 * 4  # six hours, and the one before, in both DMAs
    assert rows["A"].left_out[KNOWN_EVENT] == synthetic.DAY
    assert ((rows["A"].ends_ms > day_ms(33)) & (rows["A"].ends_ms <= day_ms(34))).sum() == synthetic.DAY


def test_a_false_alarm_is_learned_though_its_event_was_open_and_a_leak_within_it_is_not(site):
    burst = windows(synthetic.readings(DAYS, a=synthetic.step_between(DAYS, 34 * synthetic.DAY, 38 * synthetic.DAY, 30.0)))
    said = [KnownEvent("fair", "A", "false_alarm", day_ms(34), day_ms(38))]
    unknown, normal, leak = (
        clean_rows(site, burst, ["A"], known=known_periods(site, leaks, events, recovery_hours=0))["A"]
        for leaks, events in (([], []), ([], said), ([Leak("real", "A", "abrupt", day_ms(35), day_ms(36))], said))
    )
    more = ~np.isin(normal.ends_ms, unknown.ends_ms)
    assert more.sum() > 3 * synthetic.DAY
    assert normal.left_out.get("event open", 0) == unknown.left_out["event open"] - more.sum()
    # a worker's drift counts no slot with an event open, and so does its reference
    assert np.array_equal(normal.ends_ms[normal.counted(day_ms(DAYS))], unknown.ends_ms)
    assert (leak.left_out[KNOWN_LEAK], normal.windows) == (synthetic.DAY, [])
    assert not ((leak.ends_ms > day_ms(35)) & (leak.ends_ms <= day_ms(36))).any()
    without_end = known_periods(site, [], [replace(said[0], ended_ms=None)])
    # the engine knows how long its event lasted
    assert clean_rows(site, burst, ["A"], known=without_end)["A"].left_out == normal.left_out


def test_the_engine_warms_up_before_since_but_nothing_of_it_is_learned(site, quiet):
    rows = clean_rows(site, windows(synthetic.readings(DAYS)), ["A"], since_ms=day_ms(25))
    later = quiet["A"].ends_ms > day_ms(25)
    assert rows["A"].ends_ms.tolist() == quiet["A"].ends_ms[later].tolist()
    np.testing.assert_array_equal(rows["A"].features, quiet["A"].features[later])


def test_three_periods_follow_each_other_and_the_last_is_held_back(site, quiet):
    (model,) = train_models(site, quiet, Plan(settings=SMALL, shares=LATER))
    m = model.trained[0].bundle.manifest
    fit, calibrate, report = (m.periods[name] for name in ("fit", "calibrate", "report"))
    assert fit[0] < fit[1] < calibrate[0] <= calibrate[1] < report[0] <= report[1]
    assert (m.trained_from_ms, m.trained_until_ms) == (fit[0], calibrate[1])
    assert m.metrics["rows"] == pytest.approx(0.7 * sum(len(one.ends_ms) for one in quiet.values()), rel=0.01)


def test_what_is_held_back_changes_figures_but_no_model(site, quiet):
    own = {"A": quiet["A"]}
    held_back = in_period(quiet["A"], boundaries(own, LATER), "report")
    stranger = {"A": replace(quiet["A"], features=np.where(held_back[:, None], np.float32(9.0), quiet["A"].features))}
    first, second = (
        next(train_models(site, rows, Plan(per="dma", settings=SMALL, shares=LATER))).trained[0].bundle
        for rows in (own, stranger)
    )
    assert held_back.any()
    assert first.sha256 == second.sha256
    assert first.manifest.metrics["report_score_p50"] < second.manifest.metrics["report_score_p50"]


def test_the_statistic_is_the_engines(site, quiet):
    (model,) = train_models(site, quiet, Plan(settings=SMALL))
    forest, rows = model.trained[0].bundle.forest, quiet["A"]
    x, ends = rows.features[:300], rows.ends_ms[:300]
    row = np.zeros(1, ROW)
    row["forest_score"] = np.nan
    expected = []
    for k in range(len(x)):
        if k and ends[k] - ends[k - 1] != rows.slot_ms:
            row["forest_score"] = np.nan
        expected.append(isolation.update(row[0], x[k], forest, 0.25))
    got = statistic(score(forest, x), x, ends, rows.slot_ms)
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert (got > 0).any()


def test_days_with_few_slots_have_no_maximum():
    ends = day_ms(0) + 3_600_000 * np.r_[1:25, 25:30, 49:73]
    got = daily_maxima(np.arange(len(ends), dtype=float), ends, 3_600_000, "Africa/Tunis")
    assert got.tolist() == [23.0, 52.0]


def test_alike_dmas_share_a_forest_and_are_named_in_each_bundle(site, quiet):
    models = list(train_models(site, quiet, Plan(per="cluster", clusters=2, settings=SMALL)))
    assert sorted(dma for model in models for dma in model.members) == ["A", "B", "C"]
    (pair,) = (model for model in models if len(model.members) == 2)
    first, second = (trained.bundle for trained in pair.trained)
    assert (first.scope, second.scope) == tuple(pair.members)
    assert first.sha256 == second.sha256
    assert first.version != second.version
    assert first.manifest.members == second.manifest.members == list(pair.members)


def test_a_dma_with_too_few_slots_is_named_and_costs_the_others_nothing(site, quiet):
    known = [*known_periods(site), *known_periods(site, [Leak("long", "B", "incipient", day_ms(15), None)])]
    rows = clean_rows(site, windows(synthetic.readings(DAYS)), list(site.dma_row), known=known)
    plan = Plan(per="dma", settings=SMALL)
    assert list(too_few(site, rows, plan)) == ["B"]
    assert "known leak" in too_few(site, rows, plan)["B"]
    ours = [model.trained[0].bundle for model in train_models(site, rows, plan)]
    assert [bundle.scope for bundle in ours] == ["A", "C"]
    with pytest.raises(ConfigError, match=r"testville/B: found .* slots to learn from"):
        list(train_models(site, {"B": rows["B"]}, plan))


def test_clusters_are_found_by_what_tells_dmas_apart():
    rng = np.random.default_rng(5)
    wide = {f"w{k}": rng.normal(scale=3.0, size=(800, len(FEATURES))).astype(np.float32) for k in range(4)}
    narrow = {f"n{k}": rng.normal(scale=1.0, size=(800, len(FEATURES))).astype(np.float32) for k in range(5)}
    found, silhouette = clusters_of({**wide, **narrow})
    assert found == [sorted(narrow), sorted(wide)]
    assert silhouette > 0.5
    assert clusters_of(dict(reversed([*wide.items(), *narrow.items()])))[0] == found
    assert clusters_of(narrow)[0] == [sorted(narrow)]


def test_models_depend_on_neither_windows_nor_order_nor_shard(site, quiet):
    backwards = "".join(f'[[dma]]\nid = "{dma}"\n' for dma in "CBA")
    blocks = synthetic.NETWORK_TOML.split("[[meter]]", 1)[1]
    other = parse_site(synthetic.SITE_TOML, f"{backwards}[[meter]]{blocks}")
    assert list(other.dma_row) != list(site.dma_row)
    rows = clean_rows(other, windows(synthetic.readings(DAYS), hours=60), ["C", "A", "B"])
    for plan in (Plan(settings=SMALL), Plan(per="dma", settings=SMALL)):
        ours = [t.bundle.to_files() for model in train_models(site, quiet, plan) for t in model.trained]
        theirs = [t.bundle.to_files() for model in train_models(other, rows, plan) for t in model.trained]
        assert ours == theirs


def test_what_is_learned_until_a_time_is_the_same_however_much_history_followed(site):
    until = day_ms(20.5)
    found = []
    for hours, days in ((24, 26), (60, 26), (1, 21.5)):
        block = synthetic.readings(26)
        block = block[block["time_ms"] <= day_ms(days)]
        rows = clean_rows(site, windows(block, hours), ["A", "B"], until_ms=until)
        found.append({dma: (one.left_out, one.ends_ms.tolist(), one.judged_ends_ms.tolist()) for dma, one in rows.items()})
        assert rows["A"].ends_ms[-1] == until
    assert found[0] == found[1] == found[2]


def test_shards_are_disjoint_and_complete():
    names = [f"D{k}" for k in range(11)]
    shards = [shard_of(reversed(names), number, 3) for number in (1, 2, 3)]
    assert sorted(dma for shard in shards for dma in shard) == sorted(names)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_shards_of_several_processes_share_a_folder_and_give_the_bytes_of_one_process(folder, site, quiet):
    words = [
        sys.executable, "-c", "from nightline.cli import main; main()", "train", str(folder), "--readings",
        str(folder / "history.csv"), "--trees", "8", "--max-samples", "64", "--no-figures", "--per", "dma", "--shard",
    ]  # fmt: skip
    # the same shard twice: two processes keep the same model at the same time
    processes = [subprocess.Popen([*words, shard], stderr=subprocess.PIPE) for shard in ("1/2", "2/2", "2/2")]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    for model in train_models(site, quiet, Plan(per="dma", settings=SMALL, shares=LATER)):
        bundle = model.trained[0].bundle
        assert registry.versions(folder, bundle.scope) == [bundle.version]
        kept = registry.scope_folder(folder, bundle.scope) / bundle.version
        assert {name: (kept / name).read_bytes() for name in (ARRAYS, MANIFEST)} == bundle.to_files()
        assert not list(kept.parent.glob(".new-*"))


def test_a_search_of_so_many_trials_gives_the_same_settings_and_is_on_the_card(folder):
    words = ("--dma", "A", "--calibrate", "0.4", "--report", "0.1", "--trials", "3", "--no-figures")
    results = [run(folder, *words), run(folder, *words)]
    assert [result.exit_code for result in results] == [0, 0], results[0].output
    searched = [
        bundle
        for version in registry.versions(folder, "A")
        if (bundle := registry.load(folder, "A", version)).manifest.search
    ]
    (bundle,) = searched
    facts = bundle.manifest.search
    assert facts["trials"] == 3
    assert facts["leak_slots"] > 96
    assert facts["found"] >= facts["found_with_usual_settings"]
    text = (registry.scope_folder(folder, "A") / bundle.version / CARD).read_text()
    assert "Searched with 3 trials" in text


def test_a_dma_that_cannot_be_searched_is_named_and_costs_the_others_nothing(site):
    block = synthetic.readings(DAYS)
    leaks = [Leak("long", "B", "abrupt", day_ms(15), None), Leak("late", "C", "abrupt", day_ms(24), None)]
    rows = clean_rows(site, windows(block), ["A", "B", "C"], known=known_periods(site, leaks))
    plan = Plan(per="dma", settings=SMALL, shares=Shares(0.4, 0.1))
    models = list(train_models(site, rows, plan, Search(lambda _: windows(block), trials=1)))
    assert ([model.members for model in models], list(too_few(site, rows, plan))) == ([["A"], ["C"]], ["B"])
    assert [bool(model.trained[0].bundle.manifest.search) for model in models] == [True, False]
    assert "search of testville/C: found 4.0 days to calibrate on" in models[1].not_searched
    assert models[1].trained[0].bundle.manifest.settings["trees"] == SMALL.trees
    with pytest.raises(ConfigError, match=r"search of testville/\*: found"):
        list(train_models(site, rows, replace(plan, per="site"), Search(lambda _: windows(block, 48)[:10], trials=1)))


def test_the_card_has_a_figure_and_no_worker_minds_it(tmp_path, site, quiet):
    (model,) = train_models(site, quiet, Plan(settings=SMALL, shares=LATER))
    bundle = model.trained[0].bundle
    files = card_files(model.trained[0])
    assert files[FIGURE].startswith(b"\x89PNG")
    assert len(files[FIGURE]) < 200_000
    assert files == card_files(model.trained[0])
    kept = registry.save(tmp_path, bundle, files)
    (kept / CARD).write_text("edited")
    (kept / FIGURE).unlink()
    assert registry.load(tmp_path, "*", bundle.version).manifest == bundle.manifest
    text = files[CARD].decode()
    assert f"![Scores, DMAs, features, alarms against budget]({FIGURE})" in text
    assert "| warming up | 4,032 | 1,008 |" in text


def test_what_people_wrote_does_not_break_the_cards_tables(site):
    known = known_periods(site, [Leak("Elm | Oak St\nyard", "A", "abrupt", day_ms(30), day_ms(32))])
    rows = clean_rows(site, windows(synthetic.readings(DAYS)), ["A"], known=known)
    (model,) = train_models(site, rows, Plan(settings=SMALL))
    text = card_files(model.trained[0], figure=False)[CARD].decode()
    assert "| A | known leak | Elm \\| Oak St yard | " in text


def test_the_command_says_what_was_left_out_by_dma_in_slots_and_hours(folder):
    (folder / "labels.csv").write_text("dma,kind,startedAt,endedAt\nA,abrupt,2026-02-05,2026-02-07\n")
    result = run(folder, "--labels", folder / "labels.csv", "--recovery-hours", 24, "--no-figures")
    assert result.exit_code == 0, result.output
    assert "known periods: 1 (known leak), 1 in the history, each with 24 h of recovery" in result.output
    assert "left out of A: 1,344 warming up (336 h), 288 known leak (72 h)" in result.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--dma", "Bee"), "DMA 'Bee' is not in network.toml; "),
        (("--since", "2026-02-10", "--until", "2026-02-01"), "--since 2026-02-10 is not before --until 2026-02-01"),
        (("--since", "2030-01-01"), "--since 2030-01-01: the readings end before it"),
        (("--until", "2020-01-01"), "--until 2020-01-01: the readings begin after it"),
        (("--shard", "3/2", "--per", "dma"), "found '3/2'; possible: i/n with i from 1 to n"),
        (("--shard", "1/2"), "--shard: a site's forest needs all of its DMAs in one place; possible: --per dma"),
        (("--per", "site", "--dma", "A"), "possible: --per dma or cluster, or no --dma"),
        (("--clusters", "2"), "--clusters: found --per site; possible: --per cluster"),
        (("--search", "soon"), "found 'soon'; possible: e.g. '90s', '5min', '1h'"),
        (("--since", "2026-02-17"), "left out: 12,384 before --since (warm-up)"),
        (("--trials", "2"), "days to calibrate on"),
    ],
)
def test_what_cannot_be_is_one_clear_line(folder, words, said):
    result = run(folder, *words)
    assert result.exit_code != 0
    found = str(result.exception) if isinstance(result.exception, ConfigError) else result.output.strip().splitlines()[-1]
    assert said in found
    assert "\n" not in found


def test_a_label_of_an_unknown_dma_is_one_clear_line(folder):
    (folder / "wrong.csv").write_text("dma,kind,startedAt,endedAt\nZ,abrupt,2026-02-05,2026-02-07\n")
    result = run(folder, "--labels", folder / "wrong.csv")
    assert isinstance(result.exception, ConfigError)
    assert "wrong.csv: line 2: dma 'Z' is not in network.toml" in str(result.exception)
