import pytest
from otf_hooks.meters.visible import visible_devices

GPUS = ["GPU-aa1", "GPU-ab2", "GPU-cc3"]


@pytest.mark.parametrize(
    ("setting", "seen"),
    [
        (None, GPUS),
        ("", []),
        ("-1", []),
        ("1", ["GPU-ab2"]),
        (" 2, 0 ", ["GPU-cc3", "GPU-aa1"]),
        ("0,7,1", ["GPU-aa1"]),
        ("1,1,2", ["GPU-ab2"]),
        ("GPU-c", ["GPU-cc3"]),
        ("GPU-a,0", []),
        ("GPU-x", []),
        ("NoDevFiles", []),
        ("MIG-1234,0", ["MIG-1234", "GPU-aa1"]),
    ],
)
def test_a_setting_shows_devices_in_its_order_up_to_the_first_that_is_none(setting, seen):
    assert visible_devices(setting, GPUS) == seen
