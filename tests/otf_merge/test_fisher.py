"""`fisher`: its formula, and where the information comes from, through whole merges."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from otf_merge import MergeWarning, merge
from otf_merge.checkpoints.sources import opened
from otf_merge.errors import InvalidInputs, InvalidParameter, MissingNeed
from otf_merge.fisher import exact_fisher, fisher_sources
from otf_merge.merging import merge_into_file
from otf_merge.methods.fisher import fisher
from otf_merge.parents import Parent
from otf_merge.request import Request
from otf_merge.task import Task
from torch import Tensor, nn

Save = Callable[[str, Any], Path]

# These small models are of no common ancestor, which a merge says.
pytestmark = pytest.mark.filterwarnings("ignore::otf_merge.errors.MergeWarning")


def naive(
    tensors: list[Tensor], diagonals: list[Tensor], weights: list[float], floor: float = 1e-6
) -> Tensor:
    """`sum(w F t) / sum(w F)`, number by number."""
    result = torch.empty_like(tensors[0], dtype=torch.float64).reshape(-1)
    for place in range(result.numel()):
        above = below = 0.0
        for tensor, diagonal, weight in zip(tensors, diagonals, weights):
            count = weight * max(float(diagonal.reshape(-1)[place]), floor)
            above += count * float(tensor.reshape(-1)[place])
            below += count
        result[place] = above / below
    return result.reshape(tensors[0].shape)


def drawn(count: int, shape: tuple[int, ...], seed: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    tensors = torch.randn((count, *shape), dtype=torch.float64, generator=generator)
    powers = torch.randn((count, *shape), dtype=torch.float64, generator=generator)
    return list(tensors), list((4 * powers).exp())


@given(
    st.integers(2, 4),
    st.sampled_from([(), (0,), (7,), (5, 1), (2, 3, 4)]),
    st.sampled_from([1e-6, 1e-2, 10.0]),
    st.lists(st.sampled_from([0.0, 0.3, 1.0, 250.0]), min_size=4, max_size=4),
)
def test_it_is_the_formula(
    count: int, shape: tuple[int, ...], floor: float, weights: list[float]
) -> None:
    weights = [*weights[: count - 1], 1.0]
    tensors, diagonals = drawn(count, shape)
    found = fisher(tensors, fisher=diagonals, weights=weights, floor=floor)
    torch.testing.assert_close(found, naive(tensors, diagonals, weights, floor), rtol=1e-12, atol=0)


def test_nothing_is_pulled_to_zero() -> None:
    tensors, _ = drawn(2, (9,))
    nothing = [torch.zeros(9, dtype=torch.float64)] * 2
    found = fisher(tensors, fisher=nothing, weights=[1.0, 3.0])
    torch.testing.assert_close(found, (tensors[0] + 3 * tensors[1]) / 4)
    tiny = [torch.full((9,), 1e-30, dtype=torch.float64), torch.zeros(9, dtype=torch.float64)]
    found = fisher(tensors, fisher=tiny, weights=[1.0, 1.0])
    torch.testing.assert_close(found, (tensors[0] + tensors[1]) / 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex128])
def test_copies_and_a_lone_weight_are_exact(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    tensor = torch.randn(1000, dtype=dtype, generator=generator)
    other = torch.randn(1000, dtype=dtype, generator=generator)
    _, diagonals = drawn(3, (1000,))
    given_as = [it.to(dtype) for it in diagonals]
    if not dtype.is_complex:
        merged = fisher([tensor] * 3, fisher=given_as, weights=[0.3, 0.1, 0.7])
        assert torch.equal(merged, tensor)
    assert torch.equal(fisher([other, tensor], fisher=given_as[:2], weights=[0.0, 0.3]), tensor)


def test_complex_numbers_are_weighed_by_real_ones() -> None:
    tensors, diagonals = drawn(2, (6,))
    both = [torch.complex(it, 2 * it) for it in tensors]
    found = fisher(both, fisher=[it.to(torch.complex128) for it in diagonals], weights=[1.0, 2.0])
    expected = naive(tensors, diagonals, [1.0, 2.0])
    torch.testing.assert_close(found, torch.complex(expected, 2 * expected))


# Whole merges


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


def state_of(seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return dict(net().state_dict())


def parameters_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    known = dict(net().named_parameters())
    return {name: it for name, it in state.items() if name in known}


@pytest.fixture
def files(save: Save) -> list[dict[str, Tensor]]:
    """Two checkpoints, and for each a file with the information of its parameters."""
    for place, name in enumerate("ab"):
        state = state_of(place)
        save(f"{name}.pt", state)
        generator = torch.Generator().manual_seed(10 + place)
        diagonal = {
            key: 10 ** (3 * torch.randn(it.shape, generator=generator) - 4)
            for key, it in parameters_of(state).items()
        }
        save(f"F{name}.safetensors", diagonal)
    return [state_of(0), state_of(1)]


def diagonals_in(*paths: str) -> list[dict[str, Tensor]]:
    from safetensors.torch import load_file

    return [load_file(path) for path in paths]


def expected_from(
    states: list[dict[str, Tensor]],
    diagonals: list[dict[str, Tensor]],
    weights: list[float],
    *,
    normalize: bool = True,
) -> dict[str, Tensor]:
    """The merge by hand: each diagonal in units of its root mean square over the model."""
    flat = [torch.cat([it.double().reshape(-1) for it in own.values()]) for own in diagonals]
    roots = [float(it.square().mean().sqrt()) for it in flat]
    if not normalize:
        roots = [math.sqrt(sum(it**2 for it in roots) / len(roots))] * len(roots)
    return {
        name: naive(
            [state[name] for state in states],
            [own[name].double() / root for own, root in zip(diagonals, roots)],
            weights,
        )
        for name in diagonals[0]
    }


def assert_close(found: Any, expected: dict[str, Tensor]) -> None:
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name].double(), tensor, rtol=1e-5, atol=1e-7, msg=name)


PAIR = ["a.pt", "b.pt"]
INFORMED = ["Fa.safetensors", "Fb.safetensors"]


@pytest.mark.parametrize("normalize", [True, False])
def test_by_files(files: list[dict[str, Tensor]], normalize: bool) -> None:
    with pytest.warns(MergeWarning) as caught:
        found = merge(PAIR, "fisher", [0.25, 0.75], fisher=INFORMED, normalize=normalize)
    known = diagonals_in(*INFORMED)
    assert_close(found, expected_from(files, known, [0.25, 0.75], normalize=normalize))
    # Buffers have none and are averaged, and that is said.
    mean = 0.25 * files[0]["1.running_mean"] + 0.75 * files[1]["1.running_mean"]
    torch.testing.assert_close(found["1.running_mean"], mean)
    assert found["1.num_batches_tracked"].dtype == torch.int64
    told = [str(it.message) for it in caught]
    assert any(
        "2 tensors have no Fisher information" in it and "`1.running_mean`, `1.running_var`" in it
        for it in told
    )


def test_the_scale_of_a_file_does_not_count_when_normalised(
    files: list[dict[str, Tensor]], save: Save
) -> None:
    second = diagonals_in(INFORMED[1])[0]
    save("scaled.safetensors", {name: 512 * it for name, it in second.items()})
    other = ["Fa.safetensors", "scaled.safetensors"]
    plain = merge(PAIR, "fisher", fisher=INFORMED)
    assert_same(merge(PAIR, "fisher", fisher=other), plain)
    louder = merge(PAIR, "fisher", fisher=other, normalize=False)
    quiet = merge(PAIR, "fisher", fisher=INFORMED, normalize=False)
    assert not torch.allclose(louder["0.weight"], quiet["0.weight"])


def assert_same(found: Any, expected: Any) -> None:
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_pieces_and_threads_make_no_difference(save: Save) -> None:
    generator = torch.Generator().manual_seed(0)
    states = [{"w": torch.randn(600, 500, generator=generator)} for _ in range(2)]
    diagonals = [{"w": torch.rand(600, 500, generator=generator)} for _ in range(2)]
    for name, state, diagonal in zip("ab", states, diagonals):
        save(f"{name}.pt", state)
        save(f"F{name}.safetensors", diagonal)
    found = merge(PAIR, "fisher", fisher=INFORMED, threads=2)
    scaled = [it["w"].double() / it["w"].double().square().mean().sqrt() for it in diagonals]
    top = sum(it["w"].double() * own for it, own in zip(states, scaled))
    torch.testing.assert_close(found["w"].double(), top / sum(scaled), rtol=1e-5, atol=1e-7)
    assert_same(merge(PAIR, "fisher", fisher=INFORMED, threads=1), found)


def domains() -> list[list[tuple[Tensor, Tensor]]]:
    generator = torch.Generator().manual_seed(4)
    made = []
    for shift in (0.0, 2.0):
        x = torch.randn(20, 3, generator=generator) + shift
        made.append([(part, (part.sum(1) > shift).long()) for part in x.split(8)])
    return made


def test_by_a_task_on_each_parents_own_data(files: list[dict[str, Tensor]]) -> None:
    data = domains()
    task = Task(net, validation=data[0], domains=data)
    told: list[tuple[float, float, str]] = []
    report = merge_into_file(
        Request([Path(it) for it in PAIR], "fisher", task=task, samples=12),
        Path("out.pt"),
        progress=lambda *it: told.append(it),
    ).report
    known = []
    for state, own in zip(files, data):
        model = net()
        model.load_state_dict(state)
        known.append(dict(exact_fisher(model, own, task, samples=12).diagonal))
    assert_close(torch.load("out.pt"), expected_from(files, known, [1.0, 1.0]))
    assert report["fisher"] == {"source": "task", "kind": "true", "samples": [12, 12]}
    counted = [it for it in told if it[2] == "samples"]
    assert counted == [(n, 24, "samples") for n in (8, 12, 20, 24)]


def test_by_optimizers_with_no_data_at_all(save: Save) -> None:
    states, known = [], []
    for place, name in enumerate("ab"):
        torch.manual_seed(place)
        model = net()
        optimizer = torch.optim.Adam(model.parameters())
        for x, y in domains()[place]:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        save(f"{name}.pt", {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
        states.append(dict(model.state_dict()))
        known.append(
            {
                key: optimizer.state[it]["exp_avg_sq"] / (1 - 0.999**3)
                for key, it in model.named_parameters()
            }
        )
    done = merge_into_file(Request([Path(it) for it in PAIR], "fisher"), Path("out.pt"))
    assert done.report["fisher"] == {"source": "optimizer", "optimizers": ["Adam", "Adam"]}
    found = torch.load("out.pt")["model"]
    assert_close(found, expected_from(states, known, [1.0, 1.0]))
    average = merge(PAIR, "linear", output="average.pt")
    assert not torch.allclose(found["0.weight"], torch.load(average)["model"]["0.weight"])


def test_what_was_used_of_a_checkpoint_is_not_told_as_left_out(
    save: Save, files: list[dict[str, Tensor]]
) -> None:
    model = net()
    optimizer = torch.optim.Adam(model.parameters())
    x, y = domains()[0][0]
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
    training = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}

    def told(method: str, **given: Any) -> list[str]:
        request = Request([Path(it) for it in PAIR], method, **given)
        warnings = merge_into_file(request, Path("out.pt"), force=True).warnings
        return [it for it in warnings if it.startswith("Only weights are merged")]

    for name in "ab":
        save(f"{name}.pt", training)
    assert told("fisher") == []
    assert "`optimizer`" in told("linear")[0]
    assert "`optimizer`" in told("fisher", fisher=[Path(it) for it in INFORMED])[0]
    for name in "ab":
        save(f"{name}.pt", {**training, "epoch": 3})
    (warning,) = told("fisher")
    assert "`epoch`" in warning
    assert "`optimizer`" not in warning


def test_where_it_comes_from_can_be_chosen(save: Save, files: list[dict[str, Tensor]]) -> None:
    model = net()
    model.load_state_dict(files[0])
    optimizer = torch.optim.Adam(model.parameters())
    x, y = domains()[0][0]
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
    for name in "ab":
        save(f"{name}.pt", {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    task = Task(net, validation=domains()[0], train=domains()[0])
    with (
        opened([Path(it) for it in PAIR], None) as found,
        opened([Path(it) for it in INFORMED], None) as informed,
    ):
        parents = [Parent(it, {name: name for name in it.specs}) for it in found]

        def source(**given: Any) -> Any:
            return fisher_sources(parents, **given).report["source"]

        assert source(files=informed, task=task) == "file"
        assert source(task=task) == "task"
        assert source() == "optimizer"
        assert source(files=informed, task=task, source="optimizer") == "optimizer"
        assert source(files=informed, task=task, source="task") == "task"
        # A task that only validates has nothing to compute it from.
        assert source(task=Task(net, validation=domains()[0])) == "optimizer"
        with pytest.raises(MissingNeed, match="there is no task"):
            source(source="task")
        with pytest.raises(InvalidInputs, match="2 checkpoints and 0 files"):
            source(source="file")


def test_what_the_module_cannot_follow_is_in_the_report(files: list[dict[str, Tensor]]) -> None:
    class Deciding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = net()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x * (1 if float(x.sum()) > 0 else 2))  # type: ignore[no-any-return]

    task = Task(Deciding, validation=domains()[0], train=domains()[0])
    with opened([Path(it) for it in PAIR], None) as found:
        parents = [Parent(it, {f"inner.{name}": name for name in it.specs}) for it in found]
        report = fisher_sources(parents, task=task, samples=3).report
    assert "vmap" in report["one_by_one"]


def test_tied_weights_are_known_by_either_name(save: Save) -> None:
    generator = torch.Generator().manual_seed(0)
    for place, name in enumerate("ab"):
        weight = torch.randn(4, 3, generator=generator)
        save(f"{name}.pt", {"embedding": weight, "head": weight})
        save(f"F{name}.safetensors", {"head": torch.full((4, 3), float(1 + 3 * place))})
    found = merge(PAIR, "fisher", fisher=INFORMED, normalize=False)
    states = [torch.load(path) for path in PAIR]
    torch.testing.assert_close(found["head"], (states[0]["head"] + 4 * states[1]["head"]) / 5)
    assert found["head"].data_ptr() == found["embedding"].data_ptr()


def test_prefixes_in_files_are_reconciled(files: list[dict[str, Tensor]], save: Save) -> None:
    for name, state in zip("ab", files):
        save(f"{name}.pt", {f"module.net.{key}": it for key, it in state.items()})
    with pytest.warns(MergeWarning, match="no Fisher information"):
        found = merge(PAIR, "fisher", fisher=INFORMED)
    expected = expected_from(files, diagonals_in(*INFORMED), [1.0, 1.0])
    assert_close(found, {f"module.net.{name}": it for name, it in expected.items()})


# What is refused


def test_without_any_source_the_three_ways_are_told(files: list[dict[str, Tensor]]) -> None:
    with pytest.raises(MissingNeed) as raised:
        merge(PAIR, "fisher")
    message = str(raised.value)
    assert "`a.pt`, `b.pt`" in message
    for way in ("--fisher FILES", "--task module:function", "optimizer such as Adam"):
        assert way in message


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"0.weight": torch.full((4, 3), -1.0)}, "`0.weight` from `Fb.safetensors` has negative"),
        ({"0.weight": torch.full((4, 3), math.nan)}, "or such that are not finite"),
        ({"0.weight": torch.full((4, 3), math.inf)}, "or such that are not finite"),
        ({"0.weight": torch.ones(3, 4)}, "has the shape [3, 4], and the tensor has [4, 3]"),
    ],
)
def test_what_is_no_information_is_refused(
    files: list[dict[str, Tensor]], save: Save, changed: dict[str, Tensor], message: str
) -> None:
    save("Fb.safetensors", {**diagonals_in("Fb.safetensors")[0], **changed})
    with pytest.raises(InvalidInputs) as raised:
        merge(PAIR, "fisher", fisher=INFORMED)
    assert message in str(raised.value)


def test_files_that_do_not_fit_are_refused(files: list[dict[str, Tensor]], save: Save) -> None:
    with pytest.raises(InvalidInputs, match="2 checkpoints and 1 files"):
        merge(PAIR, "fisher", fisher=INFORMED[:1])
    zeros = {name: 0 * it for name, it in diagonals_in("Fb.safetensors")[0].items()}
    save("zeros.safetensors", zeros)
    with pytest.raises(InvalidInputs, match="of `b.pt` is zero everywhere"):
        merge(PAIR, "fisher", fisher=["Fa.safetensors", "zeros.safetensors"])
    save("other.safetensors", {"something": torch.ones(2)})
    with pytest.raises(InvalidInputs, match="has none of the tensors of `b.pt`"):
        merge(PAIR, "fisher", fisher=["Fa.safetensors", "other.safetensors"])
    with pytest.raises(InvalidParameter, match="`floor`"):
        merge(PAIR, "fisher", fisher=INFORMED, floor=0)
