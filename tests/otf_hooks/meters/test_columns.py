from otf_hooks.readback import columns
from otf_hooks.recorder import Measurement


def measured(step, waited):
    return Measurement("r", step, 100.0, {"loss": 1.0}, seconds=0.5, samples=8, waited=waited)


def test_waiting_for_data_is_a_column_beside_the_step_time():
    (event,) = columns("r", [measured(1, 0.0), measured(2, 0.25)])
    assert event.values["data_wait"] == [0.0, 0.25]
    assert event.values["step_time"] == [0.5, 0.5]


def test_a_front_that_does_not_measure_it_has_no_such_column():
    (event,) = columns("r", [measured(1, None), measured(2, None)])
    assert event.values.keys() == {"loss", "step_time", "throughput"}
