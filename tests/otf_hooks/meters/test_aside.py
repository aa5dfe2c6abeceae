import threading

import pytest
from otf_hooks.meters.aside import Aside
from otf_hooks.meters.meter import MeterEnded


class Slow:
    def __init__(self):
        self.go = threading.Event()
        self.readings = 0

    def read(self):
        self.go.wait(10)
        self.readings += 1
        return {"x": float(self.readings)}


def test_a_quick_reading_is_had_at_once_each_time():
    meter = Slow()
    meter.go.set()
    aside = Aside(meter, "x", wait=10)
    assert [aside.read(), aside.read()] == [{"x": 1.0}, {"x": 2.0}]


def test_a_late_reading_is_handed_out_the_next_time_and_only_one_is_under_way():
    meter = Slow()
    aside = Aside(meter, "x", wait=0.01)
    before = threading.active_count()
    assert [aside.read(), aside.read()] == [{}, {}]
    assert threading.active_count() <= before + 1
    meter.go.set()
    while not (found := aside.read()):
        pass
    assert found == {"x": 1.0}


def test_what_the_meter_raises_is_raised_where_it_is_read():
    class Ends:
        def read(self):
            raise MeterEnded("nothing there")

    with pytest.raises(MeterEnded, match="nothing there"):
        Aside(Ends(), "x", wait=10).read()
