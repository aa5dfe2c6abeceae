"""Weight matching: copies come back, functions stay, and separate models of digits come together."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from otf_merge import merge
from otf_merge.alignment import (
    AlignedCheckpoint,
    align,
    aligned_checkpoints,
    in_order_of,
    spec_for,
)
from otf_merge.alignment.chains import chain_spec
from otf_merge.alignment.matching import Matcher
from otf_merge.alignment.traced import traced_spec
from otf_merge.checkpoints.sources import opened
from otf_merge.errors import InputsDiffer, InvalidInputs
from otf_merge.parents import Parent
from torch import Tensor, nn

from .alignment_models import (
    Convolutions,
    ResNet,
    mlp,
    parent_of,
    permuted_state,
    randomized,
    task_of,
)


def assert_same(found: Parent, expected: dict[str, Tensor]) -> None:
    for name, tensor in expected.items():
        assert torch.equal(found.tensor(name), tensor), name


def assert_aligns_back(state: dict[str, Tensor], spec: Any, seed: int) -> None:
    order = spec.random(torch.Generator().manual_seed(seed))
    copied = parent_of(permuted_state(state, spec, order), "copy")
    (first, second), report = align([parent_of(state), copied], spec)
    assert_same(first, state)
    assert_same(second, state)
    (told,) = report["parents"]
    assert told["similarity"]["after"] == pytest.approx(1)
    assert told["distance"]["after"] == 0


# A permuted copy comes back exactly


@settings(max_examples=25)
@given(
    widths=st.lists(st.integers(2, 12), min_size=1, max_size=4),
    ends=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    norm=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_permuted_mlps_align_back(
    widths: list[int], ends: tuple[int, int], norm: bool, seed: int
) -> None:
    model = randomized(mlp(ends[0], *widths, ends[1], norm=norm), seed)
    spec = chain_spec(parent_of(model.state_dict()).specs)
    assert list(spec.units.values()) == [(width, 1, True) for width in widths]
    assert_aligns_back(model.state_dict(), spec, seed)


@settings(max_examples=8)
@given(
    first=st.integers(2, 8),
    second=st.integers(2, 8),
    hidden=st.integers(2, 9),
    seed=st.integers(0, 1000),
)
def test_permuted_convolutions_align_back(first: int, second: int, hidden: int, seed: int) -> None:
    model = randomized(Convolutions(first, second, hidden), seed)
    spec = chain_spec(parent_of(model.state_dict()).specs)
    assert {name: units.size for name, units in spec.units.items()} == {
        "conv1": first,
        "conv3": second,
        "fc1": hidden,
    }
    assert_aligns_back(model.state_dict(), spec, seed)


@settings(max_examples=4)
@given(
    width=st.integers(2, 8),
    wide=st.integers(2, 8),
    groups=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_permuted_residual_networks_align_back(
    width: int, wide: int, groups: bool, seed: int
) -> None:
    def norm(size: int) -> nn.Module:
        return nn.GroupNorm(2, size) if groups else nn.BatchNorm2d(size)

    scale = 2 if groups else 1
    model = randomized(ResNet(width * scale, wide * scale, norm=norm), seed)  # type: ignore[arg-type]
    spec = traced_spec(task_of(model, 3, 8, 8), model.state_dict())
    assert_aligns_back(model.state_dict(), spec, seed)


def test_units_that_are_alike_or_dead_align_back() -> None:
    model = randomized(mlp(6, 20, 18, 3), 0)
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight[:5] = 0
            layer.bias[:5] = 0
            layer.weight[5:8] = layer.weight[8]
            layer.bias[5:8] = layer.bias[8]
        model[2].weight[:, 5:8] = model[2].weight[:, 8:9]
        model[4].weight[:, 5:8] = model[4].weight[:, 8:9]
    state = model.state_dict()
    assert_aligns_back(state, chain_spec(parent_of(state).specs), 3)


def test_a_copy_that_was_trained_on_aligns_back() -> None:
    model = randomized(mlp(20, 32, 32, 5), 0)
    spec = chain_spec(parent_of(model.state_dict()).specs)
    order = spec.random(torch.Generator().manual_seed(1))
    moved = {
        name: it + 0.05 * torch.randn(it.shape, generator=torch.Generator().manual_seed(2))
        for name, it in permuted_state(model.state_dict(), spec, order).items()
    }
    (_, second), report = align([parent_of(model.state_dict()), parent_of(moved)], spec)
    assert isinstance(second.checkpoint, AlignedCheckpoint)
    for name, found in second.checkpoint.permutations.items():
        assert torch.equal(order[name][found], torch.arange(32)), name
    assert report["parents"][0]["similarity"]["after"] > 0.98


# The function stays what it was


@pytest.mark.parametrize("kind", ["mlp", "convolutions", "resnet"])
def test_an_aligned_model_computes_the_same(kind: str) -> None:
    model, shape = {
        "mlp": (mlp(9, 16, 12, 4, norm=True), (9,)),
        "convolutions": (Convolutions(), (3, 8, 8)),
        "resnet": (ResNet(), (3, 8, 8)),
    }[kind]
    first, second = randomized(model, 1), randomized(model, 2)
    task = task_of(model, *shape)
    parents = [parent_of(it.state_dict()) for it in (first, second)]
    (_, aligned), report = align(parents, spec_for(parents[0], task=task))
    inputs = task.validation[0][0]  # type: ignore[index]
    expected = second(inputs).detach()
    second.load_state_dict(aligned.state())
    assert torch.allclose(second(inputs), expected, atol=1e-5 * float(expected.abs().max()))
    (told,) = report["parents"]
    assert told["similarity"]["after"] > told["similarity"]["before"]
    assert told["distance"]["after"] < told["distance"]["before"]
    assert all(it["moved"] for it in told["layers"].values())


def test_the_report_says_what_the_weights_say() -> None:
    states = [randomized(mlp(4, 6, 5, 3), seed).state_dict() for seed in (1, 2)]
    parents = [parent_of(it, name) for it, name in zip(states, ("a.pt", "b.pt"))]
    (_, aligned), report = align(parents, chain_spec(parents[0].specs))
    json.dumps(report)
    (told,) = report["parents"]

    def flat(state: dict[str, Tensor], names: list[str]) -> Tensor:
        return torch.cat([state[name].reshape(-1) for name in names]).double()

    counted = ["0.weight", "0.bias", "2.weight", "2.bias", "4.weight"]
    layer = ["0.weight", "0.bias", "2.weight"]
    a, b, moved = states[0], states[1], aligned.state()
    for which, other in (("before", b), ("after", moved)):
        distance = (flat(a, counted) - flat(other, counted)).norm()
        assert told["distance"][which] == pytest.approx(float(distance))
        for names, said in ((counted, told["similarity"]), (layer, told["layers"]["0"])):
            cosine = torch.cosine_similarity(flat(a, names), flat(other, names), dim=0)
            assert said[which] == pytest.approx(float(cosine))
    assert (told["parent"], report["reference"]) == ("b.pt", "a.pt")
    assert told["rounds"] >= 1
    assert report["units"] == {"0": 6, "2": 5}
    assert "0 - 2 - 4" in report["assumed"]


def test_running_statistics_move_and_do_not_count() -> None:
    model = mlp(4, 6, 3, norm=True)
    first, second = (randomized(model, seed).state_dict() for seed in (1, 2))
    spec = chain_spec(parent_of(first).specs)
    (_, aligned), report = align([parent_of(first), parent_of(second)], spec)
    other = dict(second)
    other["1.running_mean"] = torch.linspace(1e3, 1e4, 6)
    (_, again), report_again = align([parent_of(first), parent_of(other)], spec)
    order = again.checkpoint.permutations["0"]  # type: ignore[attr-defined]
    assert torch.equal(order, aligned.checkpoint.permutations["0"])  # type: ignore[attr-defined]
    assert torch.equal(again.tensor("1.running_mean"), other["1.running_mean"][order])
    assert report == report_again


# How far the descent goes


def test_no_other_order_of_one_layer_is_better() -> None:
    import itertools

    first, second = (randomized(mlp(3, 5, 2), seed).state_dict() for seed in (3, 4))
    spec = chain_spec(parent_of(first).specs)
    matcher = Matcher(spec, list(spec.axes))
    read = [lambda name, state=it: state[name].double() for it in (first, second)]
    found = matcher.matched(*read)
    best = max(
        matcher.similarity(*read, {"0": torch.tensor(order)})
        for order in itertools.permutations(range(5))
    )
    assert found.similarity == pytest.approx(best, abs=1e-12)


def test_the_descent_never_goes_down_and_ends() -> None:
    model = ResNet(8, 8)
    first, second = (randomized(model, seed).state_dict() for seed in (5, 6))
    spec = traced_spec(task_of(model, 3, 8, 8), first)
    read = [lambda name, state=it: state[name].double() for it in (first, second)]
    similarities = [
        Matcher(spec, list(spec.axes), rounds=rounds).descended(*read, spec.identity())
        for rounds in range(1, 7)
    ]
    values = [it.similarity for it in similarities]
    assert values == sorted(values)
    final = Matcher(spec, list(spec.axes)).descended(*read, spec.identity())
    assert final.rounds < 100
    again = Matcher(spec, list(spec.axes)).descended(*read, final.permutations)
    assert again.rounds == 1
    assert again.similarity == final.similarity


def test_restarts_are_seeded_and_never_worse() -> None:
    parents = [parent_of(randomized(mlp(4, 8, 8, 8, 3), seed).state_dict()) for seed in (1, 2)]
    spec = chain_spec(parents[0].specs)
    _, plain = align(parents, spec)
    _, several = align(parents, spec, restarts=5, seed=3)
    _, repeated = align(parents, spec, restarts=5, seed=3)
    assert several == repeated
    assert (
        several["parents"][0]["similarity"]["after"] >= plain["parents"][0]["similarity"]["after"]
    )


# Several models


def test_all_are_aligned_to_the_first_which_stays() -> None:
    states = [randomized(mlp(4, 7, 3), seed).state_dict() for seed in range(4)]
    parents = [parent_of(it, str(place)) for place, it in enumerate(states)]
    spec = chain_spec(parents[0].specs)
    aligned, report = align(parents, spec)
    assert aligned[0] is parents[0]
    for place in (1, 2, 3):
        (_, alone), _ = align([parents[0], parents[place]], spec)
        assert_same(aligned[place], alone.state())
    assert [it["parent"] for it in report["parents"]] == ["1", "2", "3"]


def test_the_base_can_be_what_all_are_aligned_to() -> None:
    base = randomized(mlp(4, 7, 3), 9).state_dict()
    spec = chain_spec(parent_of(base).specs)
    copies = [
        parent_of(permuted_state(base, spec, spec.random(torch.Generator().manual_seed(seed))))
        for seed in (1, 2)
    ]
    aligned, report = align(copies, spec, reference=parent_of(base, "base.pt"))
    for each in aligned:
        assert_same(each, base)
    assert report["reference"] == "base.pt"
    with pytest.raises(InvalidInputs, match="order of one of them"):
        align(copies, spec, reference=parent_of(base), mutual=True)


def test_models_matched_to_each_other_are_nearer_and_keep_the_first_ones_order() -> None:
    states = [randomized(mlp(5, 9, 9, 3), seed).state_dict() for seed in range(4)]
    parents = [parent_of(it) for it in states]
    spec = chain_spec(parents[0].specs)
    plain, _ = align(parents, spec)
    mutual, _ = align(parents, spec, mutual=True)
    assert_same(mutual[0], states[0])

    def spread(aligned: list[Parent]) -> float:
        flat = torch.stack(
            [torch.cat([it.tensor(name).reshape(-1) for name in spec.axes]) for it in aligned]
        )
        return float((flat - flat.mean(0)).norm())

    assert spread(mutual) < spread(plain)
    copies = [
        parent_of(permuted_state(states[0], spec, spec.random(torch.Generator().manual_seed(seed))))
        for seed in range(3)
    ]
    for each in align([parents[0], *copies], spec, mutual=True)[0]:
        assert_same(each, states[0])


# What comes out reads as a checkpoint


def test_pieces_of_an_aligned_checkpoint_are_those_of_its_tensors(
    save: Callable[..., Path],
) -> None:
    model = mlp(6, 16, 12, 3, norm=True)
    states = [randomized(model, seed).state_dict() for seed in (1, 2)]
    other = {f"module.{name}": it for name, it in states[1].items()}
    files = [
        save("a.pt", states[0]),
        save("b.pt", {"state_dict": other, "epoch": 3, "extra": {"lr": 0.1}}),
    ]
    report: dict[str, Any] = {}
    with opened(files, None) as found:
        first, second = aligned_checkpoints(found, report=report)
        assert first is found[0]
        assert (second.path, second.specs, second.files) == (files[1], found[1].specs, (files[1],))
        assert (second.nesting, second.left_out) == (found[1].nesting, found[1].left_out)
        assert second.extra("epoch") == 3
        expected = align([parent_of(it) for it in states], chain_spec(first.specs))[0][1].state()
        for name, tensor in expected.items():
            own = f"module.{name}"
            flat = tensor.reshape(-1)
            assert second.read(own).dtype == tensor.dtype
            assert torch.equal(second.read(own), flat)
            pieces = [second.read(own, at, min(at + 5, len(flat))) for at in range(0, len(flat), 5)]
            assert torch.equal(torch.cat(pieces), flat)
        second.close()
        assert torch.equal(second.read("module.0.bias"), expected["0.bias"])
    assert report["alignment"]["parents"][0]["parent"] == "b.pt"


def test_no_more_than_one_permuted_tensor_is_kept() -> None:
    states = [randomized(mlp(6, 16, 12, 3), seed).state_dict() for seed in (1, 2)]
    (_, aligned), _ = align(
        [parent_of(it) for it in states], chain_spec(parent_of(states[0]).specs)
    )
    checkpoint = aligned.checkpoint
    assert isinstance(checkpoint, AlignedCheckpoint)
    for name in states[1]:
        checkpoint.read(name, 0, 2)
        kept = checkpoint._last
        assert kept is None or kept[1].numel() <= states[1]["2.weight"].numel()


def test_what_goes_with_the_weights_is_put_in_their_order() -> None:
    states = [randomized(mlp(4, 6, 3), seed).state_dict() for seed in (1, 2)]
    spec = chain_spec(parent_of(states[0]).specs)
    (_, aligned), _ = align([parent_of(it) for it in states], spec)
    checkpoint = aligned.checkpoint
    assert isinstance(checkpoint, AlignedCheckpoint)
    squares = {name: it.square() for name, it in states[1].items()}
    same = {name: name for name in squares}
    alike = Parent(in_order_of(aligned, parent_of(squares).checkpoint, same), same)
    assert in_order_of(parent_of(squares), alike.checkpoint, same) is alike.checkpoint
    for name, square in squares.items():
        assert torch.equal(alike.tensor(name), aligned.tensor(name).square())
        moved = checkpoint.reordered(name, square)
        assert torch.equal(moved, aligned.tensor(name).square())


def test_other_shapes_are_refused() -> None:
    first, second = mlp(4, 6, 3).state_dict(), mlp(4, 7, 3).state_dict()
    parents = [parent_of(first), parent_of(second, "wide.pt")]
    with pytest.raises(InputsDiffer, match=r"wide.pt.*0.weight.*\[6, 4\].*\[7, 4\]"):
        align(parents, chain_spec(parents[0].specs))


def test_complex_and_half_tensors_align_back() -> None:
    for dtype in (torch.complex64, torch.bfloat16):
        state = {
            name: (it.to(dtype) * (1 + 2j) if dtype.is_complex else it.to(dtype))
            for name, it in randomized(mlp(4, 9, 3), 1).state_dict().items()
        }
        assert_aligns_back(state, chain_spec(parent_of(state).specs), 1)


# As a step before a merge


def adam_of(model: nn.Module, moments: dict[str, Tensor]) -> dict[str, Any]:
    """Adam's state after two steps, with those second moments."""
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.99))
    state = optimizer.state_dict()
    for index, (name, _) in enumerate(model.named_parameters()):
        state["state"][index] = {
            "step": torch.tensor(2.0),
            "exp_avg": torch.zeros_like(moments[name]),
            "exp_avg_sq": moments[name],
        }
    return state


@pytest.mark.filterwarnings("ignore::otf_merge.errors.MergeWarning")
def test_a_merge_does_not_depend_on_the_order_of_the_units(save: Callable[..., Path]) -> None:
    model = randomized(mlp(6, 16, 12, 3), 1)
    spec = chain_spec(parent_of(model.state_dict()).specs)
    generator = torch.Generator().manual_seed(6)
    near = {
        name: it + 0.05 * torch.randn(it.shape, generator=generator)
        for name, it in model.state_dict().items()
    }
    # Near enough to the first one for there to be one best match, and in another order.
    states = [model.state_dict(), permuted_state(near, spec, spec.random(generator))]
    order = spec.random(generator)
    moments = [
        {name: torch.rand(it.shape, generator=generator) for name, it in states[0].items()}
        for _ in states
    ]
    shuffled = [states[0], permuted_state(states[1], spec, order)]
    shuffled_moments = [moments[0], permuted_state(moments[1], spec, order)]
    for kind, weights, squares in (
        ("plain", states, moments),
        ("moved", shuffled, shuffled_moments),
    ):
        for place, (state, square) in enumerate(zip(weights, squares)):
            optimizer = adam_of(model, square)
            save(f"{kind}{place}.pt", {"model": dict(state), "optimizer": optimizer})
            save(f"{kind}-fisher{place}.pt", square)

    def merged(kind: str, method: str, **options: Any) -> dict[str, Tensor]:
        found: dict[str, Tensor] = merge(
            [f"{kind}0.pt", f"{kind}1.pt"], method=method, weights=[1, 3], **options
        )
        return found

    for method, options in (("linear", {}), ("fisher", {"source": "optimizer"}), ("fisher", {})):
        files = {}
        for kind in ("plain", "moved"):
            files[kind] = dict(options)
            if method == "fisher" and not options:
                files[kind]["fisher"] = [f"{kind}-fisher0.pt", f"{kind}-fisher1.pt"]
        plain = merged("plain", method, align="weights", **files["plain"])
        moved = merged("moved", method, align="weights", **files["moved"])
        for name, tensor in plain.items():
            assert torch.equal(moved[name], tensor), (method, name)
        apart = merged("plain", method, **files["plain"])
        assert not torch.equal(apart["0.weight"], plain["0.weight"])


@pytest.mark.filterwarnings("ignore::otf_merge.errors.MergeWarning")
def test_with_a_base_all_are_aligned_to_it(save: Callable[..., Path]) -> None:
    base = randomized(mlp(6, 16, 3), 0).state_dict()
    spec = chain_spec(parent_of(base).specs)
    save("base.pt", base)
    for seed in (1, 2):
        order = spec.random(torch.Generator().manual_seed(seed))
        tuned = {name: it + 0.01 * torch.randn(it.shape) for name, it in base.items()}
        save(f"tuned{seed}.pt", tuned)
        save(f"moved{seed}.pt", permuted_state(tuned, spec, order))
    expected = merge(["tuned1.pt", "tuned2.pt"], method="task-arithmetic", base="base.pt")
    found = merge(
        ["moved1.pt", "moved2.pt"], method="task-arithmetic", base="base.pt", align="weights"
    )
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_gram_matrices_of_another_order_are_refused(save: Callable[..., Path]) -> None:
    states = [randomized(mlp(6, 16, 3), seed).state_dict() for seed in (1, 2)]
    kept = {f"{name}.gram": torch.eye(2) for name in ("0", "2")}
    files = [save(f"{place}.pt", {"model": it, "grams": kept}) for place, it in enumerate(states)]
    with pytest.raises(InvalidInputs, match=r"Gram matrices in `.*1.pt` were gathered before"):
        merge(files, method="regmean", align="weights")
    with pytest.raises(InvalidInputs, match=r"Gram matrices for `1.pt` were gathered before"):
        merge(files, method="regmean", align="weights", grams=["a.pt", "b.pt"])


# Separate models of digits


def test_separately_trained_models_of_digits_come_together() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    data = datasets.load_digits()
    x = torch.tensor(data.data / 16, dtype=torch.float32)
    y = torch.tensor(data.target)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        trained = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            model = mlp(64, 64, 64, 10)
            optimizer = torch.optim.Adam(model.parameters(), 1e-3)
            for _ in range(500):
                places = torch.randint(0, 1197, (64,))
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x[places]), y[places]).backward()
                optimizer.step()
            trained.append(model.eval())
        states = [copy.deepcopy(it.state_dict()) for it in trained]
        parents = [parent_of(it) for it in states]
        (_, aligned), _ = align(parents, chain_spec(parents[0].specs))

        def accuracy(other: dict[str, Tensor]) -> float:
            model = trained[0]
            model.load_state_dict({name: (states[0][name] + other[name]) / 2 for name in other})
            return float((model(x[1197:]).argmax(1) == y[1197:]).float().mean())

        single, naive, matched = (accuracy(it) for it in (states[0], states[1], aligned.state()))
    finally:
        torch.set_num_threads(before)
    assert naive < single - 0.1
    assert matched > single - 0.05
