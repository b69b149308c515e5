"""The page of a run, served: what stands in its folder, and a line of events for each change."""

import asyncio
import errno
import json
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from urllib.parse import quote

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from advcomp.errors import AdvcompError, InvalidConfig
from advcomp.live.access import Access, given_token, is_any
from advcomp.live.changes import changes
from advcomp.live.following import RunWatch
from advcomp.live.live_page import CHANGES, page, policy
from advcomp.live.snapshot import Json, RunSnapshot

HEARTBEAT_S = 15.0
"""How often a silent line says that it is still there."""
RETRY_MS = 500
"""After what time a browser whose line broke tries again."""

_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class EventFeed:
    """The latest look at a run, and word to everybody who waits for the next that differs.

    Args:
        watch: Of the run.
    """

    def __init__(self, watch: RunWatch) -> None:
        self._watch = watch
        self.latest: RunSnapshot = watch.look()
        self.number = 0
        self._over = False
        self._changed = asyncio.Condition()

    async def keep_looking(self) -> None:
        """Look again and again; a look that fails is no news."""
        try:
            while True:
                await asyncio.sleep(self._watch.pause_s)
                with suppress(OSError, AdvcompError):
                    await self._take(await run_in_threadpool(self._watch.look))
        finally:
            self._over = True

    async def _take(self, snapshot: RunSnapshot) -> None:
        changed = snapshot.lasting != self.latest.lasting
        self.latest = snapshot
        if changed:
            async with self._changed:
                self.number += 1
                self._changed.notify_all()

    async def lines(self, *, whole: bool) -> AsyncIterator[str]:
        """Server-sent events: the state now, and whenever it changes, while somebody looks.

        Args:
            whole: Whether all of it is told each time, or after the first only what differs.
        """
        yield f"retry: {RETRY_MS}\n\n"
        seen, told = -1, None
        while not self._over:
            if seen != self.number:
                seen, now = self.number, self.latest.as_json()
                yield _event(now if whole or told is None else changes(told, now))
                told = now
            else:
                yield ": still here\n\n"
            with suppress(TimeoutError):
                await asyncio.wait_for(self._next(seen), HEARTBEAT_S)

    async def _next(self, seen: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.number != seen)


def _event(told: Json) -> str:
    return f"event: {told['event']}\ndata: {json.dumps(told, separators=(',', ':'))}\n\n"


class Guard:
    """Lets a request through if it may see the page; see `access.py`.

    Args:
        app: What is behind.
        access: Who may.
        cookie: Name of the pass: one for each port, since browsers keep none apart by it.
    """

    def __init__(self, app: ASGIApp, access: Access, cookie: str) -> None:
        self._app, self._access, self._cookie = app, access, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if not self._access.admits_host(headers.get("host", "")):
            refusal = PlainTextResponse("This server goes by another name.\n", 403, _HEADERS)
            await refusal(scope, receive, send)
            return
        query = QueryParams(scope["query_string"])
        token = given_token(headers, query)
        by_cookie = self._access.knows_cookie(headers.get("cookie", ""), self._cookie)
        if not (self._access.knows_token(token) or (token is None and by_cookie)):
            refusal = PlainTextResponse(
                "This page wants its token: open its address with ?token=...\n",
                401,
                {**_HEADERS, "www-authenticate": "Bearer"},
            )
            await refusal(scope, receive, send)
            return

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {**_HEADERS, **self._pass(token)}
                message["headers"] += [(k.encode(), v.encode()) for k, v in own.items()]
            await send(message)

        await self._app(scope, receive, told)

    def _pass(self, token: str | None) -> dict[str, str]:
        if self._access.token is None or token is None:
            return {}
        value = f"{self._cookie}={self._access.cookie}; HttpOnly; SameSite=Strict; Path=/"
        return {"set-cookie": value}


def app_of(watch: RunWatch, access: Access, *, port: int = 0) -> ASGIApp:
    """The application: the page, its events, its state, and itself as a file; nothing is written.

    Raises:
        RunConflict: What is watched is no run.
    """
    feed = EventFeed(watch)

    @asynccontextmanager
    async def looking(_app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(feed.keep_looking())
        try:
            yield
        finally:
            task.cancel()

    async def whole(_request: Request) -> HTMLResponse:
        headers = {"content-security-policy": f"{policy(served=True)}; frame-ancestors 'none'"}
        return HTMLResponse(page(feed.latest, served=True), headers=headers)

    async def as_file(_request: Request) -> HTMLResponse:
        named = {"content-disposition": 'attachment; filename="run.html"'}
        return HTMLResponse(page(feed.latest), headers=named)

    async def state(_request: Request) -> JSONResponse:
        return JSONResponse(feed.latest.as_json())

    async def events(_request: Request) -> StreamingResponse:
        return StreamingResponse(feed.lines(whole=True), media_type="text/event-stream")

    async def differences(_request: Request) -> StreamingResponse:
        return StreamingResponse(feed.lines(whole=False), media_type="text/event-stream")

    routes = [
        Route("/", whole),
        Route("/events", events),
        Route(f"/{CHANGES}", differences),
        Route("/state.json", state),
        Route("/page.html", as_file),
    ]
    return Guard(Starlette(routes=routes, lifespan=looking), access, f"advcomp-{port}")


def listening(access: Access, port: int) -> socket.socket:
    """A socket at an address; port 0 is any that is free.

    Raises:
        InvalidConfig: It cannot be had.
    """
    try:
        with ExitStack() as opened:
            family, kind, protocol, _, place = socket.getaddrinfo(
                access.address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            found = opened.enter_context(socket.socket(family, kind, protocol))
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(place)
            opened.pop_all()
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise InvalidConfig(
                f"--bind {access.address}: expected an address of this machine; got: "
                f"{error.strerror or error}; name another, or 0.0.0.0 for all"
            ) from error
        raise InvalidConfig(
            f"--port {port}: expected one that is free at {access.address}; got: "
            f"{error.strerror or error}; name another, or 0 for any"
        ) from error
    return found


def serve(watch: RunWatch, access: Access, place: socket.socket) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Raises:
        RunConflict: What is watched is no run.
    """
    app = app_of(watch, access, port=place.getsockname()[1])
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[place])


def address_of(access: Access, place: socket.socket) -> str:
    """What to open in a browser."""
    host, port = place.getsockname()[:2]
    if is_any(host):
        host = socket.gethostname()
    shown = f"[{host}]" if ":" in host else host
    token = f"?token={quote(access.token, safe='')}" if access.token is not None else ""
    return f"http://{shown}:{port}/{token}"
