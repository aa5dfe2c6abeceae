"""The link against a real WebSocket server, which comes, goes and refuses."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from http import HTTPStatus

import msgspec
import pytest
from otf_hooks.link import Link, hello
from otf_session.address import ensure_token, serving_lock
from otf_session.commands import Applied, CommandRequest, Pause
from otf_session.events import LogLine
from otf_session.frames import (
    Batch,
    CommandDelivery,
    CommandReply,
    FromTrainer,
    Refusal,
    TrainerHello,
    TrainerWelcome,
    Viewers,
    encode,
)
from otf_session.home import Home
from otf_session.liveness import AliveLock
from websockets.sync.server import serve

from ..helpers.waiting import wait_for


class Server:
    """Takes one trainer at a time in, and keeps what it says."""

    def __init__(self, port, first=None, status=None):
        self.frames = []
        self.sockets = []
        self._first = first or TrainerWelcome(server_version="1", viewers=2)
        self._status = status
        self._server = serve(self._talk, "127.0.0.1", port, process_request=self._request)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def _request(self, connection, request):
        self.authorization = request.headers.get("Authorization")
        if self._status is not None:
            return connection.respond(self._status, "no")
        return None

    def _talk(self, socket):
        decoder = msgspec.json.Decoder(FromTrainer)
        self.sockets.append(socket)
        for message in socket:
            self.frames.append(decoder.decode(message))
            if isinstance(self.frames[-1], TrainerHello):
                socket.send(encode(self._first))

    def close(self):
        # Older versions of websockets leave open connections open.
        for connection in self.sockets:
            connection.close()
        self._server.shutdown()
        self._thread.join()


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def serving(port):
    with contextlib.ExitStack() as stack:

        def start(**options):
            server = Server(port, **options)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture
def commands():
    return []


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def link(port, commands, warnings):
    ensure_token(Home.find())
    serving = AliveLock(Home.find().path, serving_lock("127.0.0.1", port))
    assert serving.acquire()
    link = Link(
        home=Home.find(),
        host="127.0.0.1",
        port=port,
        hello=lambda: hello("session", 3, {"otf-hooks": "1"}),
        on_command=commands.append,
        warn=warnings.append,
    )
    link.start()
    yield link
    link.close()
    serving.release()


def batch(first):
    line = LogLine(time=1.0, run="r", step=1, level=20, logger="x", text="hello")
    return Batch(session="session", first=first, events=[line])


def test_it_greets_with_the_token_and_learns_who_watches(serving, link):
    server = serving()
    wait_for(lambda: link.viewers == 2, "what was asked for")
    assert isinstance(server.frames[0], TrainerHello)
    assert server.frames[0].last_seq == 3
    assert server.authorization == f"Bearer {ensure_token(Home.find())}"
    server.sockets[0].send(encode(Viewers(count=0)))
    wait_for(lambda: link.viewers == 0, "what was asked for")


def test_batches_replies_and_commands_pass(serving, link, commands):
    server = serving()
    wait_for(lambda: link.viewers == 2, "what was asked for")
    link.publish(batch(4))
    request = CommandRequest(id="c1", author="dashboard", command=Pause())
    server.sockets[0].send(encode(CommandDelivery(request=request)))
    wait_for(lambda: commands == [request], "what was asked for")
    reply = CommandReply(id="c1", session="session", outcome=Applied(step=9))
    link.reply(reply)
    wait_for(lambda: server.frames[1:] == [batch(4), reply], "what was asked for")


def test_it_finds_a_server_that_starts_later_and_one_that_was_restarted(serving, link):
    link.publish(batch(1))  # nobody there: it stays in the store
    first = serving()
    wait_for(lambda: link.viewers == 2, "what was asked for")
    assert [type(frame) for frame in first.frames] == [TrainerHello]
    first.close()
    wait_for(lambda: link.viewers == 0, "what was asked for")
    second = serving()
    wait_for(lambda: link.viewers == 2, "what was asked for")
    link.publish(batch(2))
    wait_for(lambda: second.frames[1:] == [batch(2)], "what was asked for")


def test_what_is_queued_is_sent_before_it_closes(serving, link):
    server = serving()
    wait_for(lambda: link.viewers == 2, "what was asked for")
    for first in range(1, 101):
        link.publish(batch(first))
    link.close()
    # The other side reads in a thread of its own.
    wait_for(lambda: len(server.frames) > 100, "what was sent")
    assert server.frames[1:] == [batch(first) for first in range(1, 101)]


def test_a_refusal_is_said_once(serving, link, warnings):
    serving(first=Refusal(reason="Too old.", remedy="pip install --upgrade onthefly-ai"))
    wait_for(lambda: warnings, "what was asked for")
    time.sleep(1.5)
    assert warnings == [
        "The server refuses this trainer. Too old. pip install --upgrade onthefly-ai"
    ]


def test_a_server_of_another_home_is_named_once(serving, link, warnings):
    serving(status=HTTPStatus.FORBIDDEN)
    wait_for(lambda: warnings, "what was asked for")
    time.sleep(1.5)
    assert len(warnings) == 1
    assert "another OnTheFly home" in warnings[0]
    assert "HTTP 403" in warnings[0]


def test_the_token_is_not_shown_to_a_stranger_on_the_port(serving, port, commands, warnings):
    ensure_token(Home.find())
    server = serving()
    link = Link(
        home=Home.find(),
        host="127.0.0.1",
        port=port,
        hello=lambda: hello("session", 3, {}),
        on_command=commands.append,
        warn=warnings.append,
    )
    link.start()
    wait_for(lambda: warnings, "what was asked for")
    link.close()
    assert server.frames == []
    assert not hasattr(server, "authorization")
    assert len(warnings) == 1
    assert f"Port {port} is held by something else" in warnings[0]


def test_the_token_is_not_shown_to_a_stranger_on_another_address(serving, port, commands, warnings):
    # Our server is on ::1, somebody else on the same port of 127.0.0.1.
    ensure_token(Home.find())
    ours = AliveLock(Home.find().path, serving_lock("::1", port))
    assert ours.acquire()
    server = serving()
    link = Link(
        home=Home.find(),
        host="127.0.0.1",
        port=port,
        hello=lambda: hello("session", 3, {}),
        on_command=commands.append,
        warn=warnings.append,
    )
    link.start()
    wait_for(lambda: warnings, "what was asked for")
    link.close()
    ours.release()
    assert server.frames == []
    assert not hasattr(server, "authorization")
    assert f"Port {port} is held by something else" in warnings[0]


@pytest.mark.parametrize(
    ("bound", "host"),
    [
        *(("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1")),
        *(("127.0.0.1", "localhost"), ("0.0.0.0", "localhost")),
    ],
)
def test_a_server_that_listens_there_is_found(serving, port, commands, warnings, bound, host):
    ensure_token(Home.find())
    ours = AliveLock(Home.find().path, serving_lock(bound, port))
    assert ours.acquire()
    serving()
    link = Link(
        home=Home.find(),
        host=host,
        port=port,
        hello=lambda: hello("session", 3, {}),
        on_command=commands.append,
        warn=warnings.append,
    )
    link.start()
    wait_for(lambda: link.viewers == 2, "what was asked for")
    link.close()
    ours.release()


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 100 + ".example", "a..b"])
def test_a_host_without_an_address_is_said_once(port, commands, warnings, host):
    ensure_token(Home.find())
    link = Link(
        home=Home.find(),
        host=host,
        port=port,
        hello=lambda: hello("session", 3, {}),
        on_command=commands.append,
        warn=warnings.append,
    )
    link.start()
    wait_for(lambda: warnings, "what was asked for", 30.0)
    link.close()
    assert f"The dashboard_host '{host}' has no address" in warnings[0]


def test_unreadable_frames_do_not_end_the_link(serving, link, warnings):
    server = serving()
    wait_for(lambda: link.viewers == 2, "what was asked for")
    server.sockets[0].send('{"frame": "from-the-future"}')
    wait_for(lambda: warnings, "what was asked for")
    server.sockets[0].send(encode(Viewers(count=5)))
    wait_for(lambda: link.viewers == 5, "what was asked for")


def test_closing_without_a_server_is_quick(link):
    began = time.monotonic()
    link.close()
    assert time.monotonic() - began < 2
