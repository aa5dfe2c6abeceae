"""Hyperparameters in a loop that steps its optimizers and schedulers itself.

What a person sets is put in force around each step of an optimizer, by the hooks that optimizers
offer for it. Outside of those, and of safe points, the groups hold the scheduler's own rates: it goes
on as if nothing had happened. Where nobody has set anything there is no hook.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Tuple, cast

import torch
from otf_session.commands import Value
from otf_session.events import Hyperparameter

from ...errors import NotPossible
from ...hyperparameters import CLIP, Hyperparameters, Tunables


class LoopHyperparameters(Hyperparameters):
    """The entries of the script's optimizers, a limit to their gradients' norm, and tunables."""

    def __init__(
        self,
        *,
        optimizer: Any,
        parts: Mapping[str, torch.optim.Optimizer],
        scheduler: Any,
        tunables: Tunables,
        watch_gradients: bool,
    ) -> None:
        super().__init__(
            optimizer=cast("torch.optim.Optimizer", optimizer),
            scheduler=scheduler,
            grad_clip_norm=None,
            tunables=tunables,
        )
        self._parts = dict(parts)
        self._watch_gradients = watch_gradients
        self._own_in_place = False
        self._hooks: List[Any] = []
        self._norms: Dict[int, torch.Tensor] = {}
        self._used: List[Any] = []
        self.settle()

    @property
    def is_active(self) -> bool:
        """Whether anything is done around the optimizers' steps."""
        return bool(self._hooks)

    def close(self) -> None:
        """Training is over: leave the optimizers as they were."""
        self.in_force()
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    # At safe points

    def in_force(self) -> None:
        """The groups hold the rates in force; what the scheduler came to is kept."""
        if self._own_in_place:
            self._own_in_place = False
            self._scheduled = self._rates()
            self._put_rates()

    def settle(self) -> None:
        """The script goes on from here: its schedulers find their own rates."""
        self._put_own()
        needed = (
            self._scheduled is not None or self._watch_gradients or self.grad_clip_norm is not None
        )
        if needed and not self._hooks:
            for part in self._parts.values():
                self._hooks.append(part.register_step_pre_hook(self._before_step))
                self._hooks.append(part.register_step_post_hook(self._after_step))
        elif not needed and self._hooks:
            self.close()

    def load(self, state: Dict[str, Any]) -> None:
        """Take over what a checkpoint kept, which was made with the rates in force."""
        super().load(state)
        self._own_in_place = False

    def table(self) -> List[Hyperparameter]:
        """Every hyperparameter with its value and bounds."""
        rows = super().table()
        return rows if self._parts else [row for row in rows if row.name != CLIP]

    def step_values(self) -> Dict[str, Any]:
        """What the newest step was done with: learning rates, and the norm that guards watch."""
        self._used = self._used or [group["lr"] for group in self._optimizer.param_groups]
        values: Dict[str, Any] = named_rates(self._used)
        if self._norms:
            norms = list(self._norms.values())
            values["grad_norm"] = (
                norms[0]
                if len(norms) == 1
                else torch.linalg.vector_norm(
                    torch.stack([norm.to(norms[0].device) for norm in norms])
                )
            )
        self._used = []
        self._norms.clear()
        return values

    # Around an optimizer's step

    def _before_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self.in_force()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if self._watch_gradients:
            self._norms[id(optimizer)] = gradient_norm(parameters)
        if self.grad_clip_norm is not None:
            # A fused optimizer is handed gradients that are still scaled, and the scale.
            scale = getattr(optimizer, "grad_scale", None)
            limit = self.grad_clip_norm * (1.0 if scale is None else float(scale))
            torch.nn.utils.clip_grad_norm_(parameters, limit)

    def _after_step(self, *_: Any) -> None:
        self._used = [group["lr"] for group in self._optimizer.param_groups]
        self._put_own()

    def _put_own(self) -> None:
        if self._scheduled is None or self._own_in_place:
            return
        self._own_in_place = True
        for group, rate in zip(self._optimizer.param_groups, self._scheduled):
            if isinstance(group["lr"], torch.Tensor):
                # In place: a captured graph and the optimizer hold this very tensor.
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def _rates(self) -> List[float]:
        return [self._rate(number) for number in range(len(self._optimizer.param_groups))]

    def _plan(
        self, name: str, value: Value, groups: List[int]
    ) -> List[Tuple[str, Optional[int], Value]]:
        if name == CLIP and not self._parts:
            raise NotPossible(
                "The script gave watch no optimizer whose gradients could be clipped."
            )
        return super()._plan(name, value, groups)


def named_rates(rates: List[Any]) -> Dict[str, Any]:
    """Learning rates as metrics: `lr`, or `lr/0` and so on where there are several groups."""
    if len(rates) == 1:
        return {"lr": rates[0]}
    return {f"lr/{number}": rate for number, rate in enumerate(rates)}


def gradient_norm(parameters: List[torch.Tensor]) -> torch.Tensor:
    """The 2-norm of all gradients together, on their device; 0 where there are none."""
    norms = [torch.linalg.vector_norm(p.grad.detach()) for p in parameters if p.grad is not None]
    if not norms:
        return torch.zeros(())
    together = torch.stack([norm.to(norms[0].device) for norm in norms])
    return torch.as_tensor(torch.linalg.vector_norm(together))
