"""nightline check-config SITE"""

from __future__ import annotations

from pathlib import Path

import click

from models.config import ConfigError
from models.network import Site
from nightline.calendars import FILE, Found
from nightline.sites import read_site


@click.command("check-config")
@click.argument("site", type=click.Path(path_type=Path))
def check_config(site: Path) -> None:
    """Name every fault of a site folder, or say what is in it."""
    found, calendar = read_site(site)
    if calendar.faults:
        raise ConfigError(calendar.faults)
    flows = sum(m.is_network_flow for m in found.meters)
    customers = sum(m.is_customer for m in found.meters)
    click.echo(
        f"{found.name}: {len(found.dmas)} DMAs, {flows} inflow, outflow and boundary meters, "
        f"{sum(m.kind == 'pressure' for m in found.meters)} pressure loggers, "
        f"{sum(m.kind == 'level' for m in found.meters)} tank levels, {customers} customer meters, "
        f"{len(found.valves)} boundary valves; "
        f"at most {found.alerts_per_week:.2g} unexplained alerts a week"
    )
    click.echo(_calendar(found, calendar))
    for note in calendar.notes:
        click.echo(f"note: {note}")


def _calendar(site: Site, calendar: Found) -> str:
    """What is known of the site's holidays, in a line."""
    if not calendar.classes:
        return f"calendar: no holidays; possible: [calendar] country in site.toml, or {FILE} in the site folder"
    holidays = [day for day, kind in calendar.classes.items() if kind == "holiday"]
    workdays = len(calendar.classes) - len(holidays)
    where = "-".join(part for part in (site.country, site.subdivision) if part) or FILE
    years = f"{min(calendar.classes).year} to {max(calendar.classes).year}"
    return f"calendar: {where}, {years}: {len(holidays)} holidays, {workdays} make-up workdays"
