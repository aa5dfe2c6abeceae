from otf_hooks.backlog import Backlog
from otf_session.events import LogLine, Metrics, RecordsDropped


def line(number):
    return LogLine(time=1.0, run="baseline", step=number, level=20, logger="x", text=str(number))


def metrics(step, size=100):
    steps = list(range(step, step + size))
    return Metrics(run="baseline", steps=steps, times=[0.0] * size, values={"loss": [1.0] * size})


def test_parts_come_in_order_and_stay_until_they_are_removed():
    backlog = Backlog()
    events = [line(number) for number in range(700)]
    backlog.add(events)
    first = backlog.part()
    assert first == events[: len(first)]
    assert backlog.part() == first
    backlog.remove(len(first))
    assert first + backlog.part() == events


def test_beyond_the_bound_the_oldest_are_given_up_and_counted():
    backlog = Backlog(most=1000)
    backlog.add(metrics(step) for step in range(0, 1000, 100))
    kept = backlog.part()
    assert kept[-1].steps[-1] == 999
    lost = 10 - len(kept)
    assert lost > 0
    (dropped,) = backlog.take_dropped("baseline", "disk full")
    assert isinstance(dropped, RecordsDropped)
    assert dropped.count == lost * 100
    assert dropped.reason == "disk full"
    assert backlog.take_dropped("baseline", "disk full") == []
