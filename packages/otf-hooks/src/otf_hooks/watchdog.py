"""The watchdog: says that training has stopped moving, and where. It never acts on its own.

Three parts: `StallDetector` decides, with numbers and a clock as its only input; `stack_of` and
`activity` say where a thread is; `Watchdog` is the thread that asks and tells.

A thread of Python cannot run while another holds the interpreter's lock, so a stall inside code
that never gives it up is seen only when it is over. PyTorch releases it for its operations.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

import torch

from . import console
from .errors import ArgumentError

#: Seconds without any movement that are a stall, by phase, before the run has shown its own pace.
PATIENCE = {
    "first batch": 600.0,
    "compile": 600.0,
    "train": 60.0,
    "data": 60.0,
    "validate": 300.0,
    "test": 300.0,
    "save": 300.0,
}
_OTHER_PATIENCE = 300.0
#: How many times the longest usual wait is a stall.
_TIMES_USUAL = 20.0
#: How many times the longest wait that was reported, and yet ended by itself, is one again.
_TIMES_ENDED = 1.5
#: How many times as long a stall has lasted when it is reported again.
_AGAIN = 10.0
#: Looks that may be missed. A longer gap is time in which the process itself did not run.
_MISSED_LOOKS = 10.0
#: Frames of a stack that are shown, of two lines each; how many of them are the outermost; and how
#: many of torch's are shown at either end of a row of them.
_SHOWN_FRAMES = 22
_SHOWN_OUTER = 8
_TORCH_EDGE = 2

_TORCH = Path(torch.__file__).parent.as_posix() + "/"


class Pulse(NamedTuple):
    """What training says of itself: cheap to make, and read from another thread.

    `progress` is any number that changes when training moves. A run that `is_held` (paused, or
    lingering) is not stalled.
    """

    progress: int
    step: int
    phase: str
    is_held: bool = False


class Stall(NamedTuple):
    """Nothing moved for `seconds` in `phase`; `stack` is the thread's, the newest frame last."""

    phase: str
    step: int
    seconds: float
    stack: str


class Finding(NamedTuple):
    """What a look found: a stall that goes on, or one that is over."""

    stall: Stall
    is_over: bool


class Place(NamedTuple):
    """Where a thread is. `activity` is `compile` or `data` where its stack shows that."""

    activity: str
    stack: Callable[[], str]


class StallDetector:
    """Decides what a stall is.

    The time without movement is measured from look to look. It is a stall when it is longer than
    the phase's patience, or than 20 times the longest wait that is usual in that phase, whichever
    is more. Usual is what was seen at least twice, so one odd wait does not make it blind. Before
    the second step has been seen, training has the first batch's patience.
    """

    def __init__(self, stall_after: Optional[float] = None, interval: float = 1.0) -> None:
        self._stall_after = stall_after
        self._longest_look = _MISSED_LOOKS * interval
        self._pace: Dict[str, _Pace] = {}
        self._pulse: Optional[Pulse] = None
        self._looked_at = 0.0
        self._waited = 0.0
        self._compiled = False
        self._reported: Optional[Stall] = None

    def look(self, now: float, pulse: Pulse, place: Callable[[], Place]) -> Optional[Finding]:
        """What is to be told now, if anything; `place` is asked only where it matters."""
        before, self._pulse = self._pulse, pulse
        # A process that was suspended, or a laptop that slept, did not wait for anything.
        self._waited += min(now - self._looked_at, self._longest_look)
        self._looked_at = now
        if before is None:
            self._waited = 0.0
            return None
        if pulse != before or pulse.is_held:
            if not (before.is_held or self._compiled):
                self._learn(before.phase)
            return self.end()
        return self._judge(pulse, place)

    def end(self) -> Optional[Finding]:
        """Training moved, or the watch is over: what ends with that, if anything."""
        reported, seconds = self._reported, self._waited
        self._reported, self._waited, self._compiled = None, 0.0, False
        if reported is None:
            return None
        return Finding(reported._replace(seconds=seconds), is_over=True)

    def _judge(self, pulse: Pulse, place: Callable[[], Place]) -> Optional[Finding]:
        reported = self._reported
        if reported is not None and self._waited < _AGAIN * reported.seconds:
            return None
        if self._waited < self._threshold(pulse.phase):
            return None
        where = place()
        # A step that compiles has patience of its own to its end, and says nothing about the pace.
        self._compiled = self._compiled or where.activity == "compile"
        if self._compiled and self._waited < self._threshold("compile"):
            return None
        phase = where.activity or pulse.phase
        # A validation that waits for its data is still a validation.
        if phase == "data" and pulse.phase not in ("train", "first batch"):
            phase = pulse.phase
        self._reported = Stall(phase, pulse.step, self._waited, where.stack())
        return Finding(self._reported, is_over=False)

    def _threshold(self, phase: str) -> float:
        if self._stall_after is not None:
            return self._stall_after
        pace = self._pace.get(_kind(phase), _Pace())
        patience = PATIENCE.get(phase, _OTHER_PATIENCE)
        if _kind(phase) == "train" and pace.usual is None:
            patience = PATIENCE["first batch"]
        usual, ended = pace.usual or 0.0, pace.ended or 0.0
        return max(patience, _TIMES_USUAL * usual, _TIMES_ENDED * ended)

    def _learn(self, phase: str) -> None:
        pace = self._pace.setdefault(_kind(phase), _Pace())
        pace.add(self._waited, was_reported=self._reported is not None)


class _Pace:
    """How long one waits in a phase: the second longest waits, so that once is not usual."""

    def __init__(self) -> None:
        self._usual: List[float] = []
        self._ended: List[float] = []

    def add(self, seconds: float, *, was_reported: bool) -> None:
        longest = self._ended if was_reported else self._usual
        longest.append(seconds)
        longest.sort(reverse=True)
        del longest[2:]

    @property
    def usual(self) -> Optional[float]:
        return self._usual[1] if len(self._usual) > 1 else None

    @property
    def ended(self) -> Optional[float]:
        return self._ended[1] if len(self._ended) > 1 else None


def _kind(phase: str) -> str:
    """Waiting for data is a part of training's pace."""
    return "train" if phase == "data" else phase


def place_of(thread_id: int) -> Place:
    """Where a thread is now."""
    frames = stack_of(thread_id)
    return Place(activity(frames), lambda: format_stack(frames))


def stack_of(thread_id: int) -> List[traceback.FrameSummary]:
    """A thread's stack, the newest frame last; empty where the thread has ended.

    Holds no frames, which would keep the script's tensors alive. Source lines are read only when
    the stack is formatted.
    """
    frame = sys._current_frames().get(thread_id)  # noqa: SLF001
    if frame is None:
        return []
    frames = traceback.StackSummary.extract(traceback.walk_stack(frame), lookup_lines=False)
    return list(reversed(frames))


def activity(frames: Sequence[traceback.FrameSummary]) -> str:
    """`compile` or `data` where the newest frames are inside such work, else nothing."""
    for frame in reversed(frames):
        inside = _inside_torch(frame)
        if _compiles(inside, frame.name):
            return "compile"
        if inside.startswith("utils/data/"):
            return "data"
    return ""


def _compiles(inside: str, function: str) -> bool:
    # Not all of torch._dynamo and torch._inductor: a model that was compiled long ago runs under
    # frames of both. `convert_frame` is on the stack exactly while dynamo compiles; a backward
    # pass is compiled without it, and Triton's kernels are tuned when they first run.
    if inside == "_dynamo/convert_frame.py":
        return True
    if inside == "_inductor/compile_fx.py":
        return "compile" in function
    return inside.endswith("triton_heuristics.py") and (
        "autotune" in function or "bench" in function
    )


def format_stack(frames: Sequence[traceback.FrameSummary]) -> str:
    """The stack as text, as in a traceback; at most about 50 lines.

    Of a longer one the middle of what is inside torch is left out first, then what lies between
    the script's outermost frames and where it is now.
    """
    if not frames:
        return "The thread has ended.\n"
    shown = list(range(len(frames)))
    if len(shown) > _SHOWN_FRAMES:
        shown = [position for position in shown if not _is_deep_in_torch(frames, position)]
    if len(shown) > _SHOWN_FRAMES:
        shown = shown[:_SHOWN_OUTER] + shown[_SHOWN_OUTER - _SHOWN_FRAMES :]
    lines: List[str] = []
    before = -1
    for position in shown:
        left_out = position - before - 1
        if left_out:
            lines.append(f"  ... {left_out} frames are not shown\n")
        lines += traceback.format_list([frames[position]])
        before = position
    return "".join(lines)


def _is_deep_in_torch(frames: Sequence[traceback.FrameSummary], position: int) -> bool:
    around = range(position - _TORCH_EDGE, position + _TORCH_EDGE + 1)
    return all(0 <= near < len(frames) and _inside_torch(frames[near]) for near in around)


def _inside_torch(frame: traceback.FrameSummary) -> str:
    """The path of a frame's file inside torch; empty where it is elsewhere."""
    path = Path(frame.filename).as_posix()
    return path[len(_TORCH) :] if path.startswith(_TORCH) else ""


class Watchdog:
    """The thread that looks at training's pulse once per interval.

    `on_stall` and `on_end` are called on this thread, `on_end` also by `close`. `stall_after` takes
    the place of every phase's patience.
    """

    def __init__(
        self,
        *,
        pulse: Callable[[], Pulse],
        on_stall: Callable[[Stall], None],
        on_end: Callable[[Stall], None],
        thread_id: int,
        stall_after: Optional[float] = None,
        clock: Callable[[], float] = time.monotonic,
        interval: float = 1.0,
    ) -> None:
        _check_stall_after(stall_after)
        self._pulse = pulse
        self._on_stall = on_stall
        self._on_end = on_end
        self._thread_id = thread_id
        self._clock = clock
        self._interval = interval
        self._detector = StallDetector(stall_after, interval)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="onthefly-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self, timeout: Optional[float] = 5.0) -> None:
        """End the thread, and with it a stall that goes on. It may be closed twice."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        # A thread that reads source lines from a disk that hangs still has the detector.
        if not self._thread.is_alive():
            self._tell(self._detector.end())

    def _run(self) -> None:
        try:
            while not self._closing.wait(self._interval):
                self._tell(self._detector.look(self._clock(), self._pulse(), self._place))
        except Exception:  # noqa: BLE001
            # The thread's boundary: training goes on without it.
            console.say(f"stalls are no longer noticed, by a fault:\n{traceback.format_exc()}")

    def _place(self) -> Place:
        return place_of(self._thread_id)

    def _tell(self, finding: Optional[Finding]) -> None:
        if finding is not None:
            (self._on_end if finding.is_over else self._on_stall)(finding.stall)


def _check_stall_after(value: Any) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # Not `value <= 0`: NaN is refused too.
    if value is not None and not (is_number and value > 0):
        raise ArgumentError(
            f"stall_after is {value!r}; it is a number of seconds above 0, or None for the "
            "watchdog's own patience."
        )
