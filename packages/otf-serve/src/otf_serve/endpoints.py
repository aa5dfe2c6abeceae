"""Endpoints: what the HTTP API consists of, as the server routes it and as it is described."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Awaitable, Callable, Dict, List, Sequence, TypeVar

import msgspec
from otf_session.errors import AmbiguousSession, SessionError, SessionNotFound
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .parameters import BadRequest, Parameter

T = TypeVar("T")


class NotFound(Exception):
    """Something that a session does not have."""


class TooLarge(Exception):
    """A body that is larger than any that could be meant."""


class Problem(msgspec.Struct, frozen=True):
    """Why a request was not served, as a sentence."""

    error: str


class Denied(msgspec.Struct, frozen=True):
    """Why a request was not let in, and by whom."""

    error: str
    app: str = "otf-serve"


class Asked:
    """A request, as a handler sees it: the parameters that its endpoint declares, and no others."""

    def __init__(self, request: Request, declared: Sequence[Parameter[Any]]) -> None:
        self._request = request
        self._declared = declared

    def __getitem__(self, parameter: Parameter[T]) -> T:
        assert parameter in self._declared, f"{parameter.name} is not declared by the endpoint"
        if parameter.place == "path":
            return parameter.parse([self._request.path_params[parameter.name]])
        if parameter.place == "header":
            return parameter.parse(self._request.headers.getlist(parameter.name))
        return parameter.parse(self._request.query_params.getlist(parameter.name))

    async def body(self, most: int) -> bytes:
        """The body; one of more than `most` bytes is not read to its end."""
        found = b""
        async for part in self._request.stream():
            found += part
            if len(found) > most:
                raise TooLarge(f"The body has more than {most} bytes.")
        return found


@dataclass(frozen=True)
class Reply:
    """A value to be sent, with the status that says what it is."""

    value: Any
    status: int = 200


Handler = Callable[[Asked], Awaitable[Reply]]


@dataclass(frozen=True)
class Endpoint:
    """One thing that can be asked for over HTTP. Its handler's docstring is its description.

    `returns` are the types of the replies, by their status; `problems` are the statuses of those
    that are a `Problem`.
    """

    method: str
    path: str
    handler: Handler
    returns: Dict[int, Any]
    parameters: Sequence[Parameter[Any]] = ()
    problems: Sequence[int] = ()
    body: Any = None

    def route(self) -> Route:
        """The endpoint as the server serves it."""

        async def serve(request: Request) -> Response:
            reply = await self.handler(Asked(request, self.parameters))
            assert reply.status in self.returns, f"{self.path} replies with {reply.status}"
            return _response(reply)

        return Route(self.path, serve, methods=[self.method])


def routes(endpoints: List[Endpoint]) -> List[Route]:
    """The routes of these endpoints."""
    return [endpoint.route() for endpoint in endpoints]


def _response(reply: Reply) -> Response:
    return Response(
        msgspec.json.encode(reply.value),
        reply.status,
        media_type="application/json",
        headers={"cache-control": "no-store"},
    )


def _problem(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handle(request: Request, error: Exception) -> Response:
        return _response(Reply(Problem(str(error)), status))

    return handle


#: What the application does with exceptions that reach it.
HANDLERS: Any = {
    BadRequest: _problem(400),
    NotFound: _problem(404),
    SessionNotFound: _problem(404),
    AmbiguousSession: _problem(409),
    TooLarge: _problem(413),
    SessionError: _problem(500),
}
