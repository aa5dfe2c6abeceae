"""Jobs: long work that a server does with sessions when it is asked to, and what came of it.

Unlike a command, a job needs no training process; it is no event, and is forgotten with the server.
"""

from typing import List, Literal, Optional, Union

import msgspec

JobKind = Literal["export", "import", "verify", "delete", "metrics"]
JobState = Literal["running", "done", "failed", "cancelled"]


class JobResultBase(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """The base of what jobs bring about; `kind` is that of the job."""


class BundleMade(JobResultBase, frozen=True, kw_only=True, tag="export"):
    """A bundle of `size` bytes waits to be fetched. `notes` say what is not in it, and why."""

    file: str
    size: int
    runs: List[str]
    checkpoints: int
    final_models: int
    notes: List[str] = []


class SessionImported(JobResultBase, frozen=True, kw_only=True, tag="import"):
    """A bundle is a session of this home now. `original` is the id that it had elsewhere."""

    session: str
    original: str
    project: str
    runs: List[str]
    checkpoints: int
    final_models: int
    size: int
    notes: List[str] = []


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is not as it was written, and what is wrong with it."""

    name: str
    problem: str


class SessionVerified(JobResultBase, frozen=True, kw_only=True, tag="verify"):
    """Every byte of a session was looked at: `files` files of `size` bytes, less `faults`."""

    ok: bool
    files: int
    size: int
    faults: List[Fault] = []


class SessionDeleted(JobResultBase, frozen=True, kw_only=True, tag="delete"):
    """A session is gone, and `freed` bytes are free."""

    freed: int


class MetricsMade(JobResultBase, frozen=True, kw_only=True, tag="metrics"):
    """A file with `points` values waits to be fetched.

    `damage` says why there are not all, where that is so.
    """

    file: str
    size: int
    points: int
    damage: str = ""


JobResult = Union[BundleMade, SessionImported, SessionVerified, SessionDeleted, MetricsMade]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job, and how far it is: `done` of `total` bytes or points (0: not known yet).

    `session` is the id of the session that it is about, and `name` how a person knows that, or the
    bundle that is imported. `error` says why it failed.
    """

    id: str
    kind: JobKind
    session: str
    name: str
    state: JobState
    done: int = 0
    total: int = 0
    result: Optional[JobResult] = None
    error: str = ""
