"""What functions and methods in a model's graph do to the dimensions of their arguments."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

from torch import Tensor

from .dims import Dim, UnitSets, fixed, length, merged

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Dims = tuple[Dim, ...]


@dataclass(frozen=True)
class Marked:
    """A value in the graph and, for each of its dimensions, which units it stands for."""

    value: Tensor
    dims: Dims


# What treats every element alike, with others of its place where there are several tensors.
_POINTWISE = re.compile(
    r"abs|add|alpha_dropout|bfloat16|celu|clamp|clamp_max|clamp_min|clone|contiguous|cos|detach|div"
    r"|double|dropout|dropout1d|dropout2d|dropout3d|elu|eq|erf|exp|expm1|feature_dropout|float|fmax"
    r"|fmin|ge|gelu|gt|half|hardsigmoid|hardswish|hardtanh|iadd|idiv|imul|isub|itruediv|le"
    r"|leaky_relu|lerp|log|log1p|log_sigmoid|log_softmax|logsigmoid|lt|masked_fill|maximum|minimum"
    r"|mish|mul|multiply|nan_to_num|ne|neg|negative|pow|reciprocal|relu|relu6|rrelu|rsqrt|rsub|selu"
    r"|sigmoid|sign|silu|sin|softmax|softmin|softplus|softshrink|softsign|sqrt|square|sub|subtract"
    r"|tanh|tanhshrink|threshold|to|true_divide|truediv|type|type_as|where"
)
_REDUCTIONS = re.compile(r"all|amax|amin|any|logsumexp|mean|norm|prod|std|sum|var")
_POOLING = re.compile(r"(?:adaptive_)?(?:avg|max|lp)_pool([123])d")
_RESHAPES = re.compile(r"flatten|reshape|reshape_as|unflatten|view|view_as")


class Operations:
    """The rules for functions and methods, by name. What has none keeps its arguments as they are."""

    def __init__(self, units: UnitSets) -> None:
        self.units = units
        self._rules: dict[str, Callable[[str, list[Any], Mapping[str, Any], Any], Any]] = {
            "permute": self._permuted,
            "transpose": self._transposed,
            "swapaxes": self._transposed,
            "t": self._transposed,
            "squeeze": self._squeezed,
            "unsqueeze": self._squeezed,
            "expand": self._expanded,
            "expand_as": self._expanded,
            "cat": self._concatenated,
            "concat": self._concatenated,
            "concatenate": self._concatenated,
            "getitem": self._taken,
            "interpolate": self._kept_sizes,
            "pad": self._kept_sizes,
        }

    def function(
        self, where: str, name: str, args: list[Any], kwargs: Mapping[str, Any], result: Any
    ) -> Any:
        """The result with its dimensions marked; whatever is no tensor comes back as it is."""
        if name in ("getitem", "getattr") and not isinstance(args[0], Marked):
            # One of several results, which are marked themselves.
            return args[0][args[1]] if name == "getitem" else getattr(args[0], args[1])
        name = name.rstrip("_")
        tensors = marked_in([args, kwargs])
        if not tensors or not isinstance(result, Tensor):
            if tensors and _has_tensors(result):
                return self._unknown(where, tensors, result)
            return _as_fixed(result)
        dims = self._dims(where, name, args, kwargs, result)
        if dims is None:
            return self._unknown(where, tensors, result)
        return Marked(result, dims)

    def _dims(
        self, where: str, name: str, args: list[Any], kwargs: Mapping[str, Any], result: Tensor
    ) -> Dims | None:
        first = args[0] if args else None
        if _POINTWISE.fullmatch(name):
            return self.pointwise(where, marked_in([args, kwargs]), result)
        if name in self._rules:
            found: Dims | None = self._rules[name](where, args, kwargs, result)
            return found
        if not isinstance(first, Marked):
            return None
        if _RESHAPES.fullmatch(name):
            return self.reshaped(first, tuple(result.shape))
        if _REDUCTIONS.fullmatch(name):
            return self._reduced(first, args, kwargs, result)
        pooling = _POOLING.fullmatch(name)
        return self.pooled(where, first, int(pooling[1]), result) if pooling else None

    def _unknown(self, where: str, tensors: Iterable[Marked], result: Any) -> Any:
        reason = f"`{where}` works on it in a way that is not known to treat all units alike"
        self.units.keep((dim for it in tensors for dim in it.dims), reason)
        return _as_fixed(result)

    # The rules: each gives the dimensions of the result, or None where it does not apply

    def pointwise(self, where: str, tensors: Sequence[Marked], result: Tensor) -> Dims | None:
        """Element by element, smaller tensors repeated along the dimensions that they lack."""
        reason = f"`{where}` joins it with values in another order"
        found = []
        for place in range(-result.dim(), 0):
            dims = [it.dims[place] for it in tensors if len(it.dims) >= -place]
            found.append(self.units.join(dims, reason))
        lengths = [length(dim) for dim in found]
        return tuple(found) if lengths == list(result.shape) else None

    def pooled(self, where: str, given: Marked, count: int, result: Tensor) -> Dims:
        """Over the last `count` dimensions, which therefore stay in order."""
        reason = f"`{where}` pools over it"
        self.units.keep(given.dims[-count:], reason)
        return (*given.dims[:-count], *(fixed(size) for size in result.shape[-count:]))

    def reshaped(self, given: Marked, shape: tuple[int, ...]) -> Dims | None:
        """The same elements under another shape."""
        found: list[Dim] = []
        dims = list(given.dims)
        for sizes, count in _groups([length(dim) for dim in dims], list(shape)):
            together, dims = dims[:count], dims[count:]
            split = self._split(together, sizes)
            if split is None:
                return None
            found += split
        return tuple(found)

    def _split(self, together: list[Dim], sizes: list[int]) -> list[Dim] | None:
        if len(sizes) == len(together) == 1:
            return together
        if all(self.units.is_fixed(dim) for dim in together):
            return [fixed(size) for size in sizes]
        if len(sizes) == 1:
            one = merged(together)
            return None if one is None else [one]
        (only, *more) = together
        if more or len(only) != 1 or only[0].size != sizes[0]:
            return None
        return [(only[0]._replace(block=1),), *(fixed(size) for size in sizes[1:])]

    def _reduced(
        self, given: Marked, args: list[Any], kwargs: Mapping[str, Any], result: Tensor
    ) -> Dims | None:
        """Over whole dimensions: which elements were where along them makes no difference."""
        if not result.dim():
            return ()
        place = kwargs.get("dim", args[1] if len(args) > 1 else None)
        places = [place] if isinstance(place, int) else place
        if not isinstance(places, (list, tuple)) or not all(isinstance(it, int) for it in places):
            return None
        count = len(given.dims)
        gone = {it % count for it in places}
        if result.dim() == count:
            return tuple(fixed(1) if i in gone else dim for i, dim in enumerate(given.dims))
        return tuple(dim for i, dim in enumerate(given.dims) if i not in gone)

    def _permuted(self, where: str, args: list[Any], kwargs: Any, result: Tensor) -> Dims | None:
        given, *places = args
        if len(places) == 1 and isinstance(places[0], (list, tuple)):
            places = list(places[0])
        if kwargs or not all(isinstance(it, int) for it in places):
            return None
        return tuple(given.dims[it] for it in places)

    def _transposed(self, where: str, args: list[Any], kwargs: Any, result: Tensor) -> Dims | None:
        given, *places = args
        if kwargs or len(places) not in (0, 2):
            return None
        dims = list(given.dims)
        first, second = places or (0, -1)
        dims[first], dims[second] = dims[second], dims[first]
        return tuple(dims)

    def _squeezed(self, where: str, args: list[Any], kwargs: Any, result: Tensor) -> Dims:
        """Dimensions of length one come or go, which changes nothing about the others."""
        long = [dim for dim in args[0].dims if length(dim) != 1]
        return tuple(fixed(1) if size == 1 else long.pop(0) for size in result.shape)

    def _expanded(self, where: str, args: list[Any], kwargs: Any, result: Tensor) -> Dims:
        dims = args[0].dims
        own = (*(fixed(1) for _ in range(result.dim() - len(dims))), *dims)
        return tuple(
            dim if length(dim) == size else fixed(size) for dim, size in zip(own, result.shape)
        )

    def _concatenated(
        self, where: str, args: list[Any], kwargs: Any, result: Tensor
    ) -> Dims | None:
        tensors = args[0] if args else kwargs.get("tensors")
        place = kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else 0))
        if not isinstance(place, int) or not all(isinstance(it, Marked) for it in tensors):
            return None
        place %= result.dim()
        reason = f"`{where}` joins it with values in another order"
        found = []
        for number in range(result.dim()):
            dims = [it.dims[number] for it in tensors]
            if number == place:
                found.append(tuple(run for dim in dims for run in dim))
            else:
                found.append(self.units.join(dims, reason))
        return tuple(found)

    def _taken(self, where: str, args: list[Any], kwargs: Any, result: Tensor) -> Dims | None:
        """Slices and indices: whole dimensions stay, parts can be taken only of what stays in order."""
        given, index = args
        index = list(index) if isinstance(index, tuple) else [index]
        if any(not (it is None or it is Ellipsis or isinstance(it, (int, slice))) for it in index):
            return None
        consumed = sum(it is not None and it is not Ellipsis for it in index)
        rest = len(given.dims) - consumed
        place = index.index(Ellipsis) if Ellipsis in index else len(index)
        index[place : place + 1] = [slice(None)] * rest
        dims = list(given.dims)
        found: list[Dim] = []
        for it in index:
            if it is None:
                found.append(fixed(1))
                continue
            dim = dims.pop(0)
            if it == slice(None):
                found.append(dim)
                continue
            if not self.units.is_fixed(dim):
                return None
            if isinstance(it, slice):
                found.append(fixed(len(range(*it.indices(length(dim))))))
        return tuple(found)

    def _kept_sizes(self, where: str, args: list[Any], kwargs: Any, result: Tensor) -> Dims:
        return self.resized(where, args[0], result)

    def resized(self, where: str, given: Marked, result: Tensor) -> Dims:
        """Where a dimension's length changes it stays in order; the others are as they were."""
        changed = [dim for dim, size in zip(given.dims, result.shape) if length(dim) != size]
        self.units.keep(changed, f"`{where}` changes its length")
        return tuple(
            dim if length(dim) == size else fixed(size)
            for dim, size in zip(given.dims, result.shape)
        )


def marked_in(value: Any) -> list[Marked]:
    """The marked tensors in arguments, however nested."""
    if isinstance(value, Marked):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [found for it in value for found in marked_in(it)]
    return []


def _as_fixed(result: Any) -> Any:
    """Tensors in a result, all in order; other values as they are."""
    if isinstance(result, Tensor):
        return Marked(result, tuple(fixed(size) for size in result.shape))
    if isinstance(result, (list, tuple)) and _has_tensors(result):
        parts = [_as_fixed(it) for it in result]
        named = (
            isinstance(result, tuple) and type(result) is not tuple and hasattr(result, "_fields")
        )
        return type(result)(*parts) if named else type(result)(parts)
    if isinstance(result, dict):
        return {key: _as_fixed(it) for key, it in result.items()}
    return result


def _has_tensors(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_has_tensors(it) for it in value)
    return isinstance(value, Tensor)


def _groups(before: list[int], after: list[int]) -> list[tuple[list[int], int]]:
    """The shortest runs of sizes with equal products: the new sizes and how many old ones."""
    found = []
    while before or after:
        old, new = [before.pop(0)] if before else [], [after.pop(0)] if after else []
        while math.prod(old) != math.prod(new):
            if math.prod(old) < math.prod(new):
                old.append(before.pop(0))
            else:
                new.append(after.pop(0))
        # What is left has length one.
        if not before or not after:
            old, new, before, after = old + before, new + after, [], []
        found.append((new, len(old)))
    return found
