"""python -m tests.fuzz TARGET SEED [COUNT]: one input again, or COUNT from SEED on; without a target, their names."""

from __future__ import annotations

import sys
import traceback

from nightline.cli import use_kernel_cache

use_kernel_cache()

from tests.fuzz.run import run  # noqa: E402 - after the cache is set
from tests.fuzz.targets import TARGETS  # noqa: E402

if len(sys.argv) < 3 or sys.argv[1] not in TARGETS:
    sys.exit(f"{__doc__}\npossible: {', '.join(TARGETS)}")
target, seed = TARGETS[sys.argv[1]], int(sys.argv[2])
if len(sys.argv) > 3:
    result = run(target, range(seed, seed + int(sys.argv[3])))
    print(result.row())
    for at, fault in result.faults.items():
        print(f"{at:10} {fault}")
    sys.exit(bool(result.faults))
made = target.input(seed)
shown = repr(made)
print(shown if len(shown) <= 4000 else f"{shown[:3000]} … {shown[-1000:]} ({len(shown)} characters)")
try:
    print("accepted" if target.check(made) else "rejected")
except Exception:  # noqa: BLE001, RUF100 - it is what was asked for
    traceback.print_exc()
    sys.exit(1)
