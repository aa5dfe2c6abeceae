import hashlib

import pytest
import torch
from otf_hooks import checkpoint
from otf_hooks.errors import CheckpointError


def test_a_checkpoint_is_read_back_with_weights_only(tmp_path):
    state = {"model": {"w": torch.arange(5.0)}, "step": 3, "random": {"python": [3, [1, 2], None]}}
    written = checkpoint.write(tmp_path / "deep" / "a.pt", state)
    loaded = torch.load(written.path, weights_only=True)
    assert loaded["format"] == checkpoint.FORMAT
    assert loaded["step"] == 3
    assert torch.equal(loaded["model"]["w"], state["model"]["w"])
    assert written.size == written.path.stat().st_size
    assert written.sha256 == hashlib.sha256(written.path.read_bytes()).hexdigest()


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path):
    with pytest.raises(CheckpointError, match=r"a\.pt could not be written"):
        checkpoint.write(tmp_path / "a.pt", {"model": lambda: None})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_checkpoint(tmp_path):
    checkpoint.write(tmp_path / "a.pt", {"step": 1})
    with pytest.raises(CheckpointError):
        checkpoint.write(tmp_path / "a.pt", {"step": lambda: None})
    assert torch.load(tmp_path / "a.pt", weights_only=True)["step"] == 1


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="file"):
        checkpoint.write(tmp_path / "file" / "a.pt", {})
