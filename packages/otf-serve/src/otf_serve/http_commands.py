"""The HTTP API's commands: ask a session's trainer for something, and see what became of it."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, List, Optional

import msgspec
from otf_session.commands import Command, Refused
from otf_session.events import CommandChanged
from otf_session.frames import CommandReply
from otf_session.queries import events_of

from .absence import absence
from .catalog import Catalog
from .docket import Case
from .endpoints import Asked, Endpoint, NotFound, Reply
from .http import SESSION, read
from .hub import LARGEST_COMMAND, Hub
from .parameters import BadRequest, Parameter, in_path, line, seconds
from .pending import Pending

_commands = msgspec.json.Decoder(Command)

COMMAND = in_path("id", "The command's id, which the answer to asking for it holds.")
WAIT = seconds("wait", "Seconds to wait for the outcome.", default=30.0, most=600.0)
AUTHOR = line("author", "Who asks, for the record; `http` where nobody is named.")
AUTHOR_HEADER = line("otf-author", "The same as `author`, as a header.", "header")


class CommandApi:
    """What can be asked of trainers."""

    def __init__(self, hub: Hub, catalog: Catalog) -> None:
        self._hub = hub
        self._catalog = catalog

    def endpoints(self) -> List[Endpoint]:
        """All that has to do with commands."""
        path = "/api/sessions/{session}/commands"
        every = {200: List[CommandChanged]}
        answer = {200: CommandReply, 202: Pending}
        asking: List[Parameter[Any]] = [SESSION, WAIT, AUTHOR, AUTHOR_HEADER]
        looking: List[Parameter[Any]] = [SESSION, COMMAND, WAIT]
        unknown, unusable = [404, 409, 500], [400, 404, 409, 500]
        return [
            Endpoint("GET", path, self.commands, every, [SESSION], unknown),
            Endpoint("POST", path, self.submit, answer, asking, [*unusable, 413], body=Command),
            Endpoint("GET", path + "/{id}", self.command, answer, looking, unusable),
        ]

    async def commands(self, asked: Asked) -> Reply:
        """Every command that the trainer received, with what became of it, the oldest first."""
        folder = await asyncio.to_thread(self._catalog.find, asked[SESSION])
        return Reply(await read(folder, lambda reader: events_of(reader.database, CommandChanged)))

    async def submit(self, asked: Asked) -> Reply:
        """Ask for a command: 200 with its outcome, also a refusal, or 202 while there is none."""
        wait, author = asked[WAIT], asked[AUTHOR] or asked[AUTHOR_HEADER] or "http"
        session = (await asyncio.to_thread(self._catalog.find, asked[SESSION])).name
        try:
            command = _commands.decode(await asked.body(LARGEST_COMMAND))
        except msgspec.DecodeError as error:
            raise BadRequest(f"The body is no command: {error}.") from error
        reason = await absence(session, self._hub, self._catalog)
        command_id = secrets.token_hex(8)
        case = self._hub.submit(
            session, command_id, author, command, lambda outcome: None, absence=reason
        )
        return await _answer(case, wait)

    async def command(self, asked: Asked) -> Reply:
        """What became of a command: 200 with its outcome, or 202 while there is none."""
        command_id, wait = asked[COMMAND], asked[WAIT]
        folder = await asyncio.to_thread(self._catalog.find, asked[SESSION])
        session = folder.name
        case = self._hub.case(session, command_id)
        if case is None or case.is_interrupted:
            event = await read(folder, lambda reader: _newest(reader.database, command_id))
            case = await self._from_record(session, event) or case
        if case is None:
            raise NotFound(
                f"The session {session} has no command '{command_id}'. `otf ctl list` shows those "
                "that its trainer received."
            )
        return await _answer(case, wait)

    async def _from_record(self, session: str, event: Optional[CommandChanged]) -> Optional[Case]:
        """What the session's record knows of a command that this server does not."""
        if event is None:
            return None
        if event.outcome is None and session in self._hub.connected:
            return self._hub.adopt(session, event.id)
        case = Case(session, event.id)
        outcome = event.outcome or Refused(
            reason=f"The trainer received the command at step {event.step}, and did not come to "
            f"answer it. {await absence(session, self._hub, self._catalog)}"
        )
        case.settle(outcome, certain=True)
        return case


def _newest(database: Any, command_id: str) -> Optional[CommandChanged]:
    events = events_of(database, CommandChanged)
    return next((event for event in reversed(events) if event.id == command_id), None)


async def _answer(case: Case, wait: float) -> Reply:
    answer = await case.answer(wait)
    return Reply(answer, 202 if isinstance(answer, Pending) else 200)
