"""Every test has a home of its own, and no port from outside."""

import signal

import pytest

# Started in a shell's background, Python finds Ctrl-C ignored, and so would the scripts that tests
# start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("ONTHEFLY_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.delenv("ONTHEFLY_DASHBOARD_PORT", raising=False)


@pytest.fixture
def home():
    """The test's home."""
    from otf_session.home import Home

    return Home.find()
