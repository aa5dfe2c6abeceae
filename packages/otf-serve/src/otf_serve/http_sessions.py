"""The HTTP API's care for sessions: name, verify, delete them; take them along, and take them in."""

from __future__ import annotations

import asyncio
import re
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, List

import msgspec
from otf_session import display_name
from otf_session.bundles.choice import Checkpoints
from otf_session.deletion import check_not_live
from otf_session.details import SessionDetails, session_details
from otf_session.summaries import SessionSummary

from . import work
from .catalog import Catalog
from .endpoints import Asked, Conflict, Endpoint, File, Reply
from .http import NAME as METRIC
from .http import RUN, SESSION, read
from .http_commands import WAIT
from .http_jobs import ANSWERS, answer
from .hub import Hub
from .jobs import Jobs
from .parameters import BadRequest, Parameter, in_path, line, one_of, several, whole, yes_or_no
from .settings import Settings
from .transfers import Transfers, discard, receive


class FileFormat(str, Enum):
    """What measurements can be fetched as: the formats that are one file."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


class Naming(msgspec.Struct, frozen=True):
    """The name that a session gets; empty: none any more."""

    name: str


WHOLE_ID = in_path("session", "The session's id, whole: what is deleted is named in full.")
RUNS = several("run", "Only these runs, and those they grew from.")
CHECKPOINTS = one_of(
    "checkpoints",
    "Which checkpoints to take along; `latest` is the newest of each run.",
    Checkpoints,
    Checkpoints.ALL,
)
FINAL_MODELS = yes_or_no("final_models", "Also the weights alone of final and best checkpoints.")
FORMAT = one_of("format", "The kind of file.", FileFormat, FileFormat.CSV)
WIDE = yes_or_no(
    "wide", "A row per step in place of one per value; of JSON lines always the latter."
)
REWOUND = yes_or_no("rewound", "Also the points that a rewind took out of the curves, marked.")
AS_NEW = yes_or_no("as_new", "Give the session a new id, beside one that has its own.")
CALLED = line("name", "What the bundle's file is called, for messages.", longest=255)
LENGTH = whole("content-length", "The file's size, so that room for it is seen to first.", "header")

_naming = msgspec.json.Decoder(Naming)
#: The largest body that names a session, in bytes.
_LARGEST_NAMING = 4096


class SessionApi:
    """What can be done with sessions, whether or not anybody trains them."""

    def __init__(
        self, hub: Hub, catalog: Catalog, settings: Settings, jobs: Jobs, transfers: Transfers
    ) -> None:
        self._hub = hub
        self._catalog = catalog
        self._home = settings.home
        self._jobs = jobs
        self._transfers = transfers

    def endpoints(self) -> List[Endpoint]:
        """All that has to do with sessions as a whole."""
        one = "/api/sessions/{session}"
        taking_in: List[Parameter[Any]] = [AS_NEW, CALLED, LENGTH, WAIT]
        exporting: List[Parameter[Any]] = [SESSION, RUNS, CHECKPOINTS, FINAL_MODELS, WAIT]
        writing: List[Parameter[Any]] = [SESSION, FORMAT, RUN, METRIC, WIDE, REWOUND, WAIT]
        missing, failed = [404, 409, 500], [400, 404, 409, 410, 422, 500]
        return [
            Endpoint(
                "GET", one + "/details", self.details, {200: SessionDetails}, [SESSION], missing
            ),
            Endpoint(
                "PUT",
                one + "/name",
                self.rename,
                {200: SessionSummary},
                [SESSION],
                [400, *missing, 413, 422],
                body=Naming,
            ),
            Endpoint("DELETE", one, self.delete, ANSWERS, [WHOLE_ID, WAIT], [400, *missing]),
            Endpoint(
                "POST", one + "/verify", self.verify, ANSWERS, [SESSION, WAIT], [400, *missing, 410]
            ),
            Endpoint("POST", one + "/export", self.export, ANSWERS, exporting, failed),
            Endpoint(
                "POST", one + "/metrics/export", self.export_metrics, ANSWERS, writing, failed
            ),
            Endpoint(
                "POST",
                "/api/sessions",
                self.import_bundle,
                ANSWERS,
                taking_in,
                [400, 409, 410, 413, 422, 500],
                body=File,
            ),
        ]

    async def details(self, asked: Asked) -> Reply:
        """One session with its checkpoints, and what it takes on disk."""
        return Reply(await read(await self._folder(asked), session_details))

    async def rename(self, asked: Asked) -> Reply:
        """Give a session a name for people, or none, also while it is being trained; its id stays."""
        folder = await self._folder(asked)
        try:
            naming = _naming.decode(await asked.body(_LARGEST_NAMING))
        except msgspec.DecodeError as error:
            raise BadRequest(f"The body is no name: {error}.") from error
        if naming.name:
            await asyncio.to_thread(display_name.write, folder, naming.name)
        else:
            await asyncio.to_thread(display_name.clear, folder)
        self._hub.touch()
        return Reply(
            await asyncio.to_thread(self._catalog.summary, folder.name, self._hub.connected)
        )

    async def delete(self, asked: Asked) -> Reply:
        """Delete a session with all its checkpoints; one that is being trained is refused."""
        wait = asked[WAIT]
        folder = await asyncio.to_thread(self._catalog.folder, asked[WHOLE_ID])
        await asyncio.to_thread(check_not_live, folder)
        return await self._begin("delete", folder, partial(work.delete, self._home, folder), wait)

    async def verify(self, asked: Asked) -> Reply:
        """Look at every byte of a session, whether all is there and as it was written."""
        wait, folder = asked[WAIT], await self._folder(asked)
        return await self._begin("verify", folder, partial(work.verify, folder), wait)

    async def export(self, asked: Asked) -> Reply:
        """Make a bundle of a session, to be fetched as the job's file; also of one being trained."""
        runs, checkpoints = asked[RUNS], asked[CHECKPOINTS]
        final_models, wait = asked[FINAL_MODELS], asked[WAIT]
        folder = await self._folder(asked)
        target = await asyncio.to_thread(self._transfers.folder)
        making = partial(work.export, folder, target, runs, checkpoints, final_models)
        return await self._begin("export", folder, making, wait, target)

    async def export_metrics(self, asked: Asked) -> Reply:
        """Write what a session measured into a file, to be fetched as the job's file."""
        chosen = work.Measurements(
            format=asked[FORMAT].value,
            runs=asked[RUN],
            names=asked[METRIC],
            wide=asked[WIDE],
            rewound=asked[REWOUND],
        )
        wait, folder = asked[WAIT], await self._folder(asked)
        target = await asyncio.to_thread(self._transfers.folder)
        writing = partial(work.export_metrics, folder, target, chosen)
        return await self._begin("metrics", folder, writing, wait, target)

    async def import_bundle(self, asked: Asked) -> Reply:
        """Take in the bundle that is sent, as a session: after all of it was checked, or not at all."""
        as_new, wait = asked[AS_NEW], asked[WAIT]
        name = _plain(asked[CALLED] or "")
        folder = await asyncio.to_thread(self._transfers.folder, asked[LENGTH] or 0)
        bundle = folder / "bundle.otf.zip"
        try:
            await receive(asked.parts(), bundle)
        except BaseException:
            # Also where whoever sends it has gone.
            await asyncio.shield(asyncio.to_thread(discard, folder))
            raise
        taking = partial(work.import_bundle, self._home, bundle, name, as_new)
        return await answer(self._jobs.start("import", taking, name=name, folder=folder), wait)

    async def _begin(
        self, kind: Any, folder: Path, doing: Any, wait: float, target: Any = None
    ) -> Reply:
        name = await asyncio.to_thread(work.called, folder)
        try:
            # Nothing may come between the look and the start.
            self._jobs.check_free(folder.name, kind)
        except Conflict:
            if target is not None:
                await asyncio.to_thread(discard, target)
            raise
        task = self._jobs.start(kind, doing, session=folder.name, name=name, folder=target)
        return await answer(task, wait)

    async def _folder(self, asked: Asked) -> Path:
        return await asyncio.to_thread(self._catalog.find, asked[SESSION])


def _plain(name: str) -> str:
    """A file's name without the folders that some browsers send along."""
    return re.split(r"[/\\]", name)[-1] or "The bundle"
