from __future__ import annotations

import random

import pytest
from otf_hooks.meters.sampling import WARM_UP, SampleBudget


def train(budget, steps, step_time, cost, now=0.0):
    """Steps on a clock of their own; the numbers of those that were sampled."""
    sampled = []
    for number in range(1, steps + 1):
        is_due = budget.is_due(now)
        seconds = step_time(number)
        now += seconds
        budget.stepped(seconds)
        if is_due:
            sampled.append(number)
            spent = cost(number)
            now += spent
            budget.sampled(spent, now)
    return sampled


@pytest.mark.parametrize("milliseconds", [0.3, 5, 50, 2000])
@pytest.mark.parametrize("share", [0.001, 0.01, 0.1])
def test_samples_cost_no_more_than_their_share_of_step_time(milliseconds, share):
    generator = random.Random(3)
    seconds = milliseconds / 1000
    budget = SampleBudget(share)
    costs = []

    def cost(number):
        # The first is much dearer than the others, as it is where kernels are loaded in it.
        costs.append(generator.uniform(0.2, 3) * seconds * (20 if not costs else 1))
        return costs[-1]

    def step_time(number):
        # And the run becomes faster in its midst.
        return generator.uniform(0.5, 1.5) * seconds * (1 if number < 5000 else 0.1)

    sampled = train(budget, 20_000, step_time, cost)
    assert len(sampled) > 1
    assert sum(costs) == pytest.approx(budget.spent)
    assert budget.spent <= share * budget.trained + costs[-1]


def test_the_budget_is_used_and_not_saved_up():
    budget = SampleBudget(0.01, shortest=0.0)
    sampled = train(budget, 10_000, lambda n: 0.01, lambda n: 0.01)
    # Each costs as much as a step, so that a hundred steps pay for it.
    assert len(sampled) == pytest.approx(100, abs=2)
    assert {b - a for a, b in zip(sampled, sampled[1:])} <= {100, 101, 102}


def test_what_is_not_spent_is_not_saved_up():
    budget = SampleBudget(0.01, shortest=0.0)
    # Samples that cost nothing for long, and then much: it is paid for all the same.
    sampled = train(budget, 1000, lambda n: 0.01, lambda n: 0.0 if n < 500 else 0.01)
    later = [number for number in sampled if number >= 500]
    assert later[1] - later[0] >= 100


def test_the_first_steps_are_not_sampled():
    sampled = train(SampleBudget(1.0, shortest=0.0), 20, lambda n: 1.0, lambda n: 0.0)
    assert sampled[0] == WARM_UP + 1


def test_no_more_samples_are_taken_than_anybody_looks_at():
    sampled = train(SampleBudget(0.01, shortest=0.25), 4000, lambda n: 0.001, lambda n: 1e-9)
    assert len(sampled) == pytest.approx(16, abs=1)
