"""Commands to a watched loop, beside those that the other files here give."""

from __future__ import annotations

import logging

import torch
from otf_session.commands import Cancel, LoadCheckpoint, Pause, Resume, SaveCheckpoint, Test
from otf_session.events import CommandChanged, LogLine, RunStarted
from otf_session.resume import How

from ..conftest import make_loader
from ..going_on import go_on
from ..record import of, series, summary
from .conftest import Loop, ask
from .scenarios import BATCHES, Steered, bare


def outcomes():
    return [event.outcome for event in of(CommandChanged) if event.outcome is not None]


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in other)


def test_loaded_as_a_new_run_the_old_one_stays_as_it_is():
    wanted = bare("dropout")
    steered = Steered("dropout").at(5, SaveCheckpoint(name="one"))
    load = LoadCheckpoint(checkpoint="one", as_new_run=True, run="other")
    assert same(steered.at(BATCHES + 5, load).run(), wanted)
    assert [(run.name, run.parents, run.step) for run in summary().runs] == [
        ("baseline", [], BATCHES + 5),
        ("other", ["baseline"], 3 * BATCHES),
    ]


def test_a_pause_that_releases_changes_nothing():
    wanted = bare("dropout")
    steered = Steered("dropout").at(5, Pause(release=True), Resume())
    assert same(steered.run(), wanted)
    paused, _ = outcomes()
    assert "in host memory already" in paused.message


def test_an_evaluation_is_broken_off():
    wanted, loop, batches = Loop().run(), Loop({3: Test()}), []
    with loop.watching as run:

        @run.evaluator("test", make_loader(20))
        def evaluate(batch):
            batches.append(batch)
            ask(run, Cancel())
            return {"loss": 1.0}

        for _ in run.epochs(2):
            for batch in run.batches(loop.loader):
                loop.one(run, batch)
    assert len(batches) == 1
    assert [type(outcome).__name__ for outcome in outcomes()] == ["Applied", "Refused"]
    assert series("test_loss") == []
    assert same(loop.model.state_dict(), wanted)


def test_weights_alone_begin_a_new_run(monkeypatch):
    wanted = Loop().run()
    go_on(monkeypatch, how=How.WEIGHTS_ONLY)
    loop, began = Loop(), []
    with loop.watching as run:
        began.append(loop.model[0].weight.detach().clone())
        loop.one(run, next(iter(loop.loader)))
    assert torch.equal(began[0], wanted["0.weight"])
    assert [(event.run, event.step) for event in of(RunStarted)] == [("r", 0), ("r-2", 0)]


def test_lines_that_the_script_logs_are_recorded():
    loop = Loop({3: lambda run: logging.getLogger("script").warning("it is %s", "warm")})
    loop.run(1)
    (line,) = [line for line in of(LogLine) if line.logger == "script"]
    assert (line.text, line.step) == ("it is warm", 3)
