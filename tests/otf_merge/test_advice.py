"""What is said of checkpoints before they are merged, from their weights alone."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from otf_merge import MergeWarning, merge
from otf_merge.advice import Assessment, assess
from otf_merge.checkpoints.sources import opened
from otf_merge.family import family_of

Save = Callable[[str, Any], Path]


def related(count: int, distance: float, seed: int = 0) -> list[torch.Tensor]:
    """A matrix of a model's usual scale, and `count` that have moved away from it."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(64, 128, generator=generator) * 0.1
    moved = [base + torch.randn(64, 128, generator=generator) * distance for _ in range(count)]
    return [base, *moved]


def assessed(save: Save, base: torch.Tensor | None, *parents: torch.Tensor) -> Assessment:
    paths = [save(f"p{i}.pt", {"w": it, "norm": torch.ones(9)}) for i, it in enumerate(parents)]
    if base is not None:
        paths.append(save("base.pt", {"w": base, "norm": torch.ones(9)}))
    with opened(paths, None) as found:
        count = len(parents)
        family = family_of(found[:count], found[count] if base is not None else None)
        assessment = assess(family)
    assert assessment is not None
    return assessment


def test_the_score_is_the_spread_across_checkpoints(save: Save) -> None:
    base, *parents = related(4, 0.02)
    found = assessed(save, base, *parents)
    variance = torch.stack(parents).double().var(dim=0, unbiased=False).mean()
    assert found.score == pytest.approx(float((variance / 4).sqrt() / 4), rel=1e-5)
    assert found.sampled == 1.0


def test_distances_from_the_base(save: Save) -> None:
    base, *parents = related(2, 0.02)
    found = assessed(save, base, *parents)
    for parent, distance, rms in zip(parents, found.from_base, found.rms_deltas):
        delta = (parent - base).double()
        assert distance == pytest.approx(float(delta.norm() / base.double().norm()), rel=1e-4)
        assert rms == pytest.approx(float(delta.square().mean().sqrt()), rel=1e-4)
    cosine = torch.nn.functional.cosine_similarity(*(it.flatten() for it in parents), dim=0)
    assert found.cosine == pytest.approx(float(cosine), rel=1e-5)


def test_a_great_model_is_sampled_evenly(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otf_merge.advice.SAMPLE", 1 << 18)
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(8, 1 << 18, generator=generator) * 0.1
    parents = [base + torch.randn(base.shape, generator=generator) * 0.02 for _ in range(2)]
    found = assessed(save, base, *parents)
    assert found.sampled == 1 / 8
    variance = torch.stack(parents).var(dim=0, unbiased=False).mean()
    assert found.score == pytest.approx(float((variance / 2).sqrt() / 2), rel=0.02)


def test_nothing_is_said_of_checkpoints_that_are_near(save: Save) -> None:
    base, *parents = related(2, 0.001)
    for name, tensor in zip(("base", "a", "b"), (base, *parents)):
        save(f"{name}.pt", {"w": tensor})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        merge(["a.pt", "b.pt"], "task-arithmetic", base="base.pt")
        merge(["a.pt", "b.pt"])


def test_checkpoints_that_are_far_apart_are_told_of(save: Save) -> None:
    for number, tensor in enumerate(related(2, 0.05)):
        save(f"{number}.pt", {"w": tensor})
    with pytest.warns(MergeWarning, match="far apart .collapse score .* What can still work"):
        merge(["1.pt", "2.pt"])


def test_checkpoints_of_different_starts_are_told_of(save: Save) -> None:
    save("a.pt", {"w": related(0, 0, seed=0)[0]})
    save("b.pt", {"w": related(0, 0, seed=1)[0]})
    with pytest.warns(MergeWarning, match="the checkpoints have no common ancestor .*--align"):
        merge(["a.pt", "b.pt"])


def test_a_base_that_is_not_theirs_is_told_of(save: Save) -> None:
    _, *parents = related(2, 0.001)
    for name, tensor in zip("ab", parents):
        save(f"{name}.pt", {"w": tensor})
    save("other.pt", {"w": related(0, 0, seed=7)[0]})
    with pytest.warns(MergeWarning, match=r"and the base `other\.pt` have no common ancestor"):
        merge(["a.pt", "b.pt"], "task-arithmetic", base="other.pt")


def test_dropping_much_of_great_deltas_is_told_of(save: Save) -> None:
    for name, tensor in zip(("base", "a", "b"), related(2, 0.006)):
        save(f"{name}.pt", {"w": tensor})
    with pytest.warns(MergeWarning, match=r"`dare-linear` drops 90% .*\(root mean square\)"):
        merge(["a.pt", "b.pt"], "dare-linear", base="base.pt", drop_rate=0.9)


def test_a_few_numbers_have_no_direction(save: Save) -> None:
    save("a.pt", {"w": torch.tensor([1.0, 0.0])})
    save("b.pt", {"w": torch.tensor([0.0, 1.0])})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        merge(["a.pt", "b.pt"])


def test_nothing_is_said_of_distances_after_an_alignment(save: Save) -> None:
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        layers = torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 8)
        save(f"{name}.pt", torch.nn.Sequential(*layers).state_dict())
    with pytest.warns(MergeWarning, match="no common ancestor"):
        merge(["a.pt", "b.pt"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert merge(["a.pt", "b.pt"], align="weights")
