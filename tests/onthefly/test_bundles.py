"""Sessions that travel: trained here, exported, imported there, and gone on with."""

import os
import subprocess
import sys

import pytest
import torch
from otf_session.bundles.exporter import export_session
from otf_session.bundles.importer import import_bundle
from otf_session.home import Home
from otf_session.queries import run_summaries
from otf_session.store import SessionReader

from ..helpers.predecessor import describe, predecessor

SCRIPT = """
import sys
import torch
from onthefly import Trainer

torch.manual_seed(0)
x = torch.randn(64, 4)
data = torch.utils.data.TensorDataset(x, (x.sum(1) > 0).long())
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 2))
trainer = Trainer(project="travelling", run_name="baseline", max_epochs=int(sys.argv[1]))
trainer.fit(
    model=model,
    optimizer=torch.optim.Adam(model.parameters(), lr=0.01),
    loss_fn=torch.nn.CrossEntropyLoss(),
    train_loader=torch.utils.data.DataLoader(data, batch_size=16, shuffle=True),
)
torch.save(model.state_dict(), sys.argv[2])
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    return path


def run(home, *words):
    environment = {**os.environ, "ONTHEFLY_HOME": str(home.path), "ONTHEFLY_DASHBOARD_PORT": "1"}
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def resume(home, target, script, epochs, out):
    words = ["-m", "otf_session.resume_cli", target, "--"]
    return run(home, *words, sys.executable, script, epochs, out)


def test_an_imported_session_goes_on_exactly(home, script, tmp_path):
    elsewhere = Home(tmp_path / "elsewhere")
    run(home, script, 2, tmp_path / "half.pt")
    bundle = export_session(home.session_folder("latest"), tmp_path, final_models=True).path
    made = import_bundle(elsewhere, tmp_path / bundle)
    resume(elsewhere, "latest", script, 4, tmp_path / "whole.pt")
    run(Home(tmp_path / "third"), script, 4, tmp_path / "uninterrupted.pt")
    whole, uninterrupted, half, model = (
        torch.load(path, weights_only=True)
        for path in [
            *(tmp_path / name for name in ("whole.pt", "uninterrupted.pt", "half.pt")),
            next((elsewhere.sessions / made.session).glob("final_models/*")),
        ]
    )
    assert all(torch.equal(whole[name], uninterrupted[name]) for name in uninterrupted)
    assert all(torch.equal(model[name], half[name]) for name in half)


def test_a_run_of_the_predecessor_goes_on_and_says_that_it_is_not_exact(home, script, tmp_path):
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.25)
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    bundle = predecessor(tmp_path / "bundle")
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    rest = {"scheduler": None, "scaler": None, "step": 4, "epoch": 2, "last_val_loss": 0.5}
    torch.save({**state, **rest}, bundle / "checkpoints" / "c2.pt")
    describe(bundle, checkpoints={"c2": "checkpoints/c2.pt"}, final_models={})
    made = import_bundle(home, bundle)
    # Its two epochs are over: nothing is trained, and the weights are those of the checkpoint.
    said = resume(home, "latest:baseline", script, 2, tmp_path / "same.pt")
    same = torch.load(tmp_path / "same.pt", weights_only=True)
    assert all(torch.equal(same[name], value) for name, value in model.state_dict().items())
    assert "Going on is not exact" in said
    said = resume(home, "latest:baseline@4", script, 3, tmp_path / "more.pt")
    more = torch.load(tmp_path / "more.pt", weights_only=True)
    assert not torch.equal(same["0.weight"], more["0.weight"])
    with SessionReader(home.sessions / made.session) as reader:
        newest = run_summaries(reader.database)[-1]
    assert (newest.parents, newest.step, newest.epoch) == (["baseline"], 8, 3)
    assert newest.latest["lr"] == 0.25
    assert "earlier version" in said
