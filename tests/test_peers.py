"""The machinery of the peers' environments; none is built here, for that would fetch packages."""

import re
import sys

import numpy as np
import pytest

from benchmarks.peers import environment
from benchmarks.peers.environment import HERE, NotHereError
from benchmarks.peers.remote import Remote
from benchmarks.peers_chain import PEERS, Truth


@pytest.fixture
def ours(monkeypatch):
    """Our own Python in place of a peer's environment."""
    monkeypatch.setattr("benchmarks.peers.remote.python", lambda _: sys.executable)


def test_every_lock_has_its_source_and_hashes_and_names_no_registry():
    sources = {path.stem for path in HERE.glob("*.in")}
    assert sources == {path.stem for path in HERE.glob("*.lock")}
    for name in sources:
        lock = (HERE / f"{name}.lock").read_text()
        assert "://" not in lock
        pinned = re.findall(r"^[a-z0-9-]+==.*(?:\n .*)*", lock, re.MULTILINE)
        assert pinned
        assert all("--hash=sha256:" in package for package in pinned)


def test_another_lock_is_another_environment(monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "HERE", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    places = []
    for text in ("a==1", "a==2"):
        (tmp_path / "some.lock").write_text(text)
        places.append(environment.place("some"))
    assert places[0].parent == places[1].parent == tmp_path / "cache" / "nightline" / "peers"
    assert places[0] != places[1]


def test_an_environment_that_cannot_be_built_says_why_once_and_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "HERE", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "torn.lock").write_text("nothing")
    steps = []

    def fail(step):
        steps.append(step)
        raise NotHereError("not installable here: no matching distribution")

    monkeypatch.setattr(environment, "_run", fail)
    for _ in range(2):
        with pytest.raises(NotHereError, match="no matching distribution"):
            environment.python("torn")
    assert len(steps) == 1
    assert not environment.place("torn").exists()


def test_what_builds_a_package_is_installed_before_it():
    lock = (
        "# made\na==1 \\\n    --hash=sha256:1\nb==2 \\\n    --hash=sha256:2\n    # via -r x\nc==3 \\\n    --hash=sha256:3\n"
    )
    assert environment._without("b", lock) == "# made\na==1 \\\n    --hash=sha256:1\nc==3 \\\n    --hash=sha256:3\n"


def test_a_contestant_of_another_process_answers_round_by_round(monkeypatch, tmp_path, ours):
    (tmp_path / "twice.py").write_text(
        "import sys, numpy as np\n"
        f"sys.path.insert(0, {str(HERE)!r})\n"
        "from serve import serve\n"
        "values = np.load(sys.argv[1])['values']\n"
        "serve({'twice': lambda: 2 * values}, {'twice': lambda found: found + 1})\n"
    )
    monkeypatch.setattr("benchmarks.peers.remote.HERE", tmp_path)
    with Remote("any", "twice.py", {"values": np.arange(3.0)}) as remote:
        assert remote.names == ["twice"]
        assert remote.result("twice").tolist() == [1.0, 3.0, 5.0]
        assert 0 < remote.contestant("twice")() < 1


def test_a_peer_that_does_not_start_gives_its_last_words(monkeypatch, tmp_path, ours):
    (tmp_path / "torn.py").write_text("import nowhere\n")
    monkeypatch.setattr("benchmarks.peers.remote.HERE", tmp_path)
    with pytest.raises(NotHereError, match="does not run here: ModuleNotFoundError: No module named 'nowhere'"):
        Remote("any", "torn.py", {"values": np.arange(3.0)})


def test_a_peer_that_stops_early_is_held_to_the_beginning_of_each_partition():
    truth = Truth({0: np.array([1.0, 3.0]), 1: np.array([5.0, 6.0])}, {0: np.array([10, 20]), 1: np.array([30, 60])})
    assert truth.upto("json", {0: 2, 1: 1}) == 8.0
    assert truth.upto("nothing", {0: 0, 1: 2}) == 60.0


def test_every_peer_on_kafka_has_its_script_and_its_environment():
    for peer in PEERS.values():
        assert (HERE / peer.script).is_file()
        assert not peer.environment or (HERE / f"{peer.environment}.lock").is_file()
