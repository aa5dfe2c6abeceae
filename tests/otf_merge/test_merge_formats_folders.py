"""Folders of models and adapters: shards and their index, what lies beside them, both ways."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from otf_merge import MergeWarning, merge
from otf_merge.checkpoints.destination import destination
from otf_merge.checkpoints.formats import open_checkpoint
from otf_merge.checkpoints.weights_folder import WeightsFolder
from otf_merge.errors import OutputRefused, UnreadableInput
from otf_merge.merging import merge_into_file
from otf_merge.request import Request
from safetensors import safe_open
from safetensors.torch import load_file

from .formats import assert_same, contents_of, state_of

Save = Callable[[str, Any], Path]
Open = Callable[..., WeightsFolder]

STATE = {
    "embed": torch.arange(600.0).reshape(200, 3),
    "layers.0.w": torch.randn(10, 10),
    "layers.1.w": torch.randn(10, 10).half(),
    "count": torch.tensor(3),
}
LAYOUT = {
    "embed": "model-00001-of-00002.safetensors",
    "layers.0.w": "model-00001-of-00002.safetensors",
    "layers.1.w": "model-00002-of-00002.safetensors",
    "count": "model-00002-of-00002.safetensors",
}
CONFIG = '{"architectures": ["Llama"],\n "torch_dtype":   "float32", "vocab_size": 200}'


@pytest.fixture
def sharded(save: Save) -> Path:
    """A model's folder, as the Hugging Face libraries and a trainer leave it."""
    for file in sorted(set(LAYOUT.values())):
        save(f"hf/{file}", {name: STATE[name] for name in STATE if LAYOUT[name] == file})
    folder = Path("hf")
    index = {"metadata": {"total_size": 1, "total_parameters": 1}, "weight_map": LAYOUT}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(CONFIG)
    (folder / "tokenizer.json").write_bytes(b'{"a": 1}\r\n')
    (folder / "tokenizer.model").write_bytes(bytes(range(256)))
    (folder / "chat_template.jinja").write_text("{{ x }}")
    (folder / "LICENSE").write_text("mine")
    (folder / "README.md").write_text("# The first model")
    (folder / "modeling_mine.py").write_text("print('code')")
    (folder / "trainer_state.json").write_text("{}")
    (folder / "all_results.json").write_text("{}")
    save("hf/optimizer.pt", {"state": {}, "param_groups": [{"lr": 0.5}]})
    return folder


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def refusal(path: Path, key: str | None = None) -> str:
    with pytest.raises(UnreadableInput) as refused:
        open_checkpoint(path, key)
    return str(refused.value)


# What is read


def test_shards_are_one_checkpoint(opened: Open, sharded: Path) -> None:
    checkpoint = opened(sharded)
    assert list(checkpoint.specs) == list(LAYOUT)
    assert_same(state_of(checkpoint), STATE)
    assert [file.name for file in checkpoint.files] == sorted(set(LAYOUT.values()))
    assert checkpoint.left_out == ("optimizer.pt", "trainer_state.json")
    assert checkpoint.extra("config")["vocab_size"] == 200
    assert checkpoint.extra("optimizer")["param_groups"] == [{"lr": 0.5}]
    assert checkpoint.extra("scheduler") is None


@pytest.mark.parametrize(
    "name", ["model.safetensors", "pytorch_model.bin", "diffusion_pytorch_model.safetensors"]
)
def test_one_file_of_weights_is_a_folder_too(opened: Open, save: Save, name: str) -> None:
    checkpoint = opened(save(f"hf/{name}", STATE).parent)
    assert_same(state_of(checkpoint), STATE)
    assert not checkpoint.is_adapter


def test_shards_of_torch_keep_their_ties(opened: Open, save: Save) -> None:
    save("hf/pytorch_model-1.bin", {"a": STATE["embed"], "head": STATE["embed"]})
    save("hf/pytorch_model-2.bin", {"b": torch.ones(2)})
    layout = {"a": "pytorch_model-1.bin", "head": "pytorch_model-1.bin", "b": "pytorch_model-2.bin"}
    Path("hf/pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": layout}))
    checkpoint = opened(Path("hf"))
    assert checkpoint.ties == (("a", "head"),)
    assert_same(
        state_of(checkpoint), {"a": STATE["embed"], "head": STATE["embed"], "b": torch.ones(2)}
    )


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_model.bin"])
def test_an_adapter_is_its_weights_and_its_config(opened: Open, save: Save, file: str) -> None:
    folder = save(f"lora/{file}", {"q.lora_A.weight": torch.randn(4, 8)}).parent
    (folder / "adapter_config.json").write_text('{"r": 4, "lora_alpha": 8}')
    checkpoint = opened(folder)
    assert checkpoint.is_adapter
    assert list(checkpoint.specs) == ["q.lora_A.weight"]
    assert checkpoint.extra("adapter_config") == {"r": 4, "lora_alpha": 8}


# What is refused


def test_a_missing_shard_is_named(sharded: Path) -> None:
    (sharded / "model-00002-of-00002.safetensors").unlink()
    assert "lacks `model-00002-of-00002.safetensors`, which `model.saf" in refusal(sharded)


def test_tensors_that_an_index_makes_up_are_named(sharded: Path) -> None:
    index = json.loads((sharded / "model.safetensors.index.json").read_text())
    for number in range(12):
        index["weight_map"][f"made_up_{number}"] = "model-00001-of-00002.safetensors"
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    message = refusal(sharded)
    assert "`made_up_0`" in message
    assert "`made_up_9` and 2 more" in message


def test_tensors_that_the_index_does_not_name_are_left_out(opened: Open, sharded: Path) -> None:
    index = json.loads((sharded / "model.safetensors.index.json").read_text())
    del index["weight_map"]["layers.0.w"]
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    checkpoint = opened(sharded)
    assert "layers.0.w" not in checkpoint.specs
    assert "layers.0.w" in checkpoint.left_out


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "holds no JSON object"),
        ("{}", "`weight_map`"),
        ('{"weight_map": {"w": "../secret.safetensors"}}', "not in its folder"),
        ('{"weight_map": {"w": "/secret.safetensors"}}', "not in its folder"),
        ('{"weight_map": {"w": 3}}', "not in its folder"),
    ],
)
def test_an_index_that_is_none_is_refused(sharded: Path, index: str, message: str) -> None:
    (sharded / "model.safetensors.index.json").write_text(index)
    assert message in refusal(sharded)


def test_a_shard_that_is_cut_short_is_named(sharded: Path) -> None:
    path = sharded / "model-00002-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert "model-00002-of-00002.safetensors` is not a whole" in refusal(sharded)


def test_other_folders_and_keys_are_refused(sharded: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "is no checkpoint. One is the folder of a model" in refusal(tmp_path / "empty")
    assert "has no key `model`" in refusal(sharded, "model")


# What is written


def test_a_folder_is_written_in_the_layout_of_the_first(opened: Open, sharded: Path) -> None:
    first = opened(sharded)
    merged = {name: tensor + 1 for name, tensor in STATE.items()}
    destination("out/").write(contents_of(merged), first)
    again = opened(Path("out"))
    assert_same(state_of(again), merged)
    assert again.layout == LAYOUT
    assert again.index["metadata"] == {
        "total_size": sum(it.numel() * it.element_size() for it in STATE.values()),
        "total_parameters": sum(it.numel() for it in STATE.values()),
    }
    for name in ("config.json", "tokenizer.json", "tokenizer.model", "chat_template.jinja"):
        assert (Path("out") / name).read_bytes() == (sharded / name).read_bytes()
    assert names_in(Path("out")) == {
        *LAYOUT.values(),
        "model.safetensors.index.json",
        "config.json",
        "tokenizer.json",
        "tokenizer.model",
        "chat_template.jinja",
        "LICENSE",
        "otf_merge.json",
    }
    with safe_open("out/model-00001-of-00002.safetensors", "pt") as shard:
        assert shard.metadata()["format"] == "pt"


def test_code_is_not_copied_and_that_is_said(opened: Open, sharded: Path) -> None:
    notes = destination("out/").notes(opened(sharded))
    assert len(notes) == 1
    assert "`modeling_mine.py`, which is not copied" in notes[0]
    assert destination("out.pt").notes(opened(sharded)) == []


def test_the_config_says_the_dtype_that_it_is(opened: Open, sharded: Path) -> None:
    halves = {name: it.half() if it.is_floating_point() else it for name, it in STATE.items()}
    destination("out/").write(contents_of(halves), opened(sharded))
    config = json.loads(Path("out/config.json").read_text())
    assert config == {**json.loads(CONFIG), "torch_dtype": "float16"}
    assert list(config) == list(json.loads(CONFIG))


def test_the_record_is_written_once_it_is_known(opened: Open, sharded: Path) -> None:
    contents = contents_of(STATE)
    record: Any = contents.record
    stream = contents.stream

    def with_hashes(names: Any) -> Any:
        yield from stream(names)
        record["inputs"] = [{"file": "hf", "sha256": f"after {names[-1]}"}]

    object.__setattr__(contents, "stream", with_hashes)
    destination("out/").write(contents, opened(sharded))
    found = json.loads(Path("out/otf_merge.json").read_text())
    assert found["method"] == "linear"
    assert found["inputs"][0]["sha256"].startswith("after ")


@pytest.mark.parametrize(("shard_size", "files"), [(10**9, 1), (1500, 2), (1, 4)])
def test_shards_of_a_size_of_ones_own(
    opened: Open, sharded: Path, shard_size: int, files: int
) -> None:
    destination("out/").write(contents_of(STATE), opened(sharded), shard_size=shard_size)
    again = opened(Path("out"))
    assert_same(state_of(again), STATE)
    assert len(again.files) == files
    if files == 1:
        assert again.main == "model.safetensors"
        assert not Path("out/model.safetensors.index.json").exists()
    else:
        assert set(again.layout.values()) == {
            f"model-{number:05}-of-{files:05}.safetensors" for number in range(1, files + 1)
        }


def test_shards_of_torch_are_written_as_such(opened: Open, save: Save) -> None:
    save("hf/pytorch_model-1.bin", {"a": STATE["embed"], "head": STATE["embed"]})
    save("hf/pytorch_model-2.bin", {"b": torch.ones(2)})
    layout = {"a": "pytorch_model-1.bin", "head": "pytorch_model-1.bin", "b": "pytorch_model-2.bin"}
    Path("hf/pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": layout}))
    merged = {"a": STATE["embed"] + 1, "head": torch.zeros(200, 3), "b": torch.ones(2)}
    contents = contents_of(merged, ties=[("a", "head")])
    destination("out/").write(contents, opened(Path("hf")))
    again = opened(Path("out"))
    assert again.layout == layout
    assert again.ties == (("a", "head"),)
    assert again.index["metadata"]["total_size"] == 2408
    loaded = torch.load("out/pytorch_model-1.bin", weights_only=True)
    assert torch.equal(loaded["head"], merged["a"])
    # In shards of their own size, too, names of one memory are in one file.
    destination("small/").write(contents, opened(Path("hf")), shard_size=1)
    assert opened(Path("small")).ties == (("a", "head"),)


def test_a_file_becomes_the_folder_of_a_model(opened: Open, save: Save) -> None:
    first = opened(save("a.pt", {"model": STATE}))
    destination("out/").write(contents_of(STATE, nesting="model"), first)
    assert names_in(Path("out")) == {"model.safetensors", "otf_merge.json"}
    assert_same(load_file("out/model.safetensors"), STATE)


def test_a_folder_becomes_a_file(opened: Open, sharded: Path) -> None:
    destination("out.pt").write(contents_of(STATE), opened(sharded))
    assert_same(torch.load("out.pt", weights_only=True), STATE)


def test_an_adapter_is_written_with_the_rank_it_has_now(opened: Open, save: Save) -> None:
    folder = save("lora/adapter_model.safetensors", {"q.lora_A.weight": torch.ones(4, 8)}).parent
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    first = opened(folder)
    merged = {"q.lora_A.weight": torch.ones(2, 8)}
    changed = {"r": 2, "lora_alpha": 2, "rank_pattern": {}}
    destination("out/").write(contents_of(merged), first, config=changed)
    assert names_in(Path("out")) == {
        "adapter_model.safetensors",
        "adapter_config.json",
        "otf_merge.json",
    }
    assert opened(Path("out")).extra("adapter_config") == {**config, **changed}
    same = destination("same/")
    same.write(contents_of(STATE), first, config={"r": 4})
    assert Path("same/adapter_config.json").read_text() == json.dumps(config)
    with pytest.raises(OutputRefused, match="An adapter is one file"):
        destination("shards/").write(contents_of(merged), first, shard_size=10)
    assert not Path("shards").exists()


# From end to end


def test_folders_are_merged_into_a_folder(opened: Open, sharded: Path, save: Save) -> None:
    other = Path("other")
    other.mkdir()
    save("other/model.safetensors", {**STATE, "embed": STATE["embed"] + 2})
    with pytest.warns(MergeWarning) as warned:
        output = merge([sharded, other], output="out/")
    told = " ".join(str(warning.message) for warning in warned)
    assert "`modeling_mine.py`, which is not copied" in told
    assert "`optimizer.pt`" in told
    result = opened(Path(output))
    assert_same(state_of(result), {**STATE, "embed": STATE["embed"] + 1})
    assert result.layout == LAYOUT
    assert (Path(output) / "config.json").read_text() == CONFIG
    inputs = json.loads((Path(output) / "otf_merge.json").read_text())["inputs"]
    assert [entry["file"] for entry in inputs] == ["hf", "other"]
    assert inputs[1]["sha256"] == {
        "model.safetensors": hashlib.sha256((other / "model.safetensors").read_bytes()).hexdigest()
    }


def test_a_folder_of_folders_is_merged_and_not_its_own_result(
    save: Save, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, value in ((1, 0.0), (2, 1.0)):
        Path(f"out/checkpoint-{number}").mkdir(parents=True)
        save(f"out/checkpoint-{number}/model.safetensors", {"w": torch.full((3,), value)})
    monkeypatch.chdir("out")
    for _ in range(2):
        written = merge_into_file(Request([Path()]), force=True)
        assert written.output == Path("merged")
        assert [path.name for path in written.inputs] == ["checkpoint-1", "checkpoint-2"]
    assert opened(Path("merged")).read("w").tolist() == [0.5, 0.5, 0.5]


def test_formats_are_mixed(save: Save, sharded: Path) -> None:
    save("a.pt", {"model": {f"module.{name}": it + 2 for name, it in STATE.items()}})
    for beside in ("optimizer.pt", "trainer_state.json"):
        (sharded / beside).unlink()
    state = merge([sharded, "a.pt"], skip=["count"])
    assert list(state) == list(STATE)
    assert torch.equal(state["embed"], STATE["embed"] + 1)
