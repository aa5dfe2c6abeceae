"""The watchdog: what is a stall, where it is, and that training is left alone."""

from __future__ import annotations

import queue
import sys
import threading
from traceback import FrameSummary

import pytest
import torch
from otf_hooks.errors import ArgumentError
from otf_hooks.watchdog import (
    Place,
    Pulse,
    StallDetector,
    Watchdog,
    activity,
    format_stack,
    place_of,
    stack_of,
)
from torch.utils.data import DataLoader, Dataset


class Training:
    """A run that a detector looks at once a second, of a clock that only the test moves."""

    def __init__(self, phase="train", **detector):
        self.detector = StallDetector(**detector)
        self.now = 1000.0
        self.progress = 0
        self.phase = phase
        self.activity = ""
        self.is_held = False
        self.found = []
        self.places = 0
        self.look()

    def look(self):
        pulse = Pulse(self.progress, self.progress, self.phase, self.is_held)
        finding = self.detector.look(self.now, pulse, self.place)
        if finding is not None:
            stall = finding.stall
            self.found.append(("over" if finding.is_over else "stall", stall.phase, stall.seconds))

    def place(self):
        self.places += 1
        return Place(self.activity, lambda: "the stack")

    def wait(self, seconds):
        for _ in range(seconds):
            self.now += 1
            self.look()

    def step(self, seconds=1):
        """A step that takes so long."""
        self.wait(seconds - 1)
        self.progress += 1
        self.wait(1)


def running(**given):
    """A run that trains, of which two steps of a second have been seen."""
    training = Training(**given)
    for _ in range(3):
        training.step()
    return training


# What is a stall


def test_a_run_that_moves_is_never_stalled_nor_asked_where_it_is():
    training = running()
    for _ in range(1000):
        training.step()
    assert training.found == []
    assert training.places == 0


def test_a_stall_is_told_once_and_once_again_when_it_lasts_ten_times_as_long():
    training = running()
    training.wait(59)
    assert training.found == []
    training.wait(540)
    assert training.found == [("stall", "train", 60)]
    training.wait(4000)
    assert training.found == [("stall", "train", 60), ("stall", "train", 600)]


def test_the_end_of_a_stall_is_told_once_with_all_of_its_seconds():
    training = running()
    training.step(100)
    training.step()
    training.step()
    assert training.found == [("stall", "train", 60), ("over", "train", 100)]


def test_a_stall_has_its_step_and_its_stack():
    detector = StallDetector(stall_after=5)
    pulse = Pulse(progress=1, step=17, phase="validate")
    findings = [
        detector.look(float(now), pulse, lambda: Place("", lambda: "the stack"))
        for now in range(10)
    ]
    assert [finding.stall for finding in findings if finding] == [
        ("validate", 17, 5.0, "the stack")
    ]
    over = detector.look(10.0, pulse._replace(progress=2, step=18), pytest.fail)
    assert over == (("validate", 17, 10.0, "the stack"), True)


@pytest.mark.parametrize(
    ("phase", "seconds"),
    [("first batch", 600), ("compile", 600), ("validate", 300), ("test", 300), ("save", 300)],
)
def test_each_phase_has_its_own_patience(phase, seconds):
    training = Training(phase)
    training.wait(seconds - 1)
    assert training.found == []
    training.wait(1)
    assert training.found == [("stall", phase, seconds)]


def test_a_change_of_phase_is_movement():
    training = running()
    for phase in ("save", "train", "save", "train"):
        training.phase = phase
        training.wait(40)
    assert training.found == []


def test_stall_after_takes_the_place_of_every_patience():
    for phase in ("first batch", "train", "validate"):
        training = Training(phase, stall_after=7)
        training.wait(20)
        assert training.found == [("stall", phase, 7)]


def test_a_run_that_is_held_is_not_stalled_and_begins_anew_afterwards():
    training = running()
    training.wait(50)
    training.is_held = True
    training.wait(5000)
    training.is_held = False
    training.wait(59)
    assert training.found == []
    training.wait(5)
    assert training.found == [("stall", "train", 60)]


def test_being_held_is_not_taken_for_the_pace_of_a_run():
    training = Training()
    training.is_held = True
    training.wait(100)
    training.is_held = False
    training.wait(500)
    assert training.found == []


def test_a_stall_is_over_when_the_run_is_held():
    training = running()
    training.wait(70)
    training.is_held = True
    training.wait(100)
    assert training.found == [("stall", "train", 60), ("over", "train", 71)]


def test_time_in_which_the_process_did_not_run_is_no_waiting():
    training = running()
    training.now += 3600
    training.look()
    training.wait(40)
    assert training.found == []
    training.wait(40)
    assert [kind for kind, _, _ in training.found] == ["stall"]


# How patience follows a run's own pace


def test_slow_steps_make_patience_twenty_times_as_long():
    training = running()
    training.step(30)
    training.step(30)
    training.wait(599)
    assert training.found == []
    training.wait(1)
    assert training.found == [("stall", "train", 600)]


def test_one_odd_step_is_not_usual():
    training = running()
    training.step(50)
    training.wait(60)
    assert training.found == [("stall", "train", 60)]


def test_the_first_steps_of_a_slow_run_are_no_stalls():
    training = Training("first batch")
    training.wait(90)
    training.phase = "train"
    training.step(90)
    training.step(90)
    training.step(200)
    assert training.found == []


def test_a_wait_that_was_reported_twice_and_ended_is_no_news():
    training = running()
    for _ in range(2):
        training.step(80)
        training.step()
    assert len(training.found) == 4
    training.wait(119)
    assert len(training.found) == 4
    training.wait(1)
    assert training.found[-1] == ("stall", "train", 120)


def test_a_long_validation_says_nothing_about_steps():
    training = running()
    for _ in range(3):
        training.phase = "validate"
        training.wait(200)
        training.phase = "train"
        training.step()
    training.wait(60)
    assert training.found == [("stall", "train", 60)]


# The phase as the stack shows it


def test_compiling_has_its_own_patience_and_is_named():
    training = running()
    training.activity = "compile"
    training.wait(599)
    assert training.found == []
    training.wait(1)
    assert training.found == [("stall", "compile", 600)]


def test_the_rest_of_a_step_that_compiled_is_no_stall():
    training = running()
    training.activity = "compile"
    training.wait(100)
    training.activity = ""
    training.step(50)
    assert training.found == []


def test_compiling_does_not_count_as_a_usual_step():
    training = running()
    for _ in range(3):
        training.activity = "compile"
        training.step(100)
        training.activity = ""
        training.step()
    training.wait(60)
    assert training.found == [("stall", "train", 60)]


def test_waiting_for_data_is_named_in_training_but_not_in_a_validation():
    training = running()
    training.activity = "data"
    training.wait(60)
    training.phase = "validate"
    training.wait(301)
    assert training.found == [
        ("stall", "data", 60),
        ("over", "data", 61),
        ("stall", "validate", 300),
    ]


def here():
    return place_of(threading.get_ident()).activity


class _Noticing(Dataset):
    """Notes what the thread that reads its samples is doing."""

    def __init__(self):
        self.seen = []

    def __len__(self):
        return 2

    def __getitem__(self, index):
        self.seen.append(here())
        return torch.zeros(1)


def test_a_thread_that_reads_samples_waits_for_data():
    dataset = _Noticing()
    list(DataLoader(dataset))
    assert dataset.seen == ["data", "data"]
    assert here() == ""


def test_a_model_that_is_being_compiled_is_told_from_one_that_runs_compiled():
    seen = []

    def backend(graph, inputs):
        seen.append(("compiling", here()))

        def run(*values):
            seen.append(("running", here()))
            return graph(*values)

        return run

    def double(value):
        return value * 2

    torch._dynamo.reset()
    compiled = torch.compile(double, backend=backend)
    for _ in range(2):
        assert compiled(torch.ones(2)).tolist() == [2.0, 2.0]
    assert seen == [("compiling", "compile"), ("running", ""), ("running", "")]


@pytest.mark.parametrize(
    ("path", "function", "expected"),
    [
        ("_inductor/compile_fx.py", "compile_fx_inner", "compile"),
        ("_inductor/compile_fx.py", "run", ""),
        ("_inductor/output_code.py", "__call__", ""),
        ("_inductor/runtime/triton_heuristics.py", "benchmark_all_configs", "compile"),
        ("_inductor/runtime/triton_heuristics.py", "run", ""),
        ("utils/data/dataloader.py", "_get_data", "data"),
    ],
)
def test_what_a_frame_inside_torch_shows(path, function, expected):
    assert activity([_frame("train.py", "main"), _torch_frame(path, function)]) == expected


def test_the_newest_activity_counts():
    frames = [
        _torch_frame("utils/data/dataloader.py", "__next__"),
        _torch_frame("_dynamo/convert_frame.py", "_compile"),
    ]
    assert activity(frames) == "compile"


# The stack


def _frame(path, function, line=1):
    return FrameSummary(path, line, function, lookup_line=False, line="work()")


def _torch_frame(path="nn/module.py", function="forward"):
    return _frame(torch.__file__.replace("__init__.py", path), function)


def test_a_stack_reads_as_in_a_traceback_with_the_newest_frame_last():
    def innermost():
        return format_stack(stack_of(threading.get_ident()))

    lines = innermost().splitlines()
    names = [line.rsplit(" in ", 1)[1] for line in lines if line.startswith("  File ")]
    outer = sys._getframe().f_code.co_name
    assert names.index(outer) < names.index("innermost")
    assert names[-1] == "stack_of"
    assert "    return format_stack(stack_of(threading.get_ident()))" in lines


def test_a_thread_that_has_ended_has_no_stack():
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    place = place_of(thread.ident)
    assert (place.activity, place.stack()) == ("", "The thread has ended.\n")


def test_of_a_long_stack_the_middle_of_torch_is_left_out_first():
    script = [_frame("train.py", f"step{n}") for n in range(10)]
    frames = [*script, *[_torch_frame(function=f"torch{n}") for n in range(90)]]
    lines = format_stack(frames).splitlines()
    names = [line.rsplit(" in ", 1)[1] for line in lines if line.startswith("  File ")]
    assert names == [f"step{n}" for n in range(10)] + ["torch0", "torch1", "torch88", "torch89"]
    assert "  ... 86 frames are not shown" in lines
    assert len(lines) <= 50


def test_of_a_long_stack_without_torch_both_ends_stay():
    text = format_stack([_frame("train.py", f"call{n}", line=n) for n in range(1, 201)])
    assert len(text.splitlines()) <= 50
    assert "in call1\n" in text
    assert "in call200\n" in text
    assert "  ... 178 frames are not shown\n" in text


def test_a_short_stack_is_shown_whole():
    frames = [_frame("train.py", "main")] + [_torch_frame() for _ in range(12)]
    text = format_stack(frames)
    assert text.count("  File ") == 13
    assert "not shown" not in text


# The thread


@pytest.mark.parametrize("value", [0, -1, float("nan"), True, "60"])
def test_an_unusable_stall_after_is_named(value):
    with pytest.raises(ArgumentError) as caught:
        _watchdog(stall_after=value)
    assert f"stall_after is {value!r}; it is a number of seconds above 0" in str(caught.value)


def _watchdog(**given):
    parts = {
        "pulse": lambda: Pulse(0, 0, "train"),
        "on_stall": pytest.fail,
        "on_end": pytest.fail,
        "thread_id": threading.get_ident(),
    }
    return Watchdog(**{**parts, **given})


def test_a_watchdog_that_was_never_started_can_be_closed():
    before = threading.active_count()
    watchdog = _watchdog()
    watchdog.close()
    watchdog.close()
    assert threading.active_count() == before


class Blocked:
    """A thread that trains: it waits in a function of its own until it is let go."""

    def __init__(self):
        self.go_on = threading.Event()
        self.progress = 0
        self.thread = threading.Thread(target=self.train)

    def train(self):
        self.wait_for_what_never_comes()
        self.progress += 1

    def wait_for_what_never_comes(self):
        self.go_on.wait()

    def pulse(self):
        return Pulse(self.progress, 3, "train")

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.go_on.set()
        self.thread.join()


def test_a_blocked_thread_is_reported_with_its_stack_and_then_its_end():
    stalls, ends = queue.SimpleQueue(), queue.SimpleQueue()
    with Blocked() as blocked:
        watchdog = _watchdog(
            pulse=blocked.pulse,
            on_stall=stalls.put,
            on_end=ends.put,
            thread_id=blocked.thread.ident,
            stall_after=0.05,
            interval=0.01,
        )
        watchdog.start()
        stall = stalls.get(timeout=30)
        blocked.go_on.set()
        end = ends.get(timeout=30)
        watchdog.close()
    assert (stall.phase, stall.step) == ("train", 3)
    assert "in wait_for_what_never_comes\n    self.go_on.wait()\n" in stall.stack
    assert end == stall._replace(seconds=end.seconds)
    assert end.seconds >= stall.seconds >= 0.05
    assert not watchdog._thread.is_alive()
    assert ends.empty()


def test_a_stall_ends_with_the_watch():
    stalls, ends = queue.SimpleQueue(), queue.SimpleQueue()
    with Blocked() as blocked:
        watchdog = _watchdog(
            pulse=blocked.pulse,
            on_stall=stalls.put,
            on_end=ends.put,
            thread_id=blocked.thread.ident,
            stall_after=0.05,
            interval=0.01,
        )
        watchdog.start()
        stall = stalls.get(timeout=30)
        watchdog.close()
        watchdog.close()
    assert ends.get(timeout=30).step == stall.step
    assert ends.empty()


def test_a_fault_of_its_own_ends_it_with_a_word_and_nothing_else(capsys):
    def broken():
        raise RuntimeError("no pulse")

    watchdog = _watchdog(pulse=broken, interval=0.01)
    watchdog.start()
    watchdog._thread.join(30)
    watchdog.close()
    assert not watchdog._thread.is_alive()
    assert "RuntimeError: no pulse" in capsys.readouterr().err
