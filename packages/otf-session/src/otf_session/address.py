"""Where a trainer and a person find the server: host, port and token."""

import os
import secrets
import time
from typing import Optional

from .errors import HomeUnusable, InvalidPort
from .home import Home

PORT_VARIABLE = "ONTHEFLY_DASHBOARD_PORT"
DEFAULT_PORT = 47621
DEFAULT_HOST = "127.0.0.1"

_HIGHEST_PORT = 65535
#: Seconds that another server may take to write the token it makes.
_TOKEN_SECONDS = 1.0


def dashboard_port(given: Optional[int] = None, *, argument: str = "dashboard_port") -> int:
    """The port that was given, else the one in `$ONTHEFLY_DASHBOARD_PORT`, else 47621.

    `argument` is what the caller calls `given`; `InvalidPort` names it.
    """
    if given is not None:
        return _checked(given, argument, shown=given)
    text = os.environ.get(PORT_VARIABLE)
    if text is None or not text.strip():
        return DEFAULT_PORT
    try:
        number = int(text)
    except ValueError:
        number = -1
    return _checked(number, PORT_VARIABLE, shown=text)


def serving_lock(port: int) -> str:
    """The file in the home that its server on this port holds a lock on.

    Whoever is about to show the token to a port looks at it first: on a machine with several users
    the port may be held by someone else.
    """
    return f"serving-{port}.lock"


def read_token(home: Home) -> Optional[str]:
    """The token of the server of this home, or None where no server was ever started."""
    try:
        return home.token_file.read_text(encoding="ascii").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise HomeUnusable(
            f"The token file {home.token_file} cannot be read: {reason}. "
            "It belongs to the user who first ran `otf serve`."
        ) from error


def ensure_token(home: Home) -> str:
    """The token of this home; made, readable by its owner only, where there is none yet."""
    home.ensure()
    try:
        # O_EXCL: of two servers that start at once, one makes the token and the other reads it.
        descriptor = os.open(home.token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        existing = _wait_for_token(home)
        if existing is None:
            raise HomeUnusable(
                f"The token file {home.token_file} is empty. Delete it and start again."
            ) from None
        return existing
    except OSError as error:
        raise HomeUnusable(
            f"The token file {home.token_file} cannot be written: {error.strerror or error}."
        ) from error
    token = secrets.token_urlsafe(32)
    with os.fdopen(descriptor, "w") as file:
        file.write(token + "\n")
    return token


def _wait_for_token(home: Home) -> Optional[str]:
    # The other server makes the file and then writes it: for a moment it is empty.
    deadline = time.monotonic() + _TOKEN_SECONDS
    while True:
        token = read_token(home)
        if token is not None or time.monotonic() > deadline:
            return token
        time.sleep(0.01)


def _checked(port: int, name: str, *, shown: object) -> int:
    if not isinstance(port, int) or not 1 <= port <= _HIGHEST_PORT:
        raise InvalidPort(f"{name} is {shown!r}, which is no port. Use a number from 1 to 65535.")
    return port
