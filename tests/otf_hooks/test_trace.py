"""A proof of exactness names what is not reproducible."""

from __future__ import annotations

import copy
import random
from typing import Any, NamedTuple

import pytest
import torch
from otf_hooks import Trainer
from otf_hooks.trace import Entry, Tracer, difference, digest_of
from otf_session.commands import CommandRequest, Prove
from otf_session.events import CommandChanged
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler, TensorDataset

from .record import of

#: Outside of everything that a checkpoint holds.
NOISE = random.SystemRandom()
SIZE, BATCH = 24, 4


def data():
    generator = torch.Generator().manual_seed(7)
    inputs = torch.randn(SIZE, 6, generator=generator)
    return TensorDataset(inputs, (inputs.sum(dim=1) > 0).long())


def parts(*middle, **given):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), *middle, nn.Dropout(0.2), nn.Linear(8, 2))
    return {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        "loss_fn": nn.CrossEntropyLoss(),
        "train_loader": DataLoader(data(), batch_size=BATCH, shuffle=True),
        **given,
    }


def proved(given, *, steps=3, training_step=None):
    """The answer to a proof after the second step of a real training."""
    trainer = Trainer(project="p", run_name="r", max_steps=6, auto_connect=False)
    if training_step is not None:
        trainer.training_step(training_step)
    asked = []

    def ask(module, args):
        if module.training and trainer._engine.step == 1 and not asked:
            asked.append(True)
            request = CommandRequest(id="1", author="test", command=Prove(steps=steps))
            trainer._engine.desk.receive(request)

    given["model"].register_forward_pre_hook(ask)
    trainer.fit(**given)
    (answered,) = [event for event in of(CommandChanged) if event.outcome is not None]
    return answered.outcome


def found(given, **options):
    outcome = proved(given, **options)
    assert not outcome.result.exact
    # The difference and the advice are in the message too.
    assert outcome.result.difference in outcome.message
    assert outcome.result.hint in outcome.message
    assert f"At step {outcome.result.step}:" in outcome.message
    return outcome.result


# What differs, by name


class AnyOrder(Sampler[int]):
    def __len__(self):
        return SIZE

    def __iter__(self):
        order = list(range(SIZE))
        NOISE.shuffle(order)
        return iter(order)


class Noisy(Dataset[Any]):
    def __init__(self):
        self.inner = data()

    def __len__(self):
        return SIZE

    def __getitem__(self, index):
        inputs, target = self.inner[index]
        return inputs + NOISE.random(), target


class DrawsUnevenly(Noisy):
    def __getitem__(self, index):
        for _ in range(NOISE.randrange(1000)):
            torch.rand(1)
        return self.inner[index]


class PrivateNoise(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(3)

    def forward(self, x):
        return x + torch.rand(x.shape, generator=self.generator)


class NoisyGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * (1 + NOISE.random())


class NoisyBackward(nn.Module):
    def forward(self, x):
        return NoisyGradient.apply(x)


class NoisySGD(torch.optim.SGD):
    def step(self, closure=None):
        super().step(closure)
        with torch.no_grad():
            self.param_groups[0]["params"][0].add_(NOISE.random())


class ForgetfulSGD(torch.optim.SGD):
    def step(self, closure=None):
        super().step(closure)
        first = self.param_groups[0]["params"][0]
        self.state[first]["note"] = torch.tensor(NOISE.random())


class TakesAWay(nn.Module):
    def __init__(self):
        super().__init__()
        self.ways = nn.ModuleList([nn.Identity(), nn.Identity()])
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.ways[int(self.calls > 5)](x)


def test_the_sampler():
    loader = DataLoader(data(), batch_size=BATCH, sampler=AnyOrder())
    result = found(parts(train_loader=loader))
    assert result.difference == "The sampler: it chose other samples."
    assert result.step == 3


def test_the_dataset_or_a_worker():
    loader = DataLoader(Noisy(), batch_size=BATCH, shuffle=True)
    result = found(parts(train_loader=loader))
    assert result.difference == (
        "A worker or the dataset: the same samples came with other contents."
    )
    assert "persistent_workers=False" in result.hint


def test_the_random_state():
    loader = DataLoader(DrawsUnevenly(), batch_size=BATCH, shuffle=True)
    result = found(parts(train_loader=loader))
    assert result.difference.startswith("The random state: a generator was in another state")


def test_an_operator_of_the_forward_pass():
    result = found(parts(PrivateNoise()))
    assert result.difference == (
        "An operator in the forward pass: 1 (PrivateNoise) gave another output for the same input."
    )
    assert result.step == 3


def test_the_loss():
    generator = torch.Generator()
    loss_fn = nn.CrossEntropyLoss()

    def noisy(output, target):
        return loss_fn(output, target) + torch.rand((), generator=generator)

    result = found(parts(loss_fn=noisy))
    assert result.difference.startswith("The loss function: it gave another value")


def test_an_operator_of_the_backward_pass():
    result = found(parts(NoisyBackward()))
    # Of the first layer only: what comes after the noise on the way back.
    assert result.difference == (
        "An operator in the backward pass: the gradient of 0.weight differs."
    )
    assert "use_deterministic_algorithms" in result.hint


def test_the_optimizers_step():
    given = parts()
    given["optimizer"] = NoisySGD(given["model"].parameters(), lr=0.1)
    result = found(given)
    assert result.difference == "The optimizer's step: 0.weight differs after the same gradient."


def test_the_optimizers_state():
    given = parts()
    given["optimizer"] = ForgetfulSGD(given["model"].parameters(), lr=0.1)
    result = found(given)
    assert result.difference == "The optimizer's state differs after the same step."


def test_the_scheduler():
    given = parts()
    scheduler = torch.optim.lr_scheduler.LambdaLR(given["optimizer"], lambda n: NOISE.random())
    result = found({**given, "scheduler": scheduler, "scheduler_interval": "step"})
    assert result.difference == "The scheduler: it set another learning rate."


def test_another_way_through_the_model():
    result = found(parts(TakesAWay()))
    assert result.difference.startswith("The steps took different ways: output 1.ways.")


def test_the_first_difference_is_the_one_that_is_named():
    given = parts(PrivateNoise(), NoisyBackward())
    given["optimizer"] = NoisySGD(given["model"].parameters(), lr=0.1)
    assert "1 (PrivateNoise)" in found(given).difference


# What does not differ


def test_a_step_of_the_scripts_own_is_proved():
    def step(batch, state):
        state["optimizer"].zero_grad()
        loss = state["loss_fn"](state["model"](batch[0]), batch[1])
        loss.backward()
        state["optimizer"].step()
        state["seen"] = state.get("seen", 0) + 1
        return {"loss": loss}

    outcome = proved(parts(), training_step=step)
    assert (outcome.result.exact, outcome.result.steps) == (True, 3)


def test_sparse_gradients_are_proved():
    model = nn.Sequential(nn.Embedding(SIZE, 4, sparse=True), nn.Flatten(), nn.Linear(4, 2))
    samples = TensorDataset(torch.arange(SIZE).reshape(-1, 1), torch.arange(SIZE) % 2)
    given = {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "loss_fn": nn.CrossEntropyLoss(),
        "train_loader": DataLoader(samples, batch_size=BATCH, shuffle=True),
    }
    assert proved(given).result.exact


class Answer:
    """An output as some libraries have them: a class of their own, neither tuple nor mapping."""

    def __init__(self, logits):
        self.logits = logits


class Answers(nn.Module):
    def forward(self, x):
        return Answer(x)


class Logits(nn.Module):
    def forward(self, answer):
        return answer.logits


def test_an_output_of_the_scripts_own_class_is_no_difference():
    assert proved(parts(Answers(), Logits())).result.exact


@pytest.mark.parametrize("steps", [0, 1001])
def test_a_number_of_steps_that_makes_no_sense_is_refused(steps):
    assert proved(parts(), steps=steps).reason == f"{steps} steps cannot be proved: use 1 to 1000."


def test_nothing_of_a_proof_stays_in_the_model():
    given = parts()
    hooks = [len(module._forward_hooks) for module in given["model"].modules()]
    assert proved(given).result.exact
    assert [len(module._forward_hooks) for module in given["model"].modules()] == hooks


# Digests


class Output(NamedTuple):
    left: Any
    right: Any


class ModelOutput:
    def __init__(self, *values):
        self.values = values

    def to_tuple(self):
        return self.values


SAME = [
    torch.arange(4.0),
    torch.tensor(3),
    torch.tensor([], dtype=torch.float16),
    torch.ones(2, dtype=torch.bfloat16),
    torch.tensor([True, False]),
    torch.tensor([1 + 2j]),
    torch.arange(6.0).reshape(2, 3).t(),
    torch.tensor([float("nan")]),
    torch.eye(3).to_sparse(),
    {"a": [1, (2.5, "text", None)], "b": torch.ones(2)},
    Output(torch.ones(1), 2),
    ModelOutput(torch.zeros(1), 3),
]


@pytest.mark.parametrize("value", SAME, ids=range(len(SAME)))
def test_the_same_bits_have_the_same_digest(value):
    assert digest_of(value) == digest_of(copy.deepcopy(value))
    # And each of them is told from all the others.
    assert [digest_of(other) for other in SAME].count(digest_of(value)) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.zeros(1), torch.tensor([-0.0])),
        (torch.ones(1), torch.nextafter(torch.ones(1), torch.tensor(2.0))),
        (torch.ones(2), torch.ones(1, 2)),
        (torch.ones(2), torch.ones(2, dtype=torch.float64)),
        (torch.zeros(1, dtype=torch.int32), torch.zeros(1)),
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}),
        ([1, [2]], [[1], 2]),
        ([torch.ones(1), torch.zeros(1)], [torch.zeros(1), torch.ones(1)]),
        (1, 1.0),
        (0.1 + 0.2, 0.3),
        (torch.tensor([0.0, 1.0]).to_sparse(), torch.tensor([1.0, 0.0]).to_sparse()),
    ],
)
def test_other_bits_have_another_digest(one, other):
    assert digest_of(one) != digest_of(other)


# Comparing


def entry(step, what, digest="a", name=""):
    return Entry(step, what, name, digest)


def test_traces_that_are_the_same_have_no_difference():
    assert difference([entry(1, "loss")], [entry(1, "loss")]) is None
    assert difference([], []) is None


def test_a_trace_that_ends_before_the_other_differs_there():
    first = [entry(1, "loss"), entry(2, "batch"), entry(2, "loss")]
    for one, other in ((first, first[:1]), (first[:1], first)):
        found = difference(one, other)
        assert found.step == 2
        assert found.what.startswith("A worker or the dataset")


def test_every_kind_of_entry_has_words():
    model = nn.Sequential(nn.Linear(2, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with Tracer(model, optimizer) as tracer:
        tracer.before_step(1, [0, 1], torch.ones(2, 2))
        loss = model(torch.ones(2, 2)).sum()
        loss.backward()
        optimizer.step()
        tracer.after_step(loss)
        tracer.after_scheduler()
    kinds = [item.what for item in tracer.trace]
    assert list(dict.fromkeys(kinds)) == [
        "indices",
        "batch",
        "random",
        "output",
        "loss",
        "gradient",
        "parameter",
        "optimizer",
        "scheduler",
    ]
    for number, item in enumerate(tracer.trace):
        changed = list(tracer.trace)
        changed[number] = item._replace(digest="other")
        found = difference(tracer.trace, changed)
        assert found.step == 1
        assert item.name in found.what
        assert "{" not in found.what + found.hint
        assert found.hint
