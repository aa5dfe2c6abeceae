"""What is due at which step."""

from __future__ import annotations

import math

import pytest
from otf_hooks.agenda import Agenda


@pytest.fixture
def done():
    return []


@pytest.fixture
def agenda():
    return Agenda()


def test_nothing_is_due_at_first(agenda):
    assert agenda.next_step == math.inf
    agenda.run_due(1_000_000)


def test_what_is_due_is_done_once_at_its_step(agenda, done):
    agenda.put("save", 5, lambda: done.append("save"))
    agenda.run_due(4)
    assert done == []
    assert agenda.next_step == 5
    agenda.run_due(5)
    agenda.run_due(5)
    assert done == ["save"]
    assert agenda.next_step == math.inf


def test_what_was_passed_over_is_done_late_and_in_the_order_of_the_steps(agenda, done):
    for name, step in (("b", 7), ("a", 3), ("c", 9)):
        agenda.put(name, step, lambda name=name: done.append(name))
    assert agenda.next_step == 3
    agenda.run_due(8)
    assert done == ["a", "b"]
    assert agenda.next_step == 9


def test_a_name_has_one_date(agenda, done):
    agenda.put("save", 5, lambda: done.append(5))
    agenda.put("save", 8, lambda: done.append(8))
    agenda.run_due(6)
    assert (done, agenda.next_step) == ([], 8)
    agenda.put("save", 2, lambda: done.append(2))
    agenda.run_due(6)
    assert (done, agenda.next_step) == ([2], math.inf)


def test_a_name_is_taken_off(agenda, done):
    agenda.put("end", 5, lambda: done.append("end"))
    agenda.put("save", 6, lambda: done.append("save"))
    agenda.put("end", None, lambda: None)
    agenda.put("never", None, lambda: None)
    assert agenda.next_step == 6
    agenda.run_due(10)
    assert done == ["save"]


def test_an_action_may_give_itself_a_new_date(agenda, done):
    def save(step):
        done.append(step)
        agenda.put("save", step + 5, lambda: save(step + 5))

    agenda.put("save", 5, lambda: save(5))
    for step in range(1, 18):
        if step >= agenda.next_step:
            agenda.run_due(step)
    assert done == [5, 10, 15]
    # Also where several dates of it have passed meanwhile.
    agenda.run_due(31)
    assert done == [5, 10, 15, 20, 25, 30]
    assert agenda.next_step == 35


def test_an_action_may_take_another_off(agenda, done):
    agenda.put("first", 5, lambda: agenda.put("second", None, lambda: None))
    agenda.put("second", 5, lambda: done.append("second"))
    agenda.run_due(5)
    assert done == []


def test_an_action_that_fails_is_done_with(agenda, done):
    def fail():
        raise ZeroDivisionError

    agenda.put("a", 1, fail)
    agenda.put("b", 1, lambda: done.append("b"))
    with pytest.raises(ZeroDivisionError):
        agenda.run_due(1)
    agenda.run_due(1)
    assert done == ["b"]
