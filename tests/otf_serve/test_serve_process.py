"""The server as people start and end it: a process with exit codes and two streams."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import msgspec
import pytest
from otf_serve.cli import app
from otf_session.address import ensure_token
from otf_session.events import RunState
from otf_session.frames import (
    PROTOCOL,
    Batch,
    DashboardWelcome,
    Subscribe,
    ToDashboard,
    TrainerHello,
    encode,
)
from otf_session.home import Home
from websockets.sync.client import connect

from ..helpers.sessions import line, make_session, started, state
from ..helpers.shell import invoke, modules_after, undocumented
from ..helpers.waiting import wait_for
from .processes import SECONDS

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")


def get(port, path, token, **headers):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {token}", **headers}
    )
    with urllib.request.urlopen(request, timeout=SECONDS) as response:
        return json.loads(response.read())


def dashboard(port, token, path="/ws/dashboard"):
    return connect(
        f"ws://127.0.0.1:{port}{path}",
        additional_headers={"Authorization": f"Bearer {token}"},
        open_timeout=SECONDS,
        proxy=None,
    )


# Starting


def test_it_says_where_it_is_when_it_can_be_reached(start, port, home):
    server = start("--json", "--port", port)
    ready = server.ready()
    assert ready == {
        "address": f"http://127.0.0.1:{port}",
        "token_file": str(home.token_file),
        "pid": server.process.pid,
        "already_running": False,
    }
    token = Path(ready["token_file"]).read_text().strip()
    assert get(port, "/healthz", token)["pid"] == server.process.pid
    assert token not in "".join(server.lines)


def test_without_json_it_prints_the_link(start, port, home):
    server = start("--port", port)
    wait_for(lambda: len(server.lines) > 1, "two lines", SECONDS)
    link = re.search(r"http://\S+", server.lines[0]).group()
    assert link == f"http://127.0.0.1:{port}/?token={ensure_token(home)}"
    assert str(home.path) in server.lines[1]
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=SECONDS)
    assert refused.value.code == 401
    refused.value.close()


def test_the_port_and_the_home_may_come_from_the_environment(start, port, tmp_path):
    server = start(
        "--json",
        env={"ONTHEFLY_DASHBOARD_PORT": str(port), "ONTHEFLY_HOME": str(tmp_path / "there")},
    )
    ready = server.ready()
    assert ready["address"].endswith(f":{port}")
    assert ready["token_file"] == str(tmp_path / "there" / "token")


def test_it_may_listen_on_ipv6(start, port, home):
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6")
    server = start("--json", "--host", "::1", "--port", port)
    assert server.ready()["address"] == f"http://[::1]:{port}"
    again = start("--json", "--host", "::1", "--port", port)
    code, out, _ = again.end()
    assert (code, json.loads(out)["already_running"]) == (0, True)


# Starting twice


def test_a_second_start_of_the_same_home_finds_the_first(start, port, home):
    first = start("--json", "--port", port)
    ready = first.ready()
    code, out, errors = start("--json", "--port", port).end()
    assert (code, errors) == (0, "")
    assert json.loads(out) == {**ready, "already_running": True}
    code, out, errors = start("--port", port).end()
    assert (code, errors) == (0, "")
    assert out == f"otf serve is already running: {ready['address']}/?token={ensure_token(home)}\n"
    assert first.process.poll() is None


def refused(server):
    """The one line with which it ends."""
    code, out, errors = server.end()
    assert (code, out) == (1, "")
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    return errors


@pytest.mark.parametrize("words", [["--json"], []])
def test_a_server_of_another_home_has_the_port(start, port, tmp_path, words):
    start("--json", "--port", port).ready()
    message = refused(start(*words, "--port", port, "--home", tmp_path / "other"))
    assert f"Port {port} is taken by an otf serve of another home" in message
    assert f"http://127.0.0.1:{port}" in message
    assert f"does not show the sessions of {tmp_path / 'other'}" in message
    assert "--port" in message
    assert "ONTHEFLY_DASHBOARD_PORT" in message


@contextlib.contextmanager
def listening(port, answer):
    """Something that is not ours on the port; it answers every connection with these bytes."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        listener.settimeout(SECONDS)

        def serve():
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        if answer is not None:
            thread.start()
        yield
    if answer is not None:
        thread.join(timeout=SECONDS)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nno\xff\xfe!",
    ],
    ids=["silent", "empty", "not HTTP", "other JSON", "no JSON"],
)
def test_something_else_has_the_port(start, port, answer):
    with listening(port, answer):
        message = refused(start("--json", "--port", port))
    assert f"Port {port} is taken by something else" in message
    assert "ONTHEFLY_DASHBOARD_PORT" in message


# Starting in vain


@pytest.mark.parametrize("number", [0, 65536, -1])
def test_a_number_that_is_no_port_is_refused(number):
    result = invoke(app, "--port", number)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"error: --port is {number}, which is no port. Use a number from 1 to 65535.\n"
    )


def test_garbage_in_the_environment_is_refused(monkeypatch):
    monkeypatch.setenv("ONTHEFLY_DASHBOARD_PORT", "http")
    result = invoke(app)
    assert result.exit_code == 1
    assert "ONTHEFLY_DASHBOARD_PORT is 'http'" in result.stderr


def test_a_word_for_a_port_is_a_misuse():
    assert invoke(app, "--port", "http").exit_code == 2


def test_a_home_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    result = invoke(app, "--home", tmp_path / "file")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "cannot be used" in result.stderr


def test_an_address_of_another_machine_is_refused(port):
    result = invoke(app, "--host", "192.0.2.1", "--port", port, "--allow-remote")
    assert result.exit_code == 1
    assert f"192.0.2.1:{port} cannot be listened on" in result.stderr


@pytest.mark.parametrize("host", ["nowhere.invalid", "a..b", ""])
def test_a_host_without_an_address_is_refused(port, host):
    result = invoke(app, "--host", host, "--port", port)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{host}:{port} cannot be listened on" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_other_machines_are_not_let_in_by_the_way(port, home, host):
    result = invoke(app, "--host", host, "--port", port)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "can be reached from other machines" in result.stderr
    assert f"ssh -L {port}:127.0.0.1:{port}" in result.stderr
    assert "--allow-remote" in result.stderr
    assert not home.token_file.exists()


def test_other_machines_are_let_in_where_that_is_said(start, port, home):
    server = start("--host", "0.0.0.0", "--allow-remote", "--port", port)
    wait_for(lambda: len(server.lines) > 2, "three lines", SECONDS)
    token = ensure_token(home)
    assert server.lines[0] == f"OnTheFly dashboard: http://127.0.0.1:{port}/?token={token}\n"
    other = re.fullmatch(r"From other machines: http://(.+):\d+/\?token=.+\n", server.lines[1])
    assert other.group(1) not in ("0.0.0.0", "127.0.0.1")
    assert get(port, "/healthz", token)["pid"] == server.process.pid
    code, out, _ = start("--json", "--port", port).end()
    assert (code, json.loads(out)["address"]) == (0, f"http://127.0.0.1:{port}")
    code, _, errors = server.end(signal.SIGTERM)
    assert errors.startswith(f"warning: 0.0.0.0:{port} can be reached from other machines")
    assert "unencrypted" in errors
    assert errors.count("\n") == 1


def test_who_wants_every_address_finds_the_server_that_has_one(start, port):
    ready = start("--json", "--port", port).ready()
    code, out, _ = start("--json", "--host", "0.0.0.0", "--allow-remote", "--port", port).end()
    assert (code, json.loads(out)) == (0, {**ready, "already_running": True})


@pytest.mark.parametrize("named", [True, False])
def test_a_home_that_cannot_be_read_is_refused_however_it_is_named(home, monkeypatch, named):
    def denied(path):
        raise PermissionError(13, "Permission denied")

    home.ensure()
    # Root may read everything: the system's answers to somebody else.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(os, "listdir", denied)
    result = invoke(app, *(["--home", home.path] if named else []))
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"The OnTheFly home {home.path} cannot be used: Permission denied" in result.stderr


def test_a_token_that_others_could_read_is_said(start, port, home):
    ensure_token(home)
    home.token_file.chmod(0o644)
    server = start("--json", "--port", port)
    server.ready()
    assert home.token_file.stat().st_mode & 0o777 == 0o600
    _, _, errors = server.end(signal.SIGTERM)
    assert errors.startswith(f"warning: The token file {home.token_file} could be read")
    assert errors.count("\n") == 1


# Ending with others


def test_it_ends_when_its_standard_input_closes(port):
    process = subprocess.Popen(
        [sys.executable, "-m", "otf_serve", "--json", "--until-stdin-closes", "--port", str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert json.loads(process.stdout.readline())["pid"] == process.pid
        process.stdin.write(b"whatever\n")
        process.stdin.flush()
        time.sleep(0.5)
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(timeout=SECONDS) == 0
        assert process.stderr.read() == b""
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def test_without_being_told_it_stays_whatever_its_input_does(start, port):
    server = start("--json", "--port", port)
    server.ready()
    time.sleep(0.5)
    assert server.process.poll() is None


@pytest.mark.parametrize("words", [["--json"], []])
def test_a_reader_that_is_gone_is_no_fault(port, home, words):
    read, write = os.pipe()
    os.close(read)
    process = subprocess.Popen(
        [sys.executable, "-m", "otf_serve", *words, "--port", str(port)],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    try:
        # What it shows may be looked at nevertheless.
        wait_for(lambda: _answers(port, ensure_token(home)), "the server", SECONDS)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    assert errors == ""


def _answers(port, token):
    try:
        return get(port, "/healthz", token)
    except OSError:
        return None


# Ending


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
@pytest.mark.parametrize("watched", [False, True], ids=["alone", "watched"])
def test_a_signal_ends_it_soon_and_quietly(start, port, home, number, watched):
    store = make_session(home, started(), line(1))
    store.close()
    server = start("--json", "--port", port)
    server.ready()
    with contextlib.ExitStack() as stack:
        if watched:
            viewer = stack.enter_context(dashboard(port, ensure_token(home)))
            viewer.recv(timeout=SECONDS)
            viewer.send(encode(Subscribe(session=store.id, after=0)))
            while b'"batch"' not in viewer.recv(timeout=SECONDS, decode=False):
                pass
        begin = time.monotonic()
        code, _, errors = server.end(number)
        assert time.monotonic() - begin < 3
    assert code in (0, -number)
    assert "Traceback" not in errors
    assert errors == ""


def test_a_command_under_way_does_not_keep_it(start, port, home):
    store = make_session(home, started())
    store.close()
    server = start("--json", "--port", port)
    server.ready()
    token = ensure_token(home)
    with dashboard(port, token, "/ws/trainer") as trainer, socket.socket() as script:
        trainer.send(encode(TrainerHello(session=store.id, last_seq=1, protocol=PROTOCOL)))
        trainer.recv(timeout=SECONDS)
        script.connect(("127.0.0.1", port))
        body = '{"kind": "pause"}'
        script.sendall(
            f"POST /api/sessions/{store.id}/commands HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        assert '"pause"' in trainer.recv(timeout=SECONDS)
        begin = time.monotonic()
        code, _, errors = server.end(signal.SIGTERM)
        assert time.monotonic() - begin < 3
    assert code in (0, -signal.SIGTERM)
    assert "Traceback" not in errors


def test_the_port_is_free_again_at_once(start, port, home):
    for _ in range(2):
        server = start("--json", "--port", port)
        server.ready()
        with dashboard(port, ensure_token(home)) as viewer:
            viewer.recv(timeout=SECONDS)
            server.end(signal.SIGTERM)


# Serving


def test_sessions_and_events_come_over_real_sockets(start, port, home):
    store = make_session(home, started(), *[line(number) for number in range(1, 1500)])
    store.append([state(RunState.FINISHED, step=1499)])
    store.close()
    start("--json", "--port", port).ready()
    token = ensure_token(home)
    (summary,) = get(port, "/api/sessions", token)
    assert (summary["id"], summary["state"]) == (store.id, "finished")
    decoder = msgspec.json.Decoder(ToDashboard)
    with dashboard(port, token) as viewer:
        welcome = decoder.decode(viewer.recv(timeout=SECONDS))
        assert isinstance(welcome, DashboardWelcome)
        viewer.send(encode(Subscribe(session=store.id, after=0)))
        found = []
        while len(found) < 1501:
            frame = decoder.decode(viewer.recv(timeout=SECONDS))
            if isinstance(frame, Batch):
                assert frame.first == len(found) + 1
                found += frame.events
    assert found == [
        started(),
        *[line(number) for number in range(1, 1500)],
        state(RunState.FINISHED, step=1499),
    ]


def test_a_stranger_s_socket_is_refused_by_http(start, port):
    from websockets.exceptions import InvalidStatus

    start("--json", "--port", port).ready()
    with pytest.raises(InvalidStatus) as caught, dashboard(port, "wrong"):
        pass
    assert caught.value.response.status_code == 403


# The command itself


def test_every_option_is_explained():
    assert undocumented(app) == []


def test_help_is_quick():
    heavy = ["torch", "starlette", "uvicorn", "peewee", "msgspec", "asyncio"]
    assert modules_after("import otf_serve.cli", heavy) == []
    words = "import otf_serve.cli as cli; cli.app(['--help'])"
    assert modules_after(words, ["torch", "starlette", "uvicorn", "peewee", "msgspec"]) == []


def test_the_server_needs_no_torch():
    words = "import otf_serve.server, otf_serve.cli"
    assert modules_after(words, ["torch", "uvicorn", "otf_hooks"]) == ["uvicorn"]


def test_a_browser_that_is_not_there_is_said(monkeypatch, capsys, home):
    from otf_serve import cli

    opened = []
    monkeypatch.setattr("webbrowser.open", lambda link: opened.append(link))
    cli._open("http://127.0.0.1:1/?token=t")
    assert opened == ["http://127.0.0.1:1/?token=t"]
    assert "No browser was found" in capsys.readouterr().err


def test_homes_are_told_apart_by_their_folder(start, port, tmp_path):
    # The same token, but another folder: no server of this home.
    one, two = Home(tmp_path / "one"), Home(tmp_path / "two")
    token = ensure_token(one)
    two.ensure()
    two.token_file.write_text(token)
    two.token_file.chmod(0o600)
    start("--json", "--port", port, "--home", one.path).ready()
    message = refused(start("--json", "--port", port, "--home", two.path))
    assert "an otf serve of another home" in message
