"""The state of a model whose parameters are sharded over processes (FSDP2), as one process has it.

Every process calls these functions. The whole tensors come together on rank 0, on the CPU, by
`torch.distributed.checkpoint`; and from a checkpoint each process takes its own shards.
"""

from __future__ import annotations

import sys
from typing import Any, Dict, List, Mapping

import torch

from ..wrappers import Names


def is_sharded(model: torch.nn.Module) -> bool:
    """Whether any parameter is only a part on this process."""
    # Where nobody has imported it, there are none. Older versions of torch have it elsewhere.
    homes = [sys.modules.get(f"torch.distributed.{name}") for name in ("tensor", "_tensor")]
    kinds = [getattr(home, "DTensor") for home in homes if hasattr(home, "DTensor")]  # noqa: B009
    return any(isinstance(parameter, tuple(kinds)) for parameter in model.parameters())


class ShardedState:
    """Captures and loads the whole states of a sharded model and its optimizer."""

    def __init__(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        from torch.distributed.checkpoint import state_dict

        self._torch = state_dict
        self._model = model
        self._optimizer = optimizer
        self._options = state_dict.StateDictOptions(full_state_dict=True, cpu_offload=True)

    def model(self) -> Dict[str, Any]:
        """The model's whole state on rank 0; elsewhere nothing."""
        return dict(self._torch.get_model_state_dict(self._model, options=self._options))

    def optimizer(self) -> Dict[str, Any]:
        """The optimizer's whole state on rank 0, as `state_dict` gives it where nothing is sharded."""
        if not self._optimizer.state:
            return self._optimizer.state_dict()
        found: Any = self._torch.get_optimizer_state_dict(
            self._model, self._optimizer, options=self._options
        )
        if not found:
            return {}
        numbers = {name: number for number, name in enumerate(self._parameter_names())}
        groups = [
            {**group, "params": [numbers[name] for name in group["params"]]}
            for group in found["param_groups"]
        ]
        state = {numbers[name]: values for name, values in found["state"].items()}
        return {"state": dict(sorted(state.items())), "param_groups": groups}

    def load_model(self, state: Mapping[str, Any]) -> None:
        """Take this process's part of a whole state."""
        self._torch.set_model_state_dict(self._model, dict(state), options=self._options)

    def load_optimizer(self, state: Mapping[str, Any]) -> None:
        """Take this process's part of a whole state, as `optimizer` gave it."""
        if not state["state"]:
            self._optimizer.state.clear()
            self._optimizer.load_state_dict(dict(state))
            return
        names = self._parameter_names()
        groups = [
            {**group, "params": [names[number] for number in group["params"]]}
            for group in state["param_groups"]
        ]
        named = {names[number]: values for number, values in state["state"].items()}
        self._torch.set_optimizer_state_dict(
            self._model,
            self._optimizer,
            {"state": named, "param_groups": groups},
            options=self._options,
        )

    def _parameter_names(self) -> List[str]:
        """The names of the optimizer's parameters, in its order."""
        known = {id(each): name for name, each in Names(self._model).parameters(self._model)}
        groups = self._optimizer.param_groups
        return [known[id(parameter)] for group in groups for parameter in group["params"]]


def own_part(tensor: Any) -> Any:
    """The part of a sharded tensor that this process has; any other tensor as it is."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def as_sharded(part: torch.Tensor, like: Any) -> torch.Tensor:
    """The sharded tensor of which this process has a part, sharded like another one."""
    if not hasattr(like, "to_local"):
        return part
    whole: torch.Tensor = type(like.data).from_local(
        part.to(like.device),
        like.device_mesh,
        like.placements,
        shape=like.shape,
        stride=like.stride(),
    )
    return whole
