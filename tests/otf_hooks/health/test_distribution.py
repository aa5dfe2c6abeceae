"""The check of distribution in one process: classes, order, inputs, drift."""

import math
from collections import Counter

import pytest
import torch
from otf_hooks.health import drift
from otf_hooks.health.drift import Moments
from otf_hooks.health.sampling import Reading, read, spread_over
from otf_session.health import Severity
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    Sampler,
    TensorDataset,
    WeightedRandomSampler,
)

from .checked import (
    CLASSES,
    FEATURES,
    CheckHealth,
    checked,
    data,
    found,
    loader,
    outcomes,
    parts,
    run,
)


def of_classes(counts, *, seed=3, shift=0.0, scale=1.0):
    """A dataset with so many samples of each class."""
    targets = torch.cat([torch.full((count,), each) for each, count in enumerate(counts)])
    generator = torch.Generator().manual_seed(seed)
    inputs = scale * torch.randn(len(targets), FEATURES, generator=generator) + shift
    return TensorDataset(inputs, targets.long())


def balanced(size=80, **options):
    return of_classes([size] * CLASSES, **options)


def checked_data(train, validation, **options):
    given = parts(train_loader=loader(train, **options), val_loader=None)
    if validation is not None:
        given["val_loader"] = loader(validation, shuffle=False)
    return checked(given, "distribution", at=2, steps=3)


def test_a_sound_run_has_no_finding():
    # The validation data comes class by class, as folders of images do.
    report = checked_data(balanced(), balanced(seed=4))
    assert report.findings == []
    assert report.measures["samples"] == 240
    assert report.measures["class 0"] == pytest.approx(1 / 3)
    assert report.measures["class drift from the validation data (PSI)"] < 0.01
    assert abs(report.measures["inputs mean"]) < 0.1


def test_a_large_dataset_is_sampled_and_still_sound():
    report = checked_data(balanced(600), balanced(600, seed=4))
    assert report.findings == []
    assert report.measures["samples"] == 50 * 24


def test_other_classes_in_validation_are_told():
    report = checked_data(balanced(), of_classes([200, 20, 20], seed=4))
    finding = found(report, "class 0", "distributed otherwise than in the validation data")
    assert finding.severity is Severity.WARNING
    assert "33% here, 83% there" in finding.value


def test_a_class_that_is_not_trained_on_is_critical():
    report = checked_data(of_classes([120, 120, 0]), balanced(seed=4))
    finding = found(report, "class 2", "not in the training data")
    assert finding.severity is Severity.CRITICAL


def test_classes_that_come_in_order_are_told_and_nothing_is_made_of_a_part():
    report = checked_data(balanced(600), balanced(seed=4), shuffle=False)
    assert found(report, "train_loader", "come in an order").severity is Severity.WARNING
    assert "not compared" in report.facts["drift from the validation data"]
    assert len(report.findings) == 1


def test_one_class_alone_is_critical():
    report = checked_data(of_classes([240]), None)
    assert found(report, "class 0", "All samples have the same class").severity is Severity.CRITICAL


@pytest.mark.parametrize(("few", "severity"), [(30, None), (8, "info")])
def test_a_rare_class_is_told(few, severity):
    report = checked_data(of_classes([300, 300, few]), None)
    assert [each.severity.value for each in report.findings] == ([severity] if severity else [])


def test_inputs_that_are_not_normalised_are_told():
    report = checked_data(balanced(shift=127.0, scale=70.0), None)
    assert found(report, "train_loader", "not normalised").severity is Severity.WARNING


def test_inputs_normalised_otherwise_in_validation_are_told():
    report = checked_data(balanced(), balanced(seed=4, shift=1.0, scale=2.0))
    finding = found(report, "inputs", "distributed otherwise")
    assert "mean" in finding.value


def test_inputs_that_are_all_the_same_or_not_finite_are_critical():
    report = checked_data(balanced(scale=0.0), None)
    assert found(report, "train_loader", "same number").severity is Severity.CRITICAL
    broken = balanced()
    broken.tensors[0][5, 2] = math.nan
    given = parts(train_loader=loader(broken), val_loader=None)
    run(given, CheckHealth(check="distribution"), at=2, steps=3)
    assert found(outcomes()[-1].result.reports[0], "train_loader", "not finite")


class Drifting(Sampler):
    """Another mixture of classes in every epoch."""

    def __init__(self, targets):
        self.targets, self.epoch = targets, 0

    def __len__(self):
        return 120

    def __iter__(self):
        self.epoch += 1
        wanted = (self.targets == self.epoch % CLASSES).float() * 20 + 1
        generator = torch.Generator().manual_seed(self.epoch)
        return iter(torch.multinomial(wanted, 120, generator=generator).tolist())


def test_drift_between_epochs_is_told():
    dataset = balanced()
    train = DataLoader(dataset, batch_size=24, sampler=Drifting(dataset.tensors[1]))
    given = parts(train_loader=train, val_loader=None)
    report = checked(given, "distribution", at=7, steps=8)
    finding = found(report, "class", "than in the epoch before")
    assert finding.severity is Severity.WARNING
    assert train.sampler.epoch == 2


def test_epochs_that_are_alike_are_compared_and_nothing_is_said():
    report = checked(parts(val_loader=None), "distribution", at=12, steps=13)
    assert report.findings == []
    assert report.measures["class drift from the epoch before (PSI)"] < 0.01


def test_a_balancing_sampler_is_what_it_says():
    dataset = of_classes([200, 20, 20])
    weights = (1.0 / torch.tensor([200.0, 20.0, 20.0]))[dataset.tensors[1]]
    sampler = WeightedRandomSampler(weights.tolist(), 240)
    report = checked_data(dataset, of_classes([200, 20, 20], seed=4), shuffle=None, sampler=sampler)
    assert "does this on purpose" in found(report, "class 0", "otherwise").meaning


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(*data().tensors))


def test_an_iterable_dataset_is_read_again():
    given = parts(train_loader=DataLoader(Stream(), batch_size=24), val_loader=None)
    report = checked(given, "distribution", at=2, steps=3)
    assert report.findings == []
    assert report.measures["samples"] == 240


def test_targets_that_are_no_classes_leave_the_inputs():
    dataset = TensorDataset(balanced().tensors[0], torch.randn(240, CLASSES))
    given = parts(train_loader=loader(dataset), val_loader=None, loss_fn=torch.nn.MSELoss())
    report = checked(given, "distribution", at=2, steps=3)
    assert report.findings == []
    assert not [name for name in report.measures if name.startswith("class")]
    assert "inputs mean" in report.measures


def test_what_would_leave_traces_is_refused_with_the_reason():
    train = DataLoader(data(), batch_size=24, num_workers=1, persistent_workers=True)
    run(
        parts(train_loader=train, val_loader=None), CheckHealth(check="distribution"), at=2, steps=3
    )
    (outcome,) = outcomes()
    assert "persistent_workers" in outcome.reason


@pytest.mark.parametrize("reads", [lambda given, how: read(iter(given), how), spread_over])
def test_a_loader_that_is_slow_is_read_for_a_while_only(reads):
    seconds, told = iter(range(0, 1000, 20)), []
    reading = Reading(lambda done, total: told.append((done, total)), lambda: next(seconds))
    sample = reads(loader(balanced(600), shuffle=False), reading)
    assert sample.samples == 5 * 24
    assert told == [(number, 50) for number in range(6)]
    # What is spread over the whole dataset has all classes, though they come in order.
    assert len(sample.classes) == (CLASSES if reads is spread_over else 1)


# Statistics


def test_the_p_value_is_that_of_the_chi_square_distribution():
    # Statistic 20 / 3 with one degree of freedom, as tables have it.
    found_ = drift.of_classes({0: 60, 1: 40}, {0: 40, 1: 60})
    assert found_.p_value == pytest.approx(math.erfc(math.sqrt(8.0 / 2)), rel=1e-6)
    assert not found_.is_shift


def test_the_stability_index():
    found_ = drift.of_classes({0: 900_000, 1: 100_000}, {0: 500_000, 1: 500_000})
    wanted = 0.4 * math.log(0.9 / 0.5) + -0.4 * math.log(0.1 / 0.5)
    assert found_.psi == pytest.approx(wanted, rel=1e-4)
    assert found_.is_shift
    assert found_.most == 1


def test_a_few_samples_are_no_shift():
    assert not drift.of_classes({0: 3, 1: 1}, {0: 1, 1: 3}).is_shift
    assert not drift.of_classes(Counter(), {0: 3}).is_shift


def test_means_are_apart_where_it_is_no_accident():
    near = drift.of_numbers(Moments(10, 0.0, 1.0), Moments(10, 0.5, 1.0))
    far = drift.of_numbers(Moments(1000, 0.0, 1.0), Moments(1000, 0.5, 1.0))
    assert (near, far) == (0.0, 0.5)
    assert drift.of_numbers(Moments(5, 1.0, 0.0), Moments(5, 2.0, 0.0)) == math.inf
