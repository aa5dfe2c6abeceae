"""What a watched loop records, and how it is steered to its end."""

from __future__ import annotations

import pytest
import torch
from otf_hooks import NonFinite, watch
from otf_hooks.checkpoint import load
from otf_session.commands import (
    CheckHealth,
    Extend,
    LoadCheckpoint,
    Note,
    Pause,
    Prove,
    Resume,
    RunFor,
    SaveCheckpoint,
    Stop,
)
from otf_session.events import (
    CheckpointSaved,
    CommandChanged,
    DeterminismAssessed,
    EpochStarted,
    GuardTripped,
    LimitsChanged,
    LogLine,
    NoteAdded,
    StateChanged,
)
from torch import nn

from ..conftest import make_loader, make_parts
from ..record import latest_folder, of, series, states, summary
from .conftest import EPOCH, Loop, ask


def outcome_of(kind):
    return next(
        event.outcome
        for event in of(CommandChanged)
        if event.outcome is not None and isinstance(event.command, kind)
    )


def last_checkpoint(label):
    saved = [event for event in of(CheckpointSaved) if event.label == label][-1]
    return saved, load(latest_folder() / saved.path, saved.sha256)


def test_every_step_is_recorded_once_with_what_was_true_at_it():
    loop = Loop()
    loop.run()
    assert series("loss") == list(enumerate(loop.losses, 1))
    assert {value for _, value in series("lr")} == {0.1}
    assert all(value > 0 for name in ("throughput", "step_time") for _, value in series(name))
    assert [(event.epoch, event.step) for event in of(EpochStarted)] == [(1, 0), (2, EPOCH)]
    assert states() == ["running", "finished"]
    assert of(LimitsChanged)[-1].max_epochs == 2
    assert of(LimitsChanged)[-1].steps_per_epoch == EPOCH
    assert loop.epochs_seen == [0, 1]


def test_epochs_may_be_counted_from_1():
    loop = Loop()
    with loop.watching as run:
        assert list(run.epochs(3, start=1)) == [1, 2, 3]


def test_metrics_of_an_epoch_are_recorded_at_its_last_step_and_the_best_is_saved():
    values = iter([0.5, 0.7, float("nan"), 0.4])
    loop = Loop()
    loop.run(4, lambda run: run.log(val_loss=next(values), f1=0.9))
    assert [step for step, _ in series("val_loss")] == [8, 16, 24, 32]
    assert [(s.step, s.score) for s in of(CheckpointSaved) if s.label == "best"] == [
        (8, 0.5),
        (32, 0.4),
    ]


def test_several_learning_rates_have_names_of_their_own():
    parts = make_parts()
    first, *rest = parts["model"].parameters()
    optimizer = torch.optim.SGD([{"params": [first], "lr": 0.5}, {"params": rest}], lr=0.1)
    with watch(parts["model"], optimizer, project="p", auto_connect=False) as run:
        run.step()
    assert series("lr/0") == [(1, 0.5)]
    assert series("lr/1") == [(1, 0.1)]


def test_a_step_is_a_call_and_its_batches_are_counted_together():
    loop = Loop()
    with loop.watching as run:
        for _ in run.epochs(2):
            for _ in run.batches(loop.loader):
                assert run.batch < EPOCH
                if run.batch % 4 == 3:
                    run.step(loss=0.1)
    assert [step for step, _ in series("loss")] == [1, 2, 3, 4]
    # Not a batch a step, as was thought before the first epoch had ended.
    assert of(LimitsChanged)[-1].steps_per_epoch == 2


# Steering


def test_a_stop_ends_the_pass_and_the_epochs_and_the_script_goes_on():
    loop, after = Loop({5: Stop()}), []
    weights = loop.run(9, lambda run: after.append((run.should_stop, run.log(val_loss=1.0))))
    assert len(loop.losses) == 5
    assert after == [(True, None)]
    assert states() == ["running", "stopped"]
    assert outcome_of(Stop).step == 5
    saved, state = last_checkpoint("final")
    assert (saved.step, state["findings"]) == (5, [])
    assert torch.equal(state["model"]["0.weight"], weights["0.weight"])
    # What the script does afterwards is its own, and is recorded.
    assert series("val_loss") == [(5, 1.0)]


def test_a_pause_waits_for_the_end_of_what_the_script_does_at_a_step():
    seen = []

    def note(run):
        seen.append(run.steps)

    loop = Loop({3: [Pause(), Note(text="held"), Resume(), note]})
    loop.run(1)
    assert seen == [3]
    assert outcome_of(Pause).step == 3
    assert [event.step for event in of(NoteAdded)] == [3]
    assert states() == ["running", "paused", "running", "finished"]


def test_run_for_an_epoch_pauses_between_two():
    loop = Loop({3: RunFor(epochs=1)})
    # Resumed from where the pause finds it.
    held = []

    def resume_when_held(run):
        if not held:
            held.append(run.steps)
            ask(run, Resume())

    loop.run(2, resume_when_held)
    assert [event.step for event in of(StateChanged) if event.state.value == "paused"] == [EPOCH]
    assert states()[-1] == "finished"


def test_a_run_is_extended_while_it_trains():
    loop = Loop({12: Extend(epochs=1)})
    loop.run(2)
    assert loop.epochs_seen == [0, 1, 2]
    assert len(loop.losses) == 3 * EPOCH


def test_a_run_whose_end_nobody_knows_is_not_extended():
    loop = Loop({2: Extend(steps=3)})
    with loop.watching as run:
        for batch in run.batches(loop.loader):
            loop.one(run, batch)
    assert "when the script says so" in outcome_of(Extend).reason


def test_a_lingering_run_trains_as_much_again_within_its_loop(monkeypatch):
    from otf_hooks.engine import Engine

    monkeypatch.setattr(Engine, "is_watched", property(lambda engine: True))
    loop, asked = Loop(linger=True), []
    linger = Engine.linger

    def resumed_once(engine, reason):
        asked.append(reason)
        command = Resume() if len(asked) == 1 else Stop()
        ask(loop.watching, command)
        return linger(engine, reason)

    monkeypatch.setattr(Engine, "linger", resumed_once)
    loop.run(2)
    assert loop.epochs_seen == [0, 1, 2, 3]
    assert "trains another 2 epoch(s)" in asked[0]
    assert [saved.step for saved in of(CheckpointSaved) if saved.label == "final"] == [16, 32]


def test_a_limit_of_steps_ends_a_pass_where_it_can_be_gone_on_from():
    loop = Loop(max_steps=11)
    loop.run(9)
    assert len(loop.losses) == 11
    saved, state = last_checkpoint("final")
    assert (saved.step, state["findings"]) == (11, [])
    assert (state["data"]["under_way"], state["data"]["batch"]) == (True, 3)
    assert states() == ["running", "finished"]


def test_a_limit_of_steps_at_the_end_of_an_epoch_is_that_of_the_epoch():
    loop, after = Loop(max_steps=EPOCH), []
    loop.run(9, lambda run: after.append(run.steps))
    assert after == [EPOCH]
    assert not last_checkpoint("final")[1]["data"]["under_way"]


def test_what_is_done_on_the_way_to_another_epoch_is_neither_recorded_nor_lasting():
    seen = []

    def after_epoch(run):
        seen.append((run.steps, run.has_moved))
        run.log(val_loss=float(len(seen)))
        with torch.no_grad():
            next(iter(loop.model.parameters())).add_(float(run.has_moved))

    loop = Loop({3: SaveCheckpoint(name="a"), 12: LoadCheckpoint(checkpoint="a")})
    weights = loop.run(2, after_epoch)
    assert seen == [(8, False), (3, True), (8, False), (16, False)]
    assert loop.epochs_seen == [0, 1, 0, 1]
    assert [value for _, value in series("val_loss")] == [1.0, 3.0, 4.0]
    wanted = Loop().run(2)
    assert all(torch.equal(weights[name], wanted[name]) for name in wanted)


def test_a_rewind_within_an_epoch_goes_on_in_the_same_pass():
    after = []
    loop = Loop({3: SaveCheckpoint(name="a"), 6: LoadCheckpoint(checkpoint="a")})
    batches = []
    with loop.watching as run:
        for _ in run.epochs(1):
            for batch in run.batches(loop.loader):
                batches.append(run.batch)
                loop.one(run, batch)
            after.append(run.has_moved)
    assert batches == [0, 1, 2, 3, 4, 5, 3, 4, 5, 6, 7]
    assert after == [False]


def test_what_the_script_keeps_in_state_is_put_back():
    seen = []

    def count(run):
        run.state["count"] = run.state.get("count", 0) + 1
        seen.append(run.state["count"])

    plan = {step: [count] for step in range(1, 9)}
    plan[2].append(SaveCheckpoint(name="a"))
    plan[5].append(lambda run: run.state.update(late=1))
    plan[5].append(LoadCheckpoint(checkpoint="a"))
    loop = Loop(plan)
    with loop.watching as run:
        for _ in run.epochs(1):
            for batch in run.batches(loop.loader):
                loop.one(run, batch)
                if run.steps == 3 and len(loop.losses) > 5:
                    assert run.state == {"count": 2}
    assert seen == [1, 2, 3, 4, 5, 3, 4, 5]


def test_a_script_that_counts_its_epochs_itself_cannot_be_taken_to_another():
    loop = Loop({3: SaveCheckpoint(name="a"), 12: LoadCheckpoint(checkpoint="a")})
    with loop.watching as run:
        for _ in range(2):
            for batch in run.batches(loop.loader):
                loop.one(run, batch)
    assert "run.epochs" in outcome_of(LoadCheckpoint).reason
    assert len(loop.losses) == 16
    assert [event.epoch for event in of(EpochStarted)] == [1, 2]


def test_a_proof_is_refused_with_its_reason():
    Loop({3: Prove(steps=2)}).run(1)
    assert "the script's own code" in outcome_of(Prove).reason


def test_its_health_is_checked_as_far_as_no_step_has_to_be_trained_on_trial():
    checks = ["distribution", "throughput"]
    bare = Loop().run(1)
    loop = Loop({5: [CheckHealth(check=name) for name in checks]})
    weights = loop.run(1)
    outcomes = [event.outcome for event in of(CommandChanged) if event.outcome is not None]
    assert type(outcomes[0]).__name__ == "Applied"
    assert "the script's own code" in outcomes[1].reason
    assert all(torch.equal(weights[name], bare[name]) for name in bare)


def test_a_guard_knows_the_batch():
    loop = Loop(guards=[NonFinite("warn")])
    with loop.watching as run:
        for _ in run.epochs(2):
            for _ in run.batches(loop.loader):
                run.step(loss=float("nan") if run.steps == 10 else 1.0)
    (trip,) = of(GuardTripped)
    assert trip.step == 11
    assert trip.indices in ([], list(range(16, 24)))


def test_a_guard_that_watches_gradients_has_their_norm_though_they_are_cleared():
    loop = Loop(guards=[NonFinite("warn", gradients=True)])
    with loop.watching as run:
        for batch in run.batches(loop.loader):
            loss = nn.functional.cross_entropy(loop.model(batch[0]), batch[1])
            loss.backward()
            grads = [p.grad for p in loop.model.parameters()]
            norm = torch.linalg.vector_norm(
                torch.stack([torch.linalg.vector_norm(g) for g in grads])
            )
            loop.optimizer.step()
            loop.optimizer.zero_grad()
            run.step(loss=loss)
    assert series("grad_norm")[-1] == (EPOCH, pytest.approx(norm.item()))


def test_a_guard_stops_the_loop():
    loop = Loop(guards=[NonFinite("stop")])
    with loop.watching as run:
        for _ in run.epochs(500):
            for _ in run.batches(loop.loader):
                run.step(loss=float("nan") if run.steps > 40 else 1.0)
    assert states()[-1] == "stopped"


# Without batches


def test_steps_alone_are_recorded_and_a_stop_leads_out_of_a_loop_that_does_not_ask():
    loop, after = Loop({3: Stop()}), []
    with loop.watching as run:
        while True:
            loop.one(run, next(iter(loop.loader)))
    after.append(run.steps)
    assert after == [4]
    assert len(loop.losses) == 4
    assert states() == ["running", "stopped"]
    assert last_checkpoint("final")[0].step == 4


def test_a_loop_that_asks_ends_by_itself():
    loop = Loop({3: Stop()})
    with loop.watching as run:
        while not run.should_stop:
            loop.one(run, next(iter(loop.loader)))
        loop.one(run, next(iter(loop.loader)))
        run.log(end=1.0)
    assert series("end") == [(4, 1.0)]
    assert [step for step, _ in series("loss")] == [1, 2, 3, 4]


def test_steps_alone_end_at_their_limit():
    loop = Loop(max_steps=3)
    with loop.watching as run:
        while True:
            loop.one(run, next(iter(loop.loader)))
    assert len(loop.losses) == 3
    assert states() == ["running", "finished"]


def test_going_back_without_batches_puts_the_weights_back_and_says_what_it_cannot():
    kept = []

    def keep(run):
        kept.append(loop.model[0].weight.detach().clone())

    # The safe point is in the call of run.step: what is asked for behind it waits for the next.
    loop = Loop({2: SaveCheckpoint(name="a"), 3: keep, 5: LoadCheckpoint(checkpoint="a")})
    with loop.watching as run:
        for _ in range(6):
            before = run.steps
            loop.one(run, next(iter(loop.loader)))
            if before > run.steps:
                kept.append(loop.model[0].weight.detach().clone())
    assert torch.equal(kept[0], kept[1])
    outcome = outcome_of(LoadCheckpoint)
    assert (outcome.step, outcome.result.exact) == (3, False)
    assert "run.batches" in outcome.result.findings[0]
    assert not of(DeterminismAssessed)[-1].exact


def test_a_run_without_a_model_is_recorded_and_cannot_be_taken_back():
    with watch(project="p", run_name="r", auto_connect=False) as run:
        for number in range(4):
            run.step(loss=1.0 / (number + 1))
            if number == 1:
                ask(run, SaveCheckpoint(name="a"))
            if number == 2:
                ask(run, LoadCheckpoint(checkpoint="a"))
    assert [step for step, _ in series("loss")] == [1, 2, 3, 4]
    assert "no model" in outcome_of(LoadCheckpoint).reason


def test_a_print_and_a_tunable():
    loop = Loop()
    with loop.watching as run:
        assert run.tunable("temperature", 0.5, low=0.0) == 0.5
        run.print("warming up", 3)
    assert "warming up 3" in [line.text for line in of(LogLine)]


# Ends


def test_an_exception_is_recorded_and_goes_on_unchanged():
    error = ValueError("the script's own")
    loop = Loop({5: lambda run: (_ for _ in ()).throw(error)})
    with pytest.raises(ValueError, match="the script's own") as raised:
        loop.run()
    assert raised.value is error
    assert states() == ["running", "failed"]
    # Behind the step, in the midst of what the script does at it.
    _, state = last_checkpoint("interrupted")
    assert "in the midst of a step" in state["findings"][0]


def test_a_state_that_the_optimizer_has_begun_to_change_is_not_saved():
    loop = Loop({2: lambda run: loop.optimizer.register_step_post_hook(fail)})

    def fail(*_):
        raise RuntimeError("behind the optimizer's step")

    with pytest.raises(RuntimeError, match="behind the optimizer's step"):
        loop.run()
    assert states() == ["running", "failed"]
    assert "interrupted" not in {saved.label for saved in of(CheckpointSaved)}


def test_ctrl_c_is_a_stop_and_the_state_is_whole(monkeypatch):
    import os
    import signal

    loop = Loop({5: lambda run: os.kill(os.getpid(), signal.SIGINT)})
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    assert states() == ["running", "stopped"]
    saved, state = last_checkpoint("interrupted")
    assert (saved.step, state["findings"]) == (5, [])


def test_a_loop_that_is_left_is_finished_and_says_that_it_may_have_had_more_to_do():
    loop = Loop()
    with loop.watching as run:
        for epoch in run.epochs(9):
            for batch in run.batches(loop.loader):
                loop.one(run, batch)
            if epoch == 1:
                break
    assert states() == ["running", "finished"]
    saved, state = last_checkpoint("final")
    assert saved.step == 16
    assert "the script's own code" in state["findings"][0]


def test_a_pass_may_be_left_and_the_epoch_goes_on():
    loop = Loop()
    with loop.watching as run:
        for _ in run.epochs(2):
            for batch in run.batches(loop.loader):
                loop.one(run, batch)
                if run.batch == 2:
                    break
    assert [(event.epoch, event.step) for event in of(EpochStarted)] == [(1, 0), (2, 3)]
    assert summary().runs[0].step == 6


def test_the_optimizer_is_left_as_it_was():
    from otf_session.commands import SetHyperparameters

    change = SetHyperparameters(values={"grad_clip_norm": 0.1})
    loop = Loop({2: change}, guards=[NonFinite("warn", gradients=True)])
    loop.run(1)
    assert not loop.optimizer._optimizer_step_pre_hooks
    assert not loop.optimizer._optimizer_step_post_hooks


def test_a_second_loader_is_known_by_the_order_in_which_it_is_asked_for():
    loop, other = Loop(), make_loader(16)
    with loop.watching as run:
        for _ in run.epochs(2):
            for loader in (loop.loader, other):
                for batch in run.batches(loader):
                    loop.one(run, batch)
    assert len(loop.losses) == 2 * (EPOCH + 2)
    assert of(LimitsChanged)[-1].steps_per_epoch == EPOCH + 2
