"""The application: its parts, put together."""

from __future__ import annotations

import asyncio
import contextlib
from typing import AsyncIterator, Callable, List, Optional

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from .auth import Guard
from .catalog import Catalog
from .endpoints import HANDLERS, routes
from .http import ReadApi
from .http_commands import CommandApi
from .http_jobs import JobApi
from .http_sessions import SessionApi
from .hub import Hub
from .jobs import Jobs
from .openapi import described
from .settings import Settings
from .trainer_socket import TrainerSocket
from .transfers import Transfers
from .viewer_socket import ViewerSocket
from .watch import watch


def build(settings: Settings, on_ready: Optional[Callable[[], None]] = None) -> ASGIApp:
    """The server's application; `on_ready` is called once it can be reached."""
    hub, catalog = Hub(), Catalog(settings.home)
    jobs, transfers = Jobs(hub.touch), Transfers(settings.home)
    api = described(
        [
            *ReadApi(hub, catalog, settings).endpoints(),
            *SessionApi(hub, catalog, settings, jobs, transfers).endpoints(),
            *CommandApi(hub, catalog).endpoints(),
            *JobApi(jobs).endpoints(),
        ],
        settings.version,
    )

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await asyncio.to_thread(transfers.open)
        watching = asyncio.ensure_future(watch(hub, catalog))
        if on_ready is not None:
            on_ready()
        yield
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        await jobs.close()
        await asyncio.to_thread(transfers.close)

    app = Starlette(
        routes=[
            *routes(api),
            WebSocketRoute("/ws/trainer", TrainerSocket(hub, catalog, settings).__call__),
            WebSocketRoute("/ws/dashboard", ViewerSocket(hub, catalog, settings).__call__),
            *_page(settings),
        ],
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )
    return Guard(app, settings)


def _page(settings: Settings) -> List[BaseRoute]:
    index = settings.static / "index.html"

    async def page(request: Request) -> Response:
        if not index.is_file():
            return PlainTextResponse(
                "The dashboard is not built in this checkout. Run: nox -s dashboard\n", 503
            )
        # Never kept: after an upgrade it names other assets.
        return FileResponse(index, headers={"cache-control": "no-store"})

    routes: List[BaseRoute] = [Route("/", page)]
    if settings.static.is_dir():
        routes.append(Mount("/", StaticFiles(directory=settings.static)))
    return routes
