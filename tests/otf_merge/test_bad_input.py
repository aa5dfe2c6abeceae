"""What cannot be merged or written: one message, exit code 1, and nothing left behind."""

from __future__ import annotations

import ctypes
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable

import pytest
import torch

from .shell import Cli, Refused, Save, merged

PR_CAPBSET_DROP = 24


def test_an_unknown_method_is_told_with_the_nearest(refused: Refused, two: list[Path]) -> None:
    message = refused("-m", "liner", *two)
    assert "no merge method `liner`" in message
    assert "nearest are: linear" in message
    assert "linear, model-stock" in refused("-m", "qqq", *two)


def test_fewer_than_two_checkpoints(refused: Refused, save: Save, tmp_path: Path) -> None:
    save("one/a.pt", {"w": torch.ones(1)})
    assert "at least 2 checkpoints, and there is only `one/a.pt`" in refused("./one/a.pt")
    (tmp_path / "empty").mkdir()
    assert "folder `empty` holds no checkpoints" in refused("empty", "one")
    assert "`nowhere` does not exist" in refused("nowhere/")


def test_paths_that_cannot_be_read(refused: Refused, two: list[Path]) -> None:
    assert "`none.pt` does not exist" in refused(two[0], "none.pt")
    Path("a.txt").touch()
    assert "`a.txt` is of no known format" in refused(two[0], "a.txt")
    Path("d.pt").write_bytes(two[0].read_bytes()[:500])
    assert "`d.pt` is damaged" in refused(two[0], "d.pt")


def test_differences_are_listed_up_to_ten(refused: Refused, save: Save) -> None:
    save("a.pt", {"w": torch.ones(2, 3), "k": torch.ones(1)})
    save("b.pt", {"w": torch.ones(3, 2), "k": torch.ones(1, dtype=torch.int64)})
    message = refused("a.pt", "b.pt")
    assert "`w`: float32 of shape [2, 3] in a.pt, float32 of shape [3, 2] in b.pt" in message
    assert "`k`: float32 of shape [1] in a.pt, int64 of shape [1] in b.pt" in message
    save("c.pt", {f"layer{n}": torch.ones(1) for n in range(20)})
    message = refused("a.pt", "c.pt")
    assert "`w`: only in a.pt, not in c.pt" in message
    assert message.count("only in") == 10
    assert "and 12 more" in message


def test_values_that_are_not_finite(refused: Refused, cli: Cli, save: Save) -> None:
    save("a.pt", {"w": torch.tensor([float("nan"), 1.0])})
    save("b.pt", {"w": torch.ones(2)})
    assert "`w` in a.pt holds NaN or infinity" in refused("b.pt", "a.pt")
    assert cli("b.pt", "a.pt", "--allow-nonfinite").exit_code == 0


def test_weights_that_do_not_fit(refused: Refused, two: list[Path]) -> None:
    assert "2 checkpoints and 1 weights" in refused(*two, "-w", "1")
    assert "takes no weights" in refused(*two, "-m", "swa", "-w", "1", "-w", "1")


def test_an_output_is_not_overwritten_unless_forced(
    refused: Refused, cli: Cli, two: list[Path]
) -> None:
    Path("merged.pt").write_text("precious")
    assert "`merged.pt` exists and is not overwritten" in refused(*two)
    assert "`merged.pt` exists" in refused(*two, "-o", "merged.pt")
    assert cli("ckpts", "--force").exit_code == 0
    assert merged("merged.pt") == [0.5, 0.5]


def test_outputs_that_cannot_be(refused: Refused, two: list[Path]) -> None:
    assert "no folder `nowhere`" in refused(*two, "-o", "nowhere/out.pt")
    assert "`out.npz` is of no known format" in refused(*two, "-o", "out.npz")
    Path("folder.pt").mkdir()
    assert "`folder.pt` is a folder" in refused(*two, "-o", "folder.pt")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("output", "sent", "code"),
    [
        ("merged.pt", signal.SIGINT, 130),
        ("merged/", signal.SIGINT, 130),
        ("merged.pt", signal.SIGTERM, 143),
    ],
)
def test_a_merge_that_is_interrupted_leaves_nothing_behind(
    tmp_path: Path, output: str, sent: int, code: int
) -> None:
    for name in "ab":
        torch.save({"w": torch.ones(1 << 22)}, f"{name}.pt")
    before = sorted(tmp_path.rglob("*"))
    words = ["-m", "della", "--base", "a.pt", "a.pt", "b.pt", "--threads", "1", "-o", output]
    command = [sys.executable, "-c", "from otf_merge.cli import app; app()", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(tmp_path.glob(".merged*")):
        time.sleep(0.01)
    process.send_signal(sent)
    _, told = process.communicate(timeout=60)
    assert process.returncode == code
    assert told.splitlines()[-1] == "Interrupted: nothing was written."
    assert "Traceback" not in told
    assert sorted(tmp_path.rglob("*")) == before


def test_parameters_that_cannot_be(refused: Refused, two: list[Path]) -> None:
    assert "`t` is '2', and must be a number from 0 to 1" in refused(*two, "-m", "slerp", "--t", 2)
    message = refused(*two, "--t", "0.5")
    assert "`linear` has no parameter `t`" in message
    assert "`--set w` says nothing" in refused(*two, "--set", "w")
    assert "`--param x` says nothing" in refused(*two, "--param", "x")
    assert "is no list of numbers" in refused(*two, "-w", "a,b")
    assert "none of auto, always and never" in refused(*two, "--recalibrate", "often")
    assert "`--shard-size 5X` is no size" in refused(*two, "--shard-size", "5X")
    assert "device `abacus` cannot be used" in refused(*two, "--device", "abacus")


def test_what_a_method_needs_is_told(refused: Refused, two: list[Path]) -> None:
    assert "Name it with --base" in refused(*two, "-m", "ties")
    assert "--task module:function" in refused(*two, "-m", "distill")
    message = refused(*two, "-m", "fisher")
    assert "--fisher" in message
    assert "--task" in message
    assert "Adam" in message
    assert "`swa` uses no base" in refused(*two, "-m", "swa", "--base", two[0])


def test_weights_for_another_number_of_checkpoints(refused: Refused, two: list[Path]) -> None:
    message = refused(*two, two[0], "-w", "0.5,0.5")
    assert "There are 3 checkpoints and 2 weights. Give one weight for each" in message
    assert "make no average" in refused(*two, "-w", "0,0")
    assert "make no average" in refused(*two, "-w", "nan,1")


class RunsCode:
    """Unpickled, it leaves a file behind."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("ran"),)


def test_a_pickle_that_wants_to_run_code_is_not_read(
    refused: Refused, save: Save, two: list[Path]
) -> None:
    save("code.pt", {"w": torch.ones(2), "more": RunsCode()})
    save("module.pt", torch.nn.Linear(2, 2))
    Path("plain.pt").write_bytes(pickle.dumps({"w": RunsCode()}))
    for name, told in (
        ("code.pt", "Python objects that are not tensors"),
        ("module.pt", "`torch.nn.modules.linear.Linear`"),
        ("plain.pt", "was not written by `torch.save`"),
    ):
        message = refused(two[0], name)
        assert re.search(told, message), message
        assert "If you trust the file, load it with the code that wrote it" in message
        assert "torch.save(model.state_dict()" in message
    assert not Path("ran").exists()
    RunsCode().__reduce__()[0](*RunsCode().__reduce__()[1])
    assert Path("ran").exists()


def test_files_that_are_cut_short_or_of_another_kind(
    refused: Refused, save: Save, two: list[Path]
) -> None:
    whole = save("whole.safetensors", {"w": torch.ones(2)}).read_bytes()
    for place in (0, 4, 20, len(whole) - 1):
        Path("cut.safetensors").write_bytes(whole[:place])
        assert "`cut.safetensors` is not a whole safetensors file" in refused(
            two[0], "cut.safetensors"
        )
    Path("text.safetensors").write_text("weights: none\n" * 100)
    assert "`text.safetensors` is not a whole safetensors file" in refused(
        two[0], "text.safetensors"
    )
    Path("text.pt").write_text("weights: none\n" * 100)
    assert "`text.pt` was not written by `torch.save`" in refused(two[0], "text.pt")
    Path("git.pt").write_text("version https://git-lfs.github.com/spec/v1\nsize 12\n")
    assert "git lfs pull" in refused(two[0], "git.pt")


def test_names_in_files_do_nothing_to_a_terminal(refused: Refused, save: Save) -> None:
    save("a.pt", {"w\x1b[2J\rfine": torch.ones(2)})
    save("b.pt", {"w\x1b[2J\rfine": torch.ones(3)})
    message = refused("a.pt", "b.pt")
    assert "`w?[2J?fine`" in message
    assert "\x1b" not in message
    assert "\r" not in message


def test_data_that_a_method_has_no_use_for(refused: Refused, save: Save, two: list[Path]) -> None:
    save("f.pt", {"w": torch.ones(2)})
    assert "`linear` uses no Fisher information" in refused(*two, "--fisher", "f.pt")
    assert "`linear` uses no Gram matrices" in refused(*two, "--grams", "f.pt")
    assert "`linear` uses no base" in refused(*two, "--base", two[0])
    assert "--gate) needs a model and data" in refused(*two, "--gate")
    assert "--search) needs a model and data" in refused(*two, "-m", "slerp", "--search", "t=0,1")
    assert "`none.pt` does not exist" in refused(*two, "-m", "ties", "--base", "none.pt")
    assert "no module `nowhere`" in refused(*two, "--task", "nowhere:task")


def shell(*words: str, before: Callable[[], None]) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, after that has been done in it."""
    command = [sys.executable, "-c", "from otf_merge.cli import app; app()", *words]
    return subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=before,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
@pytest.mark.parametrize("output", ["out.pt", "out.safetensors", "out/"])
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, save: Save, output: str) -> None:
    import resource

    for name in "ab":
        save(f"{name}.pt", {"w": torch.ones(1 << 18)})
    before = sorted(tmp_path.rglob("*"))

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, 1 << 19))

    done = shell("a.pt", "b.pt", "-o", output, before=limited)
    assert done.returncode == 1
    assert done.stdout == ""
    (told,) = done.stderr.splitlines()
    assert re.fullmatch(
        r"error: `out.*` cannot be written: File too large\. Nothing was left behind\.", told
    )
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="capabilities of Linux")
def test_a_folder_that_cannot_be_written_to_is_told_before_work_starts(two: list[Path]) -> None:
    Path("mine").mkdir(mode=0o555)

    def as_anybody() -> None:
        # Root may write anywhere, unless it has lost CAP_DAC_OVERRIDE (1) for good.
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, 1)

    paths = [str(path) for path in two]
    done = shell(*paths, "-o", "mine/out.pt", before=as_anybody)
    assert done.returncode == 1
    assert done.stderr == (
        "error: The folder `mine` cannot be written to. Name an output elsewhere, or change its "
        "permissions.\n"
    )
    assert not list(Path("mine").iterdir())
