"""What is put around a model, and the names of its tensors without that.

`DistributedDataParallel` and `torch.compile` give a name a prefix for each layer of wrapping. A
checkpoint has the names without them, so that it fits the model however it is trained.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Tuple

import torch

from .errors import CheckpointError

_PARALLEL = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)


def unwrapped(model: torch.nn.Module) -> torch.nn.Module:
    """The model itself, as the script wrote it."""
    inner = _inside(model)
    while inner:
        model = getattr(model, inner)
        inner = _inside(model)
    return model


def without_parallel(model: torch.nn.Module) -> torch.nn.Module:
    """The model as one process calls it: without what has the processes wait for each other."""
    while isinstance(model, _PARALLEL):
        model = model.module
    # A compiled module around a parallel one cannot be taken apart and stay compiled.
    inside = unwrapped(model)
    return inside if any(isinstance(part, _PARALLEL) for part in model.modules()) else model


def parallel_parts(model: torch.nn.Module) -> List[torch.nn.parallel.DistributedDataParallel]:
    """Every part of a model that is trained by several processes."""
    kind = torch.nn.parallel.DistributedDataParallel
    return [part for part in model.modules() if isinstance(part, kind)]


def check_can_be_taken_apart(model: torch.nn.Module) -> None:
    """Raise `CheckpointError` where the model's own tensors cannot be had."""
    # Not isinstance: importing it takes as long as torch itself.
    if any(type(part).__name__ == "FullyShardedDataParallel" for part in model.modules()):
        raise CheckpointError(
            "The model is in a FullyShardedDataParallel, which flattens its parameters together: they "
            "cannot be saved by their names. Shard it with torch.distributed.fsdp.fully_shard."
        )


def is_wrapper(module: torch.nn.Module) -> bool:
    """Whether a module is only around another one."""
    return bool(_inside(module))


class Names:
    """The names of a model's tensors and modules, without wrappers' prefixes."""

    def __init__(self, model: torch.nn.Module) -> None:
        paths = [
            f"{path}.{_inside(part)}".lstrip(".")
            for path, part in model.named_modules()
            if _inside(part)
        ]
        #: The deepest first, so that the outer ones still fit what is left of a name.
        self._paths = sorted(paths, key=len, reverse=True)

    def plain(self, name: str) -> str:
        """A name without prefixes."""
        for path in self._paths:
            if name == path:
                name = path.rpartition(".")[0]
            elif name.startswith(f"{path}."):
                outer = path.rpartition(".")[0]
                rest = name[len(path) + 1 :]
                name = f"{outer}.{rest}" if outer else rest
        return name

    def state_of(self, module: torch.nn.Module) -> Dict[str, Any]:
        """The model's `state_dict` by plain names."""
        return {self.plain(name): value for name, value in module.state_dict().items()}

    def load_into(self, module: torch.nn.Module, state: Mapping[str, Any]) -> None:
        """Load a state with plain names; raises as `load_state_dict` does."""
        if self._paths:
            names = {self.plain(name): name for name in module.state_dict()}
            state = {names.get(name, name): value for name, value in state.items()}
        module.load_state_dict(state)

    def parameters(self, module: torch.nn.Module) -> List[Tuple[str, torch.nn.Parameter]]:
        """The parameters by plain names."""
        return [(self.plain(name), each) for name, each in module.named_parameters()]

    def buffers(self, module: torch.nn.Module) -> List[Tuple[str, torch.Tensor]]:
        """The buffers by plain names."""
        return [(self.plain(name), each) for name, each in module.named_buffers()]

    def in_eval_mode(self, module: torch.nn.Module) -> List[str]:
        """The modules that are in eval mode, wrappers left out."""
        return [
            self.plain(name)
            for name, part in module.named_modules()
            if not part.training and not is_wrapper(part)
        ]


def _inside(module: torch.nn.Module) -> str:
    """The attribute under which a wrapper has its module; empty for a module that is none."""
    if isinstance(module, _PARALLEL):
        return "module"
    # Not isinstance: importing the compiler takes seconds.
    return "_orig_mod" if "_orig_mod" in module._modules else ""  # noqa: SLF001
