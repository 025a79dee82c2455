"""A bar on stderr that follows event time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.history import History, Window


def with_progress(history: History, name: str) -> Iterator[Window]:
    """The windows of a history, with a bar while they are taken."""
    from rich.console import Console  # noqa: PLC0415 - `--help` needs none of it
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as progress:
        span = max(1, history.last_ms - history.first_ms)
        task = progress.add_task(name, total=span)
        for window in history:
            yield window
            progress.update(task, completed=min(span, window.end_ms - history.first_ms))
