"""The whole state of a module in training, captured by reference and restored.

Beside weights, optimizers, schedulers and precision it holds what a Lightning checkpoint leaves out
and training depends on: modes, frozen parameters, buffers that are not persistent, gradients that
are being accumulated, metrics in the midst of an epoch, and what schedulers and callbacks monitor.
"""

from __future__ import annotations

import inspect
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

import torch

from ...errors import CheckpointError
from ...fitting import check_groups, check_tensors
from ...snapshot import is_plain
from ...wrappers import parallel_parts
from .rates import LightningHyperparameters, Optimizers

_NOT_OURS = (
    "The checkpoint was made by another front than Lightning's. Resume it with the script that made "
    "it, or take its weights alone."
)


class LightningState:
    """All that training depends on but the counters, the data and the generators."""

    def __init__(
        self, trainer: Any, optimizers: Optimizers, hyperparameters: LightningHyperparameters
    ) -> None:
        self._trainer = trainer
        self._module: Any = trainer.lightning_module
        self._optimizers = optimizers
        self._schedulers = schedulers_of(trainer)
        self._hyperparameters = hyperparameters

    def capture(self) -> Dict[str, Any]:
        """The state as the next step will find it, by reference."""
        trainer, module = self._trainer, self._module
        weights = module.state_dict()
        state = {
            "model": weights,
            "buffers": {n: b for n, b in module.named_buffers() if n not in weights},
            "eval_modules": eval_modules(module),
            "frozen": [name for name, part in module.named_parameters() if not part.requires_grad],
            "gradients": self._gradients(),
            "optimizers": [trainer.strategy.optimizer_state(each) for each in self._optimizers],
            "schedulers": [_without_functions(one.state_dict()) for one in self._schedulers],
            "precision": trainer.precision_plugin.state_dict(),
            "metrics": metric_states(module),
            "monitored": dict(trainer.callback_metrics),
            "should_stop": trainer.should_stop,
            "callbacks": self._callbacks(),
            "hyperparameters": self._hyperparameters.state(),
        }
        parallel = parallel_parts(trainer.model)
        if parallel:
            # Each process has its own, at least until the next forward pass that takes rank 0's:
            # not every one does, after gradients that were not reduced, or after a validation.
            state["own_buffers"] = dict(module.named_buffers())
            state["parallel"] = [part.require_forward_param_sync for part in parallel]
        state["added"] = self._added(state)
        return state

    def check(self, state: Mapping[str, Any], *, weights_only: bool = False) -> None:
        """Raise `CheckpointError` where a state does not fit; nothing is changed."""
        check_tensors("model", self._module.state_dict(), state["model"])
        if weights_only:
            return
        if "optimizers" not in state:
            raise CheckpointError(_NOT_OURS)
        kept = state["optimizers"]
        count = len(list(self._optimizers))
        if len(kept) != count:
            raise CheckpointError(
                f"The checkpoint has {len(kept)} optimizer(s), and this module {count}. Resume "
                "with the script it was made with."
            )
        for optimizer, saved in zip(self._optimizers, kept):
            check_groups(optimizer.param_groups, saved["param_groups"])

    def load_weights(self, state: Mapping[str, Any]) -> None:
        """Put the weights back, and nothing else."""
        self._module.load_state_dict(state["model"])

    def restore(self, state: Mapping[str, Any]) -> None:
        """Put everything back; raises `CheckpointError` where it does not fit."""
        self.check(state)
        trainer, module = self._trainer, self._module
        try:
            module.load_state_dict(state["model"])
            for optimizer, saved in zip(self._optimizers, state["optimizers"]):
                optimizer.load_state_dict(saved)
            for scheduler, saved in zip(self._schedulers, state["schedulers"]):
                scheduler.load_state_dict(dict(saved))
            if state["precision"]:
                trainer.precision_plugin.load_state_dict(state["precision"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"The checkpoint does not fit this script's module or optimizers: {error}. "
                "Resume with the script it was made with."
            ) from error
        self._hyperparameters.load(state["hyperparameters"])
        self._put_buffers({**state["buffers"], **state.get("own_buffers", {})})
        for part, syncs in zip(parallel_parts(trainer.model), state.get("parallel", [])):
            part.require_forward_param_sync = syncs
        put_modes(module, state["eval_modules"])
        for name, parameter in module.named_parameters():
            if parameter.requires_grad is (name in state["frozen"]):
                parameter.requires_grad_(name not in state["frozen"])
            gradient = state["gradients"].get(name)
            parameter.grad = None if gradient is None else gradient.to(parameter.device)
        put_metric_states(module, state["metrics"])
        self._put_monitored(state["monitored"])
        trainer.should_stop = state["should_stop"]
        for callback in trainer.callbacks:
            saved = state["callbacks"].get(callback.state_key)
            if saved is not None:
                callback.load_state_dict(dict(saved))
        self._take_added(state)

    def left_out(self) -> List[str]:
        """What callbacks keep that no checkpoint can hold, as sentences."""
        return [
            f"The callback {type(callback).__name__} keeps in its state_dict what a checkpoint "
            "cannot hold: going back leaves it as it is. Keep tensors and plain values there."
            for callback in self._trainer.callbacks
            if not is_plain(callback.state_dict())
        ]

    def tensors(self) -> List[torch.Tensor]:
        """Every tensor that training holds: parameters, gradients, buffers, optimizer state."""
        found: Dict[int, torch.Tensor] = {}
        for tensor in [*self._module.parameters(), *self._module.buffers()]:
            found[id(tensor)] = tensor
            if tensor.grad is not None:
                found[id(tensor.grad)] = tensor.grad
        for values in self._optimizers.state.values():
            found.update({id(v): v for v in values.values() if isinstance(v, torch.Tensor)})
        return list(found.values())

    # Parts

    @property
    def accumulates(self) -> bool:
        """Whether the next step may add to gradients that are there."""
        read = self._trainer.fit_loop.epoch_loop.batch_progress.current.ready
        begun = read % self._trainer.accumulate_grad_batches != 0
        return begun or not self._module.automatic_optimization

    def _gradients(self) -> Dict[str, torch.Tensor]:
        if not self.accumulates:
            return {}
        return {
            name: parameter.grad
            for name, parameter in self._module.named_parameters()
            if parameter.grad is not None
        }

    def _callbacks(self) -> Dict[str, Any]:
        states = {one.state_key: one.state_dict() for one in self._trainer.callbacks}
        return {key: state for key, state in states.items() if state and is_plain(state)}

    def _added(self, state: Dict[str, Any]) -> Dict[str, Any]:
        """What the hooks for checkpoints, of the module and the callbacks, put beside the rest."""
        checkpoint = self._for_hooks(state)
        known = set(checkpoint)
        self._module.on_save_checkpoint(checkpoint)
        for callback in self._trainer.callbacks:
            callback.on_save_checkpoint(self._trainer, self._module, checkpoint)
        added = {n: v for n, v in checkpoint.items() if n not in known and is_plain(v)}
        datamodule = self._trainer.datamodule
        if datamodule is not None and is_plain(datamodule.state_dict()):
            added[type(datamodule).__qualname__] = datamodule.state_dict()
        return added

    def _take_added(self, state: Mapping[str, Any]) -> None:
        checkpoint = {**self._for_hooks(state), **state["added"]}
        for callback in self._trainer.callbacks:
            callback.on_load_checkpoint(self._trainer, self._module, checkpoint)
        self._module.on_load_checkpoint(checkpoint)
        datamodule = self._trainer.datamodule
        kept = state["added"].get(type(datamodule).__qualname__)
        if datamodule is not None and kept is not None:
            datamodule.load_state_dict(kept)

    def _for_hooks(self, state: Mapping[str, Any]) -> Dict[str, Any]:
        """The state under the names that a Lightning checkpoint has for it."""
        return {
            "epoch": self._trainer.current_epoch,
            "global_step": self._trainer.global_step,
            "state_dict": dict(state["model"]),
            "optimizer_states": list(state["optimizers"]),
            "lr_schedulers": list(state["schedulers"]),
            "callbacks": dict(state["callbacks"]),
        }

    def _put_buffers(self, buffers: Mapping[str, torch.Tensor]) -> None:
        for name, buffer in self._module.named_buffers():
            if name in buffers and buffers[name].shape == buffer.shape:
                buffer.data.copy_(buffers[name])

    def _put_monitored(self, values: Mapping[str, Any]) -> None:
        # What schedulers and callbacks that monitor a metric look at: the trainer's own dict.
        metrics = self._trainer.callback_metrics
        device = self._trainer.strategy.root_device
        metrics.clear()
        metrics.update({name: value.to(device) for name, value in values.items()})


def schedulers_of(trainer: Any) -> List[Any]:
    """The schedulers of all optimizers, in the order of `configure_optimizers`."""
    return [config.scheduler for config in trainer.lr_scheduler_configs]


def eval_modules(module: torch.nn.Module) -> List[str]:
    """The names of the parts that are in eval mode."""
    return [name for name, part in module.named_modules() if not part.training]


def put_modes(module: torch.nn.Module, in_eval: List[str]) -> None:
    """Have exactly these parts in eval mode."""
    for name, part in module.named_modules():
        part.training = name not in in_eval


def metric_states(module: torch.nn.Module) -> Dict[str, Any]:
    """What the metrics of torchmetrics in a module have gathered, by reference."""
    return {name: dict(metric.metric_state) for name, metric in _metrics(module)}


def put_metric_states(module: torch.nn.Module, states: Mapping[str, Any]) -> None:
    """Put back what metrics had gathered; those that are not in `states` begin anew."""
    for name, metric in _metrics(module):
        metric.reset()
        for key, value in states.get(name, {}).items():
            device = _device_of(metric)
            setattr(metric, key, _moved(value, device))


def cloned(states: Mapping[str, Any]) -> Dict[str, Any]:
    """Metric states that no later update changes."""
    return {name: {k: _cloned(v) for k, v in state.items()} for name, state in states.items()}


def _metrics(module: torch.nn.Module) -> Iterator[Tuple[str, Any]]:
    for name, part in module.named_modules():
        if hasattr(type(part), "metric_state"):
            yield name, part


def _device_of(metric: Any) -> Optional[torch.device]:
    return getattr(metric, "device", None)


def _moved(value: Any, device: Optional[torch.device]) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone() if device is None else value.to(device, copy=True)
    return [_moved(item, device) for item in value] if isinstance(value, list) else value


def _cloned(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    return [_cloned(item) for item in value] if isinstance(value, list) else value


def _without_functions(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: inner for name, inner in value.items() if not inspect.isroutine(inner)}
        return {name: _without_functions(inner) for name, inner in kept.items()}
    if type(value) is list:
        return [_without_functions(inner) for inner in value]
    return value
