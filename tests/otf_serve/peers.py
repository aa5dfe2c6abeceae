"""A server in the test's own process, and peers that talk to it through real sockets' frames."""

import concurrent.futures
import contextlib
import threading
import time
import warnings
from typing import Any, Iterator, List, Optional, Sequence, Tuple

import anyio
import msgspec
from otf_serve.app import build
from otf_serve.settings import Settings
from otf_session.commands import Applied, CommandRequest, Outcome
from otf_session.events import CommandChanged, CommandStatus
from otf_session.frames import (
    PROTOCOL,
    Batch,
    CommandDelivery,
    CommandProgress,
    CommandReply,
    Frame,
    Subscribe,
    ToDashboard,
    ToTrainer,
    TrainerHello,
    encode,
)
from otf_session.home import Home
from otf_session.store import SessionStore

from ..helpers.sessions import BEGIN, RUN

with warnings.catch_warnings():
    # Starlette 1 would rather have a successor of httpx, which the older ones do not know.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

TOKEN = "token-of-the-tests"
PORT = 4444
HOST = f"127.0.0.1:{PORT}"
BEARER = {"authorization": f"Bearer {TOKEN}"}
SECONDS = 10.0


def settings_for(home: Home, **changes: Any) -> Settings:
    return Settings(**{"home": home, "host": "127.0.0.1", "port": PORT, "token": TOKEN, **changes})


@contextlib.contextmanager
def serve(settings: Settings) -> Iterator[TestClient]:
    """An HTTP client of a running server; what goes wrong in the server is raised here."""
    base = f"http://127.0.0.1:{settings.port}"
    with TestClient(build(settings), base_url=base, follow_redirects=False) as client:
        yield client


class Peer:
    """The client's end of a socket. It waits for a frame only so long."""

    def __init__(self, session: Any, decoder: "msgspec.json.Decoder[Any]") -> None:
        self._session = session
        self._decoder = decoder

    def send(self, frame: Frame) -> None:
        self._session.send_text(encode(frame))

    def send_text(self, text: str) -> None:
        self._session.send_text(text)

    def send_bytes(self, data: bytes) -> None:
        self._session.send_bytes(data)

    def message(self, seconds: float = SECONDS) -> Any:
        """The next ASGI message from the server."""

        async def receive() -> Any:
            with anyio.fail_after(seconds):
                return await self._session._send_rx.receive()

        return self._session.portal.call(receive)

    def next(self, seconds: float = SECONDS) -> Any:
        """The next frame, whatever it is."""
        message = self.message(seconds)
        assert message["type"] == "websocket.send", message
        return self._decoder.decode(message["text"])

    def get(self, kind: Any, matches: Any = lambda frame: True) -> Any:
        """The next frame of a kind that matches; what comes before it is dropped."""
        deadline = time.monotonic() + SECONDS
        while True:
            frame = self.next(max(0.01, deadline - time.monotonic()))
            if isinstance(frame, kind) and matches(frame):
                return frame


@contextlib.contextmanager
def connect(client: TestClient, path: str, **headers: str) -> Iterator[Any]:
    """A socket, opened with these headers alone."""
    session = client.websocket_connect(f"ws://{HOST}{path}", headers=headers)
    session.__enter__()
    try:
        yield session
    finally:
        # The client cancels the server's task right after it has said that it goes.
        with contextlib.suppress(concurrent.futures.CancelledError):
            session.__exit__(None, None, None)


class Trainer(Peer):
    """A trainer's side: it appends to its store, and then publishes."""

    def __init__(self, session: Any, store: SessionStore) -> None:
        super().__init__(session, msgspec.json.Decoder(ToTrainer))
        self.store = store

    def hello(self, **changes: Any) -> None:
        said = {
            "session": self.store.id,
            "last_seq": self.store.last_seq,
            "protocol": PROTOCOL,
            "versions": {"otf-hooks": "9.9.9"},
        }
        self.send(TrainerHello(**{**said, **changes}))

    def append(self, *events: Any) -> Batch:
        first = self.store.append(events)
        return Batch(session=self.store.id, first=first, events=list(events))

    def publish(self, *events: Any) -> None:
        self.send(self.append(*events))

    def receive(self) -> CommandRequest:
        """The next command."""
        delivery: CommandDelivery = self.get(CommandDelivery)
        return delivery.request

    def answer(self, outcome: Outcome) -> CommandDelivery:
        """Answer the next command."""
        delivery: CommandDelivery = self.get(CommandDelivery)
        self.reply(delivery.request.id, outcome)
        return delivery

    def reply(self, command_id: str, outcome: Outcome) -> None:
        """Answer a command."""
        self.send(CommandReply(id=command_id, session=self.store.id, outcome=outcome))

    def progress(self, command_id: str, done: int, total: int = 40) -> CommandProgress:
        """Say how far a command is."""
        frame = CommandProgress(
            session=self.store.id, id=command_id, done=done, total=total, unit="batches"
        )
        self.send(frame)
        return frame

    def record(self, request: CommandRequest, outcome: Optional[Outcome] = None) -> None:
        """Publish what the record says of a command: that it is received, or how it ended."""
        status = CommandStatus.RECEIVED
        if outcome is not None:
            is_applied = isinstance(outcome, Applied)
            status = CommandStatus.APPLIED if is_applied else CommandStatus.REFUSED
        self.publish(changed(request, status, outcome))


def changed(
    request: CommandRequest, status: CommandStatus, outcome: Optional[Outcome] = None
) -> CommandChanged:
    """A command in the record."""
    return CommandChanged(
        time=BEGIN,
        run=RUN,
        step=1,
        id=request.id,
        author=request.author,
        command=request.command,
        status=status,
        outcome=outcome,
    )


@contextlib.contextmanager
def trainer_of(client: TestClient, store: SessionStore) -> Iterator[Trainer]:
    """A trainer's socket on which nothing has been said yet."""
    with connect(client, "/ws/trainer", **BEARER) as session:
        yield Trainer(session, store)


@contextlib.contextmanager
def joined(client: TestClient, store: SessionStore) -> Iterator[Trainer]:
    """A trainer that the server has taken in."""
    with trainer_of(client, store) as trainer:
        trainer.hello()
        trainer.welcome = trainer.next()
        yield trainer


class Viewer(Peer):
    """A dashboard's side."""

    def __init__(self, session: Any) -> None:
        super().__init__(session, msgspec.json.Decoder(ToDashboard))
        self.welcome = self.next()

    def subscribe(self, store: SessionStore, after: int = 0) -> None:
        self.send(Subscribe(session=store.id, after=after))

    def events(self, store: SessionStore, last: int, after: int = 0) -> List[Any]:
        """The session's events up to `last`; none may be missing, doubled or out of order."""
        found: List[Any] = []
        while after + len(found) < last:
            batch = self.get(Batch, lambda frame: frame.session == store.id)
            assert batch.first == after + len(found) + 1
            assert batch.events
            found += batch.events
        return found


@contextlib.contextmanager
def viewer_of(client: TestClient) -> Iterator[Viewer]:
    """A dashboard that has been greeted."""
    with connect(client, "/ws/dashboard", **BEARER) as session:
        yield Viewer(session)


class InThread:
    """A call that waits for something which the test does meanwhile."""

    def __init__(self, call: Any, *words: Any, **options: Any) -> None:
        self._result: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def run() -> None:
            try:
                self._result.set_result(call(*words, **options))
            except BaseException as error:  # noqa: BLE001 - handed to whoever asks for the result
                self._result.set_exception(error)

        threading.Thread(target=run, daemon=True).start()

    def result(self) -> Any:
        return self._result.result(timeout=SECONDS)


def refused(response: Any, status: int) -> str:
    """The reason why a request was not served."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert list(response.json()) == ["error"]
    return str(response.json()["error"])


def names(pairs: Sequence[Tuple[bytes, bytes]]) -> List[str]:
    """The names of raw headers."""
    return [name.decode().lower() for name, _ in pairs]


def decode(content: bytes, kind: Any) -> Any:
    """A response's JSON as one of the vocabulary's types."""
    return msgspec.json.decode(content, type=kind)
