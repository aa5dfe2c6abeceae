"""Guards: numbers in, findings out."""

from __future__ import annotations

import math
import random

import pytest
from otf_hooks.errors import ArgumentError
from otf_hooks.guards import (
    Guard,
    LossSpike,
    NoImprovement,
    NonFinite,
    check_guards,
    needs_gradients,
)
from otf_session.events import Metrics


def metrics(first=1, **values):
    """Columns whose steps count from `first`."""
    count = len(next(iter(values.values())))
    steps = list(range(first, first + count))
    return Metrics(run="r", steps=steps, times=[float(step) for step in steps], values=values)


def tripped(watch, events):
    return [trip.step for event in events for trip in watch.look(event)]


def noise(count, *, level=1.0, seed=0):
    source = random.Random(seed)
    return [level + source.gauss(0, 0.1) for _ in range(count)]


# Arguments


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NonFinite("halt"), "action is 'halt'; it is 'warn', 'pause' or 'stop'"),
        (lambda: LossSpike(action=None), "action is None; it is 'warn', 'pause' or 'stop'"),
        (lambda: NonFinite(metrics="loss"), "metrics is 'loss'; it is a tuple of names"),
        (lambda: NonFinite(metrics=("loss", 3)), "metrics has 3; a metric's name is a text"),
        (lambda: NonFinite(metrics=()), "NonFinite has nothing to watch"),
        (lambda: NonFinite(gradients="yes"), "gradients is 'yes'; it is True or False"),
        (lambda: LossSpike(metric=""), "metric has ''; a metric's name is a text"),
        (lambda: LossSpike(deviations=0), "deviations is 0; it is a number above 0"),
        (lambda: LossSpike(deviations=math.nan), "deviations is nan; it is a number above 0"),
        (lambda: LossSpike(window=5), "window is 5; it is a whole number of at least 10"),
        (lambda: LossSpike(warmup=2.5), "warmup is 2.5; it is a whole number of at least 5"),
        (lambda: LossSpike(window=10, warmup=20), "warmup is 20 and window is 10"),
        (lambda: NoImprovement(validations=0), "validations is 0; it is a whole number"),
        (lambda: NoImprovement(validations=True), "validations is True; it is a whole number"),
        (lambda: NoImprovement(minimum=-0.1), "minimum is -0.1; it is a number of at least 0"),
        (lambda: NoImprovement(mode="less"), "mode is 'less'; it is 'min' or 'max'"),
    ],
)
def test_an_unusable_argument_is_named_with_what_it_must_be(make, message):
    with pytest.raises(ArgumentError) as caught:
        make()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("guards", "message"),
    [
        (NonFinite(), "guards is a NonFinite; it is a list: guards=[NonFinite(...)]"),
        ("nan", "guards is a str; it is a list"),
        ([NonFinite(), "nan"], "guards[1] is a str; it is NonFinite(...), LossSpike(...)"),
        ([LossSpike], "guards[0] is the class LossSpike; call it: LossSpike(...)"),
    ],
)
def test_what_is_no_list_of_guards_is_named(guards, message):
    with pytest.raises(ArgumentError) as caught:
        check_guards(guards)
    assert message in str(caught.value)


def test_without_guards_a_loss_that_is_not_finite_is_warned_of():
    assert check_guards(None) == [NonFinite(action="warn", metrics=("loss",))]


def test_an_empty_list_means_no_guards_and_a_tuple_will_do():
    assert check_guards([]) == []
    assert check_guards((LossSpike(), NonFinite())) == [LossSpike(), NonFinite()]


def test_gradients_are_needed_where_a_guard_watches_them():
    assert not needs_gradients([NonFinite(), LossSpike(), NoImprovement()])
    assert needs_gradients([LossSpike(), NonFinite(gradients=True)])
    assert needs_gradients([LossSpike(metric="grad_norm")])


def test_a_guard_of_the_users_own_is_taken():
    class Own(Guard):
        name = "own"
        watched = ("loss",)

        def watch(self):
            raise NotImplementedError

    assert [guard.name for guard in check_guards([Own("stop")])] == ["own"]


def test_a_trip_says_who_where_and_what_to_do():
    watch = NonFinite("pause").watch()
    (trip,) = watch.look(metrics(first=7, loss=[0.25, None]))
    assert trip[:4] == ("non-finite", "pause", "r", 8)
    assert trip.message == "loss is not finite (NaN or infinite); it was 0.25 at step 7."
    assert trip.value is None


# NonFinite


def test_a_stretch_that_is_not_finite_trips_once_however_it_is_batched():
    values = [1.0, None, None, None, 2.0, None, 3.0]
    whole = [metrics(loss=values)]
    single = [metrics(first=step, loss=[value]) for step, value in enumerate(values, start=1)]
    assert tripped(NonFinite().watch(), whole) == [2, 6]
    assert tripped(NonFinite().watch(), single) == [2, 6]


def test_the_last_finite_value_is_remembered_from_an_earlier_batch():
    watch = NonFinite().watch()
    assert watch.look(metrics(loss=[0.5, 0.75])) == []
    assert "it was 0.75 at step 2" in watch.look(metrics(first=3, loss=[None]))[0].message


def test_each_metric_has_its_own_stretch_and_others_are_not_looked_at():
    watch = NonFinite(metrics=("loss", "aux")).watch()
    found = watch.look(metrics(loss=[None, None, None], aux=[1.0, None, 1.0], more=[None] * 3))
    assert [(trip.step, trip.message.split()[0]) for trip in found] == [(1, "loss"), (2, "aux")]


def test_gradients_are_watched_only_where_asked_for():
    event = metrics(loss=[1.0, 1.0], grad_norm=[2.0, None])
    assert tripped(NonFinite().watch(), [event]) == []
    assert tripped(NonFinite(gradients=True).watch(), [event]) == [2]


def test_after_going_back_a_loss_that_is_still_not_finite_trips_again():
    watch = NonFinite().watch()
    assert tripped(watch, [metrics(loss=[1.0, 2.0, None])]) == [3]
    watch.rewound(1)
    (trip,) = watch.look(metrics(first=2, loss=[None]))
    assert (trip.step, trip.message) == (2, "loss is not finite (NaN or infinite).")


# LossSpike


def by_the_formula(guard, values):
    """Where the docstring's formula says that a spike begins, computed in full at every value."""
    found, outside = [], False
    for position, value in enumerate(values):
        window = sorted(values[max(0, position - guard.window) : position])
        if len(window) < guard.warmup:
            continue
        median = window[len(window) // 2]
        away = sorted(abs(other - median) for other in window)
        mad = away[len(away) // 2]
        if mad == 0:
            away = [other for other in away if other]
            mad = away[len(away) // 2] if away else 0
        limit = median + guard.deviations * max(1.4826 * mad, 0.01 * abs(median), 1e-8)
        if value > limit and not outside:
            found.append(position + 1)
        outside = value > limit
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tail", ["normal", "heavy", "zeros", "rounded"])
def test_spikes_are_where_the_formula_says(tail, seed):
    source = random.Random(seed)
    values = {
        "normal": lambda: source.gauss(0, 1),
        "heavy": lambda: math.exp(source.gauss(0, 1)),
        "zeros": lambda: max(0.0, source.gauss(-0.5, 0.5)),
        "rounded": lambda: round(source.gauss(1, 0.5), 1),
    }[tail]
    series = [values() for _ in range(600)]
    guard = LossSpike(deviations=2, window=40, warmup=10)
    expected = by_the_formula(guard, series)
    assert expected
    assert tripped(guard.watch(), [metrics(loss=series)]) == expected


@pytest.mark.parametrize("seed", range(10))
def test_a_noisy_curve_that_falls_does_not_trip(seed):
    source = random.Random(seed)
    falling = [2.3 * math.exp(-step / 800) + 0.2 for step in range(5000)]
    noisy = [value * (1 + source.gauss(0, 0.1)) for value in falling]
    assert tripped(LossSpike().watch(), [metrics(loss=noisy)]) == []


def test_rounding_is_no_spike_where_the_loss_does_not_vary():
    values = [0.6931471 + 1e-7 * (step % 3 == 0) for step in range(200)]
    values[150] += 1e-4
    assert tripped(LossSpike().watch(), [metrics(loss=values)]) == []


def test_a_spike_trips_and_the_next_one_too_because_it_is_not_absorbed():
    values = noise(300)
    values[200] = values[203] = values[206] = 5.0
    watch = LossSpike("stop").watch()
    found = watch.look(metrics(loss=values))
    assert [trip.step for trip in found] == [201, 204, 207]
    assert found[0].value == 5.0
    assert found[0].action == "stop"
    assert "loss is 5, " in found[0].message
    assert "the guard's limit is 6" in found[0].message


def test_a_spike_that_lasts_trips_once_and_again_only_after_it_was_back():
    values = noise(150) + [5.0] * 10 + noise(1) + [5.0] * 5
    single = [metrics(first=step, loss=[value]) for step, value in enumerate(values, start=1)]
    assert tripped(LossSpike().watch(), single) == [151, 162]


def test_a_new_level_becomes_normal():
    values = noise(200) + noise(100, level=4.0)
    values[280] = 20.0
    assert tripped(LossSpike().watch(), [metrics(loss=values)]) == [201, 281]


def test_nothing_is_judged_before_the_warmup():
    values = noise(60)
    values[18] = 50.0
    assert tripped(LossSpike(warmup=20).watch(), [metrics(loss=values)]) == []
    assert tripped(LossSpike(warmup=10).watch(), [metrics(loss=values)]) == [19]


def test_values_that_are_not_finite_are_passed_over():
    values = [*noise(50), None, None, 5.0]
    assert tripped(LossSpike().watch(), [metrics(loss=values)]) == [53]


def test_another_metric_can_be_watched():
    event = metrics(loss=noise(100), aux=[*noise(99), 9.0])
    assert tripped(LossSpike(metric="aux").watch(), [event]) == [100]
    assert tripped(LossSpike().watch(), [event]) == []


def test_after_going_back_only_what_came_before_is_compared_with():
    watch = LossSpike().watch()
    assert tripped(watch, [metrics(loss=noise(50) + noise(50, level=4.0))]) == [51]
    watch.rewound(50)
    assert tripped(watch, [metrics(first=51, loss=noise(5, level=4.0))]) == [51]


def test_after_going_back_beyond_the_window_it_warms_up_anew():
    watch = LossSpike(window=30, warmup=20).watch()
    watch.look(metrics(loss=noise(100)))
    watch.rewound(40)
    values = [*noise(19), 5.0, 5.0, *noise(1), 5.0]
    # The first 5.0 is the twentieth value; the second is judged by the twenty before it.
    assert tripped(watch, [metrics(first=41, loss=values)]) == [61, 63]


# NoImprovement


def test_no_improvement_trips_after_so_many_validations_and_again_after_as_many():
    values = [1.0, 0.5, 0.6, 0.5, 0.7, 0.8, 0.9, 0.9, 0.4, 0.4]
    single = [metrics(first=10 * n, val_loss=[value]) for n, value in enumerate(values, start=1)]
    assert tripped(NoImprovement(validations=3).watch(), single) == [50, 80]


def test_its_message_has_the_best_and_where_it_was():
    watch = NoImprovement(validations=2).watch()
    (trip,) = watch.look(metrics(val_loss=[0.5, 0.6, 0.7]))
    assert trip.value == 0.7
    assert trip.message == (
        "val_loss has not improved in 2 validations: "
        "it is 0.7, and the best is still 0.5, from step 1."
    )


def test_more_is_better_where_the_mode_says_so():
    guard = NoImprovement(metric="val_accuracy", validations=2, mode="max")
    assert tripped(guard.watch(), [metrics(val_accuracy=[0.1, 0.2, 0.3, 0.2, 0.25])]) == [5]


def test_an_improvement_is_more_than_the_minimum():
    values = [1.0, 0.95, 0.91, 0.89]
    assert tripped(NoImprovement(validations=2).watch(), [metrics(val_loss=values)]) == []
    guard = NoImprovement(validations=2, minimum=0.1)
    assert tripped(guard.watch(), [metrics(val_loss=values)]) == [3]


def test_what_is_not_finite_is_no_improvement():
    watch = NoImprovement(validations=2).watch()
    (trip,) = watch.look(metrics(val_loss=[None, None]))
    assert trip.message == "val_loss had no finite value in 2 validations."
    (trip,) = watch.look(metrics(first=3, val_loss=[0.5, 0.6, None]))
    assert (trip.step, trip.value) == (5, None)
    assert "it is not finite, and the best is still 0.5" in trip.message


def test_two_validations_at_one_step_count_once():
    watch = NoImprovement(validations=2).watch()
    at = [metrics(first=step, val_loss=[0.5]) for step in (1, 2, 2, 2, 3)]
    assert tripped(watch, at) == [3]


def test_after_going_back_best_and_count_are_what_they_were():
    watch = NoImprovement(validations=3).watch()
    assert tripped(watch, [metrics(val_loss=[0.5, 0.6, 0.3, 0.4])]) == []
    watch.rewound(2)
    # One validation since the best, 0.5; 0.45 would be no improvement on 0.3.
    assert tripped(watch, [metrics(first=3, val_loss=[0.6, 0.6])]) == [4]
    watch.rewound(2)
    assert tripped(watch, [metrics(first=3, val_loss=[0.45, 0.46, 0.47])]) == []


def test_after_going_back_to_the_beginning_everything_is_new():
    watch = NoImprovement(validations=1).watch()
    assert tripped(watch, [metrics(val_loss=[0.5, 0.6])]) == [2]
    watch.rewound(0)
    assert tripped(watch, [metrics(val_loss=[0.9, 0.8])]) == []
