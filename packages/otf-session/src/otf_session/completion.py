"""What the shell offers when a word is being typed: sessions, runs and metrics.

Called by Typer in a process of its own for every press of the tab key.
"""

import contextlib
from pathlib import Path
from typing import Any, Callable, List, Tuple

import typer

#: A word, and what it is.
Offer = Tuple[str, str]


def session_ids(ctx: typer.Context, incomplete: str) -> List[Offer]:
    """Ids that begin so, the newest first; else the last parts of ids that do."""
    from . import display_name
    from .home import Home

    folders = _folders(Home.find(ctx.params.get("home")))
    offers = [(folder.name, display_name.read(folder)) for folder in folders]
    if folders:
        offers.append(("latest", folders[0].name))
    found = [offer for offer in offers if offer[0].startswith(incomplete)]
    keys = [(name.rpartition("-")[2], name) for name, _ in offers]
    return found or [offer for offer in keys if offer[0].startswith(incomplete)]


def run_names(ctx: typer.Context, incomplete: str) -> List[Offer]:
    """The runs of the session that was typed before."""

    def look(database: Any) -> List[Offer]:
        from .queries import run_summaries

        return [(run.name, run.state.value) for run in run_summaries(database)]

    return _of_session(ctx, incomplete, look)


def metric_names(ctx: typer.Context, incomplete: str) -> List[Offer]:
    """The metrics of the session that was typed before."""

    def look(database: Any) -> List[Offer]:
        from .queries import run_summaries

        names = {name for run in run_summaries(database) for name in run.latest}
        return [(name, "") for name in sorted(names)]

    return _of_session(ctx, incomplete, look)


def targets(ctx: typer.Context, incomplete: str) -> List[Offer]:
    """What `otf resume` takes: sessions, and behind a colon their runs."""
    session, colon, rest = incomplete.partition(":")
    if not colon:
        return session_ids(ctx, incomplete)
    from .queries import run_summaries

    runs = _read(ctx, session, run_summaries) or []
    return [(f"{session}:{run.name}", run.state.value) for run in runs if run.name.startswith(rest)]


def _of_session(
    ctx: typer.Context, incomplete: str, look: Callable[[Any], List[Offer]]
) -> List[Offer]:
    # An option that has no value yet leaves the words before it where they were.
    session = ctx.params.get("session_id") or next(iter(ctx.args), "latest")
    found = _read(ctx, session, look) or []
    return [offer for offer in found if offer[0].startswith(incomplete)]


def _read(ctx: typer.Context, session: str, look: Callable[[Any], Any]) -> Any:
    """What `look` finds in a session's database; None where there is nothing to be read."""
    from .errors import SessionError
    from .home import Home
    from .store import SessionReader

    # Whatever is wrong is said when the command is run; here it would garble the line.
    with contextlib.suppress(SessionError, OSError):
        folder = Home.find(ctx.params.get("home")).session_folder(session)
        with SessionReader(folder) as reader:
            return look(reader.database)
    return None


def _folders(home: Any) -> List[Path]:
    from .errors import SessionError

    with contextlib.suppress(SessionError, OSError):
        return list(home.session_folders()[::-1])
    return []
