"""Whether a model may become the champion: it must have been compared with the one that serves, and not be worse."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from models.config import ConfigError
from training.compare import MARGIN, worse
from training.registry import scope_folder, serving_version, write_through

COMPARISONS: Final = "comparisons"
NONE: Final = "none"


@dataclass(frozen=True)
class Decision:
    """What speaks against a promotion; nothing where it may go ahead."""

    faults: list[str] = field(default_factory=list)
    comparison: dict[str, Any] | None = None
    """The one that it rests on, without its leaks and healthy DMAs."""


def comparison_path(site_folder: Path, scope: str, challenger: str | None, champion: str | None) -> Path:
    """Where `compare` leaves what `promote` looks for."""
    return scope_folder(site_folder, scope) / COMPARISONS / f"{challenger or NONE}-against-{champion or NONE}.json"


def save_comparison(site_folder: Path, comparison: Mapping[str, Any]) -> Path:
    """Keep a comparison in the registry, in place of an older one of the same two. Raises ConfigError."""
    path = comparison_path(site_folder, comparison["scope"], comparison["challenger"], comparison["champion"])
    fresh = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_through(fresh, (json.dumps(comparison, ensure_ascii=False, indent=2, allow_nan=False) + "\n").encode())
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be written: {error.strerror or error}"]) from None
    return path


def decide(site_folder: Path, scope: str, version: str, margin: float = MARGIN) -> Decision:
    """Whether `version` may take the place of what serves the scope. Raises ConfigError for a torn comparison.

    Where nothing serves, and for the champion itself, nothing need be compared; a comparison that is there counts.
    """
    champion = serving_version(site_folder, scope)
    path = comparison_path(site_folder, scope, version, champion)
    try:
        comparison = json.loads(path.read_text(encoding="utf-8"))
        faults = worse(comparison, margin)
    except FileNotFoundError:
        if champion in (None, version):
            return Decision()
        return Decision(
            [f"it was never compared with the champion {champion}; possible: nightline compare SITE {version} first"]
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        possible = "possible: compare again"
        raise ConfigError([f"{path}: cannot be read: {type(error).__name__}: {error}; {possible}"]) from None
    kept = {name: part for name, part in comparison.items() if name not in ("leaks", "dmas", "rules")}
    return Decision(faults, kept)
