from __future__ import annotations

from typing import Any, Callable, Iterator

import pytest
from otf_serve.settings import Settings
from otf_session.home import Home
from otf_session.store import SessionStore

from ..helpers.sessions import make_session
from .peers import BEARER, TestClient, serve, settings_for
from .processes import Server, free_port


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server sees on disk by itself, it sees soon."""
    monkeypatch.setattr("otf_serve.watch._IDLE_SECONDS", 0.2)
    monkeypatch.setattr("otf_serve.watch._BUSY_SECONDS", 0.05)


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """Start servers, which all end with the test."""
    servers = []

    def start(*words: Any, **options: Any) -> Server:
        servers.append(Server(*words, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def port() -> int:
    """A port that was free a moment ago."""
    return free_port()


@pytest.fixture
def settings(home: Home) -> Settings:
    return settings_for(home)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    """A client without a token, of a running server."""
    with serve(settings) as client:
        yield client


@pytest.fixture
def api(client: TestClient) -> TestClient:
    """The same client with the token."""
    client.headers.update(BEARER)
    return client


@pytest.fixture
def make(home: Home) -> Iterator[Callable[..., SessionStore]]:
    """Make sessions with these events; they are closed in the end."""
    made = []

    def make(*events: Any, **options: Any) -> SessionStore:
        made.append(make_session(home, *events, **options))
        return made[-1]

    yield make
    for store in made:
        store.close()
