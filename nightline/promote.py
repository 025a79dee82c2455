"""nightline promote SITE VERSION, nightline rollback SITE"""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from models.config import ConfigError
from nightline.sites import check_scope, load_site
from nightline.topics import PREFIX, addresses

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.network import Site
    from training.model_history import Entry
    from training.registry import Alias

NONE = "none"


def _kafka(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where workers hear of it."""
    command = click.option("--offline", is_flag=True, help="Change the registry only, whatever --bootstrap says.")(command)
    command = PREFIX(command)
    return click.option(
        "--bootstrap", callback=lambda *told: None if told[2] is None else addresses(*told),
        help="Kafka brokers, host:port[,host:port…]; without them only the registry is changed.",
    )(command)  # fmt: skip


_DMA = click.option("--dma", help="Of one DMA; of the whole site without.")


@click.command()
@click.argument("site", type=click.Path(path_type=Path))
@click.argument("version")
@_DMA
@click.option("--as", "role", type=click.Choice(["champion", "challenger"]), default="champion", show_default=True,
              help="A challenger scores in shadow, beside the champion.")  # fmt: skip
@click.option("--margin", type=click.FloatRange(0, 1), default=0.1, show_default=True,
              help="How much worse than the champion it may be (docs/TRAINING.md).")  # fmt: skip
@click.option("--force", is_flag=True, help="Promote it although it is worse, or was not compared; needs --reason.")
@click.option("--reason", help="Recorded in the registry, and told to the workers.")
@_kafka
def promote(
    site: Path, version: str, dma: str | None, role: Alias, margin: float, force: bool, reason: str | None,
    bootstrap: str | None, prefix: str, offline: bool,
) -> None:  # fmt: skip
    """Make a model the champion, if it is not worse than the one that serves; or put it in shadow (--as challenger).

    With --bootstrap running workers swap to it at a recorded offset, without a restart. VERSION none, with --as challenger,
    ends the shadow.
    """
    place, scope = load_site(site), dma or "*"
    check_scope(place, dma)
    if force and not (reason or "").strip():
        raise ConfigError(["--force: no reason was given; possible: --reason TEXT, which is recorded"])
    if version == NONE and role == "champion":
        raise ConfigError(["VERSION none: possible with --as challenger; of champions: a version, or nightline rollback"])
    from training import registry  # noqa: PLC0415 - a faulty site needs no numba
    from training.model_history import Entry  # noqa: PLC0415
    from training.promotion import Decision, decide  # noqa: PLC0415
    from training.staging import alone  # noqa: PLC0415

    with alone(site):  # or two at once would both take the place of one champion
        bundle = None if version == NONE else registry.load(site, scope, version)
        before = registry.alias_version(site, scope, role)
        decision = decide(site, scope, version, margin) if role == "champion" else Decision()
        if decision.faults and not force:
            raise ConfigError(
                [f"model {version} is not promoted: {fault}; or --force --reason TEXT" for fault in decision.faults]
            )
        entry = Entry(
            at=_now(), by=who(), action="promoted" if role == "champion" else "inShadow", role=role,
            version=None if bundle is None else version, before=before, reason=reason, forced=bool(decision.faults),
            margin=margin if role == "champion" else None, worse=decision.faults, comparison=decision.comparison,
        )  # fmt: skip
        served = registry.served_by(site, scope, role, place.dma_row)
        change = dict.fromkeys(served, bundle)
        _carry_out(site, place, scope, entry, change, None if offline else bootstrap, prefix)


@click.command()
@click.argument("site", type=click.Path(path_type=Path))
@_DMA
@click.option("--reason", help="Recorded in the registry, and told to the workers.")
@_kafka
def rollback(site: Path, dma: str | None, reason: str | None, bootstrap: str | None, prefix: str, offline: bool) -> None:
    """Return to the champion before the present one, as the registry's history has it."""
    place, scope = load_site(site), dma or "*"
    check_scope(place, dma)
    from training import registry  # noqa: PLC0415
    from training.model_history import HISTORY, Entry, champions_before, history  # noqa: PLC0415
    from training.staging import alone  # noqa: PLC0415

    with alone(site):
        current = registry.alias_version(site, scope, "champion")
        under = champions_before(history(site, scope), current)
        if not under:
            path = registry.scope_folder(site, scope) / HISTORY
            found = "no champion" if current is None else f"champion {current}"
            raise ConfigError([f"{path}: {found}, and no champion before it; possible: nightline promote SITE VERSION"])
        version = under[-1]
        bundle = None if version is None else registry.load(site, scope, version)
        entry = Entry(
            at=_now(), by=who(), action="rolledBack", role="champion", version=version, before=current, reason=reason
        )  # fmt: skip
        served = registry.served_by(site, scope, "champion", place.dma_row)
        # a DMA that gives its own champion up is served by the site's
        instead = registry.champion(site, "*") if bundle is None and scope != "*" else bundle
        _carry_out(site, place, scope, entry, dict.fromkeys(served, instead), None if offline else bootstrap, prefix)


def promote_first(site: Path, place: Site, bundle: Bundle) -> None:
    """The first champion of a scope, in the registry: a worker that starts introduces it."""
    from training.model_history import Entry  # noqa: PLC0415

    entry = Entry(at=_now(), by=who(), action="promoted", role="champion", version=bundle.version, before=None)
    change = dict.fromkeys(place.dma_row if bundle.scope == "*" else [bundle.scope], bundle)
    _carry_out(site, place, bundle.scope, entry, change, None, "")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def who() -> str:
    """Whoever runs the command, for people to read."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):  # a container's user may have no name
        return f"unknown@{socket.gethostname()}"


def _carry_out(
    site: Path,
    place: Site,
    scope: str,
    entry: Entry,
    change: Mapping[str, Bundle | None],
    bootstrap: str | None,
    prefix: str,
) -> None:
    """Tell the workers, then write the registry: what it says has been published."""
    import msgspec  # noqa: PLC0415

    from training.model_history import Told, record  # noqa: PLC0415
    from training.registry import alias_version  # noqa: PLC0415

    if bootstrap is not None:
        placed = _publish(bootstrap, prefix, entry, change)
        told = [Told(dma=one.dma, partition=one.partition, offset=one.offset) for one in placed]
        entry = msgspec.structs.replace(entry, prefix=prefix, told=told)
    aliases: dict[Alias, str | None] = {entry.role: entry.version}
    if entry.role == "champion" and entry.version is not None and entry.version == alias_version(site, scope, "challenger"):
        aliases["challenger"] = None  # it is in shadow no more
    record(site, scope, entry, aliases)
    click.echo(f"{entry.role} of {place.name}/{scope}: {entry.version or 'none'}, before: {entry.before or 'none'}")
    if entry.worse:
        click.echo(f"forced although {'; '.join(entry.worse)}")
    left_out = [dma for dma in place.dma_row if dma not in change]
    if scope == "*" and left_out:
        click.echo(f"with a {entry.role} of their own, so left as they are: {', '.join(left_out)}")
    if bootstrap is None:
        click.echo("registry only: DMAs that workers have a model for go on with it until one is published with --bootstrap")
        return
    where = ", ".join(f"{one.dma} partition {one.partition} offset {one.offset}" for one in entry.told)
    click.echo(f"told on {prefix}.readings.v1: {where or 'nobody'}")


def _publish(bootstrap: str, prefix: str, entry: Entry, change: Mapping[str, Bundle | None]) -> Any:
    from streams.promotion import Words, publish  # noqa: PLC0415
    from streams.topics import KafkaUnavailableError  # noqa: PLC0415

    role: Literal["champion", "challenger"] = entry.role
    try:
        return publish(bootstrap, prefix, change, role, Words(entry.at, entry.by, entry.reason))
    except (KafkaUnavailableError, ValueError) as error:
        raise click.ClickException(f"{error}; the registry is as it was") from None
