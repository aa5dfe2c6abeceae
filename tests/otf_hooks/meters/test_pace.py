from __future__ import annotations

import random

import pytest
from otf_hooks.meters.pace import WINDOW, Pace, last_step, percentiles
from otf_session.events import LimitsChanged, Metrics, RunStarted, RunState, StateChanged


def metrics(first, times, waits=None, at=100.0):
    steps = list(range(first, first + len(times)))
    values = {"step_time": list(times)}
    if waits is not None:
        values["data_wait"] = list(waits)
    return Metrics(run="r", steps=steps, times=[at] * len(steps), values=values)


def limits(**given):
    return LimitsChanged(time=1.0, run="r", step=0, **given)


def state(kind, at, step=0):
    return StateChanged(time=at, run="r", state=kind, step=step)


@pytest.fixture
def pace():
    return Pace()


def test_percentiles_are_of_the_steps_seen_without_the_first(pace):
    pace.see([metrics(1, [60.0, *(0.001 * n for n in range(1, 101))])])
    found = pace.take(100.0)
    assert found["step_time/p50"] == pytest.approx(0.050)
    assert found["step_time/p95"] == pytest.approx(0.095)
    assert found["step_time/p99"] == pytest.approx(0.099)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 19, 20, 21, 50])
def test_percentiles_are_times_that_were_and_in_order(count):
    generator = random.Random(count)
    times = [generator.expovariate(1.0) for _ in range(count)]
    p50, p95, p99 = percentiles(times).values()
    assert {p50, p95, p99} <= set(times)
    assert p50 <= p95 <= p99
    assert sum(time <= p50 for time in times) >= len(times) / 2


def test_the_window_forgets_what_is_older(pace):
    pace.see([metrics(1, [9.0] * 500), metrics(501, [0.1] * WINDOW)])
    assert pace.take(100.0)["step_time/p99"] == 0.1


def test_the_share_of_waiting_is_of_the_steps_since_the_last_look(pace):
    pace.see([metrics(1, [1.0, 1.0], [0.5, 0.3])])
    assert pace.take(100.0)["data_wait/share"] == pytest.approx(0.4)
    pace.see([metrics(3, [1.0, 1.0], [0.1, 0.1])])
    assert pace.take(100.0)["data_wait/share"] == pytest.approx(0.1)


def test_without_a_step_since_the_last_look_there_is_nothing_to_say(pace):
    pace.see([metrics(1, [1.0, 1.0], [0.5, 0.3])])
    assert pace.take(100.0)
    assert pace.take(101.0) == {}


def test_a_front_that_does_not_measure_waiting_has_no_share_of_it(pace):
    pace.see([metrics(1, [1.0, 1.0])])
    assert "data_wait/share" not in pace.take(100.0)


@pytest.mark.parametrize(
    ("given", "last"),
    [
        ({}, None),
        ({"max_steps": 50}, 50),
        ({"max_epochs": 3}, None),
        ({"max_epochs": 3, "steps_per_epoch": 10}, 30),
        ({"max_epochs": 3, "steps_per_epoch": 10, "max_steps": 25}, 25),
    ],
)
def test_where_the_run_ends(given, last):
    assert last_step(limits(**given)) == last


def test_time_remaining_follows_the_limits(pace):
    pace.see([limits(max_steps=12), metrics(1, [5.0, 0.5, 0.5])])
    # Nine steps of half a second; the first one, which compiled, does not count.
    assert pace.take(100.0)["time_remaining"] == pytest.approx(4.5)
    pace.see([limits(max_steps=23), metrics(4, [0.5])])
    assert pace.take(100.0)["time_remaining"] == pytest.approx(9.5)
    pace.see([limits(max_steps=3), metrics(5, [0.5])])
    assert pace.take(100.0)["time_remaining"] == 0.0


def test_what_runs_beside_the_steps_is_part_of_the_time_remaining_and_a_pause_is_not(pace):
    pace.see([limits(max_steps=21), state(RunState.RUNNING, 90.0)])
    pace.see([metrics(1, [5.0], at=100.0), metrics(2, [1.0] * 10, at=110.0)])
    pace.see([state(RunState.PAUSED, 120.0), state(RunState.RUNNING, 5000.0)])
    # 10 s of steps took 20 s of running since the first one ended: 10 steps are left.
    assert pace.take(5000.0)["time_remaining"] == pytest.approx(20.0)


def test_another_run_begins_afresh(pace):
    pace.see([limits(max_steps=12), metrics(1, [5.0, 0.5])])
    pace.see([RunStarted(time=1.0, run="other"), metrics(1, [3.0, 0.25])])
    found = pace.take(100.0)
    assert found["step_time/p99"] == 0.25
    assert "time_remaining" not in found
