"""What a server is started with."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

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
    def address(self) -> str:
        """Where a person finds the dashboard."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def link(self) -> str:
        """The address with the token, which a browser exchanges for a cookie."""
        return f"{self.address}/?token={self.token}"

    @property
    def cookie(self) -> str:
        """The cookie's name; browsers do not tell ports apart, so it holds the port."""
        return f"otf-token-{self.port}"
