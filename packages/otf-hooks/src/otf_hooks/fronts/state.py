"""The whole state of a native training loop, captured by reference and restored."""

from __future__ import annotations

import inspect
from typing import Any, Dict, List, Mapping, Optional

import torch

from .. import randomness
from ..distributed.sharding import ShardedState, as_sharded, is_sharded, own_part
from ..errors import CheckpointError
from ..fitting import check_groups, check_tensors
from ..hyperparameters import Hyperparameters
from ..snapshot import is_plain
from ..wrappers import Names, check_can_be_taken_apart, parallel_parts


class TrainingState:
    """Model, optimizer, scheduler, scaler, hyperparameters: all but the counters and the data.

    Beside the `state_dict`s it holds what they leave out and training depends on: buffers that are
    not persistent, which modules are in eval mode, which parameters are frozen, and, for a step of
    the script's own, gradients that are being accumulated and what it keeps in `state`.
    """

    def __init__(
        self,
        *,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: Any,
        scaler: Any,
        loss_fn: Any,
        hyperparameters: Hyperparameters,
        own: Optional[Dict[str, Any]],
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._scaler = scaler
        # A loss may learn too, as those with class centres do.
        self._loss = loss_fn if isinstance(loss_fn, torch.nn.Module) else None
        self._hyperparameters = hyperparameters
        self._own = own
        self._known = set(own) if own is not None else set()
        self._names = Names(model)
        self._sharded = ShardedState(model, optimizer) if is_sharded(model) else None

    @property
    def is_sharded(self) -> bool:
        """Whether this process has only a part of the model, so that all must capture it together."""
        return self._sharded is not None

    def capture(self) -> Dict[str, Any]:
        """The state as the next step will find it, by reference.

        Of a sharded model it is the whole one, on rank 0 alone.
        """
        model, names = self._model, self._names
        check_can_be_taken_apart(model)
        persistent = names.state_of(model)
        state: Dict[str, Any] = {
            "model": persistent if self._sharded is None else self._sharded.model(),
            "buffers": {n: b for n, b in names.buffers(model) if n not in persistent},
            "eval_modules": names.in_eval_mode(model),
            "frozen": [name for name, each in names.parameters(model) if not each.requires_grad],
            "optimizer": self._optimizer_state(),
            "scheduler": self._scheduler_state(),
            "scaler": self._scaler.state_dict(),
            "loss_fn": self._loss.state_dict() if self._loss is not None else None,
            "hyperparameters": self._hyperparameters.state(),
        }
        if any(not part.broadcast_buffers for part in parallel_parts(model)):
            # Each process has its own.
            state["own_buffers"] = dict(names.buffers(model))
        if self._own is not None:
            state["gradients"] = {
                name: own_part(parameter.grad)
                for name, parameter in names.parameters(model)
                if parameter.grad is not None
            }
            state["own"] = dict(self._kept_by_script().items())
        return state

    def check(self, state: Mapping[str, Any], *, weights_only: bool = False) -> None:
        """Raise `CheckpointError` where a state does not fit; nothing is changed."""
        check_tensors("model", self._names.state_of(self._model), state["model"])
        kept_loss = state.get("loss_fn")
        if self._loss is not None and kept_loss is not None:
            check_tensors("loss_fn", self._loss.state_dict(), kept_loss)
        if not weights_only:
            check_groups(self._optimizer.param_groups, state["optimizer"]["param_groups"])

    def load_weights(self, state: Mapping[str, Any]) -> None:
        """Put the weights back, of the model and of a loss that learns, and nothing else."""
        self._load_model(state["model"])
        kept_loss = state.get("loss_fn")
        if self._loss is not None and kept_loss is not None:
            self._loss.load_state_dict(kept_loss)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Put everything back; raises `CheckpointError` where it does not fit."""
        self.check(state)
        try:
            self._load_model(state["model"])
            self._load_optimizer(state["optimizer"])
            if self._scheduler is not None and state["scheduler"] is not None:
                self._scheduler.load_state_dict(state["scheduler"])
            if self._loss is not None and state["loss_fn"] is not None:
                self._loss.load_state_dict(state["loss_fn"])
            if state["scaler"]:
                self._scaler.load_state_dict(state["scaler"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"The checkpoint does not fit this script's model, optimizer or scheduler: {error}. "
                "Resume with the script it was made with."
            ) from error
        self._hyperparameters.load(state["hyperparameters"])
        self._put_buffers({**state["buffers"], **state.get("own_buffers", {})})
        self._put_modes(state["eval_modules"], state["frozen"])
        gradients = state.get("gradients", {})
        for name, parameter in self._names.parameters(self._model):
            gradient = gradients.get(name)
            if gradient is not None:
                gradient = as_sharded(gradient.to(parameter.device), parameter)
            parameter.grad = gradient
        if self._own is not None:
            self._own.update(state.get("own", {}))

    def left_out(self) -> List[str]:
        """What a script keeps in `state` that no checkpoint can hold, as sentences."""
        if self._own is None:
            return []
        return [
            f"state[{name!r}] is a {type(value).__name__}, which a checkpoint cannot hold: going "
            "back leaves it as it is. Keep tensors and plain values there."
            for name, value in self._own.items()
            if name not in self._known and not is_plain(value)
        ]

    def tensors(self) -> List[torch.Tensor]:
        """Every tensor that training holds: parameters, gradients, buffers, optimizer state."""
        found: Dict[int, torch.Tensor] = {}
        modules = [self._model, *([self._loss] if self._loss is not None else [])]
        held = [t for module in modules for t in [*module.parameters(), *module.buffers()]]
        for tensor in held:
            found[id(tensor)] = tensor
            if tensor.grad is not None:
                found[id(tensor.grad)] = tensor.grad
        for values in self._optimizer.state.values():
            found.update({id(v): v for v in values.values() if isinstance(v, torch.Tensor)})
        return list(found.values())

    def _optimizer_state(self) -> Dict[str, Any]:
        if self._sharded is not None:
            return self._sharded.optimizer()
        consolidate = getattr(self._optimizer, "consolidate_state_dict", None)
        if callable(consolidate):
            # A ZeroRedundancyOptimizer: each process has a part, until all bring theirs to rank 0.
            consolidate(to=0)
            if torch.distributed.get_rank() != 0:
                return {}
        return self._optimizer.state_dict()

    def _load_model(self, state: Mapping[str, Any]) -> None:
        if self._sharded is not None:
            self._sharded.load_model(state)
        else:
            self._names.load_into(self._model, state)

    def _load_optimizer(self, state: Mapping[str, Any]) -> None:
        if self._sharded is not None:
            self._sharded.load_optimizer(state)
        else:
            self._optimizer.load_state_dict(dict(state))

    def _scheduler_state(self) -> Any:
        if self._scheduler is None:
            return None
        # Older versions of torch keep functions in it, which a scheduler has anyway.
        return _without_functions(self._scheduler.state_dict())

    def _put_buffers(self, buffers: Mapping[str, torch.Tensor]) -> None:
        for name, buffer in self._names.buffers(self._model):
            if name in buffers and buffers[name].shape == buffer.shape:
                buffer.data.copy_(buffers[name])

    def _put_modes(self, in_eval: List[str], frozen: List[str]) -> None:
        for name, module in self._model.named_modules():
            module.training = self._names.plain(name) not in in_eval
        for name, parameter in self._names.parameters(self._model):
            if parameter.requires_grad is (name in frozen):
                parameter.requires_grad_(name not in frozen)

    def _kept_by_script(self) -> Dict[str, Any]:
        assert self._own is not None
        return {
            name: value
            for name, value in self._own.items()
            if name not in self._known and is_plain(value)
        }


def random_state() -> Dict[str, Any]:
    """The generators' states as plain values, for a checkpoint."""
    return randomness.as_plain(randomness.capture())


def _without_functions(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: inner for name, inner in value.items() if not inspect.isroutine(inner)}
        return {name: _without_functions(inner) for name, inner in kept.items()}
    if type(value) is list:
        return [_without_functions(inner) for inner in value]
    return value
