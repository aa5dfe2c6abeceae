"""Jobs: long work on sessions that the server does itself, in threads of its own.

Each can be looked at while it goes on, and broken off where that leaves nothing behind. What it
makes waits to be fetched, for a while.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, List, Optional, Set

import msgspec
from otf_session.errors import Cancelled, SessionError
from otf_session.jobs import Job, JobKind, JobResult

from .download import Delivered, Span
from .endpoints import Conflict, NotFound
from .transfers import discard

_logger = logging.getLogger("otf_serve")

#: Jobs at work at once; more wait. Each reads and writes as fast as the disk goes.
_AT_ONCE = 3
#: Ended jobs that are remembered.
_MOST_ENDED = 100
#: Seconds for which a file waits to be fetched.
_KEPT = 3600.0
#: Seconds for which it stays after that: that it was sent does not say that it has arrived.
_FOR_A_RETRY = 60.0
#: Seconds that work has to see that it is not wanted any more.
_UNTIL_CANCELLED = 30.0


class Watcher:
    """What the work is given: it says how far it is, and asks whether it is still wanted."""

    def __init__(self) -> None:
        self.done = 0
        self.total = 0
        self._cancelled = threading.Event()

    def put(self, done: int, total: int) -> None:
        """So much of so much is done."""
        self.done, self.total = done, total

    def put_or_end(self, done: int, total: int) -> None:
        """The same, for work that does not ask: it is broken off by `Cancelled`."""
        self.put(done, total)
        self.check()

    def advance(self, count: int) -> None:
        """So much more is done."""
        self.done += count

    def cancel(self) -> None:
        """The work is not wanted any more."""
        self._cancelled.set()

    def is_cancelled(self) -> bool:
        """Whether it is to be broken off."""
        return self._cancelled.is_set()

    def check(self) -> None:
        """Raise `Cancelled` where it is to be broken off."""
        if self.is_cancelled():
            raise Cancelled("It was cancelled. Nothing was left behind.")


#: The work itself, which is done in a thread.
Work = Callable[[Watcher], JobResult]


@dataclass
class Task:
    """A job, as the server holds it. `folder` is what it has on its way, and goes with it."""

    id: str
    kind: JobKind
    session: str
    name: str
    folder: Optional[Path] = None
    watcher: Watcher = field(default_factory=Watcher)
    result: Optional[JobResult] = None
    error: Optional[SessionError] = None
    delivered: Delivered = field(default_factory=Delivered)
    _ended: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    @property
    def is_running(self) -> bool:
        """Whether it has no outcome yet."""
        return not self._ended.is_set()

    def end(self) -> None:
        """There is a result, or an error."""
        self._ended.set()

    async def wait(self, seconds: float) -> None:
        """Wait for the outcome, so long at most."""
        if self.is_running and seconds > 0:
            waiting = asyncio.ensure_future(self._ended.wait())
            try:
                # Not `wait_for`: before Python 3.12 it can swallow the request's cancellation.
                await asyncio.wait({waiting}, timeout=seconds)
            finally:
                waiting.cancel()

    def seen(self) -> Job:
        """The job as others see it."""
        job = Job(
            id=self.id,
            kind=self.kind,
            session=self.session,
            name=self.name,
            state="running",
            done=self.watcher.done,
            total=self.watcher.total,
        )
        if self.is_running:
            return job
        if isinstance(self.error, Cancelled):
            return msgspec.structs.replace(job, state="cancelled", error=str(self.error))
        if self.error is not None:
            return msgspec.structs.replace(job, state="failed", error=str(self.error))
        return msgspec.structs.replace(job, state="done", result=self.result)


class Jobs:
    """All jobs: those at work, and the newest of those that have ended.

    `on_change` is called after each, because sessions may look different. It runs on the event
    loop; only the work itself is in threads.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._tasks: OrderedDict[str, Task] = OrderedDict()
        self._going: Set[asyncio.Task[None]] = set()
        self._threads = concurrent.futures.ThreadPoolExecutor(_AT_ONCE, "otf-job")

    def start(
        self,
        kind: JobKind,
        work: Work,
        *,
        session: str = "",
        name: str = "",
        folder: Optional[Path] = None,
    ) -> Task:
        """Begin a job. `folder` is removed when it fails, or when it is forgotten."""
        task = Task(secrets.token_hex(8), kind, session, name, folder)
        self._tasks[task.id] = task
        self._hold(asyncio.ensure_future(self._run(task, work)))
        return task

    async def _run(self, task: Task, work: Work) -> None:
        try:
            result = await asyncio.get_running_loop().run_in_executor(
                self._threads, _checked, work, task.watcher
            )
            task.result = result
        except SessionError as error:
            task.error = error
        except Exception as error:
            # The task's boundary: nobody awaits it, and whoever asked is owed an answer.
            _logger.exception("The job %s (%s) failed", task.id, task.kind)
            task.error = SessionError(
                f"It failed unexpectedly: {type(error).__name__}: {error}. The server's output "
                "has the details."
            )
        if task.error is not None and task.folder is not None:
            await asyncio.to_thread(discard, task.folder)
        task.end()
        self._on_change()
        if task.folder is not None and task.error is None:
            self._forget_in(_KEPT, task)
        self._forget_oldest()

    def find(self, job_id: str) -> Task:
        """The job with this id; `NotFound` where none is remembered."""
        task = self._tasks.get(job_id)
        if task is None:
            raise NotFound(
                f"There is no job '{job_id}'. Jobs are forgotten with the server, and files once "
                "they are fetched."
            )
        return task

    def every(self) -> List[Task]:
        """All that are remembered, the oldest first."""
        return list(self._tasks.values())

    def check_free(self, session: str, kind: JobKind) -> None:
        """Raise `Conflict` where a job of this kind cannot be at work on the session just now.

        What reads it can be beside others that do; what deletes it, beside none.
        """
        for task in self._tasks.values():
            is_apart = kind == "delete" or task.kind == "delete"
            if task.is_running and task.session == session and is_apart:
                raise Conflict(
                    f"The session {session} is in use: the job '{task.kind}' is at work on it. "
                    "Cancel that, or wait until it is done."
                )

    async def drop(self, task: Task) -> None:
        """Break a job off, or forget one that has ended together with what it made."""
        if not task.is_running:
            await self.forget(task)
        elif task.kind == "delete":
            raise Conflict("What is being deleted is gone already. This cannot be broken off.")
        else:
            task.watcher.cancel()
            await task.wait(_UNTIL_CANCELLED)

    def fetched(self, task: Task, span: Span, size: int) -> None:
        """A part of a job's file was sent. Once all of it was, it stays for a retry's sake only."""
        task.delivered.add(span)
        if task.delivered.is_whole(size):
            self._forget_in(_FOR_A_RETRY, task)

    async def forget(self, task: Task) -> None:
        """Remove what a job that has ended is remembered by."""
        self._tasks.pop(task.id, None)
        if task.folder is not None:
            await asyncio.to_thread(discard, task.folder)

    async def close(self) -> None:
        """Break everything off, and wait until nothing is at work any more."""
        for task in self._tasks.values():
            task.watcher.cancel()
        await asyncio.to_thread(self._threads.shutdown)
        if self._going:
            await asyncio.wait(set(self._going))

    def _forget_in(self, seconds: float, task: Task) -> None:
        asyncio.get_running_loop().call_later(
            seconds, lambda: self._hold(asyncio.ensure_future(self.forget(task)))
        )

    def _hold(self, going: asyncio.Task[None]) -> None:
        """The loop itself holds on to no task."""
        self._going.add(going)
        going.add_done_callback(self._going.discard)

    def _forget_oldest(self) -> None:
        ended = [task for task in self._tasks.values() if not task.is_running]
        # What waits to be fetched has a time of its own.
        plain = [task for task in ended if task.folder is None or task.error is not None]
        for task in plain[:-_MOST_ENDED]:
            del self._tasks[task.id]


def _checked(work: Work, watcher: Watcher) -> JobResult:
    # It may have waited for a thread, and not be wanted any more.
    watcher.check()
    return work(watcher)
