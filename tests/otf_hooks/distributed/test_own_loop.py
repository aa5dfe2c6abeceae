"""A loop of one's own on two processes, bit for bit."""

from __future__ import annotations

import signal

from otf_hooks import watch
from otf_hooks.distributed import agreement
from otf_session.commands import LoadCheckpoint, Pause, Resume, SaveCheckpoint, Validate
from otf_session.events import CheckpointSaved, EvaluationFinished, Rewound
from otf_session.home import Home
from otf_session.resume import find_order, parse_target
from torch.utils.data import DataLoader, TensorDataset

from ..record import of, states
from .ranks import Ranks, on_each
from .test_exact import FIRST, SECOND, assert_same, expected, outcomes
from .work import EPOCHS, Asked, data, make, weights


def own_loop(plan, killed_at=None):
    agreement.SECONDS = 0.0
    parts = make("ddp")
    net, optimizer, loss_fn = parts["model"], parts["optimizer"], parts["loss_fn"]
    loader, asked = parts["train_loader"], Asked(plan, killed_at)
    mine = TensorDataset(*(part[: 10 + 30 * asked.rank] for part in data().tensors))

    def evaluate(batch):
        return {"loss": loss_fn(net.module(batch[0]), batch[1])}

    with watch(net, optimizer, project="p", run_name="loop", auto_connect=False) as run:
        for epoch in run.epochs(EPOCHS):
            loader.sampler.set_epoch(epoch)
            for batch in run.batches(loader):
                optimizer.zero_grad()
                loss = loss_fn(net(batch[0]), batch[1])
                loss.backward()
                optimizer.step()
                run.step(loss=loss)
                asked.look(run._training.engine)
            run.evaluate(evaluate, DataLoader(mine, batch_size=8, shuffle=True))
    return weights(net)


def test_it_is_the_bare_loop_and_its_evaluation_is_over_the_batches_of_both():
    assert_same(on_each(own_loop, {}), expected("ddp"))
    assert states() == ["running", "finished"]
    assert {event.samples for event in of(EvaluationFinished)} == {10 + 40}
    assert "best" in {saved.label for saved in of(CheckpointSaved)}


def test_paused_validated_and_rewound():
    plan = {
        FIRST: [SaveCheckpoint(name="one")],
        SECOND: [Pause(), Validate(), Resume(), LoadCheckpoint(checkpoint="one")],
    }
    wanted = expected("ddp")
    assert_same(on_each(own_loop, plan), wanted)
    assert [event.exact for event in of(Rewound)] == [True]
    assert {type(outcome).__name__ for outcome in outcomes().values()} == {"Applied"}


def test_killed_and_resumed(monkeypatch):
    wanted = expected("ddp")
    ranks = Ranks(own_loop, {SECOND: [SaveCheckpoint()]}, SECOND + 2)
    assert ranks.join() == [-signal.SIGKILL] * 2
    order = find_order(Home.find(), parse_target("latest"))
    assert order.step == SECOND
    monkeypatch.setenv(*next(iter(order.environment().items())))
    assert_same(on_each(own_loop, {}), wanted)
