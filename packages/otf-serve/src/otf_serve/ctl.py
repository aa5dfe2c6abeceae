"""The client of `otf ctl`: finds the server of a home, and asks it.

It is made to be quick: nothing but the standard library and the vocabulary.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, Type, TypeVar, Union
from urllib.parse import quote

import msgspec
from otf_session.address import DEFAULT_PORT, read_token, served_at, shown_host
from otf_session.commands import Command
from otf_session.errors import SessionNotFound
from otf_session.frames import CommandReply
from otf_session.home import Home

from .errors import NotReachable, RequestRefused
from .pending import Pending

#: Seconds in which the server answers what it does not have to wait for.
_ANSWER_SECONDS = 10.0
#: Seconds without any sign of a command going on, after which it is no longer waited for.
_SILENT_SECONDS = 30.0
#: Seconds between two looks at a command, where its progress is shown and where it is not.
_LOOK_SECONDS = {True: 0.25, False: 5.0}

T = TypeVar("T")
Answer = Union[CommandReply, Pending]
#: What a command is answered by, per HTTP status.
_ANSWERS: Dict[int, Any] = {200: CommandReply, 202: Pending}


class Client:
    """One connection to the server."""

    def __init__(self, host: str, port: int, token: str) -> None:
        self._address = f"{shown_host(host)}:{port}"
        self._connection = http.client.HTTPConnection(host, port)
        self._headers = {"Authorization": f"Bearer {token}", "otf-author": "otf ctl"}

    def trainers(self) -> List[str]:
        """The sessions whose trainers are connected, the newest last."""
        return self._get(List[str], "/api/trainers")

    def read(self, kind: Type[T], session: str, what: str) -> T:
        """Something of a session, such as its `snapshot?points=10`."""
        return self._get(kind, f"/api/sessions/{quote(session, safe='')}/{what}")

    def submit(self, session: str, command: Command, wait: float) -> Answer:
        """Ask for a command, and wait so many seconds for its outcome."""
        path = f"/api/sessions/{quote(session, safe='')}/commands?wait={wait:g}"
        return self._answer("POST", path, wait, msgspec.json.encode(command))

    def look(self, session: str, command_id: str, wait: float) -> Answer:
        """How far a command is, after so many seconds at most."""
        path = f"/api/sessions/{quote(session, safe='')}/commands/{quote(command_id, safe='')}"
        return self._answer("GET", f"{path}?wait={wait:g}", wait)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _answer(self, method: str, path: str, wait: float, body: Optional[bytes] = None) -> Answer:
        unsure = "What became of the command is shown by: otf ctl list"
        status, found = self._request(method, path, body, wait, unsure)
        answer: Answer = self._decoded(found, _ANSWERS[status])
        return answer

    def _get(self, kind: Type[T], path: str) -> T:
        return self._decoded(self._request("GET", path)[1], kind)

    def _request(
        self,
        method: str,
        path: str,
        body: Optional[bytes] = None,
        wait: float = 0.0,
        unsure: str = "",
    ) -> Tuple[int, bytes]:
        """The status and the body; `unsure` is what to do where the connection breaks off."""
        with self._connection_errors(unsure):
            self._connection.timeout = wait + _ANSWER_SECONDS
            if self._connection.sock is not None:
                self._connection.sock.settimeout(self._connection.timeout)
            self._connection.request(method, path, body, self._headers)
            response = self._connection.getresponse()
            found = response.read()
        if response.status in _ANSWERS:
            return response.status, found
        raise self._refused(response.status, found)

    def _refused(self, status: int, found: bytes) -> Exception:
        try:
            message = str(json.loads(found)["error"])
        except (ValueError, KeyError, TypeError):
            return NotReachable(
                f"What answers on {self._address} (HTTP {status}) is no otf serve of this version. "
                "Restart the server: otf serve"
            )
        if status in (401, 403):
            return NotReachable(f"The server on {self._address} lets nobody in. {message}")
        return RequestRefused(message, status)

    def _decoded(self, found: bytes, kind: Type[T]) -> T:
        try:
            return msgspec.json.decode(found, type=kind)
        except msgspec.DecodeError as error:
            raise NotReachable(
                f"The server on {self._address} answers what this version cannot read ({error}). "
                "Upgrade what is older, and restart the server: otf serve"
            ) from error

    @contextlib.contextmanager
    def _connection_errors(self, unsure: str) -> Iterator[None]:
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            raise NotReachable(
                f"The server on {self._address} does not answer ({error or type(error).__name__}). "
                f"Training goes on without it. Start it again: otf serve. {unsure}".rstrip(". ")
            ) from error


def find_server(home: Home, host: str, port: int) -> Client:
    """A client of this home's server; `NotReachable` where there is none.

    The token is shown to nothing but an address on which a server of this home is known to listen.
    """
    token = read_token(home)
    address = None if token is None else _served_at(home, host, port)
    if token is None or address is None:
        raise NotReachable(_no_server(home, host, port))
    return Client(address, port, token)


def choose_session(client: Client, home: Home, name: Optional[str]) -> Tuple[str, int]:
    """The session that is meant, and how many could have been.

    Without a name it is the newest one whose trainer is connected, else the newest of all.
    """
    if name is not None:
        return home.session_folder(name).name, 1
    connected = client.trainers()
    if connected:
        return connected[-1], len(connected)
    folders = home.session_folders()
    if not folders:
        raise SessionNotFound(
            f"There is no session in {home.sessions} yet. A training script makes one when it "
            "starts; `otf demo` does, too."
        )
    return folders[-1].name, 1


def follow(
    client: Client,
    session: str,
    command: Command,
    *,
    seconds: Optional[float],
    show: Optional[Callable[[Pending], None]],
) -> Answer:
    """Ask for a command, and wait for its outcome.

    `seconds` is how long at most; without it as long as there are signs of it going on. `show` is
    called with how far it is.
    """
    slice_ = _LOOK_SECONDS[show is not None]
    limit = _SILENT_SECONDS if seconds is None else seconds
    deadline = time.monotonic() + limit
    answer = client.submit(session, command, min(slice_, limit))
    while isinstance(answer, Pending):
        if show is not None:
            show(answer)
        left = deadline - time.monotonic()
        if left <= 0:
            return answer
        before = (answer.status, answer.progress)
        answer = client.look(session, answer.id, min(slice_, left))
        is_going_on = isinstance(answer, Pending) and (answer.status, answer.progress) != before
        if seconds is None and is_going_on:
            deadline = time.monotonic() + limit
    return answer


def _served_at(home: Home, host: str, port: int) -> Optional[str]:
    try:
        return served_at(home, host, port)
    except OSError as error:
        raise NotReachable(
            f"The host '{host}' has no address ({error.strerror or error}). Check --host."
        ) from error


def _no_server(home: Home, host: str, port: int) -> str:
    start = "otf serve" if port == DEFAULT_PORT else f"otf serve --port {port}"
    try:
        with socket.create_connection((host, port), timeout=1.0):
            pass
    except OSError:
        return (
            f"No otf serve of the home {home.path} is running on port {port}. Start it in another "
            f"terminal, and running trainings connect to it: {start}"
        )
    return (
        f"Port {port} of {host} is held by something else than the otf serve of the home "
        f"{home.path}. Name the server's host, port or home: --host, --port, --home."
    )
