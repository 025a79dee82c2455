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
