import threading

import numpy as np
import pytest
import torch
from otf_hooks.recorder import HeldTensor, Recorder


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def recorder(warnings):
    return Recorder(warn=warnings.append, clock=lambda: 12.5)


def test_numbers_tensors_and_numpy_scalars_become_numbers(recorder):
    recorder.record(
        "baseline",
        3,
        {
            "float": 0.5,
            "int": 2,
            "bool": True,
            "tensor": torch.tensor(1.5, requires_grad=True),
            "one_element": torch.tensor([[2.5]]),
            "numpy": np.float32(0.25),
        },
    )
    (measurement,) = recorder.drain()
    assert (measurement.run, measurement.step, measurement.time) == ("baseline", 3, 12.5)
    assert measurement.values == {
        "float": 0.5,
        "int": 2,
        "bool": 1.0,
        "tensor": 1.5,
        "one_element": 2.5,
        "numpy": 0.25,
    }


def test_a_cpu_tensor_is_read_when_it_is_recorded(recorder):
    running = torch.tensor(1.0)
    recorder.record("baseline", 1, {"running": running})
    running += 1
    (measurement,) = recorder.drain()
    assert measurement.values["running"] == 1.0


def test_what_is_no_scalar_is_left_out_and_said_once(recorder, warnings):
    for step in (1, 2):
        recorder.record("baseline", step, {"loss": 0.1, "logits": torch.zeros(3), "text": "no"})
    assert [item.values for item in recorder.drain()] == [{"loss": 0.1}, {"loss": 0.1}]
    assert len(warnings) == 2
    assert "'logits'" in warnings[0]
    assert "shape (3,)" in warnings[0]
    assert "'text'" in warnings[1]


def test_a_tensor_elsewhere_is_held_detached_with_its_version(recorder):
    value = torch.ones((), device="meta", requires_grad=True) * 2
    recorder.record("baseline", 1, {"loss": value})
    (measurement,) = recorder.drain()
    held = measurement.values["loss"]
    assert isinstance(held, HeldTensor)
    assert not held.tensor.requires_grad
    assert held.tensor.grad_fn is None


def test_nothing_is_lost_or_doubled_while_another_thread_drains(recorder):
    seen = []
    done = threading.Event()

    def drain():
        while not done.is_set():
            seen.extend(recorder.drain())
        seen.extend(recorder.drain())

    thread = threading.Thread(target=drain)
    thread.start()
    for step in range(20_000):
        recorder.record("baseline", step, {"loss": 1.0})
    done.set()
    thread.join()
    assert [item.step for item in seen] == list(range(20_000))
