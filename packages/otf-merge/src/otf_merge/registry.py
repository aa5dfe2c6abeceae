"""Merge methods: how one is declared, and how it is found by its name."""

from __future__ import annotations

import difflib
import inspect
import sys
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, Callable

from .errors import InvalidMethod, MergeError, UnknownMethod

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

GROUP = "otf.merge_methods"


@dataclass(frozen=True)
class MergeMethod:
    """A named way to make one tensor out of the tensors of one name, one per checkpoint."""

    name: str
    summary: str
    paper: str
    function: Callable[..., Tensor]
    takes_weights: bool

    def __call__(self, tensors: Sequence[Tensor], **parameters: Any) -> Tensor:
        """Call the function that was declared."""
        return self.function(tensors, **parameters)


def merge_method(
    name: str, *, summary: str, paper: str = ""
) -> Callable[[Callable[..., Tensor]], MergeMethod]:
    """Declare a function of one tensor per checkpoint as the merge method `name`.

        @merge_method("median", summary="The element-wise median.")
        def median(tensors: Sequence[Tensor]) -> Tensor:
            return torch.stack(list(tensors)).median(dim=0).values

    The tensors have one shape and one dtype, float32 or wider, and must not be changed in place.
    The result has their shape; it is cast to the first checkpoint's dtype afterwards. A method
    that names the keyword parameter `weights` is given one number per checkpoint, which need not
    add up to 1. Other packages offer their methods under the entry-point group
    `otf.merge_methods`, each under the method's own name.
    """

    def declare(function: Callable[..., Tensor]) -> MergeMethod:
        takes_weights = _takes_weights(name, function)
        return MergeMethod(name, summary, paper, function, takes_weights)

    return declare


def _takes_weights(name: str, function: Callable[..., Tensor]) -> bool:
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
        raise InvalidMethod(
            f"The merge method `{name}` takes no tensors: its function needs a first parameter, "
            "the tensors of one name."
        )
    for parameter in parameters[1:]:
        if parameter.name != "weights" and parameter.default is inspect.Parameter.empty:
            raise InvalidMethod(
                f"The merge method `{name}` asks for `{parameter.name}`, which nothing supplies. "
                "Give that parameter a default; only `weights` is filled in."
            )
    return any(parameter.name == "weights" for parameter in parameters[1:])


def find_method(name: str) -> MergeMethod:
    """The merge method of that name: a built-in one, else one that another package offers."""
    built_in = _built_in()
    if name in built_in:
        return built_in[name]
    offered = {entry.name: entry for entry in _entry_points()}
    if name in offered:
        return _load(offered[name])
    known = sorted({*built_in, *offered})
    nearest = difflib.get_close_matches(name, known) or known
    raise UnknownMethod(
        f"There is no merge method `{name}`. The nearest are: {', '.join(nearest)}. "
        "`otf-merge methods` lists all."
    )


def list_methods() -> tuple[list[MergeMethod], list[str]]:
    """All methods, and for each that could not be loaded a sentence that says why."""
    found = _built_in()
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
