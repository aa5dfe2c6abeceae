"""Note: a person's remark, pinned to a step."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from otf_session.commands import Applied, Note, Outcome
from otf_session.events import NoteAdded

from ..errors import NotPossible

if TYPE_CHECKING:
    from ..engine import Engine

_LONGEST = 2000


def note(engine: Engine, command: Note) -> Outcome:
    """Record the remark, in the charts and in the log."""
    text = command.text.strip()
    if not text:
        raise NotPossible("The note is empty.")
    if len(text) > _LONGEST:
        raise NotPossible(f"The note has {len(text)} characters; {_LONGEST} fit.")
    step = engine.step if command.step is None else command.step
    if not 0 <= step <= engine.step:
        raise NotPossible(f"There is no step {step} yet: the run is at step {engine.step}.")
    request = engine.desk.current
    author = request.author if request is not None else ""
    engine.journal.add(NoteAdded, step=step, author=author, text=text)
    engine.log(f"note at step {step}: {text}", logging.INFO, logger=author or "note")
    return Applied(step=engine.step, message=f"Noted at step {step}.")
