"""Merge methods: how one is declared, and how it is found by its name."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any, Callable, Literal

from . import parameters as _parameters
from .errors import InvalidMethod, MergeError, UnknownMethod

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn

    from .measures import Measure
    from .parents import Parent
    from .task import Task

GROUP = "otf.merge_methods"

#: How a tensor may be cut before a method gets it: anywhere, between rows, or not at all.
Granularity = Literal["element", "row", "tensor"]

# What the engine fills in, where a method names it. To name it is to need it.
_FOR_TENSORS = frozenset({"weights", "base", "fisher", "generator", "name"})
_FOR_MODELS = frozenset({"weights", "base", "task", "grams", "progress", "report"})

#: Makes the first look at the tensors that a method wants, from its parameters.
MeasureFactory = Callable[[Mapping[str, Any]], "Measure"]

#: Says by a method's parameters whether weights may be negative.
Signed = Callable[[Mapping[str, Any]], bool]

#: Makes a model to be tried from a task, a checkpoint, the base, and the method's parameters.
Fitting = Callable[["Task", "Parent", "Parent | None", Mapping[str, Any]], "nn.Module"]


@dataclass(frozen=True)
class MergeMethod:
    """A named way to merge.

    `form` is what its function makes: one tensor out of the tensors of one name (`tensor`), or the
    whole state dict out of the whole parents (`model`). `takes` are the keywords that the engine
    supplies, `needs` those of them that it cannot do without. `fewest` and `most` are how many
    checkpoints it merges, the base not counted.
    """

    name: str
    summary: str
    paper: str
    function: Callable[..., Any]
    form: Literal["tensor", "model"]
    parameters: tuple[_parameters.Parameter, ...]
    takes: frozenset[str]
    needs: frozenset[str]
    granularity: Granularity = "tensor"
    measures: Mapping[str, MeasureFactory] = field(default_factory=dict)
    fewest: int = 2
    most: int | None = None
    symmetric: bool = True
    propagates: bool = False
    signed: Signed = lambda given: False
    any_shapes: bool = False
    fitted: Fitting | None = None

    def __call__(self, tensors: Any, **supplied: Any) -> Any:
        """Call the function that was declared."""
        return self.function(tensors, **supplied)

    @property
    def takes_weights(self) -> bool:
        """Whether each checkpoint may have a weight."""
        return "weights" in self.takes

    def values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters' values: those that were given, checked, and defaults for the others."""
        return _parameters.completed(self.name, self.parameters, given)


def merge_method(
    name: str,
    *,
    summary: str,
    paper: str = "",
    granularity: Granularity = "tensor",
    measures: Mapping[str, MeasureFactory] | None = None,
    fewest: int | None = None,
    most: int | None = None,
    symmetric: bool = True,
    propagates: bool = False,
    signed: Signed = lambda given: False,
) -> Callable[[Callable[..., Tensor]], MergeMethod]:
    """Declare a function of one tensor per checkpoint as the merge method `name`.

        @merge_method("median", summary="The element-wise median.", granularity="element")
        def median(tensors: Sequence[Tensor]) -> Tensor:
            return torch.stack(list(tensors)).median(dim=0).values

    The tensors have one shape and one dtype, wider than what is stored (float32 for half
    precision, float64 for float32), and must not be changed in place. The result has their shape;
    it is rounded once, to the first checkpoint's dtype, afterwards.

    `granularity` says how a tensor may be cut: with `element` the function gets flat pieces of it,
    so that memory does not depend on the model; with `row` two-dimensional pieces of whole rows (a
    vector is one row); with `tensor` it gets all of it, in its shape.

    Keywords that the function names are filled in: `weights`, one number per checkpoint, which
    need not add up to 1; `base`, the same piece of the base, which is then required, or optional
    where its default is None; `fisher`, the Fisher information's diagonal for each checkpoint;
    `generator`, seeded from the parameter `seed`, the tensor's name and the place of the piece;
    `name`, the tensor's. `measures` gives more: each is looked up over the whole tensor or model
    before the function is called, and handed to it by its key. Every other keyword is a
    parameter of the method, and becomes an option of the command line: see `otf_merge.parameters`.

    `symmetric` says that the order of checkpoints makes no difference; `propagates` that whatever is
    not finite in a checkpoint is not finite in the result either, unless its weight is zero, so that
    only results need be looked at. `signed` says whether with certain parameters weights may be
    negative, as they may where deltas are added up and not averaged. Other packages offer their
    methods under the entry-point group `otf.merge_methods`, each under the method's own name.
    """

    def declare(function: Callable[..., Tensor]) -> MergeMethod:
        measured = dict(measures or {})
        takes, needs = _supplied(name, function, _FOR_TENSORS)
        return MergeMethod(
            name=name,
            summary=summary,
            paper=paper,
            function=function,
            form="tensor",
            parameters=_parameters.declared(name, function, _FOR_TENSORS | set(measured)),
            takes=takes,
            needs=needs,
            granularity=granularity,
            measures=measured,
            fewest=fewest or (1 if "base" in needs else 2),
            most=most,
            symmetric=symmetric,
            propagates=propagates,
            signed=signed,
        )

    return declare


def model_method(
    name: str,
    *,
    summary: str,
    paper: str = "",
    fewest: int = 2,
    most: int | None = None,
    symmetric: bool = True,
    any_shapes: bool = False,
    fitted: Fitting | None = None,
) -> Callable[[Callable[..., Mapping[str, Tensor]]], MergeMethod]:
    """Declare a function of whole models as the merge method `name`.

    Its first parameter is a sequence of `otf_merge.parents.Parent`; it returns the merged state
    dict. Filled in are `weights` and `base` (a `Parent`) as for `merge_method`; `task`, the user's
    model and data (`otf_merge.task.Task`); `grams`, a `otf_merge.grams.Grams` for each parent;
    `progress`, to be told how far it is; and `report`, a dict for what should be said of the
    result. To name one without a default is to need it. With `any_shapes` the parents' tensors
    may differ in name and shape, and the function itself sees to what fits.

    What a task's model takes as its state dict is tried on validation data as it is. For anything
    else, such as adapters beside a model, `fitted` makes the model to be tried: from the task, the
    result or one of the checkpoints as a `Parent`, the base, and the method's parameters.
    """

    def declare(function: Callable[..., Mapping[str, Tensor]]) -> MergeMethod:
        takes, needs = _supplied(name, function, _FOR_MODELS)
        return MergeMethod(
            name=name,
            summary=summary,
            paper=paper,
            function=function,
            form="model",
            parameters=_parameters.declared(name, function, _FOR_MODELS),
            takes=takes,
            needs=needs,
            fewest=fewest,
            most=most,
            symmetric=symmetric,
            any_shapes=any_shapes,
            fitted=fitted,
        )

    return declare


def _supplied(
    name: str, function: Callable[..., Any], known: frozenset[str]
) -> tuple[frozenset[str], frozenset[str]]:
    """The keywords to fill in, and those of them that have no default."""
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
        raise InvalidMethod(
            f"The merge method `{name}` takes no tensors: its function needs a first parameter, "
            "what is merged."
        )
    takes = [parameter for parameter in parameters[1:] if parameter.name in known]
    needs = [it.name for it in takes if it.default is inspect.Parameter.empty]
    return frozenset(it.name for it in takes), frozenset(needs)


def find_method(name: str) -> MergeMethod:
    """The merge method of that name: a built-in one, else one that another package offers."""
    built_in = _built_in()
    if name in built_in:
        return built_in[name]
    offered = {entry.name: entry for entry in _entry_points()}
    if name in offered:
        return _load(offered[name])
    raise unknown(name, {*built_in, *offered})


def offered_names() -> set[str]:
    """The names of the methods that other packages offer, of which none is imported."""
    return {entry.name for entry in _entry_points()}


def unknown(name: str, known: Iterable[str]) -> UnknownMethod:
    """The error for a name that none of the known methods has."""
    nearest = difflib.get_close_matches(name, sorted(known)) or sorted(known)
    return UnknownMethod(
        f"There is no merge method `{name}`. The nearest are: {', '.join(nearest)}. "
        "`otf-merge methods` lists all."
    )


def list_methods() -> tuple[list[MergeMethod], list[str]]:
    """All methods, and for each that could not be loaded a sentence that says why."""
    others, problems = list_others()
    found = {**{method.name: method for method in others}, **_built_in()}
    return [found[name] for name in sorted(found)], problems


def list_others() -> tuple[list[MergeMethod], list[str]]:
    """The methods of other packages, and a sentence for each that could not be loaded."""
    found: dict[str, MergeMethod] = {}
    problems = []
    for entry in _entry_points():
        try:
            found.setdefault(entry.name, _load(entry))
        except MergeError as error:
            problems.append(str(error))
    return [found[name] for name in sorted(found)], problems


def _built_in() -> dict[str, MergeMethod]:
    # Imported here because the methods need torch, and they import this module's decorator.
    from .methods import BUILT_IN

    return {method.name: method for method in BUILT_IN}


def _entry_points() -> Iterable[metadata.EntryPoint]:
    if sys.version_info < (3, 10):
        return metadata.entry_points().get(GROUP, ())
    return metadata.entry_points(group=GROUP)


def _load(entry: metadata.EntryPoint) -> MergeMethod:
    try:
        method = entry.load()
    except (ImportError, AttributeError) as error:
        raise InvalidMethod(
            f"The merge method `{entry.name}` cannot be loaded from `{entry.value}`: {error}. "
            "Update or uninstall the package that offers it."
        ) from error
    if not isinstance(method, MergeMethod) or method.name != entry.name:
        raise InvalidMethod(
            f"The entry point `{entry.name}` names `{entry.value}`, which is no merge method of "
            "that name. It must be a function under `@merge_method`."
        )
    return method
