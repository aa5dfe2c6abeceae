from types import SimpleNamespace

import torch
from otf_hooks.meters.torch_memory import TorchMemory

STATISTICS = {
    "allocated_bytes.all.current": 10,
    "reserved_bytes.all.current": 20,
    "allocated_bytes.all.peak": 15,
    "reserved_bytes.all.peak": 20,
}


def cuda(*devices, initialized=True):
    return SimpleNamespace(
        is_initialized=lambda: initialized,
        device_count=lambda: len(devices),
        memory_stats=lambda number: devices[number],
    )


def test_devices_on_which_torch_holds_memory_have_series():
    unused = dict.fromkeys(STATISTICS, 0)
    assert TorchMemory(cuda(unused, STATISTICS), None, has_mps=False).read() == {
        "gpu1/torch_allocated": 10.0,
        "gpu1/torch_reserved": 20.0,
        "gpu1/torch_max_allocated": 15.0,
    }


def test_cuda_is_not_set_up_by_looking():
    assert TorchMemory(cuda(STATISTICS, initialized=False), None, has_mps=False).read() == {}


def test_an_apple_gpu():
    mps = SimpleNamespace(current_allocated_memory=lambda: 7, driver_allocated_memory=lambda: 9)
    assert TorchMemory(cuda(initialized=False), mps, has_mps=True).read() == {
        "mps/torch_allocated": 7.0,
        "mps/torch_reserved": 9.0,
    }


def test_here_it_is_torch_s_own():
    found = TorchMemory.here().read()
    if not torch.cuda.is_initialized() and not torch.backends.mps.is_available():
        assert found == {}
