"""The HTTP API's reads: snapshots for dashboards, and everything else for scripts."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, Callable, List, Optional, Tuple, TypeVar

import msgspec
from otf_session import queries
from otf_session.store import SessionReader
from otf_session.summaries import LogPage, Series, SessionSummary, Snapshot

from .catalog import Catalog
from .endpoints import Asked, Endpoint, Reply
from .hub import Hub
from .parameters import Parameter, in_path, several, whole, within
from .settings import Settings

R = TypeVar("R")

SESSION = in_path("session", "The session's id, an unambiguous part of it, or `latest`.")
POINTS = within(
    "points",
    "About so many points of each series; extremes and gaps survive the thinning.",
    default=1000,
    low=10,
    high=20_000,
)
RUN = several("run", "Of these runs alone.")
NAME = several("name", "Of these metrics alone.")
FROM = whole("from", "From this step on.")
TO = whole("to", "Up to this step.")
LIMIT = within("limit", "So many lines at most.", default=500, low=1, high=5000)
BEFORE = whole("before", "Older than the line with this `seq`.")


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Which server this is."""

    app: str
    version: str
    pid: int
    home: str


class ReadApi:
    """What can be read of the server and its sessions."""

    def __init__(self, hub: Hub, catalog: Catalog, settings: Settings) -> None:
        self._hub = hub
        self._catalog = catalog
        self._settings = settings

    def endpoints(self) -> List[Endpoint]:
        """All reads."""
        one = "/api/sessions/{session}"
        chosen: List[Parameter[Any]] = [SESSION, RUN, NAME, FROM, TO, POINTS]
        page: List[Parameter[Any]] = [SESSION, BEFORE, LIMIT]
        missing, unusable = [404, 409, 500], [400, 404, 409, 500]
        many = {200: List[SessionSummary]}
        return [
            Endpoint("GET", "/healthz", self.health, {200: Health}),
            Endpoint("GET", "/api/trainers", self.trainers, {200: List[str]}),
            Endpoint("GET", "/api/sessions", self.sessions, many, problems=[500]),
            Endpoint("GET", one, self.session, {200: SessionSummary}, [SESSION], missing),
            Endpoint(
                "GET",
                one + "/snapshot",
                self.snapshot,
                {200: Snapshot},
                [SESSION, POINTS],
                unusable,
            ),
            Endpoint("GET", one + "/metrics", self.metrics, {200: List[Series]}, chosen, unusable),
            Endpoint("GET", one + "/logs", self.logs, {200: LogPage}, page, unusable),
        ]

    async def health(self, asked: Asked) -> Reply:
        """That the server is there, and which one it is."""
        return Reply(
            Health(
                app="otf-serve",
                version=self._settings.version,
                pid=os.getpid(),
                home=str(self._settings.home.path),
            )
        )

    async def trainers(self, asked: Asked) -> Reply:
        """The sessions that can be steered now, because their trainers are connected; newest last."""
        return Reply(sorted(self._hub.connected))

    async def sessions(self, asked: Asked) -> Reply:
        """All sessions at a glance, the newest last."""
        return Reply(await asyncio.to_thread(self._catalog.summaries, self._hub.connected))

    async def session(self, asked: Asked) -> Reply:
        """One session at a glance."""
        folder = await self._folder(asked)
        return Reply(
            await asyncio.to_thread(self._catalog.summary, folder.name, self._hub.connected)
        )

    async def snapshot(self, asked: Asked) -> Reply:
        """A session as it is now: what a dashboard starts from."""
        points, folder = asked[POINTS], await self._folder(asked)
        connected = folder.name in self._hub.connected
        return Reply(
            await read(
                folder,
                lambda reader: queries.snapshot(reader, points=points, connected=connected),
            )
        )

    async def metrics(self, asked: Asked) -> Reply:
        """Series, thinned to a chart's width, of a range of steps where one is given."""
        points, runs, names, bounds = asked[POINTS], asked[RUN], asked[NAME], _bounds(asked)
        return await self._read(
            asked,
            lambda reader: queries.series(
                reader.database, points=points, runs=runs, names=names, bounds=bounds
            ),
        )

    async def logs(self, asked: Asked) -> Reply:
        """A page of the log."""
        before, limit = asked[BEFORE], asked[LIMIT]
        return await self._read(
            asked, lambda reader: queries.log_page(reader.database, before=before, limit=limit)
        )

    async def _read(self, asked: Asked, query: Callable[[SessionReader], R]) -> Reply:
        return Reply(await read(await self._folder(asked), query))

    async def _folder(self, asked: Asked) -> Path:
        return await asyncio.to_thread(self._catalog.find, asked[SESSION])


async def read(folder: Path, query: Callable[[SessionReader], R]) -> R:
    """What a query finds in a session, read in a thread."""

    def in_thread() -> R:
        with SessionReader(folder) as reader:
            return query(reader)

    return await asyncio.to_thread(in_thread)


def _bounds(asked: Asked) -> Optional[Tuple[int, int]]:
    first, last = asked[FROM], asked[TO]
    if first is None and last is None:
        return None
    return (first if first is not None else 0, last if last is not None else 2**62)
