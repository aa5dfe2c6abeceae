"""The options of `merge`, `plan` and `compare` that not all of them have."""

import inspect
from typing import Any, List, Optional

import typer

from .options import PANELS

_WHAT, _OUTPUT = PANELS[0], PANELS[3]


def _own(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation, default=default
    )


OUTPUT = _own(
    "output",
    Optional[str],
    typer.Option(
        None,
        "--output",
        "-o",
        metavar="PATH",
        help="The file to write, whose suffix sets the format, or a folder (default: merged, in "
        "the first input's format).",
        rich_help_panel=_OUTPUT,
    ),
)
KEEP = _own(
    "output",
    Optional[str],
    typer.Option(
        None,
        "--output",
        "-o",
        metavar="PATH",
        help="Where to write the best method's result (default: nothing is written).",
        rich_help_panel=_OUTPUT,
    ),
)
FORCE = _own(
    "force",
    bool,
    typer.Option(
        False,
        "--force",
        metavar="",
        help="Replace the output if it exists.",
        rich_help_panel=_OUTPUT,
    ),
)
SHARD_SIZE = _own(
    "shard_size",
    Optional[str],
    typer.Option(
        None,
        "--shard-size",
        metavar="SIZE",
        help="The most in one file of a folder, such as 5GB (default: as in the first input).",
        rich_help_panel=_OUTPUT,
    ),
)
HASHES = _own(
    "hashes",
    bool,
    typer.Option(
        True,
        "--hash/--no-hash",
        metavar="",
        help="Record each input's SHA-256, which takes longer than an average (default: --hash).",
        rich_help_panel=_OUTPUT,
    ),
)
SYNC = _own(
    "sync",
    bool,
    typer.Option(
        False,
        "--sync",
        metavar="",
        help="Wait until the output is on the disk, for example before inputs are deleted.",
        rich_help_panel=_OUTPUT,
    ),
)
DRY_RUN = _own(
    "dry_run",
    bool,
    typer.Option(
        False,
        "--dry-run",
        metavar="",
        help="Say what would be done and do nothing, as `otf-merge plan` does.",
        rich_help_panel=_OUTPUT,
    ),
)
METHODS = _own(
    "only",
    Optional[List[str]],
    typer.Option(
        None,
        "--method",
        "-m",
        metavar="NAME",
        help="A method to try. May be repeated (default: all that apply).",
        rich_help_panel=_WHAT,
    ),
)
