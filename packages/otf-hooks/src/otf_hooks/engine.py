"""The engine: what every front drives.

A front opens it, starts a run, records steps, calls `safe_point` between them, and closes it. The
engine knows nothing of who drives the batches: what it needs of them is the `Front` it is handed.
Its other parts (store, recorder, writer, link, desk, keeper) are handed in by `assembly`.
"""

from __future__ import annotations

import contextlib
import logging
import operator
import signal
import time
import traceback
from functools import partial
from typing import Any, Callable, Dict, List, Mapping, Optional

from otf_session.commands import CommandRequest, Extend, Outcome
from otf_session.events import (
    CheckpointSaved,
    CommandStatus,
    EpochStarted,
    Rewound,
    RunStarted,
    RunState,
)
from otf_session.frames import CommandProgress, CommandReply
from otf_session.liveness import AliveLock
from otf_session.queries import run_summaries, series
from otf_session.store import SessionReader
from otf_session.summaries import RunSummary

from . import checkpoint, console, predecessor
from .actions.trip import record_trip
from .agenda import Agenda
from .desk import CommandDesk
from .errands import GuardTripped, SignalCame
from .errors import RankLost
from .front import Evaluated, Front, Verdict
from .gate import Gate, GateState
from .guardroom import GuardRoom
from .guards import Trip
from .health.schedule import Checkups
from .interventions import Interventions, Replay
from .journal import Journal
from .link import Link
from .logs import LogTap
from .parking import Parking
from .parts import Done, Keeper, Recording, Session, Writing
from .peers import Alone, Peers, Rounds, own_state
from .saving import Saving
from .signals import SignalHandlers
from .snapshot import Snapshot
from .watchdog import Pulse, Stall, Watchdog

#: Seconds a page may take to reload before a lingering run concludes that nobody watches.
LINGER_GRACE_SECONDS = 10.0

_LOGGER = "onthefly"


class Engine:
    """One open session and the run that is being trained in it."""

    def __init__(
        self,
        *,
        store: Session,
        lock: Optional[AliveLock],
        recorder: Recording,
        writer: Writing,
        link: Optional[Link],
        desk: CommandDesk,
        keeper: Keeper,
        guards: GuardRoom,
        watchdog: Optional[Watchdog] = None,
        peers: Optional[Peers] = None,
        say: Callable[[str], None] = console.say,
    ) -> None:
        self.store = store
        #: The other processes of this training.
        self.peers: Peers = Alone() if peers is None else peers
        #: Tells the person at the terminal something, in the process that talks.
        self.say = say
        self.run = ""
        self.step = 0
        self.epoch = 0
        self.gate = Gate()
        self.agenda = Agenda()
        self.parking = Parking()
        self.interventions = Interventions()
        self._replay: Optional[Replay] = None
        self.desk = desk
        self.keeper = keeper
        self.recorder = recorder
        self.journal = Journal(recorder, writer.wake, self)
        self.saving = Saving(self)
        self.checkups = Checkups(self)
        self._front: Optional[Front] = None
        self._lock = lock
        self._writer = writer
        self._link = link
        self._watchdog = watchdog
        self._guards = guards
        self._first_step = 0
        self._moved = False
        self._lingers = False
        #: The signal that is waited upon to end training at a safe point.
        self.ending_signal: Optional[int] = None
        #: Counts whatever moves beside the steps, for the watchdog.
        self.beats = 0
        self.is_quiet = desk.is_quiet
        self._log_tap = LogTap(self.journal.line)
        self._signals = SignalHandlers(soon=self._signalled, now=self._terminated, say=say)

    @property
    def front(self) -> Front:
        """What drives training."""
        assert self._front is not None
        return self._front

    @property
    def phase(self) -> str:
        """Where training is, as the front says it."""
        return self._front.phase if self._front is not None else ""

    # Lifecycle

    def start(self, front: Optional[Front] = None) -> None:
        """Begin to record and to listen. From here on the session has everything that happens.

        Without a front no safe point is known to come: signals end the process as they would
        without us, with what was recorded written down.
        """
        self._front = front
        self._writer.start()
        if self._link is not None:
            self._link.start()
        self._log_tap.open()
        if front is None:
            self._signals.end_at_once()
        self._signals.install()
        self.journal.process_started()

    def start_run(
        self, run: str, parents: Optional[List[str]] = None, checkpoint: str = "", step: int = 0
    ) -> None:
        """Begin a new run, at `step` where it begins from a checkpoint."""
        self.run, self.step = run, step
        self.journal.add(RunStarted, parents=parents or [], checkpoint=checkpoint)
        self._writer.wake()

    def continue_run(self, run: str, step: int) -> None:
        """Take up a run that another process began, and left at `step`."""
        self.run, self.step = run, step

    def warm_up_guards(self, run: str) -> None:
        """Let the guards know what `run` recorded up to here, before this process began."""
        watched = self._guards.watched
        if watched:
            with SessionReader(self.store.folder) as reader:
                # Every point: an extreme more or less would change what a guard finds usual.
                found = series(reader.database, points=2**31, runs=[run], names=watched)
            self._guards.warm_up(self.run, found, until=self.step)

    def running(self) -> None:
        """Say that training goes on from here."""
        self._first_step = self.step
        self.gate.move(GateState.RUNNING)
        self.journal.changed(RunState.RUNNING)
        if self._watchdog is not None:
            self._watchdog.start()

    def close(self, state: RunState, reason: str = "") -> None:
        """End the run in a final state; write and send what is left, and end all threads."""
        if self.gate.state is GateState.CLOSED:
            return
        self.gate.move(GateState.CLOSED)
        if self._watchdog is not None:
            self._watchdog.close()
        self._log_tap.close()
        self.keeper.close()
        self.saving.answer()
        self.desk.refuse_rest()
        self.journal.changed(state, reason)
        self._end()

    def abandon(self) -> None:
        """Let everything go that was opened, before anything has begun."""
        self._writer.close()
        self._release()

    def _end(self) -> None:
        self._writer.close()
        if self._link is not None:
            self._link.close()
        self._signals.remove()
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def wait_for_first(self) -> None:
        """Do not end before the process that writes has written."""
        # One that has failed meanwhile is not waited for.
        with contextlib.suppress(RankLost):
            self.peers.shared(lambda: None)

    def fail(self, error: BaseException, *, is_whole: bool) -> None:
        """End the run because of an exception, which is recorded with its traceback.

        Where the state is whole, it is saved first: a person may want to go on from there.
        """
        if self.gate.state is GateState.CLOSED:
            return
        # The others do not know of it: nothing can be done together any more.
        before, self.peers = self.peers, self.peers.parted()
        if is_whole and self._front is not None and self.step > 0:
            self.saving.interrupted()
        if isinstance(error, KeyboardInterrupt):
            self.close(RunState.STOPPED, "interrupted by Ctrl-C")
        elif isinstance(error, SystemExit):
            self.close(RunState.STOPPED, f"the script exited with code {error.code or 0}")
        else:
            lines = traceback.format_exception(type(error), error, error.__traceback__)
            trace = "".join(lines).rstrip()
            reason, more = before.failed(self.store, f"{type(error).__name__}: {error}", trace)
            for text in (more, trace):
                if text:
                    self.log(text, logging.ERROR)
            self.close(RunState.FAILED, reason)

    # Recording

    def record(self, values: Mapping[str, Any], seconds: float = 0.0, samples: int = 0) -> None:
        """Record what was measured at the current step, which took `seconds` for `samples`."""
        self.recorder.record(self.run, self.step, values, seconds, samples)

    def start_epoch(self, epoch: int) -> None:
        """Record that an epoch begins; `epoch` counts from 1."""
        self.epoch = epoch
        self.journal.add(EpochStarted, epoch=epoch)

    def evaluated(self, found: Evaluated) -> None:
        """Record the means of an evaluation over one split, also as metrics of this step."""
        values = found.values
        self.record({name: float("nan") if v is None else v for name, v in values.items()})
        self.journal.evaluated(found)

    def log(self, text: str, level: int = logging.INFO, logger: str = _LOGGER) -> None:
        """Add a line to the run's log."""
        self.journal.line(level, logger, text)

    def warn(self, message: str) -> None:
        """Tell the person at the terminal and the record that something is not as it should be."""
        self.say(f"warning: {message}")
        self.journal.line(logging.WARNING, _LOGGER, message)

    def declare_hyperparameters(self) -> None:
        """Record all hyperparameters as they are from here on."""
        self.journal.hyperparameters(self.front.hyperparameters)

    def limits_changed(self) -> None:
        """Put the run's limits on the agenda, and record where it ends and pauses from here on."""
        limits = self.front.limits
        # The loop looks at its limits whenever something is due.
        self.agenda.put("end", limits.max_steps, _look)
        self.agenda.put("pause", limits.pause_at_step, self._pause_as_planned)
        self.saving.plan()
        self.checkups.plan()
        self.journal.limits(limits)

    def _pause_as_planned(self) -> None:
        self.front.limits.pause_at_step = None
        self.limits_changed()
        if self.gate.state is GateState.RUNNING:
            self.pause("ran for as long as was asked")

    def assess(self) -> None:
        """Record whether going back and resuming will be exact, as far as it is known beforehand."""
        self.journal.assessed(self.front.findings())

    # Checkpoints

    def save(
        self,
        label: str,
        *,
        pinned: bool = False,
        score: Optional[float] = None,
        done: Optional[Done] = None,
    ) -> None:
        """Copy the whole state now and write it in the background."""
        try:
            snapshot = Snapshot(self.peers.whole(self.peers.together(self._captured)))
        # What a state holds is the script's: a state_dict of its own may do anything.
        except Exception as error:  # noqa: BLE001
            self.keeper.failed(
                run=self.run, step=self.step, label=label, reason=str(error), done=done
            )
            return
        self.keeper.save(
            snapshot,
            run=self.run,
            step=self.step,
            epoch=self.epoch,
            label=label,
            pinned=pinned,
            score=score,
            done=done,
        )

    def _captured(self) -> Dict[str, Any]:
        return {**self.front.capture(), "interventions": self.interventions.state()}

    def find_checkpoint(self, name: str, run: str) -> CheckpointSaved:
        """The checkpoint that a name means; `NotPossible` where there is none."""
        return self.peers.shared(lambda: self.keeper.find(name, run))

    def load(
        self,
        saved: CheckpointSaved,
        capture: Optional[Callable[[], Dict[str, Any]]] = None,
        *,
        weights_only: bool = False,
    ) -> Dict[str, Any]:
        """The state in a checkpoint, as this process goes on from it; else `CheckpointError`.

        What a checkpoint of the predecessor lacks is as `capture` finds it now.
        """
        keeper = self.keeper
        state = self.peers.shared_state(lambda: checkpoint.load(keeper.path(saved), saved.sha256))
        if predecessor.is_one(state):
            capture = capture or self.front.capture
            return state if weights_only else predecessor.completed(state, capture)
        return own_state(state, self.peers, weights_only=weights_only)

    def runs(self) -> List[RunSummary]:
        """The session's runs, as far as they are written."""
        return self.peers.shared(self._read_runs)

    def _read_runs(self) -> List[RunSummary]:
        with SessionReader(self.store.folder) as reader:
            return run_summaries(reader.database)

    def move_to(
        self,
        saved: CheckpointSaved,
        state: Dict[str, Any],
        *,
        run: str,
        is_new: bool,
        left_step: int,
        reason: str,
    ) -> List[str]:
        """Put training where a checkpoint was made; what could not be restored, as sentences.

        `left_step` is where the run that is gone on with was.
        """
        left_run = self.run
        findings = self.peers.together(lambda: self.front.restore(state))
        if run != left_run and left_run:
            self.journal.changed(
                RunState.STOPPED, f"left at step {self.step} for {run}", run=left_run
            )
        self.interventions.load(state["interventions"])
        self.epoch = int(state["epoch"])
        self._agree_at(self.desk.inbox.moved(int(state["step"])))
        if is_new:
            self.start_run(run, [saved.run], saved.id, saved.step)
        self.run, self.step = run, int(state["step"])
        if not is_new:
            self.journal.add(
                Rewound,
                epoch=self.epoch,
                left_step=left_step,
                checkpoint=saved.id,
                reason=reason,
                exact=not findings,
                findings=findings,
            )
        if run != left_run:
            self.assess()
            self.journal.changed(
                RunState.PAUSED if self.gate.is_paused else RunState.RUNNING, reason
            )
        self._moved = True
        return findings

    # Steering

    def safe_point(self) -> Verdict:
        """Execute what was asked for and what is due, and say how to go on.

        Called on the training thread between two steps, and between two batches of an
        evaluation. While the run is paused, this does not return.
        """
        if self.step >= self.agenda.next_step:
            self.agenda.run_due(self.step)
        if self._replay is not None:
            self._replay.run_due(self.step, self.phase)
            self.agenda.put("replay", self._replay.next_step, _look)
        self._agree_at(self.desk.inbox.look(self.step, self.phase))
        self.desk.execute_waiting()
        while self.gate.is_paused:
            self.desk.hold(self.step)
        return self.verdict()

    def _agree_at(self, step: Optional[int]) -> None:
        """Have the loop come to a safe point at a step: the processes of a training agree there."""
        self.agenda.put("agree", step, _look)

    def verdict(self) -> Verdict:
        """How training goes on from a safe point."""
        if self.gate.is_stopping:
            return Verdict.END
        if self._moved:
            self._moved = False
            return Verdict.MOVED
        return Verdict.GO_ON

    def keep_going(self, done: int, total: int) -> bool:
        """Between two batches of a long command: hold, break it off, or go on."""
        self.beats += 1
        return self.desk.keep_going(done, total, self.step) and not self.gate.is_stopping

    def keep_going_in_step(self, done: int, total: int) -> bool:
        """As `keep_going`, where every process comes here equally often: between trained batches."""
        self.desk.inbox.keep_step(done)
        return self.keep_going(done, total)

    def rounds(self) -> Rounds:
        """An evaluation of the front's own, in which the processes agree between its batches."""
        return self.desk.inbox.rounds()

    def pause(self, reason: str) -> None:
        """Hold the run."""
        self.gate.move(GateState.PAUSED)
        self.journal.changed(RunState.PAUSED, reason)

    def resume(self) -> None:
        """Let the run go on."""
        self.parking.bring_back()
        self.gate.move(GateState.RUNNING)
        self.journal.changed(RunState.RUNNING)

    def stop(self) -> None:
        """End training at this safe point."""
        self.interventions.stopped(self.step, self.phase)
        self.parking.bring_back()
        self.gate.move(GateState.STOPPING)

    def replay(self, replay: Replay) -> None:
        """Have commands applied again as training comes to where they were applied."""
        self._replay = replay
        self.agenda.put("replay", replay.next_step, _look)

    def extend(self, epochs: int, steps: int) -> None:
        """Train longer than planned, because a lingering run was resumed."""
        limits = self.front.limits
        limits.more_epochs += epochs
        limits.more_steps += steps
        self.interventions.note(self.step, self.phase, Extend(epochs=epochs, steps=steps))
        self.limits_changed()

    @property
    def is_watched(self) -> bool:
        """Whether a dashboard is open on this machine's server."""
        return self.peers.shared(lambda: self._link is not None and self._link.viewers > 0)

    @property
    def is_lingering(self) -> bool:
        """Whether training is done and the run is held for somebody who watches."""
        return self._lingers

    def linger(self, reason: str) -> bool:
        """Stay paused after the end for as long as somebody watches; True to train on."""
        self.pause(reason)
        self._lingers = True
        unwatched_since: Optional[float] = None
        try:
            while self.gate.is_paused and not self._moved:
                self.desk.hold(self.step)
                if self.is_watched:
                    unwatched_since = None
                    continue
                unwatched_since = unwatched_since or time.monotonic()
                waited = time.monotonic() - unwatched_since
                if self.peers.shared(partial(operator.gt, waited, LINGER_GRACE_SECONDS)):
                    self.say("nobody is watching any more; the script goes on.")
                    return False
        finally:
            self._lingers = False
        return not self.gate.is_stopping

    # Guards, signals

    def tripped(self, trip: Trip) -> None:
        """A guard has found something, in the writer's thread; acted upon at a safe point."""
        if self.gate.state is GateState.CLOSED:
            # Found in the last measurements: there is no safe point any more.
            record_trip(self, trip, [])
        else:
            self.desk.post(GuardTripped(trip))

    def moved(self) -> None:
        """Have the front's loop look at its position when this safe point is over."""
        self._moved = True

    def pulse(self) -> Pulse:
        """What the watchdog looks at."""
        phase = self.phase
        if phase in ("between", "train"):
            phase = "first batch" if self.step == self._first_step else "train"
        return Pulse(
            progress=self.step + self.beats,
            step=self.step,
            phase=phase,
            is_held=self.gate.state is not GateState.RUNNING,
        )

    def stalled(self, stall: Stall) -> None:
        """The watchdog tells of a stall; nothing is done about it."""
        self.journal.stalled(stall)
        self.warn(
            f"Nothing has moved for {stall.seconds:.0f} s ({stall.phase}, step {stall.step}). The "
            "record has the training thread's stack; nothing was done about it."
        )

    def _signalled(self, number: int) -> None:
        self.ending_signal = number
        self.desk.post(SignalCame(number))

    def _terminated(self, number: int) -> None:
        # In a signal handler, anywhere in the training thread: only what cannot wait.
        if self.gate.state is not GateState.CLOSED:
            self.gate.move(GateState.CLOSED)
            self.journal.changed(RunState.STOPPED, f"terminated by {signal.Signals(number).name}")
        self._writer.close()

    # What the desk reports

    def command_changed(
        self, request: CommandRequest, status: CommandStatus, outcome: Optional[Outcome]
    ) -> None:
        """Record a command's status; answer it where there is an outcome."""
        self.journal.command(request, status, outcome)
        if status is CommandStatus.APPLIED:
            self.interventions.note(self.step, self.phase, request.command)
        if outcome is not None and self._link is not None:
            self._link.reply(CommandReply(id=request.id, session=self.store.id, outcome=outcome))

    def command_progress(self, request: CommandRequest, done: int, total: int) -> None:
        """Say how far a long command is; this is told, not recorded."""
        if self._link is not None:
            self._link.tell(
                CommandProgress(
                    session=self.store.id, id=request.id, done=done, total=total, unit="batches"
                )
            )


def _look() -> None:
    """Nothing but the look that the loop takes at its limits when something is due."""
