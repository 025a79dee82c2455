"""nightline check-config SITE"""

from __future__ import annotations

from pathlib import Path

import click

from nightline.sites import load_site


@click.command("check-config")
@click.argument("site", type=click.Path(path_type=Path))
def check_config(site: Path) -> None:
    """Name every fault of a site folder, or say what is in it."""
    found = load_site(site)
    flows = sum(m.is_network_flow for m in found.meters)
    customers = sum(m.is_customer for m in found.meters)
    click.echo(
        f"{found.name}: {len(found.dmas)} DMAs, {flows} inflow, outflow and boundary meters, "
        f"{sum(m.kind == 'pressure' for m in found.meters)} pressure loggers, "
        f"{sum(m.kind == 'level' for m in found.meters)} tank levels, {customers} customer meters, "
        f"{len(found.valves)} boundary valves, {len(found.planned)} windows of planned work; "
        f"at most {found.alerts_per_week:.2g} unexplained alerts a week"
    )
