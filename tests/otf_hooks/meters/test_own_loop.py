"""What is sampled in a loop of the script's own."""

from __future__ import annotations

import torch
from otf_hooks.meters.sampling import SampleBudget

from ..loop.scenarios import BATCHES, EPOCHS, Steered, bare
from ..record import series


def test_sampling_every_step_changes_nothing(monkeypatch):
    monkeypatch.setattr(SampleBudget, "is_due", lambda self, now: True)
    wanted = bare("dropout")
    found = Steered("dropout").run()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    steps = [step for step, _ in series("weight_norm")]
    assert steps == list(range(1, EPOCHS * BATCHES + 1))
