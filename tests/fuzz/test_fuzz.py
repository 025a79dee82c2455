"""Every decoder of outside bytes against tens of thousands of changed inputs; a million in `make soak`.

`python -m tests.fuzz TARGET SEED` shows one input and what comes of it.
"""

from __future__ import annotations

import re
import time

import numpy as np
import pytest

from tests.fuzz.inputs import sealed
from tests.fuzz.run import Result, Target, run
from tests.fuzz.targets import TARGETS
from tests.proof import proven

SEEDS = 6_000
SOAK_SEEDS = 125_000


def faults(result: Result) -> str:
    """Each with the command that shows it again."""
    return "\n".join(f"python -m tests.fuzz {result.target} {seed}: {fault}" for seed, fault in result.faults.items())


@pytest.mark.parametrize("name", TARGETS)
def test_a_decoder_gives_a_valid_value_or_one_clear_reason(name: str) -> None:
    target = TARGETS[name]
    result = run(target, range(SEEDS))
    assert result.faults == {}, faults(result)
    # or the inputs are all bad in the same way, or hardly changed at all
    assert 0.3 * SEEDS < result.rejected < 0.97 * SEEDS


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_million_inputs(capsys: pytest.CaptureFixture[str]) -> None:
    results = [run(target, range(1_000_000, 1_000_000 + SOAK_SEEDS)) for target in TARGETS.values()]
    with capsys.disabled():
        print()
        for result in results:
            proven({f"changed bytes for {result.target}": result.inputs}, len(result.faults))
            print(result.row())
            if result.faults:
                print(faults(result))
    assert not [result.target for result in results if result.faults]


def test_a_seed_gives_the_same_input_again() -> None:
    for target in TARGETS.values():
        assert repr([target.input(seed) for seed in range(50)]) == repr([target.input(seed) for seed in range(50)])


# the fuzzer notices what it is for


def outcome(check: object) -> Result:
    return run(Target("mine", lambda rng: rng.random(), check), range(3))  # type: ignore[arg-type]


def test_another_exception_than_value_error_is_a_fault() -> None:
    def check(_: float) -> bool:
        raise KeyError("x")

    assert outcome(check).faults == dict.fromkeys(range(3), "KeyError: 'x'")


def test_memory_that_only_a_header_claims_is_a_fault() -> None:
    assert "MemoryError" in outcome(lambda _: bool(np.ones(1 << 28).size)).faults[0]


def test_an_input_that_takes_too_long_is_a_fault_and_one_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.run.SLOW_SECONDS", 0.02)
    # not how long: a machine may stall
    assert re.match(r"took \d", outcome(lambda _: time.sleep(0.03) or True).faults[0])

    def forever(_: float) -> bool:
        while True:
            pass

    assert outcome(forever).faults[0].startswith("took more than")


def test_a_result_that_cannot_be_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.targets.HIGHEST", np.full(6, 10.0))
    assert "value out of range" in str(run(TARGETS["decode"], range(200)).faults)


def test_changed_blocks_mostly_get_past_their_checksum() -> None:
    made = [TARGETS["block"].input(seed) for seed in range(200)]
    assert sum(len(one) >= 16 and sealed(one) == one for one in made) > 150
    assert len(set(made)) > 150
