"""Going on from what is kept, in new processes: as new runs, from other homes, with weights alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from otf_hooks import Trainer
from otf_hooks.errors import CheckpointError
from otf_hooks.fitting import check_groups, check_tensors, differences
from otf_session.bundles.exporter import export_session
from otf_session.bundles.importer import import_bundle
from otf_session.events import CheckpointSaved, DeterminismAssessed, RunStarted
from otf_session.home import Home
from otf_session.resume import How, find_order, parse_target
from torch import nn

from .record import events, latest_folder, of, summary
from .scenarios import ROOT

_SCRIPT = """
import os, sys
import torch
from otf_hooks import Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

out, epochs, width, weights, kill_at = sys.argv[1:6]
torch.set_num_threads(1)
torch.manual_seed(3)
inputs = torch.randn(48, 6)
data = TensorDataset(inputs, (inputs.sum(dim=1) > 0).long())
model = nn.Sequential(nn.Linear(6, int(width)), nn.Dropout(0.2), nn.Linear(int(width), 2))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.5)
if weights:
    model.load_state_dict(torch.load(weights, weights_only=True)["model"])
trainer = Trainer(
    project="p", run_name="baseline", max_epochs=int(epochs), ckpt_every_steps=5, auto_connect=False
)

def before_step(module, args):
    engine = trainer._engine
    # A slow disk is waited for: every checkpoint that is due is kept.
    engine.keeper.flush()
    if kill_at and engine.step == int(kill_at):
        import signal, time
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)

model.register_forward_pre_hook(before_step)
trainer.fit(
    model=model,
    optimizer=optimizer,
    scheduler=scheduler,
    scheduler_interval="step",
    loss_fn=nn.CrossEntropyLoss(),
    train_loader=DataLoader(data, batch_size=4, shuffle=True),
)
torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, out)
"""
#: The steps of one epoch.
EPOCH = 12


class Script:
    """The training above, started in processes of its own with a certain home."""

    def __init__(self, folder: Path) -> None:
        self.out = folder / "out.pt"
        self._path = folder / "train.py"
        self._path.write_text(_SCRIPT)

    def run(
        self,
        *resume: str,
        home: Path,
        epochs: int = 2,
        width: int = 8,
        weights: str = "",
        kill_at: str = "",
    ) -> Any:
        words = [sys.executable, str(self._path), str(self.out), str(epochs), str(width)]
        words += [weights, kill_at]
        if resume:
            words = [sys.executable, "-m", "otf_session.resume_cli", *resume, "--", *words]
        return subprocess.run(
            words,
            check=False,
            cwd=ROOT,
            env={**os.environ, "ONTHEFLY_HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=120,
        )

    def ends_with(self) -> Any:
        return torch.load(self.out, weights_only=True)


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Script:
    return Script(tmp_path_factory.mktemp("script"))


@pytest.fixture(scope="module")
def trained(script: Script, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A home with a finished session of two epochs, and what the training came to."""
    home = tmp_path_factory.mktemp("trained")
    done = script.run(home=home)
    assert done.returncode == 0, done.stderr
    return home, script.ends_with()


@pytest.fixture(scope="module")
def cut_off(script: Script, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a session that was killed after step 17; its newest checkpoint is of step 15."""
    home = tmp_path_factory.mktemp("cut-off")
    done = script.run(home=home, kill_at="17")
    assert done.returncode < 0, done.stderr
    return home


@pytest.fixture
def home_with(home: Home) -> Any:
    """Put a copy of another home's sessions into the test's own."""

    def home_with(other: Path) -> Path:
        shutil.copytree(other, home.path, dirs_exist_ok=True)
        return home.path

    return home_with


def assert_same(found: Any, wanted: Any) -> None:
    for name, tensor in wanted["model"].items():
        assert torch.equal(found["model"][name], tensor), name
    # Its moments and the scheduled rate as well.
    assert str(found["optimizer"]) == str(wanted["optimizer"])


def runs() -> Any:
    return [(run.name, run.parents, run.state.value, run.step) for run in summary().runs]


# As a new run


def test_an_earlier_state_of_a_finished_run_is_gone_on_from_as_a_new_run(
    script: Script, trained: Any, home_with: Any
) -> None:
    home, wanted = trained
    home = home_with(home)
    before = summary().runs
    done = script.run("latest:baseline@10", home=home)
    assert done.returncode == 0, done.stderr
    # Optimizer, scheduler, generators and the place in the data: to the last bit.
    assert_same(script.ends_with(), wanted)
    assert runs()[1:] == [("baseline-2", ["baseline"], "finished", 2 * EPOCH)]
    assert summary().runs[:1] == before
    began = of(RunStarted)[-1]
    assert (began.checkpoint, began.step) == ("baseline@10-periodic", 10)
    # What a run has grown from stays.
    pinned = [saved.id for saved in of(CheckpointSaved) if saved.pinned]
    assert "baseline@10-periodic" in pinned


def test_a_finished_run_is_trained_longer_as_a_new_run(
    script: Script, trained: Any, home_with: Any, tmp_path: Path
) -> None:
    done = script.run(home=tmp_path / "longer", epochs=3)
    assert done.returncode == 0, done.stderr
    wanted = script.ends_with()
    done = script.run("latest", home=home_with(trained[0]), epochs=3)
    assert done.returncode == 0, done.stderr
    assert_same(script.ends_with(), wanted)
    assert runs() == [
        ("baseline", [], "finished", 2 * EPOCH),
        ("baseline-2", ["baseline"], "finished", 3 * EPOCH),
    ]


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_a_run_that_was_cut_off_may_be_left_for_a_new_one(
    script: Script, cut_off: Path, trained: Any, home_with: Any
) -> None:
    done = script.run("--as-new-run", "latest", home=home_with(cut_off))
    assert done.returncode == 0, done.stderr
    assert_same(script.ends_with(), trained[1])
    assert runs() == [
        ("baseline", [], "stopped", 17),
        ("baseline-2", ["baseline"], "finished", 2 * EPOCH),
    ]
    assert summary().runs[0].reason == "left at step 17 for baseline-2"


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_an_imported_session_is_gone_on_with_twice(
    script: Script, cut_off: Path, trained: Any, home: Home, tmp_path: Path
) -> None:
    (folder,) = Home(cut_off).session_folders()
    bundle = Path(export_session(folder, tmp_path / "b.otf.zip").path)
    import_bundle(home, bundle)
    done = script.run("latest", home=home.path, kill_at="22")
    assert done.returncode < 0, done.stderr
    assert "as a new run" in done.stderr
    # The run that began here, and was cut off here, goes on as itself.
    done = script.run("latest", home=home.path)
    assert done.returncode == 0, done.stderr
    assert_same(script.ends_with(), trained[1])
    assert runs() == [
        ("baseline", [], "stopped", 17),
        ("baseline-2", ["baseline"], "finished", 2 * EPOCH),
    ]
    assert [event.step for event in of(RunStarted)] == [0, 15]
    assert all(event.exact for event in of(DeterminismAssessed))


# With weights alone


def test_weights_alone_begin_a_new_run_at_step_0_with_everything_else_as_the_script_says(
    script: Script, trained: Any, home_with: Any, tmp_path: Path
) -> None:
    home = home_with(trained[0])
    kept = latest_folder() / "checkpoints" / "baseline-00000015-periodic.pt"
    done = script.run(home=tmp_path / "by-hand", epochs=1, weights=str(kept))
    assert done.returncode == 0, done.stderr
    wanted = script.ends_with()
    done = script.run("latest:baseline@15", "--weights-only", home=home, epochs=1)
    assert done.returncode == 0, done.stderr
    assert_same(script.ends_with(), wanted)
    assert runs()[1:] == [("baseline-2", ["baseline"], "finished", EPOCH)]
    began = of(RunStarted)[-1]
    assert (began.checkpoint, began.step) == ("baseline@15-periodic", 0)
    # It can be begun anew, as any run can.
    assert "baseline-2@0-initial" in [saved.id for saved in of(CheckpointSaved)]


# What does not fit


def test_a_script_whose_model_does_not_fit_is_told_every_tensor_and_records_nothing(
    script: Script, trained: Any, home_with: Any
) -> None:
    home = home_with(trained[0])
    before = events()
    done = script.run("latest", home=home, width=16)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith(
        "CheckpointError: The checkpoint does not fit this script's model: 3 tensors differ.\n"
        "  0.weight: [8, 6] in the checkpoint, [16, 6] in the script\n"
        "  0.bias: [8] in the checkpoint, [16] in the script\n"
        "  2.weight: [2, 8] in the checkpoint, [2, 16] in the script\n"
        "Nothing was changed. Use the script, and the arguments, that it was made with."
    )
    assert events() == before
    assert summary().state.value == "finished"


@pytest.fixture
def fit(trained: Any, home_with: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Fit in this process, under an order to go on; the record is afterwards as it was before."""
    home = home_with(trained[0])

    def fit(
        target: str = "latest", prepare: Any = None, how: Any = None, **parts: Any
    ) -> CheckpointError:
        before = events()
        order = find_order(Home(home), parse_target(target), how)
        if prepare is not None:
            prepare(Path(order.folder))
        for name, value in order.environment().items():
            monkeypatch.setenv(name, value)
        model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.2), nn.Linear(8, 2))
        given = {
            "model": model,
            "optimizer": torch.optim.AdamW(model.parameters()),
            "loss_fn": nn.CrossEntropyLoss(),
            "train_loader": [(torch.zeros(2, 6), torch.zeros(2).long())],
            **parts,
        }
        trainer = Trainer(project="p", run_name="r", max_epochs=3, auto_connect=False)
        with pytest.raises(CheckpointError) as raised:
            trainer.fit(**given)
        assert events() == before
        return raised.value

    return fit


def test_an_optimizer_with_other_groups_is_told(fit: Any) -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.2), nn.Linear(8, 2))
    groups = [{"params": model[0].parameters()}, {"params": model[2].parameters()}]
    error = fit(model=model, optimizer=torch.optim.AdamW(groups))
    assert "[4] in the checkpoint and [2, 2] in the script" in str(error)


def test_a_checkpoint_that_vanished_meanwhile_is_told(fit: Any) -> None:
    def remove(folder: Path) -> None:
        (folder / "checkpoints" / "baseline-00000010-periodic.pt").unlink()

    assert "is no longer there" in str(fit("latest:baseline@10", remove))


def test_a_checkpoint_that_was_changed_is_told(fit: Any) -> None:
    def change(folder: Path) -> None:
        path = folder / "checkpoints" / "baseline-00000010-periodic.pt"
        content = bytearray(path.read_bytes())
        content[-100] ^= 1
        path.write_bytes(content)

    assert "SHA-256 differs" in str(fit("latest:baseline@10", change))


def test_weights_alone_have_to_fit_too(fit: Any) -> None:
    model = nn.Linear(6, 2)
    error = fit(
        how=How.WEIGHTS_ONLY, model=model, optimizer=torch.optim.SGD(model.parameters(), 0.1)
    )
    assert "weight: [2, 6] in the script, not in the checkpoint" in str(error)
    assert "2.bias: [2] in the checkpoint, not in the script" in str(error)


# Differences


def test_states_that_are_alike_differ_in_nothing() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    other = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).to(torch.float64)
    assert differences(net.state_dict(), net.state_dict()) == []
    # Another precision is taken over, as torch does.
    assert differences(net.state_dict(), other.state_dict()) == []


def test_what_only_one_has_is_said_of_each() -> None:
    here, kept = nn.Linear(2, 3).state_dict(), nn.Linear(2, 3, bias=False).state_dict()
    assert differences(here, kept) == ["bias: [3] in the script, not in the checkpoint"]
    assert differences(kept, here) == ["bias: [3] in the checkpoint, not in the script"]
    assert differences({"x": torch.zeros(())}, {"x": 3}) == [
        "x: a int in the checkpoint, [] in the script"
    ]


def test_a_layer_whose_shape_is_yet_to_be_found_fits_any() -> None:
    lazy, kept = nn.LazyLinear(3), nn.Linear(5, 3)
    assert differences(lazy.state_dict(), kept.state_dict()) == []


def test_of_many_differences_ten_are_listed() -> None:
    def state(size: int) -> Any:
        return {f"layer{number}": torch.zeros(size) for number in range(25)}

    with pytest.raises(CheckpointError) as raised:
        check_tensors("model", state(1), state(2))
    lines = str(raised.value).splitlines()
    assert lines[0] == "The checkpoint does not fit this script's model: 25 tensors differ."
    assert len(lines) == 1 + 10 + 1 + 1
    assert lines[11] == "  and 15 more"


def test_groups_of_parameters_are_compared_by_their_sizes() -> None:
    def groups(*sizes: int) -> Any:
        return [{"params": [None] * size} for size in sizes]

    check_groups(groups(2, 1), groups(2, 1))
    with pytest.raises(
        CheckpointError, match=r"\[3\] in the checkpoint and \[2, 1\] in the script"
    ):
        check_groups(groups(2, 1), groups(3))
