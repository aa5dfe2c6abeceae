"""The engine: what every front drives.

A front opens it, starts a run, records steps, calls `safe_point` between them, and closes it. The
engine knows nothing of who drives the batches. Its parts (store, recorder, writer, link, gate) are
handed in; `open_engine` is where they are put together.
"""

from __future__ import annotations

import logging
import os
import platform
import queue
import sys
import time
import traceback
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

import torch
from otf_session.commands import CommandRequest, Outcome, Refused, command_name
from otf_session.events import (
    CheckpointSaved,
    CommandChanged,
    CommandStatus,
    EpochStarted,
    EvaluationFinished,
    LogLine,
    ProcessStarted,
    RunStarted,
    RunState,
    StateChanged,
)
from otf_session.frames import CommandReply
from otf_session.home import Home
from otf_session.liveness import AliveLock
from otf_session.store import SessionStore

from . import actions, checkpoint, console
from .errors import CheckpointError, TrainingError
from .gate import Gate, GateState
from .link import Link, hello
from .logs import LogTap
from .recorder import Recorder
from .signals import TerminationHandler
from .writer import Writer

#: Seconds between two looks at the world while a run is held.
_HOLD_SECONDS = 0.25
#: Seconds a page may take to reload before a lingering run concludes that nobody watches.
LINGER_GRACE_SECONDS = 10.0

_LOGGER = "onthefly"


class Engine:
    """One open session and the run that is being trained in it."""

    def __init__(
        self,
        *,
        store: SessionStore,
        lock: AliveLock,
        recorder: Recorder,
        writer: Writer,
        link: Optional[Link],
        inbox: queue.SimpleQueue[CommandRequest],
    ) -> None:
        self.store = store
        self.run = ""
        self.step = 0
        self.epoch = 0
        self.gate = Gate()
        self._lock = lock
        self.recorder = recorder
        self._writer = writer
        self._link = link
        self._inbox = inbox
        #: Whether no command waits, so that a safe point has nothing to do: a look without a cost.
        self.is_quiet = inbox.empty
        self._log_tap = LogTap(self._take_line)
        self._termination = TerminationHandler(self._terminated)

    # Lifecycle

    def start_run(self, run: str) -> None:
        """Begin a run. From here on the session has everything that happens."""
        self._writer.start()
        if self._link is not None:
            self._link.start()
        self._log_tap.open()
        self._termination.install()
        self.run = run
        self.recorder.add(_process_started())
        self.recorder.add(RunStarted(time=time.time(), run=run))
        self._writer.wake()

    def running(self) -> None:
        """Say that training goes on from here."""
        self.gate.move(GateState.RUNNING)
        self._changed(RunState.RUNNING)

    def close(self, state: RunState, reason: str = "") -> None:
        """End the run in a final state; write and send what is left, and end all threads."""
        if self.gate.state is GateState.CLOSED:
            # SIGTERM during the close: what is being written must still be written.
            self._writer.close()
            return
        self.gate.move(GateState.CLOSED)
        self._log_tap.close()
        self._refuse_rest()
        self._changed(state, reason)
        self._writer.close()
        if self._link is not None:
            self._link.close()
        self._termination.remove()
        self._lock.release()

    def fail(self, error: BaseException) -> None:
        """End the run because of an exception, which is recorded with its traceback."""
        if isinstance(error, KeyboardInterrupt):
            self.close(RunState.STOPPED, "interrupted by Ctrl-C")
        elif isinstance(error, SystemExit):
            self.close(RunState.STOPPED, f"the script exited with code {error.code or 0}")
        else:
            trace = traceback.format_exception(type(error), error, error.__traceback__)
            self.log("".join(trace).rstrip(), logging.ERROR)
            self.close(RunState.FAILED, f"{type(error).__name__}: {error}")

    # Recording

    def record(self, values: Mapping[str, Any], seconds: float = 0.0, samples: int = 0) -> None:
        """Record what was measured at the current step, which took `seconds` for `samples`."""
        self.recorder.record(self.run, self.step, values, seconds, samples)

    def start_epoch(self, epoch: int) -> None:
        """Record that an epoch begins; `epoch` counts from 1."""
        self.epoch = epoch
        self.recorder.add(EpochStarted(time=time.time(), run=self.run, epoch=epoch, step=self.step))

    def evaluated(self, split: str, samples: int, values: Mapping[str, Optional[float]]) -> None:
        """Record the means of an evaluation over one split, also as metrics of this step."""
        self.record({name: float("nan") if v is None else v for name, v in values.items()})
        self.recorder.add(
            EvaluationFinished(
                time=time.time(),
                run=self.run,
                step=self.step,
                split=split,
                samples=samples,
                values=dict(values),
            )
        )

    def log(self, text: str, level: int = logging.INFO, logger: str = _LOGGER) -> None:
        """Add a line to the run's log."""
        self._take_line(level, logger, text)

    def save_checkpoint(self, folder: Path, label: str, state: Dict[str, Any]) -> Optional[Path]:
        """Write a checkpoint; where that fails, say so and go on without it."""
        path = folder / f"{self.run}-{self.step:08d}-{label}.pt"
        try:
            written = checkpoint.write(path, state)
        except CheckpointError as error:
            self.warn(str(error))
            return None
        inside = self.store.folder in written.path.parents
        shown = written.path.relative_to(self.store.folder) if inside else written.path
        self.recorder.add(
            CheckpointSaved(
                time=time.time(),
                run=self.run,
                step=self.step,
                label=label,
                path=shown.as_posix(),
                size=written.size,
                sha256=written.sha256,
            )
        )
        return written.path

    def warn(self, message: str) -> None:
        """Tell the person at the terminal and the record that something is not as it should be."""
        console.say(f"warning: {message}")
        self._take_line(logging.WARNING, _LOGGER, message)

    # Steering

    def safe_point(self) -> bool:
        """Execute what was asked for; True to go on, False to end training.

        Called on the training thread between two steps, and between two batches of an
        evaluation. While the run is paused, this does not return.
        """
        self._execute_waiting()
        while self.gate.is_paused:
            self._hold()
        return not self.gate.is_stopping

    def pause(self, reason: str) -> None:
        """Hold the run."""
        self.gate.move(GateState.PAUSED)
        self._changed(RunState.PAUSED, reason)

    def resume(self) -> None:
        """Let the run go on."""
        self.running()

    def stop(self) -> None:
        """End training at this safe point."""
        self.gate.move(GateState.STOPPING)

    @property
    def is_watched(self) -> bool:
        """Whether a dashboard is open on this machine's server."""
        return self._link is not None and self._link.viewers > 0

    def linger(self, reason: str) -> bool:
        """Stay paused after the end for as long as somebody watches; True to train on."""
        self.pause(reason)
        unwatched_since: Optional[float] = None
        while self.gate.is_paused:
            self._hold()
            if self.is_watched:
                unwatched_since = None
                continue
            unwatched_since = unwatched_since or time.monotonic()
            if time.monotonic() - unwatched_since > LINGER_GRACE_SECONDS:
                console.say("nobody is watching any more; the script goes on.")
                return False
        return not self.gate.is_stopping

    def _hold(self) -> None:
        # A bounded wait, because Ctrl-C does not end an unbounded one on every platform.
        try:
            request = self._inbox.get(timeout=_HOLD_SECONDS)
        except queue.Empty:
            return
        self._execute(request)

    def _execute_waiting(self) -> None:
        while not self.is_quiet():
            self._execute(self._inbox.get())

    def _execute(self, request: CommandRequest) -> None:
        self._answer(request, actions.execute(self, request.command))

    def _refuse_rest(self) -> None:
        while not self.is_quiet():
            request = self._inbox.get()
            name = command_name(request.command)
            self._answer(request, Refused(reason=f"The run has ended; there is nothing to {name}."))

    def _answer(self, request: CommandRequest, outcome: Outcome) -> None:
        refused = isinstance(outcome, Refused)
        status = CommandStatus.REFUSED if refused else CommandStatus.APPLIED
        self.recorder.add(self._command_event(request, status, outcome))
        if self._link is not None:
            self._link.reply(CommandReply(id=request.id, session=self.store.id, outcome=outcome))
        self._writer.wake()

    def receive(self, request: CommandRequest) -> None:
        """Take a command from the link; it is executed at the next safe point."""
        self.recorder.add(self._command_event(request, CommandStatus.RECEIVED, None))
        self._inbox.put(request)

    def _command_event(
        self, request: CommandRequest, status: CommandStatus, outcome: Optional[Outcome]
    ) -> CommandChanged:
        return CommandChanged(
            time=time.time(),
            run=self.run,
            step=self.step,
            id=request.id,
            author=request.author,
            command=request.command,
            status=status,
            outcome=outcome,
        )

    def _changed(self, state: RunState, reason: str = "") -> None:
        self.recorder.add(
            StateChanged(
                time=time.time(),
                run=self.run,
                state=state,
                step=self.step,
                reason=_encodable(reason),
            )
        )
        self._writer.wake()

    def _take_line(self, level: int, logger: str, text: str) -> None:
        self.recorder.add(
            LogLine(
                time=time.time(),
                run=self.run,
                step=self.step,
                level=level,
                logger=logger,
                text=_encodable(text),
            )
        )

    def _terminated(self) -> None:
        self.close(RunState.STOPPED, "terminated by SIGTERM")


def open_engine(
    *,
    project: str,
    home: Home,
    folder: Optional[Path],
    host: str,
    port: int,
    connect: bool,
) -> Engine:
    """Put an engine together: in a new session, or in the one in `folder`."""
    store = SessionStore.create(home, project) if folder is None else SessionStore(folder)
    lock = AliveLock(store.folder)
    if not lock.acquire():
        raise TrainingError(
            f"Another process has the session {store.id} open. Give this Trainer a session of "
            "its own: make a new one."
        )
    inbox: queue.SimpleQueue[CommandRequest] = queue.SimpleQueue()
    relay = _Late()
    recorder = Recorder(warn=relay.warn)
    link = (
        Link(
            home=home,
            host=host,
            port=port,
            hello=lambda: hello(store.id, store.last_seq, versions()),
            on_command=relay.receive,
            warn=relay.warn,
        )
        if connect
        else None
    )
    writer = Writer(
        store=store,
        recorder=recorder,
        publish=link.publish if link is not None else _publish_nowhere,
        warn=relay.warn,
    )
    engine = Engine(
        store=store, lock=lock, recorder=recorder, writer=writer, link=link, inbox=inbox
    )
    relay.engine = engine
    return engine


class _Late:
    """Lets parts that are made before the engine speak to it."""

    engine: Engine

    def warn(self, message: str) -> None:
        self.engine.warn(message)

    def receive(self, request: CommandRequest) -> None:
        self.engine.receive(request)


def _encodable(text: str) -> str:
    """The text as UTF-8 can hold it: half a surrogate pair, from a file name say, is spelt out."""
    return text.encode("utf-8", "backslashreplace").decode()


def _publish_nowhere(batch: Any) -> None:
    """Without a link the store is all there is."""


def _process_started() -> ProcessStarted:
    return ProcessStarted(
        time=time.time(),
        pid=os.getpid(),
        host=platform.node(),
        argv=list(sys.argv),
        python=platform.python_version(),
        versions=versions(),
    )


def versions() -> Dict[str, str]:
    """The versions of what matters for this process's results."""
    return {"otf-hooks": metadata.version("otf-hooks"), "torch": str(torch.__version__)}
