from __future__ import annotations

import sys
import threading

import pytest
from otf_hooks.meters.aside import Aside
from otf_hooks.meters.meter import MeterEnded
from otf_hooks.meters.nvml import NvmlMeter, load

from .nvidia import Gpu, Nvml, NVMLError, NVMLError_NotSupported


@pytest.fixture(autouse=True)
def _no_setting(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def said():
    return []


@pytest.fixture
def meter(said):
    def make(library, identifiers=None):
        return NvmlMeter(said.append, load=lambda: library, identifiers=lambda: identifiers)

    return make


def test_what_a_gpu_shows_in_the_units_that_are_documented(meter, said):
    assert meter(Nvml(Gpu("GPU-a"))).read() == {
        "gpu0/util": 37.0,
        "gpu0/memory": 5e9,
        "gpu0/memory_process": 3e9,
        "gpu0/temperature": 64.0,
        "gpu0/power": 251.5,
        "gpu0/clock_sm": 1410.0,
        "gpu0/clock_memory": 2619.0,
        "gpu0/throttle_power": 0.0,
        "gpu0/throttle_thermal": 0.0,
        "gpu0/throttle_hardware": 0.0,
    }
    assert said == ["gpu0 is GPU 0 of this machine (GPU-a), NVIDIA Test 9000, with 80.0 GB."]


@pytest.mark.parametrize(
    ("reasons", "lowered"),
    [
        (0x01 | 0x02, set()),  # idle, and clocks that somebody set, are no throttling
        (0x04, {"power"}),
        (0x08 | 0x80, {"power", "hardware"}),
        (0x20, {"thermal"}),
        (0x08 | 0x40, {"thermal", "hardware"}),
    ],
)
def test_reasons_for_lower_clocks_are_told_apart(meter, reasons, lowered):
    found = meter(Nvml(Gpu("GPU-a", reasons=reasons))).read()
    kinds = ("power", "thermal", "hardware")
    assert {kind for kind in kinds if found[f"gpu0/throttle_{kind}"]} == lowered


def test_without_a_driver_there_is_no_such_series_and_nothing_is_said(meter, said):
    with pytest.raises(MeterEnded) as ended:
        meter(None).read()
    assert (str(ended.value), said) == ("", [])


def test_a_library_without_its_driver_is_no_driver(meter, said, monkeypatch):
    library = Nvml(Gpu("GPU-a"))

    def fail():
        raise NVMLError("Driver Not Loaded")

    library.nvmlInit = fail
    with pytest.raises(MeterEnded) as ended:
        meter(library).read()
    assert (str(ended.value), said) == ("", [])


@pytest.mark.skipif(sys.platform != "linux", reason="the library's name is Linux's")
def test_the_real_library_is_not_even_imported_where_there_is_no_driver(monkeypatch):
    def fail(name):
        raise OSError(name)

    monkeypatch.setattr("ctypes.CDLL", fail)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert load() is None


def test_what_a_gpu_does_not_offer_has_no_series_and_is_asked_once(meter, said):
    library = Nvml(Gpu("GPU-a", broken={"power": NVMLError_NotSupported}))
    reader = meter(library)
    for _ in range(3):
        found = reader.read()
        assert "gpu0/power" not in found
        assert found["gpu0/util"] == 37.0
    assert library.calls.count("power") == 1
    assert len(said) == 1  # which GPU it is, and nothing else


def test_a_reading_that_fails_ends_its_series_and_is_said_once(meter, said):
    gpu = Gpu("GPU-a")
    reader = meter(Nvml(gpu, Gpu("GPU-b")))
    assert reader.read()["gpu0/temperature"] == 64.0
    gpu.broken["temperature"] = lambda: NVMLError("GPU is lost")
    for _ in range(3):
        found = reader.read()
        assert "gpu0/temperature" not in found
        assert found["gpu1/temperature"] == 64.0
        assert found["gpu0/power"] == 251.5
    assert said[2:] == [
        "The temperature of gpu0 cannot be read any more: GPU is lost. Its series end here."
    ]


def test_a_gpu_of_which_nothing_can_be_read_any_more_is_over(meter, said):
    gpu = Gpu("GPU-a")
    reader = meter(Nvml(gpu))
    reader.read()
    for what in (*("util", "memory", "processes", "temperature"), "power", "clocks", "throttling"):
        gpu.broken[what] = lambda: NVMLError("GPU is lost")
    with pytest.raises(MeterEnded):
        reader.read()
    assert len(said) == 1 + 7


def test_memory_is_counted_as_older_drivers_can(meter):
    library = Nvml(Gpu("GPU-a"))
    library.has_second_memory = False
    assert meter(library).read()["gpu0/memory"] == 5.5e9


@pytest.mark.parametrize("processes", [{}, {1: 7}, None])
def test_memory_of_this_process_is_left_out_where_the_driver_does_not_tell(meter, processes):
    import os

    # On Windows the process is there and its memory is not.
    found = {os.getpid(): None} if processes is None else processes
    assert "gpu0/memory_process" not in meter(Nvml(Gpu("GPU-a", processes=found))).read()


def test_numbers_are_the_process_s_own(meter, said, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    library = Nvml(Gpu("GPU-a", util=1), Gpu("GPU-b", util=2), Gpu("GPU-c", util=3))
    found = meter(library).read()
    assert {name: found[name] for name in found if name.endswith("/util")} == {
        "gpu0/util": 3.0,
        "gpu1/util": 1.0,
    }
    assert [line.split(" (")[0] for line in said] == [
        "gpu0 is GPU 2 of this machine",
        "gpu1 is GPU 0 of this machine",
    ]


def test_where_torch_says_which_devices_it_has_it_is_believed(meter, monkeypatch):
    # CUDA orders by speed, unless it is told otherwise; the environment's numbers go by that.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    library = Nvml(Gpu("GPU-slow", util=1), Gpu("GPU-fast", util=2))
    assert meter(library, ["fast"]).read()["gpu0/util"] == 2.0


@pytest.mark.parametrize("identifiers", [None, ["m"]])
def test_of_an_instance_memory_is_its_own_and_the_rest_the_gpu_s(
    meter, said, monkeypatch, identifiers
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-m")
    gpu = Gpu("GPU-a", used=70_000_000_000)
    library = Nvml(gpu, instances=[Gpu("MIG-m", whole=gpu, used=4_000_000_000, total=10**10)])
    found = meter(library, identifiers).read()
    assert (found["gpu0/memory"], found["gpu0/power"]) == (4e9, 251.5)
    assert "gpu0/util" not in found
    assert said == [
        (
            "gpu0 is an instance (MIG-m) of GPU 0 of this machine (GPU-a), NVIDIA Test 9000, "
            "with 10.0 GB."
        )
    ]


def test_a_driver_that_hangs_is_given_up_and_said(meter):
    gpu = Gpu("GPU-a")
    hangs, ends = threading.Event(), threading.Event()

    def hang():
        hangs.set()
        ends.wait(10)
        return NVMLError("too late")

    gpu.broken["power"] = hang
    now = [0.0]
    aside = Aside(meter(Nvml(gpu)), "NVML", wait=0.01, patience=30.0, clock=lambda: now[0])
    try:
        assert aside.read() == {}
        assert hangs.wait(10)
        now[0] = 29.0
        assert aside.read() == {}
        now[0] = 31.0
        with pytest.raises(MeterEnded, match="NVML has not answered for 30 s"):
            aside.read()
    finally:
        ends.set()
