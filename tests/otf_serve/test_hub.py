"""The hub without sockets: who is told what."""

import asyncio

from otf_serve.feed import Live
from otf_serve.hub import Hub
from otf_session.commands import Applied, Pause, Refused
from otf_session.frames import Batch, CommandDelivery, CommandReply, SessionGone, Viewers, encode

from ..helpers.sessions import line


class Recorder:
    """A trainer or a viewer that keeps what it is given."""

    def __init__(self):
        self.posted = []
        self.offered = []
        self.announced = []

    def post(self, frame):
        self.posted.append(frame)

    def offer(self, live):
        self.offered.append(live)

    def announce(self, session, newest):
        self.announced.append((session, newest))


def with_hub(scene):
    async def main():
        scene(Hub())

    asyncio.run(main())


def live(session, first, count):
    batch = Batch(session=session, first=first, events=[line(n) for n in range(count)])
    return Live(batch, encode(batch))


def test_the_newest_event_never_goes_back():
    def scene(hub):
        assert hub.newest("s") == 0
        hub.join_trainer("s", Recorder(), 5)
        assert hub.newest("s") == 5
        hub.publish(live("s", 6, 3))
        assert hub.newest("s") == 8
        hub.publish(live("s", 2, 1))
        hub.join_trainer("s", Recorder(), 3)
        assert (hub.newest("s"), hub.newest("other")) == (8, 0)

    with_hub(scene)


def test_viewers_are_told_of_every_batch_and_every_trainer():
    def scene(hub):
        viewers = [Recorder(), Recorder()]
        for viewer in viewers:
            hub.join_viewer(viewer)
        hub.join_trainer("s", Recorder(), 5)
        batch = live("s", 6, 1)
        hub.publish(batch)
        hub.broadcast(SessionGone(session="t"))
        for viewer in viewers:
            assert viewer.announced == [("s", 5)]
            assert viewer.offered == [batch]
            assert viewer.posted == [SessionGone(session="t")]

    with_hub(scene)


def test_trainers_are_told_the_number_of_viewers():
    def scene(hub):
        trainer, viewer = Recorder(), Recorder()
        hub.join_trainer("s", trainer, 0)
        hub.join_viewer(viewer)
        hub.leave_viewer(viewer)
        hub.leave_viewer(viewer)
        assert trainer.posted[:2] == [Viewers(count=1), Viewers(count=0)]
        assert hub.viewers == 0

    with_hub(scene)


def test_every_change_is_signalled():
    def scene(hub):
        trainer, viewer = Recorder(), Recorder()
        for change in (
            lambda: hub.join_trainer("s", trainer, 0),
            lambda: hub.publish(live("s", 1, 1)),
            lambda: hub.join_viewer(viewer),
            lambda: hub.leave_trainer("s", trainer),
        ):
            hub.changed.clear()
            change()
            assert hub.changed.is_set()

    with_hub(scene)


def test_a_command_is_answered_once():
    def scene(hub):
        trainer, answers = Recorder(), []
        hub.join_trainer("s", trainer, 0)
        hub.submit("s", "1", "me", Pause(), answers.append)
        (delivery,) = trainer.posted
        assert isinstance(delivery, CommandDelivery)
        assert (delivery.request.id, delivery.request.author) == ("1", "me")
        reply = CommandReply(id="1", session="s", outcome=Applied(step=1))
        hub.answer(CommandReply(id="1", session="t", outcome=Refused(reason="of another")))
        hub.answer(reply)
        hub.answer(reply)
        hub.leave_trainer("s", trainer)
        assert answers == [Applied(step=1)]

    with_hub(scene)


def test_a_trainer_s_end_answers_its_own_commands_alone():
    def scene(hub):
        one, two = Recorder(), Recorder()
        first, second = [], []
        hub.join_trainer("one", one, 0)
        hub.join_trainer("two", two, 0)
        hub.submit("one", "1", "me", Pause(), first.append)
        hub.submit("two", "1", "me", Pause(), second.append)
        hub.leave_trainer("one", one)
        assert [type(answer) for answer in first] == [Refused]
        assert second == []
        assert hub.connected == frozenset(["two"])

    with_hub(scene)


def test_a_command_given_before_a_reconnection_is_answered_after_it():
    def scene(hub):
        old, new, answers = Recorder(), Recorder(), []
        hub.join_trainer("s", old, 0)
        hub.submit("s", "1", "me", Pause(), answers.append)
        hub.join_trainer("s", new, 0)
        hub.leave_trainer("s", old)
        assert hub.connected == frozenset(["s"])
        hub.answer(CommandReply(id="1", session="s", outcome=Applied(step=1)))
        assert answers == [Applied(step=1)]

    with_hub(scene)
