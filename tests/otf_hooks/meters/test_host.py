import psutil
import pytest
from otf_hooks.meters.host import HostMeter


def test_memory_is_that_of_psutil_and_shares_begin_with_the_second_reading():
    now = [0.0]
    meter = HostMeter(clock=lambda: now[0])
    first = meter.read()
    assert first.keys() == {"sys/ram", "proc/ram"}
    assert first["proc/ram"] == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
    assert 0 < first["sys/ram"] < 100


def test_cpu_shares_are_of_the_time_since_the_last_reading():
    now = [0.0]
    meter = HostMeter(clock=lambda: now[0])
    meter.read()
    begun = used = _own_time()
    while used - begun < 0.2:
        used = _own_time()
    # What took 0.2 s of a core's time in one second is 20 percent of it.
    now[0] = 1.0
    found = meter.read()
    assert 20 <= found["proc/cpu"] < 60
    assert 0 < found["sys/cpu"] <= 100
    now[0] = 1000.0
    assert meter.read()["proc/cpu"] < 5


def _own_time():
    times = psutil.Process().cpu_times()
    return times.user + times.system
