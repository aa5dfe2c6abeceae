"""What the tests read back from a session's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from otf_session.events import AnyEvent, Metrics
from otf_session.home import Home
from otf_session.queries import events_after, session_summary
from otf_session.store import SessionReader
from otf_session.summaries import SessionSummary


def latest_folder() -> Path:
    return Home.find().session_folder("latest")


def events(folder: Optional[Path] = None) -> List[AnyEvent]:
    with SessionReader(folder or latest_folder()) as reader:
        return events_after(reader.database, 0, 1_000_000)


def of(kind: type, folder: Optional[Path] = None) -> List[Any]:
    return [event for event in events(folder) if isinstance(event, kind)]


def series(name: str, folder: Optional[Path] = None) -> List[Tuple[int, Optional[float]]]:
    found: List[Tuple[int, Optional[float]]] = []
    for event in of(Metrics, folder):
        if name in event.values:
            found += zip(event.steps, event.values[name])
    return found


def summary(folder: Optional[Path] = None) -> SessionSummary:
    with SessionReader(folder or latest_folder()) as reader:
        return session_summary(reader)


def states(folder: Optional[Path] = None) -> List[str]:
    from otf_session.events import StateChanged

    return [event.state.value for event in of(StateChanged, folder)]


def weights(model: Any) -> Dict[str, Any]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}
