from __future__ import annotations

from typing import Any, Callable, Iterator

import pytest
from otf_serve.settings import Settings
from otf_session.home import Home
from otf_session.store import SessionStore

from ..helpers.sessions import make_session
from .peers import BEARER, TestClient, serve, settings_for


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server sees on disk by itself, it sees soon."""
    monkeypatch.setattr("otf_serve.watch._IDLE_SECONDS", 0.2)
    monkeypatch.setattr("otf_serve.watch._BUSY_SECONDS", 0.05)


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
