from __future__ import annotations

import copy
import math

import pytest
import torch
from otf_hooks.meters.sampling import SampleBudget
from otf_hooks.meters.telemetry import NoTelemetry, Telemetry, telemetry_for
from torch import nn


class Always(SampleBudget):
    """Every step may be sampled."""

    def is_due(self, now):
        return True


class Never(SampleBudget):
    def is_due(self, now):
        return False


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 2))


@pytest.fixture
def watch(warnings):
    def make(model, *optimizers, budget=None):
        budget = Always(0.01) if budget is None else budget
        return Telemetry(model, optimizers, budget=budget, warn=warnings.append)

    return make


def batch(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(8, 6, generator=generator)


def step(model, *optimizers, inputs=None):
    """Forward, backward, and the optimizers' steps; the gradients stay."""
    model.zero_grad()
    model(batch() if inputs is None else inputs).square().sum().backward()
    for optimizer in optimizers:
        optimizer.step()


def watched(telemetry, act, *args, **kwargs):
    telemetry.before_step()
    act(*args, **kwargs)
    return {name: float(value) for name, value in telemetry.after_step().items()}


def norm(tensors):
    return math.sqrt(sum(float(tensor.detach().double().square().sum()) for tensor in tensors))


def hooks_of(model, *optimizers):
    found = [list(part._forward_hooks) for part in model.modules()]
    found += [list(part._forward_pre_hooks) for part in model.modules()]
    for optimizer in optimizers:
        found.append(list(optimizer._optimizer_step_pre_hooks))
        found.append(list(optimizer._optimizer_step_post_hooks))
    return sum(found, [])


def test_a_sample_is_what_can_be_computed_by_hand(model, watch, warnings):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    zeros = (model[0](batch()) <= 0).float().mean().item()
    found = watched(watch(model, optimizer), step, model, optimizer)
    gradients = [parameter.grad for parameter in model.parameters()]
    assert found == pytest.approx(
        {
            "grad_norm": norm(gradients),
            "weight_norm": norm(model.parameters()),
            "update_ratio": 0.1 * norm(gradients) / norm(before),
            "activation_zeros": zeros,
        },
        rel=1e-5,
    )
    assert warnings == []


def test_hooks_are_there_in_sampled_steps_alone(model, watch):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    telemetry = watch(model, optimizer)
    telemetry.before_step()
    assert len(hooks_of(model, optimizer)) == 3
    step(model, optimizer)
    telemetry.after_step()
    assert hooks_of(model, optimizer) == []


def test_steps_that_are_not_sampled_have_no_hooks_and_no_values(model, watch):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    telemetry = watch(model, optimizer, budget=Never(0.01))
    telemetry.before_step()
    assert hooks_of(model, optimizer) == []
    step(model, optimizer)
    assert telemetry.after_step() == {}
    assert telemetry.budget.trained > 0


def test_closing_takes_the_hooks_away_that_an_exception_left(model, watch):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    telemetry = watch(model, optimizer)
    telemetry.before_step()
    telemetry.close()
    assert hooks_of(model, optimizer) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.01),
        lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True, amsgrad=True),
        lambda p: torch.optim.Adam(p, lr=0.01, maximize=True),
    ],
)
def test_weights_gradients_and_generators_are_bitwise_the_same(model, watch, make):
    def train(net, telemetry, optimizer):
        torch.manual_seed(5)
        begun = [parameter._version for parameter in net.parameters()]
        for seed in range(20):
            telemetry.before_step()
            step(net, optimizer, inputs=batch(seed))
            telemetry.after_step()
        gradients = [parameter.grad for parameter in net.parameters()]
        versions = [p._version - version for p, version in zip(net.parameters(), begun)]
        return [*net.state_dict().values(), *gradients, torch.rand(3)], versions

    other = copy.deepcopy(model)
    bare_optimizer, optimizer = make(other.parameters()), make(model.parameters())
    bare, bare_versions = train(other, NoTelemetry(), bare_optimizer)
    found, versions = train(model, watch(model, optimizer), optimizer)
    assert all(torch.equal(one, two) for one, two in zip(bare, found))
    # Nor was anything written that was then put back.
    assert versions == bare_versions


def test_gradients_are_those_the_optimizer_gets(model, watch):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def clipped():
        model(batch()).square().sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()

    assert watched(watch(model, optimizer), clipped)["grad_norm"] == pytest.approx(0.5, rel=1e-3)


def test_an_optimizer_that_is_given_a_closure_has_its_gradients_from_it(model, watch):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def closure():
        model.zero_grad()
        loss = model(batch()).square().sum()
        loss.backward()
        return loss

    def lightning_like():
        # What the gradients are before the closure is called is not this step's.
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 1e6)
        optimizer.step(closure)

    found = watched(watch(model, optimizer), lightning_like)
    assert found["grad_norm"] == pytest.approx(norm([p.grad for p in model.parameters()]), rel=1e-5)
    assert 0 < found["update_ratio"] < 100


def test_where_gradients_add_up_a_sample_waits_for_the_optimizer(model, watch):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    telemetry = watch(model, optimizer)
    assert watched(telemetry, step, model).keys() == {"activation_zeros"}
    assert watched(telemetry, step, model) == {}
    found = watched(telemetry, step, model, optimizer)
    assert found.keys() == {"grad_norm", "weight_norm", "update_ratio"}
    assert hooks_of(model, optimizer) == []


def test_an_optimizer_that_never_steps_does_not_end_sampling(model, watch, monkeypatch):
    monkeypatch.setattr("otf_hooks.meters.telemetry._LONGEST", 3)
    telemetry = watch(model, torch.optim.SGD(model.parameters(), lr=0.1))
    names = [set(watched(telemetry, step, model)) for _ in range(6)]
    assert names == [{"activation_zeros"}, set(), set()] * 2


def test_several_optimizers_count_together(model, watch):
    first = torch.optim.SGD(model[0].parameters(), lr=0.1)
    second = torch.optim.SGD(model[3].parameters(), lr=0.2)
    found = watched(watch(model, first, second), step, model, first, second)
    gradients = [parameter.grad for parameter in model.parameters()]
    assert found["grad_norm"] == pytest.approx(norm(gradients), rel=1e-5)
    assert found["weight_norm"] == pytest.approx(norm(model.parameters()), rel=1e-5)


def test_a_loss_scale_that_a_fused_optimizer_divides_by_is_divided_by(model, watch):
    class Fused(torch.optim.SGD):
        @torch.no_grad()
        def step(self, closure=None):
            pass

    optimizer = Fused(model.parameters(), lr=0.1)

    def scaled():
        # As a GradScaler hands it on to optimizers that unscale by themselves.
        optimizer.grad_scale = torch.tensor(8.0)
        (8.0 * model(batch()).square().sum()).backward()
        optimizer.step()

    found = watched(watch(model, optimizer), scaled)
    wanted = norm([parameter.grad for parameter in model.parameters()]) / 8
    assert found["grad_norm"] == pytest.approx(wanted, rel=1e-5)


def test_norms_of_halves_are_no_halves(watch):
    layer = nn.Linear(1000, 100, dtype=torch.float16)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)

    def steps():
        for parameter in layer.parameters():
            parameter.grad = torch.full_like(parameter, 300.0)
        optimizer.step()

    # 94888, where a half's largest number is 65504.
    found = watched(watch(layer, optimizer), steps)
    assert found["grad_norm"] == pytest.approx(300 * math.sqrt(100 * 1001), rel=1e-3)


def test_large_models_are_looked_at_in_part(model, watch, monkeypatch):
    monkeypatch.setattr("otf_hooks.meters.sample._MOST_WEIGHTS", 40)
    monkeypatch.setattr("otf_hooks.meters.sample._MOST_ACTIVATIONS", 30)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    telemetry = watch(model, optimizer)
    telemetry.before_step()
    step(model, optimizer)
    (before,) = telemetry._sample._norms["before"]
    looked_at = telemetry._sample._looked_at
    found = {name: float(value) for name, value in telemetry.after_step().items()}
    assert looked_at == 26  # every fifth of 128
    assert float(before) < norm(model.parameters())
    assert found["grad_norm"] == pytest.approx(norm([p.grad for p in model.parameters()]), rel=1e-5)
    assert 0 < found["update_ratio"] < 1


def test_sparse_gradients_have_no_norm_and_do_no_harm(watch, warnings):
    table = nn.Embedding(10, 4, sparse=True)
    optimizer = torch.optim.SGD(table.parameters(), lr=0.1)

    def steps():
        table(torch.tensor([1, 2, 2])).sum().backward()
        optimizer.step()

    assert watched(watch(table, optimizer), steps).keys() == {"weight_norm", "update_ratio"}
    assert warnings == []


def test_a_shard_has_no_norm_because_the_others_would_have_to_be_asked(watch, warnings):
    class Shard(nn.Parameter):
        pass

    model = nn.Linear(3, 2)
    model.weight = Shard(torch.ones(2, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert watched(watch(model, optimizer), step, model, optimizer, inputs=torch.ones(1, 3)) == {}
    assert warnings == []


def test_modules_in_eval_mode_are_left_alone(watch):
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2), nn.ReLU())
    model[1].eval()
    telemetry = watch(model, torch.optim.SGD(model.parameters(), lr=0.1))
    telemetry.before_step()
    assert not model[1]._forward_hooks
    assert model[3]._forward_hooks


@pytest.mark.skipif(
    not hasattr(torch.compiler, "is_compiling"), reason="torch 2.2: see conftest.py"
)
def test_a_compiled_model_has_no_hooks(model, watch):
    compiled = torch.compile(model, backend="eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    telemetry = watch(compiled, optimizer)
    telemetry.before_step()
    assert not any(part._forward_hooks for part in compiled.modules())
    step(compiled, optimizer)
    assert telemetry.after_step().keys() == {"grad_norm", "weight_norm", "update_ratio"}


def test_a_sample_that_fails_ends_sampling_and_not_the_step(model, watch, warnings, monkeypatch):
    def full(*args):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("otf_hooks.meters.sample.total_norm", full)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    telemetry = watch(model, optimizer)
    before = model[0].weight.detach().clone()
    assert watched(telemetry, step, model, optimizer) == {}
    assert not torch.equal(model[0].weight, before)
    (warning,) = warnings
    assert "OutOfMemoryError: CUDA out of memory" in warning
    telemetry.before_step()
    assert hooks_of(model, optimizer) == []


def test_an_exception_of_the_script_s_own_goes_through(model, watch, warnings):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    telemetry = watch(model, optimizer)
    telemetry.before_step()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        step(model, optimizer, inputs=torch.ones(2, 3))
    telemetry.close()
    assert hooks_of(model, optimizer) == []
    assert warnings == []


def test_what_a_sample_costs_is_measured_and_paid(model, watch):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    telemetry = watch(model, optimizer)
    for _ in range(3):
        watched(telemetry, step, model, optimizer)
    assert 0 < telemetry.budget.spent < telemetry.budget.trained


def test_the_device_s_time_is_paid_when_it_is_known_and_not_waited_for(model, watch, monkeypatch):
    """With events as CUDA's are: passed some time after they were recorded."""
    passed = [False]

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self, stream):
            pass

        def query(self):
            return passed[0]

        def elapsed_time(self, end):
            assert passed[0], "read before it has passed"
            return 1000.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    telemetry = watch(model, optimizer)
    from otf_hooks.meters import telemetry as module

    make = module.Section
    monkeypatch.setattr(module, "Section", lambda device: make(torch.device("cuda", 0)))
    assert watched(telemetry, step, model, optimizer)
    assert watched(telemetry, step, model, optimizer) == {}
    assert telemetry.budget.spent == 0
    passed[0] = True
    assert watched(telemetry, step, model, optimizer) == {}
    # Hooks set, activation, before and after the update, the end: five pieces of a second each.
    assert telemetry.budget.spent == pytest.approx(5, abs=1)


def test_no_budget_is_no_telemetry(model, warnings):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    telemetry = telemetry_for(model, [optimizer], 0.0, warnings.append)
    telemetry.before_step()
    assert hooks_of(model, optimizer) == []
    assert telemetry.after_step() == {}
    assert isinstance(telemetry_for(model, [optimizer], 0.01, warnings.append), Telemetry)
