"""`otf merge`: merge checkpoints from a shell."""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from .merging import Written

_MERGE = "merge"


class MergeUnlessNamed(TyperGroup):
    """A group whose first word is a subcommand or else already belongs to the merge itself.

    Without it `otf merge` could have either paths or subcommands, but not both. The context is
    then that of the merge command, so usage and help read as if there were no group.
    """

    def make_context(
        self, info_name: Any, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """The context of the group if a subcommand is named, else that of the merge command."""
        if args and args[0] in self.commands:
            return super().make_context(info_name, args, parent, **extra)
        return self.commands[_MERGE].make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Run whichever command the context was made for."""
        return super().invoke(ctx) if ctx.command is self else ctx.command.invoke(ctx)


app = typer.Typer(
    name="merge",
    cls=MergeUnlessNamed,
    help="Merge checkpoints into one model.",
    # The options that would install completion belong to a group's own help, which is never shown.
    add_completion=False,
    pretty_exceptions_enable=False,
)

JsonOption = typer.Option(False, "--json", help="Print one JSON document, for programs.")


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turn this package's errors into one message on stderr and exit code 1."""
    from .errors import MergeError

    try:
        yield
    except MergeError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


@app.command(_MERGE, hidden=True, no_args_is_help=True)
def merge(
    paths: list[Path] = typer.Argument(
        ..., metavar="PATHS", help="Checkpoints, or folders that hold them, at least two."
    ),
    method: str = typer.Option(
        "linear", "--method", "-m", help="How to merge. `otf-merge methods` lists the methods."
    ),
    weight: Optional[list[float]] = typer.Option(
        None,
        "--weight",
        "-w",
        help="A checkpoint's share, given once for each, in their order.",
        show_default="equal shares",
    ),
    output: Optional[Path] = typer.Option(
        None,
        "--output",
        "-o",
        help="The file to write, whose suffix sets the format.",
        show_default="merged, with the first input's suffix",
    ),
    key: Optional[str] = typer.Option(
        None,
        "--key",
        help="The key under which the files keep the weights.",
        show_default="the usual ones",
    ),
    force: bool = typer.Option(False, "--force", help="Replace the output if it exists."),
    allow_nonfinite: bool = typer.Option(
        False, "--allow-nonfinite", help="Merge even where a tensor holds NaN or infinity."
    ),
    as_json: bool = JsonOption,
) -> None:
    """Merge checkpoints into one model. `otf-merge methods` lists the methods.

    Names, dtypes and format follow the first checkpoint.
    """
    from .merging import Settings, merge_into_file

    settings = Settings(method, weight or None, key, allow_nonfinite)
    with user_errors(), _progress(quiet=as_json) as on_tensor:
        written = merge_into_file(paths, settings, output, force=force, on_tensor=on_tensor)
    if as_json:
        typer.echo(json.dumps(_document(written)))
        return
    for warning in written.warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(
        f"Merged {len(written.inputs)} checkpoints with {written.method} "
        f"into {written.output} ({written.tensors} tensors)."
    )


@app.command("methods")
def methods(as_json: bool = JsonOption) -> None:
    """List the merge methods, those of other installed packages included."""
    from .registry import list_methods

    found, problems = list_methods()
    for problem in problems:
        typer.echo(f"warning: {problem}", err=True)
    if as_json:
        rows = [{"name": it.name, "summary": it.summary, "paper": it.paper} for it in found]
        typer.echo(json.dumps({"methods": rows}))
        return
    width = max(len(it.name) for it in found)
    for it in found:
        source = f" {it.paper}" if it.paper else ""
        typer.echo(f"{it.name:<{width}}  {it.summary}{source}")


def _document(written: "Written") -> "dict[str, Any]":
    return {
        "output": str(written.output),
        "inputs": [str(path) for path in written.inputs],
        "method": written.method,
        "parameters": written.parameters,
        "tensors": written.tensors,
        "warnings": written.warnings,
    }


@contextlib.contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr, if a person looks at it, as a function to tell of each tensor."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, total: None
        return

    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Merging", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
