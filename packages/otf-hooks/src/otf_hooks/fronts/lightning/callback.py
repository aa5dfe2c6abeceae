"""The callback: where Lightning's fit is taken over by the loop that drives it."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import Any, ClassVar, Dict, Mapping, Optional, Sequence, Tuple, Union

from otf_session.address import DEFAULT_HOST
from otf_session.commands import Value

from ...engine import Engine
from ...errors import ArgumentError, NotPossible
from ...guards import Guard, needs_gradients
from ...hyperparameters import Tunables
from ...limits import Limits
from ...meters.telemetry import AnyTelemetry, telemetry_for
from ..lifecycle import Again, Lifecycle
from ..options import RunOptions, check_count, check_run_name
from . import namespaces
from .driver import LightningLoop
from .evaluation import Evaluations
from .place import begin
from .rates import LightningHyperparameters, Optimizers
from .several import check_strategy
from .state import schedulers_of

_CLIPS_ITSELF = (
    "This module optimizes by itself (automatic_optimization=False), and clips its gradients "
    "itself where it does."
)
_CLIPS_VALUES = "The trainer clips by value (gradient_clip_algorithm), not by norm."


class Steering:
    """Records and steers the fits of a Lightning trainer: what `OnTheFlyCallback` is beside a callback.

    Args:
        project: What the runs belong to, for a person.
        run_name: The run's name.
        loss_fn: A function of `(output, target)`, for tests and validations on demand of a module
            without a `test_step` or `validation_step` of its own.
        train_loader: What `fit` will train on, where it is not made by a hook: how its first epoch
            begins is then known before Lightning reads it.
        val_loader: What validations on demand are done on; by default the data module's, the
            module's or the trainer's.
        test_loader: What tests are done on, likewise.
        datamodule: Has the data for tests and validations, where `fit` is not given it.
        do_test_after: Test after training. With a dashboard open the script then stays, paused,
            and can be resumed for as much training again (see `linger`).
        val_every_n_epochs: Validate after every n-th epoch, in place of the trainer's
            `check_val_every_n_epoch`.
        linger: Stay, paused, after training where a dashboard is open; by default with
            `do_test_after` only.
        save_dir: Where checkpoints are written; by default inside the session's folder.
        dashboard_host: The host of the server, which shares this machine's OnTheFly home.
        dashboard_port: Its port; by default `$ONTHEFLY_DASHBOARD_PORT`, else 47621.
        auto_connect: Link to that server whenever it runs. Without it the run is only recorded.
        ckpt_keep: The checkpoints that are kept of each run, beside those that are pinned.
        ckpt_every_steps: Save the whole state every so many steps.
        ckpt_every_minutes: Save the whole state every so many minutes; None saves none by time.
        guards: What watches the numbers; by default a warning where the loss is not finite.
        stall_after: Seconds without any movement that count as a stall.
        health: Every how many steps each check of health is made, such as `{"numerics": 1000}`.
        reduce_metrics: With several processes, record the means over all, and not rank 0's own.
        telemetry_budget: The share of step time that may go into figures that are sampled: norms of
            gradients and weights, and activations. 0 samples none.
    """

    #: The packages whose trainers take it.
    packages: ClassVar[Tuple[Any, ...]] = ()

    def __init__(
        self,
        project: str,
        run_name: str,
        *,
        loss_fn: Any = None,
        train_loader: Any = None,
        val_loader: Any = None,
        test_loader: Any = None,
        datamodule: Any = None,
        do_test_after: bool = False,
        val_every_n_epochs: Optional[int] = None,
        linger: Optional[bool] = None,
        save_dir: Optional[Union[str, Path]] = None,
        dashboard_host: str = DEFAULT_HOST,
        dashboard_port: Optional[int] = None,
        auto_connect: bool = True,
        ckpt_keep: int = 10,
        ckpt_every_steps: Optional[int] = None,
        ckpt_every_minutes: Optional[float] = 10.0,
        guards: Optional[Sequence[Guard]] = None,
        stall_after: Optional[float] = None,
        health: Optional[Mapping[str, int]] = None,
        reduce_metrics: bool = False,
        telemetry_budget: float = 0.01,
    ) -> None:
        super().__init__()
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
        check_run_name(run_name)
        check_count("val_every_n_epochs", val_every_n_epochs)
        if loss_fn is not None and not callable(loss_fn):
            raise ArgumentError(
                f"loss_fn is a {type(loss_fn).__name__}; it is a function of (output, target)."
            )
        self._run_name = run_name
        if train_loader is not None and not hasattr(train_loader, "__iter__"):
            raise ArgumentError(f"train_loader is a {type(train_loader).__name__}, no loader.")
        self._train_loader = train_loader
        self._data = {
            "loss_fn": loss_fn,
            "val_loader": val_loader,
            "test_loader": test_loader,
            "datamodule": datamodule,
        }
        self._test_after = do_test_after
        self._val_every = val_every_n_epochs
        self._tunables = Tunables()
        self._folder: Optional[Path] = None
        self._before: Dict[str, Any] = {}
        self._mid_epoch = False
        self._loop: Optional[LightningLoop] = None

    @property
    def folder(self) -> Optional[Path]:
        """The session's folder, from where training begins; later fits add runs to it."""
        return self._folder

    def tunable(
        self,
        name: str,
        default: Value,
        low: Optional[float] = None,
        high: Optional[float] = None,
    ) -> Value:
        """The value that `name` has now: `default`, until a person changes it while it runs."""
        return self._tunables.get(name, default, low, high)

    def __reduce__(self) -> Any:
        """The class is made for the packages: processes that are spawned make it themselves."""
        return _remade, (tuple(each.__name__ for each in self.packages), dict(vars(self)))

    # Hooks

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Look whether this trainer can be steered."""
        if stage != "fit":
            return
        check_strategy(namespaces.of(trainer), trainer)
        namespaces.check_loops(trainer)
        # First of all, so that a batch's hooks of other callbacks find what was changed before it.
        trainer.callbacks = [self, *(one for one in trainer.callbacks if one is not self)]
        if self._val_every is not None:
            trainer.check_val_every_n_epoch = self._val_every

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """The last moment before Lightning reads data at which a callback is called."""
        self._before = begin(self._train_loader)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Have Lightning come to the hook in which it is taken over, also in the midst of an epoch."""
        fit = trainer.fit_loop
        self._mid_epoch = bool(
            getattr(fit, "restarted_mid_epoch", False)
            or getattr(fit, "restarted_on_epoch_end", False)
        )
        if self._mid_epoch:
            fit.reset_restart_stage()

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Take over at the first epoch: all of the training happens in here."""
        if self._loop is not None:
            return
        progress = trainer.fit_loop.epoch_progress
        if self._mid_epoch or not getattr(trainer.fit_loop, "restarted_on_epoch_start", False):
            # Lightning counts the epoch as about to begin; the loop begins it itself.
            progress.total.ready -= 1
            progress.current.ready -= 1
        self._fit(trainer)
        # Lightning's loop ends here, and goes on to the end of the training.
        raise StopIteration

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """A batch is about to be trained on."""
        if self._loop is not None:
            self._loop.batch_started(batch)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A batch was trained on."""
        if self._loop is not None:
            self._loop.batch_ended(outputs, batch)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """An optimizer is about to step; its gradients are whole."""
        if self._loop is not None:
            self._loop.optimizer_steps()

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """A validation begins."""
        if self._loop is not None:
            self._loop.validation_starts()

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """A batch of a validation is about to be looked at: a safe point."""
        if self._loop is not None:
            self._loop.validation_batch(batch, is_begun=True)

    def on_validation_batch_end(
        self,
        trainer: Any,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """A batch of a validation was looked at."""
        if self._loop is not None:
            self._loop.validation_batch(batch, is_begun=False)

    # Parts

    def _fit(self, trainer: Any) -> None:
        training = Lifecycle(self._options, self._tunables, folder=self._folder)
        self._folder = training.engine.store.folder
        try:
            loop = self._make_loop(training, trainer)
            training.prepare(loop)
        except BaseException:
            training.abandon()
            raise
        self._loop = loop
        try:
            training.begin(self._run_name)
            ending = training.run(loop, _again(trainer))
            loop.finish()
            training.end(ending)
        except BaseException as error:
            # The script's boundary: whatever ends it is recorded and goes on unchanged.
            training.fail(error, is_whole=loop.is_whole_after(error))
            raise
        finally:
            loop.close()
            self._loop = None

    def _make_loop(self, training: Lifecycle, trainer: Any) -> LightningLoop:
        package = namespaces.of(trainer)
        optimizers = Optimizers(trainer.optimizers)
        evaluations = Evaluations(package, trainer, training.engine, **self._data)
        if self._test_after:
            try:
                evaluations.check_test()
            except NotPossible as error:
                raise ArgumentError(f"do_test_after=True cannot be done. {error}") from None
        return LightningLoop(
            engine=training.engine,
            trainer=trainer,
            callback=self,
            limits=_limits(trainer),
            hyperparameters=LightningHyperparameters(
                optimizers=optimizers,
                schedulers=schedulers_of(trainer),
                grad_clip_norm=trainer.gradient_clip_val,
                not_clipped_because=_not_clipped_because(trainer),
                tunables=self._tunables,
            ),
            optimizers=optimizers,
            evaluations=evaluations,
            test_after=self._test_after,
            before=self._before,
            mid_epoch=self._mid_epoch,
            watch_gradients=needs_gradients(self._options.watching),
            telemetry=self._make_telemetry(training.engine, trainer),
        )

    def _make_telemetry(self, engine: Engine, trainer: Any) -> AnyTelemetry:
        # Each process would sample at another step, and the others would wait for it.
        share = self._options.telemetry_budget if engine.peers.rank == 0 else 0.0
        return telemetry_for(
            trainer.lightning_module, list(trainer.optimizers), share=share, warn=engine.warn
        )


@functools.cache
def callback_class(*packages: Any) -> Any:
    """`OnTheFlyCallback` for trainers of these packages."""
    bases = (Steering, *(package.Callback for package in packages))
    known = {"__doc__": Steering.__doc__, "__module__": __name__, "packages": packages}
    return type("OnTheFlyCallback", bases, known)


def _remade(packages: Tuple[str, ...], attributes: Dict[str, Any]) -> Any:
    """The callback that was pickled."""
    kind = callback_class(*(importlib.import_module(name) for name in packages))
    callback = kind.__new__(kind)
    vars(callback).update(attributes)
    return callback


def _again(trainer: Any) -> Again:
    """As much training as the script says."""
    epochs, steps = trainer.max_epochs, trainer.max_steps
    return Again(max(0, epochs or 0), max(0, steps or 0))


def _limits(trainer: Any) -> Limits:
    epochs, steps = trainer.max_epochs, trainer.max_steps
    batches = trainer.num_training_batches
    return Limits(
        script_epochs=None if epochs in (None, -1) else epochs,
        script_steps=None if steps in (None, -1) else steps,
        steps_per_epoch=batches if isinstance(batches, int) else None,
    )


def _not_clipped_because(trainer: Any) -> str:
    """Why the gradients' norm is not clipped by the trainer; empty where it can be."""
    if not trainer.lightning_module.automatic_optimization:
        return _CLIPS_ITSELF
    algorithm = getattr(trainer.gradient_clip_algorithm, "value", trainer.gradient_clip_algorithm)
    return _CLIPS_VALUES if algorithm == "value" else ""
