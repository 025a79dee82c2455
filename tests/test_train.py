import numpy as np
import pytest
from click.testing import CliRunner

from models.config import ConfigError
from models.features import FEATURES
from models.forest import score
from nightline.train import train as train_command
from tests import synthetic
from training import registry
from training.history import Window
from training.train import train

DAYS = 40


def windows(days=DAYS, **extra):
    return [
        Window(int(block["time_ms"][0]), int(block["time_ms"][-1]) + 1, block)
        for block in synthetic.daily(synthetic.readings(days, **extra))
    ]


@pytest.fixture(scope="module")
def site():
    return synthetic.make_site()


@pytest.fixture(scope="module")
def quiet(site):
    return train(site, windows(), seed=3, trees=20, max_samples=128)


def test_training_twice_gives_the_same_bytes(site, quiet):
    assert train(site, windows(), seed=3, trees=20, max_samples=128).to_files() == quiet.to_files()


def test_another_seed_is_another_version(site, quiet):
    assert train(site, windows(), seed=4, trees=20, max_samples=128).version != quiet.version


def test_the_manifest_says_what_was_used_and_what_was_left_out(quiet):
    m = quiet.manifest
    assert (m.id, m.scope, tuple(m.features), m.seed) == ("testville/*", "*", FEATURES, 3)
    assert m.settings == {"trees": 20, "max_samples": 128, "max_features": 8}
    assert m.metrics["dmas"] == 3
    closed = m.metrics["rows"] + sum(m.left_out.values())
    assert 0.97 * 3 * DAYS * synthetic.DAY <= closed <= 3 * (DAYS + 1) * synthetic.DAY
    assert m.left_out["warming up"] > 0
    assert 0 < m.metrics["score_p50"] < m.metrics["score_p99"] <= m.metrics["score_max"] <= 1
    assert synthetic.START_MS < m.trained_from_ms < m.trained_until_ms


def test_the_forest_finds_a_burst_stranger_than_a_quiet_slot(quiet):
    rows = np.zeros((2, len(FEATURES)), np.float32)
    rows[1] = [8.0, 8.0, 6.0, 3.0, 5.0, 6.0, -6.0, 20.0]
    calm, burst = score(quiet.forest, rows)
    assert calm < quiet.manifest.metrics["score_p99"] < burst


def test_one_dma_makes_a_bundle_of_its_own_scope(site):
    bundle = train(site, windows(), seed=0, trees=5, dmas=["B"])
    assert (bundle.scope, bundle.id, bundle.manifest.metrics["dmas"]) == ("B", "testville/B", 1)


def test_nothing_after_the_clean_period_is_learned(site):
    until = synthetic.START_MS + 30 * 86_400_000
    leak = synthetic.step_between(DAYS, 32 * synthetic.DAY, 40 * synthetic.DAY, 25.0)
    with_leak = train(site, windows(a=leak), seed=0, trees=5, clean_until_ms=until)
    without = train(site, windows(), seed=0, trees=5, clean_until_ms=until)
    assert with_leak.manifest.trained_until_ms <= until
    assert with_leak.sha256 == without.sha256


def test_slots_with_an_open_event_are_left_out(site, quiet):
    leak = synthetic.step_between(DAYS, 34 * synthetic.DAY, 40 * synthetic.DAY, 30.0)
    leaking = train(site, windows(a=leak), seed=3, trees=20, max_samples=128)
    reason = "event open"
    assert leaking.manifest.left_out[reason] > quiet.manifest.left_out.get(reason, 0) + synthetic.DAY


def test_too_little_history_is_one_clear_line(site):
    with pytest.raises(ConfigError, match=r"found 0 slots to learn from .* possible: at least 256") as error:
        train(site, windows(3), seed=0)
    assert "\n" not in str(error.value)


def test_an_unknown_dma_is_refused_with_the_nearest(site):
    with pytest.raises(ConfigError, match=r"DMA 'Bee' is not in network\.toml"):
        train(site, windows(1), seed=0, dmas=["Bee"])


@pytest.fixture
def folder(tmp_path, site):
    (tmp_path / "site.toml").write_text(synthetic.SITE_TOML)
    (tmp_path / "network.toml").write_text(synthetic.NETWORK_TOML)
    block = synthetic.readings(DAYS)
    lines = ["meterId,observedAt,value,kind"]
    for one in block:
        meter = site.meters[one["meter"]]
        lines.append(f"{meter.id},{one['time_ms']},{one['value']},{meter.kind}")
    (tmp_path / "history.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def run(command, *arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_the_command_trains_and_makes_only_a_first_champion_at_once(folder):
    readings = folder / "history.csv"
    first = run(train_command, folder, "--readings", readings, "--trees", 5, "--promote")
    assert first.exit_code == 0, first.output
    champion = registry.champion(folder, "*")
    assert f"the champions: testville/* {champion.version}" in first.output

    second = run(train_command, folder, "--readings", readings, "--trees", 5, "--seed", 9, "--until", "2026-02-10")
    assert second.exit_code == 0, second.output
    assert registry.champion(folder, "*").version == champion.version
    (other,) = set(registry.versions(folder, "*")) - {champion.version}
    assert registry.load(folder, "*", other).manifest.trained_until_ms <= synthetic.START_MS + 36 * 86_400_000

    third = run(
        train_command, folder, "--readings", readings, "--trees", 5, "--seed", 9, "--until", "2026-02-10", "--promote"
    )
    assert isinstance(third.exception, ConfigError)
    assert f"not promoted: {champion.version} serves; possible: nightline compare SITE {other}" in str(third.exception)
    assert registry.champion(folder, "*").version == champion.version


def test_a_time_that_cannot_be_read_is_one_clear_line(folder):
    result = run(train_command, folder, "--readings", folder / "history.csv", "--until", "soon")
    assert result.exit_code != 0
    assert "--until: found 'soon'; possible: ISO 8601" in result.output
