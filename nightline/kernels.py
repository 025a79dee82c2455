"""`python -m nightline.kernels`, run by setup: compiles the kernels of this version, so that the first worker need not."""

from __future__ import annotations

from typing import Final

from nightline.cli import use_kernel_cache

SITE: Final = 'name = "setup"\ntimezone = "UTC"\n'
NETWORK: Final = """
[[dma]]
id = "A"
[[meter]]
id = "in"
kind = "flow"
to = "A"
[[meter]]
id = "p"
kind = "pressure"
dma = "A"
[[meter]]
id = "house"
kind = "flow"
dma = "A"
"""
"""Kernels are compiled for types, not for sizes: any site will do."""


def compile_kernels() -> float:
    """Seconds that it took."""
    use_kernel_cache()
    from models.network import parse_site  # noqa: PLC0415 - after the cache is set
    from models.relearn import warm_up as warm_up_training  # noqa: PLC0415
    from streams.worker import warm_up  # noqa: PLC0415

    warm_up_training()
    return warm_up(parse_site(SITE, NETWORK))


if __name__ == "__main__":
    print("compiling the kernels, once for each version: about a minute", flush=True)
    compile_kernels()
