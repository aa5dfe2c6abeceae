"""What the model returns in the forward passes of a step: its losses, and how many samples it saw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Dict, List, Optional

import torch

from ...batches import sample_count


class StepLosses:
    """The losses that a model returns while it is trained, from one step to the next.

    The Trainer gives no hook the loss of a step, only means over `logging_steps`. Models of
    transformers return theirs, and a forward hook sees it. It stays on its device.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._losses: List[torch.Tensor] = []
        self._is_sum = False
        self._samples = 0
        self._hook = model.register_forward_hook(self._after_forward, with_kwargs=True)

    def close(self) -> None:
        """Look no longer."""
        self._hook.remove()

    def clear(self) -> None:
        """A step begins."""
        self._losses, self._samples = [], 0

    @property
    def samples(self) -> int:
        """The samples of the step."""
        return self._samples

    def value(self) -> Optional[torch.Tensor]:
        """The loss of the step; None where the model returned none.

        Over several batches it is their mean, or their sum where the Trainer has the model divide
        each by the number of items in all of them.
        """
        if not self._losses:
            return None
        if len(self._losses) == 1:
            return self._losses[0]
        together = torch.stack([loss.float() for loss in self._losses])
        return together.sum() if self._is_sum else together.mean()

    def _after_forward(
        self, module: torch.nn.Module, args: Any, kwargs: Dict[str, Any], output: Any
    ) -> None:
        if not (module.training and torch.is_grad_enabled()):
            return
        self._samples += sample_count(kwargs or args)
        self._is_sum = kwargs.get("num_items_in_batch") is not None
        loss = output.get("loss") if isinstance(output, Mapping) else None
        if isinstance(loss, torch.Tensor):
            loss = loss.detach()
            # Of a model in several processes' parts: one each.
            self._losses.append(loss if loss.ndim == 0 else loss.mean())
