"""python -m tests.simulation SEED: one seed again, with what was injected."""

from __future__ import annotations

import sys

from nightline.cli import use_kernel_cache

use_kernel_cache()

from tests.simulation.world import World  # noqa: E402 - after the cache is set

world = World(int(sys.argv[1]))
world.run()
for what, count in sorted(world.injected.items()):
    print(f"{count:7} {what}")
print(world.check() or "nothing lost, nothing twice")
