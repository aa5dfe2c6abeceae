"""Normalisation: running statistics that are not the batches', and inputs that do not vary."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..batches import tensors
from .findings import Findings, percent
from .modules import named

#: Updates after which running statistics should have followed, in units of 1 / momentum.
_SETTLED = 3.0
#: Standard deviations that the running mean may be off, and the factor for the variance.
_FAR, _FACTOR = 1.0, 4.0
#: Values per channel from which a batch's variance says something.
_FEWEST = 32
#: The share of channels or rows that may be as flat as `eps`.
_FLAT = 0.1


class Norms:
    """Watches what normalisation layers are given."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = {
            named(name, module): module
            for name, module in model.named_modules()
            if isinstance(module, (_BatchNorm, nn.LayerNorm))
        }
        # As they were before the first step on trial, which moves them.
        self._running = {
            name: (_copied(module.running_mean), _copied(module.running_var))
            for name, module in self._modules.items()
            if isinstance(module, _BatchNorm) and _is_settled(module)
        }
        self._hooks: List[Any] = []
        self._batches: Dict[str, List[Tuple[torch.Tensor, torch.Tensor]]] = {}
        self._values: Dict[str, int] = {}
        self._flat: Dict[str, List[torch.Tensor]] = {}

    def __enter__(self) -> Norms:
        for name, module in self._modules.items():
            self._hooks.append(module.register_forward_pre_hook(self._given_to(name)))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def settle(self, notes: Findings) -> None:
        """Say which statistics are off, and where there is nothing to normalise."""
        for name, (mean, variance) in self._running.items():
            batches = self._batches.get(name)
            # A few values per channel have a variance of their own at each batch.
            if batches and self._values[name] >= _FEWEST:
                _compared(notes, name, mean.float(), variance.float(), batches)
        for name, shares in self._flat.items():
            share = float(torch.stack(shares).mean())
            notes.measure(f"flat/{name}", share)
            if share > _FLAT:
                _too_flat(notes, name, self._modules[name], share)

    def _given_to(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any) -> None:
            given = next(iter(tensors(args)), None)
            if given is None or not given.is_floating_point() or given.ndim < 2:  # noqa: PLR2004
                return
            values = given.detach().float()
            if isinstance(module, nn.LayerNorm):
                dims = tuple(range(-len(module.normalized_shape), 0))
                variance = values.var(dim=dims, unbiased=False)
                self._flat.setdefault(name, []).append((variance <= module.eps).float().mean())
                return
            dims = tuple(dim for dim in range(values.ndim) if dim != 1)
            if values.numel() // values.shape[1] < 2:  # noqa: PLR2004
                return
            mean, variance = values.mean(dim=dims), values.var(dim=dims, unbiased=False)
            self._batches.setdefault(name, []).append((mean, variance))
            self._flat.setdefault(name, []).append((variance <= module.eps).float().mean())  # type: ignore[operator]
            self._values[name] = self._values.get(name, 0) + values.numel() // values.shape[1]

        return hook


def _copied(statistic: Optional[torch.Tensor]) -> torch.Tensor:
    assert statistic is not None
    return statistic.detach().clone()


def _is_settled(module: _BatchNorm) -> bool:
    if module.running_mean is None or not module.training:
        return False
    updates = int(module.num_batches_tracked) if module.num_batches_tracked is not None else 0
    return updates >= _SETTLED / (module.momentum or 0.1)


def _compared(
    notes: Findings,
    name: str,
    running_mean: torch.Tensor,
    running_variance: torch.Tensor,
    batches: List[Tuple[torch.Tensor, torch.Tensor]],
) -> None:
    mean = torch.stack([each for each, _ in batches]).mean(dim=0)
    variance = torch.stack([each for _, each in batches]).mean(dim=0)
    spread = variance.clamp_min(1e-12).sqrt()
    away = float(((running_mean - mean).abs() / spread).median())
    ratio = float((running_variance / variance.clamp_min(1e-12)).median())
    notes.measure(f"running mean away/{name}", away)
    notes.measure(f"running variance ratio/{name}", ratio)
    if away > _FAR or not 1 / _FACTOR <= ratio <= _FACTOR:
        notes.warning(
            name,
            "Its running statistics are not those of the batches.",
            value=f"mean {away:.2g} standard deviations away, variance {ratio:.2g} times theirs "
            "(medians over channels)",
            meaning="Training normalises by the batch and evaluation by these, so that validation "
            "is worse than the weights are.",
            remedy="Raise its momentum, let training settle at a lower learning rate, or give it "
            "larger batches.",
        )


def _too_flat(notes: Findings, name: str, module: nn.Module, share: float) -> None:
    what = "rows" if isinstance(module, nn.LayerNorm) else "channels"
    notes.warning(
        name,
        f"Many {what} that it is given do not vary.",
        value=f"{percent(share)} of them have a variance of at most eps ({module.eps:g})",
        meaning="Divided by almost nothing, they come out as noise or as 0.",
        remedy="Look at dead units before it; they are what does not vary.",
    )
