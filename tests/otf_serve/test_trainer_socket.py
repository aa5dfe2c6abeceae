import json

import pytest
from otf_session.commands import Applied, Pause
from otf_session.events import RunState
from otf_session.frames import (
    PROTOCOL,
    Batch,
    CommandDelivery,
    CommandReply,
    CommandSubmission,
    Refusal,
    TrainerWelcome,
    Viewers,
)

from ..helpers.sessions import line, losses, started, state
from ..helpers.waiting import wait_for
from .peers import InThread, joined, trainer_of, viewer_of


def refusal(trainer):
    """The refusal, after which the server hangs up."""
    found = trainer.next()
    assert isinstance(found, Refusal)
    assert trainer.message() == {"type": "websocket.close", "code": 1008, "reason": ""}
    return found


def connected(api, store):
    return api.get(f"/api/sessions/{store.id}").json()["connected"]


def test_a_trainer_is_welcomed(api, make, settings):
    with joined(api, make(started())) as trainer:
        assert trainer.welcome == TrainerWelcome(server_version=settings.version, viewers=0)


@pytest.mark.parametrize(
    ("protocol", "place"), [(PROTOCOL - 1, "training script"), (PROTOCOL + 1, "server")]
)
def test_another_protocol_is_refused_with_what_to_upgrade_where(api, make, protocol, place):
    with trainer_of(api, make(started())) as trainer:
        trainer.hello(protocol=protocol)
        found = refusal(trainer)
    assert f"protocol {protocol}" in found.reason
    assert "version 9.9.9" in found.reason
    assert place in found.remedy
    assert "pip install --upgrade onthefly-ai" in found.remedy


def test_a_trainer_too_old_to_say_its_version_is_refused(api, make):
    store = make(started())
    with trainer_of(api, store) as trainer:
        trainer.send_text(
            json.dumps({"frame": "trainer-hello", "session": store.id, "last_seq": 0})
        )
        assert "version unknown" in refusal(trainer).reason


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "{}",
        '{"frame": "trainer-hello"}',
        '{"type": "session_started", "run": 1}',
        "\0",
    ],
)
def test_one_that_does_not_introduce_itself_is_told_to_upgrade(api, make, text):
    with trainer_of(api, make(started())) as trainer:
        trainer.send_text(text)
        found = refusal(trainer)
    assert found.reason == "The trainer did not say its version."
    assert "pip install --upgrade onthefly-ai" in found.remedy


def test_one_that_begins_with_a_batch_is_refused(api, make):
    with trainer_of(api, make(started())) as trainer:
        trainer.publish(line(1))
        assert refusal(trainer).reason == "The trainer did not say its version."


def test_one_that_begins_in_binary_is_refused(api, make):
    with trainer_of(api, make(started())) as trainer:
        trainer.send_bytes(b"\x00\x01")
        assert refusal(trainer).reason == "The trainer did not say its version."


@pytest.mark.parametrize("session", ["nothing", "", "latest", "..", "../..", "a\0b", "x" * 10_000])
def test_a_session_of_another_home_is_refused_naming_this_one(api, make, home, session):
    with trainer_of(api, make(started())) as trainer:
        trainer.hello(session=session)
        found = refusal(trainer)
    assert str(home.path) in found.reason
    assert "ONTHEFLY_HOME" in found.remedy


def test_the_beginning_of_an_id_is_no_session(api, make):
    store = make(started())
    with trainer_of(api, store) as trainer:
        trainer.hello(session=store.id[:-1])
        assert "ONTHEFLY_HOME" in refusal(trainer).remedy


def test_trainers_are_told_how_many_dashboards_are_open(api, make):
    with joined(api, make(started())) as first:
        assert first.welcome.viewers == 0
        with viewer_of(api):
            assert first.next() == Viewers(count=1)
            with joined(api, make(started())) as second:
                assert second.welcome.viewers == 1
                with viewer_of(api):
                    assert (first.next(), second.next()) == (Viewers(count=2), Viewers(count=2))
                assert (first.next(), second.next()) == (Viewers(count=1), Viewers(count=1))
        assert first.next() == Viewers(count=0)


def test_a_trainer_that_goes_is_no_longer_connected(api, make):
    store = make(started())
    with joined(api, store):
        assert connected(api, store) is True
    wait_for(lambda: connected(api, store) is False, "the trainer's going")


def test_frames_that_cannot_be_read_are_passed_over(api, make):
    store = make(started())
    with viewer_of(api) as viewer, joined(api, store) as trainer:
        viewer.subscribe(store, after=1)
        for text in ("", "{", '{"frame": "batch"}', '{"frame": "of-tomorrow", "x": 1}'):
            trainer.send_text(text)
        trainer.send_bytes(b"\xff")
        trainer.publish(line(1))
        assert viewer.events(store, 2, after=1) == [line(1)]


def test_a_trainer_publishes_its_own_session_alone(api, make):
    store, other = make(started()), make(started())
    with viewer_of(api) as viewer, joined(api, store) as trainer, joined(api, other) as victim:
        for each in (store, other):
            viewer.subscribe(each)
            viewer.events(each, 1)
        trainer.send(Batch(session=other.id, first=2, events=[line(666)]))
        trainer.publish(line(1))
        assert viewer.get(Batch).session == store.id
        victim.publish(line(1))
        assert viewer.events(other, 2, after=1) == [line(1)]


def test_a_trainer_answers_for_its_own_session_alone(api, make):
    store, other = make(started()), make(started())
    with viewer_of(api) as viewer, joined(api, store) as trainer, joined(api, other) as victim:
        viewer.send(CommandSubmission(id="1", session=other.id, command=Pause()))
        victim.get(CommandDelivery)
        trainer.send(CommandReply(id="1", session=other.id, outcome=Applied(step=666)))
        viewer.send(CommandSubmission(id="2", session=store.id, command=Pause()))
        trainer.answer(Applied(step=2))
        assert viewer.get(CommandReply).id == "2"
        victim.send(CommandReply(id="1", session=other.id, outcome=Applied(step=1)))
        assert viewer.get(CommandReply).outcome == Applied(step=1)


def test_an_answer_that_nobody_waits_for_is_passed_over(api, make):
    store = make(started())
    with viewer_of(api) as viewer, joined(api, store) as trainer:
        viewer.subscribe(store, after=1)
        trainer.send(CommandReply(id="unasked", session=store.id, outcome=Applied(step=1)))
        trainer.publish(line(1))
        assert viewer.events(store, 2, after=1) == [line(1)]


def test_two_trainers_are_served_at_once(api, make):
    one, two = make(started()), make(started())
    with viewer_of(api) as viewer, joined(api, one) as first, joined(api, two) as second:
        viewer.subscribe(one, after=1)
        viewer.subscribe(two, after=1)
        for number in range(20):
            first.publish(line(number))
            second.publish(losses(number + 1, number + 1))
        found = {one.id: [], two.id: []}
        while sum(map(len, found.values())) < 40:
            batch = viewer.get(Batch)
            assert batch.first == len(found[batch.session]) + 2
            found[batch.session] += batch.events
        assert found[one.id] == [line(number) for number in range(20)]
        assert found[two.id] == [losses(number, number) for number in range(1, 21)]
        asked = InThread(api.post, f"/api/sessions/{two.id}/commands", json={"kind": "pause"})
        second.answer(Applied(step=2))
        assert asked.result().json()["outcome"]["step"] == 2


def test_a_trainer_that_comes_again_replaces_its_old_connection(api, make):
    store = make(started())
    with joined(api, store) as old, joined(api, store) as new:
        asked = InThread(api.post, f"/api/sessions/{store.id}/commands", json={"kind": "pause"})
        new.answer(Applied(step=3))
        assert asked.result().json()["outcome"]["step"] == 3
        with viewer_of(api) as viewer:
            assert new.next() == Viewers(count=1)
            viewer.subscribe(store)
            # What the old one still had under way is doubled at worst, and then sent once.
            batch = old.append(line(1))
            new.send(batch)
            old.send(batch)
            new.publish(line(2))
            assert viewer.events(store, 3) == [started(), line(1), line(2)]


def test_the_old_connection_s_end_does_not_end_the_new_one(api, make):
    store = make(started())
    with viewer_of(api) as viewer, trainer_of(api, store) as new:
        with joined(api, store):
            new.hello()
            new.get(TrainerWelcome)
        # The old one has left: its block ends when the server's task has.
        viewer.send(CommandSubmission(id="1", session=store.id, command=Pause()))
        new.answer(Applied(step=5))
        assert viewer.get(CommandReply).outcome == Applied(step=5)
        assert connected(api, store) is True


def test_what_a_trainer_wrote_before_it_was_linked_is_announced(api, make):
    store = make(started())
    with viewer_of(api) as viewer:
        viewer.subscribe(store)
        assert viewer.events(store, 1) == [started()]
        store.append([losses(1, 5), state(RunState.PAUSED, step=5)])
        with joined(api, store):
            assert viewer.events(store, 3, after=1) == [
                losses(1, 5),
                state(RunState.PAUSED, step=5),
            ]
