"""What the server looks at by itself: sessions that appear, change or vanish on disk."""

from __future__ import annotations

import asyncio
import logging
from typing import Dict

from otf_session.errors import SessionError
from otf_session.frames import SessionChanged, SessionGone
from otf_session.summaries import SessionSummary

from .catalog import Catalog
from .hub import Hub

_logger = logging.getLogger("otf_serve")

#: Seconds between two looks while nothing is heard, for what trainers do not tell: their death.
_IDLE_SECONDS = 2.0
#: Seconds between two looks at most, however much is heard.
_BUSY_SECONDS = 0.5


async def watch(hub: Hub, catalog: Catalog) -> None:
    """Tell dashboards about sessions that look different than before, until cancelled."""
    shown: Dict[str, SessionSummary] = {}
    while True:
        if hub.viewers:
            try:
                shown = await _tell(hub, catalog, shown)
            except (SessionError, OSError) as error:
                _logger.warning("The sessions cannot be read for now: %s", error)
        hub.changed.clear()
        await asyncio.sleep(_BUSY_SECONDS)
        heard = asyncio.ensure_future(hub.changed.wait())
        try:
            # Not `wait_for`: before Python 3.12 it can swallow the cancellation that ends this.
            await asyncio.wait({heard}, timeout=_IDLE_SECONDS - _BUSY_SECONDS)
        finally:
            heard.cancel()


async def _tell(
    hub: Hub, catalog: Catalog, shown: Dict[str, SessionSummary]
) -> Dict[str, SessionSummary]:
    summaries = await asyncio.to_thread(catalog.summaries, hub.connected)
    found = {summary.id: summary for summary in summaries}
    for session, summary in found.items():
        if shown.get(session) != summary:
            hub.broadcast(SessionChanged(session=summary))
            # A trainer that is not linked to this server tells it nothing of what it writes.
            hub.announce(session, summary.last_seq)
    for session in shown.keys() - found.keys():
        hub.broadcast(SessionGone(session=session))
    return found
