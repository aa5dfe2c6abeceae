"""A feed sends every event once and in order, however batches and readers come and go."""

import asyncio

import msgspec
import pytest
from otf_serve import feed as feed_module
from otf_serve.feed import MOST_BEHIND, Feed, Live
from otf_session.frames import Batch, Behind, ToDashboard, encode

from ..helpers.sessions import line

SESSION = "s"
_decode = msgspec.json.Decoder(ToDashboard).decode


class Store:
    """Events that are named by their `seq`, and what was read of them."""

    def __init__(self, last=0):
        self.last = last
        self.reads = []

    async def read(self, session, after, limit):
        assert session == SESSION
        self.reads.append((after, limit))
        await asyncio.sleep(0)
        return [line(seq) for seq in range(after + 1, min(self.last, after + limit) + 1)]

    def live(self, count):
        """The next `count` events, stored and then as a batch."""
        first = self.last + 1
        self.last += count
        batch = Batch(
            session=SESSION, first=first, events=[line(n) for n in range(first, first + count)]
        )
        return Live(batch, encode(batch))


class Screen:
    """A viewer: what was sent to it. It reads only while its gate is open."""

    def __init__(self):
        self.gate = asyncio.Event()
        self.gate.set()
        self.frames = []

    async def send(self, text):
        await self.gate.wait()
        self.frames.append(_decode(text))

    @property
    def seqs(self):
        """The `seq` and the step, which are the same, of everything that was sent."""
        for frame in self.frames:
            assert isinstance(frame, Batch)
            assert [frame.first + n for n in range(len(frame.events))] == [
                event.step for event in frame.events
            ]
        return [event.step for frame in self.frames for event in frame.events]


def play(scene, *, stored=0, after=0, newest=None):
    """Run a feed and a scene with it; whatever the scene waits for must come."""

    async def main():
        store, screen = Store(stored), Screen()
        feed = Feed(
            session=SESSION,
            after=after,
            newest=stored if newest is None else newest,
            read=store.read,
            send=screen.send,
        )
        running = asyncio.ensure_future(feed.run())
        try:
            await asyncio.wait_for(scene(feed, store, screen, running), 10)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        return store, screen

    return asyncio.run(main())


async def until(look):
    """Let the feed work until something is so."""
    for _ in range(100_000):
        if look():
            return
        await asyncio.sleep(0)
    raise AssertionError("The feed never got there.")


async def rest():
    """Let the feed do all that it can do."""
    for _ in range(50):
        await asyncio.sleep(0)


def test_live_batches_are_passed_on_as_they_are():
    async def scene(feed, store, screen, running):
        for count in (3, 1, 2):
            feed.offer(store.live(count))
            await rest()

    store, screen = play(scene)
    assert screen.seqs == [1, 2, 3, 4, 5, 6]
    assert [len(frame.events) for frame in screen.frames] == [3, 1, 2]
    assert store.reads == []


def test_what_is_stored_comes_first():
    async def scene(feed, store, screen, running):
        feed.offer(store.live(5))
        await until(lambda: len(screen.seqs) >= 15)

    _, screen = play(scene, stored=10)
    assert screen.seqs == list(range(1, 16))


def test_a_viewer_that_has_something_gets_the_rest():
    async def scene(feed, store, screen, running):
        await rest()
        feed.offer(store.live(2))
        await rest()

    store, screen = play(scene, stored=10, after=7)
    assert screen.seqs == [8, 9, 10, 11, 12]
    assert store.reads == [(7, 500)]


def test_a_viewer_that_has_everything_gets_nothing_until_there_is_more():
    async def scene(feed, store, screen, running):
        await rest()
        assert screen.frames == []
        feed.offer(store.live(1))
        await rest()

    store, screen = play(scene, stored=10, after=10)
    assert screen.seqs == [11]
    assert store.reads == []


def test_a_long_past_is_read_in_parts():
    async def scene(feed, store, screen, running):
        await until(lambda: len(screen.seqs) >= 1201)

    store, screen = play(scene, stored=1201)
    assert screen.seqs == list(range(1, 1202))
    assert store.reads == [(0, 500), (500, 500), (1000, 500)]


def test_a_gap_between_live_batches_is_filled_from_the_store():
    async def scene(feed, store, screen, running):
        feed.offer(store.live(2))
        await rest()
        store.live(3)
        feed.offer(store.live(2))
        await until(lambda: len(screen.seqs) >= 7)

    store, screen = play(scene)
    assert screen.seqs == [1, 2, 3, 4, 5, 6, 7]
    assert store.reads == [(2, 500)]


def test_batches_that_come_twice_are_sent_once():
    async def scene(feed, store, screen, running):
        batches = [store.live(2), store.live(2)]
        for live in [batches[0], *batches, batches[1], batches[0]]:
            feed.offer(live)
            await rest()
        feed.offer(store.live(1))
        await rest()

    store, screen = play(scene)
    assert screen.seqs == [1, 2, 3, 4, 5]
    assert store.reads == []


def test_a_batch_of_which_the_viewer_has_a_part_is_not_doubled():
    async def scene(feed, store, screen, running):
        await rest()
        feed.offer(store.live(6))
        feed.offer(store.live(1))
        await until(lambda: len(screen.seqs) >= 4)
        await rest()

    # The viewer took its snapshot in the middle of the first batch.
    _, screen = play(scene, after=3)
    assert screen.seqs == [4, 5, 6, 7]


def test_batches_in_the_wrong_order_come_out_in_the_right_one():
    async def scene(feed, store, screen, running):
        first, second, third = store.live(2), store.live(2), store.live(2)
        for live in (third, first, second):
            feed.offer(live)
        await until(lambda: len(screen.seqs) >= 6)
        await rest()

    _, screen = play(scene)
    assert screen.seqs == [1, 2, 3, 4, 5, 6]


def test_a_slow_viewer_misses_nothing_when_the_live_queue_overflows():
    async def scene(feed, store, screen, running):
        screen.gate.clear()
        for _ in range(feed_module._MOST_LIVE * 4):
            feed.offer(store.live(3))
            await asyncio.sleep(0)
        assert len(feed._live) == feed_module._MOST_LIVE
        screen.gate.set()
        await until(lambda: len(screen.seqs) >= store.last)
        await rest()

    store, screen = play(scene)
    assert screen.seqs == list(range(1, feed_module._MOST_LIVE * 4 * 3 + 1))
    assert store.reads


@pytest.mark.parametrize("pace", [1, 2, 3, 7])
def test_a_viewer_that_reads_now_and_then_gets_everything_once(pace):
    async def scene(feed, store, screen, running):
        for number in range(300):
            live = store.live(1 + number % 4)
            if number % 5:
                feed.offer(live)
            if number % pace == 0:
                screen.gate.set()
                await rest()
                screen.gate.clear()
        screen.gate.set()
        feed.announce(store.last)
        await until(lambda: len(screen.seqs) >= store.last)
        await rest()

    store, screen = play(scene, stored=20)
    assert screen.seqs == list(range(1, store.last + 1))


def test_past_the_bound_a_viewer_is_told_to_take_a_new_snapshot():
    async def scene(feed, store, screen, running):
        await asyncio.wait_for(running, 5)

    store, screen = play(scene, stored=MOST_BEHIND + 1)
    assert screen.frames == [Behind(session=SESSION)]
    assert store.reads == []


def test_up_to_the_bound_a_viewer_gets_everything():
    async def scene(feed, store, screen, running):
        # From the last frame alone: to check them all at every look would take long.
        await until(lambda: screen.frames and screen.frames[-1].last >= MOST_BEHIND)

    _, screen = play(scene, stored=MOST_BEHIND)
    assert screen.seqs == list(range(1, MOST_BEHIND + 1))


def test_a_viewer_that_falls_behind_while_it_watches_is_told_so_and_left():
    async def scene(feed, store, screen, running):
        feed.offer(store.live(1))
        await rest()
        screen.gate.clear()
        feed.offer(store.live(1))
        await rest()
        feed.offer(store.live(MOST_BEHIND + 1))
        screen.gate.set()
        await asyncio.wait_for(running, 5)

    _, screen = play(scene)
    assert screen.frames[-1] == Behind(session=SESSION)
    assert [frame.first for frame in screen.frames[:-1]] == [1, 2]


def test_events_that_are_announced_and_not_there_are_not_waited_for():
    async def scene(feed, store, screen, running):
        await rest()
        assert store.reads == [(0, 500)]
        feed.announce(8)
        await rest()
        assert len(store.reads) == 2
        assert not running.done()
        assert screen.frames == []
        # The feed lives: what really comes is sent.
        feed.offer(store.live(2))
        await rest()

    _, screen = play(scene, newest=5)
    assert screen.seqs == [1, 2]


def test_what_a_store_announces_is_read():
    async def scene(feed, store, screen, running):
        await rest()
        store.last = 4
        feed.announce(4)
        feed.announce(2)
        await until(lambda: len(screen.seqs) >= 4)
        await rest()

    store, screen = play(scene)
    assert screen.seqs == [1, 2, 3, 4]
    assert store.reads == [(0, 500)]


def test_what_goes_wrong_in_the_store_ends_the_feed():
    async def broken(session, after, limit):
        raise OSError("gone")

    async def main():
        feed = Feed(session=SESSION, after=0, newest=1, read=broken, send=Screen().send)
        await asyncio.wait_for(feed.run(), 5)

    with pytest.raises(OSError, match="gone"):
        asyncio.run(main())
