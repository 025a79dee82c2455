"""A moment on the command line."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import click


def epoch_ms(text: str, timezone: str, option: str) -> int:
    """ISO 8601, local to `timezone` without offset, as epoch milliseconds. Raises click.ClickException."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.ClickException(f"{option}: found {text!r}; possible: ISO 8601, e.g. 2026-03-01T00:00") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(timezone))
    return int(moment.timestamp() * 1000)
