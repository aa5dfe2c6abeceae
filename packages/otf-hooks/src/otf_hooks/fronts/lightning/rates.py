"""Hyperparameters under Lightning, where the trainer steps the schedulers."""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, cast

import torch
from otf_session.commands import Value
from otf_session.events import Hyperparameter

from ...errors import NotPossible
from ...hyperparameters import CLIP, Hyperparameters, Tunables


class Optimizers:
    """All optimizers of a module as one: their groups are counted through, from 0."""

    def __init__(self, optimizers: Sequence[Any]) -> None:
        self._optimizers = list(optimizers)

    @property
    def param_groups(self) -> List[Dict[str, Any]]:
        """The groups of all, by reference."""
        return [group for optimizer in self._optimizers for group in optimizer.param_groups]

    @property
    def state(self) -> Dict[Any, Dict[str, Any]]:
        """What all remember of each parameter, by reference."""
        return {key: kept for one in self._optimizers for key, kept in one.state.items()}

    def state_dict(self) -> Dict[str, Any]:
        """The states of all, by their numbers."""
        return {str(n): one.state_dict() for n, one in enumerate(self._optimizers)}

    def __iter__(self) -> Iterator[Any]:
        return iter(self._optimizers)


class LightningHyperparameters(Hyperparameters):
    """Scaled and held rates for schedulers that somebody else steps.

    A scheduler finds its own rates whenever it is stepped: inside `scheduler_steps` those are in
    the groups, and the rates in force only while an optimizer steps.
    """

    def __init__(
        self,
        *,
        optimizers: Optimizers,
        schedulers: Sequence[Any],
        grad_clip_norm: Optional[float],
        not_clipped_because: str,
        tunables: Tunables,
    ) -> None:
        super().__init__(
            optimizer=cast("torch.optim.Optimizer", optimizers),
            scheduler=schedulers[0] if schedulers else None,
            grad_clip_norm=grad_clip_norm,
            tunables=tunables,
        )
        self._not_clipped_because = not_clipped_because
        self._inside = False
        self._hooks = [
            hook
            for optimizer in (optimizers if schedulers else ())
            for hook in (
                optimizer.register_step_pre_hook(self._before_step),
                optimizer.register_step_post_hook(self._after_step),
            )
        ]

    def close(self) -> None:
        """Training is over: leave the optimizers as they were."""
        for hook in self._hooks:
            hook.remove()

    def table(self) -> List[Hyperparameter]:
        """Every hyperparameter with its value and bounds."""
        rows = super().table()
        return [row for row in rows if row.name != CLIP] if self._not_clipped_because else rows

    @contextlib.contextmanager
    def scheduler_steps(self) -> Iterator[None]:
        """Inside, schedulers may be stepped: they find their own rates."""
        if self._scheduled is None:
            yield
            return
        self._put_own()
        self._inside = True
        try:
            yield
        finally:
            self._inside = False
            self._keep_own()
            self._put_rates()

    def _before_step(self, *_: Any) -> None:
        if self._inside:
            self._keep_own()
            self._put_rates()

    def _after_step(self, *_: Any) -> None:
        if self._inside:
            self._put_own()

    def _keep_own(self) -> None:
        self._scheduled = [self._rate(n) for n in range(len(self._optimizer.param_groups))]

    def _put_own(self) -> None:
        assert self._scheduled is not None
        for group, rate in zip(self._optimizer.param_groups, self._scheduled):
            if isinstance(group["lr"], torch.Tensor):
                # In place: a captured graph and the optimizer hold this very tensor.
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def _plan(
        self, name: str, value: Value, groups: List[int]
    ) -> List[Tuple[str, Optional[int], Value]]:
        if name == CLIP and self._not_clipped_because:
            raise NotPossible(self._not_clipped_because)
        return super()._plan(name, value, groups)
