"""Prove: train some steps twice and compare every bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from otf_session.commands import Applied, Outcome, Prove, Refused
from otf_session.results import Proof

from ..errors import NotPossible
from ..trace import Difference, difference

if TYPE_CHECKING:
    from ..engine import Engine

_MOST = 1000


def prove(engine: Engine, command: Prove) -> Outcome:
    """Show on this very run whether going back is exact; the run is left as it was."""
    if not 1 <= command.steps <= _MOST:
        raise NotPossible(f"{command.steps} steps cannot be proved: use 1 to {_MOST}.")
    if engine.gate.is_stopping:
        return Refused(reason="The run is stopping.")
    if not engine.parking.is_empty:
        return Refused(
            reason="The model is in host memory. Resume first, or pause without release."
        )
    engine.desk.begin_long()
    try:
        traces = engine.front.retrain(command.steps, engine.keep_going_in_step)
    finally:
        cancelled = engine.desk.end_long()
    if cancelled or len(traces) < 2:  # noqa: PLR2004
        return Refused(reason="The proof was broken off; the run is as it was.")
    first, second = traces
    steps = len({entry.step for entry in first})
    found = _on_any_rank(engine, difference(first, second))
    if found is None:
        amount = "1 step was" if steps == 1 else f"{steps} steps were"
        to_the_end = ", to the end of the epoch" if steps < command.steps else ""
        message = f"{amount} trained twice from step {engine.step}{to_the_end}: every bit the same."
        return Applied(step=engine.step, message=message, result=Proof(steps=steps, exact=True))
    return Applied(
        step=engine.step,
        message=f"Not exact. At step {found.step}: {found.what} {found.hint}",
        result=Proof(
            steps=steps, exact=False, step=found.step, difference=found.what, hint=found.hint
        ),
    )


def _on_any_rank(engine: Engine, found: Optional[Difference]) -> Optional[Difference]:
    """The first process's difference, where there is any."""
    for rank, each in enumerate(engine.peers.gathered(found)):
        if each is not None:
            return each if rank == 0 else each._replace(what=f"On rank {rank}: {each.what}")
    return None
