"""How far Lightning's loops are: their counters, read and put back.

Going back needs more than counters: the loop over an epoch's batches also keeps the means that
`self.log(..., on_epoch=True)` takes. So that loop is exchanged: for a copy that was made of it then,
while this process lives, else for a new one with the counters put in.
"""

from __future__ import annotations

import copy
import secrets
from collections import OrderedDict
from typing import Any, Dict, Mapping, Tuple


def capture(trainer: Any, *, settled: bool = False) -> Dict[str, Any]:
    """All counters as plain values; `settled` takes what was begun and not completed as not begun."""
    counters = {name: part.state_dict() for name, part in _parts(trainer.fit_loop)}
    counters["own"] = dict(trainer.fit_loop.epoch_loop.on_save_checkpoint())
    return _settled(counters) if settled else counters


class Loops:
    """The loop over an epoch's batches, as it was whenever a checkpoint was made."""

    #: The copies that are kept; each has some counters and a few numbers.
    MOST = 500

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._copies: OrderedDict[str, Any] = OrderedDict()

    def capture(self, *, settled: bool = False) -> Dict[str, Any]:
        """All counters as plain values, and which copy belongs to them."""
        counters = capture(self._trainer, settled=settled)
        if not settled:
            counters["copy"] = secrets.token_hex(8)
            self._copies[counters["copy"]] = self._copy(self._trainer.fit_loop.epoch_loop)
            while len(self._copies) > self.MOST:
                self._copies.popitem(last=False)
        return counters

    def restore(self, counters: Mapping[str, Any]) -> bool:
        """Put all back; False where the means of an epoch could not be."""
        trainer, fit = self._trainer, self._trainer.fit_loop
        old, kept = fit.epoch_loop, self._copies.get(counters.get("copy", ""))
        if kept is not None:
            fit.epoch_loop = self._copy(kept)
        else:
            fit.epoch_loop = type(old)(trainer, old.min_steps, old.max_steps)
            fit.epoch_loop.val_loop = old.val_loop
        for name, part in _parts(fit):
            part.load_state_dict(_copied(counters[name]))
        fit.epoch_loop.on_load_checkpoint(dict(counters["own"]))
        return kept is not None

    def _copy(self, loop: Any) -> Any:
        trainer, module = self._trainer, self._trainer.lightning_module
        shared = [trainer, trainer.strategy, trainer.fit_loop, loop.val_loop, *module.modules()]
        return copy.deepcopy(loop, {id(one): one for one in shared})


def trained_batches(trainer: Any) -> int:
    """The batches that were trained on since the beginning."""
    return int(trainer.fit_loop.total_batch_idx) + 1


def passed(loop: Any) -> None:
    """A loop has gone on by one: whatever it was restarted from is behind it."""
    if hasattr(loop, "on_iteration_done"):
        loop.on_iteration_done()
    elif loop.restarting:
        loop.restarting = False


def _parts(fit: Any) -> Tuple[Tuple[str, Any], ...]:
    epoch = fit.epoch_loop
    return (
        ("epoch", fit.epoch_progress),
        ("batch", epoch.batch_progress),
        ("scheduler", epoch.scheduler_progress),
        ("automatic", epoch.automatic_optimization.optim_progress),
        ("manual", epoch.manual_optimization.optim_step_progress),
        ("validation", epoch.val_loop.batch_progress),
    )


def _settled(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "completed" in value:
        return dict.fromkeys(value, value["completed"])
    return {name: _settled(inner) for name, inner in value.items()}


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _copied(inner) for name, inner in value.items()}
    return value
