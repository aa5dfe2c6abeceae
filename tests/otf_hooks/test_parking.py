"""What training holds on a device, parked in host memory and brought back bit for bit."""

from __future__ import annotations

import pytest
import torch
from otf_hooks.parking import Parked, Parking
from otf_session.commands import Pause, Prove, Resume, Test, Validate
from otf_session.events import CommandChanged
from torch import nn

from .conftest import make_loop
from .record import of
from .scenarios import STEPS_PER_EPOCH, Steered, bare, make
from .test_engine import engine, request  # noqa: F401

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="moves memory of a GPU")
needs_none = pytest.mark.skipif(torch.cuda.is_available(), reason="a device that is not there")


def held(device="cpu"):
    """A model and an optimizer after a step, with everything that they hold."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)

    def step():
        optimizer.zero_grad()
        model(torch.ones(4, 6, device=device)).sum().backward()
        optimizer.step()

    step()
    tensors = [*model.parameters(), *model.buffers()]
    tensors += [parameter.grad for parameter in model.parameters()]
    for values in optimizer.state.values():
        tensors += [value for value in values.values() if isinstance(value, torch.Tensor)]
    return model, step, tensors


def test_what_is_in_host_memory_stays_where_it_is():
    _, step, tensors = held()
    places = [tensor.data_ptr() for tensor in tensors]
    bits = [tensor.detach().clone() for tensor in tensors]
    parking = Parking()
    assert parking.park(tensors) == Parked(moved=0, freed=0)
    assert parking.is_empty
    parking.bring_back()
    assert [tensor.data_ptr() for tensor in tensors] == places
    assert all(torch.equal(one, other) for one, other in zip(tensors, bits))
    step()


def test_to_bring_back_nothing_is_nothing():
    parking = Parking()
    assert parking.is_empty
    parking.bring_back()
    assert parking.is_empty


@needs_none
def test_what_the_device_cannot_take_stays_parked_to_be_tried_again():
    parking = Parking()
    tensors = [torch.arange(3.0), torch.arange(4.0)]
    parking._away = [(tensor, torch.device("cuda", 0)) for tensor in tensors]
    for _ in range(2):
        with pytest.raises((RuntimeError, AssertionError)):
            parking.bring_back()
        assert len(parking._away) == 2
    assert torch.equal(tensors[1], torch.arange(4.0))


@needs_gpu
def test_on_a_gpu_the_same_tensors_come_back_bit_for_bit():
    model, step, tensors = held("cuda")
    other, other_step, _ = held("cuda")
    identities = [id(tensor) for tensor in (*model.parameters(), *model.buffers())]
    bits = [tensor.detach().cpu().clone() for tensor in tensors]
    parking = Parking()
    parked = parking.park(tensors)
    on_device = [tensor for tensor in tensors if tensor.is_cuda]
    assert on_device == []
    assert not parking.is_empty
    assert parked.moved > 0
    parking.bring_back()
    assert parking.is_empty
    assert [id(tensor) for tensor in (*model.parameters(), *model.buffers())] == identities
    assert all(torch.equal(tensor.cpu(), bit) for tensor, bit in zip(tensors, bits))
    step()
    other_step()
    for one, two in zip(model.parameters(), other.parameters()):
        assert torch.equal(one, two)


@needs_gpu
def test_on_a_gpu_memory_is_given_back():
    tensor = torch.ones(64 << 20, device="cuda")
    parked = Parking().park([tensor])
    assert parked.moved == 256 << 20
    assert parked.freed >= 256 << 20


def test_every_tensor_that_training_holds_is_named_once(engine):  # noqa: F811
    loop = make_loop(engine)
    model, optimizer = loop.model, loop.optimizer
    model(torch.ones(4, 6)).sum().backward()
    optimizer.step()
    found = {id(tensor) for tensor in loop.tensors()}
    assert len(found) == len(loop.tensors())
    wanted = [*model.parameters(), *model.buffers()]
    wanted += [parameter.grad for parameter in model.parameters()]
    wanted += [values["momentum_buffer"] for values in optimizer.state.values()]
    assert found == {id(tensor) for tensor in wanted}


def outcomes():
    return [event.outcome for event in of(CommandChanged) if event.outcome is not None]


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what a CPU says")
def test_a_pause_that_releases_changes_nothing_and_says_what_it_moved():
    steered = Steered("dropout").at(5, Pause(release=True), Test(), Prove(steps=2), Resume())
    steered.at(STEPS_PER_EPOCH + 2, Pause(), Pause(release=True), Validate(), Resume())
    found = steered.run()
    wanted = bare(make("dropout"))
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    first, _, _, _, _, second, _, _ = outcomes()
    for outcome in (first, second):
        assert (outcome.result.moved, outcome.result.freed, outcome.result.device) == (0, 0, "")
        assert "in host memory already" in outcome.message
    assert {type(outcome).__name__ for outcome in outcomes()} == {"Applied"}
