"""The callback for `transformers.Trainer`."""

from __future__ import annotations

import atexit
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence, Tuple, Union

from otf_session.address import DEFAULT_HOST
from otf_session.commands import Value
from transformers import Trainer, TrainerCallback

from ...errors import ArgumentError
from ...guards import Guard, NonFinite
from ...hyperparameters import Tunables
from ..options import RunOptions, check_run_name
from .front import Pass
from .training import Training, warn_unfinished

_NOT_ATTACHED = (
    "Going back, extending and resuming need the Trainer itself: call callback.attach(trainer) before "
    "trainer.train()."
)
_NOT_LAST = (
    "Callbacks were added after callback.attach(trainer): training can only be put somewhere else "
    "behind the last of them. Call attach after add_callback."
)
_NEFTUNE = (
    "The arguments have neftune_noise_alpha, which the Trainer puts in and out again once a call: "
    "training cannot be put somewhere else within it."
)
_SEARCH = "This is a trial of a hyperparameter search, which is not gone back in or extended."
_DEFAULT_NAME = "transformers"


class OnTheFlyTransformersCallback(TrainerCallback):
    """Records a `transformers.Trainer`, and lets a dashboard pause, steer and stop it.

        callback = OnTheFlyTransformersCallback(project="demo", run_name="bert")
        trainer = transformers.Trainer(model=..., args=..., callbacks=[callback])
        callback.attach(trainer)
        trainer.train()

    It works by the Trainer's public hooks, and training is the same with and without it. All that
    the Trainer logs is recorded under its own name, at its step; beside it `lr`, the rate that each
    step was trained with, and `step_loss`, the loss that the model returned. A step is one of the
    optimizer. Without `attach` the run is recorded and can be paused, stopped, saved and have its
    hyperparameters set; going back, extending, evaluating and `otf resume` need it.

    Args:
        project: What the runs belong to, for a person.
        run_name: The run's name; by default that of the training arguments.
        test_dataset: What `test` evaluates on.
        save_dir: Where checkpoints are written; by default inside the session's folder. The
            Trainer's own go where its arguments say.
        dashboard_host: The host of the server, which shares this machine's OnTheFly home.
        dashboard_port: Its port; by default `$ONTHEFLY_DASHBOARD_PORT`, else 47621.
        auto_connect: Link to that server whenever it runs. Without it the run is only recorded.
        linger: Stay, paused, after training where a dashboard is open. Needs `attach`.
        ckpt_keep: The checkpoints that are kept of each run, beside those that are pinned.
        ckpt_every_steps: Save the whole state every so many steps.
        ckpt_every_minutes: Save the whole state every so many minutes; None saves none by time.
        guards: What watches the numbers; by default a warning where `loss` or `step_loss` is not
            finite. An empty list watches nothing.
        stall_after: Seconds without any movement that count as a stall.
        health: Every how many steps each check of health is made, such as `{"numerics": 1000}`.
        telemetry_budget: The share of step time that may go into figures that are sampled: the norm
            of the weights, the size of the update, and activations. 0 samples none. The norm of the
            gradients is the Trainer's own `grad_norm`.
    """

    def __init__(
        self,
        project: str,
        run_name: Optional[str] = None,
        test_dataset: Any = None,
        save_dir: Optional[Union[str, Path]] = None,
        dashboard_host: str = DEFAULT_HOST,
        dashboard_port: Optional[int] = None,
        auto_connect: bool = True,
        linger: bool = False,
        ckpt_keep: int = 10,
        ckpt_every_steps: Optional[int] = None,
        ckpt_every_minutes: Optional[float] = 10.0,
        guards: Optional[Sequence[Guard]] = None,
        stall_after: Optional[float] = None,
        health: Optional[Mapping[str, int]] = None,
        telemetry_budget: float = 0.01,
    ) -> None:
        super().__init__()
        if guards is None:
            # The Trainer leaves out of its `loss` what is not finite (logging_nan_inf_filter).
            guards = [NonFinite("warn", metrics=("loss", "step_loss"))]
        if run_name is not None:
            check_run_name(run_name)
        self._options = RunOptions(
            project=project,
            save_dir=save_dir,
            dashboard_host=dashboard_host,
            dashboard_port=dashboard_port,
            auto_connect=auto_connect,
            linger=linger,
            ckpt_keep=ckpt_keep,
            ckpt_every_steps=ckpt_every_steps,
            ckpt_every_minutes=ckpt_every_minutes,
            guards=guards,
            stall_after=stall_after,
            health=health,
            telemetry_budget=telemetry_budget,
        )
        _check_watched(self._options.watching)
        self._run_name = run_name
        self._test_dataset = test_dataset
        self._tunables = Tunables()
        self._trainer: Optional[Trainer] = None
        self._training: Optional[Training] = None
        self._folder: Optional[Path] = None

    def attach(self, trainer: Trainer) -> OnTheFlyTransformersCallback:
        """Let the callback use the Trainer: to evaluate, go back, extend and resume.

        It becomes the last of the Trainer's callbacks; one that is not among them is added. To be
        called after the script has added its other callbacks.
        """
        if not isinstance(trainer, Trainer):
            raise ArgumentError(
                f"attach was given a {type(trainer).__name__}; it takes a transformers.Trainer."
            )
        if self in trainer.callback_handler.callbacks:
            trainer.remove_callback(self)
        trainer.add_callback(self)
        self._trainer = trainer
        return self

    def tunable(
        self,
        name: str,
        default: Value,
        low: Optional[float] = None,
        high: Optional[float] = None,
    ) -> Value:
        """The value that `name` has now: `default`, until a person changes it while it runs."""
        return self._tunables.get(name, default, low, high)

    def close(self) -> None:
        """Close the record of a training that an exception has ended, where the script goes on.

        The Trainer tells its callbacks nothing of exceptions. At the end of the script, and where
        another training begins, this is done anyway.
        """
        training, self._training = self._training, None
        atexit.unregister(self.close)
        if training is not None:
            training.forgotten()

    # The Trainer's hooks

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A call of `trainer.train` begins: the script's, or one of our own."""
        live = Pass(
            args=args,
            state=state,
            control=control,
            model=kwargs["model"],
            optimizer=kwargs["optimizer"],
            scheduler=kwargs["lr_scheduler"],
            loader=kwargs["train_dataloader"],
        )
        training = self._training
        if training is None or not training.is_inner:
            training = self._open(args)
        training.begin(live, self._name(args), self._fixed_because(args, state))

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Before an epoch's batches are read."""
        if self._training is not None:
            self._training.epoch_begins(control)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Before a step, whose batches have been read."""
        if self._training is not None:
            self._training.step_begins(control)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After a step of the optimizer and the scheduler."""
        if self._training is not None:
            self._training.step_ends(control)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After an epoch's last step, or after training's."""
        if self._training is not None:
            self._training.epoch_ends(control)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The Trainer has logged some numbers."""
        if self._training is not None:
            # Not what the hook is handed: other callbacks may have taken things out of it.
            self._training.logged(state.log_history[-1] if state.log_history else {})

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After a batch of an evaluation."""
        if self._training is not None:
            self._training.predicted()

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After an evaluation that the Trainer has made by its own plan."""
        if self._training is not None:
            self._training.evaluated(kwargs.get("metrics") or {}, kwargs.get("eval_dataloader"))

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The Trainer has saved a checkpoint of its own."""
        if self._training is not None:
            self._training.saved(args.output_dir)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The end of a call of `trainer.train`."""
        training = self._training
        if training is not None:
            training.ends(control)
            if training.is_over:
                self._training = None
                atexit.unregister(self.close)

    # Parts

    def _open(self, args: Any) -> Training:
        if args.world_size > 1:
            raise ArgumentError(
                f"This callback trains in one process, and there are {args.world_size}. Start the "
                "script without torchrun, or on several processes with the native Trainer, "
                "Lightning or a loop of your own."
            )
        if self._options.linger and self._trainer is None:
            raise ArgumentError(f"linger=True goes on after the end. {_NOT_ATTACHED}")
        if self._training is not None:
            warn_unfinished()
            self.close()
        training = Training(
            options=self._options,
            tunables=self._tunables,
            folder=self._folder,
            trainer=self._trainer,
            test_dataset=self._test_dataset,
        )
        self._folder = training.engine.store.folder
        self._training = training
        atexit.register(self.close)
        return training

    def _name(self, args: Any) -> str:
        name = self._run_name or (Path(args.run_name).name if args.run_name else "")
        return name or _DEFAULT_NAME

    def _fixed_because(self, args: Any, state: Any) -> str:
        """Why training cannot be put somewhere else; empty where it can."""
        if self._trainer is None:
            return _NOT_ATTACHED
        if self._trainer.callback_handler.callbacks[-1] is not self:
            return _NOT_LAST
        if args.neftune_noise_alpha is not None:
            return _NEFTUNE
        return _SEARCH if state.is_hyper_param_search else ""


def _check_watched(guards: Tuple[Guard, ...]) -> None:
    for guard in guards:
        missing = [name for name in guard.watched if name.startswith("val_")]
        if missing:
            raise ArgumentError(
                f"guards has a {type(guard).__name__} that watches {missing[0]}; what the Trainer "
                f"evaluates is called eval_...: have it watch 'eval_{missing[0][4:]}'."
            )
