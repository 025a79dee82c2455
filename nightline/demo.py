"""nightline demo: a town, its leaks, a broker and a worker, all on this machine."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from nightline.sites import load_site

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from models.network import Site
    from models.schema import Alert
    from training.simulation.run import Town
    from training.simulation.verdict import Verdict

PREFIX = "nightline-demo"
WINDOW_MINUTES = 45  # two windows on the way and a reading 25 minutes late stay within the lateness of 120
START_SECONDS = 120.0  # of a worker that has to compile its kernels first
STOP_SECONDS = 30.0
LOG_TAIL = 15
WORKER = "from nightline.cli import main; main()"

EVENTS = {
    "raised": ("RAISED", "bold red"),
    "updated": ("still", "yellow"),
    "cleared": ("cleared", "green"),
    "closed": ("closed", "green"),
}
PLANTS = {
    "burst": "a main breaks",
    "slow_leak": "a leak grows slowly",
    "stuck_meter": "a meter sticks",
    "valve_opened": "a boundary valve opens",
    "hot_weekend": "a hot weekend, +9 %",
    "fire_draw": "firemen draw for 30 min",
}
REASONS = {
    "mnf_above_band": "night flow above its band",
    "inflow_above_band": "inflow above its band",
    "unmetered_above_band": "more than customers' meters show",
    "customers_use_it": "customers' meters show it",
    "pressure_below_neighbours": "a logger below the others",
    "isolation_forest": "unusual as a whole",
    "neighbour_lost_flow": "a neighbour lost the same flow",
    "pressure_fell": "pressure fell",
    "pressure_rose": "pressure rose, which speaks against it",
    "flat_line": "the same value again and again",
    "values_vary_again": "values vary again",
    "silent": "no readings",
    "all_silent": "no readings of most meters",
    "reports_again": "readings come again",
    "no_flow": "no flow",
    "flow_taken_over": "others took over",
    "pressure_unchanged": "pressure stays",
    "reverse_flow": "flow runs backwards",
    "flow_as_usual": "flow as usual",
    "spikes": "wild values",
    "spikes_gone": "no more wild values",
    "clock_shifted": "the day is displaced",
    "clock_right": "the day is as usual",
    "drifting": "moves against its neighbours",
    "never_at_rest": "water runs day and night",
    "comes_to_rest": "water comes to rest",
    "excess_gone": "the excess is gone",
    "accepted_as_normal": "accepted as the new normal",
}


@click.command("demo")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=1, show_default=True, help="Same seed, same town, same alerts."
)
@click.option(
    "--weeks", type=click.IntRange(5, 26), default=5, show_default=True, help="The last two hold the planted events."
)
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), help="Times real time; as fast as possible without.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Keep site, readings and the worker's log here."
)
@click.option(
    "--check", is_flag=True, help="Headless: exit code 0 only if every planted event was found and nothing else alarmed."
)
def demo(seed: int, weeks: int, speed: float | None, out: Path | None, check: bool) -> None:
    """A simulated town with planted leaks, embedded broker and worker, on this machine.

    EPANET simulates the town, an isolation forest is trained on its clean weeks, and the rest is what runs in a utility:
    readings go to Kafka, a worker reads them, alerts come back and are shown here.
    """
    from rich.console import Console  # noqa: PLC0415 - `--help` needs none of these
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 120
    with contextlib.ExitStack() as stack:
        if out is None:
            out = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nightline-demo-")))
        progress = stack.enter_context(
            Progress(
                TextColumn("{task.description:<28}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %"),
                TimeElapsedColumn(),
                console=console,
                disable=check or not console.is_terminal,
                transient=True,
            )
        )
        town, site = _prepare(seed, weeks, out, console, progress)
        alerts = _stream(town, site, out, speed, console, progress)
    from training.simulation.verdict import judge  # noqa: PLC0415

    verdict = judge(town.plants, alerts)
    console.print()
    console.print(verdict_table(verdict, site.timezone))
    console.print(verdict_line(verdict))
    if check and not verdict.passed:
        raise click.exceptions.Exit(1)


def _prepare(seed: int, weeks: int, out: Path, console: Console, progress: Progress) -> tuple[Town, Site]:
    """Simulate, write the site folder, train and promote the site's model."""
    try:
        import wntr  # noqa: F401, PLC0415 - looked for now rather than after a minute

        from training import registry  # noqa: PLC0415
        from training.history import read_history  # noqa: PLC0415
        from training.simulation.run import simulate  # noqa: PLC0415
        from training.train import train  # noqa: PLC0415
    except ImportError as error:
        raise click.ClickException(
            f"the demo needs {error.name}; install nightline with its extras: demo, training"
        ) from None
    bar = progress.add_task(f"EPANET, {weeks} weeks", total=1.0)
    town = simulate(seed, weeks, lambda done: progress.update(bar, completed=done))
    town.write(out)
    site = load_site(out)
    console.print(
        f"{site.name}, seed {seed}: {len(site.dmas)} DMAs, {len(site.meters)} meters, {len(town.readings):,} readings of "
        f"{weeks} weeks from {_when(int(town.truth.starts_ms[0]), site.timezone)}, simulated with EPANET"
    )
    history = read_history(out / "readings.csv", site, 1440)
    span_ms = town.clean_until_ms - history.first_ms
    bar = progress.add_task("training on the clean weeks", total=1.0)
    bundle = train(
        site,
        history,
        seed=seed,
        clean_until_ms=town.clean_until_ms,
        on_window=lambda window: progress.update(bar, completed=(window.end_ms - history.first_ms) / span_ms),
    )
    registry.save(out, bundle)
    registry.promote(out, bundle.version, bundle.scope)
    console.print(
        f"isolation forest {bundle.version} trained on {bundle.manifest.metrics['rows']:,.0f} clean slots, and promoted"
    )
    return town, site


def _stream(town: Town, site: Site, out: Path, speed: float | None, console: Console, progress: Progress) -> list[Alert]:
    """Broker, worker, replay; every revision of every alert, in order of arrival, printed as it comes."""
    from kafka.errors import KafkaError  # noqa: PLC0415

    from streams.brokers.embedded import EmbeddedBroker  # noqa: PLC0415
    from streams.replay import NoProgressError, Replay  # noqa: PLC0415
    from streams.topics import KafkaUnavailableError  # noqa: PLC0415

    first_ms, last_ms = int(town.arrived_ms[0]), int(town.arrived_ms[-1])
    try:
        with EmbeddedBroker() as bootstrap, WorkerProcess(out, bootstrap, out / "worker.log") as worker:
            bar = progress.add_task("worker starts", total=None)
            worker.wait_until_ready()
            progress.update(bar, description="streaming", total=1.0, completed=0.0)
            with AlertPrinter(site, bootstrap, console) as printer, Replay(site, bootstrap, PREFIX) as feed:
                begin = time.monotonic()

                def shown(end_ms: int, _: Any) -> None:
                    worker.assert_alive()
                    progress.update(
                        bar,
                        completed=(end_ms - first_ms) / (last_ms - first_ms),
                        description=f"streaming, {_when(min(end_ms, last_ms), site.timezone)}",
                    )

                try:
                    feed.run(town.windows(WINDOW_MINUTES), speed, shown)
                except NoProgressError as error:
                    worker.assert_alive()
                    raise click.ClickException(f"{error}\n{worker.tail()}") from None
                printer.drain()
                seconds = time.monotonic() - begin
                days = (last_ms - first_ms) / 86_400_000
                console.print(
                    f"{days:.0f} days streamed in {seconds:.0f} s: {days * 86400 / seconds:,.0f} times faster than life"
                )
                worker.stop()
                return printer.alerts
    except KafkaUnavailableError as error:
        raise click.ClickException(str(error)) from None
    except KafkaError as error:
        raise click.ClickException(f"embedded broker: {' '.join(str(error).split())}") from None


class WorkerProcess:
    """`nightline worker SITE` as a process of its own; leaving the context ends it."""

    def __init__(self, site: Path, bootstrap: str, log: Path) -> None:
        self._log = log
        command = [sys.executable, "-c", WORKER, "worker", str(site), "--bootstrap", bootstrap, "--prefix", PREFIX]
        with log.open("wb") as file:
            # its own session: Ctrl-C reaches only us, and we end it in order
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, env=os.environ.copy(), start_new_session=True
            )

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def tail(self) -> str:
        """The last lines of its log."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"  worker: {line}" for line in lines[-LOG_TAIL:])

    def assert_alive(self) -> None:
        """Raises ClickException with the end of its log if it died."""
        if self._process.poll() is not None:
            raise click.ClickException(f"the worker died with exit code {self._process.returncode}\n{self.tail()}")

    def wait_until_ready(self) -> None:
        """Until Kafka has given it partitions. Raises ClickException if it dies or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while "partitions: " not in self._log.read_text(encoding="utf-8", errors="replace"):
            self.assert_alive()
            if time.monotonic() > deadline:
                raise click.ClickException(f"the worker was not ready within {START_SECONDS:.0f} s\n{self.tail()}")
            time.sleep(0.1)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL where that does not help. Does nothing the second time."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


class AlertPrinter:
    """Reads the alert topic in a thread of its own and prints every revision."""

    def __init__(self, site: Site, bootstrap: str, console: Console) -> None:
        from kafka import KafkaConsumer, KafkaProducer, TopicPartition  # noqa: PLC0415

        from streams.topics import ALERTS, client_options, topic_name  # noqa: PLC0415

        self.alerts: list[Alert] = []
        self._site, self._console = site, console
        self._seen: set[tuple[str, int]] = set()
        options = client_options(bootstrap)
        topic = topic_name(PREFIX, ALERTS)
        with contextlib.closing(KafkaProducer(bootstrap_servers=bootstrap, **options)) as producer:
            parts = producer.partitions_for(topic)  # the embedded broker makes a topic when a producer asks for it
        self._partitions = [TopicPartition(topic, number) for number in sorted(parts)]
        self._consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, **options)
        self._consumer.assign(self._partitions)
        self._consumer.seek_to_beginning(*self._partitions)
        self._fault: Exception | None = None
        self._stopping, self._stop_at_end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)

    def __enter__(self) -> AlertPrinter:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join()
        self._consumer.close()

    def drain(self) -> None:
        """Read to the present end of the topic, then stop reading. Raises what went wrong while reading."""
        self._stop_at_end.set()
        self._thread.join()
        if self._fault is not None:
            raise self._fault

    def _run(self) -> None:
        try:
            ends: dict[Any, int] | None = None
            while not self._stopping.is_set():
                if ends is None and self._stop_at_end.is_set():
                    ends = self._consumer.end_offsets(self._partitions)
                for records in self._consumer.poll(timeout_ms=100).values():
                    for record in records:
                        self._take(record)
                if ends is not None and all(self._consumer.position(tp) >= end for tp, end in ends.items()):
                    return
        except Exception as error:  # handed to the thread that waits in `drain`
            self._fault = error

    def _take(self, record: Any) -> None:
        from models import cloudevents  # noqa: PLC0415

        alert = cloudevents.decode(record.headers, record.value)
        if (alert.alert_id, alert.revision) not in self._seen:
            self._seen.add((alert.alert_id, alert.revision))
            self.alerts.append(alert)
            self._console.print(alert_line(alert, self._site))


def _when(time_ms: int, timezone: str) -> str:
    return datetime.fromtimestamp(time_ms / 1000, ZoneInfo(timezone)).strftime("%a %d %b %H:%M")


def _place(alert: Alert, site: Site) -> str:
    if alert.scope.type == "dma":
        return site.dmas[site.dma_row[alert.scope.id]].name
    home = site.meters[site.meter_row[alert.scope.id]].home
    return site.dmas[site.dma_row[home]].name


def alert_line(alert: Alert, site: Site) -> str:
    """One revision in plain words, with rich's markup: when, where, what, how much, why."""
    word, style = EVENTS.get(alert.event, (alert.event, "white"))
    text = f"{_when(alert.updated_at, site.timezone)}  {_place(alert, site):<10} [{style}]{word:<7}[/] {alert.title.en}"
    if alert.event != "raised":
        lost = f"; {alert.estimate.lost_so_far:,.0f} m³ lost" if alert.estimate else ""
        return f"{text}{lost}"
    return f"{text} ({', '.join(REASONS.get(reason, reason) for reason in alert.reasons)})"


def _delay(started_ms: int, detected_ms: int) -> str:
    hours = (detected_ms - started_ms) / 3_600_000
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} d"


def verdict_table(verdict: Verdict, timezone: str) -> Table:
    """Planted beside found, ordinary life, and whatever else alarmed."""
    from rich.table import Table  # noqa: PLC0415

    table = Table(title="planted ↔ found", title_justify="left")
    for name in ("planted", "where", "m³/h", "began", "found as", "delay", "allowed"):
        table.add_column(name, justify="right" if name in ("m³/h", "delay", "allowed") else "left")
    for cells in verdict_rows(verdict, timezone):
        table.add_row(*cells)
    return table


def verdict_rows(verdict: Verdict, timezone: str) -> Iterator[tuple[str, ...]]:
    """The cells of the table."""
    for plant, alert in verdict.found:
        size = f"{plant.size_m3h:.1f}" if plant.size_m3h else ""
        hours = plant.within_h
        yield (
            PLANTS[plant.kind],
            plant.scope,
            size,
            _when(plant.started_ms, timezone),
            f"[green]{alert.type}[/]" if alert else "[bold red]NOT FOUND[/]",
            _delay(plant.started_ms, alert.detected_at) if alert else "",
            f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} d",
        )
    for plant in verdict.quiet:
        size = f"{plant.size_m3h:.1f}" if plant.size_m3h else ""
        yield (PLANTS[plant.kind], plant.scope, size, _when(plant.started_ms, timezone), "must not alarm", "", "")
    for alert in verdict.unexplained:
        size = f"{alert.estimate.excess_flow:.1f}" if alert.estimate else ""
        began = _when(alert.started_at, timezone)
        yield ("[bold red]nothing[/]", alert.scope.id, size, began, f"[bold red]{alert.type}[/]", "", "")


def verdict_line(verdict: Verdict) -> str:
    """One sentence."""
    found, others = sum(alert is not None for _, alert in verdict.found), len(verdict.unexplained)
    style = "green" if verdict.passed else "bold red"
    return (
        f"[{style}]{found} of {len(verdict.found)} planted events found, {others or 'no'} other alert{'s'[: others != 1]}[/]"
    )
