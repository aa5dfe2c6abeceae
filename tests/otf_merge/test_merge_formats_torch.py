"""Files of `torch.save`: what is found in them, read piece by piece, refused, and written."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import tarfile
import threading
import zipfile
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from otf_merge.checkpoints import torch_loading, zip_writer
from otf_merge.checkpoints.checkpoint import Checkpoint, Contents, TensorSpec
from otf_merge.checkpoints.formats import open_checkpoint
from otf_merge.checkpoints.torch_file import TorchFile
from otf_merge.checkpoints.torch_writer import write
from otf_merge.checkpoints.zip_records import records_of
from otf_merge.errors import UnreadableInput

from .formats import assert_same, state_of, stream_of

Save = Callable[[str, Any], Path]
Open = Callable[..., Checkpoint]
WEIGHTS = {"w": torch.tensor([1.0, 3.0]), "n": torch.tensor(7)}


def state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    kinds = {
        "float": random(300, 3),
        "half": random(3, 1).half(),
        "brain": random(5).bfloat16(),
        "double": random(2, 2).double(),
        "complex": torch.complex(random(4), random(4)),
        "eight": random(7).to(torch.float8_e4m3fn),
        "eight_wide": random(7).to(torch.float8_e5m2),
        "long": torch.tensor([2**40, -1]),
        "byte": torch.tensor([1, 2, 3], dtype=torch.uint8),
        "flag": torch.tensor([True, False]),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
    }
    if hasattr(torch, "uint16"):
        kinds["short"] = torch.tensor([1, 65000], dtype=torch.uint16)
    return kinds


# What is found


@pytest.mark.parametrize(
    ("saved", "key", "nesting", "left_out"),
    [
        (WEIGHTS, None, None, ()),
        ({"net": WEIGHTS, "epoch": 1}, None, "net", ("epoch",)),
        ({"module": WEIGHTS}, None, "module", ()),
        ({"network": WEIGHTS}, None, "network", ()),
        (
            {"model": {"state_dict": WEIGHTS, "dim": 3}, "seed": 1},
            None,
            "model.state_dict",
            ("seed", "model.dim"),
        ),
        ({"best": {"model": WEIGHTS}, "rng": torch.ones(3)}, None, "best.model", ("rng",)),
        ({"a": {"b": WEIGHTS}, "model": WEIGHTS}, "a.b", "a.b", ("model",)),
        ({"a": {"b": {"c": WEIGHTS}}}, "a.b.c", "a.b.c", ()),
        ({"a.b": WEIGHTS, "c": 1}, "a.b", "a.b", ("c",)),
        (
            {"state_dict": WEIGHTS, "optimizer_states": [{"state": {}}], "epoch": 2},
            None,
            "state_dict",
            ("optimizer_states", "epoch"),
        ),
    ],
)
def test_weights_are_found_where_they_usually_are(
    opened: Open,
    save: Save,
    saved: Any,
    key: str | None,
    nesting: str | None,
    left_out: tuple[str, ...],
) -> None:
    checkpoint = opened(save("a.ckpt", saved), key)
    assert (checkpoint.nesting, checkpoint.left_out) == (nesting, left_out)
    assert_same(state_of(checkpoint), WEIGHTS)


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"gen": {"model": WEIGHTS}, "dis": {"model": WEIGHTS}}, "`gen.model`, `dis.model`. Say"),
        ({"model": WEIGHTS, "net": WEIGHTS}, "for example `--key model`"),
        ({"model": {}, "epoch": 1}, "Its keys are: `model`, `epoch`"),
    ],
)
def test_weights_that_are_not_clear_are_asked_for(
    opened: Open, save: Save, saved: Any, message: str
) -> None:
    with pytest.raises(UnreadableInput) as refused:
        opened(save("a.pt", saved))
    assert message in str(refused.value)


def test_a_key_that_leads_nowhere_is_told(opened: Open, save: Save) -> None:
    path = save("a.pt", {"a": {"b": 1}, "model": WEIGHTS})
    for key in ("a.b", "a.c", "model.w", "a", ""):
        with pytest.raises(UnreadableInput, match=r"Its keys are: `a`, `model`"):
            opened(path, key)


def test_what_else_a_file_keeps_is_handed_out(opened: Open, save: Save) -> None:
    optimizer = {"state": {0: {"exp_avg_sq": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
    checkpoint = opened(save("a.pt", {"model": WEIGHTS, "optimizer": optimizer}))
    assert checkpoint.extra("optimizer")["state"][0]["exp_avg_sq"].tolist() == [1.0, 1.0]
    assert checkpoint.extra("scheduler") is None
    assert opened(save("b.pt", WEIGHTS)).extra("w") is None


def test_what_modules_keep_beside_tensors_is_left_out(opened: Open, save: Save) -> None:
    saved = {"model": {**WEIGHTS, "layer._extra_state": {"amax": 1.0}}}
    checkpoint = opened(save("a.pt", saved))
    assert list(checkpoint.specs) == ["w", "n"]
    assert checkpoint.left_out == ("model.layer._extra_state",)


# What is read


@pytest.mark.parametrize("is_zip", [True, False])
def test_every_dtype_is_read_in_any_pieces(opened: Open, tmp_path: Path, is_zip: bool) -> None:
    path = tmp_path / "a.pt"
    # The older form of files has no way to say what is in storages without a type.
    kinds = {k: it for k, it in state().items() if is_zip or not k.startswith(("eight", "short"))}
    torch.save(kinds, path, _use_new_zipfile_serialization=is_zip)
    checkpoint = opened(path)
    assert_same(state_of(checkpoint), kinds)
    flat = state()["float"].reshape(-1)
    for start, stop in ((0, 900), (1, 2), (400, 401), (7, 7), (899, 900)):
        assert torch.equal(checkpoint.read("float", start, stop), flat[start:stop])


def test_pieces_are_read_from_the_file_and_do_not_change_it(opened: Open, save: Save) -> None:
    path = save("a.pt", {"w": torch.arange(1000.0)})
    checkpoint = opened(path)
    piece = checkpoint.read("w", 10, 20)
    assert piece.untyped_storage().nbytes() == 40
    piece.zero_()
    assert checkpoint.read("w", 10, 20).tolist() == list(range(10, 20))


def views() -> dict[str, torch.Tensor]:
    whole = torch.arange(5000.0)
    return {
        "transposed": whole[:4800].reshape(60, 80).t(),
        "stepped": whole[1::3],
        "inner": whole[:4800].reshape(60, 80)[3:50, 7:60],
        "expanded": whole[:7].expand(5, 7),
        "permuted": whole[:4800].reshape(4, 30, 40).permute(2, 0, 1),
        "conjugate": torch.complex(whole, whole + 1).conj(),
        "negative": torch.complex(whole, whole + 1).conj().imag,
        "one": whole[77],
    }


@given(name=st.sampled_from(sorted(views())), data=st.data())
def test_views_are_read_in_row_major_order(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "views.pt"
    if not path.exists():
        torch.save(views(), path)
    expected = views()[name].resolve_conj().resolve_neg().reshape(-1)
    start = data.draw(st.integers(0, len(expected)))
    stop = data.draw(st.integers(start, len(expected)))
    with contextlib.closing(open_checkpoint(path, None)) as checkpoint:
        found = checkpoint.read(name, start, stop)
    assert torch.equal(found, expected[start:stop])
    assert not found.is_conj()
    assert not found.is_neg()


def test_pages_are_given_back_and_read_again(opened: Open, save: Save) -> None:
    resource = pytest.importorskip("resource")
    rows, columns = 1024, 1024
    saved = torch.arange(rows * columns, dtype=torch.float32).reshape(rows, columns).t()
    path = save("a.pt", {"w": saved})
    checkpoint = opened(path)
    mapped = checkpoint._tensors["w"]  # type: ignore[attr-defined]
    step = rows * 64
    for start in range(0, rows * columns, step):
        piece = checkpoint.read("w", start, start + step)
        assert torch.equal(piece, saved.reshape(-1)[start : start + step])
        assert resident(mapped) <= resource.getpagesize() * 2
    assert torch.equal(mapped, saved)


def resident(tensor: torch.Tensor) -> int:
    """The bytes of the mapping that the tensor lies in that are in memory."""
    address = tensor.data_ptr()
    entries = Path("/proc/self/smaps")
    if not entries.exists():
        pytest.skip("the system does not tell which pages are in memory")
    inside = False
    for line in entries.read_text().splitlines():
        place, _, rest = line.partition(" ")
        start, dash, end = place.partition("-")
        if dash and not place.endswith(":"):
            inside = int(start, 16) <= address < int(end, 16)
        elif inside and place == "Rss:":
            return int(rest.split()[0]) * 1024
    raise AssertionError("the tensor is not mapped")


def test_storages_whose_place_is_not_known_are_looked_at(
    opened: Open, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save("a.pt", state())
    monkeypatch.setattr(torch_loading, "_offsets", lambda mapped, _: dict.fromkeys(mapped))
    checkpoint = opened(path)
    assert_same(state_of(checkpoint), state())
    assert_same(state_of(checkpoint), state())


def test_a_record_that_nothing_names_makes_places_unknown_and_nothing_wrong(
    opened: Open, save: Save
) -> None:
    path = save("a.pt", state())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a/data/999", b"x" * 100)
    checkpoint = opened(path)
    assert isinstance(checkpoint, TorchFile)
    assert set(checkpoint._loaded.storages.values()) == {None}
    assert_same(state_of(checkpoint), state())


def test_several_threads_read_at_once(opened: Open, save: Save) -> None:
    tensors = {str(n): torch.full((20_000,), float(n)) for n in range(8)}
    tensors["t"] = torch.arange(20_000.0).reshape(100, 200).t()
    checkpoint = opened(save("a.pt", tensors))
    wrong: list[str] = []

    def look(name: str) -> None:
        flat = tensors[name].reshape(-1)
        starts = range(0, 19_000, 501)
        pieces = {it: checkpoint.read(name, it, it + 400) for it in starts}
        wrong.extend(name for it in starts if not torch.equal(pieces[it], flat[it : it + 400]))

    threads = [threading.Thread(target=look, args=(name,)) for name in tensors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_file_that_becomes_shorter_is_told(opened: Open, save: Save) -> None:
    path = save("a.pt", {"w": torch.ones(100_000), "t": torch.ones(300, 300).tril().t()})
    checkpoint = opened(path)
    with path.open("rb+") as file:
        file.truncate(1000)
    for name in ("w", "t"):
        with pytest.raises(UnreadableInput, match="has become shorter"):
            checkpoint.read(name)


def test_names_of_one_memory_are_ties_and_others_are_not(opened: Open, save: Save) -> None:
    shared = torch.randn(4, 4)
    saved = {
        "a": shared,
        "b": shared,
        "parameter": torch.nn.Parameter(shared),
        "transposed": shared.t(),
        "rows": shared[:2],
        "flat": shared.view(-1),
        "alike": shared.clone(),
        "nothing": torch.zeros(0),
        "nothing_too": torch.zeros(0),
    }
    for is_zip in (True, False):
        path = Path("a.pt")
        torch.save(saved, path, _use_new_zipfile_serialization=is_zip)
        checkpoint = opened(path)
        assert checkpoint.ties == (("a", "b", "parameter"),)
        assert_same(state_of(checkpoint), saved)


def test_tensors_from_an_accelerator_are_read_on_the_cpu(opened: Open, tmp_path: Path) -> None:
    # What torch writes for a CUDA tensor differs in the location's name alone.
    torch.save({"w": torch.ones(3)}, tmp_path / "cpu.pt")
    path = tmp_path / "cuda.pt"
    with zipfile.ZipFile(tmp_path / "cpu.pt") as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith("data.pkl"):
                content = content.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
                assert b"cuda:0" in content
            target.writestr(entry.filename, content)
    assert opened(path).read("w").tolist() == [1.0, 1.0, 1.0]


# What is refused


def refusal(path: Path) -> str:
    with pytest.raises(UnreadableInput) as refused:
        open_checkpoint(path, None)
    return str(refused.value)


def test_a_tar_archive_of_the_first_torch_is_refused() -> None:
    path = Path("a.pth")
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    message = refusal(path)
    assert "tar archive" in message
    assert "torch.save" in message


# torch warns that TorchScript is deprecated.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_archive_is_refused_with_the_way_to_its_weights() -> None:
    path = Path("a.pt")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    assert 'torch.jit.load("a.pt").state_dict()' in refusal(path)


def test_zip_archives_of_others_are_refused(save: Save) -> None:
    path = Path("other.pt")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<x/>")
    assert "`torch.save` did not write" in refusal(path)


def test_an_archive_that_was_compressed_again_is_refused(save: Save) -> None:
    source = save("a.pt", WEIGHTS)
    with zipfile.ZipFile(source) as old, zipfile.ZipFile("b.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    assert "compressed after it was saved" in refusal(Path("b.pt"))


def test_the_other_byte_order_is_refused(save: Save) -> None:
    source = save("a.pt", WEIGHTS)
    with zipfile.ZipFile(source) as old, zipfile.ZipFile("b.pt", "w") as new:
        for entry in old.infolist():
            is_order = entry.filename.endswith("byteorder")
            new.writestr(entry.filename, b"big" if is_order else old.read(entry))
    assert "other byte order" in refusal(Path("b.pt"))


def test_a_git_lfs_pointer_is_told_as_such() -> None:
    for name in ("a.pt", "b.safetensors"):
        Path(name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
        assert "`git lfs pull`" in refusal(Path(name))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.eye(2).to_sparse(), "sparse or quantized"),
        (torch.empty(2, device="meta"), "has no values"),
    ],
)
def test_tensors_that_cannot_be_merged_are_named(save: Save, value: Any, message: str) -> None:
    text = refusal(save("a.pt", {"v": torch.ones(1), "w": value}))
    assert "`w`" in text
    assert message in text


# torch warns that its quantized tensors are deprecated.
@pytest.mark.filterwarnings("ignore")
def test_quantized_tensors_are_refused(save: Save) -> None:
    quantized = torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
    assert "quantized" in refusal(save("a.pt", {"w": quantized}))


@pytest.mark.skipif(
    importlib.util.find_spec("torch.distributed.tensor.placement_types") is None,
    reason="this torch has no DTensor that can be imported",
)
def test_parts_of_distributed_tensors_are_refused_with_the_way_to_gather_them(save: Save) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    torch.distributed.init_process_group(
        "gloo", rank=0, world_size=1, store=torch.distributed.HashStore()
    )
    try:
        mesh = init_device_mesh("cpu", (1,))
        path = save("a.pt", {"w": distribute_tensor(torch.ones(4), mesh, [Shard(0)])})
        assert "full_state_dict=True" in refusal(path)
    finally:
        torch.distributed.destroy_process_group()


# What is written


def written(path: Path, tensors: dict[str, torch.Tensor], **given: Any) -> Path:
    ties = given.pop("ties", [])
    specs = {name: TensorSpec(it.dtype, tuple(it.shape)) for name, it in tensors.items()}
    record = {
        "method": "linear",
        "inputs": [{"file": "a.pt", "sha256": "0" * 64}],
        "x": [1.5, None],
    }
    with path.open("wb") as file:
        write(file, Contents(specs, stream_of(tensors), record, ties=ties, **given))
    return path


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("nesting", [None, "model", "a.b"])
def test_torch_reads_what_is_written(tmp_path: Path, nesting: str | None, mmap: bool) -> None:
    path = written(tmp_path / "out.pt", state(), nesting=nesting)
    loaded: Any = torch.load(str(path), weights_only=True, mmap=mmap)
    record = loaded.otf_merge if nesting is None else loaded["otf_merge"]
    assert record["inputs"][0]["file"] == "a.pt"
    for part in nesting.split(".") if nesting else []:
        loaded = loaded[part]
    assert_same(loaded, state())
    assert list(loaded) == list(state())


def test_modules_load_what_is_written(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    other = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    path = written(tmp_path / "out.pt", model.state_dict())
    other.load_state_dict(torch.load(path, weights_only=True))
    assert_same(other.state_dict(), model.state_dict())


def test_tied_names_are_one_storage(opened: Open, tmp_path: Path) -> None:
    tensors = {"a": torch.randn(1000), "b": torch.zeros(1000), "c": torch.randn(3)}
    path = written(tmp_path / "out.pt", tensors, ties=[("a", "b")])
    loaded = torch.load(path, weights_only=True)
    assert loaded["a"].data_ptr() == loaded["b"].data_ptr()
    assert torch.equal(loaded["b"], tensors["a"])
    assert list(loaded) == ["a", "b", "c"]
    assert opened(path).ties == (("a", "b"),)
    assert path.stat().st_size < 6000


def test_storages_are_aligned_and_checked(tmp_path: Path) -> None:
    path = written(tmp_path / "out.pt", state())
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.read("archive/version") == b"3\n"
        identity = archive.read("archive/.data/serialization_id")
    assert len(identity) == 40
    assert identity.isdigit()
    with path.open("rb") as file:
        records = records_of(file)
    assert {it.offset % 64 for name, it in records.items() if name.startswith("data/")} == {0}


def test_the_same_contents_are_the_same_bytes(tmp_path: Path) -> None:
    first = written(tmp_path / "a.pt", state()).read_bytes()
    assert written(tmp_path / "b.pt", state()).read_bytes() == first


def test_records_beyond_the_limit_of_small_archives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Sizes and places of gigabytes are in a longer form. Python reads it at any size, torch 2.2
    # only in a file that needs it.
    plain = written(tmp_path / "plain.pt", state())
    monkeypatch.setattr(zip_writer, "LONG_FROM", 1000)
    path = written(tmp_path / "out.pt", state())
    assert path.read_bytes().count(b"\xff\xff\xff\xff") > 10
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(plain) as expected:
        assert archive.testzip() is None
        assert archive.namelist() == expected.namelist()
        for name in archive.namelist():
            assert archive.read(name) == expected.read(name)
    with path.open("rb") as file:
        records = records_of(file)
    assert {it.offset % 64 for it in records.values()} == {0}


def test_archives_of_more_records_than_the_short_form_counts(tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    with path.open("wb") as file:
        archive = zip_writer.ZipWriter(file)
        archive.add("a/version", b"3\n")
        for number in range(66_000):
            archive.add(f"a/{number}", b"")
        archive.finish()
    with zipfile.ZipFile(path) as written:
        assert len(written.infolist()) == 66_001
    reader = torch._C.PyTorchFileReader(str(path))
    assert len(reader.get_all_records()) == 66_001


def test_what_the_record_says_last_is_written(tmp_path: Path) -> None:
    record = {"sha256": "?"}

    def stream(names: Any) -> Any:
        yield "w", torch.ones(2)
        record["sha256"] = "known"

    contents = Contents({"w": TensorSpec(torch.float32, (2,))}, stream, record)
    with (tmp_path / "out.pt").open("wb") as file:
        write(file, contents)
    loaded: Any = torch.load(tmp_path / "out.pt", weights_only=True)
    assert loaded.otf_merge == {"sha256": "known"}
