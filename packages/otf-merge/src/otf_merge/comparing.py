"""Every method that these checkpoints allow, side by side on the task's validation data."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .adapters.names import role_of
from .checkpoints.sources import files_of, opened
from .deciding import score, scored, scored_parent, told
from .errors import InvalidInputs, MergeError
from .merged import whole
from .merging import merge_into_file
from .preparing import prepared
from .registry import find_method, list_methods
from .request import Request

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from .evaluation import Scores
    from .output import Written
    from .progress import Progress
    from .registry import MergeMethod
    from .request import Machine


@dataclass(frozen=True)
class Contender:
    """One method's result, a parent's or the base's own; or why there is none.

    `kind` is `method`, `parent` or `base`. `seconds` is the time of the merge, its own training and
    searches included, but not that of the evaluation.
    """

    name: str
    kind: str
    scores: Scores | None = None
    parameters: dict[str, Any] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    note: str = ""

    def told(self) -> dict[str, Any]:
        """The contender as plain values."""
        scores = {} if self.scores is None else told(self.scores)
        rest = {"parameters": self.parameters, "seconds": self.seconds, "note": self.note}
        return {"name": self.name, "kind": self.kind, **scores, **rest}


def compare(
    request: Request, machine: Machine, progress: Progress, methods: Sequence[str] = ()
) -> Iterator[Contender]:
    """The parents and the base, then one contender after the other, as each is done.

    Without `methods`, all there are, or for adapters all that are for these; each has its defaults, but where the request gives a parameter
    that it has, that. Raises a `MergeError` where no method could do with these checkpoints.
    """
    if request.task is None:
        raise InvalidInputs(
            "A comparison needs a model and data. Give them with --task module:function, where the "
            "function returns an `otf_merge.Task`."
        )
    chosen = [find_method(name) for name in methods] if methods else _applicable(request)
    yield from _controls(request, machine, chosen)
    for method in chosen:
        yield _contender(_for(request, method), method, machine, progress)


def ranked(contenders: Sequence[Contender]) -> list[Contender]:
    """The best first, by the metric and then by the loss; those without a result come last."""
    worst = (float("-inf"), float("-inf"))
    return sorted(contenders, key=lambda it: it.scores.rank if it.scores else worst, reverse=True)


def _applicable(request: Request) -> list[MergeMethod]:
    """All methods; of low-rank adapters those that merge them."""
    found = list_methods()[0]
    with opened(files_of(request.inputs), request.key) as checkpoints:
        adapters = [any(role_of(name) for name in it.specs) for it in checkpoints]
    if not adapters or not all(adapters):
        return found
    return [method for method in found if method.fitted is not None]


def _controls(
    request: Request, machine: Machine, chosen: Sequence[MergeMethod]
) -> Iterator[Contender]:
    """What any merge is to be measured against: each parent as it is, and the base.

    Where all methods are for something else than whole models, parents are tried as these do it.
    """
    fitted = all(method.fitted is not None for method in chosen)
    plain = _for(request, chosen[0] if fitted else find_method("linear"))
    if not fitted:
        plain = dataclasses.replace(plain, base=None, parameters={}, overrides=())
    with prepared(_alone(plain), machine) as preparation:
        task = preparation.task
        assert task is not None
        for parent in preparation.family.parents:
            scores = scored_parent(preparation, task, parent)
            yield Contender(parent.label, "parent", scores)
    if request.base is None or fitted:
        return
    based = dataclasses.replace(request, method="task-arithmetic", parameters={}, overrides=())
    with prepared(_alone(based), machine) as preparation:
        base = preparation.family.base
        assert base is not None
        yield Contender(base.label, "base", score(task, base.state()))


def _alone(request: Request) -> Request:
    """The same checkpoints, with nothing to be decided."""
    return dataclasses.replace(
        request, weights=None, search={}, gate=False, fisher=(), grams=(), align=None
    )


def _for(request: Request, method: MergeMethod) -> Request:
    """What was asked for, as far as that method can be asked for it."""
    own = {parameter.name for parameter in method.parameters}
    return dataclasses.replace(
        request,
        method=method,
        base=request.base if "base" in method.takes else None,
        weights=request.weights if method.takes_weights else None,
        parameters={name: it for name, it in request.parameters.items() if name in own},
        search={name: it for name, it in request.search.items() if name in own},
        fisher=request.fisher if "fisher" in method.takes else (),
        grams=request.grams if "grams" in method.takes else (),
        gate=False,
    )


def _contender(
    request: Request, method: MergeMethod, machine: Machine, progress: Progress
) -> Contender:
    start = time.perf_counter()
    try:
        with prepared(request, machine, progress=progress) as preparation:
            merged = whole(preparation.final())
            seconds = time.perf_counter() - start
            task = preparation.task
            assert task is not None
            scores = scored(preparation, task, merged)
            parameters = preparation.choices.given
    except MergeError as error:
        # What this method lacks is its row in the table; the others go on.
        sentence = str(error).partition("\n")[0].partition(". ")[0].rstrip(".")
        return Contender(method.name, "method", note=f"{sentence}.")
    return Contender(method.name, "method", scores, parameters, seconds)


def keep(
    request: Request,
    contenders: Sequence[Contender],
    output: str | os.PathLike[str],
    machine: Machine,
    *,
    force: bool,
    progress: Progress,
) -> Written:
    """Write the best method's result.

    Raises `InvalidInputs` where no method has one.
    """
    best = next((it for it in ranked(contenders) if it.kind == "method" and it.scores), None)
    if best is None:
        raise InvalidInputs("No method could merge these checkpoints, so nothing is written.")
    chosen = _for(request, find_method(best.name))
    return merge_into_file(chosen, output, machine, force=force, progress=progress)
