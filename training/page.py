"""One HTML file that opens without a network: cards, text and tables, and plots that are drawn when they come near."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, Final

ROWS_IN_TABLE: Final = 1_000
TYPE_NAMES: Final = {
    "night_flow_leak": "Leak (night flow)",
    "burst": "Burst",
    "pressure_drop": "Pressure drop",
    "pressure_transient": "Pressure transient",
    "zero_flow": "No flow",
    "reverse_flow": "Reverse flow",
    "meter_fault": "Meter fault",
    "data_gap": "Data gap",
    "boundary_valve": "Boundary valve",
    "customer_leak": "Customer leak",
}


def write_page(
    path: Path, *, site: str, what: str, subtitle: str, cards: str, body: str, figures: Mapping[str, Mapping[str, Any]]
) -> None:
    """`cards` and `body` are HTML, all else is text; `figures` are plotly's, by the id of the `.plot` they go to."""
    from plotly.offline import get_plotlyjs  # noqa: PLC0415 - a second to import, and only a page needs it

    template = Template(files("training").joinpath("page_template.html").read_text(encoding="utf-8"))
    page = template.substitute(
        site=html.escape(site),
        what=html.escape(what),
        subtitle=html.escape(subtitle),
        cards=cards,
        body=body,
        plotly=get_plotlyjs(),
        figures=json.dumps(figures, separators=(",", ":")).replace("</", "<\\/"),
    )
    path.write_text(page, encoding="utf-8")


def card(value: str, name: str, note: str = "") -> str:
    """A large figure with its name."""
    extra = f"<small>{html.escape(note)}</small>" if note else ""
    return f'<div class="card"><b>{html.escape(value)}</b><span>{html.escape(name)}</span>{extra}</div>'


def row(cells: Iterable[str], tag: str = "td") -> str:
    """A table's row of HTML cells."""
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]], kind: str) -> str:
    """A table that scrolls, of HTML cells."""
    body = "".join(row(cells) for cells in rows)
    return f'<div class="scroll"><table class="{kind}"><thead>{row(heads, "th")}</thead><tbody>{body}</tbody></table></div>'


def hours(value: float | None) -> str:
    """A delay as one reads it; a dash for None."""
    if value is None:
        return "–"
    if value < 1:
        return f"{value * 60:.0f} min"
    return f"{value:.1f} h" if value < 48 else f"{value / 24:.1f} d"


def short(value: float | None) -> str:
    """Two digits below 10; a dash for None."""
    return "–" if value is None else f"{value:.2g}" if value < 10 else f"{value:,.0f}"
