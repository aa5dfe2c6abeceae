"""An option for every parameter of every built-in method, told of in the help of the command."""

import inspect
from types import SimpleNamespace
from typing import Any, Callable, Dict, List, Optional, Sequence

import typer

from .catalogue import catalogue, shown
from .options import PANELS, options

_PARAMETERS = PANELS[-1]

# Before the name of a method's parameter, to tell it from the command's own options.
_PREFIX = "of_method_"


def with_options(
    action: "Callable[..., None]",
    own: "Sequence[inspect.Parameter]",
    without: "Sequence[str]" = (),
) -> "Callable[..., None]":
    """The action as a command with the shared options, which it gets as one object, and its own.

    There is an option for every parameter of every built-in method: `parameters` of the object has
    those that were given. Of the shared options those in `without` are left out, and not given.
    """
    shared = list(inspect.signature(options).parameters.values())
    of_methods = [_option(name, methods) for name, methods in _parameters().items()]
    taken = [it for it in (*own, *shared, *of_methods) if it.name not in without]
    taken.sort(key=_panel)
    for it in taken:
        # Help says of each what happens without it: the default here, None, says nothing.
        it.default.show_default = False

    def command(**given: Any) -> None:
        mine = {it.name: given.pop(it.name) for it in own}
        values = {it.name[len(_PREFIX) :]: given.pop(it.name) for it in of_methods}
        given["parameters"] = {name: it for name, it in values.items() if it is not None}
        action(SimpleNamespace(**{**dict.fromkeys(without), **given}), **mine)

    command.__signature__ = inspect.Signature(taken)  # type: ignore[attr-defined]
    command.__annotations__ = {it.name: it.annotation for it in taken}
    command.__doc__ = action.__doc__
    command.__name__ = action.__name__
    return command


def _panel(parameter: inspect.Parameter) -> int:
    """Where the help has that option: panels stand in the order of their first one."""
    panel = parameter.default.rich_help_panel
    return PANELS.index(panel) if panel else -1


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
        _PREFIX + name,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        annotation=Optional[str],
        default=default,
    )


def _told(methods: "Dict[str, Dict[str, Any]]") -> str:
    """A line for those methods in which the parameter is the same: what it does, values, default.

    What is told after a semicolon, such as what other implementations do, is left to
    `otf-merge methods NAME`, unless it is what stands for a default.
    """
    alike: Dict[str, List[str]] = {}
    for method, it in methods.items():
        if it["default"] is None:
            told = f"{it['help']} ({it['kind']})."
        else:
            brief = it["help"].partition(";")[0].rstrip(".")
            told = f"{brief} ({it['kind']}; default {shown(it['default'])})."
        alike.setdefault(told, []).append(method)
    return "\n\n".join(f"{', '.join(names)}: {told}" for told, names in alike.items())
