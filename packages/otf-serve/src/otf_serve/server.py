"""Run the application: take the port, say when it is ready, end on Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import http.client
import json
import os
import socket
import threading
from typing import Any, Callable, Dict, Optional

import uvicorn
from otf_session.address import PORT_VARIABLE, is_everywhere, served_at, serving_lock
from otf_session.liveness import AliveLock

from .app import build
from .errors import AlreadyServed, PortTaken, ServeError
from .listening import address_to_bind
from .settings import Settings


def run(
    settings: Settings, on_ready: Callable[[], None], *, until_stdin_closes: bool = False
) -> None:
    """Serve until Ctrl-C or SIGTERM, or until whoever holds the other end of stdin is gone.

    Raises `AlreadyServed` where a server of the same home has the port, `PortTaken` where anything
    else has it.
    """
    listener = _listen(settings)
    config = uvicorn.Config(
        build(settings, on_ready),
        log_level="warning",
        access_log=False,
        # A batch that fills a long gap is larger than uvicorn's default bound.
        ws_max_size=256 * 1024 * 1024,
        # Everything stays on this machine, where compressing costs more than it saves.
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    # Told to trainers of this home: the port is ours, so the token may be shown to it.
    bound = listener.getsockname()[0]
    serving = AliveLock(settings.home.path, serving_lock(bound, settings.port))
    serving.acquire()
    if until_stdin_closes:
        threading.Thread(target=_end_with_stdin, args=[server], daemon=True).start()
    try:
        # Uvicorn ends by raising the signal that ended it; the loop it leaves behind is clean.
        with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
            server.run(sockets=[listener])
    finally:
        listener.close()
        serving.release()


def _end_with_stdin(server: uvicorn.Server) -> None:
    # The descriptor itself: a thread that waits in `sys.stdin` would keep Python from ending.
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    server.should_exit = True


def _listen(settings: Settings) -> socket.socket:
    address = address_to_bind(settings.host, settings.port)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # With the protocol named, asyncio sends small packets at once (TCP_NODELAY). Otherwise every
    # answer's second packet waits for the other side's acknowledgement, for 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if os.name == "posix":
        # So that a restart need not wait for the old connections to time out.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        if address == "::":
            # Then the port is ours on every address, of IPv4 too.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((address, settings.port))
        # Listening before the application is ready: a caller is kept waiting, not turned away.
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise _cannot_listen(settings, error) from error
    return listener


def _cannot_listen(settings: Settings, error: OSError) -> ServeError:
    if error.errno == errno.EADDRINUSE:
        return _holder(settings)
    if error.errno == errno.EACCES:
        return PortTaken(
            f"Port {settings.port} needs rights that this user does not have. Choose one above "
            f"1023: --port or {PORT_VARIABLE}."
        )
    return ServeError(
        f"The address {settings.host}:{settings.port} cannot be listened on: "
        f"{error.strerror or error}. --host 127.0.0.1 is this machine."
    )


def _holder(settings: Settings) -> ServeError:
    """Who has the port. The token is shown to it only where it is a server of this home."""
    # To listen everywhere, every address has to be free; most likely it is these that are not.
    hosts = ["127.0.0.1", "::1"] if is_everywhere(settings.host) else [settings.host]
    for host in hosts:
        ours = served_at(settings.home, host, settings.port)
        if ours is not None:
            health = _health(ours, settings.port, settings.token)
            if health is not None:
                return AlreadyServed(settings.address_at(host), int(health["pid"]), host)
    health = _health(settings.local_host, settings.port, None)
    who, where = "something else", ""
    if health is not None and health.get("app") == "otf-serve":
        who = "an otf serve of another home or user"
        where = f" ({settings.address}), which does not show the sessions of {settings.home.path}"
    return PortTaken(
        f"Port {settings.port} is taken by {who}{where}. Choose another with --port, and tell the "
        f"training scripts with {PORT_VARIABLE}."
    )


def _health(host: str, port: int, token: Optional[str]) -> Optional[Dict[str, Any]]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    connection = http.client.HTTPConnection(host, port, timeout=2.0)
    try:
        connection.request("GET", "/healthz", headers=headers)
        found = json.loads(connection.getresponse().read(65536))
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return found if isinstance(found, dict) else None
