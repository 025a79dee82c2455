"""Options of every command that holds alarms against known leaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def rule_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--abrupt-hours` and `--incipient-days`: how soon a leak must be found to count."""
    above = click.FloatRange(min=0, min_open=True)
    command = click.option("--incipient-days", type=above, default=14.0, show_default=True,
                           help="So soon after its start a growing leak must be found to count.")(command)  # fmt: skip
    return click.option("--abrupt-hours", type=above, default=24.0, show_default=True,
                        help="So soon after its start a burst must be found to count.")(command)  # fmt: skip
