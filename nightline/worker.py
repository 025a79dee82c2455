"""nightline worker SITE"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from models.config import ConfigError
from nightline.sites import load_site
from nightline.topics import BOOTSTRAP, PREFIX

if TYPE_CHECKING:
    from models.bundle import Bundle


@click.command("worker")
@click.argument("site", type=click.Path(path_type=Path))
@BOOTSTRAP
@PREFIX
@click.option("--rebuild", is_flag=True, help="Build state that cannot be restored from what readings.v1 still holds.")
@click.option(
    "--session-seconds", type=click.FloatRange(1.0, 300.0), default=10.0, show_default=True,
    help="So long after its last sign of life a worker's partitions go to others.",
)  # fmt: skip
@click.option(
    "--status", metavar="HOST:PORT|off",
    help="Where to tell how the worker is (docs/OPERATIONS.md).  [default: 127.0.0.1:8090, or a free port]",
)  # fmt: skip
@click.option("--embedded", is_flag=True, help="Start a broker inside this process; its data ends with it.")
def worker(
    site: Path, bootstrap: str, prefix: str, rebuild: bool, session_seconds: float, status: str | None, embedded: bool
) -> None:  # fmt: skip
    """Consume readings, publish alerts."""
    found = load_site(site)
    # here: `--help` and a faulty site need no Kafka client
    from streams import status as endpoint  # noqa: PLC0415
    from streams import topics  # noqa: PLC0415
    from streams.worker import run_worker, set_up_logging  # noqa: PLC0415
    from training import registry  # noqa: PLC0415

    serving = registry.champions(site, found.dma_row)

    def load(scope: str, version: str) -> Bundle | None:
        try:
            return registry.load(site, scope, version)
        except ConfigError:
            return None

    set_up_logging()
    with contextlib.ExitStack() as stack:
        try:
            if embedded:
                from streams.brokers.embedded import EmbeddedBroker  # noqa: PLC0415

                bootstrap = stack.enter_context(EmbeddedBroker())
                click.echo(f"embedded broker at {bootstrap}", err=True)
            else:
                missing = topics.missing_topics(bootstrap, prefix)
                if missing:
                    raise click.ClickException(
                        f"Kafka at {bootstrap} has no topic {', '.join(missing)}; create them with: "
                        f"nightline topics apply --bootstrap {bootstrap} --prefix {prefix}"
                    )
            code: Any = run_worker(found, serving, bootstrap, prefix, rebuild, session_seconds, status, load)
        except (topics.KafkaUnavailableError, endpoint.StatusAddressError) as error:
            raise click.ClickException(str(error)) from None
    if code:
        sys.exit(code)
