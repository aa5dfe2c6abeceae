"""Several low-rank adapters that are to become one: who takes part, and how the result is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import InvalidParameter
from .beside import averaged_beside
from .config import bases_of, only_at, ranks, require_alike, same_places
from .lora import read_adapter, require_same_shapes
from .names import PREFIX, canonical
from .products import Product, total

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from ..parents import Parent
    from .lora import Adapter, Factors


@dataclass(frozen=True)
class Joining:
    """The adapters that have a share, in their order, and the first of all, which the result is like.

    `modules` has the factors of every module that one of them adapts, with the adapter's place in
    `adapters`.
    """

    first: Adapter
    adapters: Sequence[Adapter]
    shares: Sequence[float]
    normalized: bool
    alpha: float | None
    modules: Mapping[str, Sequence[tuple[int, Factors]]]

    def exact(self, module: str) -> Product:
        """The weighted sum of the module's deltas, `sum(w[i] * s[i] * B[i] @ A[i])`.

        An adapter that the module does not have adds nothing to it.
        """
        held = self.modules[module]
        products = [Product(it.b(), it.a()) for _, it in held]
        return total(products, [self.shares[place] * it.scaling for place, it in held])

    def beside(self) -> dict[str, Tensor]:
        """The average of all that the adapters hold beside factors."""
        return averaged_beside(self.adapters, self.shares, normalized=self.normalized)

    def bias(self, module: str) -> Tensor | None:
        """The weighted sum of what is added after B, as it acts on the outputs."""
        parts = [
            self.shares[place] * it.scaling * it.tensor("bias")
            for place, it in self.modules[module]
            if it.has_bias
        ]
        return sum(parts[1:], parts[0]) if parts else None

    def written_scaling(self, rank: int) -> float:
        """What whoever loads the result multiplies a product of that rank with.

        Where there is a configuration, it says 1. A plain file has none: the code that loads it
        knows one alpha, which stays in force.
        """
        if self.first.config is not None or self.alpha is None:
            return 1.0
        return self.alpha / rank

    def written(
        self, module: str, a: Tensor, b: Tensor, bias: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The module's matrices in the shapes and under the names of its first holder's."""
        _, like = self.modules[module][0]
        rank = len(a)
        found = {
            "A": a.reshape(rank, *like.spec("A").shape[1:]),
            "B": b.reshape(len(b), rank, *like.spec("B").shape[2:]),
        }
        if bias is not None:
            found["bias"] = bias
        names = {part: self._named(like.names.get(part, "")) for part in found}
        if bias is not None and not names["bias"]:
            names["bias"] = names["B"].removesuffix("weight") + "bias"
        dtype = like.spec("A").dtype
        known = self.first.checkpoint.specs
        # What the first adapter has is rounded once, in the end, to the dtype that was asked for.
        return {
            names[part]: it if names[part] in known else it.to(dtype) for part, it in found.items()
        }

    def settings(self, found: Mapping[str, int]) -> dict[str, Any]:
        """What the result's configuration has instead of the first one's: ranks, and scaling 1."""
        return {**ranks(found), **self.places()}

    def places(self) -> dict[str, Any]:
        """The modules, where the first adapter's configuration does not name all of them."""
        configs = [it.config for it in self.adapters if it.config is not None]
        known = set(self.modules) <= set(self.first.factors)
        return {} if known and same_places(configs) else only_at(list(self.modules))

    def told(self) -> dict[str, Any]:
        """What reports say of any such merge."""
        bases = bases_of([it.config for it in self.adapters if it.config is not None])
        adapters = [it.label for it in self.adapters]
        beside = len(self.adapters[0].others) + len(self.adapters[0].magnitudes)
        return {
            "adapters": adapters,
            "shares": list(self.shares),
            "averaged_beside": beside,
            **({"bases": bases} if len(bases) > 1 else {}),
        }

    def _named(self, name: str) -> str:
        """A name with the prefix that the first adapter's have, or without one."""
        ours = all(it.startswith(PREFIX) for it in self.first.checkpoint.specs)
        short = canonical(name)
        if not name or name in self.first.checkpoint.specs:
            return name
        return PREFIX + short if ours else short


def joining(
    parents: Sequence[Parent],
    weights: Sequence[float],
    *,
    normalize: bool,
    alpha: float | None,
) -> Joining:
    """Read the adapters and see whether they can become one; those without weight are left out."""
    everyone = [read_adapter(it, alpha) for it in parents]
    if alpha is not None and all(it.config is not None for it in everyone):
        raise InvalidParameter(
            "`lora_alpha` is for adapters without a configuration, and each of these has its own in "
            "adapter_config.json. Leave it out, or change it there."
        )
    whole = sum(weights) if normalize else 1.0
    active = [(it, weight / whole) for it, weight in zip(everyone, weights) if weight]
    adapters = [it for it, _ in active]
    require_alike([it.config for it in adapters if it.config is not None])
    modules: dict[str, list[tuple[int, Factors]]] = {}
    for place, adapter in enumerate(adapters):
        for module, factors in adapter.factors.items():
            modules.setdefault(module, []).append((place, factors))
    for module, held in modules.items():
        require_same_shapes(module, [(adapters[place], it) for place, it in held])
    return Joining(everyone[0], adapters, [share for _, share in active], normalize, alpha, modules)
