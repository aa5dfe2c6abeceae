"""The check of activations: dead, saturated, exploding, vanishing, unsettled, collapsed."""

import pytest
import torch
from otf_hooks.health import depth
from otf_session.health import Severity
from torch import nn
from torch.nn import functional

from .checked import CLASSES, FEATURES, checked, found, parts


class Functional(nn.Module):
    """Activations as functions, which no hook on a module sees."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def biased(given, bias, layer=0):
    with torch.no_grad():
        given["model"][layer].bias.fill_(bias)
    return given


ACTIVATIONS = {
    "relu": nn.ReLU(),
    "relu in place": nn.ReLU(inplace=True),
    "functional": Functional(functional.relu),
    "relu6": nn.ReLU6(),
    "gelu": nn.GELU(),
    "silu": nn.SiLU(),
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
}


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_a_sound_run_has_no_finding(name):
    report = checked(parts(nn.BatchNorm1d(16), ACTIVATIONS[name]), "activations")
    assert report.findings == []
    assert report.measures["samples"] >= 64
    assert [measure for measure in report.measures if measure.startswith("mean/2 (")]


@pytest.mark.parametrize("name", ["relu", "relu in place", "functional", "relu6", "gelu", "silu"])
def test_dead_units_are_counted(name):
    report = checked(biased(parts(ACTIVATIONS[name]), -30.0), "activations")
    finding = found(report, "1 (", "dead")
    assert finding.what == "16 of 16 units are dead."
    assert finding.severity is Severity.CRITICAL
    (place,) = [key for key in report.measures if key.startswith("dead/1 (")]
    assert report.measures[place] == 1.0


def test_some_dead_units_are_a_warning_and_one_of_many_is_none():
    given = parts(nn.BatchNorm1d(16), nn.ReLU())
    with torch.no_grad():
        given["model"][1].bias[:4] = -30.0
    assert found(checked(given, "activations"), "2 (ReLU)").severity is Severity.WARNING
    given = parts(nn.BatchNorm1d(16), nn.ReLU())
    with torch.no_grad():
        given["model"][1].bias[:1] = -30.0
    report = checked(given, "activations")
    assert report.findings == []
    assert report.measures["dead/2 (ReLU)"] == 1 / 16


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_saturated_units_are_told(name):
    report = checked(biased(parts(ACTIVATIONS[name]), 30.0), "activations")
    finding = found(report, "1 (", "saturated")
    assert finding.severity is Severity.CRITICAL
    assert finding.value == "100% of the outputs; 16 of 16 units for every sample"


def test_what_the_model_returns_may_be_saturated():
    given = parts()
    model = nn.Sequential(nn.Linear(FEATURES, CLASSES), nn.Sigmoid())
    with torch.no_grad():
        model[0].bias.fill_(30.0)
    given = {**given, "model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.01)}
    assert checked(given, "activations").findings == []


def deep(gain, layers=8):
    torch.manual_seed(0)
    stack = [nn.Linear(FEATURES, 16)]
    for _ in range(layers):
        stack += [nn.Tanh() if gain < 1 else nn.Identity(), nn.Linear(16, 16)]
    model = nn.Sequential(*stack, nn.Linear(16, CLASSES))
    with torch.no_grad():
        for module in model[1:-1]:
            if isinstance(module, nn.Linear):
                module.weight.copy_(gain * torch.linalg.qr(torch.randn(16, 16))[0])
                module.bias.zero_()
    return {"model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.0)}


@pytest.mark.parametrize(("gain", "what"), [(0.1, "vanishes"), (30.0, "explodes")])
def test_a_signal_that_explodes_or_vanishes_with_depth_is_told(gain, what):
    report = checked({**parts(), **deep(gain)}, "activations")
    assert found(report, "Linear", what).severity is Severity.WARNING


def test_a_signal_that_keeps_its_size_is_no_finding():
    assert checked({**parts(), **deep(1.0)}, "activations").findings == []


def test_the_spreads_are_judged_without_the_last_layer():
    spreads = [(str(number), 1.0) for number in range(6)]
    assert depth.judged([*spreads, ("last", 0.0)]) == []
    (finding,) = depth.judged([*spreads[:4], ("4", 1e-5), ("5", 1e-5), ("last", 1.0)])
    assert finding[:2] == ("5", "The signal vanishes with depth.")
    assert depth.judged([("a", 1.0), ("b", 1e-9), ("c", 1.0)]) == []


class Constant(nn.Module):
    def forward(self, x):
        return torch.ones_like(x) * x.detach().mean() * 0 + 1.0


def test_an_output_that_is_the_same_for_every_sample_is_told():
    report = checked(parts(nn.ReLU(), Constant()), "activations")
    assert found(report, "3 (Linear)", "same for every sample").severity is Severity.CRITICAL


def test_running_statistics_that_are_not_the_batches_are_told():
    given = parts(nn.BatchNorm1d(16, momentum=0.1), nn.ReLU())
    norm = given["model"][1]
    norm.running_mean.fill_(50.0)
    norm.num_batches_tracked.fill_(100)
    norm.momentum = 0.04
    report = checked(given, "activations", at=1, steps=2)
    assert found(report, "1 (BatchNorm1d)", "running statistics").severity is Severity.WARNING


def test_statistics_that_had_no_time_to_settle_are_not_judged():
    given = parts(nn.BatchNorm1d(16), nn.ReLU())
    given["model"][1].running_mean.fill_(50.0)
    assert checked(given, "activations", at=1, steps=2).findings == []


def test_normalising_what_does_not_vary_is_told():
    given = parts(nn.LayerNorm(16), nn.ReLU())
    with torch.no_grad():
        given["model"][0].weight.mul_(1e-6)
        given["model"][0].bias.fill_(1.0)
    given["optimizer"] = torch.optim.SGD(given["model"].parameters(), lr=0.0)
    report = checked(given, "activations", at=1, steps=2)
    finding = found(report, "1 (LayerNorm)", "do not vary")
    assert finding.value.startswith("100%")


class Attending(nn.Module):
    """Attention over the features as positions, by hand or fused."""

    def __init__(self, kind, scale):
        super().__init__()
        self.kind, self.scale = kind, scale
        self.embed = nn.Linear(1, 16)
        self.query, self.key = nn.Linear(16, 16), nn.Linear(16, 16)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.out = nn.Linear(16, CLASSES)

    def forward(self, x):
        tokens = self.embed(x.unsqueeze(-1))
        if self.kind == "module":
            mixed, _ = self.attention(self.scale * tokens, tokens, tokens, need_weights=False)
        else:
            q, k = (
                part(tokens).view(*tokens.shape[:2], 4, 4).transpose(1, 2)
                for part in (self.query, self.key)
            )
            if self.kind == "fused":
                mixed = functional.scaled_dot_product_attention(self.scale * q, k, k)
            else:
                mixed = torch.softmax(self.scale * q @ k.transpose(-1, -2) / 2, dim=-1) @ k
            mixed = mixed.transpose(1, 2).reshape(tokens.shape)
        return self.out((tokens + mixed).mean(dim=1))


@pytest.mark.parametrize("kind", ["by hand", "fused", "module"])
def test_attention_that_looks_at_one_position_is_told(kind):
    def report_of(scale):
        torch.manual_seed(0)
        model = Attending(kind, scale)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        return checked({**parts(), "model": model, "optimizer": optimizer}, "activations")

    sound = report_of(1.0)
    assert sound.findings == []
    (name,) = [key for key in sound.measures if key.startswith("attention entropy/")]
    assert 0.5 < sound.measures[name] <= 1.0
    report = report_of(1e5)
    finding = found(report, "", "attention heads look at one position")
    assert finding.what.startswith("4 of 4")
    assert report.measures[name] < 0.02


def test_recurrent_gates_may_be_shut():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(1, 16, batch_first=True)
            self.out = nn.Linear(16, CLASSES)
            with torch.no_grad():
                self.lstm.bias_ih_l0.fill_(30.0)

        def forward(self, x):
            return self.out(self.lstm(x.unsqueeze(-1))[0][:, -1])

    model = Recurrent()
    given = {**parts(), "model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.0)}
    report = checked(given, "activations")
    assert [f for f in report.findings if "saturated" in f.what] == []


def test_convolutions_are_counted_by_channels():
    class Convolutional(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(1, 4, 3, padding=1)
            self.act = nn.ReLU()
            self.out = nn.Linear(4, CLASSES)
            with torch.no_grad():
                self.conv.bias[:2] = -30.0

        def forward(self, x):
            return self.out(self.act(self.conv(x.unsqueeze(1))).mean(dim=-1))

    model = Convolutional()
    given = {**parts(), "model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.0)}
    assert found(checked(given, "activations"), "act (ReLU)").what == "2 of 4 units are dead."


def test_a_compiled_model_is_called_uncompiled_while_it_is_looked_at():
    if not hasattr(torch.compiler, "set_stance"):
        pytest.skip("torch before 2.6")
    given = biased(parts(nn.ReLU()), -30.0)
    given["model"] = torch.compile(given["model"], backend="eager")
    report = checked(given, "activations", at=1, steps=2)
    assert found(report, "ReLU", "dead").what == "16 of 16 units are dead."
