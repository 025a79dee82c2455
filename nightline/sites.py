"""Reads a site folder from disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import click

from models.config import ConfigError
from models.network import Site, parse_site
from nightline.calendars import Found, calendar_of


def _warn(line: str) -> None:
    click.echo(f"warning: {line}; until then holidays count as ordinary days", err=True)


def load_site(folder: Path, warn: Callable[[str], None] = _warn) -> Site:
    """The site of `folder`: site.toml, network.toml, and the calendar with holidays.csv where that is there.

    A country or subdivision that nobody has a calendar of is a warning. Raises ConfigError naming every other fault.
    """
    site, found = read_site(folder)
    for fault in found.faults:
        warn(fault)
    return site


def read_site(folder: Path) -> tuple[Site, Found]:
    """The site, and what is known of its calendar. Raises ConfigError."""
    texts = []
    for name in ("site.toml", "network.toml"):
        path = folder / name
        try:
            texts.append(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError([f"{path}: no such file; possible: a site folder with site.toml and network.toml"]) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError([f"{path}: cannot be read: {error}"]) from None
    site = parse_site(texts[0], texts[1])
    found = calendar_of(site, folder)
    return dataclasses.replace(site, classes=found.classes), found
