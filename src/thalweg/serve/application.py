"""The server's application: four addresses, each of them fixed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from thalweg.core.errors import UsageError
from thalweg.race.live import FOLDER
from thalweg.race.store import FILE_NAME
from thalweg.report import write_report
from thalweg.serve.guard import Guard
from thalweg.serve.inside import read_inside
from thalweg.serve.page import page, parts
from thalweg.serve.snapshot import Snapshot, snapshot

SECONDS = 1.0
"""Between two looks at the folder."""

PING = 15.0
"""Seconds without news after which a comment shows that the connection lives."""

REPORT_AFTER = 30.0
"""Seconds after the end of a race in which its own process may still write the report."""

DOWNLOADS = {"results.csv": "text/csv", "verdict.json": "application/json"}


def application(
    folder: Path,
    hosts: Iterable[str] = (),
    any_address: bool = False,
    token: str | None = None,
) -> Guard:
    """Return the ASGI application that shows the race in a folder.

    ``/`` is the live page, and the report once there is one; ``/events`` tells the live page what
    changed (server-sent events); ``/results.csv`` and ``/verdict.json`` are the folder's files.
    There is no other address, and none of these takes a part of a path from the request.

    Args:
        folder: the race's folder.
        hosts: see `thalweg.serve.guard.Guard`, as for the rest.
        any_address: see there.
        token: see there.

    Raises:
        UsageError: the folder holds no race, or its store is a link.
    """
    if (folder / FILE_NAME).is_symlink():
        raise UsageError(f"{folder / FILE_NAME} is a link, and only files in the folder are shown")
    watcher = Watcher(folder.resolve())
    snapshot(watcher.folder)  # raises if there is no race

    async def root(request: Request) -> Response:
        del request
        state = await watcher.state()
        if state.finished:
            report = await run_in_threadpool(read_inside, watcher.folder, "report.html")
            if report is not None:
                return HTMLResponse(report)
        return HTMLResponse(await run_in_threadpool(page, state))

    async def events(request: Request) -> Response:
        del request
        return StreamingResponse(watcher.events(), media_type="text/event-stream")

    async def download(request: Request) -> Response:
        name = request.url.path[1:]
        content = await run_in_threadpool(read_inside, watcher.folder, name)
        if content is None:
            return Response("This race has no such file yet.", 404, media_type="text/plain")
        return Response(content, media_type=DOWNLOADS[name])

    routes = [Route("/", root), Route("/events", events)]
    routes += [Route(f"/{name}", download) for name in DOWNLOADS]
    return Guard(Starlette(routes=routes), hosts, any_address, token)


class Watcher:
    """Looks at a folder once a second at most, however many watch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = asyncio.Lock()
        self._looked = 0.0
        self._state: Snapshot | None = None
        self._writing: asyncio.Task[None] | None = None

    async def state(self) -> Snapshot:
        """Return the race's state, a second old at most.

        Raises:
            UsageError: the race cannot be read any more.
        """
        async with self._lock:
            if self._state is None or time.monotonic() - self._looked > SECONDS:
                self._state = await run_in_threadpool(snapshot, self.folder)
                self._looked = time.monotonic()
            if self._state.finished and self._writing is None and self._wants_report():
                self._writing = asyncio.create_task(self._write_report())
            return self._state

    async def events(self) -> AsyncIterator[str]:
        """Yield what changed, as server-sent events; the first one holds everything."""
        told: dict[str, dict[str, object]] = {"parts": {}, "figures": {}}
        last = time.monotonic()
        while True:
            try:
                state = await self.state()
                news = {
                    "parts": await run_in_threadpool(parts, state),
                    "figures": json.loads(json.dumps(state.figures)),
                }
                ended = state.finished and (self.folder / "report.html").is_file()
            except UsageError as error:
                yield _event({"error": str(error)})
                return
            changed: dict[str, object] = {
                kind: {key: v for key, v in news[kind].items() if told[kind].get(key) != v}
                for kind in news
            }
            if ended or any(changed.values()):
                yield _event({**changed, "ended": ended})
                last = time.monotonic()
            if ended:
                return
            told = news
            if time.monotonic() - last > PING:
                yield ": still here\n\n"
                last = time.monotonic()
            await asyncio.sleep(SECONDS)

    def _wants_report(self) -> bool:
        if (self.folder / "report.html").exists() or (self.folder / FOLDER).is_symlink():
            return False
        return time.time() - (self.folder / FILE_NAME).stat().st_mtime > REPORT_AFTER

    async def _write_report(self) -> None:
        await run_in_threadpool(write_report, self.folder)


def _event(content: dict[str, object]) -> str:
    return f"data: {json.dumps(content)}\n\n"
