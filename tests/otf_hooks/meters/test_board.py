from __future__ import annotations

import pytest
from otf_hooks.meters.board import INTERVAL, Board
from otf_hooks.meters.meter import MeterEnded
from otf_session.events import Metrics, Rewound, RunStarted, RunState, StateChanged


class Fixed:
    def __init__(self, **values):
        self.values = values
        self.error = None
        self.readings = 0

    def read(self):
        self.readings += 1
        if self.error is not None:
            raise self.error
        return self.values


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def said():
    return []


@pytest.fixture
def board(clock, said):
    def make(*meters):
        return Board(meters, said.append, clock=clock, now=lambda: 1000.0 + clock.now)

    return make


def started(run="r", step=0):
    return [RunStarted(time=1.0, run=run, step=step), state(RunState.RUNNING, run, step)]


def state(kind, run="r", step=0):
    return StateChanged(time=1.0, run=run, state=kind, step=step)


def trained(*steps, run="r"):
    values = {"loss": [1.0] * len(steps)}
    return [Metrics(run=run, steps=list(steps), times=[1.0] * len(steps), values=values)]


def test_meters_are_read_once_a_second_at_the_step_that_is_recorded(board, clock):
    meter = Fixed(x=5.0)
    looks = board(meter)
    looks.look(started())
    found = []
    for tenth in range(1, 31):
        clock.now = tenth / 10
        found += looks.look(trained(tenth))
    assert meter.readings == 3
    assert [(event.run, event.steps, event.values) for event in found] == [
        ("r", [10], {"x": [5.0]}),
        ("r", [20], {"x": [5.0]}),
        ("r", [30], {"x": [5.0]}),
    ]
    assert [event.times for event in found] == [[1001.0], [1002.0], [1003.0]]


def test_nothing_is_read_before_a_run_while_it_is_paused_and_after_its_end(board, clock):
    meter = Fixed(x=5.0)
    looks = board(meter)
    for held in ([], [*started(), state(RunState.PAUSED)], [state(RunState.FINISHED)]):
        clock.now += INTERVAL
        assert looks.look(held) == []
    assert meter.readings == 0
    clock.now += INTERVAL
    assert len(looks.look([state(RunState.RUNNING)])) == 1


def test_after_a_rewind_what_is_measured_stands_where_training_is(board, clock):
    looks = board(Fixed(x=5.0))
    looks.look([*started(), *trained(500)])
    clock.now = INTERVAL
    back = Rewound(time=1.0, run="r", step=100, epoch=1, left_step=500, checkpoint="c")
    assert looks.look([back])[0].steps == [100]


def test_a_run_that_was_left_does_not_end_the_one_that_goes_on(board, clock):
    looks = board(Fixed(x=5.0))
    looks.look([*started(), *trained(500)])
    looks.look(started("second", 7))
    clock.now = INTERVAL
    (found,) = looks.look([state(RunState.STOPPED, "r"), *trained(501)])
    assert (found.run, found.steps) == ("second", [7])


def test_a_meter_that_is_over_is_taken_off_and_said_where_there_is_something_to_say(
    board, clock, said
):
    silent, loud, sound = Fixed(), Fixed(), Fixed(x=1.0)
    silent.error, loud.error = MeterEnded(), MeterEnded("NVML has not answered.")
    looks = board(silent, loud, sound)
    looks.look(started())
    for second in (1, 2, 3):
        clock.now = float(second)
        assert looks.look([])[0].values == {"x": [1.0]}
    assert (silent.readings, loud.readings) == (1, 1)
    assert said == ["NVML has not answered."]


def test_a_meter_with_a_fault_costs_its_series_and_nothing_else(board, clock, said):
    faulty, sound = Fixed(), Fixed(x=1.0)
    faulty.error = ZeroDivisionError("of a driver")
    looks = board(faulty, sound)
    looks.look(started())
    for second in (1, 2):
        clock.now = float(second)
        assert looks.look([])[0].values == {"x": [1.0]}
    (line,) = said
    assert "ZeroDivisionError: of a driver" in line


def test_what_is_derived_from_the_steps_stands_beside_it(board, clock):
    looks = board(Fixed(x=1.0))
    looks.look(started())
    clock.now = INTERVAL
    timed = Metrics(run="r", steps=[1, 2], times=[1.0, 1.1], values={"step_time": [0.5, 0.1]})
    (found,) = looks.look([timed])
    assert found.values["step_time/p50"] == [0.1]
    assert found.values["x"] == [1.0]
