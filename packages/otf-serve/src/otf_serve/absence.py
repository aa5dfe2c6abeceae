"""Why no trainer of a session is connected, and what would work instead of a command."""

from __future__ import annotations

import asyncio
from typing import Optional

from otf_session.errors import SessionError
from otf_session.summaries import RunSummary, SessionState, SessionSummary

from .catalog import Catalog
from .hub import Hub


async def absence(session: str, hub: Hub, catalog: Catalog) -> str:
    """The reason for the person who asked; empty where the trainer is connected."""
    if session in hub.connected:
        return ""
    return await asyncio.to_thread(_explain, session, catalog)


def _explain(session: str, catalog: Catalog) -> str:
    try:
        summary = catalog.summary(session, frozenset())
    except SessionError as error:
        return str(error)
    return f"The session's trainer is not connected to this server: {_explained(summary)}"


def _explained(summary: SessionSummary) -> str:
    current = summary.current
    where = f" at step {current.step}" if current else ""
    again = f"`otf resume {summary.id} -- python train.py` goes on from its newest checkpoint."
    if summary.state is SessionState.FINISHED:
        return f"training finished{where}. Starting the script again begins a new session."
    if summary.state is SessionState.STOPPED:
        return f"training was stopped{where}. {again}"
    if summary.state is SessionState.FAILED:
        return f"training failed{where}{_because(current)}. {again}"
    if summary.state is SessionState.LOST:
        return f"its process is gone, and training was cut off{where}. {again}"
    return (
        f"its process is there, and training is {summary.state.value}{where}. It connects within "
        "seconds where the server runs with the script's ONTHEFLY_HOME and on its port "
        "(ONTHEFLY_DASHBOARD_PORT): `otf serve`."
    )


def _because(run: Optional[RunSummary]) -> str:
    return f" ({run.reason})" if run and run.reason else ""
