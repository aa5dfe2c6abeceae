"""Which checkpoints are meant: files, folders that are one or hold some, and patterns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from otf_merge.checkpoints.sources import files_of, held_by, opened
from otf_merge.errors import InvalidInputs, UnreadableInput

Save = Callable[[str, Any], Path]
WEIGHTS = {"w": torch.ones(2)}


def meant(*paths: str, outputs: tuple[str, ...] = ()) -> list[str]:
    found = files_of([Path(path) for path in paths], [Path(output) for output in outputs])
    return [path.as_posix() for path in found]


def model(save: Save, folder: str) -> Path:
    """A folder that is one checkpoint."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    return save(f"{folder}/model.safetensors", WEIGHTS).parent


def adapter(folder: str) -> None:
    Path(folder).mkdir(parents=True)
    torch.save(WEIGHTS, Path(folder) / "adapter_model.bin")
    (Path(folder) / "adapter_config.json").write_text("{}")


def distributed(folder: str) -> None:
    Path(folder).mkdir(parents=True)
    (Path(folder) / ".metadata").write_bytes(b"")


def test_files_are_taken_in_the_order_they_are_named(save: Save) -> None:
    for name in "ab":
        save(f"{name}.pt", WEIGHTS)
    assert meant("b.pt", "a.pt") == ["b.pt", "a.pt"]
    # Whether there are such files is found out when they are opened.
    assert meant("none.pt", "a.pt") == ["none.pt", "a.pt"]


def test_a_folder_means_the_checkpoints_in_it_in_natural_order(save: Save) -> None:
    names = ["step-1000.pt", "step-900.pt", "step-20.safetensors", "step-9.ckpt", "a10.pt", "a.pt"]
    for name in names:
        save(f"ckpts/{name}", WEIGHTS)
    model(save, "ckpts/checkpoint-500")
    model(save, "ckpts/checkpoint-1500")
    adapter("ckpts/lora")
    distributed("ckpts/dcp")
    assert meant("ckpts") == [
        f"ckpts/{name}"
        for name in (
            "a.pt",
            "a10.pt",
            "checkpoint-500",
            "checkpoint-1500",
            "dcp",
            "lora",
            "step-9.ckpt",
            "step-20.safetensors",
            "step-900.pt",
            "step-1000.pt",
        )
    ]


def test_folders_that_are_a_checkpoint_are_one(save: Save) -> None:
    model(save, "hf")
    adapter("lora")
    distributed("run.ckpt")
    assert meant("hf", "lora", "run.ckpt") == ["hf", "lora", "run.ckpt"]


def test_a_checkpoint_with_checkpoints_in_it_is_one(save: Save) -> None:
    model(save, "out")
    model(save, "out/checkpoint-1")
    assert meant("out") == ["out"]
    assert [path.name for path in held_by(Path("out"))] == ["checkpoint-1", "model.safetensors"]


def test_what_is_no_checkpoint_is_passed_over(save: Save) -> None:
    save("ckpts/a.pt", WEIGHTS)
    save("ckpts/b.bin", WEIGHTS)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state_0.pth", "training_args.bin"):
        save(f"ckpts/{name}", WEIGHTS)
    (Path("ckpts") / "tokens.bin").write_bytes(b"\0" * 100)
    (Path("ckpts") / "notes.txt").write_text("x")
    (Path("ckpts") / ".hidden.pt").write_bytes(b"x")
    (Path("ckpts") / "._a.pt").write_bytes(b"x")
    save("ckpts/deeper/c.pt", WEIGHTS)
    assert meant("ckpts") == ["ckpts/a.pt", "ckpts/b.bin"]


def test_a_link_to_another_checkpoint_counts_once(save: Save) -> None:
    save("ckpts/step-1.ckpt", WEIGHTS)
    save("ckpts/step-2.ckpt", WEIGHTS)
    (Path("ckpts") / "best.ckpt").symlink_to("step-1.ckpt")
    (Path("ckpts") / "last.ckpt").symlink_to("step-2.ckpt")
    assert meant("ckpts") == ["ckpts/step-1.ckpt", "ckpts/step-2.ckpt"]
    assert meant("ckpts/last.ckpt") == ["ckpts/last.ckpt"]


def test_the_output_of_the_last_time_is_no_input(save: Save) -> None:
    save("ckpts/a.pt", WEIGHTS)
    save("ckpts/merged.pt", WEIGHTS)
    model(save, "ckpts/merged")
    assert meant("ckpts", outputs=("ckpts/merged.pt", "ckpts/merged")) == ["ckpts/a.pt"]
    assert meant("ckpts/*", outputs=("ckpts/merged.pt", "./ckpts/merged/")) == ["ckpts/a.pt"]
    # Who names it means it.
    assert meant("ckpts/merged.pt", "ckpts/a.pt", outputs=("ckpts/merged.pt",)) == [
        "ckpts/merged.pt",
        "ckpts/a.pt",
    ]


def test_patterns_mean_what_they_match_in_natural_order(save: Save) -> None:
    for number in (2, 10, 1):
        save(f"run{number}/last.pt", WEIGHTS)
        (Path(f"run{number}") / "log.txt").write_text("x")
        model(save, f"out/checkpoint-{number}")
    assert meant("run*/*.pt") == ["run1/last.pt", "run2/last.pt", "run10/last.pt"]
    assert meant("run*") == ["run1/last.pt", "run2/last.pt", "run10/last.pt"]
    assert meant("out/checkpoint-*") == [f"out/checkpoint-{number}" for number in (1, 2, 10)]
    assert meant("run[12]/*") == ["run1/last.pt", "run2/last.pt"]
    assert meant("run?/last.pt") == ["run1/last.pt", "run2/last.pt"]
    assert meant("**/*.pt") == ["run1/last.pt", "run2/last.pt", "run10/last.pt"]
    # The files of a folder that is a checkpoint are not checkpoints beside it.
    assert meant("out/**") == [f"out/checkpoint-{number}" for number in (1, 2, 10)]


def test_a_name_with_brackets_that_exists_is_no_pattern(save: Save) -> None:
    save("a[1].pt", WEIGHTS)
    assert meant("a[1].pt") == ["a[1].pt"]


def test_a_file_that_is_named_twice_counts_twice(save: Save) -> None:
    save("ckpts/a.pt", WEIGHTS)
    assert meant("ckpts/a.pt", "ckpts/a.pt") == ["ckpts/a.pt", "ckpts/a.pt"]


@pytest.mark.parametrize(
    "paths",
    [
        ("ckpts", "ckpts/a.pt"),
        ("ckpts/a.pt", "ckpts"),
        ("ckpts", "./ckpts"),
        ("ckpts/*.pt", "ckpts/../ckpts/a.pt"),
        ("ckpts/a*", "ckpts/*t"),
    ],
)
def test_a_file_that_is_also_in_a_folder_or_pattern_is_refused(
    save: Save, paths: tuple[str, ...]
) -> None:
    for name in "ab":
        save(f"ckpts/{name}.pt", WEIGHTS)
    with pytest.raises(InvalidInputs, match=r"a\.pt` is meant twice"):
        meant(*paths)


def test_folders_and_patterns_with_nothing_in_them_are_told(save: Save) -> None:
    Path("empty").mkdir()
    Path("other/deep/deeper").mkdir(parents=True)
    save("other/deep/deeper/a.pt", WEIGHTS)
    for path in ("empty", "other"):
        with pytest.raises(InvalidInputs, match=f"folder `{path}` holds no checkpoints"):
            meant(path)
    for pattern in ("none*.pt", "emp*", "*/x?.pt"):
        with pytest.raises(InvalidInputs, match="matches no checkpoints"):
            meant(pattern)


def test_a_folder_that_cannot_be_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_: Path) -> Any:
        raise PermissionError(13, "Permission denied")

    Path("closed").mkdir()
    monkeypatch.setattr(Path, "iterdir", closed)
    with pytest.raises(UnreadableInput, match="`closed` cannot be read: Permission denied"):
        meant("closed")


def test_everything_is_closed_again_also_where_one_cannot_be_opened(save: Save) -> None:
    good = [save("a.safetensors", WEIGHTS), save("b.pt", WEIGHTS), model(save, "hf")]
    with opened(good, None) as checkpoints:
        assert [checkpoint.read("w").tolist() for checkpoint in checkpoints] == [[1.0, 1.0]] * 3
    with (
        pytest.raises(UnreadableInput, match="does not exist"),
        opened([*good, Path("none.pt")], None),
    ):
        pass
    with pytest.raises(ValueError, match="closed file"):
        checkpoints[0].read("w")


def test_an_index_says_what_a_folder_is(save: Save) -> None:
    save("hf/part.safetensors", WEIGHTS)
    (Path("hf") / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"w": "part.safetensors"}})
    )
    assert meant("hf") == ["hf"]
