"""`otf merge`: merge checkpoints from a shell."""

import contextlib
import inspect
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, List, Optional

import typer
from typer.core import TyperGroup

from .options import with_options

if TYPE_CHECKING:
    from .request import Machine, Request

_MERGE = "merge"
_INTERRUPTED = 130

_EXAMPLES = """Merge checkpoints into one model.

Examples:

  otf-merge ckpts/                                        # the average of all in a folder

  otf-merge --method fisher ckpts/                        # weighted by Adam's own state

  otf-merge -m ties --base base.pt a.pt b.pt --density 0.5 -o merged.safetensors

  otf-merge -m distill --task mytask.py:task ckpts/

Names, dtypes and format follow the first checkpoint. See also: otf-merge methods, otf-merge plan,
otf-merge compare.
"""


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


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turn this package's errors into one message on stderr and exit code 1."""
    from .errors import MergeError

    try:
        yield
    except MergeError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        typer.echo("Interrupted: nothing was written.", err=True)
        raise typer.Exit(_INTERRUPTED) from None


def _own(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation, default=default
    )


_OUTPUT = _own(
    "output",
    Optional[str],
    typer.Option(
        None,
        "--output",
        "-o",
        help="The file to write, whose suffix sets the format, or a folder.",
        show_default="merged, in the first input's format",
        rich_help_panel="Output",
    ),
)
_FORCE = _own(
    "force",
    bool,
    typer.Option(
        False, "--force", help="Replace the output if it exists.", rich_help_panel="Output"
    ),
)
_SHARD_SIZE = _own(
    "shard_size",
    Optional[str],
    typer.Option(
        None,
        "--shard-size",
        help="The most in one file of a folder, such as 5GB.",
        show_default="as the first input",
        rich_help_panel="Output",
    ),
)
_HASHES = _own(
    "hashes",
    bool,
    typer.Option(
        True,
        "--hash/--no-hash",
        help="Record each input's SHA-256, which takes about as long as an average.",
        rich_help_panel="Output",
    ),
)
_DRY_RUN = _own(
    "dry_run",
    bool,
    typer.Option(
        False,
        "--dry-run",
        help="Say what would be done and do nothing, as `otf-merge plan` does.",
        rich_help_panel="Output",
    ),
)


def _merge(
    given: SimpleNamespace,
    output: Optional[str],
    force: bool,
    shard_size: Optional[str],
    hashes: bool,
    dry_run: bool,
) -> None:
    if dry_run:
        _plan(given, output, force)
        return
    with user_errors():
        from .display import bar, outcome
        from .merging import merge_into_file

        request, machine = _asked(given)
        with bar(quiet=given.as_json) as progress:
            written = merge_into_file(
                *(request, output, machine),
                force=force,
                shard_size=_bytes(shard_size),
                hashes=hashes,
                progress=progress,
            )
    if given.as_json:
        _print_json(vars(written))
        return
    _warn(written.warnings)
    typer.echo(outcome(written))


def _plan(given: SimpleNamespace, output: Optional[str], force: bool) -> None:
    """Say what a merge would do: tensors, bytes, memory, warnings, and a recipe of it."""
    with user_errors():
        from .display import planned
        from .plan import plan

        request, machine = _asked(given)
        found = plan(request, output, machine, force=force)
    if given.as_json:
        _print_json(vars(found))
        return
    _warn(found.warnings)
    typer.echo(planned(found))


def _compare(given: SimpleNamespace, output: Optional[str], force: bool, only: List[str]) -> None:
    """Try every method that applies on a task's validation data, and rank them.

    The parents and the base stand in the table too. With -o the best method's result is written.
    """
    with user_errors():
        from .comparing import compare, keep, ranked
        from .display import bar, ranking

        request, machine = _asked(given)
        with bar(quiet=given.as_json) as progress:
            found = ranked(list(compare(request, machine, progress, only or ())))
            written = keep(request, found, output, machine, force=force) if output else None
    if given.as_json:
        kept = vars(written) if written else None
        _print_json({"ranking": [it.told() for it in found], "written": kept})
        return
    typer.echo(ranking(found))
    if written:
        _warn(written.warnings)
        typer.echo(f"Wrote {written.output}, merged by {written.method}.")


_ONLY = _own(
    "only",
    Optional[List[str]],
    typer.Option(
        None,
        "--only",
        metavar="METHOD",
        help="A method to try; may be repeated.",
        show_default="all that apply",
        rich_help_panel="What to merge",
    ),
)

_merge.__doc__ = _EXAMPLES
app.command(_MERGE, hidden=True, no_args_is_help=True)(
    with_options(_merge, [_OUTPUT, _FORCE, _SHARD_SIZE, _HASHES, _DRY_RUN])
)
app.command("plan", no_args_is_help=True)(with_options(_plan, [_OUTPUT, _FORCE]))
app.command("compare", no_args_is_help=True)(with_options(_compare, [_OUTPUT, _FORCE, _ONLY]))


@app.command("methods")
def methods(
    name: Optional[str] = typer.Argument(None, help="One method, to be told of its parameters."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document, for programs."),
) -> None:
    """List the merge methods, those of other installed packages included."""
    from .cli_methods import listed, told_of

    with user_errors():
        found, problems = told_of(name)
    for problem in problems:
        typer.echo(f"warning: {problem}", err=True)
    if as_json:
        _print_json({"methods": found})
    else:
        typer.echo(listed(found, whole=name is not None))


def _asked(given: SimpleNamespace) -> "tuple[Request, Machine]":
    """The request and the machine that options and recipe describe."""
    from .asking import request_from
    from .request import Machine

    request = request_from(given)
    if not request.inputs:
        raise typer.BadParameter("name checkpoints, or a --recipe that does.", param_hint="PATHS")
    threads = {} if given.threads is None else {"threads": given.threads}
    machine = Machine(device=given.device, **threads)
    if any(path.is_dir() for path in request.inputs) and not given.as_json:
        _say_what_is_in_folders(request)
    return request, machine


def _say_what_is_in_folders(request: "Request") -> None:
    from .checkpoints.destination import default_outputs
    from .checkpoints.sources import files_of

    files = files_of(request.inputs, default_outputs())
    typer.echo("\n".join(f"  {file}" for file in files), err=True)


def _bytes(text: Optional[str]) -> Optional[int]:
    from .asking import bytes_of

    return None if text is None else bytes_of(text)


def _warn(warnings: "List[str]") -> None:
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, default=str))
