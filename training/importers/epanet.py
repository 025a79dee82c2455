"""The few sections of an EPANET .inp that tell where things are: links, tanks."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import pi
from pathlib import Path

from models.config import ConfigError, nearest

_LINKS = ("[PIPES]", "[PUMPS]", "[VALVES]")
_NODES = ("[JUNCTIONS]", "[RESERVOIRS]", "[TANKS]")


@dataclass(frozen=True)
class Network:
    """`links`: id -> its two nodes; `tank_area_m2`: tank -> water surface, from its diameter."""

    path: Path
    links: dict[str, tuple[str, str]]
    nodes: frozenset[str]
    tank_area_m2: dict[str, float]

    def ends(self, link: str) -> tuple[str, str]:
        """The nodes of a link. Raises ConfigError for one that is not there."""
        if link not in self.links:
            raise ConfigError([f"{self.path}: no link {link!r}; {nearest(link, self.links)}"])
        return self.links[link]

    def behind(self, start: str, without: set[str]) -> frozenset[str]:
        """All nodes that can be reached from `start` without crossing the links of `without`."""
        near = defaultdict(list)
        for link, (a, b) in self.links.items():
            if link not in without:
                near[a].append(b)
                near[b].append(a)
        reached, edge = {start}, [start]
        while edge:
            for node in near[edge.pop()]:
                if node not in reached:
                    reached.add(node)
                    edge.append(node)
        return frozenset(reached)


def read_inp(path: Path) -> Network:
    """Raises ConfigError for a file that cannot be read or has no links."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from None
    links: dict[str, tuple[str, str]] = {}
    nodes: set[str] = set()
    areas: dict[str, float] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split(";")[0].split()
        if not words:
            continue
        if words[0].startswith("["):
            section = words[0].upper()
        elif section in _LINKS and len(words) >= 3:
            links[words[0]] = (words[1], words[2])
        elif section in _NODES:
            nodes.add(words[0])
            if section == "[TANKS]":
                try:
                    areas[words[0]] = pi / 4 * float(words[5]) ** 2
                except (IndexError, ValueError):
                    raise ConfigError([f"{path}: line {number}: tank {words[0]!r} has no diameter; possible: m"]) from None
    if not links:
        raise ConfigError([f"{path}: no [PIPES]; possible: an EPANET input file"])
    return Network(path, links, frozenset(nodes), areas)
