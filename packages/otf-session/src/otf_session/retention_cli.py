"""`otf session delete` and `prune`: sessions and checkpoints that have had their time."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional

import typer

from . import completion
from .shell import (
    HomeOption,
    JsonOption,
    YesOption,
    confirm,
    misuse,
    print_json,
    progress,
    user_errors,
)

if TYPE_CHECKING:
    from .home import Home
    from .retention import Plan, Policy


def delete(
    session_ids: List[str] = typer.Argument(
        ...,
        metavar="ID...",
        help="Sessions: ids, unambiguous parts of them, names, or `latest`.",
        autocompletion=completion.session_ids,
    ),
    yes: bool = YesOption,
    home: Optional[Path] = HomeOption,
    as_json: bool = JsonOption,
) -> None:
    """Delete sessions with all their checkpoints. One that is being trained is refused.

    Where one of several cannot be deleted, because there is none or it is live, none is.
    """
    from . import deletion
    from .home import Home
    from .tables import size_text

    with user_errors():
        found = Home.find(home)
        folders = list(dict.fromkeys(found.session_folder(name) for name in session_ids))
        for folder in folders:
            deletion.check_not_live(folder)
        sizes = {folder: _size(folder) for folder in folders}
        total = sum(sizes.values())
        named = ", ".join(map(_called, folders))
        confirm(f"Delete {named} ({size_text(total)})?", yes=yes)
        with progress("deleting", total, in_bytes=True) as bar:
            for folder in folders:
                deletion.delete_session(folder, bar.advance)
            deletion.clean_up(found)
    if as_json:
        deleted = [{"session": folder.name, "size": sizes[folder]} for folder in folders]
        print_json({"deleted": deleted, "size": total})
        return
    for folder in folders:
        typer.echo(f"Deleted {folder.name} ({size_text(sizes[folder])}).")


def prune(
    older_than: Optional[str] = typer.Option(
        None,
        metavar="DURATION",
        help="Sessions that have not changed for so long: 45m, 12h, 30d, 2w. An import is a change.",
        show_default=False,
    ),
    keep_last: int = typer.Option(
        0, min=0, metavar="N", help="Leave the N newest sessions as they are, whatever their age."
    ),
    keep_pinned: bool = typer.Option(
        False,
        "--keep-pinned",
        help="Leave pinned checkpoints (initial, best, final, named, and those that runs grew from) "
        "where they are, with the records of the sessions that have some.",
    ),
    checkpoints_only: bool = typer.Option(
        False, "--checkpoints-only", help="Delete checkpoints alone: every record stays."
    ),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Show what would go, and change nothing."
    ),
    yes: bool = YesOption,
    home: Optional[Path] = HomeOption,
    as_json: bool = JsonOption,
) -> None:
    """Delete sessions that have had their time, or their checkpoints alone.

    Without further options whole sessions go. A record that stays says which of its checkpoints
    were deleted. Sessions that are being trained, or that cannot be read, are left as they are.
    """
    from . import retention
    from .home import Home
    from .tables import show_prunables, size_text

    policy = _policy(older_than, keep_last, keep_pinned, checkpoints_only)
    with user_errors():
        found = Home.find(home)
        plan = retention.plan(found, policy, time.time())
    if not as_json:
        for spared in plan.spared:
            typer.echo(f"{spared.session} is left as it is: {spared.reason}.", err=True)
        if not plan.items:
            typer.echo("Nothing has had its time.")
            return
        show_prunables(plan.items)
    failed = []
    if not dry_run and plan.items:
        confirm(f"Delete this ({size_text(plan.size)})?", yes=yes)
        failed = _prune(found, plan)
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "items": plan.items,
                "spared": plan.spared,
                "failed": failed,
                "size": plan.size,
            }
        )
    elif not dry_run and not failed:
        typer.echo(f"Deleted {size_text(plan.size)}.")
    if failed:
        raise typer.Exit(1)


def _policy(
    older_than: Optional[str], keep_last: int, keep_pinned: bool, checkpoints_only: bool
) -> "Policy":
    from .retention import Policy, parse_duration

    if older_than is None and not keep_last:
        misuse("say which sessions: --older-than 30d, --keep-last 10, or both.")
    try:
        seconds = None if older_than is None else parse_duration(older_than)
    except ValueError as error:
        misuse(f"--older-than: {error}")
    return Policy(seconds, keep_last, keep_pinned, checkpoints_only)


def _prune(home: "Home", plan: "Plan") -> List[str]:
    """Do what was planned; the sessions where that failed, which has been said, are returned."""
    from . import deletion, retention
    from .errors import SessionError

    failed = []
    with progress("deleting", plan.size, in_bytes=True) as bar:
        for item in plan.items:
            try:
                retention.prune(home, item, bar.advance)
            except SessionError as error:
                typer.echo(f"error: {error}", err=True)
                failed.append(item.session)
        deletion.clean_up(home)
    return failed


def _size(folder: Path) -> int:
    """The bytes that a session takes, as far as its record says where."""
    from .errors import SessionError
    from .queries import kept_checkpoints
    from .sizes import session_size
    from .store import SessionReader

    try:
        with SessionReader(folder) as reader:
            kept = kept_checkpoints(reader.database)
    except SessionError:
        kept = []
    return session_size(folder, kept).total


def _called(folder: Path) -> str:
    from . import display_name

    name = display_name.read(folder)
    return f"{folder.name} '{name}'" if name else folder.name
