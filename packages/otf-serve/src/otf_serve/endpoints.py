"""Endpoints: what the HTTP API consists of, as the server routes it and as it is described."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, AsyncIterator, Awaitable, Callable, Dict, List, Sequence, TypeVar

import msgspec
from otf_session import errors
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from .download import Download, NotSatisfiable
from .parameters import BadRequest, Parameter

T = TypeVar("T")


class NotFound(Exception):
    """Something that a session does not have."""


class TooLarge(Exception):
    """A body that is larger than any that could be meant, or than there is room for."""


class Conflict(Exception):
    """Something that cannot be done as things are now."""


class File(msgspec.Struct, frozen=True):
    """In place of a type of JSON: the bytes of a file."""


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

    def parts(self) -> AsyncIterator[bytes]:
        """The body as it comes, a little of it at a time."""
        return self._request.stream()

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
    """A value to be sent, with the status that says what it is.

    A `Download` is sent as the file that it is, everything else as JSON.
    """

    value: Any
    status: int = 200


Handler = Callable[[Asked], Awaitable[Reply]]


@dataclass(frozen=True)
class Endpoint:
    """One thing that can be asked for over HTTP. Its handler's docstring is its description.

    `returns` are the types of the replies, by their status; `problems` are the statuses of those
    that are a `Problem`. Either may be a `File`, like the `body`.
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

        async def serve(request: Request) -> Response | Download:
            reply = await self.handler(Asked(request, self.parameters))
            assert reply.status in self.returns, f"{self.path} replies with {reply.status}"
            return _response(reply)

        return Route(self.path, serve, methods=[self.method])


def routes(endpoints: List[Endpoint]) -> List[Route]:
    """The routes of these endpoints."""
    return [endpoint.route() for endpoint in endpoints]


def _response(reply: Reply) -> Response | Download:
    if isinstance(reply.value, Download):
        return reply.value
    return Response(
        msgspec.json.encode(reply.value),
        reply.status,
        media_type="application/json",
        headers={"cache-control": "no-store"},
    )


def _problem(status: int) -> Callable[[Request, Exception], Awaitable[Any]]:
    async def handle(request: Request, error: Exception) -> Response | Download:
        return _response(Reply(Problem(str(error)), status))

    return handle


async def _not_satisfiable(request: Request, error: NotSatisfiable) -> Any:
    response: Any = _response(Reply(Problem(str(error)), 416))
    response.headers["content-range"] = f"bytes */{error.size}"
    return response


async def _gone_away(request: Request, error: Exception) -> Any:
    """Whoever asked has gone: nobody reads this, and it is no fault of the server's."""
    return Response(status_code=400)


#: What the application does with exceptions that reach it. That something cannot be done with a
#: session as it is now is a conflict; what is asked for, or sent, and cannot be used is not
#: processable; whatever else a session's error is about is the server's own trouble.
HANDLERS: Any = {
    BadRequest: _problem(400),
    ClientDisconnect: _gone_away,
    NotFound: _problem(404),
    errors.SessionNotFound: _problem(404),
    errors.NoSuchMetrics: _problem(404),
    Conflict: _problem(409),
    errors.AmbiguousSession: _problem(409),
    errors.SessionExists: _problem(409),
    errors.SessionLive: _problem(409),
    errors.Cancelled: _problem(410),
    TooLarge: _problem(413),
    NotSatisfiable: _not_satisfiable,
    errors.BundleRefused: _problem(422),
    errors.BundleTooNew: _problem(422),
    errors.InvalidName: _problem(422),
    errors.NotExported: _problem(422),
    errors.NotImported: _problem(422),
    errors.NotWritten: _problem(422),
    errors.SessionError: _problem(500),
}
