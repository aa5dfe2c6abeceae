"""The check of determinism: seeds, loaders, flags, operators, and the proof."""

import random

import pytest
import torch
from otf_hooks.health.determinism import look_at_flags, look_at_seed
from otf_hooks.health.findings import Findings
from otf_session.commands import CheckHealth
from otf_session.health import Severity
from torch import nn
from torch.utils.data import DataLoader, Dataset

from .checked import checked, data, found, loader, outcomes, parts, reports, run


def test_a_sound_run_has_no_finding_and_its_facts_are_told():
    report = checked(parts(nn.Dropout(0.2)), "determinism")
    assert report.findings == []
    assert report.facts == {
        "seed": "0",
        "workers": "0",
        "sampler": "RandomSampler",
        "order of the data": "can be replayed",
        "non-deterministic operators": "allowed",
        "operators": "those of one step, forward and backward",
    }


def test_a_proof_is_made_where_it_is_asked_for():
    run(parts(nn.Dropout(0.2)), CheckHealth(check="determinism", proof=2))
    (report,) = reports()
    assert report.findings == []
    assert report.facts["proof"] == "every bit the same"
    assert report.measures["steps trained twice"] == 2


#: Outside of everything that a checkpoint holds.
NOISE = random.SystemRandom()


class Noisy(Dataset):
    def __init__(self):
        self.inner = data()

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        inputs, target = self.inner[index]
        return inputs + NOISE.random(), target


def test_a_proof_that_fails_names_the_first_difference():
    given = parts(train_loader=loader(Noisy()))
    run(given, CheckHealth(check="determinism", proof=2))
    (report,) = reports()
    finding = found(report, "step 4", "not the same")
    assert finding.severity is Severity.CRITICAL
    assert finding.value.startswith("A worker or the dataset")


class Scatters(nn.Module):
    """Writes to places that may be the same: which comes last is chance."""

    def forward(self, x):
        places = torch.zeros(x.numel(), dtype=torch.long)
        spare = torch.zeros(x.numel()).put_(places, x.detach().flatten())
        return x + 0 * spare.sum()


def test_an_operator_without_a_deterministic_form_is_named_with_its_layer():
    assert not torch.are_deterministic_algorithms_enabled()
    report = checked(parts(nn.ReLU(), Scatters()), "determinism")
    finding = found(report, "2 (Scatters)", "put_")
    assert finding.severity is Severity.WARNING
    assert not torch.are_deterministic_algorithms_enabled()


def test_flags_of_the_script_are_left_as_they_were():
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        report = checked(parts(), "determinism")
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert report.facts["non-deterministic operators"] == "warned of"


def test_a_loader_that_cannot_be_replayed_is_told_with_its_reason():
    given = parts(
        train_loader=DataLoader(
            data(), batch_size=24, shuffle=True, num_workers=1, persistent_workers=True
        ),
        val_loader=None,
    )
    report = checked(given, "determinism")
    assert "persistent_workers" in found(report, "train_loader", "not be exact").value
    assert report.facts["order of the data"] == "cannot be replayed"


@pytest.mark.parametrize(("seed", "is_drawn"), [(0, False), (2**31, False), (2**52 + 1, True)])
def test_a_seed_that_torch_drew_is_known_by_its_size(seed, is_drawn):
    notes = Findings()
    look_at_seed(notes, seed)
    assert bool(notes.found) is is_drawn


def test_cudas_flags_are_looked_at_where_there_is_cuda(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    notes = Findings()
    look_at_flags(notes, is_cuda=False)
    assert notes.found == []
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        look_at_flags(notes, is_cuda=True)
        assert [each.where for each in notes.found] == ["cudnn", "cuBLAS"]
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
        notes = Findings()
        look_at_flags(notes, is_cuda=True)
        assert notes.found == []
    finally:
        torch.use_deterministic_algorithms(False)


def test_without_a_batch_left_the_rest_is_still_told():
    given = parts(train_loader=DataLoader(data(48), batch_size=24))
    run(given, CheckHealth(check="determinism"), at=2, steps=4)
    (outcome,) = outcomes()
    assert outcome.message == "determinism: nothing found."
    assert reports()[0].facts["operators"] == "those of one step, forward and backward"
