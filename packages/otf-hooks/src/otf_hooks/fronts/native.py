"""The native front: `Trainer`, a training loop that can be watched and steered."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional, Tuple, TypeVar, Union

from otf_session.address import DEFAULT_HOST
from otf_session.address import dashboard_port as find_port
from otf_session.events import RunState
from otf_session.home import Home
from otf_session.queries import run_summaries
from otf_session.store import SessionReader

from .. import console, randomness
from ..engine import Engine, open_engine
from ..errors import ArgumentError
from . import steps
from .setup import AmpOption, Loader, Setup, check
from .training import TrainingLoop

_S = TypeVar("_S", bound=steps.Step)


@dataclass(frozen=True)
class FitResult:
    """How a `fit` ended: where its record lies, and each metric's newest value."""

    session: str
    folder: Path
    run: str
    state: str
    step: int
    epoch: int
    metrics: Dict[str, Optional[float]]
    checkpoint: Optional[Path]


class Trainer:
    """Trains a model, records every step, and lets a dashboard pause, resume and stop it.

    Nothing is sent anywhere but to a server of your own on this machine, and training is the same
    with and without one.

    Args:
        project: What the runs belong to, for a person.
        run_name: The run's name; may also be given to `fit`.
        max_epochs: End after so many passes over `train_loader`.
        max_steps: End after so many steps, whichever comes first.
        do_test_after: Evaluate on `test_loader` after training. With a dashboard open the script
            then stays, paused, and can be resumed for as much training again (see `linger`).
        val_every_n_epochs: Evaluate on `val_loader` after every n-th epoch.
        save_dir: Where checkpoints are written; by default inside the session's folder.
        dashboard_host: The host of the server, which shares this machine's OnTheFly home.
        dashboard_port: Its port; by default `$ONTHEFLY_DASHBOARD_PORT`, else 47621.
        auto_connect: Link to that server whenever it runs. Without it the run is only recorded.
        linger: Stay, paused, after training where a dashboard is open; by default with
            `do_test_after` only.
    """

    def __init__(
        self,
        project: str,
        run_name: Optional[str] = None,
        max_epochs: Optional[int] = None,
        max_steps: Optional[int] = None,
        do_test_after: bool = False,
        val_every_n_epochs: int = 1,
        save_dir: Optional[Union[str, Path]] = None,
        dashboard_host: str = DEFAULT_HOST,
        dashboard_port: Optional[int] = None,
        auto_connect: bool = True,
        linger: Optional[bool] = None,
    ) -> None:
        if not isinstance(project, str) or not project.strip():
            raise ArgumentError("project must be a name, such as project='mnist'.")
        _check_count("max_epochs", max_epochs)
        _check_count("max_steps", max_steps)
        _check_count("val_every_n_epochs", val_every_n_epochs)
        self._project = project
        self._run_name = run_name
        self._max_epochs = max_epochs
        self._max_steps = max_steps
        self._test_after = do_test_after
        self._val_every = val_every_n_epochs
        self._save_dir = Path(save_dir).absolute() if save_dir is not None else None
        self._host = dashboard_host
        self._port = find_port(dashboard_port)
        self._connect = auto_connect
        self._linger = do_test_after if linger is None else linger
        self._training_step: Optional[steps.Step] = None
        self._validation_step: Optional[steps.Step] = None
        self._folder: Optional[Path] = None
        self._engine: Optional[Engine] = None

    def training_step(self, step: _S) -> _S:
        """Decorator: train on a batch with this function of `(batch, state)`.

        `state` is a dict with `model`, `optimizer`, `scheduler`, `device`, `scaler`, `loss_fn`,
        `step`, `grad_clip_norm`, `autocast` and `train_loader`. The function does all that a step
        is, the optimizer's included, and returns a dict with `loss` and any other metrics.
        """
        self._training_step = step
        return step

    def validation_step(self, step: _S) -> _S:
        """Decorator: evaluate a batch with this function of `(batch, state)`.

        It returns a dict with `loss` (or `val_loss`) and any other metrics of the batch; their
        means over all samples are recorded. It is called without gradients and in eval mode.
        """
        self._validation_step = step
        return step

    def print(self, *values: Any, sep: str = " ") -> None:
        """Print on the terminal, and add the line to the run's log."""
        text = sep.join(str(value) for value in values)
        print(text, flush=True)
        if self._engine is not None:
            self._engine.log(text, logger="print")

    def fit(
        self,
        model: Any = None,
        optimizer: Any = None,
        loss_fn: Any = None,
        train_loader: Optional[Loader] = None,
        val_loader: Optional[Loader] = None,
        test_loader: Optional[Loader] = None,
        run_name: Optional[str] = None,
        scheduler: Any = None,
        device: Any = None,
        amp: AmpOption = False,
        grad_clip_norm: Optional[float] = None,
        seed: Optional[int] = None,
        scheduler_interval: str = "epoch",
    ) -> FitResult:
        """Train, and return how it ended.

        What is not given changes nothing: no seed is set, no gradient clipped, no precision
        lowered, the model is not moved (batches are moved to where it is).

        Args:
            model: The module that is trained.
            optimizer: Made from the model's parameters.
            loss_fn: A function of `(output, target)` that returns a scalar.
            train_loader: Yields batches: `(input, target)`, several inputs and a target, or a dict
                with a target, nested at will.
            val_loader: For `val_loss`, every `val_every_n_epochs` epochs.
            test_loader: For `test_loss`, with `do_test_after`.
            run_name: The run's name, in place of the trainer's.
            scheduler: Stepped after every epoch, or after every step, by `scheduler_interval`
                (`ReduceLROnPlateau` after each validation, with its `val_loss`).
            device: Move the model and its batches there.
            amp: Mixed precision: True (float16 with a scaler on CUDA, bfloat16 elsewhere), or
                the type.
            grad_clip_norm: Clip the gradients' total norm to this.
            seed: Seed Python's, NumPy's and torch's generators before the first step.
            scheduler_interval: `"epoch"` or `"step"`.
        """
        name = run_name or self._run_name
        if not name:
            raise ArgumentError("fit needs run_name=, here or on the Trainer: the run's name.")
        if self._max_epochs is None and self._max_steps is None:
            raise ArgumentError("Trainer needs max_epochs= or max_steps=, or it would never end.")
        setup = check(
            model=model,
            optimizer=optimizer,
            loss_fn=loss_fn,
            train_loader=train_loader,
            val_loader=val_loader,
            test_loader=test_loader,
            scheduler=scheduler,
            scheduler_interval=scheduler_interval,
            device=device,
            amp=amp,
            grad_clip_norm=grad_clip_norm,
            needs_loss_fn=self._training_step is None
            or (self._validation_step is None and not (val_loader is None and test_loader is None)),
            needs_test_loader=self._test_after,
        )
        if not setup.model.training:
            console.say("warning: the model is in eval mode; call model.train() before fit.")
        if seed is not None:
            randomness.seed_all(seed)
        return self._fit(setup, name)

    def _fit(self, setup: Setup, name: str) -> FitResult:
        engine = open_engine(
            project=self._project,
            home=Home.find(),
            folder=self._folder,
            host=self._host,
            port=self._port,
            connect=self._connect,
        )
        self._folder = engine.store.folder
        self._engine = engine
        try:
            loop = TrainingLoop(
                engine=engine,
                setup=setup,
                training_step=self._training_step,
                validation_step=self._validation_step or steps.validation_step,
                val_every=self._val_every,
                checkpoints=self._checkpoint_folder(engine),
            )
            engine.start_run(_free_name(engine.store.folder, name))
            console.say(
                f"recording run '{engine.run}' in session {engine.store.id}; "
                "`otf serve --open` shows it."
            )
            state, reason = self._train(engine, loop)
            engine.close(state, reason)
        except BaseException as error:
            # The script's boundary: whatever ends it is recorded and goes on unchanged.
            engine.fail(error)
            raise
        finally:
            self._engine = None
        return _result(engine, state, loop.checkpoint)

    def _train(self, engine: Engine, loop: TrainingLoop) -> Tuple[RunState, str]:
        """Train, test and linger, until the run has ended; how, and why."""
        epochs, most_steps = self._max_epochs, self._max_steps
        engine.running()
        while True:
            going = loop.train(epochs, most_steps) and (not self._test_after or loop.test())
            loop.save("final")
            if not going:
                return RunState.STOPPED, "stopped by a person"
            if not (self._linger and engine.is_watched and self._stay(engine)):
                return RunState.FINISHED, ""
            epochs = _more(epochs, self._max_epochs)
            most_steps = _more(most_steps, self._max_steps)

    def _stay(self, engine: Engine) -> bool:
        """Linger after the end; True where the person wants as much training again."""
        amount = f"{self._max_epochs} epoch(s)" if self._max_epochs else f"{self._max_steps} steps"
        console.say(
            "training is done and a dashboard is open, so the script stays, paused: resume there "
            f"to train another {amount}, stop there or press Ctrl-C to end it."
        )
        try:
            return engine.linger(f"training is done; resume trains another {amount}")
        except KeyboardInterrupt:
            return False

    def _checkpoint_folder(self, engine: Engine) -> Path:
        if self._save_dir is None:
            return engine.store.checkpoints
        return self._save_dir / engine.store.id


def _more(limit: Optional[int], by: Optional[int]) -> Optional[int]:
    return None if limit is None or by is None else limit + by


def _check_count(name: str, value: Any) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if value is not None and not (whole and value >= 1):
        raise ArgumentError(f"{name} is {value!r}; it is a whole number of at least 1.")


def _free_name(folder: Path, name: str) -> str:
    """The run's name, with a number behind it where the session has a run of that name."""
    with SessionReader(folder) as reader:
        taken = {run.name for run in run_summaries(reader.database)}
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(free for free in names if free not in taken)


def _result(engine: Engine, state: RunState, checkpoint: Optional[Path]) -> FitResult:
    with SessionReader(engine.store.folder) as reader:
        latest = {run.name: run.latest for run in run_summaries(reader.database)}
    return FitResult(
        session=engine.store.id,
        folder=engine.store.folder,
        run=engine.run,
        state=state.value,
        step=engine.step,
        epoch=engine.epoch,
        metrics=latest.get(engine.run, {}),
        checkpoint=checkpoint,
    )
