"""The vocabulary as JSON Schema, from which the dashboard's TypeScript types are generated."""

import json
from typing import Any, Dict, List, Tuple

import msgspec

from . import frames, summaries
from .commands import Command, CommandRequest, Outcome
from .details import SessionDetails
from .events import AnyEvent
from .jobs import Job, JobResult
from .results import Result

#: The name each root type has in TypeScript.
_ROOTS: List[Tuple[str, Any]] = [
    ("AnyEvent", AnyEvent),
    ("Command", Command),
    ("Outcome", Outcome),
    ("Result", Result),
    ("CommandRequest", CommandRequest),
    ("FromTrainer", frames.FromTrainer),
    ("ToTrainer", frames.ToTrainer),
    ("FromDashboard", frames.FromDashboard),
    ("ToDashboard", frames.ToDashboard),
    ("Snapshot", summaries.Snapshot),
    ("SessionSummary", summaries.SessionSummary),
    ("LogPage", summaries.LogPage),
    ("SessionDetails", SessionDetails),
    ("JobResult", JobResult),
    ("Job", Job),
]


def json_schema() -> Dict[str, Any]:
    """One JSON Schema document; its `$defs` hold every type of the vocabulary."""
    schemas, components = msgspec.json.schema_components(
        [root for _, root in _ROOTS], ref_template="#/$defs/{name}"
    )
    definitions: Dict[str, Any] = dict(components)
    for (name, _), schema in zip(_ROOTS, schemas):
        definitions.setdefault(name, schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "OnTheFly wire protocol",
        "protocol": frames.PROTOCOL,
        "$defs": definitions,
    }


def main() -> None:
    """Print the schema: `python -m otf_session.schema > vscode/dashboard/src/wire/schema.json`."""
    print(json.dumps(json_schema(), indent=2, sort_keys=True))


if __name__ == "__main__":
    main()
