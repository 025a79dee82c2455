"""Promote, roll back, and what the registry tells of it; no Kafka: tests/integration/test_promotion.py has the workers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.config import ConfigError
from nightline.cli import main
from tests.synthetic import NETWORK_TOML, SITE_TOML
from tests.test_bundle import make
from training import registry
from training.model_history import HISTORY, Entry, champions_before, history, record
from training.promotion import comparison_path, save_comparison

OLD, NEW, NEWER = (make(seed=seed) for seed in range(3))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site.toml").write_text(SITE_TOML)
    (tmp_path / "network.toml").write_text(NETWORK_TOML)
    for bundle in (OLD, NEW, NEWER):
        registry.save(tmp_path, bundle)
    return tmp_path


@pytest.fixture
def does(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Exit code and output of a command."""

    def do(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["nightline", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return code, said.out + said.err

    return do


def compared(site: Path, champion: str | None, challenger: str, found: int = 10, unexplained: int = 0) -> None:
    """As `compare` would have left it."""
    row = {"leaks": 10, "found": 10, "unexplained": 0}
    summary = {"champion": row, "challenger": row | {"found": found, "unexplained": unexplained}}
    made = {"scope": "*", "champion": champion, "challenger": challenger, "labelled": True, "summary": summary}
    save_comparison(site, made | {"delaysOfBoth": {"leaks": 0}, "worstDmas": [], "dmas": {}, "leaks": []})


def test_the_first_champion_needs_no_comparison_and_the_next_does(site: Path, does: Any) -> None:
    code, said = does("promote", site, OLD.version)
    assert (code, said.splitlines()[0]) == (0, f"champion of testville/*: {OLD.version}, before: none")
    assert "registry only: DMAs that workers have a model for go on with it until one is published" in said
    code, said = does("promote", site, NEW.version)
    assert code == 2
    assert f"never compared with the champion {OLD.version}; possible: nightline compare SITE {NEW.version} first" in said
    compared(site, OLD.version, NEW.version)
    assert does("promote", site, NEW.version)[0] == 0
    assert registry.alias_version(site, "*", "champion") == NEW.version
    first, second = history(site, "*")
    assert (first.before, second.before, second.version) == (None, OLD.version, NEW.version)
    assert second.comparison is not None
    assert second.comparison["summary"]["challenger"]["found"] == 10
    assert "@" in second.by
    assert second.at.endswith("+00:00")


def test_a_worse_challenger_is_refused_unless_forced_with_a_reason_that_is_recorded(site: Path, does: Any) -> None:
    does("promote", site, OLD.version)
    compared(site, OLD.version, NEW.version, found=8, unexplained=5)
    code, said = does("promote", site, NEW.version)
    assert code == 2
    assert "it finds 8 of 10 leaks in time, the champion 10; or --force --reason TEXT" in said
    assert "it raises 5 unexplained alarms, the champion 0" in said
    assert registry.alias_version(site, "*", "champion") == OLD.version
    assert len(history(site, "*")) == 1
    code, said = does("promote", site, NEW.version, "--force")
    assert (code, "--force: no reason was given" in said) == (2, True)
    code, said = does("promote", site, NEW.version, "--force", "--reason", "the old one is deaf at night")
    assert (code, "forced although it finds 8 of 10" in said) == (0, True)
    entry = history(site, "*")[-1]
    assert (entry.forced, entry.reason, len(entry.worse)) == (True, "the old one is deaf at night", 2)


def test_the_margin_says_how_much_worse_is_too_much(site: Path, does: Any) -> None:
    does("promote", site, OLD.version)
    compared(site, OLD.version, NEW.version, found=8)
    assert does("promote", site, NEW.version, "--margin", "0.3")[0] == 0
    assert history(site, "*")[-1].margin == 0.3
    assert not history(site, "*")[-1].forced


def test_a_rollback_returns_step_by_step_to_what_was_before(site: Path, does: Any) -> None:
    does("promote", site, OLD.version)
    for before, bundle in ((OLD, NEW), (NEW, NEWER)):
        compared(site, before.version, bundle.version)
        does("promote", site, bundle.version)
    for version in (NEW.version, OLD.version):
        assert does("rollback", site, "--reason", "too many alarms")[0] == 0
        assert registry.alias_version(site, "*", "champion") == version
    compared(site, OLD.version, NEWER.version)
    does("promote", site, NEWER.version)
    does("rollback", site)
    assert registry.alias_version(site, "*", "champion") == OLD.version
    code, said = does("rollback", site)
    assert (code, said.splitlines()[0]) == (0, f"champion of testville/*: none, before: {OLD.version}")
    code, said = does("rollback", site)
    assert (code, "no champion, and no champion before it; possible: nightline promote" in said) == (2, True)


def test_a_champion_that_was_set_by_hand_cannot_be_rolled_back(site: Path, does: Any) -> None:
    does("promote", site, OLD.version)
    registry.promote(site, NEW.version)
    code, said = does("rollback", site)
    assert (code, f"champion {NEW.version}, and no champion before it" in said) == (2, True)


def test_a_challenger_stands_in_shadow_until_it_is_promoted_or_none_is_named(site: Path, does: Any) -> None:
    does("promote", site, OLD.version)
    code, said = does("promote", site, NEW.version, "--as", "challenger")
    assert (code, said.splitlines()[0]) == (0, f"challenger of testville/*: {NEW.version}, before: none")
    assert registry.alias_version(site, "*", "champion") == OLD.version
    does("promote", site, "none", "--as", "challenger")
    assert registry.alias_version(site, "*", "challenger") is None
    does("promote", site, NEW.version, "--as", "challenger")
    compared(site, OLD.version, NEW.version)
    does("promote", site, NEW.version)
    assert registry.alias_version(site, "*", "challenger") is None
    assert registry.alias_version(site, "*", "champion") == NEW.version
    code, said = does("promote", site, "none")
    assert (code, "possible with --as challenger" in said) == (2, True)


def test_a_torn_comparison_or_history_is_one_line_that_names_the_file(site: Path, does: Any) -> None:
    does("promote", site, OLD.version)
    path = comparison_path(site, "*", NEW.version, OLD.version)
    path.parent.mkdir()
    for text in ("{", "[]", "{}", '{"summary":{}}'):
        path.write_text(text)
        code, said = does("promote", site, NEW.version)
        assert (code, len(said.splitlines()), f"{path}: cannot be read: " in said) == (2, 1, True)
    (site / "models" / "site" / HISTORY).write_text('{"at":1}\n')
    code, said = does("rollback", site)
    assert (code, f"{HISTORY}: line 1: " in said, len(said.splitlines())) == (2, True, 1)


def test_a_broker_that_does_not_answer_leaves_the_registry_as_it_was(site: Path, does: Any) -> None:
    code, said = does("promote", site, OLD.version, "--bootstrap", "127.0.0.1:1")
    assert code == 2
    assert "no Kafka broker answers at 127.0.0.1:1" in said
    assert "the registry is as it was" in said
    assert registry.alias_version(site, "*", "champion") is None
    assert history(site, "*") == []
    assert does("promote", site, OLD.version, "--bootstrap", "127.0.0.1:1", "--offline")[0] == 0


def test_a_dma_that_is_not_there_is_refused(site: Path, does: Any) -> None:
    for command in (("promote", site, OLD.version), ("rollback", site), ("models", "show", site),
                    ("compare", site, OLD.version, "--readings", site)):  # fmt: skip
        code, said = does(*command, "--dma", "Z")
        assert (code, "DMA 'Z' is not in network.toml" in said) == (2, True)


def test_the_site_speaks_for_dmas_without_a_model_of_their_own(site: Path, does: Any) -> None:
    (site / "models" / "dma-B").mkdir()
    (site / "models" / "dma-B" / "champion").write_text("0123456789ab\n")
    assert registry.served_by(site, "*", "champion", ["A", "B", "C"]) == ["A", "C"]
    assert "with a champion of their own, so left as they are: B" in does("promote", site, OLD.version)[1]
    assert registry.serving_version(site, "B") == "0123456789ab"
    assert registry.serving_version(site, "A") == OLD.version


def test_the_registry_is_printed_readably(site: Path, does: Any) -> None:
    does("promote", site, OLD.version)
    does("promote", site, NEW.version, "--as", "challenger")
    (site / "models" / "site" / NEWER.version / "manifest.json").write_text("{")
    code, said = does("models", "list", site)
    assert code == 0
    rows = {row["version"]: row for row in json.loads(does("models", "list", site, "--json")[1])}
    assert {version: row["role"] for version, row in rows.items()} == {
        OLD.version: "champion", NEW.version: "challenger", NEWER.version: None,
    }  # fmt: skip
    assert all(version in said for version in rows)
    assert "manifest.json: not a JSON object" in rows[NEWER.version]["fault"]
    code, said = does("models", "show", site)
    assert (code, said.splitlines()[0]) == (0, f"# testville/*, version {OLD.version}")
    assert f"promoted champion none -> {OLD.version}, registry only" in said
    assert f"# testville/*, version {NEW.version}" in does("models", "show", site, NEW.version)[1]
    code, said = does("models", "show", site, "--dma", "A")
    assert (code, "no champion; possible: a version of none yet" in said) == (2, True)
    (site / "models" / "site" / "champion").write_text("0123456789ab\n")
    rows = {row["version"]: row for row in json.loads(does("models", "list", site, "--json")[1])}
    assert (rows["0123456789ab"]["role"], rows["0123456789ab"]["fault"]) == ("champion", "no such version")


def test_a_history_that_cannot_be_written_leaves_the_aliases(site: Path) -> None:
    entry = Entry(at="t", by="me", action="promoted", role="champion", version=OLD.version, before=None)
    (site / "models" / "site" / HISTORY).mkdir()
    with pytest.raises(ConfigError, match="cannot be written"):
        record(site, "*", entry, {"champion": OLD.version})
    assert registry.alias_version(site, "*", "champion") is None
    assert not [path for path in (site / "models" / "site").iterdir() if path.name.startswith(".")]


def test_champions_before_are_those_that_a_rollback_has_not_taken_away() -> None:
    def step(action: Any, before: str | None, version: str | None) -> Entry:
        return Entry(at="", by="", action=action, role="champion", version=version, before=before)

    steps = [
        step("promoted", None, "a"),
        step("promoted", "a", "b"),
        step("rolledBack", "b", "a"),
        step("promoted", "a", "c"),
    ]
    assert champions_before(steps, "c") == [None, "a"]
    assert champions_before(steps[:3], "a") == [None]
    assert champions_before(steps, "b") == []
    assert champions_before([], None) == []
    by_hand = [*steps, step("promoted", "x", "y")]
    assert champions_before(by_hand, "y") == ["x"]
    # killed between the entry and the alias, and done again, or something else instead
    assert champions_before(steps, "a") == [None]
    assert champions_before([*steps, step("promoted", "a", "c")], "c") == [None, "a"]
    assert champions_before([*steps, step("rolledBack", "c", "a")], "c") == [None, "a"]
    assert champions_before([*steps, step("rolledBack", "c", "a"), step("rolledBack", "c", "a")], "a") == [None]
    assert champions_before([*steps, step("rolledBack", "c", "a"), step("promoted", "c", "d")], "d") == [None, "a", "c"]
    assert champions_before(steps[:1], None) == []
    told_again = [*steps, step("promoted", "c", "c")]
    assert champions_before(told_again, "c") == [None, "a"]


def test_a_promotion_killed_between_any_two_steps_can_be_done_again_and_rolled_back(
    site: Path, does: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    does("promote", site, OLD.version)
    compared(site, OLD.version, NEW.version)
    real, left = Path.replace, [0]

    def killed(path: Path, target: Path) -> Path:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(path, target)

    for left[0], command in ((0, ("promote", NEW.version)), (1, ("promote", NEW.version)), (1, ("rollback",))):
        again = left[0]
        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", killed)
            does(command[0], site, *command[1:])
        assert registry.alias_version(site, "*", "champion") == (NEW if command[0] == "rollback" else OLD).version
        assert does(command[0], site, *command[1:])[0] == 0
        assert registry.alias_version(site, "*", "champion") == (OLD if command[0] == "rollback" else NEW).version
        if command[0] == "promote" and not again:
            assert does("rollback", site)[0] == 0
    assert does("rollback", site)[1].startswith(f"champion of testville/*: none, before: {OLD.version}")


def test_a_worker_needs_neither_scikit_learn_nor_pickle() -> None:
    code = (
        "import sys; import streams.worker, streams.promotion, nightline.worker, training.registry; "
        "sys.exit(any(name.split('.')[0] == 'sklearn' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0
    sources = [path for folder in ("models", "streams", "training") for path in Path(folder).rglob("*.py")]
    assert len(sources) > 50
    for path in sources:
        text = path.read_text(encoding="utf-8")
        assert "import pickle" not in text, path
        assert "allow_pickle=True" not in text, path
