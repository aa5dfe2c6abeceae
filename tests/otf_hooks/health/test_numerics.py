"""The check of numerics: faults are planted, and found by name; a sound run has none."""

import math

import pytest
import torch
from otf_hooks.front import Probe
from otf_hooks.fronts.setup import check
from otf_hooks.fronts.steps import Precision, default_training_step
from otf_hooks.health import precision
from otf_hooks.health.findings import Findings
from otf_hooks.health.numerics import look_at_tensors
from otf_hooks.health.tensors import Named, extremes, held
from otf_session.commands import CheckHealth
from otf_session.health import Severity
from torch import nn

from .checked import checked, data, found, loader, outcomes, parts, run

NAN, INF = math.nan, math.inf


def test_a_sound_run_has_no_finding():
    report = checked(parts(nn.BatchNorm1d(16), nn.ReLU()), "numerics")
    assert report.findings == []
    assert report.refusal == ""
    # Weights and biases, running statistics, gradients; step, exp_avg and exp_avg_sq of each.
    assert report.measures["parameter tensors"] == 6
    assert report.measures["buffer tensors"] == 2
    assert report.measures["gradient tensors"] == 6
    assert report.measures["optimizer state tensors"] == 18
    assert 0 < report.measures["parameter max"] < 10
    assert report.facts["replayed batch"] == "one, forward and backward"


def after_the_step(optimizer, change):
    """Change something once the optimizer has made the third step."""
    count = [0]

    def hook(*_):
        count[0] += 1
        if count[0] == 3:
            with torch.no_grad():
                change()

    optimizer.register_step_post_hook(hook)


def test_a_parameter_is_named_with_the_layer_where_it_shows():
    given = parts()
    model = given["model"]
    after_the_step(given["optimizer"], lambda: model[2].weight[1, :3].fill_(NAN))
    report = checked(given, "numerics", steps=4)
    finding = found(report, "2.weight", "parameter")
    assert finding.severity is Severity.CRITICAL
    assert finding.value == "3 NaN and 0 infinite of 48 values"
    origin = found(report, "2 (Linear)", "first output")
    assert "weights are not finite" in origin.meaning
    assert report.measures["parameter max"] is None
    assert report.findings[0].severity is Severity.CRITICAL


def test_a_buffer_and_the_optimizers_state_are_looked_at():
    given = parts(nn.BatchNorm1d(16), nn.ReLU())
    model, optimizer = given["model"], given["optimizer"]

    def change():
        model[1].running_var[4] = INF
        optimizer.state[model[3].weight]["exp_avg_sq"][2, 2] = NAN

    after_the_step(optimizer, change)
    report = checked(given, "numerics", steps=4)
    assert found(report, "1.running_var").value == "0 NaN and 1 infinite of 16 values"
    assert found(report, "exp_avg_sq of 3.weight").severity is Severity.CRITICAL
    assert len(report.findings) == 2


class RootOfDistance(nn.Module):
    """A root at 0, which has no finite derivative: the forward pass is finite."""

    def forward(self, x):
        return x + torch.sqrt((x - x.detach()).abs())


def test_a_gradient_that_arises_going_back_is_named_where_it_arrives():
    given = parts(nn.ReLU(), RootOfDistance())
    report = checked(given, "numerics", steps=3, at=1)
    assert found(report, "0.weight", "gradient holds").severity is Severity.CRITICAL
    # The replayed batch meets weights that the first step's gradient has spoilt.
    assert found(report, "0.weight", "parameter holds").severity is Severity.CRITICAL


def test_the_first_gradient_is_named_where_the_weights_are_still_good():
    given = parts(nn.ReLU(), RootOfDistance())
    given["optimizer"] = torch.optim.SGD(given["model"][3].parameters(), lr=1e-3)
    report = checked(given, "numerics", steps=3, at=1)
    origin = found(report, "1 (ReLU)", "first gradient")
    assert "no finite derivative" in origin.meaning


class Overflowing(nn.Module):
    def forward(self, x):
        return x * torch.tensor(1e38) * 100.0


def test_a_layer_that_overflows_is_named_as_the_first():
    given = parts(nn.ReLU(), Overflowing(), nn.Tanh())
    report = checked(given, "numerics", steps=2, at=1)
    origin = found(report, "2 (Overflowing)", "first output")
    assert "it overflows" in origin.meaning
    assert not [f for f in report.findings if "3 (Tanh)" in f.where]


def test_a_batch_that_is_not_finite_is_told_as_such():
    dataset = data()
    dataset.tensors[0][:, 2] = INF
    given = parts(train_loader=loader(dataset), val_loader=None)
    report = checked(given, "numerics", at=1, steps=2)
    assert found(report, "train_loader").value == "0 NaN and 24 infinite of 192 values"


class LogOfZero(nn.Module):
    def forward(self, output, target):
        return torch.log(torch.relu(-output.square().sum()))


def test_a_loss_that_is_not_finite_is_told_from_the_model():
    given = parts(loss_fn=LogOfZero(), val_loader=None)
    given["optimizer"] = torch.optim.SGD(given["model"].parameters(), lr=0.0)
    report = checked(given, "numerics", at=1, steps=2)
    assert "logarithm of 0" in found(report, "loss", "loss is not finite").meaning


def test_the_run_is_left_as_it_was():
    wanted = parts(nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2))
    run(wanted)
    given = parts(nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2))
    run(given, CheckHealth(check="numerics"), CheckHealth(check="numerics"))
    assert [type(outcome).__name__ for outcome in outcomes()] == ["Applied", "Applied"]
    for name, tensor in wanted["model"].state_dict().items():
        assert torch.equal(tensor, given["model"].state_dict()[name]), name


# Pure functions on tensors


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("values", "largest"), [([1.0, -3.0], 3.0), ([1.0, NAN], NAN), ([-INF, 1.0], INF)]
)
def test_the_extreme_of_a_tensor_shows_what_is_not_finite(dtype, values, largest):
    other = torch.zeros(3)
    found_, zero = extremes([torch.tensor(values, dtype=dtype), other])
    assert zero == 0.0
    assert found_ == largest or (math.isnan(found_) and math.isnan(largest))


def test_a_double_beyond_floats_range_is_finite():
    assert extremes([torch.tensor([1e300], dtype=torch.float64)]) == [1e300]


def test_every_kind_of_tensor_is_held_once_and_integers_are_not():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(4, 2)).sum().backward()
    optimizer.step()
    probe = Probe(model, [optimizer], [], None, None)
    names = [(each.kind, each.name) for each in held(probe)]
    assert len(names) == len(set(names)) == 4 + 2 + 4 + 12
    assert ("buffer", "1.num_batches_tracked") not in names


def test_a_scalers_own_skipped_step_is_no_alarm():
    gradient = Named("gradient", "w", torch.tensor([INF]))
    notes = Findings()
    look_at_tensors(notes, [gradient], [INF], is_scaled=True)
    assert [each.severity for each in notes.found] == [Severity.INFO]
    notes = Findings()
    look_at_tensors(notes, [gradient], [INF], is_scaled=False)
    assert [each.severity for each in notes.found] == [Severity.CRITICAL]


def test_many_bad_tensors_are_summed_up():
    many = [Named("parameter", f"w{n}", torch.tensor([NAN])) for n in range(30)]
    notes = Findings()
    look_at_tensors(notes, many, [NAN] * 30, is_scaled=False)
    assert len(notes.found) == 21
    assert notes.found[-1].value == "30 of 30 tensors"


def near(dtype, value, amp_type=None):
    notes = Findings()
    tensor = torch.tensor([value], dtype=dtype)
    precision.look_at_range(notes, [Named("parameter", "w", tensor)], [value], amp_type)
    return [each.what for each in notes.found]


def test_values_near_the_end_of_half_precision_are_told():
    assert near(torch.float16, 30_000.0) == [
        "This parameter comes near the end of float16's range."
    ]
    assert near(torch.float16, 1000.0) == []
    assert near(torch.bfloat16, 30_000.0) == []
    assert near(torch.float32, 30_000.0) == []
    # Cast to float16 at each step.
    assert len(near(torch.float32, 30_000.0, torch.float16)) == 1


def test_a_gradient_below_float16s_range_is_told():
    def told(values):
        notes = Findings()
        tensor = torch.tensor(values, dtype=torch.float16)
        precision.look_at_range(notes, [Named("gradient", "w", tensor)], [1.0], None)
        return [each.value for each in notes.found]

    assert told([1e-6, 2e-6, 3e-6, 1.0]) == ["75% of its values that are not 0"]
    assert told([0.0, 1e-3, 1.0]) == []


@pytest.mark.parametrize(
    ("history", "scale", "severity"),
    [
        ([2.0**16] * 50, 2.0**16, None),
        ([2.0**16, 2.0**15] + [2.0**15] * 50, 2.0**15, None),
        ([2.0 ** (16 - n) for n in range(12)], 32.0, Severity.WARNING),
        ([2.0 ** (16 - n) for n in range(20)], 2.0**-3, Severity.CRITICAL),
        ([], 0.5, Severity.CRITICAL),
    ],
)
def test_the_history_of_the_loss_scale(history, scale, severity):
    notes = Findings()
    precision.look_at_scale(notes, list(enumerate(history)), scale)
    assert [each.severity for each in notes.found] == ([] if severity is None else [severity])
    assert notes.measures["loss scale"] == scale


def test_outputs_of_layers_in_half_precision_are_looked_at():
    class Large(nn.Module):
        def forward(self, x):
            return x.half() * 0 + 30_000

    given = parts(nn.ReLU(), Large())
    given["model"] = nn.Sequential(
        nn.Linear(8, 16), nn.ReLU(), Large(), ToFloat(), nn.Linear(16, 3)
    )
    given["optimizer"] = torch.optim.SGD(given["model"].parameters(), lr=1e-9)
    report = checked(given, "numerics", at=1, steps=2)
    assert found(report, "2 (Large)", "float16").severity is Severity.WARNING


class ToFloat(nn.Module):
    def forward(self, x):
        return x.float() / 30_000


@pytest.mark.skipif(not hasattr(torch.amp, "GradScaler"), reason="torch before 2.3")
def test_the_loss_scale_is_recorded_and_its_history_told():
    """With torch's scaler for the CPU, which does what that for CUDA does."""
    model = nn.Linear(8, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    setup = check(
        model=model,
        optimizer=optimizer,
        loss_fn=nn.CrossEntropyLoss(),
        train_loader=loader(),
        val_loader=None,
        test_loader=None,
        scheduler=None,
        scheduler_interval="epoch",
        device="cpu",
        amp="fp16",
        grad_clip_norm=None,
        needs_loss_fn=True,
        needs_test_loader=False,
    )
    precision_ = Precision(setup)
    precision_.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12, growth_interval=2)
    step = default_training_step(setup, precision_, None)
    batches = list(loader())
    scales = [float(step(batch, {})["loss_scale"]) for batch in batches[:2]]
    assert scales == [2.0**12, 2.0**13]
    batches[2][0].fill_(INF)
    assert float(step(batches[2], {})["loss_scale"]) == 2.0**12
