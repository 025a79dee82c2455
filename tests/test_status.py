"""streams/status.py: whether a worker is well and ready, who may ask, and at which address."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from streams import status as module
from streams.checkpoints import Bounds
from streams.keeper import SAVE_SECONDS
from streams.progress import Place
from streams.standing import OVERDUE_SECONDS, fault_of, why_not_ready
from streams.status import StatusAddressError, StatusServer, listen
from streams.worker import Worker as RealWorker
from tests.status_bench import RAW, READINGS, Worker
from tests.synthetic import make_site


def served(worker: Worker, ask: Callable[[aiohttp.ClientSession, str, int], Awaitable[Any]]) -> Any:
    """The result of `ask` with a session, the server's address and its port."""

    async def run() -> Any:
        server, listener = StatusServer(worker), listen("127.0.0.1:0")  # type: ignore[arg-type]
        assert listener is not None
        port = listener.getsockname()[1]
        await server.start(listener)
        try:
            async with aiohttp.ClientSession() as session:
                return await ask(session, f"http://127.0.0.1:{port}", port)
        finally:
            await server.stop()

    return asyncio.run(run())


# health and readiness


def test_a_worker_is_not_ready_until_it_has_partitions_state_and_what_was_there() -> None:
    worker: Any = Worker()
    assert why_not_ready(worker) == "waiting for Kafka to share the partitions out"
    worker.assigned = frozenset((RAW, READINGS))
    assert "recovering" in (why_not_ready(worker) or "")
    worker.recover()
    worker.there = {RAW: Place(3, None, 9, 7), READINGS: Place(3, None, 3, 3)}
    assert why_not_ready(worker) == "catching up: 4 records to go in 1 of 2 partitions"
    worker.there[RAW] = Place(7, None, 9, 7)  # what came after the assignment does not count
    assert why_not_ready(worker) is None
    worker.keeper.watcher.drop([0])
    assert "recovering" in (why_not_ready(worker) or "")
    assert fault_of(worker) is None


def test_a_worker_that_gets_no_partition_is_ready() -> None:
    worker: Any = Worker()
    worker.assigned = frozenset()
    assert why_not_ready(worker) is None


def test_a_fault_and_a_checkpoint_that_is_long_due_are_unhealthy_and_a_stop_only_not_ready() -> None:
    worker: Any = Worker()
    worker.recover()
    worker.stop.set()
    assert (fault_of(worker), why_not_ready(worker)) == (None, "stopping")
    worker.stop.clear()
    worker.now = SAVE_SECONDS + OVERDUE_SECONDS
    assert fault_of(worker) is None
    worker.now += 1
    assert fault_of(worker) == why_not_ready(worker) == "no checkpoint for 71 s, although one is due"
    worker.keeper.watcher.drop([0])
    assert fault_of(worker) is None  # there is nothing to save
    worker.fault = ValueError("torn")
    assert fault_of(worker) == "fault: ValueError: torn"


def test_the_answers_follow_health_and_readiness_and_reach_nobody_elses_cache() -> None:
    worker = Worker()

    async def ask(session: aiohttp.ClientSession, where: str, _: int) -> list[tuple[str, int, str]]:
        found = []
        for step in ("start", "ready", "fault"):
            if step == "ready":
                worker.recover()
            if step == "fault":
                worker.fault = ValueError("two\nlines")
            for page in ("/healthz", "/readyz", "/status", "/metrics"):
                async with session.get(where + page) as answer:
                    assert answer.headers["Cache-Control"] == "no-store"
                    assert answer.headers["Server"] == "nightline"
                    found.append((page, answer.status, await answer.text()))
        return found

    found = served(worker, ask)
    codes = [code for _, code, _ in found]
    assert codes == [200, 503, 200, 200, 200, 200, 200, 200, 503, 503, 200, 200]
    assert found[8][2] == found[9][2] == "fault: ValueError: two lines\n"


def test_only_get_and_head_are_answered_and_nothing_of_a_request_comes_back() -> None:
    async def ask(session: aiohttp.ClientSession, where: str, port: int) -> None:
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            async with session.request(method, where + "/status", data=b"secret") as answer:
                assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
                assert answer.headers["Cache-Control"] == "no-store"
        async with session.head(where + "/status") as answer:
            assert (answer.status, await answer.read()) == (200, b"")
            assert int(answer.headers["Content-Length"]) > 100
        for path in ("/", "/secret", "/status/", "/status/..%2fsecret", "/%00secret", "/healthz;secret"):
            async with session.get(where + path, headers={"X": "secret"}) as answer:
                assert answer.status == 404
                assert "secret" not in await answer.text()
        async with session.get(where + "/healthz?secret=1") as answer:
            assert (answer.status, await answer.text()) == (200, "ok\n")
        for junk in (b"SECRET\x00 / HTTP/1.1\r\n\r\n", b"GET /secret HTTP/9.x\r\n\r\n", b"GET / HTTP/1.1\r\nsecret\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(junk)
            said = await reader.read()
            writer.close()
            assert said.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
            assert b"secret" not in said.lower()
            assert b"no-store" in said

    served(Worker(), ask)


def test_a_fault_while_answering_is_no_fault_of_the_worker(caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker()
    worker.router = None  # type: ignore[assignment]

    async def ask(session: aiohttp.ClientSession, where: str, _: int) -> None:
        async with session.get(where + "/status") as answer:
            assert (answer.status, "Error" in await answer.text()) == (500, False)
        async with session.get(where + "/healthz") as answer:
            assert answer.status == 200

    served(worker, ask)
    assert "status: no answer for /status: AttributeError" in caplog.text


def test_a_client_that_reads_nothing_does_not_hold_the_stop_up() -> None:
    worker = Worker()

    async def run() -> float:
        server, listener = StatusServer(worker), listen("127.0.0.1:0")  # type: ignore[arg-type]
        assert listener is not None
        port = listener.getsockname()[1]
        await server.start(listener)
        _, idle = await asyncio.open_connection("127.0.0.1", port)
        _, half = await asyncio.open_connection("127.0.0.1", port)
        half.write(b"GET /status HTTP/1.1\r\nHost:")
        await asyncio.sleep(0.05)
        begin = time.monotonic()
        await asyncio.gather(server.stop(), server.stop())
        await server.stop()
        took = time.monotonic() - begin
        for writer in (idle, half):
            writer.close()
        with pytest.raises(OSError, match=r"refused|111|61"):
            await asyncio.open_connection("127.0.0.1", port)
        return took

    assert asyncio.run(run()) < 1.0


def test_a_rebalance_makes_a_worker_not_ready_until_state_is_back(tmp_path: Path) -> None:
    async def run() -> None:
        worker: Any = RealWorker(make_site(), None, "127.0.0.1:1", "p", tmp_path)
        assert why_not_ready(worker) == "waiting for Kafka to share the partitions out"
        consumer = worker.app.transport.create_consumer(
            callback=print, on_partitions_revoked=print, on_partitions_assigned=print
        )  # fmt: skip
        await worker._on_assigned(None, {RAW, READINGS})
        assert "recovering" in (why_not_ready(worker) or "")
        worker.keeper.watcher.restore(0, 1, [], Bounds(None, 0, 0), now=0.0)
        worker.keeper.saved.at = time.monotonic()
        consumer.progress.begin(consumer.progress.forget(), {RAW: 5, READINGS: 0}, {RAW: 5, READINGS: 0})
        assert why_not_ready(worker) is None
        assert {tp: at.position for tp, at in worker.places().items()} == {RAW: 5, READINGS: 0}
        await worker._on_revoked(None, {RAW, READINGS})
        assert why_not_ready(worker) == "waiting for Kafka to share the partitions out"
        await worker._on_assigned(None, {RAW, READINGS})  # the same ones again
        assert "recovering" in (why_not_ready(worker) or "")
        consumer._thread.thread_loop.close()

    asyncio.run(run())


# the address


@pytest.fixture
def default_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A default port that somebody else has."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(module, "DEFAULT_PORT", taken.getsockname()[1])
        yield taken.getsockname()[1]


def test_where_the_default_port_is_taken_a_free_one_is_and_the_log_says_so(
    default_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "nightline")
    listener = listen(None)
    assert listener is not None
    with listener:
        host, port = listener.getsockname()
    assert (host, port == default_port) == ("127.0.0.1", False)
    assert caplog.messages == [f"status: port {default_port} is taken, took {port}"]


def test_a_port_that_was_asked_for_and_is_taken_is_refused_in_one_line(default_port: int) -> None:
    with pytest.raises(StatusAddressError, match=rf"^--status: 127\.0\.0\.1:{default_port} is taken; possible: [^\n]+$"):
        listen(f"127.0.0.1:{default_port}")


def test_off_listens_nowhere_and_an_ipv6_address_is_in_brackets() -> None:
    assert listen("off") is None
    try:
        listener = listen("[::1]:0")
    except StatusAddressError as error:
        pytest.skip(str(error))
    assert listener is not None
    with listener:
        assert listener.getsockname()[0] == "::1"


@pytest.mark.parametrize("address", ["", "8090", ":8090", "host:", "127.0.0.1:65536", "http://a:1", "a b:1", "::1:80", "on"])
def test_an_address_that_is_none_is_refused_in_one_line(address: str) -> None:
    with pytest.raises(StatusAddressError) as refused:
        listen(address)
    assert str(refused.value).startswith(f"--status: found {address!r}; possible: HOST:PORT")
    assert "\n" not in str(refused.value)
