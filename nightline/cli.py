"""The `nightline` command. Each command group is one thin file; nothing heavy is imported before it is needed."""

from __future__ import annotations

import errno
import hashlib
import importlib
import os
import sys
from pathlib import Path

import click

COMMANDS = {
    "archive": ("nightline.archive", "Keep readings, slots, alerts and outcomes of the topics as Parquet, by DMA and day."),
    "backtest": ("nightline.backtest", "Run history through the engine, without Kafka; write alerts and a report."),
    "bench": ("nightline.bench", "Print the scoreboard: our speed beside our peers'."),
    "compare": ("nightline.compare", "Hold a challenger against the champion on a held-back period."),
    "check-config": ("nightline.check_config", "Name every fault of a site folder."),
    "demo": ("nightline.demo", "A simulated town with planted leaks, embedded broker and worker, on this machine."),
    "detectability": ("nightline.detectability", "The smallest burst that would be found in each DMA."),
    "drift": ("nightline.drift", "Say which DMAs no longer look like what their model was trained on."),
    "evaluate": ("nightline.evaluate", "Hold what the engine finds in history against known leaks; write a scorecard."),
    "import": ("nightline.import_", "Make a site folder and readings from a data set."),
    "inject": ("nightline.inject", "Add leaks of chosen size to a history, to see what would be found."),
    "labels": ("nightline.labels", "Outcomes of alerts as labels, and a utility's own repair log among them."),
    "models": ("nightline.model_list", "List the models of a site, or show one."),
    "promote": ("nightline.promote", "Make a model the champion, or put it in shadow; workers swap while they run."),
    "rollback": ("nightline.promote", "Return to the champion before the present one."),
    "replay": ("nightline.replay", "Publish history to Kafka, as if it happened."),
    "topics": ("nightline.topics", "Create or list the topics."),
    "train": ("nightline.train", "Fit the isolation forest on a site's history."),
    "worker": ("nightline.worker", "Consume readings, publish alerts."),
}


OF_TRAINING = ("plotly", "pyarrow", "sklearn")
"""Modules that a worker does without."""


class LazyGroup(click.Group):
    """Imports a command's module only when that command runs: `nightline --help` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command: click.Command = getattr(module, cmd_name.replace("-", "_").replace("import", "import_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in sorted(COMMANDS.items())])


def use_kernel_cache() -> None:
    """Let numba reuse compiled kernels of exactly these sources.

    numba checks only the file of the cached function itself, not of the functions it calls, so an edited detector
    would go unnoticed; a folder named after the hash of all core sources cannot be stale.
    """
    if "NUMBA_CACHE_DIR" in os.environ:
        return
    core = Path(__file__).resolve().parent.parent / "models"
    digest = hashlib.sha256()
    for source in sorted(core.rglob("*.py")):
        digest.update(source.read_bytes())
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ["NUMBA_CACHE_DIR"] = str(root / "nightline" / "kernels" / digest.hexdigest()[:16])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="nightline")
def nightline() -> None:
    """Leak and burst detection for city water networks, as the data arrives."""


def main() -> None:
    """Entry point: one clear line and exit code 2 for whatever the user can mend."""
    use_kernel_cache()
    from models.config import ConfigError  # noqa: PLC0415 - after the cache is set

    try:
        code = nightline.main(standalone_mode=False)
        # click hands out the exit code of a command that stopped with one
        if isinstance(code, int):
            sys.exit(code)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except ConfigError as error:
        for fault in error.faults:
            click.echo(f"error: {fault}", err=True)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if error.name not in OF_TRAINING:
            raise
        click.echo(f"error: this needs {error.name}; possible: install nightline with its extra: training", err=True)
        sys.exit(2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        possible = ""
        if not where and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            possible = (
                f"; possible: more room in {os.environ['NUMBA_CACHE_DIR']}, where compiled kernels are kept, or in TMPDIR"
            )
        click.echo(f"error: {where}{error.strerror or error or type(error).__name__}{possible}", err=True)
        sys.exit(2)
