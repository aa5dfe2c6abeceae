"""Checkpoints of the predecessor: the states of model and optimizer and two counters, no more.

A session that was imported from one of its bundles has them. Training goes on from one, though not
as it would have gone on then: the generators' states and the place in the data are not in it.
"""

from __future__ import annotations

from typing import Any, Callable, Dict

_KEYS = {"model", "optimizer", "step", "epoch"}
_TAKEN = ("model", "optimizer", "scheduler", "scaler", "step", "epoch")
_FINDING = (
    "The checkpoint was made by an earlier version, and holds neither the state of random generators "
    "nor the place in the data: a new epoch begins, with data in another order."
)


def is_one(state: Dict[str, Any]) -> bool:
    """Whether a state that was loaded is the predecessor's."""
    return "format" not in state and set(state) >= _KEYS


def completed(state: Dict[str, Any], capture: Callable[[], Dict[str, Any]]) -> Dict[str, Any]:
    """A whole state, of which what the checkpoint lacks is as `capture` finds it now.

    A state of our own is returned as it is.
    """
    if not is_one(state):
        return state
    live = capture()
    data = {**live["data"], "epoch": state["epoch"], "first_step": state["step"], "batch": 0}
    data.update(under_way=False, sources=data.get("sources", {}))
    taken = {name: state.get(name) for name in _TAKEN}
    more: Dict[str, Any] = {"phase": "between", "val_loss": None, "data": data, "gradients": {}}
    # With a format it is none of the predecessor's any more.
    more.update(format="completed", interventions=[], findings=[_FINDING])
    return {**live, **taken, **more}
