"""Which address is listened on, and from where it can be reached."""

from __future__ import annotations

import contextlib
import socket
from typing import List

from otf_session.address import addresses_of, is_everywhere, is_loopback

from .errors import RemoteNotAllowed, ServeError

#: Reserved for documentation: nothing is sent there, it is only asked which way that would go.
_FAR_AWAY = "192.0.2.1"


def address_to_bind(host: str, port: int) -> str:
    """The numeric address of a host, of IPv4 where it has one: that is where trainers look."""
    try:
        found = addresses_of(host, port)
    except OSError as error:
        raise ServeError(
            f"The address {host}:{port} cannot be listened on: {error.strerror or error}. "
            "--host 127.0.0.1 is this machine."
        ) from error
    return next((address for address in found if ":" not in address), found[0])


def check_reach(host: str, port: int, *, allow_remote: bool) -> str:
    """Refuse what other machines could reach, unless that is wanted; then what to warn of."""
    address = address_to_bind(host, port)
    if is_loopback(address):
        return ""
    if not allow_remote:
        raise RemoteNotAllowed(
            f"--host {host} can be reached from other machines, and the server is made for this one. "
            f"From another machine, use a tunnel: ssh -L {port}:127.0.0.1:{port} HOST. To listen "
            "on the network nevertheless, add --allow-remote."
        )
    return (
        f"{host}:{port} can be reached from other machines. Whoever has the token sees and steers "
        "every training of this home, and it travels unencrypted: allow this on a network that you "
        f"trust alone. A tunnel is safer: ssh -L {port}:127.0.0.1:{port} HOST"
    )


def remote_hosts(host: str, port: int) -> List[str]:
    """What another machine may call this server; nothing where it cannot reach it."""
    address = address_to_bind(host, port)
    if is_loopback(address):
        return []
    if not is_everywhere(address):
        return [host]
    return [_outward_address() or socket.gethostname()]


def _outward_address() -> str:
    """This machine's address on the way to others; empty where there is no way."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((_FAR_AWAY, 9))
        return str(probe.getsockname()[0])
    return ""
