"""What the server remembers of commands, and that it forgets in time."""

import asyncio
from types import SimpleNamespace

import pytest
from otf_serve import docket as module
from otf_serve import hub as hub_module
from otf_serve.docket import Docket
from otf_serve.feed import Live
from otf_serve.pending import Pending
from otf_session.commands import Applied, CommandRequest, Note, Pause, Refused
from otf_session.events import CommandStatus
from otf_session.frames import (
    Batch,
    CommandDelivery,
    CommandProgress,
    CommandQueued,
    CommandReply,
    encode,
)

from .peers import changed
from .test_hub import Recorder, with_hub

APPLIED = Applied(step=1)
LOST = Refused(reason="The connection ended.")


def with_docket(scene):
    async def main():
        await scene(Docket())

    asyncio.run(main())


def posted(recorder, kind):
    return [frame for frame in recorder.posted if isinstance(frame, kind)]


def joined(hub, session="s"):
    trainer = Recorder()
    hub.join_trainer(session, trainer, 0)
    return trainer


def submit(hub, command_id, command=None, answers=None, session="s"):
    heard = [] if answers is None else answers
    return hub.submit(session, command_id, "me", command or Pause(), heard.append)


def progress(done, command_id="1", session="s"):
    return CommandProgress(session=session, id=command_id, done=done, total=9, unit="batches")


def publish(hub, *events, session="s"):
    batch = Batch(session=session, first=1, events=list(events))
    hub.publish(Live(batch, encode(batch)))


def request(command_id="1"):
    return CommandRequest(id=command_id, author="me", command=Pause())


# Cases


def test_a_case_is_answered_by_what_is_known_when_the_time_is_up():
    async def scene(docket):
        case = docket.open("s", "1")
        assert await case.answer(0) == Pending(id="1", session="s", status="queued")
        case.is_received, case.progress = True, progress(3)
        assert await case.answer(0.01) == Pending(
            id="1", session="s", status="received", progress=progress(3)
        )
        waiting = asyncio.ensure_future(case.answer(60))
        await asyncio.sleep(0)
        docket.settle("s", "1", APPLIED, certain=True)
        reply = CommandReply(id="1", session="s", outcome=APPLIED)
        assert await asyncio.wait_for(waiting, 5) == reply
        assert await case.answer(0) == reply

    with_docket(scene)


@pytest.mark.parametrize(
    ("words", "end"),
    [
        ([(LOST, False), (APPLIED, True)], APPLIED),
        ([(APPLIED, True), (LOST, False)], APPLIED),
        ([(APPLIED, True), (Applied(step=2), True)], APPLIED),
        ([(LOST, False), (Refused(reason="again"), False)], LOST),
    ],
)
def test_the_trainer_s_word_is_the_last_and_everyone_is_told_once(words, end):
    async def scene(docket):
        told = []
        case = docket.open("s", "1")
        case.when_settled(told.append)
        for outcome, certain in words:
            assert docket.settle("s", "1", outcome, certain=certain) is case
        assert case.outcome == end
        assert told == [words[0][0]]
        case.when_settled(told.append)
        assert told == [words[0][0], end]

    with_docket(scene)


def test_of_many_ended_commands_the_newest_are_remembered(monkeypatch):
    monkeypatch.setattr(module, "_MOST_ENDED", 3)

    async def scene(docket):
        waiting = docket.open("s", "waiting")
        for number in range(10):
            docket.open("s", str(number))
            docket.settle("s", str(number), APPLIED, certain=True)
        found = [str(number) for number in range(10) if docket.find("s", str(number))]
        assert found == ["7", "8", "9"]
        # What has no outcome yet is never forgotten.
        assert docket.find("s", "waiting") is waiting
        assert docket.waiting("s") == [waiting]

    with_docket(scene)


def test_sessions_do_not_mix():
    async def scene(docket):
        one, two = docket.open("one", "1"), docket.open("two", "1")
        docket.settle("one", "1", APPLIED, certain=True)
        assert (one.outcome, two.outcome) == (APPLIED, None)
        assert (docket.waiting("one"), docket.waiting("two")) == ([], [two])

    with_docket(scene)


# The hub's


def test_every_submitted_command_is_shown_to_every_dashboard():
    def scene(hub):
        trainer, viewers = joined(hub), [Recorder(), Recorder()]
        for viewer in viewers:
            hub.join_viewer(viewer)
        submit(hub, "1")
        queued = CommandQueued(session="s", request=request())
        for viewer in viewers:
            assert posted(viewer, CommandQueued) == [queued]
        assert posted(trainer, CommandDelivery) == [CommandDelivery(request=request())]
        # Not what is not passed on.
        submit(hub, "1")
        submit(hub, "2", session="nobody")
        for viewer in viewers:
            assert posted(viewer, CommandQueued) == [queued]

    with_hub(scene)


def test_progress_is_relayed_to_every_dashboard_and_not_too_often(monkeypatch):
    clock = iter([100.0, 100.05, 100.09, 100.11, 200.0])
    # The hub's alone: the event loop has its own use for the real one.
    monkeypatch.setattr(hub_module, "time", SimpleNamespace(monotonic=lambda: next(clock)))

    def scene(hub):
        joined(hub)
        viewer = Recorder()
        hub.join_viewer(viewer)
        case = submit(hub, "1")
        for done in range(1, 5):
            hub.progress(progress(done))
        assert posted(viewer, CommandProgress) == [progress(1), progress(4)]
        assert case.progress == progress(4)
        # After the outcome there is no more.
        hub.answer(CommandReply(id="1", session="s", outcome=APPLIED))
        hub.progress(progress(5))
        assert len(posted(viewer, CommandProgress)) == 2

    with_hub(scene)


def test_what_the_record_says_counts_as_the_trainer_s_word():
    def scene(hub):
        joined(hub)
        answers = []
        case = submit(hub, "1", answers=answers)
        assert not case.is_received
        publish(hub, changed(request(), CommandStatus.RECEIVED))
        assert (case.is_received, answers) == (True, [])
        publish(hub, changed(request(), CommandStatus.APPLIED, APPLIED))
        hub.answer(CommandReply(id="1", session="s", outcome=Applied(step=99)))
        assert answers == [APPLIED]

    with_hub(scene)


def test_a_reply_before_anybody_looks_is_kept_for_them():
    # A command of another server: its reply comes between reading the record and waiting for it.
    def scene(hub):
        joined(hub)
        assert hub.case("s", "1") is None
        hub.answer(CommandReply(id="1", session="s", outcome=APPLIED))
        assert hub.adopt("s", "1").outcome == APPLIED

    with_hub(scene)


def test_a_trainer_that_comes_back_is_waited_for_again():
    def scene(hub):
        trainer = joined(hub)
        case = submit(hub, "1")
        hub.leave_trainer("s", trainer)
        assert case.is_interrupted
        joined(hub)
        again = hub.adopt("s", "1")
        assert (again.outcome, again.is_received) == (None, True)
        assert hub.adopt("s", "1") is again
        hub.answer(CommandReply(id="1", session="s", outcome=APPLIED))
        assert hub.case("s", "1").outcome == APPLIED

    with_hub(scene)


def test_a_trainer_is_not_given_more_commands_than_it_gets_done(monkeypatch):
    monkeypatch.setattr(hub_module, "_MOST_WAITING", 3)

    def scene(hub):
        trainer, other, answers = joined(hub), joined(hub, "other"), []
        for number in range(5):
            submit(hub, str(number), answers=answers)
        assert len(posted(trainer, CommandDelivery)) == 3
        assert [type(answer) for answer in answers] == [Refused, Refused]
        assert "3 commands wait" in answers[0].reason
        submit(hub, "1", session="other")
        assert len(posted(other, CommandDelivery)) == 1
        hub.answer(CommandReply(id="0", session="s", outcome=APPLIED))
        submit(hub, "5", answers=answers)
        assert len(posted(trainer, CommandDelivery)) == 4

    with_hub(scene)


def test_a_command_that_would_not_fit_the_trainer_s_link_is_refused():
    def scene(hub):
        trainer, answers = joined(hub), []
        submit(hub, "1", Note(text="x" * hub_module.LARGEST_COMMAND), answers)
        assert "65536 bytes" in answers[0].reason
        assert posted(trainer, CommandDelivery) == []
        submit(hub, "2", Note(text="x" * (hub_module.LARGEST_COMMAND - 200)), answers)
        assert len(posted(trainer, CommandDelivery)) == 1

    with_hub(scene)


def test_without_a_trainer_the_given_reason_is_said():
    def scene(hub):
        answers = []
        hub.submit("s", "1", "me", Pause(), answers.append, absence="It ended.")
        submit(hub, "2", answers=answers)
        assert [answer.reason for answer in answers] == [
            "It ended.",
            "The session's trainer is not connected to this server.",
        ]

    with_hub(scene)
