"""Every test has a home of its own, and no port from outside."""

import pytest


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("ONTHEFLY_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.delenv("ONTHEFLY_DASHBOARD_PORT", raising=False)


@pytest.fixture
def home():
    """The test's home."""
    from otf_session.home import Home

    return Home.find()
