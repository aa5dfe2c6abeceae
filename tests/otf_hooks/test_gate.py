import pytest
from otf_hooks.errors import IllegalMove
from otf_hooks.gate import Gate, GateState


def test_a_run_starts_pauses_resumes_stops_and_closes():
    gate = Gate()
    for state in ("RUNNING", "PAUSED", "RUNNING", "STOPPING", "CLOSED"):
        gate.move(GateState[state])
        assert gate.state is GateState[state]


@pytest.mark.parametrize(
    ("path", "illegal"),
    [
        ([], "PAUSED"),
        (["RUNNING"], "RUNNING"),
        (["RUNNING", "STOPPING"], "RUNNING"),
        (["RUNNING", "STOPPING"], "PAUSED"),
        (["CLOSED"], "RUNNING"),
    ],
)
def test_illegal_moves_are_refused_and_change_nothing(path, illegal):
    gate = Gate()
    for state in path:
        gate.move(GateState[state])
    before = gate.state
    with pytest.raises(IllegalMove, match="cannot become"):
        gate.move(GateState[illegal])
    assert gate.state is before


def test_stopping_and_closed_both_end_training():
    gate = Gate()
    gate.move(GateState.RUNNING)
    assert not gate.is_stopping
    gate.move(GateState.STOPPING)
    assert gate.is_stopping
    gate.move(GateState.CLOSED)
    assert gate.is_stopping
