import math

import torch
from otf_hooks.readback import TensorReader, columns
from otf_hooks.recorder import HeldTensor, Measurement


def measured(step, **values):
    return Measurement("baseline", step, 100.0 + step, values)


def test_steps_with_the_same_metrics_share_one_event():
    (event,) = columns("baseline", [measured(1, loss=0.5, lr=0.1), measured(2, loss=0.4, lr=0.1)])
    assert event.steps == [1, 2]
    assert event.times == [101.0, 102.0]
    assert event.values == {"loss": [0.5, 0.4], "lr": [0.1, 0.1]}


def test_a_metric_measured_now_and_then_has_its_own_steps():
    events = columns(
        "baseline",
        [measured(1, loss=0.5), measured(2, loss=0.4, accuracy=0.9), measured(3, loss=0.3)],
    )
    found = {
        name: (event.steps, values) for event in events for name, values in event.values.items()
    }
    assert found == {"loss": ([1, 2, 3], [0.5, 0.4, 0.3]), "accuracy": ([2], [0.9])}


def test_what_is_not_finite_is_null():
    (event,) = columns(
        "baseline", [measured(1, loss=math.nan), measured(2, loss=math.inf), measured(3, loss=1)]
    )
    assert event.values == {"loss": [None, None, 1.0]}


def test_held_tensors_are_read_in_place_of_their_references():
    held = torch.tensor(0.5)
    counter = torch.tensor(3)
    measurements = [
        measured(1, loss=HeldTensor(held, held._version), lr=0.1),
        measured(2, seen=HeldTensor(counter, counter._version)),
    ]
    TensorReader(lambda name: None).read(measurements)
    assert [item.values for item in measurements] == [{"loss": 0.5, "lr": 0.1}, {"seen": 3.0}]


def test_a_tensor_changed_in_place_is_never_recorded_as_something_it_was_not():
    changed = []
    running = torch.tensor(1.0)
    measurements = [measured(1, running=HeldTensor(running, running._version))]
    running += 1
    TensorReader(changed.append).read(measurements)
    assert math.isnan(measurements[0].values["running"])
    assert changed == ["running"]
