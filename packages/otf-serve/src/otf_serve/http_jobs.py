"""The HTTP API's jobs: how far long work is, how it ended, and what it made."""

from __future__ import annotations

import asyncio
from typing import Any, BinaryIO, List, Tuple

from otf_session.jobs import BundleMade, Job, MetricsMade

from .download import Download, span_of
from .endpoints import Asked, Endpoint, File, NotFound, Reply
from .http_commands import WAIT
from .jobs import Jobs, Task
from .parameters import Parameter, in_path, line

JOB = in_path("id", "The job's id, which the answer to asking for it holds.")
RANGE = line("range", "The part of the file that is wanted, such as `bytes=1000-`.", "header")

#: What is answered while a job goes on, and once it is done. One that has failed is answered by why.
ANSWERS = {200: Job, 202: Job}


class JobApi:
    """What can be asked about jobs, once they have begun."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def endpoints(self) -> List[Endpoint]:
        """All that has to do with jobs."""
        one = "/api/jobs/{id}"
        looking: List[Parameter[Any]] = [JOB, WAIT]
        fetching: List[Parameter[Any]] = [JOB, RANGE]
        failed = [400, 404, 409, 410, 422, 500]
        files = {200: File, 206: File}
        return [
            Endpoint("GET", "/api/jobs", self.jobs, {200: List[Job]}),
            Endpoint("GET", one, self.job, ANSWERS, looking, failed),
            Endpoint("DELETE", one, self.drop, {200: Job}, [JOB], [404, 409]),
            Endpoint("GET", one + "/file", self.file, files, fetching, [400, 404, 416]),
        ]

    async def jobs(self, asked: Asked) -> Reply:
        """All jobs at work, and the newest of those that have ended, the oldest first."""
        return Reply([task.seen() for task in self._jobs.every()])

    async def job(self, asked: Asked) -> Reply:
        """How far a job is (202), what it brought about (200), or why it failed."""
        wait = asked[WAIT]
        return await answer(self._jobs.find(asked[JOB]), wait)

    async def drop(self, asked: Asked) -> Reply:
        """Break a job off, or forget one that has ended together with the file that it made."""
        task = self._jobs.find(asked[JOB])
        await self._jobs.drop(task)
        return Reply(task.seen())

    async def file(self, asked: Asked) -> Reply:
        """The file that a job has made; it is removed soon after it was fetched, or in an hour."""
        wanted, task = asked[RANGE], self._jobs.find(asked[JOB])
        result, folder = task.result, task.folder
        if folder is None or not isinstance(result, (BundleMade, MetricsMade)):
            raise NotFound(f"The job {task.id} has made no file.")
        try:
            file, size = await asyncio.to_thread(_opened, folder / result.file)
        except OSError as error:
            raise NotFound(f"The file of the job {task.id} is not there any more.") from error
        try:
            span = span_of(wanted, size)
        except BaseException:
            file.close()
            raise
        download = Download(
            file,
            name=result.file,
            size=size,
            span=span,
            on_sent=lambda sent: self._jobs.fetched(task, sent, size),
        )
        return Reply(download, download.status)


async def answer(task: Task, wait: float) -> Reply:
    """What is said of a job after so many seconds; raises what it failed by."""
    await task.wait(wait)
    if task.error is not None and not task.is_running:
        raise task.error
    return Reply(task.seen(), 202 if task.is_running else 200)


def _opened(path: Any) -> Tuple[BinaryIO, int]:
    file = path.open("rb")
    return file, path.stat().st_size
