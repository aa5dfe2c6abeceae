"""Where a trainer and a person find the server: host, port and token."""

import ipaddress
import os
import secrets
import socket
import stat
import time
from pathlib import Path
from typing import List, Optional

from .errors import HomeUnusable, InvalidPort
from .home import Home
from .liveness import is_alive

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


def serving_lock(address: str, port: int) -> str:
    """The file in the home that its server on this numeric address and port holds a lock on.

    Whoever is about to show the token looks at it first: on a machine with several users the port
    may be held by someone else, on this address or on another one.
    """
    return f"serving-{address.replace(':', '_')}-{port}.lock"


def served_at(home: Home, host: str, port: int) -> Optional[str]:
    """The numeric address of `host` on which a server of this home is known to listen.

    None where there is none: then nothing on this port may be shown the token. Raises
    `socket.gaierror` where the host has no address.
    """
    for address in addresses_of(host, port):
        for bound in (address, *_everywhere(address)):
            # None where it cannot be told, in a home that cannot be written: then it is believed.
            if is_alive(home.path, serving_lock(bound, port)) is not False:
                return address
    return None


def addresses_of(host: str, port: int) -> List[str]:
    """The numeric addresses of a host, in the order in which they are tried.

    Raises `socket.gaierror` where it has none.
    """
    numeric = _numeric(host)
    if numeric is not None:
        return [str(numeric)]
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        # What Python raises for a name that is too long, or has an empty part.
        raise socket.gaierror(socket.EAI_NONAME, "it is no name of a host") from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def is_loopback(address: str) -> bool:
    """Whether a numeric address can be reached from this machine alone."""
    numeric = _numeric(address)
    return numeric is not None and numeric.is_loopback


def is_everywhere(address: str) -> bool:
    """Whether a numeric address, listened on, stands for all addresses of the machine."""
    numeric = _numeric(address)
    return numeric is not None and numeric.is_unspecified


def shown_host(host: str) -> str:
    """A host as it stands in an address such as `http://[::1]:47621`."""
    return f"[{host}]" if ":" in host else host


def _everywhere(address: str) -> List[str]:
    """What a server listens on that is reached at this address, and at every other one as well."""
    return ["::"] if ":" in address else ["0.0.0.0", "::"]  # noqa: S104 - looked for, not bound


def _numeric(host: str) -> "Optional[ipaddress.IPv4Address | ipaddress.IPv6Address]":
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


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


def tighten_token(home: Home) -> str:
    """Take the token file's rights from all but its owner; what is to be warned of, or nothing."""
    path = home.token_file
    if os.name != "posix" or not _is_open(path):
        return ""
    found = (
        f"The token file {path} could be read by other users of this machine. Whoever has the token "
        "sees and steers every training of this home."
    )
    try:
        path.chmod(0o600)
    except OSError as error:
        reason = error.strerror or error
    else:
        if not _is_open(path):
            return (
                f"{found} From now on only its owner can read it. For a new token, which nobody has "
                "read, end the server, delete the file and start again."
            )
        reason = "the file system keeps no rights"
    return (
        f"{found} That could not be changed ({reason}): set ONTHEFLY_HOME to a folder of your own "
        "and start again, which makes a new token there."
    )


def _is_open(path: Path) -> bool:
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)


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
