"""Files: what is read, what is refused, and what is written."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from otf_merge import MergeWarning, merge
from otf_merge.checkpoints.atomic import replacing
from otf_merge.errors import OutputRefused, UnreadableInput
from safetensors import safe_open
from safetensors.torch import load_file

Save = Callable[[str, Any], Path]
WEIGHTS = {"w": torch.tensor([1.0, 3.0]), "n": torch.tensor(7)}


class RunsCode:
    """A pickle of it creates a file when it is read."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("pwned",)


def test_every_format_is_read_and_written(save: Save) -> None:
    names = ["a.pt", "b.pth", "c.ckpt", "d.safetensors"]
    for name in names:
        save(name, WEIGHTS)
    for name in names:
        written = merge(names, output=f"out-{name}")
        again = merge([written, written])
        assert again["w"].tolist() == [1.0, 3.0]
        assert again["n"].item() == 7


def test_old_files_of_torch_are_read(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False)
    assert merge([path, path])["w"].tolist() == [1.0, 3.0]


@pytest.mark.parametrize("key", ["model", "state_dict", "model_state_dict", "model_state"])
def test_usual_nestings_are_found_and_kept(save: Save, key: str) -> None:
    save("a.pt", {key: WEIGHTS, "optimizer": {"lr": 0.1}, "epoch": 3})
    with pytest.warns(MergeWarning, match=r"lacks what else the inputs hold, `epoch`, `optimizer`"):
        output = merge(["a.pt", "a.pt"], output="out.pt")
    loaded = torch.load(output, weights_only=True)
    assert list(loaded) == [key, "otf_merge"]
    assert loaded[key]["w"].tolist() == [1.0, 3.0]
    # What it says of itself is not left out of a further merge: that writes its own.
    assert merge([output, output])["n"].item() == 7


def test_a_key_finds_other_nestings(save: Save) -> None:
    path = save("a.pt", {"ema": WEIGHTS, "model": {"w": torch.zeros(2), "n": torch.tensor(1)}})
    with pytest.warns(MergeWarning, match="`model`"):
        assert merge([path, path], key="ema")["w"].tolist() == [1.0, 3.0]


@pytest.mark.parametrize(
    ("saved", "key", "message"),
    [
        ({"model": WEIGHTS, "state_dict": WEIGHTS}, None, "`model`, `state_dict`. Say which one"),
        ({"mine": WEIGHTS, "epoch": 1}, None, "Its keys are: `mine`, `epoch`. Say with `--key`"),
        ({}, None, "Its keys are: none"),
        ({"net": WEIGHTS}, "ema", "no dict of tensors under `ema`. Its keys are: `net`"),
        ({"w": torch.ones(1), "epoch": 3}, None, "holds `epoch` among the weights, a int"),
        (torch.ones(1), None, "holds one Tensor and no dict"),
        ({"w": torch.eye(2).to_sparse()}, None, "sparse or quantized"),
    ],
)
def test_what_holds_no_weights_is_refused(
    save: Save, saved: Any, key: str | None, message: str
) -> None:
    path = save("a.pt", saved)
    with pytest.raises(UnreadableInput) as refused:
        merge([path, path], key=key)
    assert message in str(refused.value)


def test_a_key_for_safetensors_is_refused(save: Save) -> None:
    path = save("a.safetensors", WEIGHTS)
    with pytest.raises(UnreadableInput, match="Leave the key out"):
        merge([path, path], key="model")


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_that_runs_code_is_refused_unread(save: Save, protocol: int) -> None:
    saved = save("saved.pt", {"w": torch.ones(1), "x": RunsCode()})
    with pytest.raises(UnreadableInput, match=r"could run code.*save the weights alone"):
        merge([saved, saved])
    plain = Path("plain.pt")
    plain.write_bytes(pickle.dumps(RunsCode(), protocol=protocol))
    with pytest.raises(UnreadableInput, match=r"could run code.*save the weights alone"):
        merge([plain, plain])
    assert not Path("pwned").exists()


def test_a_whole_model_is_refused_and_named(save: Save) -> None:
    path = save("a.pt", torch.nn.Linear(1, 1))
    with pytest.raises(UnreadableInput, match=r"`torch\.nn\.modules\.linear\.Linear`"):
        merge([path, path])


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"hello, this is no checkpoint", b"\x80\x02."]
)
def test_foreign_files_are_refused(suffix: str, content: bytes) -> None:
    path = Path(f"a{suffix}")
    path.write_bytes(content)
    with pytest.raises(UnreadableInput, match=f"`a{suffix}`"):
        merge([path, path])


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@settings(max_examples=60)
@given(share=st.floats(0, 1, exclude_max=True))
def test_files_cut_short_anywhere_are_refused(
    tmp_path_factory: pytest.TempPathFactory, kind: str, share: float
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    path = folder / ("a.safetensors" if kind == "safetensors" else "a.pt")
    if kind == "safetensors":
        merge_source = folder / "source.pt"
        torch.save(WEIGHTS, merge_source)
        merge([merge_source, merge_source], output=path)
    else:
        torch.save(WEIGHTS, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UnreadableInput):
        merge([path, path])
    shutil.rmtree(folder)


def test_safetensors_are_what_the_safetensors_package_reads(save: Save) -> None:
    state = {
        "flag": torch.tensor([True]),
        "byte": torch.tensor([1, 2, 3], dtype=torch.uint8),
        "half": torch.randn(3, 1).half(),
        "brain": torch.randn(5).bfloat16(),
        "double": torch.randn(2, 2, dtype=torch.float64),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "long": torch.tensor([2**40]),
        "complex": torch.tensor([1 + 1j]),
    }
    path = save("a.pt", state)
    loaded = load_file(merge([path, path], output="out.safetensors"))
    assert loaded.keys() == state.keys()
    for name, tensor in state.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)


def test_what_safetensors_cannot_hold_is_refused(save: Save) -> None:
    path = save("a.pt", {"w": torch.ones(1, dtype=torch.complex128)})
    with pytest.raises(OutputRefused, match=r"`w`, a tensor of torch.complex128.*ends in \.pt"):
        merge([path, path], output="out.safetensors")
    assert [each.name for each in Path().iterdir()] == ["a.pt"]


def test_the_output_says_what_it_is_made_of(save: Save) -> None:
    paths = [save("deep/a.pt", WEIGHTS), save("b.pt", WEIGHTS)]
    expected = {
        "method": "linear",
        "parameters": {"weights": [0.75, 0.25]},
        "inputs": [
            {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for path in paths
        ],
    }
    merge(paths, weights=[3, 1], output="out.safetensors")
    with safe_open("out.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "pt"
    assert json.loads(metadata["otf_merge"]).items() >= expected.items()
    bare = torch.load(merge(paths, weights=[3, 1], output="out.pt"), weights_only=True)
    assert list(bare) == ["w", "n"]
    assert bare.otf_merge.items() >= expected.items()


def test_the_output_may_replace_an_input(save: Save) -> None:
    for name, value in (("a.safetensors", 1.0), ("b.safetensors", 2.0)):
        save(name, {"w": torch.full((1000,), value)})
    output = merge(["a.safetensors", "b.safetensors"], output="a.safetensors", force=True)
    assert torch.equal(load_file(output)["w"], torch.full((1000,), 1.5))


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ValueError])
def test_a_write_that_fails_leaves_what_was_there(error: type[BaseException]) -> None:
    path = Path("out.pt")
    path.write_bytes(b"old")

    def fails() -> None:
        with replacing(path) as file:
            file.write(b"new, but only half of")
            raise error

    with pytest.raises(error):
        fails()
    assert [each.name for each in Path().iterdir()] == ["out.pt"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_full_disk_is_told_and_leaves_nothing(
    save: Save, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = save("a.pt", WEIGHTS)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputRefused, match="cannot be written: No space left on device"):
        merge([path, path], output=f"out{suffix}", sync=True)
    assert [each.name for each in Path().iterdir()] == ["a.pt"]


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of this kind")
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_disk_that_fills_up_while_writing(save: Save, suffix: str) -> None:
    import resource

    path = save("a.pt", {"w": torch.ones(1_000_000)})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(OutputRefused, match="cannot be written: File too large"):
            merge([path, path], output=f"out{suffix}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [each.name for each in Path().iterdir()] == ["a.pt"]


def test_a_new_file_has_the_usual_permissions(save: Save) -> None:
    path = save("a.pt", WEIGHTS)
    plain = Path("plain")
    plain.touch()
    output = merge([path, path], output="out.safetensors")
    assert output.stat().st_mode == plain.stat().st_mode
