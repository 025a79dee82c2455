"""A Kafka of one test alone, for it is going to be struck."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import SCRIPT


class Broker:
    """A node on a free port; its data stays until `remove`."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.bootstrap = f"127.0.0.1:{self.port}"
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "nightline" / "kafka"
        self.node = cache / f"node-{self.port}"

    def do(self, action: str, *options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SCRIPT), action, "--port", str(self.port), *options]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    def start(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self.do("start", "--minutes", "15", *options)

    @property
    def java(self) -> int:
        """The process id of the node itself; 0 when it has ended."""
        words = (self.node / "pid").read_text().split() if (self.node / "pid").exists() else []
        return int(words[1]) if len(words) == 2 and Path(f"/proc/{words[1]}").exists() else 0

    def away(self, how: str, seconds: float) -> None:
        """Gone for so long, and back with all its data."""
        if how == "killed":
            assert self.do("kill").returncode == 0
            time.sleep(seconds)
            assert self.start("--keep").returncode == 0
        else:
            assert self.do("pause").returncode == 0
            time.sleep(seconds)
            assert self.do("resume").returncode == 0

    def pulse(self, stopped: float, running: float) -> None:
        """Frozen for a moment, and thawed for another."""
        os.kill(self.java, signal.SIGSTOP)
        time.sleep(stopped)
        os.kill(self.java, signal.SIGCONT)
        time.sleep(running)

    def remove(self) -> None:
        self.do("resume")
        self.do("stop")
        shutil.rmtree(self.node, ignore_errors=True)


def rss_mib(pid: int) -> float:
    """Memory of a process now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024
