"""Where an engine is put together, in a new session or in one that exists."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Sequence

from otf_session.commands import Command, CommandRequest, Outcome
from otf_session.events import CheckpointSaved, CommandStatus
from otf_session.home import Home
from otf_session.liveness import AliveLock
from otf_session.queries import kept_checkpoints
from otf_session.store import SessionReader, SessionStore

from . import actions
from .desk import CommandDesk
from .distributed.following import KeptElsewhere, Unrecorded, Unwritten
from .engine import Engine
from .errors import TrainingError
from .guardroom import GuardRoom
from .guards import Guard, Trip
from .inbox import Errand, Waiting
from .journal import versions
from .keeper import CheckpointKeeper
from .link import Link, hello
from .meters.aside import Aside
from .meters.board import Board
from .meters.host import HostMeter
from .meters.meter import Meter
from .meters.nvml import NvmlMeter
from .meters.torch_memory import TorchMemory
from .parts import Session
from .peers import Alone, Peers
from .recorder import Recorder
from .watchdog import Pulse, Stall, Watchdog
from .writer import Writer


class Address(NamedTuple):
    """Where the server is looked for; none of it matters where `connect` is false."""

    host: str
    port: int
    connect: bool


def open_engine(
    *,
    project: str,
    home: Home,
    folder: Optional[Path],
    address: Address,
    checkpoints: Optional[Path] = None,
    keep: int = 10,
    guards: Sequence[Guard] = (),
    stall_after: Optional[float] = None,
    peers: Optional[Peers] = None,
) -> Engine:
    """Put an engine together: in a new session, or in the one in `folder`.

    Of several processes, the first has it so, and knows its `peers`; the others `follow`.
    """
    peers = Alone() if peers is None else peers
    store = SessionStore.create(home, project) if folder is None else SessionStore(folder)
    lock = AliveLock(store.folder)
    if not lock.acquire():
        raise TrainingError(
            f"Another process has the session {store.id} open. Give this Trainer a session of "
            "its own: make a new one."
        )
    late = _Late()
    recorder = Recorder(warn=late.warn)
    link = _link(store, home, address, late) if address.connect else None
    room = GuardRoom(guards, on_trip=late.tripped)
    writer = Writer(
        store=store,
        recorder=recorder,
        publish=link.publish if link is not None else _publish_nowhere,
        look=room.look,
        warn=late.warn,
        derive=_board(late).look,
    )
    keeper = CheckpointKeeper(
        session=store.folder,
        folder=store.checkpoints if checkpoints is None else checkpoints / store.id,
        keep=keep,
        known=_known_checkpoints(store),
        record=recorder.add,
        warn=late.warn,
    )
    watchdog = Watchdog(
        pulse=late.pulse,
        on_stall=late.stalled,
        on_end=late.moved_again,
        thread_id=threading.get_ident(),
        stall_after=stall_after,
    )
    engine = Engine(
        store=store,
        lock=lock,
        recorder=peers.recording(recorder),
        writer=writer,
        link=link,
        desk=late.desk(peers.inbox()),
        keeper=keeper,
        guards=room,
        watchdog=watchdog,
        peers=peers,
    )
    late.engine = engine
    return engine


def follow(session: Session, peers: Peers) -> Engine:
    """The engine of a process that does what all agree on, and records nothing."""
    late = _Late()
    late.engine = Engine(
        store=session,
        lock=None,
        recorder=peers.recording(Unrecorded()),
        writer=Unwritten(),
        link=None,
        desk=late.desk(peers.inbox()),
        keeper=KeptElsewhere(),
        guards=GuardRoom((), on_trip=late.tripped),
        peers=peers,
        say=_say_nothing,
    )
    return late.engine


def _link(store: SessionStore, home: Home, address: Address, late: _Late) -> Link:
    return Link(
        home=home,
        host=address.host,
        port=address.port,
        hello=lambda: hello(store.id, store.last_seq, versions()),
        on_command=late.receive,
        warn=late.warn,
    )


def _board(late: _Late) -> Board:
    meters: List[Meter] = [HostMeter(), TorchMemory.here(), Aside(NvmlMeter(say=late.note), "NVML")]
    return Board(meters, say=late.note)


def _known_checkpoints(store: SessionStore) -> List[CheckpointSaved]:
    if store.last_seq == 0:
        return []
    with SessionReader(store.folder) as reader:
        return kept_checkpoints(reader.database)


class _Late:
    """Lets parts that are made before the engine speak to it."""

    engine: Engine

    def desk(self, inbox: Waiting) -> CommandDesk:
        """A desk whose commands reach the engine."""
        return CommandDesk(
            execute=self.execute, run_errand=self.run_errand, reports=self, inbox=inbox
        )

    def run_errand(self, errand: Errand) -> None:
        errand.run(self.engine)

    def warn(self, message: str) -> None:
        self.engine.warn(message)

    def note(self, message: str) -> None:
        self.engine.log(message)

    def receive(self, request: CommandRequest) -> None:
        self.engine.desk.receive(request)

    def execute(self, command: Command) -> Any:
        return actions.execute(self.engine, command)

    def command_changed(
        self, request: CommandRequest, status: CommandStatus, outcome: Optional[Outcome]
    ) -> None:
        self.engine.command_changed(request, status, outcome)

    def command_progress(self, request: CommandRequest, done: int, total: int) -> None:
        self.engine.command_progress(request, done, total)

    def log(self, text: str, level: int) -> None:
        self.engine.log(text, level)

    def tripped(self, trip: Trip) -> None:
        self.engine.tripped(trip)

    def pulse(self) -> Pulse:
        return self.engine.pulse()

    def stalled(self, stall: Stall) -> None:
        self.engine.stalled(stall)

    def moved_again(self, stall: Stall) -> None:
        self.engine.journal.moved_again(stall)


def _publish_nowhere(batch: Any) -> None:
    """Without a link the store is all there is."""


def _say_nothing(message: str) -> None:
    """The first process talks."""
