"""The options that say what to merge, which `merge`, `plan` and `compare` have in common."""

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, List, Optional

import typer

from .catalogue import catalogue

_WHAT = "What to merge"
_HOW = "How"
_DATA = "Data"
_MACHINE = "Machine"
_PARAMETERS = "Parameters of methods"

# Before the name of a method's parameter, to tell it from the command's own options.
_PREFIX = "of_method_"


def _parameters() -> "Dict[str, Dict[str, Dict[str, Any]]]":
    """For each parameter's name, what it is in each method that has it."""
    found: Dict[str, Dict[str, Dict[str, Any]]] = {}
    for method in catalogue():
        for parameter in method["parameters"]:
            found.setdefault(parameter["name"], {})[method["name"]] = parameter
    return dict(sorted(found.items()))


def _option(name: str, methods: "Dict[str, Dict[str, Any]]") -> inspect.Parameter:
    default = typer.Option(
        None,
        f"--{name.replace('_', '-')}",
        help=_told(methods),
        metavar="VALUE",
        rich_help_panel=_PARAMETERS,
    )
    return inspect.Parameter(
        _PREFIX + name, inspect.Parameter.KEYWORD_ONLY, annotation=Optional[str], default=default
    )


def _told(methods: "Dict[str, Dict[str, Any]]") -> str:
    """The methods that have the parameter, with its kind and default in each, and what it does."""
    by_help: Dict[str, Dict[str, List[str]]] = {}
    for method, parameter in methods.items():
        default = parameter["default"]
        shown = (
            "none"
            if default is None
            else str(default).lower()
            if default in (True, False)
            else default
        )
        kinds = by_help.setdefault(parameter["help"] or "see its method", {})
        kinds.setdefault(f"{parameter['kind']}, {shown}", []).append(method)
    return " ".join(
        f"{', '.join(names)}: {text} ({kind})."
        for text, kinds in by_help.items()
        for kind, names in kinds.items()
    )


def options(  # noqa: PLR0917 - each is a keyword to whoever types it
    paths: Optional[List[str]] = typer.Argument(
        None,
        metavar="PATHS",
        help="Checkpoints, folders that hold them, or patterns in quotes.",
        show_default=False,
    ),
    method: Optional[str] = typer.Option(
        None,
        "--method",
        "-m",
        help="How to merge; `otf-merge methods` lists the methods.",
        show_default="linear",
        rich_help_panel=_WHAT,
    ),
    base: Optional[Path] = typer.Option(
        None,
        "--base",
        help="The model that the checkpoints were fine-tuned from.",
        rich_help_panel=_WHAT,
    ),
    weight: Optional[List[str]] = typer.Option(
        None,
        "--weight",
        "-w",
        help="A checkpoint's weight, once for each in their order, or all with commas.",
        show_default="equal",
        rich_help_panel=_WHAT,
    ),
    key: Optional[str] = typer.Option(
        None,
        "--key",
        help="The key under which files keep the weights, if it is no usual one.",
        rich_help_panel=_WHAT,
    ),
    skip: Optional[List[str]] = typer.Option(
        None,
        "--skip",
        metavar="PATTERN",
        help="Tensors to take from the first checkpoint as they are. May be repeated.",
        rich_help_panel=_WHAT,
    ),
    allow_missing: Optional[bool] = typer.Option(
        None,
        "--allow-missing",
        help="Average tensors that only some have over those.",
        rich_help_panel=_WHAT,
    ),
    allow_nonfinite: Optional[bool] = typer.Option(
        None,
        "--allow-nonfinite",
        help="Merge even where a tensor holds NaN or infinity.",
        rich_help_panel=_WHAT,
    ),
    recipe: Optional[Path] = typer.Option(
        None,
        "--recipe",
        help="A YAML file with all of this, as `otf-merge plan` prints it; options win over it.",
        rich_help_panel=_WHAT,
    ),
    overrides: Optional[List[str]] = typer.Option(
        None,
        "--set",
        metavar="PATTERN:KEY=VALUE",
        help="Other weights or parameters for some tensors, such as 'encoder.*:weight=0.7'.",
        rich_help_panel=_HOW,
    ),
    parameter: Optional[List[str]] = typer.Option(
        None,
        "--param",
        metavar="NAME=VALUE",
        help="A parameter of a method from another package.",
        rich_help_panel=_HOW,
    ),
    align: Optional[str] = typer.Option(
        None,
        "--align",
        metavar="weights|FILE",
        help="Match hidden units to the first checkpoint's before merging.",
        rich_help_panel=_HOW,
    ),
    dtype: Optional[str] = typer.Option(
        None,
        "--dtype",
        help="The result's floating-point type, such as float16.",
        show_default="the first checkpoint's",
        rich_help_panel=_HOW,
    ),
    task: Optional[str] = typer.Option(
        None,
        "--task",
        metavar="MODULE:FUNCTION",
        help="Your model and data; also path/to/file.py:function.",
        rich_help_panel=_DATA,
    ),
    samples: Optional[int] = typer.Option(
        None,
        "--samples",
        min=1,
        help="How many samples of the task to look at for Fisher information or Gram matrices.",
        show_default="256",
        rich_help_panel=_DATA,
    ),
    fisher: Optional[List[Path]] = typer.Option(
        None,
        "--fisher",
        help="A file with a checkpoint's Fisher information, once for each, in their order.",
        rich_help_panel=_DATA,
    ),
    grams: Optional[List[Path]] = typer.Option(
        None,
        "--grams",
        help="A file with a checkpoint's Gram matrices, once for each, in their order.",
        rich_help_panel=_DATA,
    ),
    search: Optional[List[str]] = typer.Option(
        None,
        "--search",
        metavar="NAME=A,B,...",
        help="Values of a parameter to try on the task's validation data. May be repeated.",
        rich_help_panel=_DATA,
    ),
    recalibrate: Optional[str] = typer.Option(
        None,
        "--recalibrate",
        metavar="auto|always|never",
        help="Recompute normalisation statistics on the task's training data.",
        show_default="auto: where it is better",
        rich_help_panel=_DATA,
    ),
    gate: Optional[bool] = typer.Option(
        None,
        "--gate",
        help="Accept the result only if it is no worse than the best parent on validation data.",
        rich_help_panel=_DATA,
    ),
    threads: Optional[int] = typer.Option(
        None,
        "--threads",
        min=1,
        help="Threads to compute with.",
        show_default="one for each core",
        rich_help_panel=_MACHINE,
    ),
    device: str = typer.Option(
        "cpu", "--device", help="Where to compute, such as cuda.", rich_help_panel=_MACHINE
    ),
    as_json: bool = typer.Option(
        False,
        "--json",
        help="Print one JSON document, for programs.",
        rich_help_panel=_MACHINE,
    ),
) -> None:
    """What these options are called, and how they are told of."""


def with_options(
    action: "Callable[..., None]", before: "List[inspect.Parameter]"
) -> "Callable[..., None]":
    """The action as a command with these options, which it gets as one object, and its own.

    There is an option for every parameter of every built-in method: `parameters` of the object has
    those that were given.
    """
    of_methods = [_option(name, methods) for name, methods in _parameters().items()]

    def command(**given: Any) -> None:
        own = {it.name: given.pop(it.name) for it in before}
        values = {it.name[len(_PREFIX) :]: given.pop(it.name) for it in of_methods}
        given["parameters"] = {name: it for name, it in values.items() if it is not None}
        action(SimpleNamespace(**given), **own)

    shared = list(inspect.signature(options).parameters.values())
    merged = [*shared, *before, *of_methods]
    command.__signature__ = inspect.Signature(merged)  # type: ignore[attr-defined]
    command.__annotations__ = {it.name: it.annotation for it in merged}
    command.__doc__ = action.__doc__
    command.__name__ = action.__name__
    return command
