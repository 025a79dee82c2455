"""Reads a site folder from disk."""

from __future__ import annotations

from pathlib import Path

from models.config import ConfigError
from models.network import Site, parse_site


def load_site(folder: Path) -> Site:
    """The site of `folder`: site.toml, network.toml, and planned.csv where it is there.

    Raises ConfigError naming every fault.
    """
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
    return parse_site(*texts)
