"""`otf`: the commands of every installed package, under one name.

A package offers a command as a Typer app under the entry-point group `otf.commands`. One that
fails to import costs a warning that names its distribution, never the other commands.
"""

import copy
import os
import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Any, List, Mapping

import typer

GROUP = "otf.commands"


def build(found: "List[EntryPoint]", typer_options: bool = True) -> typer.Typer:
    """The `otf` app with these entry points mounted in the order of their names.

    Without `typer_options` it has no help of its own and no completion, only its commands have help.
    """
    app = typer.Typer(
        name="otf",
        help="Watch, pause and steer PyTorch training; merge what it learned.",
        no_args_is_help=True,
        add_completion=typer_options,
        add_help_option=typer_options,
        pretty_exceptions_enable=False,
    )
    app.callback()(_otf)
    for entry_point in sorted(found, key=lambda entry_point: entry_point.name):
        try:
            command = entry_point.load()
        # A boundary to other people's code, whose import may fail in any way.
        except Exception as error:  # noqa: BLE001
            _warn_of(entry_point, error)
            continue
        _mount(app, command, entry_point.name)
    return app


def _mount(app: typer.Typer, command: typer.Typer, name: str) -> None:
    only = command.registered_commands[0] if len(command.registered_commands) == 1 else None
    if only is None or command.registered_callback or command.registered_groups:
        app.add_typer(command, name=name)
        return
    # An app with one command is that command when it is run alone, and so it is here; mounted as
    # an app it would have to be typed twice: `otf resume resume`.
    mounted = copy.copy(only)
    mounted.name = name
    app.registered_commands.append(mounted)


def commands() -> "List[EntryPoint]":
    """What is installed under `otf.commands`."""
    found: Any = entry_points()
    if hasattr(found, "select"):
        return list(found.select(group=GROUP))
    # Python 3.9 has a mapping here, in which a distribution on the path twice stands twice.
    return list({entry_point.name: entry_point for entry_point in found.get(GROUP, [])}.values())


def typed_words(argv: "List[str]", environment: "Mapping[str, str]") -> "List[str]":
    """The words after `otf`; where a shell asks how they go on, those that were typed so far."""
    # Bash hands them over by the first name, the other shells by the second.
    line = environment.get("COMP_WORDS") or environment.get("_TYPER_COMPLETE_ARGS", "")
    is_asked = "_OTF_COMPLETE" in environment
    return line.split()[1:] if is_asked else argv[1:]


def asked_for(found: "List[EntryPoint]", words: "List[str]") -> "List[EntryPoint]":
    """Of these the one that the first word names; all of them where it names none.

    Importing the others would take longer than many a command does.
    """
    return [entry_point for entry_point in found if entry_point.name in words[:1]] or found


def needs_typer_options(
    found: "List[EntryPoint]", words: "List[str]", environment: "Mapping[str, str]"
) -> bool:
    """Whether help or completion of `otf` itself may be asked for: not once a command is named."""
    is_named = any(entry_point.name in words[:1] for entry_point in found)
    return "_OTF_COMPLETE" in environment or not is_named


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"otf {version('onthefly-ai')}")
        raise typer.Exit


def _otf(
    version: bool = typer.Option(
        False,
        "--version",
        callback=_print_version,
        is_eager=True,
        help="Print the version and exit.",
    ),
) -> None:
    """Watch, pause and steer PyTorch training; merge what it learned."""


def _warn_of(entry_point: EntryPoint, error: Exception) -> None:
    distribution = getattr(entry_point, "dist", None)
    name = distribution.name if distribution is not None else entry_point.value
    typer.echo(
        f"warning: the command 'otf {entry_point.name}' of {name} is not available: "
        f"{type(error).__name__}: {error}",
        err=True,
    )


def main() -> None:
    """The console script `otf`."""
    found, words = commands(), typed_words(sys.argv, os.environ)
    # To look at its own options typer imports pydantic, which takes a tenth of a second.
    typer_options = needs_typer_options(found, words, os.environ)
    build(asked_for(found, words), typer_options)()


if __name__ == "__main__":
    main()
