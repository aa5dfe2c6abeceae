"""The native front: `Trainer`, a training loop that can be watched and steered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence, TypeVar, Union

from otf_session.address import DEFAULT_HOST
from otf_session.commands import Value
from otf_session.events import RunState

from .. import console, randomness
from ..engine import Engine
from ..errors import ArgumentError
from ..guards import Guard, needs_gradients
from ..hyperparameters import Hyperparameters, Tunables
from ..limits import Limits
from ..loaders import Loader
from ..meters.telemetry import telemetry_for
from ..position import steps_per_epoch
from . import steps
from .lifecycle import Again, Lifecycle
from .options import RunOptions, check_count, check_run_name
from .setup import AmpOption, Setup, check
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
        ckpt_keep: The checkpoints that are kept of each run, beside those that are pinned: the
            state before step 1, the best on validation, the final one, and those with a name.
        ckpt_every_steps: Save the whole state every so many steps.
        ckpt_every_minutes: Save the whole state every so many minutes; None saves none by time.
        guards: What watches the numbers, such as `[NonFinite("pause"), LossSpike("warn")]`; by
            default a warning where the loss is not finite. An empty list watches nothing.
        stall_after: Seconds without any movement that count as a stall, which is reported with
            the stack of the training thread; by default it depends on the phase.
        health: Every how many steps each check of health is made, such as `{"numerics": 1000}`;
            see `otf ctl health`.
        telemetry_budget: The share of step time that may go into figures that are sampled: norms of
            gradients and weights, the size of updates, zeros in activations. 0 samples none.
        reduce_metrics: With several processes, record each step's metrics as means over all of
            them; by default those of rank 0 are recorded.
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
        ckpt_keep: int = 10,
        ckpt_every_steps: Optional[int] = None,
        ckpt_every_minutes: Optional[float] = 10.0,
        guards: Optional[Sequence[Guard]] = None,
        stall_after: Optional[float] = None,
        health: Optional[Mapping[str, int]] = None,
        telemetry_budget: float = 0.01,
        reduce_metrics: bool = False,
    ) -> None:
        self._options = RunOptions(
            project=project,
            save_dir=save_dir,
            dashboard_host=dashboard_host,
            dashboard_port=dashboard_port,
            auto_connect=auto_connect,
            linger=do_test_after if linger is None else linger,
            ckpt_keep=ckpt_keep,
            ckpt_every_steps=ckpt_every_steps,
            ckpt_every_minutes=ckpt_every_minutes,
            guards=guards,
            stall_after=stall_after,
            health=health,
            reduce_metrics=reduce_metrics,
            telemetry_budget=telemetry_budget,
        )
        check_count("max_epochs", max_epochs)
        check_count("max_steps", max_steps)
        check_count("val_every_n_epochs", val_every_n_epochs)
        self._run_name = run_name
        self._max_epochs = max_epochs
        self._max_steps = max_steps
        self._test_after = do_test_after
        self._val_every = val_every_n_epochs
        self._tunables = Tunables()
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

    def tunable(
        self,
        name: str,
        default: Value,
        low: Optional[float] = None,
        high: Optional[float] = None,
    ) -> Value:
        """The value that `name` has now: `default`, until a person changes it while it runs.

        Read it at each step. It keeps the type of `default` and stays within `low` and `high`;
        checkpoints hold it, and a resumed run goes on with it.
        """
        return self._tunables.get(name, default, low, high)

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
        check_run_name(name)
        if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
            raise ArgumentError(f"seed is {seed!r}; it is a whole number, or None for no seeding.")
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
        _check_watched(self._options.watching, val_loader)
        if not setup.model.training:
            console.say("warning: the model is in eval mode; call model.train() before fit.")
        if seed is not None:
            randomness.seed_all(seed)
        return self._fit(setup, name)

    def _fit(self, setup: Setup, name: str) -> FitResult:
        training = Lifecycle(self._options, self._tunables, folder=self._folder)
        engine = training.engine
        self._folder = engine.store.folder
        self._engine = engine
        try:
            loop = self._make_loop(engine, setup)
            training.prepare(loop)
        except BaseException:
            training.abandon()
            self._engine = None
            raise
        again = Again(self._max_epochs or 0, self._max_steps or 0)
        try:
            training.begin(name)
            ending = training.run(loop, again)
            training.end(ending)
        except BaseException as error:
            # The script's boundary: whatever ends it is recorded and goes on unchanged.
            training.fail(error, is_whole=loop.is_whole_after(error))
            raise
        finally:
            # With it go a loader's workers, where training ended in the midst of an epoch.
            loop.position.close()
            loop.telemetry.close()
            self._engine = None
        return _result(engine, ending.state)

    def _make_loop(self, engine: Engine, setup: Setup) -> TrainingLoop:
        limits = Limits(
            script_epochs=self._max_epochs,
            script_steps=self._max_steps,
            steps_per_epoch=steps_per_epoch(setup.train_loader),
        )
        hyperparameters = Hyperparameters(
            optimizer=setup.optimizer,
            scheduler=setup.scheduler,
            grad_clip_norm=setup.grad_clip_norm,
            tunables=self._tunables,
        )
        return TrainingLoop(
            engine=engine,
            setup=setup,
            training_step=self._training_step,
            validation_step=self._validation_step or steps.validation_step,
            val_every=self._val_every,
            test_after=self._test_after,
            limits=limits,
            hyperparameters=hyperparameters,
            watch_gradients=needs_gradients(self._options.watching),
            telemetry=telemetry_for(
                setup.model,
                [setup.optimizer],
                # Each process would sample at another step, and the others would wait for it.
                share=self._options.telemetry_budget if engine.peers.rank == 0 else 0.0,
                warn=engine.warn,
            ),
        )


def _check_watched(guards: Sequence[Guard], val_loader: Any) -> None:
    for guard in guards:
        missing = [name for name in guard.watched if name.startswith("val_")]
        if missing and val_loader is None:
            raise ArgumentError(
                f"guards has a {type(guard).__name__} that watches {missing[0]}, and without "
                "val_loader= there is none. Pass val_loader= to fit, or have it watch 'loss'."
            )


def _result(engine: Engine, state: RunState) -> FitResult:
    latest = {run.name: run.latest for run in engine.runs()}
    return FitResult(
        session=engine.store.id,
        folder=engine.store.folder,
        run=engine.run,
        state=state.value,
        step=engine.step,
        epoch=engine.epoch,
        metrics=latest.get(engine.run, {}),
        checkpoint=engine.peers.shared(lambda: engine.saving.final_path),
    )
