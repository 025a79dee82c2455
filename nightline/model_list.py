"""nightline models list | show SITE"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from models.config import ConfigError
from nightline.sites import check_scope, load_site


@click.group("models")
def models() -> None:
    """What the registry of a site holds."""


@models.command("list")
@click.argument("site", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON array instead of a table.")
def list_(site: Path, as_json: bool) -> None:
    """Every version of every scope: what it was trained on, whether it serves, and what is wrong with it."""
    rows = _rows(site)
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    from rich.console import Console  # noqa: PLC0415 - `--help` needs none of it
    from rich.table import Table  # noqa: PLC0415

    console = Console()
    console = console if console.is_terminal else Console(width=140)  # a pipe has no width
    table = Table()
    for heading in ("scope", "version", "serves as", "trained from", "until", "slots", "DMAs", "fault"):
        table.add_column(heading)
    for row in rows:
        plain = [row[name] for name in ("scope", "version", "role", "trainedFrom", "trainedUntil", "slots", "dmas", "fault")]
        table.add_row(*("" if cell is None else str(cell) for cell in plain))
    console.print(table if rows else "no model; possible: nightline train SITE --readings PATH")


def _rows(site: Path) -> list[dict[str, Any]]:
    from training import registry  # noqa: PLC0415
    from training.event_score import iso  # noqa: PLC0415

    rows = []
    for scope in ("*", *load_site(site).dma_row):
        aliases = {registry.alias_version(site, scope, alias): alias for alias in ("challenger", "champion")}
        for version in registry.versions(site, scope):
            row: dict[str, Any] = dict.fromkeys(("trainedFrom", "trainedUntil", "slots", "dmas", "fault"))
            try:
                manifest = registry.load(site, scope, version).manifest
                row |= {
                    "trainedFrom": iso(manifest.trained_from_ms),
                    "trainedUntil": iso(manifest.trained_until_ms),
                    "slots": int(manifest.metrics.get("rows", 0)),
                    "dmas": int(manifest.metrics.get("dmas", 0)),
                }
            except ConfigError as error:
                row["fault"] = "; ".join(error.faults)
            rows.append({"scope": scope, "version": version, "role": aliases.pop(version, None)} | row)
        for version, alias in aliases.items():
            if version is not None:
                nothing: dict[str, Any] = dict.fromkeys(("trainedFrom", "trainedUntil", "slots", "dmas"))
                rows.append({"scope": scope, "version": version, "role": alias} | nothing | {"fault": "no such version"})
    return rows


@models.command("show")
@click.argument("site", type=click.Path(path_type=Path))
@click.argument("version", required=False)
@click.option("--dma", help="Of one DMA; of the whole site without.")
def show(site: Path, version: str | None, dma: str | None) -> None:
    """The card of a version, the champion's without one, and the history of its scope."""
    check_scope(load_site(site), dma)
    from training import registry  # noqa: PLC0415
    from training.card import card  # noqa: PLC0415
    from training.model_history import history  # noqa: PLC0415

    scope = dma or "*"
    wanted = version or registry.alias_version(site, scope, "champion")
    if wanted is None:
        known = ", ".join(registry.versions(site, scope)) or "none yet"
        raise ConfigError([f"{registry.scope_folder(site, scope)}: no champion; possible: a version of {known}"])
    click.echo(card(registry.load(site, scope, wanted).manifest))
    entries = history(site, scope)
    click.echo("History:" if entries else "No history.")
    for entry in entries:
        told = f", told {len(entry.told)} DMAs on {entry.prefix}.readings.v1" if entry.told else ", registry only"
        forced = f", forced although {'; '.join(entry.worse)}" if entry.forced else ""
        why = f": {entry.reason}" if entry.reason else ""
        step = f"{entry.role} {entry.before or 'none'} -> {entry.version or 'none'}"
        click.echo(f"  {entry.at} {entry.by} {entry.action} {step}{told}{forced}{why}")
