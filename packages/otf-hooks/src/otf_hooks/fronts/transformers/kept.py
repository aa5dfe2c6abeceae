"""What the Trainer and its callbacks remember beside the tensors, as plain values."""

from __future__ import annotations

import copy
from typing import Any, Dict, Iterator, List

from transformers import TrainerState
from transformers.trainer_callback import ExportableState

from ...snapshot import is_plain

#: What a `TrainerState` knows of the way up to a step. The rest is said by the arguments anew.
_FIELDS = (
    "epoch",
    "global_step",
    "num_input_tokens_seen",
    "total_flos",
    "log_history",
    "best_metric",
    "best_global_step",
    "best_model_checkpoint",
    "logging_steps",
    "eval_steps",
    "save_steps",
    "train_batch_size",
)


def capture_trainer(state: TrainerState) -> Dict[str, Any]:
    """What the Trainer remembers; older versions know less."""
    kept = {name: getattr(state, name) for name in _FIELDS if hasattr(state, name)}
    # The Trainer goes on adding to this very list.
    return {**kept, "log_history": copy.deepcopy(kept["log_history"])}


def restore_trainer(state: TrainerState, kept: Dict[str, Any]) -> None:
    """Have the Trainer remember what it remembered then."""
    for name, value in kept.items():
        if hasattr(state, name):
            setattr(state, name, copy.deepcopy(value))


def state_to_begin_with(kept: Dict[str, Any], live: TrainerState) -> TrainerState:
    """A state for the Trainer to begin with, which knows the callbacks that `live` knows."""
    state = TrainerState()
    restore_trainer(state, kept)
    state.stateful_callbacks = copy.deepcopy(live.stateful_callbacks)
    return state


def capture_callbacks(callbacks: List[Any]) -> List[Dict[str, Any]]:
    """What callbacks say of themselves, such as how long early stopping has been patient."""
    return [
        {"name": type(one).__name__, "attributes": dict(one.state()["attributes"])}
        for one in _stateful(callbacks)
    ]


def restore_callbacks(callbacks: List[Any], kept: List[Dict[str, Any]]) -> None:
    """Put back what they said, each the one of its kind at the same place."""
    waiting = list(kept)
    for one in _stateful(callbacks):
        found = next((entry for entry in waiting if entry["name"] == type(one).__name__), None)
        if found is None:
            continue
        waiting.remove(found)
        for name, value in found["attributes"].items():
            setattr(one, name, value)


def _stateful(callbacks: List[Any]) -> Iterator[Any]:
    """The callbacks that have a state to say: those that transformers calls exportable."""
    for one in callbacks:
        if isinstance(one, ExportableState) and is_plain(one.state()["attributes"]):
            yield one
