"""Gram matrices of layers' inputs: what the rows are, how they are gathered, kept and found."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from otf_merge.checkpoints.sources import opened
from otf_merge.errors import InvalidInputs, InvalidTask, MissingNeed, OutputRefused
from otf_merge.grams import GramGatherer, Grams, LayerGram, gram_sources
from otf_merge.grams import inputs as grams_inputs
from otf_merge.grams.inputs import rows_of_convolution
from otf_merge.grams.sources import gathered
from otf_merge.parents import Parent
from otf_merge.task import Task
from torch import Tensor, nn

Save = Callable[[str, Any], Path]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gathered_from(model: nn.Module, *batches: Any) -> Grams:
    model.eval()
    with torch.no_grad(), GramGatherer(model) as gatherer:
        for batch in batches:
            model(*batch) if isinstance(batch, tuple) else model(batch)
    return gatherer.grams()


def product(rows: Tensor, *, bias: bool = True) -> Tensor:
    rows = rows.double()
    if bias:
        rows = torch.cat([rows, torch.ones(len(rows), 1, dtype=torch.float64)], dim=1)
    return rows.T @ rows


def test_a_linear_layer_with_and_without_a_bias() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2, bias=False))
    x, more = normal(5, 7, 3), normal(2, 1, 3, seed=1)
    grams = gathered_from(model, x, more)
    assert list(grams) == ["0.weight", "2.weight"]
    rows = torch.cat([x.reshape(-1, 3), more.reshape(-1, 3)])
    torch.testing.assert_close(grams["0.weight"].matrix[0], product(rows))
    inner = model[:2](rows).detach()
    torch.testing.assert_close(grams["2.weight"].matrix[0], product(inner, bias=False))
    assert grams["0.weight"].rows == 37
    torch.testing.assert_close(grams["0.weight"].mean[0], product(rows) / 37)


CONVOLUTIONS = [
    (nn.Conv1d(3, 4, 3), (2, 3, 9)),
    (nn.Conv1d(4, 6, 3, groups=2, dilation=2, padding="same"), (2, 4, 9)),
    (nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 0)), (2, 3, 7, 6)),
    (nn.Conv2d(4, 4, 3, groups=4, padding=1, padding_mode="reflect"), (2, 4, 6, 6)),
    (nn.Conv2d(2, 4, 2, padding="same", padding_mode="circular"), (1, 2, 5, 5)),
    (nn.Conv2d(2, 4, 3, dilation=2, padding=2, padding_mode="replicate"), (3, 2, 7, 7)),
    (nn.Conv2d(2, 2, 1, padding="valid"), (2, 5, 5)),
    (nn.Conv3d(2, 4, 2, stride=2, groups=2), (2, 2, 4, 5, 6)),
]


@pytest.mark.parametrize("held", [1, 1 << 24])
@pytest.mark.parametrize(("module", "shape"), CONVOLUTIONS)
def test_a_convolution_is_a_linear_layer_of_patches(
    module: Any, shape: tuple[int, ...], held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grams_inputs, "_HELD", held)
    x = normal(*shape)
    rows = torch.cat(list(rows_of_convolution(module, x)))
    groups = module.groups
    weight = module.weight.reshape(groups, module.out_channels // groups, -1)
    outputs = torch.einsum("rgi,goi->rgo", rows, weight).reshape(len(rows), -1) + module.bias
    expected = module(x if x.dim() == module.weight.dim() else x.unsqueeze(0))
    expected = expected.movedim(1, -1).reshape(-1, module.out_channels)
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)
    gram = gathered_from(nn.Sequential(module), x)["0.weight"]
    assert gram.rows == len(rows)
    assert gram.matrix.shape[0] == groups
    for group in range(groups):
        torch.testing.assert_close(gram.matrix[group], product(rows[:, group]))


class Conv1D(nn.Module):
    """Laid out as the Transformers library's layer of that name."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf = nf
        self.weight = nn.Parameter(normal(nx, nf))
        self.bias = nn.Parameter(torch.zeros(nf))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


def test_a_layer_that_stores_inputs_first_is_known_as_such() -> None:
    x = normal(6, 3)
    gram = gathered_from(nn.Sequential(Conv1D(4, 3)), x)["0.weight"]
    assert gram.in_first
    torch.testing.assert_close(gram.matrix[0], product(x))


@pytest.mark.parametrize("batch_first", [True, False])
def test_queries_keys_and_values_have_inputs_of_their_own(batch_first: bool) -> None:
    attention = nn.MultiheadAttention(4, 2, batch_first=batch_first)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = attention

        def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
            return attention(queries, key=memory, value=2 * memory)[0]  # type: ignore[no-any-return]

    queries, memory = normal(3, 2, 4), normal(5, 2, 4, seed=1)
    if batch_first:
        queries, memory = queries.transpose(0, 1), memory.transpose(0, 1)
    gram = gathered_from(Model(), (queries, memory))["attention.in_proj_weight"]
    assert gram.matrix.shape == (3, 5, 5)
    for group, rows in enumerate([queries, memory, 2 * memory]):
        flat = rows.reshape(-1, 4)
        torch.testing.assert_close(gram.mean[group], product(flat) / len(flat))
    other = nn.MultiheadAttention(4, 2, kdim=3, vdim=3)
    assert not list(gathered_from(nn.ModuleList([other])[0], (normal(2, 4), *[normal(2, 3)] * 2)))


def test_layers_of_a_transformer_are_seen_although_kernels_are_fused() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2)
    padding = torch.zeros(2, 5, dtype=torch.bool)
    padding[1, 3:] = True

    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, x: Tensor) -> Tensor:
            return self.encoder(x, src_key_padding_mask=padding)  # type: ignore[no-any-return]

    settings = [encoder.use_nested_tensor, *(it.activation_relu_or_gelu for it in encoder.layers)]
    x = normal(2, 5, 8)
    grams = gathered_from(Padded(), x)
    after = [encoder.use_nested_tensor, *(it.activation_relu_or_gelu for it in encoder.layers)]
    assert after == settings
    assert list(grams) == [
        f"encoder.layers.{place}.{name}"
        for place in (0, 1)
        for name in ("self_attn.in_proj_weight", "linear1.weight", "linear2.weight")
    ]
    first = grams["encoder.layers.0.self_attn.in_proj_weight"]
    torch.testing.assert_close(first.mean[2], product(x.reshape(-1, 8)) / 10)


def test_hooks_are_gone_afterwards_and_unused_layers_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Identity())
    model.unused = nn.Linear(9, 9)
    gatherer = GramGatherer(model)
    with gatherer:
        model[0](normal(4, 3))
    model[0](normal(4, 3))
    assert list(gatherer.grams()) == ["0.weight"]
    assert gatherer.grams()["0.weight"].rows == 4


def test_a_layer_that_is_used_twice_has_both_uses() -> None:
    shared = nn.Linear(3, 3)
    x = normal(4, 3)
    gram = gathered_from(nn.Sequential(shared, shared), x)["0.weight"]
    torch.testing.assert_close(gram.matrix[0], product(torch.cat([x, shared(x).detach()])))


def test_a_weight_that_an_embedding_uses_too_is_left_out() -> None:
    embedding, head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
    head.weight = embedding.weight
    model = nn.Sequential(embedding, nn.Linear(3, 3), head)
    assert list(gathered_from(model, torch.arange(5))) == ["1.weight"]


# In files


def some() -> Grams:
    layers = {
        "a.weight": LayerGram(product(normal(6, 3))[None], 6),
        "b.weight": LayerGram(product(normal(6, 2), bias=False)[None], 6, in_first=True),
    }
    return Grams(layers)


def assert_same(found: Grams, expected: Grams) -> None:
    assert list(found) == list(expected)
    for name, layer in expected.items():
        torch.testing.assert_close(found[name].matrix.double(), layer.matrix, rtol=1e-6, atol=1e-6)
        assert found[name].rows == layer.rows
        assert found[name].in_first == layer.in_first


@pytest.mark.parametrize("name", ["grams.safetensors", "grams.pt"])
def test_they_are_kept_in_files(name: str) -> None:
    grams = some()
    grams.save(Path(name))
    assert_same(Grams.load(Path(name)), Grams({it: grams[it] for it in sorted(grams)}))
    assert [it.name for it in Path().iterdir()] == [name]


def test_they_are_kept_in_checkpoints(save: Save) -> None:
    path = save("a.pt", {"model": {"a.weight": normal(2, 3)}, "grams": some().state()})
    assert_same(Grams.load(path), some())


def test_what_holds_none_is_refused(save: Save) -> None:
    with pytest.raises(OutputRefused, match="no known format"):
        some().save(Path("grams.txt"))
    with pytest.raises(InvalidInputs, match=r"other.pt` holds no Gram matrices"):
        Grams.load(save("other.pt", {"grams": {"a": normal(2)}}))
    state = some().state()
    del state["a.weight.rows"]
    with pytest.raises(InvalidInputs, match="The state has for `a.weight` no Gram matrices"):
        Grams.from_state(state)
    with pytest.raises(InvalidInputs, match=r"a tensor of \[3, 4\]"):
        Grams.from_state({"w.gram": normal(3, 4), "w.rows": torch.tensor(2)})
    bad = {"w.gram": torch.full((1, 2, 2), torch.nan), "w.rows": torch.tensor(2)}
    with pytest.raises(InvalidInputs, match="NaN or infinity"):
        Grams.from_state(bad)


# Where they come from


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))


def batches(seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    return [(x, torch.zeros(4).long()) for x in normal(3, 4, 3, seed=seed)]


def test_data_are_looked_at_in_evaluation_mode_and_no_trace_is_left() -> None:
    model = net()
    model[1].train()  # type: ignore[index, union-attr, operator]
    state, python = torch.get_rng_state(), random.getstate()
    told: list[tuple[float, float, str]] = []
    data = batches()
    grams, count = gathered(
        model, data, Task(net, []), samples=6, progress=lambda *it: told.append(it)
    )
    assert count == 6
    assert told == [(4, 6, "samples"), (6, 6, "samples")]
    rows = torch.cat([x for x, _ in data])[:6]
    torch.testing.assert_close(grams["0.weight"].matrix[0], product(rows))
    hidden = model[0](rows).detach()  # type: ignore[index, operator]
    torch.testing.assert_close(grams["2.weight"].matrix[0], product(hidden))
    assert all(part.training for part in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == python
    with pytest.raises(InvalidTask, match="no batches"):
        gathered(model, [], Task(net, []))


@pytest.fixture
def parents(save: Save) -> Any:
    """Two checkpoints whose names begin with the attribute that held the network."""
    states = []
    for place, name in enumerate("ab"):
        torch.manual_seed(place)
        states.append(net().state_dict())
        save(f"{name}.pt", {f"net.{key}": it for key, it in states[-1].items()})
    with opened([Path("a.pt"), Path("b.pt")], None) as found:
        yield [Parent(it, {name: name for name in it.specs}) for it in found]


def test_each_parent_sees_its_own_domain(parents: Any) -> None:
    data = [batches(0), batches(1)]
    found = gram_sources(parents, task=Task(net, [], domains=data), samples=8)
    assert found.report == {"source": "task", "samples": [8, 8]}
    for grams, own in zip(found.grams, data):
        assert list(grams) == ["net.0.weight", "net.2.weight"]
        rows = torch.cat([x for x, _ in own])[:8]
        torch.testing.assert_close(grams["net.0.weight"].matrix[0], product(rows))


def test_files_and_checkpoints_are_read_under_the_first_ones_names(
    parents: Any, save: Save
) -> None:
    grams = gathered_from(net(), *(x for x, _ in batches()))
    grams.save(Path("g.safetensors"))
    files = [Path("g.safetensors")] * 2
    found = gram_sources(parents, files=files)
    assert found.report == {"source": "file"}
    assert [list(it) for it in found.grams] == [["net.0.weight", "net.2.weight"]] * 2
    for name in "ab":
        save(f"{name}2.pt", {"model": dict(parents[0].tensors()), "grams": grams.state()})
    with opened([Path("a2.pt"), Path("b2.pt")], None) as again:
        kept = [Parent(it, {name: name for name in it.specs}) for it in again]
        found = gram_sources(kept, task=Task(net, []))
    assert found.report == {"source": "checkpoint"}
    torch.testing.assert_close(
        found.grams[1]["net.0.weight"].matrix, grams["0.weight"].matrix.float()
    )


def test_without_any_the_three_ways_are_told(parents: Any) -> None:
    with pytest.raises(MissingNeed) as raised:
        gram_sources(parents)
    for way in ("`a.pt`, `b.pt`", "--task module:function", "--grams FILES", "the key `grams`"):
        assert way in str(raised.value)
    some().save(Path("g.pt"))
    with pytest.raises(InvalidInputs, match="2 checkpoints and 1 files of Gram matrices"):
        gram_sources(parents, files=[Path("g.pt")])
    with pytest.raises(InvalidInputs, match="are of none of its tensors: they are of `a.weight`"):
        gram_sources(parents, files=[Path("g.pt")] * 2)
