"""Attention: whether heads look at one position only.

The entropy of a row of attention weights, over that of a uniform one, is 1 where it looks at all
positions alike and 0 where it looks at one.
"""

from __future__ import annotations

import math
from typing import Any, Dict, List, Optional, Tuple

import torch

from .findings import Findings, percent
from .modules import Whereabouts

#: Normalised entropy below which a head counts as collapsed, and the share of heads for a finding.
_COLLAPSED, _MANY = 0.02, 0.5
_SOFTMAX = ("_softmax", "_safe_softmax")
#: The operators of fused attention, and which of their arguments says that it is causal.
_CAUSAL_AT = {
    "_scaled_dot_product_flash_attention_for_cpu": 4,
    "_scaled_dot_product_flash_attention": 4,
    "_scaled_dot_product_efficient_attention": 6,
    "_scaled_dot_product_cudnn_attention": 6,
}
#: Logits at or below this are those of positions that a mask leaves out, in half precision too.
_MASKED = -3e4
#: Rows of queries that are looked at in fused attention, whose weights are never written down.
_ROWS = 64


class Attention:
    """Watches the weights of attention: softmax over the last of three or more dimensions."""

    def __init__(self) -> None:
        #: Of each place and call the normalised entropy per head.
        self._entropies: Dict[str, List[torch.Tensor]] = {}

    def before(
        self, operator: str, args: Tuple[Any, ...], where: Whereabouts
    ) -> Optional[Tuple[str, torch.Tensor]]:
        """The logits that are about to be made into weights, as far as positions are allowed."""
        if operator in _SOFTMAX and args[0].ndim > 2 and args[1] in (-1, args[0].ndim - 1):  # noqa: PLR2004
            return where.name, args[0].detach()
        if operator in _CAUSAL_AT:
            place = _CAUSAL_AT[operator]
            return where.name, _logits(*args[:2], is_causal=len(args) > place and args[place])
        return None

    def after(self, seen: Tuple[str, torch.Tensor], result: Any) -> None:
        """Take the entropy of the weights that come of the logits."""
        name, logits = seen
        entropy = _entropy(logits.float())
        if entropy is not None:
            self._entropies.setdefault(name, []).append(entropy)

    def settle(self, notes: Findings) -> None:
        """Say where heads have collapsed."""
        for name, calls in self._entropies.items():
            if len({len(call) for call in calls}) > 1:
                continue
            heads = torch.stack(calls).mean(dim=0)
            notes.measure(f"attention entropy/{name}", float(heads.mean()))
            collapsed = int((heads < _COLLAPSED).sum())
            if collapsed / len(heads) >= _MANY:
                notes.warning(
                    name,
                    f"{collapsed} of {len(heads)} attention heads look at one position only.",
                    value=f"entropy {percent(float(heads.min()))} to {percent(float(heads.max()))} "
                    "of a uniform one",
                    meaning="The softmax is saturated there, so that queries and keys get hardly any "
                    "gradient, and training may become unstable.",
                    remedy="Lower the learning rate or warm it up, normalise queries and keys, or "
                    "scale the logits by 1 / sqrt(head size).",
                )


def _logits(query: Any, key: Any, *, is_causal: bool) -> torch.Tensor:
    """The logits of the last rows of fused attention, which never writes its weights down.

    A mask other than the causal one is not seen: its positions count as allowed.
    """
    query, key = query.detach(), key.detach()
    if query.ndim == key.ndim and query.shape[1] != key.shape[1]:
        # Several heads of queries share one of keys.
        key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    rows = query[..., -_ROWS:, :].float()
    logits: torch.Tensor = rows @ key.float().transpose(-1, -2) / math.sqrt(query.shape[-1])
    if is_causal:
        later = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device)
        logits = logits.masked_fill(later.triu(1 + query.shape[-2] - rows.shape[-2]), -math.inf)
    return logits


def _entropy(logits: torch.Tensor) -> Optional[torch.Tensor]:
    """The normalised entropy per head; None where no row has anything to choose from."""
    allowed = (logits > _MASKED).sum(dim=-1)
    entropy = torch.special.entr(torch.softmax(logits, dim=-1)).sum(dim=-1)
    is_open = allowed > 1
    if not bool(is_open.any()):
        return None
    # Of (batch, heads, rows); where there is one head there may be no dimension for it.
    shape = (is_open.shape[0], -1, is_open.shape[-1]) if is_open.ndim > 2 else (1, 1, -1)  # noqa: PLR2004
    ratios = torch.where(is_open, entropy / allowed.clamp_min(2).log(), torch.zeros_like(entropy))
    summed = ratios.reshape(shape).sum(dim=(0, 2))
    found: torch.Tensor = summed / is_open.reshape(shape).sum(dim=(0, 2)).clamp_min(1)
    return found
