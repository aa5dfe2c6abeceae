import contextlib
import os
import socket
import stat
import threading

import pytest
from otf_session.address import (
    DEFAULT_PORT,
    addresses_of,
    dashboard_port,
    ensure_token,
    is_loopback,
    read_token,
    served_at,
    serving_lock,
    tighten_token,
)
from otf_session.errors import HomeUnusable, InvalidPort
from otf_session.home import Home
from otf_session.liveness import AliveLock


def test_the_port_is_what_is_given_else_the_variable_else_the_default(monkeypatch):
    assert dashboard_port() == DEFAULT_PORT == 47621
    monkeypatch.setenv("ONTHEFLY_DASHBOARD_PORT", " 5000 ")
    assert dashboard_port() == 5000
    assert dashboard_port(6000) == 6000
    monkeypatch.setenv("ONTHEFLY_DASHBOARD_PORT", "  ")
    assert dashboard_port() == DEFAULT_PORT


@pytest.mark.parametrize("port", [1, 65535])
def test_the_ends_of_the_range_are_ports(port, monkeypatch):
    assert dashboard_port(port) == port
    monkeypatch.setenv("ONTHEFLY_DASHBOARD_PORT", str(port))
    assert dashboard_port() == port


@pytest.mark.parametrize("port", [0, -1, 65536, 10**30, "5000", 5000.0])
def test_a_given_port_that_is_none_is_refused_by_its_argument_s_name(port):
    with pytest.raises(InvalidPort, match=r"dashboard_port is .*, which is no port.*1 to 65535"):
        dashboard_port(port)
    with pytest.raises(InvalidPort, match="--port is"):
        dashboard_port(port, argument="--port")


@pytest.mark.parametrize("text", ["0", "65536", "-1", "http", "47621x", "1e3", "9" * 5000])
def test_garbage_in_the_variable_is_refused_by_its_name(text, monkeypatch):
    monkeypatch.setenv("ONTHEFLY_DASHBOARD_PORT", text)
    with pytest.raises(InvalidPort, match=f"ONTHEFLY_DASHBOARD_PORT is '{text}'"):
        dashboard_port()
    assert dashboard_port(6000) == 6000


def test_there_is_no_token_before_a_server_was_started(tmp_path):
    home = Home(tmp_path / "nowhere")
    assert read_token(home) is None
    assert not home.path.exists()


def test_the_token_is_made_once(home):
    token = ensure_token(home)
    assert len(token) >= 32
    assert ensure_token(home) == token
    assert read_token(home) == token


@pytest.mark.skipif(os.name != "posix", reason="POSIX modes")
def test_only_the_owner_reads_the_token(home):
    before = os.umask(0)
    try:
        ensure_token(home)
    finally:
        os.umask(before)
    assert stat.S_IMODE(home.token_file.stat().st_mode) == 0o600


@pytest.mark.skipif(os.name != "posix", reason="POSIX modes")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o610])
def test_a_token_that_others_can_read_is_closed_and_said_once(home, mode):
    token = ensure_token(home)
    assert tighten_token(home) == ""
    home.token_file.chmod(mode)
    warning = tighten_token(home)
    assert f"The token file {home.token_file} could be read by other users" in warning
    assert "delete the file and start again" in warning
    assert stat.S_IMODE(home.token_file.stat().st_mode) == 0o600
    assert ensure_token(home) == token
    assert tighten_token(home) == ""


@pytest.mark.skipif(os.name != "posix", reason="POSIX modes")
@pytest.mark.parametrize("refuses", [True, False])
def test_a_token_that_cannot_be_closed_is_said(home, monkeypatch, refuses):
    def chmod(path, mode):
        if refuses:
            raise PermissionError(1, "Operation not permitted")

    ensure_token(home)
    home.token_file.chmod(0o644)
    monkeypatch.setattr(type(home.token_file), "chmod", chmod)
    warning = tighten_token(home)
    assert ("Operation not permitted" if refuses else "keeps no rights") in warning
    assert "set ONTHEFLY_HOME to a folder of your own" in warning


# Which address is served


@pytest.fixture
def serving(home):
    """Hold the lock of a server of this home."""
    home.ensure()
    with contextlib.ExitStack() as stack:

        def serve(address, port=4444):
            lock = AliveLock(home.path, serving_lock(address, port))
            assert lock.acquire()
            stack.callback(lock.release)

        yield serve


def test_where_nothing_is_served_there_is_no_address(home):
    home.ensure()
    assert served_at(home, "127.0.0.1", 4444) is None
    assert served_at(home, "localhost", 4444) is None


@pytest.mark.parametrize(
    ("bound", "asked", "found"),
    [
        *(("127.0.0.1", "127.0.0.1", "127.0.0.1"), ("127.0.0.1", "localhost", "127.0.0.1")),
        *(("0.0.0.0", "127.0.0.1", "127.0.0.1"), ("::", "127.0.0.1", "127.0.0.1")),
        *(("::", "::1", "::1"), ("::1", "0:0:0:0:0:0:0:1", "::1"), ("0.0.0.0", "::1", None)),
        *(("::1", "127.0.0.1", None), ("127.0.0.1", "::1", None)),
        *(("127.0.0.2", "127.0.0.1", None), ("127.0.0.1", "0.0.0.0", None)),
    ],
)
def test_a_server_is_known_on_its_own_address_alone(home, serving, bound, asked, found):
    serving(bound)
    assert served_at(home, asked, 4444) == found
    assert served_at(home, asked, 4445) is None


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 100 + ".example", "a..b", ""])
def test_a_host_without_an_address_is_an_error_of_its_kind(host):
    with pytest.raises(socket.gaierror):
        addresses_of(host, 4444)


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        *(("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("10.0.0.1", False)),
        *(("0.0.0.0", False), ("::", False), ("fe80::1", False), ("localhost", False)),
    ],
)
def test_only_loopback_is_this_machine_alone(address, loopback):
    assert is_loopback(address) is loopback


def test_homes_have_tokens_of_their_own(tmp_path):
    assert ensure_token(Home(tmp_path / "a")) != ensure_token(Home(tmp_path / "b"))


def test_of_servers_that_start_at_once_one_makes_the_token(tmp_path):
    for attempt in range(20):
        home = Home(tmp_path / str(attempt))
        barrier = threading.Barrier(4)
        found = []

        def start(home=home, barrier=barrier, found=found):
            barrier.wait(timeout=5)
            try:
                found.append(ensure_token(home))
            except HomeUnusable as error:
                found.append(error)

        threads = [threading.Thread(target=start) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=10)
        assert found == [read_token(home)] * 4


def test_a_token_that_is_just_being_written_is_waited_for(home):
    # What a server sees between another one's making the file and its writing.
    home.ensure()
    home.token_file.touch()
    writing = threading.Timer(0.1, home.token_file.write_text, ["from-another-server\n"])
    writing.start()
    try:
        assert ensure_token(home) == "from-another-server"
    finally:
        writing.join()


def test_an_empty_token_file_is_no_token(home):
    home.ensure()
    home.token_file.write_text(" \n")
    assert read_token(home) is None
    with pytest.raises(HomeUnusable, match=r"token is empty\. Delete it"):
        ensure_token(home)
    assert home.token_file.read_text() == " \n"


def test_a_token_file_that_cannot_be_read_is_said(home):
    home.ensure()
    home.token_file.mkdir()
    with pytest.raises(HomeUnusable, match="token cannot be read"):
        read_token(home)
    with pytest.raises(HomeUnusable, match="token cannot be"):
        ensure_token(home)


def test_a_token_file_that_is_no_text_is_said(home):
    home.ensure()
    home.token_file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(HomeUnusable, match="token cannot be read"):
        read_token(home)


def test_a_home_that_cannot_be_made_has_no_token(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(HomeUnusable, match="ONTHEFLY_HOME"):
        ensure_token(Home(tmp_path / "file" / "home"))
