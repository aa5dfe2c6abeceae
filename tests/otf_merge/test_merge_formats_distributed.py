"""Folders of `torch.distributed.checkpoint`: their chunks, their metadata, and written ones."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from otf_merge.checkpoints.destination import destination
from otf_merge.checkpoints.distributed_folder import DistributedFolder
from otf_merge.checkpoints.formats import open_checkpoint
from otf_merge.checkpoints.gathering import Chunk, assembled
from otf_merge.errors import OutputRefused, UnreadableInput

from .formats import assert_same, contents_of, state_of

dcp = pytest.importorskip("torch.distributed.checkpoint")

Open = Callable[..., DistributedFolder]
WEIGHTS = {
    "layer.w": torch.arange(1200.0).reshape(40, 30),
    "layer.half": torch.randn(7).bfloat16(),
    "layer.turned": torch.randn(20, 6).t(),
    "layer.eight": torch.randn(9).to(torch.float8_e4m3fn),
    "scalar": torch.tensor(2.5),
    "count": torch.tensor(7),
    "empty": torch.zeros(0, 3),
}


@pytest.fixture
def opened() -> Iterator[Open]:
    """Open a checkpoint, which is closed after the test."""
    with contextlib.ExitStack() as stack:

        def opened(path: Any, key: str | None = None) -> Any:
            checkpoint = open_checkpoint(Path(path), key)
            stack.callback(checkpoint.close)
            return checkpoint

        yield opened


def quietly(function: Callable[..., Any], *given: Any, **options: Any) -> None:
    """torch says several things of its own about saving without processes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        function(*given, **options)


def save(folder: str, state: dict[str, Any]) -> Path:
    writer = dcp.FileSystemWriter(folder)
    if hasattr(dcp, "save_state_dict"):
        quietly(dcp.save_state_dict, state, writer, no_dist=True)
    else:
        quietly(dcp.save, state, storage_writer=writer, no_dist=True)
    return Path(folder)


def load(folder: str, state: dict[str, Any]) -> dict[str, Any]:
    reader = dcp.FileSystemReader(folder)
    if hasattr(dcp, "load_state_dict"):
        quietly(dcp.load_state_dict, state, reader, no_dist=True)
    else:
        quietly(dcp.load, state, storage_reader=reader, no_dist=True)
    return state


def refusal(path: Path, key: str | None = None) -> str:
    with pytest.raises(UnreadableInput) as refused:
        open_checkpoint(path, key)
    return str(refused.value)


# What is read


def test_the_weights_of_a_whole_checkpoint_are_found(opened: Open) -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    folder = save(
        "ckpt", {"model": WEIGHTS, "optimizer": optimizer.state_dict(), "epoch": 3, "rate": 0.5}
    )
    checkpoint = opened(folder)
    assert checkpoint.nesting == "model"
    assert set(checkpoint.left_out) == {"optimizer", "epoch", "rate"}
    assert_same(state_of(checkpoint), WEIGHTS)
    assert {file.name for file in checkpoint.files} == {".metadata", "__0_0.distcp"}
    assert checkpoint.extra("epoch") == 3
    assert checkpoint.extra("scheduler") is None
    kept = checkpoint.extra("optimizer")
    moments = optimizer.state_dict()["state"][0]
    assert torch.equal(kept["state"]["0"]["exp_avg_sq"], moments["exp_avg_sq"])
    assert kept["param_groups"][0]["lr"] == 0.001


def test_bare_names_and_named_keys(opened: Open) -> None:
    bare = opened(save("bare", {**WEIGHTS, "epoch": 3}))
    assert bare.nesting is None
    assert bare.left_out == ("epoch",)
    assert_same(state_of(bare), WEIGHTS)
    deep = opened(save("deep", {"a": {"b": WEIGHTS}, "model": {"w": torch.ones(2)}}), "a.b")
    assert deep.nesting == "a.b"
    assert_same(state_of(deep), WEIGHTS)
    assert "Its keys are: `a`, `model`" in refusal(Path("deep"), "c")


def test_elements_are_read_from_the_file_and_not_loaded(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {name: WEIGHTS[name] for name in ("layer.w", "layer.half", "scalar")}
    checkpoint = opened(save("ckpt", {"model": state}))
    monkeypatch.setattr(torch, "load", None)
    assert_same(state_of(checkpoint), state)


def test_a_chunk_that_is_not_what_the_metadata_say_is_refused(opened: Open) -> None:
    folder = save("ckpt", {"w": torch.ones(100)})
    other = save("other", {"w": torch.ones(100, dtype=torch.int32)})
    (folder / "__0_0.distcp").write_bytes((other / "__0_0.distcp").read_bytes())
    with pytest.raises(UnreadableInput, match="not what the metadata say"):
        opened(folder).read("w")


def test_a_chunk_that_runs_code_is_refused(opened: Open) -> None:
    folder = save("ckpt", {"w": torch.ones(100)})
    path = folder / "__0_0.distcp"
    size = path.stat().st_size
    evil = pickle.dumps(RunsCode(), protocol=2)
    path.write_bytes(evil + b"\0" * (size - len(evil)))
    with pytest.raises(UnreadableInput, match="__0_0"):
        opened(folder).read("w")
    assert not Path("pwned").exists()


def boxes(shape: tuple[int, ...], cuts: list[int]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """A grid of boxes over the shape, cut into so many along each dimension."""
    sides = []
    for size, count in zip(shape, cuts):
        edges = sorted({size * at // count for at in range(count + 1)})
        sides.append([(a, b - a) for a, b in zip(edges, edges[1:])])
    return [
        (tuple(it[0] for it in box), tuple(it[1] for it in box))
        for box in itertools.product(*sides)
    ]


@given(
    shape=st.lists(st.integers(1, 6), max_size=4).map(tuple),
    cuts=st.lists(st.integers(1, 4), min_size=4, max_size=4),
    data=st.data(),
)
def test_any_range_is_assembled_of_any_boxes(
    shape: tuple[int, ...], cuts: list[int], data: st.DataObject
) -> None:
    whole = torch.arange(math.prod(shape)).reshape(shape)
    longest = 0

    def chunk(offsets: tuple[int, ...], sizes: tuple[int, ...]) -> Chunk:
        box = tuple(slice(a, a + n) for a, n in zip(offsets, sizes))
        own = whole[box].reshape(-1)

        def read(start: int, stop: int) -> torch.Tensor:
            nonlocal longest
            longest = max(longest, stop - start)
            assert 0 <= start < stop <= len(own)
            return own[start:stop]

        return Chunk(offsets, sizes, read)

    chunks = [chunk(*box) for box in boxes(shape, cuts)]
    start = data.draw(st.integers(0, whole.numel()))
    stop = data.draw(st.integers(start, whole.numel()))
    found = assembled(shape, torch.int64, chunks, start, stop)
    assert torch.equal(found, whole.reshape(-1)[start:stop])
    assert longest <= stop - start


def sharded(
    folder: Path, tensor: torch.Tensor, cuts: list[int], properties: Any = None
) -> dict[str, Any]:
    """A tensor as several processes save it, each its box; the metadata's parts to change."""
    from torch.distributed.checkpoint import filesystem, metadata

    folder.mkdir()
    chunks, stored = [], {}
    for rank, (offsets, sizes) in enumerate(boxes(tuple(tensor.shape), cuts)):
        box = tuple(slice(a, a + n) for a, n in zip(offsets, sizes))
        name = f"__{rank}_0.distcp"
        torch.save(tensor[box].clone(memory_format=torch.contiguous_format), folder / name)
        chunks.append(metadata.ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes)))
        size = (folder / name).stat().st_size
        info = filesystem._StorageInfo(name, 0, size)
        stored[metadata.MetadataIndex("model.w", offsets, rank)] = info
    properties = properties or metadata.TensorProperties(dtype=tensor.dtype)
    described = metadata.TensorStorageMetadata(properties, tensor.size(), chunks)
    return {
        "state_dict_metadata": {"model.w": described},
        "planner_data": {"model.w": ("model", "w")},
        "storage_data": stored,
    }


def finish(folder: Path, parts: dict[str, Any]) -> Path:
    from torch.distributed.checkpoint.metadata import Metadata

    (folder / ".metadata").write_bytes(pickle.dumps(Metadata(**parts)))
    return folder


@pytest.mark.parametrize("cuts", [[4, 1], [1, 3], [2, 2]])
def test_tensors_of_several_processes_are_put_together(opened: Open, cuts: list[int]) -> None:
    tensor = torch.randn(37, 29)
    checkpoint = opened(finish(Path("ckpt"), sharded(Path("ckpt"), tensor, cuts)))
    assert len(checkpoint.files) == 1 + math.prod(cuts)
    assert_same(state_of(checkpoint), {"w": tensor})
    assert torch.equal(checkpoint.read("w", 55, 801), tensor.reshape(-1)[55:801])


def test_metadata_of_torch_2_2_are_read(opened: Open) -> None:
    # There the properties of a tensor were another class, which torch still has.
    from torch.distributed._shard.sharded_tensor.metadata import TensorProperties

    tensor = torch.randn(6, 4)
    properties = TensorProperties(dtype=tensor.dtype, memory_format=torch.contiguous_format)
    folder = finish(Path("ckpt"), sharded(Path("ckpt"), tensor, [2, 1], properties))
    assert b"_shard.sharded_tensor.metadata" in (folder / ".metadata").read_bytes()
    assert_same(state_of(opened(folder)), {"w": tensor})


# What is refused


class RunsCode:
    """A pickle of it creates a folder when it is read."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("pwned",)


class Named:
    """A pickle of it looks something up and calls it with what it is given."""

    def __init__(self, function: Any, *given: Any) -> None:
        self._reduced = function, given

    def __reduce__(self) -> Any:
        return self._reduced


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_metadata_that_run_code_are_refused_unread(protocol: int) -> None:
    folder = save("ckpt", {"w": torch.ones(3)})
    (folder / ".metadata").write_bytes(pickle.dumps(RunsCode(), protocol=protocol))
    message = refusal(folder)
    assert f"`{os.mkdir.__module__}.mkdir`" in message
    assert "dcp_to_torch_save" in message
    assert not Path("pwned").exists()


def test_code_hidden_within_good_metadata_is_refused() -> None:
    parts = sharded(Path("ckpt"), torch.ones(4, 4), [2, 1])
    parts["planner_data"]["x"] = RunsCode()
    assert "mkdir" in refusal(finish(Path("ckpt"), parts))
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    "value",
    [
        Named(getattr, torch.Size, "mro"),
        Named(eval, "1"),
        Named(torch.load, "x"),
        Named(__import__, "os"),
        Named(torch.serialization._get_layout, "torch.strided"),
        Named(torch.Size, (2, 3)),
        Path("a") / "b",
    ],
)
def test_only_what_belongs_in_metadata_is_made(opened: Open, value: Any) -> None:
    parts = sharded(Path("ckpt"), torch.ones(4, 4), [2, 1])
    parts["planner_data"]["x"] = ("model", value)
    folder = finish(Path("ckpt"), parts)
    belongs = isinstance(value, Path) or value._reduced[0] in (
        torch.Size,
        torch.serialization._get_layout,
    )
    if belongs:
        assert list(opened(folder).specs) == ["w"]
    else:
        assert "does not belong" in refusal(folder)


def test_opcodes_that_reach_for_attributes_are_refused() -> None:
    """Dotted names, objects by number, and changes to the stand-ins themselves."""
    folder = save("ckpt", {"w": torch.ones(3)})
    metadata = b"ctorch.distributed.checkpoint.metadata\nMetadata\n"
    for content in (
        b"\x80\x04\x8c\x05torch\x8c\x0bSize.mro.im\x93.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02" + metadata + b"}X\x01\x00\x00\x00aK\x01sb.",
        b"\x80\x02" + metadata + b"N}X\x09\x00\x00\x00argumentsK\x01s\x86b.",
        b"\x80\x02X\x01\x00\x00\x00aQ.",
    ):
        (folder / ".metadata").write_bytes(content)
        with pytest.raises(UnreadableInput):
            open_checkpoint(folder, None)


@given(share=st.floats(0, 1, exclude_max=True))
def test_metadata_cut_short_anywhere_are_refused(
    tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    folder = tmp_path_factory.getbasetemp() / "cut"
    if not folder.exists():
        finish(folder, sharded(folder, torch.ones(4, 4), [2, 1]))
        (folder / "whole").write_bytes((folder / ".metadata").read_bytes())
    whole = (folder / "whole").read_bytes()
    (folder / ".metadata").write_bytes(whole[: int(share * len(whole))])
    assert "is damaged" in refusal(folder)


@pytest.mark.parametrize("file", ["../../secret", "/etc/passwd", "a/../../b", "", "..\\x"])
def test_files_outside_the_folder_are_refused(file: str) -> None:
    parts = sharded(Path("ckpt"), torch.ones(4, 4), [1, 1])
    next(iter(parts["storage_data"].values())).relative_path = file
    assert "it names the file" in refusal(finish(Path("ckpt"), parts))


def test_chunks_that_do_not_make_up_the_tensor_are_refused() -> None:
    from torch.distributed.checkpoint.metadata import ChunkStorageMetadata

    def changed(name: str, change: Callable[[list[Any]], object]) -> str:
        parts = sharded(Path(name), torch.ones(4, 4), [2, 2])
        change(parts["state_dict_metadata"]["model.w"].chunks)
        return refusal(finish(Path(name), parts))

    whole = "do not make up a tensor of [4, 4]"
    assert whole in changed("hole", lambda chunks: chunks.pop())
    assert "nowhere stored" in changed(
        "strange",
        lambda chunks: chunks.append(ChunkStorageMetadata(torch.Size([1, 1]), torch.Size([1, 1]))),
    )

    def widen(chunks: list[Any]) -> None:
        chunks[0].sizes, chunks[3].sizes = torch.Size([3, 2]), torch.Size([1, 2])

    assert whole in changed("overlap", widen)

    def move(chunks: list[Any]) -> None:
        chunks[3].sizes = torch.Size([2, 3])

    assert whole in changed("outside", move)


def test_a_missing_file_is_named() -> None:
    folder = finish(Path("ckpt"), sharded(Path("ckpt"), torch.ones(4, 4), [2, 1]))
    (folder / "__1_0.distcp").unlink()
    assert "lacks `__1_0.distcp`" in refusal(folder)


def test_tensors_stored_in_a_form_of_their_own_are_refused() -> None:
    parts = sharded(Path("ckpt"), torch.ones(4, 4), [1, 1])
    next(iter(parts["storage_data"].values())).transform_descriptors = ["zstd"]
    assert "['zstd'], which is not supported" in refusal(finish(Path("ckpt"), parts))


# What is written


@pytest.mark.parametrize("nesting", [None, "model", "a.b"])
def test_torch_loads_what_is_written(opened: Open, nesting: str | None) -> None:
    state: dict[str, Any] = dict(WEIGHTS)
    for part in reversed(nesting.split(".") if nesting else []):
        state = {part: state}
    first = opened(save("first", state), nesting)
    destination("out/").write(contents_of(WEIGHTS, nesting=first.nesting), first)
    found: dict[str, Any] = {name: torch.zeros_like(it) for name, it in WEIGHTS.items()}
    target = found
    for part in reversed(nesting.split(".") if nesting else []):
        target = {part: target}
    load("out", target)
    assert_same(found, WEIGHTS)
    again = opened(Path("out"), nesting)
    assert again.nesting == nesting
    assert_same(state_of(again), WEIGHTS)
    assert sorted(path.name for path in Path("out").iterdir()) == [
        ".metadata",
        "__0_0.distcp",
        "otf_merge.json",
    ]


def test_tied_names_are_stored_once(opened: Open) -> None:
    first = opened(save("first", {"model": WEIGHTS}))
    state = {"a": torch.randn(1000), "b": torch.zeros(1000)}
    destination("out/").write(contents_of(state, nesting="model", ties=[("a", "b")]), first)
    found = load("out", {"model": {"a": torch.zeros(1000), "b": torch.zeros(1000)}})["model"]
    assert torch.equal(found["a"], state["a"])
    assert torch.equal(found["b"], state["a"])
    assert opened(Path("out")).ties == (("a", "b"),)
    assert Path("out/__0_0.distcp").stat().st_size < 6000


def test_it_is_not_written_in_shards(opened: Open) -> None:
    first = opened(save("first", {"model": WEIGHTS}))
    with pytest.raises(OutputRefused, match="Leave --shard-size out"):
        destination("out/").write(contents_of(WEIGHTS), first, shard_size=100)
    assert not Path("out").exists()
