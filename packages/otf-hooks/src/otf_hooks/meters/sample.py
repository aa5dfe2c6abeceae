"""One sampled step: what its forward pass, its gradients and its update look like.

Hooks are there from its beginning to its end, and at no other step. They read; nothing is drawn,
changed in place, or kept from being freed.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Sequence, Set

import torch

from .norms import all_of, are_plain, gathered, spread, together, total_norm
from .section import Section, is_no_place_for_samples

#: Elements of a model's weights that are copied for the size of its update: 4 MB.
_MOST_WEIGHTS = 2**20
#: Elements of an activation that are looked at.
_MOST_ACTIVATIONS = 2**18
#: Where the classes of activation functions are.
_HOMES = ("torch.nn.modules.activation", "transformers.activations")
_OTHERS = ("MultiheadAttention", "Softmax", "Softmax2d", "LogSoftmax", "Softmin")


class Sample:
    """Watches one step; the optimizer's part may come in a later one, where gradients add up.

    Args:
        model: Its activation functions are watched, those in training mode.
        optimizers: Their gradients and parameters are measured. Optimizers of torch's own base
            class: a wrapper is asked for what it wraps by whoever has it.
        section: Around everything that is measured.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        section: Section,
    ) -> None:
        self.section = section
        self._stepped: Set[int] = set()
        self._optimizers = optimizers
        self._forward: List[Any] = []
        self._update: List[Any] = []
        self._zeros: List[torch.Tensor] = []
        self._looked_at = 0
        self._norms: Dict[str, List[torch.Tensor]] = {"grad_norm": [], "change": [], "before": []}
        self._before: Dict[int, Any] = {}
        with section.piece():
            for module in _activations(model):
                self._forward.append(module.register_forward_hook(self._activated))
            if not _is_sharded(model):
                for optimizer in optimizers:
                    self._update += [
                        optimizer.register_step_pre_hook(self._before_update),
                        optimizer.register_step_post_hook(self._after_update),
                    ]

    @property
    def has_stepped(self) -> bool:
        """Whether an optimizer has made its step."""
        return bool(self._stepped)

    def take(self) -> Dict[str, torch.Tensor]:
        """What the step showed that ends now, as scalars on their device."""
        found: Dict[str, torch.Tensor] = {}
        with self.section.piece():
            _remove(self._forward)
            if self._zeros:
                zeros = torch.stack([count.to(self._zeros[0].device) for count in self._zeros])
                found["activation_zeros"] = zeros.sum() / self._looked_at
                self._zeros = []
            if self.has_stepped:
                found.update(self._updated())
        return found if self.section.error is None else {}

    def close(self) -> None:
        """Take all hooks away."""
        _remove(self._forward)
        _remove(self._update)
        self._before.clear()

    def _activated(self, module: torch.nn.Module, args: Any, output: Any) -> None:
        if is_no_place_for_samples() or not isinstance(output, torch.Tensor) or not self._forward:
            return
        with self.section.piece():
            if not output.numel() or not are_plain([output]):
                return
            seen = spread(output, -(-output.numel() // _MOST_ACTIVATIONS))
            if self._zeros and self._zeros[0].device.type != output.device.type:
                return
            self._zeros.append(seen.numel() - torch.count_nonzero(seen))
            self._looked_at += seen.numel()

    def _before_update(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if is_no_place_for_samples() or self._is_seen(optimizer):
            return
        with self.section.piece():
            parameters = all_of(optimizer)
            # With a closure, what the gradients are now is not what the step is made of.
            if not _has_closure(args, kwargs):
                self._measure_gradients(optimizer)
            usable = [p for p in parameters if p.grad is not None or _has_closure(args, kwargs)]
            before = gathered(usable, _MOST_WEIGHTS) if are_plain(usable) else None
            self._before[id(optimizer)] = (usable, before)

    def _after_update(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if is_no_place_for_samples() or id(optimizer) not in self._before:
            return
        with self.section.piece():
            parameters, before = self._before.pop(id(optimizer))
            self._stepped.add(id(optimizer))
            if _has_closure(args, kwargs):
                self._measure_gradients(optimizer)
            after = None if before is None else gathered(parameters, _MOST_WEIGHTS)
            if before is not None and after is not None:
                self._norms["before"].append(total_norm([before]))
                self._norms["change"].append(total_norm([after - before]))

    def _is_seen(self, optimizer: torch.optim.Optimizer) -> bool:
        return id(optimizer) in self._before or id(optimizer) in self._stepped

    def _measure_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        trained = [p for p in all_of(optimizer) if p.grad is not None]
        gradients = [p.grad for p in trained if p.grad is not None]
        if not (are_plain(trained) and are_plain(gradients)):
            return
        norm = total_norm(gradients)
        # A fused optimizer divides by the loss scale itself, which a GradScaler hands it here.
        scale = getattr(optimizer, "grad_scale", None)
        self._norms["grad_norm"].append(norm if scale is None else norm / scale)

    def _updated(self) -> Dict[str, torch.Tensor]:
        found: Dict[str, torch.Tensor] = {}
        norms = self._norms
        if norms["grad_norm"]:
            found["grad_norm"] = together(norms["grad_norm"])
        if norms["before"]:
            found["update_ratio"] = together(norms["change"]) / together(norms["before"])
        weights = [p for optimizer in self._optimizers for p in all_of(optimizer)]
        if are_plain(weights):
            found["weight_norm"] = total_norm(list({id(p): p for p in weights}.values()))
        return found


def _activations(model: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The activation functions whose outputs can be looked at without any consequence.

    Not those of a model that is compiled: a hook there may have it compiled again. Nor those in
    eval mode, a teacher's say: some modules compute otherwise there when they have hooks.
    """
    modules = list(model.modules())
    if any(_is_compiled(module) or _is_copied(module) for module in modules):
        return
    for module in modules:
        kind = type(module)
        if kind.__module__ in _HOMES and kind.__name__ not in _OTHERS and module.training:
            yield module


def _is_compiled(module: torch.nn.Module) -> bool:
    is_whole = type(module).__name__ == "OptimizedModule"
    return is_whole or getattr(module, "_compiled_call_impl", None) is not None


def _is_copied(module: torch.nn.Module) -> bool:
    """Whether its copies on several devices run in threads of their own."""
    return isinstance(module, torch.nn.DataParallel)


def _is_sharded(model: torch.nn.Module) -> bool:
    """Whether the parameters are pieces, in the guise of whole ones (PyTorch's first FSDP)."""
    return any(type(part).__name__ == "FullyShardedDataParallel" for part in model.modules())


def _has_closure(args: Any, kwargs: Any) -> bool:
    # The optimizer itself is the first of them.
    return any(callable(value) for value in (*args[1:], kwargs.get("closure")))


def _remove(hooks: List[Any]) -> None:
    for hook in hooks:
        hook.remove()
    hooks.clear()
