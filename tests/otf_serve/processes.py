"""A server in a process of its own, and a trainer that is linked to it by a real socket."""

import json
import os
import socket
import subprocess
import sys
import threading
from typing import Any, Callable, List, Optional

import msgspec
from otf_session.address import ensure_token
from otf_session.commands import Applied, CommandRequest, Outcome
from otf_session.frames import (
    PROTOCOL,
    CommandDelivery,
    CommandProgress,
    CommandReply,
    Frame,
    ToTrainer,
    TrainerHello,
    encode,
)
from otf_session.home import Home
from otf_session.store import SessionStore
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from ..helpers.waiting import wait_for

SECONDS = 20.0
_decoder = msgspec.json.Decoder(ToTrainer)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Server:
    """A process of `otf-serve`, and what it has said."""

    def __init__(self, *words, env=None):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "otf_serve", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
        )
        self.lines = []
        self.errors = []
        self._readers = [
            threading.Thread(target=lines.extend, args=[stream], daemon=True)
            for stream, lines in (
                (self.process.stdout, self.lines),
                (self.process.stderr, self.errors),
            )
        ]
        for reader in self._readers:
            reader.start()

    def ready(self):
        """The document that it prints when it can be reached."""

        def look():
            assert self.process.poll() is None, self.end()
            return self.lines

        return json.loads(wait_for(look, "the server's first line", SECONDS)[0])

    def end(self, number=None):
        """The exit code and both streams, once it has ended."""
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(timeout=SECONDS)
        for reader in self._readers:
            reader.join(timeout=SECONDS)
        return code, "".join(self.lines), "".join(self.errors)

    def kill(self):
        """End it, whatever it does, and close its streams."""
        if self.process.poll() is None:
            self.process.kill()
        self.end()
        self.process.stdout.close()
        self.process.stderr.close()


class LiveTrainer:
    """A trainer's side of a real socket: it keeps what it is asked, and answers by `react`."""

    def __init__(self, home: Home, port: int, store: SessionStore) -> None:
        self.store = store
        self.asked: List[CommandRequest] = []
        self.react: Callable[[CommandRequest], Optional[Outcome]] = self.apply
        # Opened without a `with`: the trainer itself is one.
        self._connection = connect(
            f"ws://127.0.0.1:{port}/ws/trainer",
            additional_headers={"Authorization": f"Bearer {ensure_token(home)}"},
            open_timeout=SECONDS,
            proxy=None,
        )

    def __enter__(self) -> "LiveTrainer":
        self._socket = self._connection.__enter__()
        hello = TrainerHello(session=self.store.id, last_seq=self.store.last_seq, protocol=PROTOCOL)
        self.send(hello)
        _decoder.decode(self._socket.recv(timeout=SECONDS))
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._connection.__exit__(*error)
        self._thread.join(SECONDS)

    def apply(self, request: CommandRequest) -> Outcome:
        """Apply every command."""
        return Applied(step=120, message="Paused at step 120.")

    def send(self, frame: Frame) -> None:
        """Send a frame to the server."""
        self._socket.send(encode(frame))

    def reply(self, command_id: str, outcome: Outcome) -> None:
        """Answer a command."""
        self.send(CommandReply(id=command_id, session=self.store.id, outcome=outcome))

    def progress(self, command_id: str, done: int) -> None:
        """Say how far a command is."""
        self.send(
            CommandProgress(
                session=self.store.id, id=command_id, done=done, total=40, unit="batches"
            )
        )

    def _receive(self) -> None:
        try:
            for text in self._socket:
                frame = _decoder.decode(text)
                if isinstance(frame, CommandDelivery):
                    self.asked.append(frame.request)
                    outcome = self.react(frame.request)
                    if outcome is not None:
                        self.reply(frame.request.id, outcome)
        except ConnectionClosed:
            pass


def until_asked(trainer: LiveTrainer, number: int = 1) -> CommandRequest:
    """The newest request, once the trainer has had so many."""
    wait_for(lambda: len(trainer.asked) >= number, "a command", SECONDS)
    return trainer.asked[-1]
