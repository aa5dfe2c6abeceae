"""Two processes under Lightning: bit for bit, recorded once, evaluated as Lightning reduces."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
import torch

pytest.importorskip("lightning")

from otf_hooks.errors import TrainingError
from otf_hooks.fronts.lightning import OnTheFlyLogger
from otf_hooks.fronts.lightning.several import check_strategy
from otf_session.commands import (
    LoadCheckpoint,
    Pause,
    Prove,
    Reset,
    Resume,
    SaveCheckpoint,
    SetHyperparameters,
    Test,
    Validate,
)
from otf_session.events import CommandChanged, EvaluationFinished, Rewound, RunState
from otf_session.home import Home
from otf_session.resume import How, find_order, parse_target

from ..distributed.ranks import Ranks, on_each
from ..record import of, series, states, summary
from .ddp import SCENARIOS, STEPS, STEPS_PER_EPOCH, Steered, bare, killed, steered
from .scenarios import LIGHTNING_WARNS, ROOT, L

pytestmark = pytest.mark.filterwarnings(*LIGHTNING_WARNS)

#: In the midst of the first, the second and the third epoch.
FIRST, SECOND, THIRD = 2, STEPS_PER_EPOCH + 3, 2 * STEPS_PER_EPOCH + 2

_bare = {}


@pytest.fixture(autouse=True)
def _variables_are_not_ours(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)


def expected(name):
    """What Lightning alone comes to, on each rank."""
    if name not in _bare:
        _bare[name] = on_each(bare, name)
    return _bare[name]


def assert_same(found, wanted):
    for rank, (one, other) in enumerate(zip(found, wanted)):
        assert one.keys() == other.keys()
        for key in other:
            assert torch.equal(one[key], other[key]), f"{key} of rank {rank}"


def outcomes():
    return {
        type(event.command).__name__: event.outcome
        for event in of(CommandChanged)
        if event.outcome is not None
    }


@pytest.mark.parametrize("name", SCENARIOS)
def test_attached_and_rewound_is_lightning_alone(name):
    plan = {
        FIRST: [SaveCheckpoint(name="one")],
        SECOND: [SaveCheckpoint(name="two"), LoadCheckpoint(checkpoint="one")],
        THIRD: [LoadCheckpoint(checkpoint="two")],
    }
    assert_same(on_each(steered, name, plan), expected(name))
    assert [event.exact for event in of(Rewound)] == [True, True]
    assert max(step for step, _ in series("loss")) == STEPS
    # One session, which rank 0 has recorded.
    assert len(Home.find().session_folders()) == 1
    assert states()[-1] == "finished"


def test_attached_without_a_command_is_lightning_alone():
    assert_same(on_each(steered, "plain", {}, None, False), expected("plain"))
    assert [step for step, _ in series("loss")] == list(range(1, STEPS + 1))
    assert states() == ["running", "finished"]


def test_paused_tested_saved_and_proved_in_mid_epoch_changes_nothing():
    pause = [Pause(), Test(), SaveCheckpoint(), Validate(), Resume()]
    plan = {FIRST: pause, SECOND: [*pause, Prove(steps=2)]}
    for name in ("plain", "own-buffers"):
        assert_same(on_each(steered, name, plan), expected(name))
        found = outcomes()
        assert {type(outcome).__name__ for outcome in found.values()} == {"Applied"}
        assert found["Prove"].result.exact
        # The samples of both ranks.
        assert found["Test"].result.samples == 48


def test_an_evaluation_is_reduced_as_lightning_reduces():
    on_each(steered, "reduced", {FIRST: [Test()]})
    found = outcomes()["Test"].result.values
    assert found["test_rank"] == pytest.approx(0.5)
    assert found["test_own_rank"] == 0.0
    assert [event.samples for event in of(EvaluationFinished)] == [48, 48, 48, 48]


def test_a_command_comes_between_the_batches_of_a_validation():
    steps = on_each(paused_in_validation)
    assert steps == [[STEPS_PER_EPOCH, "validate"]] * 2


def paused_in_validation():
    training = Steered("plain")
    seen = []

    class Asks(L.Callback):
        def on_validation_batch_end(self, trainer, *_):
            engine = training.engine
            if engine is not None and not seen:
                if engine.peers.rank == 0:
                    training.give(Pause())
                    training.give(Resume())
                seen.extend([engine.step, engine.phase])

    training.trainer.callbacks.append(Asks())
    training.run()
    return seen


def test_a_reset_and_a_hyperparameter_reach_every_rank():
    assert_same(on_each(steered, "plain", {SECOND: [Reset()]}), expected("plain"))
    assert [run.state for run in summary().runs] == [RunState.STOPPED, RunState.FINISHED]
    one, other = on_each(steered, "plain", {FIRST: [SetHyperparameters(values={"lr": 0.05})]})
    assert torch.equal(one["net.0.weight"], other["net.0.weight"])
    assert not torch.equal(one["net.0.weight"], expected("plain")[0]["net.0.weight"])


@pytest.mark.parametrize("name", ["accumulated", "random-dataset", "own-buffers"])
def test_killed_and_resumed_in_new_processes(name, monkeypatch):
    assert Ranks(killed, name, SECOND).join() == [-signal.SIGKILL] * 2
    order = find_order(Home.find(), parse_target("latest"))
    assert (order.step, order.how) == (SECOND, How.SAME_RUN)
    monkeypatch.setenv(*next(iter(order.environment().items())))
    assert_same(on_each(steered, name, {}), expected(name))
    assert [run.name for run in summary().runs] == ["baseline"]


def test_the_means_over_all_are_recorded_where_that_is_asked_for():
    on_each(steered, "plain", {}, {"reduce_metrics": True})
    reduced = series("loss")
    on_each(steered, "plain", {})
    own = series("loss")
    assert [step for step, _ in reduced] == [step for step, _ in own]
    assert reduced != own


def start(*words, resume=()):
    command = [sys.executable, "-m", "tests.otf_hooks.lightning.ddp", *words]
    if resume:
        command = [sys.executable, "-m", "otf_session.resume_cli", *resume, "--", *command]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_started_by_python_alone_stopped_and_resumed():
    start("4")
    assert (summary().runs[0].step, states()[-1]) == (4, "stopped")
    start(resume=["latest"])
    assert [step for step, _ in series("loss")] == list(range(1, 2 * STEPS_PER_EPOCH + 1))
    assert states()[-1] == "finished"
    assert len(Home.find().session_folders()) == 1


def logged():
    """Trains with the logger alone, and nothing that steers."""
    training = Steered("plain")
    training.handle.close()
    training.trainer.callbacks = []
    training.trainer.loggers = [OnTheFlyLogger("demo", "logged")]
    training.trainer.log_every_n_steps = 1
    training.run()


def test_the_logger_records_on_rank_0_alone():
    on_each(logged)
    assert len(Home.find().session_folders()) == 1
    assert len(series("train_loss_step")) == STEPS


def test_a_strategy_that_has_only_parts_on_each_process_is_refused():
    class Sharded:
        """Stands for FSDP's, which asks for a GPU when it is made."""

    class Many:
        world_size, strategy = 2, Sharded()

    with pytest.raises(TrainingError, match="2 processes with Sharded"):
        check_strategy(L, Many())
