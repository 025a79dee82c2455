"""Reads a site folder from disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import click

from models.config import ConfigError, nearest
from models.network import Site, parse_site
from nightline.calendars import Found, calendar_of


def _warn(line: str) -> None:
    click.echo(f"warning: {line}; until then holidays count as ordinary days", err=True)


def load_site(folder: Path, warn: Callable[[str], None] = _warn) -> Site:
    """The site of `folder`: site.toml, network.toml, and planned.csv and the calendar's holidays.csv where they are there.

    A country or subdivision that nobody has a calendar of is a warning. Raises ConfigError naming every other fault.
    """
    site, found = read_site(folder)
    for fault in found.faults:
        warn(fault)
    return site


def check_scope(site: Site, dma: str | None) -> None:
    """Raises ConfigError for a DMA that is not in the site; None is the whole of it."""
    if dma is not None and dma not in site.dma_row:
        raise ConfigError([f"DMA {dma!r} is not in network.toml; {nearest(dma, site.dma_row)}"])


def read_site(folder: Path) -> tuple[Site, Found]:
    """The site, and what is known of its calendar. Raises ConfigError."""
    texts = []
    for name in ("site.toml", "network.toml", "planned.csv"):
        path = folder / name
        try:
            texts.append(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            if name == "planned.csv":
                continue
            raise ConfigError([f"{path}: no such file; possible: a site folder with site.toml and network.toml"]) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError([f"{path}: cannot be read: {error}"]) from None
    site = parse_site(*texts)
    found = calendar_of(site, folder)
    return dataclasses.replace(site, classes=found.classes), found
