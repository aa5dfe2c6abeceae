"""What a server is started with."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from otf_session.address import is_everywhere, shown_host
from otf_session.home import Home


def package_version() -> str:
    """This package's version, which all packages of OnTheFly share."""
    return metadata.version("otf-serve")


@dataclass(frozen=True)
class Settings:
    """A server's settings; nothing in it changes while it runs."""

    home: Home
    host: str
    port: int
    token: str
    static: Path = field(default=Path(__file__).parent / "static")
    version: str = field(default_factory=package_version)

    @property
    def local_host(self) -> str:
        """The host by which this machine itself reaches the server."""
        if not is_everywhere(self.host):
            return self.host
        return "::1" if ":" in self.host else "127.0.0.1"

    @property
    def address(self) -> str:
        """Where a person on this machine finds the dashboard."""
        return self.address_at(self.local_host)

    @property
    def link(self) -> str:
        """The address with the token, which a browser exchanges for a cookie."""
        return self.link_at(self.local_host)

    def address_at(self, host: str) -> str:
        """The address under one of the machine's names or numeric addresses."""
        return f"http://{shown_host(host)}:{self.port}"

    def link_at(self, host: str) -> str:
        """The link under one of the machine's names or numeric addresses."""
        return f"{self.address_at(host)}/?token={self.token}"

    @property
    def cookie(self) -> str:
        """The cookie's name; browsers do not tell ports apart, so it holds the port."""
        return f"otf-token-{self.port}"
