import os
import stat
import threading

import pytest
from otf_session.address import DEFAULT_PORT, dashboard_port, ensure_token, read_token
from otf_session.errors import HomeUnusable, InvalidPort
from otf_session.home import Home


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
