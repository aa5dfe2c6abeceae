"""Who may talk to the server: every request and every socket passes here first.

- The `Host` must name this machine, as a defence against DNS rebinding: a web page can have a name
  of its own resolved to 127.0.0.1, but it cannot make the browser send another name. An IP address
  as host is no name and cannot be rebound.
- An `Origin`, which browsers send with sockets and with requests across sites, must be the server's.
- The token must be there, as `Authorization: Bearer`, or in the cookie that the link from the
  terminal is exchanged for. A cookie opens a socket only together with an `Origin`.
"""

from __future__ import annotations

import html
import ipaddress
import secrets
import socket
from typing import NamedTuple, Optional
from urllib.parse import urlsplit

import msgspec
from starlette.datastructures import Headers, QueryParams
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .endpoints import Denied
from .settings import Settings

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_SECURITY_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    # The link from the terminal holds the token.
    (b"referrer-policy", b"no-referrer"),
]


#: What a browser shows to a person who comes without the token: no script, no style.
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="color-scheme" content="light dark">
<meta name="viewport" content="width=device-width">
<title>OnTheFly: open the link from the terminal</title>
</head>
<body>
<h1>This dashboard opens with its link</h1>
<p>{reason}</p>
<p>Type <code>otf serve</code> in a terminal, with the same <code>--port</code> and
<code>--home</code> as before, and open the link that it prints. Where the server runs already,
it prints the link again and changes nothing.</p>
</body>
</html>
"""


class Denial(NamedTuple):
    """Why a request is not served."""

    status: int
    message: str


class Guard:
    """ASGI middleware that lets through only what comes from the person who owns the home."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, exchange the link for a cookie, or deny it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if scope["type"] == "http":
            send = _with_security_headers(send)
        denial = self._check(scope)
        if denial is not None:
            await _deny(denial, scope, receive, send)
        elif scope["type"] == "http" and scope["path"] == "/" and self._token_in_query(scope):
            await self._set_cookie(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> Optional[Denial]:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not _is_this_machine(_name_of(host), self._settings.host):
            return Denial(403, f"The host '{host}' is not this machine.")
        origin = headers.get("origin")
        if origin is not None and not _is_same_origin(origin, host):
            return Denial(403, f"The origin '{origin}' is not this server.")
        if self._is_token(_bearer(headers)):
            return None
        if self._is_token(_cookie(scope, self._settings.cookie)):
            if scope["type"] == "websocket" and origin is None:
                return Denial(403, "A socket opened with a cookie must say its origin.")
            return None
        if scope["type"] == "http" and scope["path"] == "/" and self._token_in_query(scope):
            return None
        return Denial(
            401,
            "The token is missing or wrong. Open the link that `otf serve` prints, or send the "
            "token of this home in an Authorization header.",
        )

    def _is_token(self, given: Optional[str]) -> bool:
        # Compared as bytes: compare_digest refuses text that is not ASCII.
        expected = self._settings.token.encode()
        return given is not None and secrets.compare_digest(given.encode(), expected)

    def _token_in_query(self, scope: Scope) -> bool:
        return self._is_token(QueryParams(scope["query_string"]).get("token"))

    async def _set_cookie(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Redirected, so that the token does not stay in the address bar and the history. "lax",
        # because a "strict" cookie would be withheld from the redirect when the link was followed
        # from a notebook's page.
        response = RedirectResponse("/", status_code=303)
        response.set_cookie(
            self._settings.cookie, self._settings.token, httponly=True, samesite="lax"
        )
        await response(scope, receive, send)


async def _deny(denial: Denial, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        # Closed before it was accepted: the peer sees HTTP status 403.
        await send({"type": "websocket.close", "code": 1008, "reason": denial.message})
        return
    if scope["path"] == "/" and "text/html" in Headers(scope=scope).get("accept", ""):
        # Never kept: the next visit may bring the token.
        page = HTMLResponse(
            _PAGE.format(reason=html.escape(denial.message)),
            denial.status,
            headers={"cache-control": "no-store"},
        )
        await page(scope, receive, send)
        return
    body = msgspec.to_builtins(Denied(denial.message))
    await JSONResponse(body, status_code=denial.status)(scope, receive, send)


def _with_security_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *_SECURITY_HEADERS]
        await send(message)

    return wrapped


def _name_of(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_this_machine(name: str, bound: str) -> bool:
    if name in ("localhost", bound.lower(), socket.gethostname().lower()):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_same_origin(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()


def _bearer(headers: Headers) -> Optional[str]:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def _cookie(scope: Scope, name: str) -> Optional[str]:
    # Not by `http.cookies`: it drops all cookies where one, of another port's server, is unusual.
    return HTTPConnection(scope).cookies.get(name)
