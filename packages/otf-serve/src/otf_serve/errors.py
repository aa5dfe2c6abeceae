"""What can go wrong with the server, in words for the person who starts it or asks it.

ServeError
├── PortTaken           something else listens on the port
├── RemoteNotAllowed    other machines could reach the address, and nobody said that they may
├── AlreadyServed       a server of this home listens on it: no fault, but the end of this start
├── NotReachable        no server of this home answers
└── RequestRefused      the server does not do what it was asked, with its HTTP status
"""


class ServeError(Exception):
    """The root of this package's errors: its message is meant for the user."""


class PortTaken(ServeError):
    """The port belongs to something else."""


class RemoteNotAllowed(ServeError):
    """Other machines could reach the address."""


class AlreadyServed(ServeError):
    """This home is being served already, at `address` on `host` by the process `pid`."""

    def __init__(self, address: str, pid: int, host: str) -> None:
        super().__init__(f"otf serve is already running at {address}")
        self.address = address
        self.pid = pid
        self.host = host


class NotReachable(ServeError):
    """No server of this home answers on the port."""


class RequestRefused(ServeError):
    """The server does not do what it was asked."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
