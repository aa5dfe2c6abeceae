"""The merge of methods that work tensor by tensor: pieces in, pieces out, several at a time."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from .combining import weighted_mean
from .cores import one_core_each
from .errors import InputsDiffer, InvalidMethod, NotFinite
from .family import Rule
from .looks import Look
from .pieces import cut
from .progress import unwatched

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from .choices import Choices
    from .family import Family
    from .parents import Parent
    from .pieces import Piece
    from .progress import Progress
    from .registry import Granularity, MergeMethod

#: Tensors up to this size, over all checkpoints as they are computed with, stay in memory between
#: being measured and being merged; greater ones are read again. In bytes.
HELD = 1 << 27
#: The bytes of a number in half precision.
_HALF = 2


@dataclass(frozen=True)
class Computing:
    """How the numbers are worked on, which changes nothing about what is merged."""

    threads: int = 1
    device: str = "cpu"
    allow_nonfinite: bool = False


class Engine:
    """Merges a family by a method of the tensor form.

    Memory does not depend on the model: a few pieces of each checkpoint are in memory at a time, in
    the order in which they are asked for. What is computed depends neither on the threads nor on
    that order.
    """

    def __init__(
        self,
        family: Family,
        method: MergeMethod,
        choices: Choices,
        *,
        fisher: Sequence[Parent] = (),
        computing: Computing | None = None,
        progress: Progress = unwatched,
    ) -> None:
        self.family = family
        self.method = method
        self.choices = choices
        self.computing = computing or Computing()
        self._fisher = fisher
        self._progress = progress
        self._done = 0
        self._total = self._work()
        self._model_looks: dict[Any, dict[str, Look]] = {}
        self._held: dict[tuple[str, int], tuple[list[Tensor], Tensor | None]] = {}
        self._lock = threading.Lock()
        self._wide = functools.lru_cache(maxsize=None)(self._precision)

    def stream(self, names: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        """The merged tensors of those names, in that order, as flat pieces on the CPU."""
        with _workers(self.computing.threads) as pool:
            self._look_at_model(pool)
            waiting: deque[tuple[str, Future[Tensor]]] = deque()
            for job in self._jobs(pool, names):
                waiting.append(job)
                if len(waiting) > 2 * self.computing.threads:
                    yield self._finished(*waiting.popleft())
            while waiting:
                yield self._finished(*waiting.popleft())

    def _finished(self, name: str, job: Future[Tensor]) -> tuple[str, Tensor]:
        piece = job.result()
        self._progress(self._done, self._total, "bytes")
        return name, piece

    def _jobs(
        self, pool: ThreadPoolExecutor, names: Sequence[str]
    ) -> Iterator[tuple[str, Future[Tensor]]]:
        for name in names:
            rule, shape = self.family.rules[name], self.family.specs[name].shape
            if rule is not Rule.MERGE:
                for piece in cut(shape, "element"):
                    yield name, pool.submit(self._not_merged, rule, name, piece)
                continue
            looks = {**self._looks(pool, name), **self._model_looks.get(self._group(name), {})}
            for piece in cut(shape, self.method.granularity):
                yield name, pool.submit(self._merged, name, piece, looks)

    # What is known before a tensor is merged

    def _looks(self, pool: ThreadPoolExecutor, name: str) -> dict[str, Look]:
        pieces = [(name, it) for it in self._pieces(name)]
        return self._started(pool, name, "tensor", pieces) if pieces else {}

    def _look_at_model(self, pool: ThreadPoolExecutor) -> None:
        """Take the measures of the whole model, one for all tensors with the same parameters."""
        groups: dict[Any, list[str]] = {}
        for name in self.family.merged:
            groups.setdefault(self._group(name), []).append(name)
        for group, names in groups.items():
            pieces = [(name, piece) for name in names for piece in self._pieces(name)]
            if group in self._model_looks or not pieces:
                continue
            looks = self._started(pool, names[0], "model", pieces)
            for look in looks.values():
                self._wait_for(look)
            self._model_looks[group] = looks

    def _wait_for(self, look: Look) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                look.value(timeout=0.1)
                return
            self._progress(self._done, self._total, "bytes")

    def _started(
        self, pool: ThreadPoolExecutor, name: str, scope: str, pieces: list[tuple[str, Piece]]
    ) -> dict[str, Look]:
        values = self.choices.values(name)
        # A tensor that is measured by itself is merged soon after, a whole model is not.
        read = functools.partial(self._read, hold=scope == "tensor")
        looks = {}
        for key, factory in self.method.measures.items():
            measure = factory(values)
            if measure.scope == scope:
                looks[key] = Look(measure, pieces, read)
                looks[key].start(pool)
        return looks

    def _group(self, name: str) -> Any:
        return tuple(sorted(self.choices.values(name).items()))

    def _pieces(self, name: str) -> Iterator[Piece]:
        return cut(self.family.specs[name].shape, self.method.granularity)

    # One piece, in a worker

    def _merged(self, name: str, piece: Piece, looks: dict[str, Look]) -> Tensor:
        tensors, base = self._read(name, piece)
        self._forget(name, piece)
        supplied: dict[str, Any] = dict(self.choices.values(name))
        supplied.update({key: look.value() for key, look in looks.items()})
        supplied.update(self._supplied(name, piece, base, tensors[0]))
        result = self.method(tensors, **supplied)
        if result.shape != tensors[0].shape:
            raise InvalidMethod(
                f"The merge method `{self.method.name}` made a tensor of shape "
                f"{list(result.shape)} of pieces of `{name}`, whose shape is "
                f"{list(tensors[0].shape)}. Report that to its author."
            )
        finite = self._is_finite(result)
        if not finite:
            self._require_finite_inputs(name, tensors, base)
        return self._rounded(name, result, finite=finite)

    def _supplied(
        self, name: str, piece: Piece, base: Tensor | None, like: Tensor
    ) -> dict[str, Any]:
        takes = self.method.takes
        supplied: dict[str, Any] = {}
        if "weights" in takes:
            supplied["weights"] = self.choices.weights(name)
        if "base" in takes:
            supplied["base"] = base
        if "name" in takes:
            supplied["name"] = name
        if "generator" in takes:
            supplied["generator"] = _generator(self.choices.values(name)["seed"], name, piece, like)
        if "fisher" in takes:
            supplied["fisher"] = [self._part(it, name, piece, like.dtype) for it in self._fisher]
        return supplied

    def _not_merged(self, rule: Rule, name: str, piece: Piece) -> Tensor:
        self._count(name, piece)
        holders = self.family.holders(name)
        parents = [self.family.parents[i] for i in holders]
        start, stop, _ = piece
        if rule is Rule.COPY:
            return parents[0].elements(name, start, stop).to(self.family.specs[name].dtype)
        if rule is Rule.AVERAGE:
            wide = self._wide(name)
            tensors = [self._part(parent, name, piece, wide) for parent in parents]
            self._require_finite_inputs(name, tensors, None, holders)
            weights = [self.choices.weights(name)[i] for i in holders]
            averaged = weighted_mean(tensors, weights if any(weights) else [1.0] * len(weights))
            return self._rounded(name, averaged, finite=self._is_finite(averaged))
        first, *others = [parent.elements(name, start, stop) for parent in parents]
        if rule is Rule.COUNT:
            return functools.reduce(torch.maximum, (it.to(first.dtype) for it in others), first)
        for parent, other in zip(parents[1:], others):
            if not torch.equal(first, other.to(first.dtype)):
                raise InputsDiffer(
                    f"`{name}` differs between {parents[0].checkpoint.path} and "
                    f"{parent.checkpoint.path}, and {first.dtype} is never averaged. Pass "
                    f"--skip '{name}' to take the first checkpoint's."
                )
        return first

    def _read(
        self, name: str, piece: Piece, *, hold: bool = False
    ) -> tuple[list[Tensor], Tensor | None]:
        """One piece of every parent and of the base, in the precision that is computed with."""
        place = (name, piece.start)
        self._count(name, piece)
        held = self._held.get(place)
        if held is not None:
            return held
        wide = self._wide(name)
        family = self.family
        tensors = [self._part(parent, name, piece, wide) for parent in family.parents]
        base = self._part(family.base, name, piece, wide) if family.base else None
        if not self.method.propagates:
            self._require_finite_inputs(name, tensors, base)
        if hold and self._is_held(name, wide):
            self._held[place] = (tensors, base)
        return tensors, base

    def _forget(self, name: str, piece: Piece) -> None:
        self._held.pop((name, piece.start), None)

    def _part(self, parent: Parent, name: str, piece: Piece, wide: torch.dtype) -> Tensor:
        elements = parent.elements(name, piece.start, piece.stop)
        return _shaped(elements, piece, self.method.granularity).to(self.computing.device, wide)

    def _is_held(self, name: str, wide: torch.dtype) -> bool:
        count = len(self.family.parents) + (self.family.base is not None)
        return count * self.family.specs[name].numel * wide.itemsize <= HELD

    def _precision(self, name: str) -> torch.dtype:
        """One precision wider than the widest that is stored, so that one rounding is all."""
        everywhere = [*self.family.parents, *([self.family.base] if self.family.base else [])]
        stored = [it.specs[name].dtype for it in everywhere if name in it.names]
        # float64 is what an accelerator may lack; there float32 has to do.
        widest = torch.float32 if self.computing.device == "mps" else torch.float64
        return widest if any(_component(it) > _HALF for it in stored) else torch.float32

    def _rounded(self, name: str, result: Tensor, *, finite: bool) -> Tensor:
        dtype = self.family.specs[name].dtype
        if dtype.is_complex:
            result = torch.view_as_complex(result.reshape(-1, 2))
        rounded = result.to(device="cpu", dtype=dtype).reshape(-1).contiguous()
        # What was finite can be out of the range of a narrower type.
        if finite and _reach(dtype) < _reach(result.dtype):
            finite = self._is_finite(rounded.to(result.dtype))
        if not finite:
            raise NotFinite(
                f"The merged `{name}` holds NaN or infinity as {dtype}, though no input does. Give "
                "a wider --dtype, or pass --allow-nonfinite to merge all the same."
            )
        return rounded

    def _require_finite_inputs(
        self, name: str, tensors: Sequence[Tensor], base: Tensor | None, holders: Sequence[int] = ()
    ) -> None:
        parents = [self.family.parents[i] for i in holders] or [*self.family.parents]
        named = [*zip(parents, tensors)]
        if self.family.base and base is not None:
            named.append((self.family.base, base))
        for parent, tensor in named:
            if not self._is_finite(tensor):
                raise NotFinite(
                    f"`{parent.names[name]}` in {parent.checkpoint.path} holds NaN or infinity. "
                    "Leave that checkpoint out, or pass --allow-nonfinite to merge all the same."
                )

    def _is_finite(self, tensor: Tensor) -> bool:
        if self.computing.allow_nonfinite:
            return True
        # One sum, which is not finite where an element is not; only a sum may also be so by itself.
        total = tensor.sum().item()
        return total - total == 0 or bool(torch.isfinite(tensor).all())

    # How far it is, in bytes of the first checkpoint's tensors over all passes

    def _work(self) -> int:
        tied = {name for group in self.family.ties for name in group[1:]}
        total = sum(spec.nbytes for it, spec in self.family.specs.items() if it not in tied)
        for name in self.family.merged:
            measures = [make(self.choices.values(name)) for make in self.method.measures.values()]
            total += self.family.specs[name].nbytes * sum(it.passes for it in measures)
        return total

    def _count(self, name: str, piece: Piece) -> None:
        with self._lock:
            self._done += (piece.stop - piece.start) * self.family.specs[name].dtype.itemsize


@contextlib.contextmanager
def _workers(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that compute with one core each: the pieces are what is done side by side."""
    pool = ThreadPoolExecutor(
        threads, "otf-merge", initializer=torch.set_num_threads, initargs=(1,)
    )
    with one_core_each():
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


def _shaped(elements: Tensor, piece: Piece, granularity: Granularity) -> Tensor:
    """The elements in the piece's shape; complex ones as two real numbers each, side by side.

    So no method needs to know of complex numbers, and each works on them as on any others.
    """
    if not elements.is_complex():
        return elements.reshape(piece.shape)
    pairs = torch.view_as_real(elements)
    if granularity == "tensor":
        return pairs.reshape(*piece.shape, 2)
    return pairs.reshape(*piece.shape[:-1], 2 * piece.shape[-1])


def _generator(seed: int, name: str, piece: Piece, like: Tensor) -> torch.Generator:
    key = f"{seed}:{name}:{piece.start}".encode()
    number = int.from_bytes(hashlib.blake2b(key, digest_size=7).digest(), "little")
    return torch.Generator(like.device).manual_seed(number)


@functools.cache
def _reach(dtype: torch.dtype) -> int:
    """The greatest power of two in the range of a type."""
    return math.frexp(torch.finfo(dtype).max)[1]


def _component(dtype: torch.dtype) -> int:
    """The bytes of a number, of a complex one the bytes of its real part."""
    return dtype.itemsize // 2 if dtype.is_complex else dtype.itemsize
