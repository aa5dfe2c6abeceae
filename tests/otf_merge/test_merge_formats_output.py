"""Where a merged checkpoint may go, and that it appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from otf_merge.checkpoints.atomic import replacing, replacing_folder
from otf_merge.checkpoints.checkpoint import TensorSpec
from otf_merge.checkpoints.destination import default_output, default_outputs, destination
from otf_merge.checkpoints.distributed_writer import write_distributed
from otf_merge.checkpoints.formats import open_checkpoint
from otf_merge.errors import NotFinite, OutputRefused

from .formats import assert_same, contents_of, state_of

Save = Callable[[str, Any], Path]
WEIGHTS = {"w": torch.arange(100_000.0), "b": torch.ones(3)}


def write(output: str, first: Path, state: dict[str, torch.Tensor], **given: Any) -> None:
    place = destination(output, force=given.pop("force", False))
    sync = given.pop("sync", False)
    with contextlib.closing(open_checkpoint(first, None)) as checkpoint:
        place.write(contents_of(state, **given), checkpoint, sync=sync)


def read(path: str) -> dict[str, torch.Tensor]:
    with contextlib.closing(open_checkpoint(Path(path), None)) as checkpoint:
        return state_of(checkpoint)


def model(save: Save, folder: str, value: float = 1.0) -> Path:
    """A model's folder."""
    return save(f"{folder}/model.safetensors", {"w": torch.full((9,), value)}).parent


@pytest.mark.parametrize(
    ("output", "is_folder"),
    [
        ("out.pt", False),
        ("out.PTH", False),
        ("out.ckpt", False),
        ("out.bin", False),
        ("out.safetensors", False),
        ("out", True),
        ("out/", True),
        ("out.pt/", True),
        ("Llama-3.1-8B-merged", True),
        ("model-v1.5", True),
    ],
)
def test_what_a_path_means(output: str, is_folder: bool) -> None:
    assert destination(output).is_folder is is_folder


@pytest.mark.parametrize("output", ["out.npz", "out.gguf", "deep/out.onnx"])
def test_files_of_other_formats_are_refused(output: str) -> None:
    with pytest.raises(OutputRefused, match=r"is of no known format.*\.pt.*\.safetensors"):
        destination(output)


def test_the_default_is_in_the_format_of_the_first_input(save: Save) -> None:
    save("a.pth", WEIGHTS)
    model(save, "hf")
    for path, expected in (("a.pth", "merged.pth"), ("hf", f"merged{os.sep}")):
        with contextlib.closing(open_checkpoint(Path(path), None)) as checkpoint:
            assert default_output(checkpoint) == expected
        assert Path(expected) in default_outputs()


# What exists


def test_what_exists_is_replaced_only_if_forced(save: Save) -> None:
    first = save("a.pt", WEIGHTS)
    Path("out.pt").write_text("precious")
    with pytest.raises(OutputRefused, match="exists and is not overwritten"):
        destination("out.pt")
    write("out.pt", first, WEIGHTS, force=True)
    assert_same(read("out.pt"), WEIGHTS)
    hf = model(save, "hf")
    model(save, "out")
    with pytest.raises(OutputRefused, match="exists and is not overwritten"):
        destination("out/")
    write("out/", hf, WEIGHTS, force=True)
    assert_same(read("out"), WEIGHTS)
    assert sorted(os.listdir()) == ["a.pt", "hf", "out", "out.pt"]


def test_a_folder_may_replace_the_input_it_is_made_from(save: Save) -> None:
    hf = model(save, "hf")
    (hf / "config.json").write_text("{}")
    write("hf", hf, {"w": torch.zeros(9)}, force=True)
    assert read("hf")["w"].tolist() == [0.0] * 9
    assert (hf / "config.json").read_text() == "{}"


def test_an_empty_folder_is_nothing_to_lose(save: Save) -> None:
    Path("out").mkdir()
    write("out", save("a.pt", WEIGHTS), WEIGHTS)
    assert_same(read("out"), WEIGHTS)


@pytest.mark.parametrize("what", ["files", "checkpoints", "nested"])
def test_a_folder_of_other_things_is_never_replaced(save: Save, what: str) -> None:
    if what == "files":
        save("out/notes.txt.pt", WEIGHTS)
    elif what == "checkpoints":
        Path("out").mkdir()
        model(save, "out/a")
    else:
        model(save, "out")
        model(save, "out/checkpoint-1")
    before = sorted(Path().rglob("*"))
    with pytest.raises(OutputRefused, match=r"holds other things.*merged\.safetensors"):
        destination("out", force=True)
    with pytest.raises(OutputRefused, match="holds other things"):
        destination(".", force=True)
    assert sorted(Path().rglob("*")) == before


def test_files_and_folders_do_not_replace_each_other(save: Save) -> None:
    Path("out.pt").mkdir()
    with pytest.raises(OutputRefused, match="is a folder. Name a file in it"):
        destination("out.pt", force=True)
    Path("out").write_text("a file")
    with pytest.raises(OutputRefused, match="is a file"):
        destination("out/", force=True)
    with pytest.raises(OutputRefused, match="no folder `nowhere`"):
        destination("nowhere/out.pt")


def test_links_are_followed(save: Save) -> None:
    Path("disk").mkdir()
    Path("disk/real.pt").write_text("old")
    Path("out.pt").symlink_to("disk/real.pt")
    write("out.pt", save("a.pt", WEIGHTS), WEIGHTS, force=True)
    assert Path("out.pt").is_symlink()
    assert_same(read("disk/real.pt"), WEIGHTS)
    assert os.listdir("disk") == ["real.pt"]


# What fails


@pytest.mark.parametrize("output", ["out.pt", "out.safetensors", "out/"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, NotFinite("NaN"), ValueError])
def test_a_merge_that_fails_midway_leaves_nothing(
    save: Save, output: str, error: BaseException
) -> None:
    first = save("a.pt", WEIGHTS)
    contents = contents_of(WEIGHTS)
    stream = contents.stream
    ended = []

    def fails(names: Any) -> Any:
        try:
            yield next(stream(names))
            raise error
        finally:
            ended.append(True)

    object.__setattr__(contents, "stream", fails)
    kind = error if isinstance(error, type) else type(error)
    with contextlib.closing(open_checkpoint(first, None)) as checkpoint, pytest.raises(kind):
        destination(output).write(contents, checkpoint)
    assert os.listdir() == ["a.pt"]
    assert ended == [True]


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of this kind")
@pytest.mark.parametrize("output", ["out.pt", "out.safetensors", "out/", "dcp/"])
def test_a_disk_that_fills_up_is_one_error_and_leaves_nothing(save: Save, output: str) -> None:
    import resource

    first = save("a.pt", WEIGHTS)
    if output == "dcp/":
        first = Path("first")
        first.mkdir()
        write_distributed(first, contents_of(WEIGHTS))
    before = sorted(os.listdir())
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        with pytest.raises(OutputRefused, match="cannot be written: File too large"):
            write(output, first, WEIGHTS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert sorted(os.listdir()) == before


def test_a_disk_that_is_known_to_be_too_full_is_told_beforehand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=3_000_000))
    specs = {name: TensorSpec(torch.float32, (500_000,)) for name in "ab"}
    with pytest.raises(OutputRefused, match=r"needs 4 MB, and there is room for 3 MB"):
        destination("out.pt").require_room(specs)
    destination("out.pt").require_room(specs, [("a", "b")])
    monkeypatch.undo()
    destination("out.pt").require_room(specs)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ValueError])
def test_a_folder_that_fails_leaves_what_was_there(error: type[BaseException]) -> None:
    Path("out").mkdir()
    Path("out/old").write_text("old")

    def fails() -> None:
        with replacing_folder(Path("out")) as folder:
            (folder / "new").write_text("new, but only half of")
            raise error

    with pytest.raises(error):
        fails()
    assert os.listdir() == ["out"]
    assert os.listdir("out") == ["old"]


def test_a_folder_that_cannot_take_the_place_leaves_what_was_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("out").mkdir()
    Path("out/old").write_text("old")
    rename = Path.rename

    def only_away(self: Path, target: Path) -> Any:
        if self.name != "out" and target.name == "out" and (self / "new").exists():
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", only_away)
    with pytest.raises(OSError, match="Input/output"), replacing_folder(Path("out")) as folder:
        (folder / "new").write_text("new")
    assert os.listdir() == ["out"]
    assert os.listdir("out") == ["old"]


def test_while_a_folder_is_replaced_one_of_both_is_always_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("out").mkdir()
    Path("out/old").write_text("old")
    rename = Path.rename
    seen = []

    def watched(self: Path, target: Path) -> Any:
        result = rename(self, target)
        seen.append(sorted(path.name for path in Path().rglob("*") if path.is_file()))
        return result

    monkeypatch.setattr(Path, "rename", watched)
    with replacing_folder(Path("out")) as folder:
        (folder / "new").write_text("new")
    assert seen == [["new", "old"], ["new", "old"]]
    assert os.listdir() == ["out"]
    assert os.listdir("out") == ["new"]


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The inodes that were synced."""
    found: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: found.append(os.fstat(file).st_ino))
    return found


def test_where_asked_what_is_written_is_on_the_disk_before_it_takes_the_place(
    synced: list[int],
) -> None:
    with replacing_folder(Path("out"), sync=True) as folder:
        for name in ("a", "b"):
            (folder / name).write_text(name)
    for path in (Path("out/a"), Path("out/b"), Path("out"), Path()):
        assert path.stat().st_ino in synced
    with replacing(Path("c"), sync=True) as file:
        file.write(b"c")
    assert Path("c").stat().st_ino in synced


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize("output", ["out.pt", "out.safetensors", "out/"])
def test_only_where_asked_the_disk_is_waited_for(
    save: Save, synced: list[int], output: str, sync: bool
) -> None:
    first = save("a.pt", WEIGHTS)
    write(output, first, WEIGHTS, sync=sync)
    assert bool(synced) is sync
    assert_same(read(output), WEIGHTS)
