"""How a training of two processes ends: together, and never by waiting for one that is gone."""

from __future__ import annotations

import os
import signal
import threading
import time
from datetime import timedelta

import torch
import torch.distributed as dist
from otf_hooks import Trainer
from otf_hooks.distributed import group
from otf_hooks.distributed.ranks import Ranks as Peers
from otf_hooks.errors import TrainingError
from otf_hooks.guards import NonFinite
from otf_session.commands import CommandRequest, Pause, Resume, Stop, Test
from otf_session.events import CheckpointSaved, CommandChanged, LogLine, Rewound, StateChanged
from otf_session.home import Home
from otf_session.resume import find_order, parse_target
from torch.utils.data import DataLoader, TensorDataset

from ..record import latest_folder, of, series, states
from .ranks import Ranks, on_each
from .test_exact import FIRST, SECOND, assert_same, expected, resumed
from .work import Steered, data, kill


def reason():
    return of(StateChanged)[-1].reason


def signalled(number):
    training = Steered("ddp")
    training.at(SECOND, lambda engine: os.kill(os.getpid(), number), rank=1)
    return training.run()


def test_sigterm_at_one_rank_ends_all_at_one_step_and_is_gone_on_with_exactly(monkeypatch):
    assert Ranks(signalled, signal.SIGTERM).join() == [-signal.SIGTERM] * 2
    assert (states()[-1], reason()) == ("stopped", "terminated by SIGTERM")
    order = find_order(Home.find(), parse_target("latest"))
    assert order.step == SECOND
    monkeypatch.setenv(*next(iter(order.environment().items())))
    assert_same([weights for weights, *_ in on_each(resumed, "ddp")], expected("ddp"))


def test_ctrl_c_at_one_rank_is_keyboard_interrupt_in_all():
    ranks = Ranks(signalled, signal.SIGINT)
    assert 0 not in ranks.join()
    assert len(ranks.errors()) == 2
    assert all("KeyboardInterrupt" in error for error in ranks.errors())
    assert (states()[-1], reason()) == ("stopped", "interrupted by Ctrl-C")
    labels = [saved.label for saved in of(CheckpointSaved)]
    assert labels[-1] == "interrupted"
    assert labels.count("interrupted") == 1


def stopped():
    training = Steered("ddp").at(FIRST, Stop())
    training.run()
    return training.result


def test_a_stop_ends_all_at_the_same_step():
    one, other = on_each(stopped)
    assert one.step == other.step == FIRST
    assert one == other
    assert one.state == "stopped"


def fails():
    training = Steered("ddp")

    def fault(engine):
        raise ZeroDivisionError("a sample is broken")

    training.at(SECOND, fault, rank=1)
    return training.run()


def test_a_rank_that_raises_ends_all_and_rank_0_says_whose_error_it_was():
    ranks = Ranks(fails)
    assert ranks.join() == [1, 1]
    assert states()[-1] == "failed"
    assert "rank 1 (process" in reason()
    assert "failed: ZeroDivisionError: a sample is broken" in reason()
    assert any("raise ZeroDivisionError" in line.text for line in of(LogLine))


def test_what_rank_0_saves_alone_is_gone_on_with_and_said_to_be_inexact(monkeypatch):
    Ranks(fails).join()
    saved = of(CheckpointSaved)[-1]
    assert saved.label == "interrupted"
    order = find_order(Home.find(), parse_target("latest"))
    assert order.checkpoint == saved.id
    monkeypatch.setenv(*next(iter(order.environment().items())))
    on_each(resumed, "ddp")
    (rewound,) = of(Rewound)
    assert not rewound.exact
    assert states()[-1] == "finished"


def one_is_killed():
    return Steered("ddp").at(SECOND, kill, rank=1).run()


def test_a_rank_that_is_killed_ends_all_and_the_record_says_so():
    assert Ranks(one_is_killed).join() == [1, -signal.SIGKILL]
    assert states()[-1] == "failed"
    assert "rank 1 (process" in reason()
    assert "ended without a word" in reason()


def killed_while_paused():
    training = Steered("ddp").at(FIRST, Pause())
    training.at(FIRST, lambda engine: None)
    if training.rank == 1:

        def when_paused():
            while training.engine is None or not training.engine.gate.is_paused:
                time.sleep(0.02)
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=when_paused, daemon=True).start()
    return training.run()


def test_a_rank_that_is_killed_in_a_pause_is_noticed_there():
    assert Ranks(killed_while_paused).join() == [1, -signal.SIGKILL]
    assert states() == ["running", "paused", "failed"]


def paused_for(seconds):
    """Pause for longer than any collective may take, our own included."""
    group._LEAST_TIMEOUT = timedelta()
    training = Steered("ddp").at(FIRST, Pause())

    def later(engine):
        request = CommandRequest(id="later", author="test", command=Resume())
        threading.Timer(seconds, engine.desk.receive, [request]).start()

    training.at(FIRST, later)
    return training.run()


def test_a_pause_outlasts_the_timeout_of_collectives():
    # The script's own collectives give up after 2 s.
    found = Ranks(paused_for, 3.0, seconds=2.0).results()
    assert_same(found, expected("ddp"))


def uneven():
    rank = dist.get_rank()
    mine = TensorDataset(*(part[: 16 + 8 * rank] for part in data().tensors))
    net = torch.nn.Linear(6, 2)
    Trainer(project="p", run_name="r", max_epochs=2, auto_connect=False).fit(
        net,
        torch.optim.SGD(net.parameters(), lr=0.1),
        torch.nn.CrossEntropyLoss(),
        DataLoader(mine, batch_size=4),
    )


def test_processes_that_train_unequal_numbers_of_steps_are_told_so():
    ranks = Ranks(uneven)
    assert ranks.join() == [1, 1]
    assert any("OutOfStep" in error and "DistributedSampler" in error for error in ranks.errors())


def evaluates_broken_data(command):
    training = Steered("ddp")
    if command is not None:
        training.at(FIRST, command)

    @training.trainer.validation_step
    def step(batch, state):
        if training.rank == 1:
            raise ZeroDivisionError("a broken sample")
        return {"loss": state["loss_fn"](state["model"](batch[0]), batch[1])}

    loaders = {} if command is None else {"val_loader": None}
    return training.run(**loaders)


def test_a_validation_that_fails_on_one_rank_fails_on_all():
    ranks = Ranks(evaluates_broken_data, None)
    assert ranks.join() == [1, 1]
    first, second = ranks.errors()
    assert "On rank 1 the evaluation failed: ZeroDivisionError: a broken sample" in first
    assert "ZeroDivisionError: a broken sample" in second


def test_a_test_that_fails_on_one_rank_is_refused_and_training_goes_on():
    assert_same(on_each(evaluates_broken_data, Test()), expected("ddp"))
    outcome = [event.outcome for event in of(CommandChanged) if event.outcome is not None][-1]
    assert "On rank 1 the evaluation failed" in outcome.reason


def diverges():
    training = Steered("ddp", guards=[NonFinite("pause")])
    loss_fn = training.parts["loss_fn"]

    def loss(output, target):
        # On rank 0 alone: it is the one whose loss is recorded.
        poison = training.rank == 0 and training.engine.step == FIRST
        return loss_fn(output, target) * (float("nan") if poison else 1.0)

    training.parts["loss_fn"] = loss

    def stop_when_paused():
        while training.engine is None or not training.engine.gate.is_paused:
            time.sleep(0.02)
        request = CommandRequest(id="stop", author="test", command=Stop())
        training.engine.desk.receive(request)

    if training.rank == 0:
        threading.Thread(target=stop_when_paused, daemon=True).start()
    training.parts["train_loader"] = list(training.parts["train_loader"]) * 5000
    training.run()
    return training.result.step


def test_a_guard_pauses_all_at_the_same_step():
    one, other = on_each(diverges)
    assert one == other > FIRST
    assert "guard" in next(event.reason for event in of(StateChanged) if event.state == "paused")


def saves_by_the_clock():
    training = Steered("ddp", every_step=False, max_epochs=1, ckpt_every_minutes=0.05 / 60)
    training.parts["train_loader"] = list(training.parts["train_loader"]) * 40
    return training.run(val_loader=None)


def test_what_is_due_by_the_clock_is_saved_with_every_ranks_state():
    on_each(saves_by_the_clock)
    periodic = [saved for saved in of(CheckpointSaved) if saved.label == "periodic"]
    assert periodic
    state = torch.load(latest_folder() / periodic[-1].path, weights_only=True)
    one, other = state["ranks"]
    assert one == {}
    assert "random" in other
    assert not torch.equal(state["random"]["torch"], other["random"]["torch"])


def destroys_the_group_and_fails():
    training = Steered("ddp")

    def ending(engine):
        dist.destroy_process_group()
        raise ZeroDivisionError("the script's own")

    return training.at(SECOND, ending).run()


def test_a_group_that_the_script_destroyed_hides_no_error_and_loses_no_step():
    ranks = Ranks(destroys_the_group_and_fails)
    assert ranks.join() == [1, 1]
    # The other one may have seen the connection end before it came to its own.
    assert any("ZeroDivisionError: the script's own" in error for error in ranks.errors())
    assert states()[-1] == "failed"
    assert [step for step, _ in series("loss")][-1] >= SECOND - 1


def cannot_be_saved_on_one():
    peers = Peers(group.Group.of_world())
    state = {"model": {}, "own": peers.rank, "more": object() if peers.rank == 1 else 1}
    try:
        peers.whole(state)
    except TrainingError as error:
        return str(error)
    return ""


def test_a_state_that_one_rank_cannot_save_is_an_error_on_all():
    one, other = on_each(cannot_be_saved_on_one)
    assert "more is a object" in one
    assert "rank 1" in one
    assert "more is a object" in other
