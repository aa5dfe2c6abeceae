"""`OnTheFlyLogger`: the record alone, for those who steer nothing."""

from __future__ import annotations

import functools
from typing import Any, Dict, Mapping, Optional

from otf_session.address import DEFAULT_HOST
from otf_session.events import RunState
from otf_session.home import Home
from otf_session.queries import run_summaries
from otf_session.store import SessionReader

from ...assembly import Address, open_engine
from ...engine import Engine
from ...naming import free_name
from ..options import RunOptions, check_run_name
from .several import is_first

_STATES = {
    "success": (RunState.FINISHED, ""),
    "failed": (RunState.FAILED, "the trainer failed"),
    "aborted": (RunState.STOPPED, "the trainer was aborted"),
}


class Recording:
    """A logger that writes what Lightning gives it into a session on this machine.

    A step is Lightning's step for loggers, and how often one comes is `log_every_n_steps`. Nothing
    can be commanded: that is `OnTheFlyCallback`'s. A dashboard shows the run as it is written. Of
    several processes the first one records.

    Args:
        project: What the runs belong to, for a person.
        run_name: The run's name.
    """

    def __init__(self, project: str, run_name: str) -> None:
        super().__init__()
        # Its checks: the engine is opened when there is something to record.
        self._project = RunOptions(project=project).project
        check_run_name(run_name)
        self._run_name = run_name
        self._engine: Optional[Engine] = None
        self._session = ""

    @property
    def name(self) -> str:
        """The project."""
        return self._project

    @property
    def version(self) -> str:
        """The session's id; empty before anything was recorded."""
        return self._session

    def log_metrics(self, metrics: Mapping[str, float], step: Optional[int] = None) -> None:
        """Record what was measured at a step."""
        if not is_first():
            return
        engine = self._opened()
        engine.step = engine.step if step is None else int(step)
        epoch = metrics.get("epoch")
        if epoch is not None and int(epoch) + 1 > engine.epoch:
            engine.start_epoch(int(epoch) + 1)
        engine.record({name: value for name, value in metrics.items() if name != "epoch"})

    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Add the hyperparameters to the log."""
        if not is_first():
            return
        known: Dict[str, Any] = dict(params) if isinstance(params, Mapping) else vars(params)
        for name, value in known.items():
            self._opened().log(f"{name} = {value}", logger="hyperparameters")

    def finalize(self, status: str) -> None:
        """End the run."""
        if self._engine is not None:
            engine, self._engine = self._engine, None
            state, reason = _STATES.get(status, (RunState.STOPPED, status))
            engine.close(state, reason)

    def _opened(self) -> Engine:
        if self._engine is None:
            home = Home.find()
            folder = home.session_folder(self._session) if self._session else None
            engine = open_engine(
                project=self._project,
                home=home,
                folder=folder,
                address=Address(DEFAULT_HOST, 0, connect=False),
            )
            engine.start()
            with SessionReader(engine.store.folder) as reader:
                names = [run.name for run in run_summaries(reader.database)]
            engine.start_run(free_name(self._run_name, names))
            engine.running()
            self._engine, self._session = engine, engine.store.id
        return self._engine


@functools.cache
def logger_class(*packages: Any) -> Any:
    """`OnTheFlyLogger` for trainers of these packages."""
    bases = (Recording, *(package.loggers.Logger for package in packages))
    return type("OnTheFlyLogger", bases, {"__doc__": Recording.__doc__, "__module__": __name__})
