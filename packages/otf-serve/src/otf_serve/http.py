"""The HTTP API: snapshots for dashboards, and everything else for scripts."""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path
from typing import Any, Callable, List, Optional, Tuple, TypeVar

import msgspec
from otf_session import queries
from otf_session.commands import Command, Outcome
from otf_session.errors import SessionError, SessionNotFound
from otf_session.events import CommandChanged
from otf_session.frames import CommandReply
from otf_session.store import SessionReader
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from .catalog import Catalog
from .hub import Hub
from .settings import Settings

_R = TypeVar("_R")
_commands = msgspec.json.Decoder(Command)

#: Seconds a script waits for a command's outcome; a safe point may be a long step away.
_COMMAND_SECONDS = 30.0
#: SQLite's integers have 64 bits.
_TOO_LARGE = 2**63


class BadRequest(Exception):
    """A parameter or a body that cannot be used."""


class TooSlow(Exception):
    """The trainer has not answered in time."""


class Api:
    """The routes under `/api` and `/healthz`."""

    def __init__(self, hub: Hub, catalog: Catalog, settings: Settings) -> None:
        self._hub = hub
        self._catalog = catalog
        self._settings = settings

    def routes(self) -> List[BaseRoute]:
        """All routes of the API."""
        session = "/api/sessions/{session}"
        return [
            Route("/healthz", self.health),
            Route("/api/sessions", self.sessions),
            Route(session, self.session),
            Route(session + "/snapshot", self.snapshot),
            Route(session + "/metrics", self.metrics),
            Route(session + "/logs", self.logs),
            Route(session + "/commands", self.commands, methods=["GET"]),
            Route(session + "/commands", self.submit, methods=["POST"]),
        ]

    async def health(self, request: Request) -> Response:
        """That the server is there, and which one it is."""
        return _json(
            {
                "app": "otf-serve",
                "version": self._settings.version,
                "pid": os.getpid(),
                "home": str(self._settings.home.path),
            }
        )

    async def sessions(self, request: Request) -> Response:
        """All sessions at a glance."""
        return _json(await asyncio.to_thread(self._catalog.summaries, self._hub.connected))

    async def session(self, request: Request) -> Response:
        """One session at a glance."""
        name = request.path_params["session"]
        return _json(await asyncio.to_thread(self._catalog.summary, name, self._hub.connected))

    async def snapshot(self, request: Request) -> Response:
        """A session as it is now: what a dashboard starts from."""
        points = _number(request, "points", default=1000, low=10, high=20_000)
        connected = request.path_params["session"] in self._hub.connected
        return _json(
            await self._read(
                request,
                lambda reader: queries.snapshot(reader, points=points, connected=connected),
            )
        )

    async def metrics(self, request: Request) -> Response:
        """Series, thinned to a chart's width, of a range of steps where one is given."""
        points = _number(request, "points", default=1000, low=10, high=20_000)
        query = request.query_params
        bounds = _bounds(request)
        return _json(
            await self._read(
                request,
                lambda reader: queries.series(
                    reader.database,
                    points=points,
                    runs=query.getlist("run"),
                    names=query.getlist("name"),
                    bounds=bounds,
                ),
            )
        )

    async def logs(self, request: Request) -> Response:
        """A page of the log."""
        limit = _number(request, "limit", default=500, low=1, high=5000)
        before = _optional_number(request, "before")
        return _json(
            await self._read(
                request,
                lambda reader: queries.log_page(reader.database, before=before, limit=limit),
            )
        )

    async def commands(self, request: Request) -> Response:
        """Every command that was asked for, with what became of it."""
        return _json(
            await self._read(
                request, lambda reader: queries.events_of(reader.database, CommandChanged)
            )
        )

    async def submit(self, request: Request) -> Response:
        """Ask for a command, and wait for its outcome."""
        session = request.path_params["session"]
        await asyncio.to_thread(self._catalog.folder, session)
        try:
            command = _commands.decode(await request.body())
        except msgspec.DecodeError as error:
            raise BadRequest(f"The body is no command: {error}.") from error
        command_id = secrets.token_hex(8)
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._hub.submit(session, command_id, "http", command, outcome.set_result)
        try:
            found = await asyncio.wait_for(outcome, _COMMAND_SECONDS)
        except asyncio.TimeoutError:
            self._hub.forget(session, command_id)
            raise TooSlow(
                f"The trainer has not reached a safe point for {_COMMAND_SECONDS:.0f} s. The "
                "command stays queued; its outcome will be in the session's commands."
            ) from None
        return _json(CommandReply(id=command_id, session=session, outcome=found))

    async def _read(self, request: Request, query: Callable[[SessionReader], _R]) -> _R:
        folder = await asyncio.to_thread(self._catalog.folder, request.path_params["session"])

        def read(folder: Path) -> _R:
            with SessionReader(folder) as reader:
                return query(reader)

        return await asyncio.to_thread(read, folder)


async def on_session_error(request: Request, error: Exception) -> Response:
    """An error of the store as a reply."""
    return _json({"error": str(error)}, 404 if isinstance(error, SessionNotFound) else 500)


async def on_bad_request(request: Request, error: Exception) -> Response:
    """An unusable request as a reply."""
    return _json({"error": str(error)}, 400)


async def on_too_slow(request: Request, error: Exception) -> Response:
    """An answer that has not come as a reply."""
    return _json({"error": str(error)}, 504)


#: What the application does with exceptions that reach it.
HANDLERS: Any = {SessionError: on_session_error, BadRequest: on_bad_request, TooSlow: on_too_slow}


def _json(value: Any, status: int = 200) -> Response:
    return Response(
        msgspec.json.encode(value),
        status,
        media_type="application/json",
        headers={"cache-control": "no-store"},
    )


def _number(request: Request, name: str, *, default: int, low: int, high: int) -> int:
    found = _optional_number(request, name)
    return default if found is None else min(max(found, low), high)


def _optional_number(request: Request, name: str) -> Optional[int]:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        number = int(text)
    except ValueError:
        raise BadRequest(f"{name} is {text!r}; it is a whole number.") from None
    if abs(number) >= _TOO_LARGE:
        raise BadRequest(f"{name} is {text!r}; it is a whole number below 2**63.")
    return number


def _bounds(request: Request) -> Optional[Tuple[int, int]]:
    first, last = _optional_number(request, "from"), _optional_number(request, "to")
    if first is None and last is None:
        return None
    return (first if first is not None else 0, last if last is not None else 2**62)
