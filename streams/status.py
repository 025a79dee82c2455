"""The worker's own small web server: `/healthz`, `/readyz`, `/status` and `/metrics`.

It runs in the worker's event loop, so an answer says that the loop turns. Only GET and HEAD, nothing of a request comes
back in an answer, and whoever may ask may ask everything: it listens on the loopback unless told otherwise.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final

from aiohttp import web

from streams.metrics import CONTENT_TYPE, exposition
from streams.standing import fault_of, status_json, why_not_ready

if TYPE_CHECKING:
    from streams.worker import Worker

log = logging.getLogger("nightline")

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8090
OFF: Final = "off"
STOP_SECONDS: Final = 0.25
"""For answers that are under way when the worker stops."""
METHODS: Final = ("GET", "HEAD")
HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "nightline"}


class StatusAddressError(Exception):
    """The address cannot be used; the message is one clear line."""


def listen(status: str | None) -> socket.socket | None:
    """A listening socket; None for "off".

    Without an address the default one, or where that is taken a free port of the same host, which is logged. Raises
    StatusAddressError for an address that is none, or cannot be had.
    """
    if status == OFF:
        return None
    if status is not None:
        return _bind(*_address(status))
    try:
        return _bind(DEFAULT_HOST, DEFAULT_PORT)
    except StatusAddressError:
        listener = _bind(DEFAULT_HOST, 0)
        log.info("status: port %d is taken, took %d", DEFAULT_PORT, listener.getsockname()[1])
        return listener


def _address(status: str) -> tuple[str, int]:
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_.-]+)):([0-9]{1,5})", status)
    if found is None or int(found[3]) > 65535:
        raise StatusAddressError(
            f"--status: found {status!r}; possible: HOST:PORT, an IPv6 host in brackets, port 0 for any free one; or off"
        )
    return found[1] or found[2], int(found[3])


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, proto)
        try:
            # a worker started again at once would else find the old one's connections in the way
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(64)  # now: two sockets that do not listen yet may both be bound
        except OSError:
            listener.close()
            raise
    except OSError as error:
        taken = "is taken; possible: another port, 0 for any free one, or off"
        why = taken if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror or error}"
        raise StatusAddressError(f"--status: {host}:{port} {why}") from None
    listener.setblocking(False)
    return listener


class StatusServer:
    """Answers while it runs. `start` once; `stop` as often as one likes."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._runner: web.ServerRunner | None = None
        self._closing: asyncio.Task[None] | None = None
        self._pages: dict[str, Callable[[], Awaitable[web.Response]]] = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/status": self._status,
            "/metrics": self._metrics,
        }

    async def start(self, listener: socket.socket) -> None:
        """Serve on a listening socket, which is closed by `stop`."""
        server = _Server(self._answer, access_log=None, logger=_SILENT)
        self._runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=STOP_SECONDS)
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()
        host, port = listener.getsockname()[:2]
        log.info("status: http://%s:%d/status", f"[{host}]" if ":" in host else host, port)

    async def stop(self) -> None:
        """Give answers under way `STOP_SECONDS`, then close. Never raises, takes no longer than twice that."""
        if self._runner is None:
            return
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close(self._runner))
        await asyncio.wait([self._closing], timeout=2 * STOP_SECONDS)

    async def _close(self, runner: web.ServerRunner) -> None:
        progress = self._worker.progress
        if progress is not None:
            progress.close()
        try:
            await runner.cleanup()
        except Exception as error:  # a worker that ends must not be held up, nor its reason be hidden
            log.warning("status: not closed properly: %s: %s", type(error).__name__, error)

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        page = self._pages.get(request.path)
        if page is None:
            return _plain(404, f"not found; possible: {', '.join(self._pages)}")
        if request.method not in METHODS:
            return _plain(405, f"not allowed; possible: {', '.join(METHODS)}", {"Allow": ", ".join(METHODS)})
        try:
            answer = await page()
        except Exception as error:  # no fault of an answer is a fault of the worker
            log.warning("status: no answer for %s: %s: %s", request.path, type(error).__name__, error)
            return _plain(500, "this could not be told; the worker's log says why")
        answer.headers.update(HEADERS)
        return answer

    async def _healthz(self) -> web.Response:
        return _verdict(fault_of(self._worker))

    async def _readyz(self) -> web.Response:
        return _verdict(why_not_ready(self._worker))

    async def _status(self) -> web.Response:
        await self._refresh()
        return web.Response(body=await status_json(self._worker), content_type="application/json")

    async def _metrics(self) -> web.Response:
        await self._refresh()
        return web.Response(body=await exposition(self._worker), headers={"Content-Type": CONTENT_TYPE})

    async def _refresh(self) -> None:
        progress = self._worker.progress
        if progress is not None:
            await progress.refresh()


def _verdict(reason: str | None) -> web.Response:
    return _plain(200, "ok") if reason is None else _plain(503, reason)


def _plain(code: int, said: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=code, text=" ".join(said.split()) + "\n", headers={**HEADERS, **(headers or {})})


class _Handler(web.RequestHandler):
    """Says nothing of a request that is none: aiohttp would send back what came, and log it with a traceback."""

    def handle_error(self, request: web.BaseRequest, status: int = 500, *_: object, **__: object) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is under way already")
        answer = _plain(status, "this is no request that can be answered")
        answer.force_close()
        return answer


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Handler(self, loop=asyncio.get_running_loop(), **self._kwargs)


_SILENT: Final = logging.getLogger("nightline.status.http")
_SILENT.propagate = False
_SILENT.addHandler(logging.NullHandler())
