"""`otf merge`: merge checkpoints from a shell."""

import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Callable, List, Optional

import typer
from typer.core import TyperGroup

from .help_texts import COMPARE, MERGE, PLAN
from .method_options import with_options
from .own_options import DRY_RUN, FORCE, HASHES, KEEP, METHODS, OUTPUT, SHARD_SIZE, SYNC

if TYPE_CHECKING:
    from .request import Machine, Request

_MERGE = "merge"
# As the shell says it of a process that a signal has ended: 128 and the signal's number.
_BY_SIGNAL = 128


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
def user_errors(
    *, as_json: bool = False, told: Callable[[Any], None] = lambda report: None
) -> Iterator[None]:
    """Turn this package's errors into one message on stderr and exit code 1.

    With `as_json` what the user's own code prints goes to stderr, since stdout is for the document
    alone. `told` gets the report of a merge that a gate has refused.
    """
    from .errors import GateRefused, MergeError
    from .interrupts import ending

    printed = contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()
    try:
        with ending(), printed:
            yield
    except MergeError as error:
        if isinstance(error, GateRefused):
            told(error.report)
        _say(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as interrupt:
        number = getattr(interrupt, "number", signal.SIGINT)
        _say("Interrupted: nothing was written.", err=True)
        raise typer.Exit(_BY_SIGNAL + number) from None


def _merge(
    given: SimpleNamespace,
    output: Optional[str],
    force: bool,
    shard_size: Optional[str],
    hashes: bool,
    sync: bool,
    dry_run: bool,
) -> None:
    if dry_run:
        _plan(given, output, force, hashes)
        return

    def refused(report: Any) -> None:
        if given.as_json:
            _say_json({"output": None, "report": report})

    with user_errors(as_json=given.as_json, told=refused):
        request, machine = _asked(given)
        size = _bytes(shard_size)
        from .hashing import Hashing

        with Hashing(machine.threads) as hashing:
            if hashes:
                # Beside the import of torch, which takes one core.
                hashing.begin(request.files)
            from .display import bar, outcome
            from .merging import merge_into_file

            _say_what_was_found(request, output, given)
            with bar(quiet=given.as_json) as watched:
                written = merge_into_file(
                    *(request, output, machine),
                    force=force,
                    shard_size=size,
                    hashes=hashes and hashing,
                    sync=sync,
                    progress=watched.progress,
                )
    if given.as_json:
        _say_json(vars(written))
        return
    _warn(written.warnings)
    _say(outcome(written))


def _plan(given: SimpleNamespace, output: Optional[str], force: bool, hashes: bool) -> None:
    with user_errors(as_json=given.as_json):
        request, machine = _asked(given)
        from .display import planned
        from .plan import plan

        found = plan(request, output, machine, force=force, hashes=hashes)
    if given.as_json:
        _say_json(vars(found))
        return
    _warn(found.warnings)
    _say(planned(found))


def _compare(
    given: SimpleNamespace, output: Optional[str], force: bool, only: Optional[List[str]]
) -> None:
    with user_errors(as_json=given.as_json):
        from .asking import every_method

        request, machine = _asked(given, only or every_method())
        from .checkpoints.destination import destination
        from .comparing import compare, keep, ranked
        from .display import bar
        from .ranking import line, ranking

        if output:
            destination(output, force=force)
        _say_what_was_found(request, output, given)
        found = []
        with bar(quiet=given.as_json) as watched:
            for contender in compare(request, machine, watched.progress, only or ()):
                watched.say(line(contender))
                found.append(contender)
            found = ranked(found)
            written = (
                keep(request, found, output, machine, force=force, progress=watched.progress)
                if output
                else None
            )
    if given.as_json:
        kept = vars(written) if written else None
        _say_json({"ranking": [it.told() for it in found], "written": kept})
        return
    _say(ranking(found))
    if written:
        _warn(written.warnings)
        _say(f"Wrote {written.output}, merged by {written.method}.")


app.command(_MERGE, help=MERGE, hidden=True, no_args_is_help=True)(
    with_options(_merge, [OUTPUT, FORCE, SHARD_SIZE, HASHES, SYNC, DRY_RUN])
)
app.command("plan", help=PLAN, no_args_is_help=True)(with_options(_plan, [OUTPUT, FORCE, HASHES]))
app.command("compare", help=COMPARE, no_args_is_help=True)(
    with_options(_compare, [METHODS, KEEP, FORCE], without=["method", "gate"])
)


@app.command("methods")
def methods(
    name: Optional[str] = typer.Argument(
        None, help="One method, to be told all about it.", show_default=False
    ),
    as_json: bool = typer.Option(
        False, "--json", metavar="", help="Print one JSON document, for programs."
    ),
) -> None:
    """List the merge methods, those of other installed packages included."""
    from .cli_methods import listed, told_of

    with user_errors(as_json=as_json):
        found, problems = told_of(name)
    for problem in problems:
        _say(f"warning: {problem}", err=True)
    if as_json:
        _say_json({"methods": found})
    else:
        _say(listed(found, whole=name is not None))


def _asked(given: SimpleNamespace, methods: "Sequence[str]" = ()) -> "tuple[Request, Machine]":
    """The request and the machine that options and recipe describe."""
    from .asking import request_from
    from .request import Machine

    request = request_from(given, methods)
    if not request.inputs:
        raise typer.BadParameter("name checkpoints, or a --recipe that does.", param_hint="PATHS")
    threads = {} if given.threads is None else {"threads": given.threads}
    return request, Machine(device=given.device, **threads)


def _say_what_was_found(request: "Request", output: Optional[str], given: SimpleNamespace) -> None:
    if given.as_json:
        return
    from .asking import folders_meant

    files = folders_meant(request, output)
    if files:
        _say("\n".join(f"  {file}" for file in files), err=True)


def _bytes(text: Optional[str]) -> Optional[int]:
    from .asking import bytes_of

    return None if text is None else bytes_of(text)


def _warn(warnings: "List[str]") -> None:
    for warning in warnings:
        _say(f"warning: {warning}", err=True)


def _say(text: str, *, err: bool = False) -> None:
    from .text import printable

    typer.echo(printable(text), err=err)


def _say_json(value: Any) -> None:
    from .text import as_json

    typer.echo(as_json(value))
