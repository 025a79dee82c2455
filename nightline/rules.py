"""Options of every command that holds alarms against known leaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from models.config import ConfigError


def rule_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--abrupt-hours` and `--incipient-days`: how soon a leak must be found to count."""
    above = click.FloatRange(min=0, min_open=True)
    command = click.option("--incipient-days", type=above, default=14.0, show_default=True,
                           help="So soon after its start a growing leak must be found to count.")(command)  # fmt: skip
    return click.option("--abrupt-hours", type=above, default=24.0, show_default=True,
                        help="So soon after its start a burst must be found to count.")(command)  # fmt: skip


def pressure_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--pipes` and `--n1`: how a leak that is added follows the pressure; `exponent` makes one number of them."""
    command = click.option("--n1", type=click.FloatRange(0, 3), help="FAVAD exponent of the leaks, instead.")(command)
    return click.option("--pipes", type=click.Choice(["mixed", "rigid", "flexible"]), default="mixed", show_default=True,
                        help="What leaks: N1 is 1, 0.5 (metal) or 1.5 (plastic, seeping joints).")(command)  # fmt: skip


def exponent(pipes: str, n1: float | None) -> float:
    """FAVAD's N1."""
    from training.injection.leaks import N1_OF  # noqa: PLC0415 - numpy only when it is used

    return N1_OF[pipes] if n1 is None else n1


def budgets_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--budgets`: multiples of the site's alert budget, as a list of numbers."""
    return click.option("--budgets", default="0.25,0.5,1,2,4", show_default=True, callback=_factors,
                        help="Alert budgets to try beside the site's own, as multiples of it.")(command)  # fmt: skip


def _factors(_: click.Context, __: click.Parameter, text: str) -> list[float]:
    try:
        factors = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        factors = [0.0]
    if not all(0 < factor <= 1e6 for factor in factors):
        raise ConfigError([f"--budgets {text!r}; possible: numbers above 0 with commas between, e.g. 0.5,1,2,4"])
    return factors
