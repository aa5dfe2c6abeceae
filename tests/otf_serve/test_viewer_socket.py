import asyncio

import pytest
from otf_serve import feed, peer
from otf_serve.catalog import Catalog
from otf_session.commands import Applied, Pause, Refused, Resume, Stop
from otf_session.errors import SessionError
from otf_session.events import RunState
from otf_session.frames import (
    PROTOCOL,
    Batch,
    Behind,
    CommandDelivery,
    CommandReply,
    CommandSubmission,
    DashboardWelcome,
    SessionChanged,
    SessionGone,
    Subscribe,
    Unsubscribe,
    Viewers,
)
from otf_session.home import DATABASE

from ..helpers.sessions import line, losses, started, state
from ..helpers.vocabulary import EVENTS
from ..helpers.waiting import wait_for
from .peers import joined, viewer_of


def submit(viewer, store, command, command_id="1"):
    viewer.send(CommandSubmission(id=command_id, session=store.id, command=command))


def outcome(viewer, command_id="1"):
    return viewer.get(CommandReply, lambda reply: reply.id == command_id).outcome


# Greeting


def test_a_dashboard_is_greeted_with_all_sessions(api, make, home, settings):
    one, two = make(*EVENTS, project="one"), make(project="two")
    with joined(api, two), viewer_of(api) as viewer:
        welcome = viewer.welcome
    assert isinstance(welcome, DashboardWelcome)
    assert (welcome.protocol, welcome.server_version) == (PROTOCOL, settings.version)
    assert welcome.home == str(home.path)
    found = {summary.id: summary for summary in welcome.sessions}
    assert set(found) == {one.id, two.id}
    assert (found[one.id].project, found[one.id].last_seq) == ("one", len(EVENTS))
    assert (found[one.id].connected, found[two.id].connected) == (False, True)


def test_a_damaged_session_is_not_in_the_greeting(api, make):
    whole, damaged = make(started()), make(started())
    damaged.close()
    (damaged.folder / DATABASE).write_bytes(b"no database" * 1000)
    with viewer_of(api) as viewer:
        assert [summary.id for summary in viewer.welcome.sessions] == [whole.id]


# Events


def test_stored_events_come_and_then_live_ones(api, make):
    store = make(*EVENTS)
    with viewer_of(api) as viewer, joined(api, store) as trainer:
        viewer.subscribe(store)
        assert viewer.events(store, len(EVENTS)) == EVENTS
        for number in range(5):
            trainer.publish(line(number), losses(number + 1, number + 1))
        found = viewer.events(store, len(EVENTS) + 10, after=len(EVENTS))
        assert found[::2] == [line(number) for number in range(5)]


def test_what_is_published_while_a_dashboard_subscribes_comes_once(api, make):
    store = make(started(), *[line(number) for number in range(1, 1200)])
    with viewer_of(api) as viewer, joined(api, store) as trainer:
        viewer.subscribe(store)
        for number in range(1200, 1300):
            trainer.publish(line(number))
        found = viewer.events(store, 1300)
        assert found == [started(), *[line(number) for number in range(1, 1300)]]


def test_a_dashboard_with_a_snapshot_gets_what_is_newer(api, make):
    store = make(*EVENTS)
    with viewer_of(api) as viewer:
        viewer.subscribe(store, after=7)
        assert viewer.events(store, len(EVENTS), after=7) == EVENTS[7:]


def test_batches_that_were_lost_on_the_way_are_read_from_the_store(api, make):
    store = make(started())
    with viewer_of(api) as viewer, joined(api, store) as trainer:
        viewer.subscribe(store)
        viewer.events(store, 1)
        trainer.append(line(1), line(2))
        trainer.publish(line(3))
        assert viewer.events(store, 4, after=1) == [line(1), line(2), line(3)]


def test_what_a_trainer_writes_without_a_link_is_shown_too(api, make):
    store = make(started())
    with viewer_of(api) as viewer:
        viewer.subscribe(store)
        assert viewer.events(store, 1) == [started()]
        for number in range(1, 4):
            store.append([line(number), losses(number, number)])
            found = viewer.events(store, 1 + 2 * number, after=2 * number - 1)
            assert found == [line(number), losses(number, number)]
        store.append([state(RunState.FINISHED, step=3)])
        assert viewer.events(store, 8, after=7) == [state(RunState.FINISHED, step=3)]
        # A script goes on writing: a test of the weights, a line of its log.
        store.append([line(9)])
        store.close()
        assert viewer.events(store, 9, after=8) == [line(9)]


def test_what_was_written_before_a_trainer_is_linked_comes_once(api, make):
    store = make(started())
    with viewer_of(api) as viewer:
        viewer.subscribe(store)
        for number in range(20):
            store.append([line(number)])
        with joined(api, store) as trainer:
            for number in range(20, 120):
                trainer.publish(line(number))
            found = viewer.events(store, 121)
    assert found == [started(), *[line(number) for number in range(120)]]


def test_every_dashboard_gets_every_event(api, make):
    store = make(started())
    with viewer_of(api) as one, viewer_of(api) as two, joined(api, store) as trainer:
        one.subscribe(store)
        trainer.publish(line(1))
        two.subscribe(store, after=1)
        trainer.publish(line(2))
        assert one.events(store, 3) == [started(), line(1), line(2)]
        assert two.events(store, 3, after=1) == [line(1), line(2)]


def test_events_come_for_what_is_subscribed_alone(api, make):
    watched, other = make(started()), make(started())
    with viewer_of(api) as viewer, joined(api, watched) as one, joined(api, other) as two:
        viewer.subscribe(watched, after=1)
        two.publish(line(1))
        one.publish(line(2))
        assert viewer.get(Batch).session == watched.id


def test_no_events_come_after_unsubscribing(api, make):
    store = make(started())
    with viewer_of(api) as viewer, joined(api, store) as trainer:
        viewer.subscribe(store)
        viewer.events(store, 1)
        viewer.send(Unsubscribe(session=store.id))
        viewer.send(Unsubscribe(session=store.id))
        # The answer shows that the server has read so far.
        submit(viewer, store, Pause())
        trainer.answer(Applied(step=1))
        outcome(viewer)
        trainer.publish(line(1))
        submit(viewer, store, Pause(), "2")
        trainer.answer(Applied(step=2))
        while not isinstance(frame := viewer.next(), CommandReply):
            assert not isinstance(frame, Batch)
        viewer.subscribe(store, after=1)
        assert viewer.events(store, 2, after=1) == [line(1)]


def test_subscribing_again_begins_again(api, make):
    store = make(started(), line(1), line(2))
    with viewer_of(api) as viewer, joined(api, store) as trainer:
        viewer.subscribe(store)
        viewer.events(store, 3)
        viewer.subscribe(store, after=1)
        assert viewer.events(store, 3, after=1) == [line(1), line(2)]
        trainer.publish(line(3))
        assert viewer.events(store, 4, after=3) == [line(3)]


def test_nothing_is_left_running_for_what_is_not_watched_any_more(api, make):
    store = make(started())

    def tasks():
        return api.portal.call(lambda: len(asyncio.all_tasks()))

    with viewer_of(api) as viewer:
        before = tasks()
        for _ in range(5):
            viewer.subscribe(store)
            viewer.events(store, 1)
        assert tasks() > before
        viewer.send(Unsubscribe(session=store.id))
        wait_for(lambda: tasks() <= before, "the end of the feeds")


def test_events_before_the_first_are_none(api, make):
    store = make(started(), line(1))
    with viewer_of(api) as viewer:
        viewer.send(Subscribe(session=store.id, after=-5))
        assert viewer.events(store, 2) == [started(), line(1)]


@pytest.mark.parametrize("session", ["nothing", "latest", "..", "x" * 300])
def test_a_session_that_does_not_exist_is_gone(api, session):
    with viewer_of(api) as viewer:
        viewer.send(Subscribe(session=session, after=0))
        assert viewer.get(SessionGone) == SessionGone(session=session)


def test_a_session_that_cannot_be_read_is_gone(api, make):
    store = make(started())
    store.close()
    (store.folder / DATABASE).write_bytes(b"no database" * 1000)
    with viewer_of(api) as viewer:
        viewer.subscribe(store)
        assert viewer.get(SessionGone) == SessionGone(session=store.id)


def test_a_dashboard_too_far_behind_is_told_so_and_goes_on_from_a_snapshot(api, make, monkeypatch):
    monkeypatch.setattr(feed, "MOST_BEHIND", 10)
    store = make(started(), *[line(number) for number in range(1, 21)])
    with viewer_of(api) as viewer, joined(api, store) as trainer:
        viewer.subscribe(store)
        assert viewer.get(Behind) == Behind(session=store.id)
        snapshot = api.get(f"/api/sessions/{store.id}/snapshot").json()
        viewer.subscribe(store, after=snapshot["seq"])
        trainer.publish(line(21))
        assert viewer.events(store, 22, after=21) == [line(21)]


def test_frames_that_cannot_be_read_are_passed_over(api, make):
    store = make(started())
    with viewer_of(api) as viewer:
        for text in ("", "{", '{"frame": "trainer-hello"}', '{"frame": "of-tomorrow"}'):
            viewer.send_text(text)
        viewer.send_bytes(b"\x00\xff")
        viewer.subscribe(store)
        assert viewer.events(store, 1) == [started()]


# Commands


@pytest.mark.parametrize("command", [Pause(), Resume(), Stop()])
@pytest.mark.parametrize("answer", [Applied(step=7, message="Done."), Refused(reason="No.")])
def test_a_command_reaches_the_trainer_and_its_answer_the_dashboard(api, make, command, answer):
    store = make(started())
    with viewer_of(api) as viewer, joined(api, store) as trainer:
        submit(viewer, store, command, "abc")
        request = trainer.answer(answer).request
        assert (request.id, request.author, request.command) == ("abc", "dashboard", command)
        assert viewer.get(CommandReply) == CommandReply(id="abc", session=store.id, outcome=answer)


def test_the_answer_goes_to_who_asked(api, make):
    store = make(started())
    with viewer_of(api) as asking, viewer_of(api) as watching, joined(api, store) as trainer:
        submit(asking, store, Pause(), "1")
        trainer.answer(Applied(step=1))
        assert outcome(asking) == Applied(step=1)
        submit(watching, store, Resume(), "2")
        trainer.answer(Applied(step=2))
        assert watching.get(CommandReply).id == "2"


def test_a_command_for_a_session_without_a_trainer_is_refused(api, make):
    store = make(started())
    with viewer_of(api) as viewer:
        submit(viewer, store, Pause())
        assert "not connected" in outcome(viewer).reason


def test_an_id_that_is_under_way_is_refused(api, make):
    store = make(started())
    with viewer_of(api) as viewer, joined(api, store) as trainer:
        submit(viewer, store, Pause(), "1")
        submit(viewer, store, Stop(), "1")
        assert "under way already" in outcome(viewer).reason
        assert trainer.answer(Applied(step=1)).request.command == Pause()
        assert outcome(viewer) == Applied(step=1)
        # The second one never came to the trainer, and the id is free again.
        submit(viewer, store, Resume(), "1")
        assert trainer.get(CommandDelivery).request.command == Resume()


def test_a_trainer_that_goes_has_its_commands_answered(api, make):
    store = make(started())
    with viewer_of(api) as viewer:
        with joined(api, store) as trainer:
            submit(viewer, store, Pause(), "1")
            submit(viewer, store, Stop(), "2")
            trainer.get(CommandDelivery)
            trainer.get(CommandDelivery)
        answers = [viewer.get(CommandReply) for _ in range(2)]
        assert {answer.id for answer in answers} == {"1", "2"}
        for answer in answers:
            assert "connection ended" in answer.outcome.reason


def test_a_dashboard_that_goes_leaves_its_command_to_the_trainer(api, make):
    store = make(started())
    with viewer_of(api) as staying, joined(api, store) as trainer:
        with viewer_of(api) as going:
            submit(going, store, Pause(), "1")
            delivery = trainer.get(CommandDelivery)
        reply = CommandReply(id=delivery.request.id, session=store.id, outcome=Applied(step=1))
        trainer.send(reply)
        submit(staying, store, Resume(), "2")
        trainer.answer(Applied(step=2))
        assert staying.get(CommandReply).id == "2"


# What changes by itself


def test_a_session_that_appears_changes_and_goes_is_told(api, make):
    with viewer_of(api) as viewer:
        store = make(started())

        def told(matches=lambda summary: True):
            return viewer.get(
                SessionChanged,
                lambda frame: frame.session.id == store.id and matches(frame.session),
            )

        assert told().session.state.value == "lost"
        with joined(api, store) as trainer:
            told(lambda summary: summary.connected)
            trainer.publish(state(RunState.PAUSED, step=3))
            found = told(lambda summary: summary.state.value == "paused").session
            assert (found.last_seq, found.runs[0].step) == (2, 3)
        told(lambda summary: not summary.connected)
        store.close()
        for path in (store.folder / DATABASE, *store.folder.glob("*.lock")):
            path.unlink()
        assert viewer.get(SessionGone) == SessionGone(session=store.id)


def test_a_home_that_cannot_be_read_for_a_while_does_not_end_the_telling(
    api, make, home, monkeypatch
):
    make(started()).close()
    aside = home.path / "aside"
    with viewer_of(api) as viewer:
        assert len(viewer.welcome.sessions) == 1
        viewer.get(SessionChanged)
        failed = []
        read = Catalog.summaries

        def summaries(catalog, connected):
            try:
                return read(catalog, connected)
            except SessionError as error:
                failed.append(error)
                raise

        monkeypatch.setattr(Catalog, "summaries", summaries)
        home.sessions.rename(aside)
        home.sessions.touch()
        wait_for(lambda: len(failed) > 1, "looking again after it failed")
        home.sessions.unlink()
        aside.rename(home.sessions)
        store = make(line(1))
        assert viewer.get(SessionChanged).session.id == store.id


def test_a_dashboard_that_does_not_read_is_let_go():
    class Stuck:
        async def send_text(self, text):
            await asyncio.Event().wait()

    async def main():
        stuck = peer.Peer(Stuck())
        draining = asyncio.ensure_future(stuck.drain())
        for count in range(peer._MOST_QUEUED // 2):
            stuck.post(Viewers(count=count))
        await asyncio.sleep(0)
        assert not draining.done()
        for count in range(peer._MOST_QUEUED * 3):
            stuck.post(Viewers(count=count))
        await asyncio.wait_for(draining, 5)
        assert len(stuck._queue) <= peer._MOST_QUEUED + 1

    asyncio.run(main())
