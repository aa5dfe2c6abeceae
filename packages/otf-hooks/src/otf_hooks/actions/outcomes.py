"""What an action comes to: an outcome at once, or one that is still to come."""

from __future__ import annotations

from typing import Callable, NamedTuple, Union

from otf_session.commands import Applied, Outcome
from otf_session.events import CheckpointSaved
from otf_session.results import CheckpointWritten


class Pending(NamedTuple):
    """An outcome that somebody else will know: `start` is handed the function that answers.

    A checkpoint is answered when it is on disk, and training does not wait for that.
    """

    start: Callable[[Callable[[Outcome], None]], None]


def written(saved: Union[CheckpointSaved, str, None], step: int, message: str) -> Applied:
    """The answer to a command that saved a checkpoint, or could not and did the rest."""
    if not isinstance(saved, CheckpointSaved):
        return Applied(step=step, message=f"{message} {saved or ''}".rstrip())
    return Applied(
        step=step,
        message=f"{message} The checkpoint {saved.id} is written.",
        result=CheckpointWritten(
            id=saved.id, path=saved.path, size=saved.size, sha256=saved.sha256
        ),
    )
