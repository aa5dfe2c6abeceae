"""What commands ask of a `transformers.Trainer`: capture, restore, evaluate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ContextManager, Dict, Iterator, List, Optional

import torch

from ... import randomness
from ...engine import Engine
from ...errors import CheckpointError, NotPossible
from ...front import Evaluated, KeepGoing, Probe, Rehearsal
from ...hyperparameters import Hyperparameters, Tunables
from ...limits import Limits
from ...meters.telemetry import telemetry_for
from ...position import steps_per_epoch
from ...trace import Trace
from ..state import TrainingState
from .evaluation import evaluate
from .kept import capture_callbacks, capture_trainer, restore_callbacks, restore_trainer
from .measuring import Measuring
from .place import TrainerPlace
from .rates import TrainerHyperparameters

_IN_STEP = (
    "It was made in the midst of a step that failed: the generators had moved on, so going on from "
    "it is not bit for bit what an uninterrupted run would have done."
)
_JOINED = (
    "It was made where the Trainer went on from a checkpoint of its own, and before it had put back the "
    "generators that are kept there: going back to it is not exact, going back to later ones is."
)
_NOT_OURS = (
    "The checkpoint was made by another front than transformers.Trainer's. Resume it with the script "
    "that made it, or take its weights alone."
)
_NO_PROOF = (
    "transformers.Trainer trains in a loop of its own, which cannot be asked for the same steps twice. "
    "Save a checkpoint, train on, and go back to it: what is recorded then is to be the same."
)
_NO_REHEARSAL = (
    "This check trains some steps on trial, and transformers.Trainer trains in a loop of its own, which "
    "cannot be asked for steps that do not count."
)


@dataclass(frozen=True)
class Pass:
    """One call of `trainer.train`, as its hooks are shown it."""

    args: Any
    state: Any
    control: Any
    model: torch.nn.Module
    optimizer: Any
    scheduler: Any
    loader: Any


class TrainerFront:
    """A Trainer in training: `trainer` is None where the callback was not attached to one."""

    hyperparameters: Hyperparameters
    limits: Limits
    #: The hyperparameters, as the one who lets the Trainer's scheduler step.
    rates: TrainerHyperparameters

    def __init__(
        self,
        *,
        engine: Engine,
        tunables: Tunables,
        trainer: Any,
        test_dataset: Any,
        telemetry_budget: float,
    ) -> None:
        self._engine = engine
        self._tunables = tunables
        self._trainer = trainer
        self._test_dataset = test_dataset
        self._telemetry_budget = telemetry_budget
        self.phase = "between"
        self.place = TrainerPlace()
        #: The lowest eval_loss so far.
        self.best: Optional[float] = None
        #: Why training cannot be put somewhere else; empty where it can.
        self.is_fixed_because = ""
        #: The state at the end, where the Trainer has since loaded its best model.
        self.final: Optional[Dict[str, Any]] = None
        #: Whether the Trainer is about to go on from a checkpoint of its own.
        self.joins = False
        self._random: Optional[Dict[str, Any]] = None
        #: Whether nothing was trained in an epoch since training was put somewhere else.
        self._passed_empty = False

    # Passes

    def enter(self, live: Pass) -> None:
        """A pass begins: look at its model, optimizer, scheduler and loader from here on."""
        self.live = live
        self.place.use(live.loader)
        self.final = None
        self.hyperparameters = self.rates = TrainerHyperparameters(
            optimizer=live.optimizer,
            scheduler=live.scheduler,
            grad_clip_norm=live.args.max_grad_norm or None,
            tunables=self._tunables,
        )
        telemetry = telemetry_for(
            live.model,
            [_unwrapped(live.optimizer)],
            share=self._telemetry_budget,
            warn=self._engine.warn,
        )
        self.measuring = Measuring(live.model, self.rates, telemetry)
        self._training = TrainingState(
            model=live.model,
            optimizer=live.optimizer,
            scheduler=live.scheduler,
            scaler=_scaler(live.optimizer) or _NoScaler(),
            loss_fn=None,
            hyperparameters=self.hyperparameters,
            own=None,
        )

    def leave(self) -> None:
        """The pass is over."""
        self.rates.close()
        self.measuring.close()

    def plan(self) -> None:
        """Take the limits from the arguments that the script gave."""
        args, state = self.live.args, self.live.state
        epochs: Optional[int] = None
        if args.max_steps <= 0 and float(args.num_train_epochs).is_integer():
            epochs = int(args.num_train_epochs)
        self.limits = Limits(
            script_epochs=epochs,
            script_steps=None if epochs is not None else int(state.max_steps),
            steps_per_epoch=self._steps_per_epoch(epochs),
            fixed_because=self.is_fixed_because,
        )

    @property
    def is_replanned(self) -> bool:
        """Whether the limits are others than those that this pass was begun with."""
        args, limits = self.live.args, self.limits
        if limits.max_epochs is not None:
            return bool(args.num_train_epochs != limits.max_epochs)
        return limits.max_steps is not None and bool(self.live.state.max_steps != limits.max_steps)

    def put_limits(self) -> None:
        """Have the next pass train up to the limits."""
        args, limits = self.live.args, self.limits
        if limits.max_epochs is not None:
            args.num_train_epochs = limits.max_epochs
        elif limits.max_steps is not None and self.live.state.max_steps != limits.max_steps:
            args.max_steps = limits.max_steps

    def open_epoch(self) -> bool:
        """The Trainer is about to begin reading; whether a new epoch begins."""
        place = self.place
        if place.is_restored and not place.is_under_way and self._random is not None:
            randomness.restore(self._random)
        self.phase = "train"
        return place.open_epoch(self._engine.step)

    def open_step(self) -> None:
        """The batches of a step are read, and it is about to be trained."""
        self.joins = False
        if self.place.is_restored:
            # In the midst of an epoch, making the iterator has drawn what had been drawn before.
            was_within = self._engine.step > self.place.first_step
            if was_within and self._random is not None:
                randomness.restore(self._random)
            self.place.is_restored = False
        self.rates.rates_in_force()

    def passes_empty(self) -> bool:
        """Whether an epoch ends in which nothing was trained, because the Trainer was to skip it all.

        A dataset without a length is read from its beginning to find the place in it: where that was
        at its end, or in a later reading, the Trainer comes to it with the next one.
        """
        place = self.place
        if not place.is_restored or self._passed_empty:
            return False
        self._passed_empty = True
        if self._engine.step > place.first_step:
            place.close_epoch()
        if self._random is not None:
            randomness.restore(self._random)
        return True

    # What commands ask for

    def capture(self) -> Dict[str, Any]:
        """The whole state, by reference."""
        if self.final is not None:
            return self._completed(self.final)
        engine = self._engine
        return {
            "run": engine.run,
            "step": engine.step,
            "epoch": engine.epoch,
            "phase": self.phase,
            "val_loss": None,
            "best": self.best,
            "limits": self.limits.state(),
            "data": self.place.capture(engine.step),
            "random": self._random_state(),
            "findings": [_IN_STEP] * self.measuring.in_step + [_JOINED] * self.joins,
            "trainer": capture_trainer(self.live.state),
            "callbacks": capture_callbacks(self._callbacks()),
            **self._training.capture(),
        }

    def check(self, state: Dict[str, Any], *, weights_only: bool = False) -> None:
        """Raise `CheckpointError` where `state`, or its weights, do not fit; nothing is changed."""
        if not weights_only:
            if self.is_fixed_because:
                raise NotPossible(self.is_fixed_because)
            if "trainer" not in state:
                raise CheckpointError(_NOT_OURS)
        self._training.check(state, weights_only=weights_only)

    def load_weights(self, state: Dict[str, Any]) -> None:
        """Put the weights of `state` into the model, and nothing else."""
        self._training.load_weights(state)

    def restore(self, state: Dict[str, Any]) -> List[str]:
        """Put training where `state` was captured; the Trainer follows with its next pass."""
        self.check(state)
        return self.put(state)

    def put(self, state: Dict[str, Any]) -> List[str]:
        """As `restore`, for a state that was found to fit."""
        step = int(state["step"])
        self.final = None
        self._training.restore(state)
        self.hyperparameters_changed()
        findings = self.place.restore(state["data"], step)
        restore_trainer(self.live.state, {**state["trainer"], "global_step": step})
        restore_callbacks(self._callbacks(), state["callbacks"])
        self.limits.load(state["limits"])
        self.phase, self.best = state["phase"], state["best"]
        self.measuring.in_step = self.joins = self._passed_empty = False
        self._random = randomness.from_plain(state["random"])
        if self.place.is_under_way and self.live.args.ignore_data_skip:
            findings = list(dict.fromkeys([*findings, *self.place.findings(self.live.args)]))
        randomness.restore(self._random)
        return [*state["findings"], *findings]

    def hyperparameters_changed(self) -> None:
        """Have the next step see what was changed."""
        self.live.args.max_grad_norm = self.hyperparameters.grad_clip_norm or 0.0

    def evaluate(self, split: str, keep_going: KeepGoing) -> Optional[Evaluated]:
        """Evaluate the live weights by the Trainer's own loop; None where it was broken off."""
        trainer = self._trainer
        if trainer is None:
            raise NotPossible(
                "To evaluate, the callback must know the Trainer: call callback.attach(trainer) "
                "before trainer.train()."
            )
        if split == "test":
            if self._test_dataset is None:
                raise NotPossible(
                    "There is no test data: the script gave the callback no test_dataset=."
                )
            return evaluate(trainer, split, {"test": self._test_dataset}, keep_going)
        datasets = trainer.eval_dataset
        if datasets is None:
            raise NotPossible("There is no validation data: the Trainer has no eval_dataset=.")
        if isinstance(datasets, dict):
            named = {f"eval_{name}": dataset for name, dataset in datasets.items()}
        else:
            named = {"eval": datasets}
        return evaluate(trainer, split, named, keep_going)

    def retrain(self, steps: int, keep_going: KeepGoing) -> List[Trace]:
        """Refused: the loop is the Trainer's."""
        raise NotPossible(_NO_PROOF)

    def findings(self) -> List[str]:
        """Why going back will not be exact, as far as it is known beforehand; none where it will."""
        return self.place.findings(self.live.args)

    # What a check of health needs

    def probe(self) -> Probe:
        """What is trained, with what and on what."""
        live, args = self.live, self.live.args
        devices = {tensor.device for tensor in live.model.parameters()}
        half = torch.bfloat16 if args.bf16 else torch.float16
        return Probe(
            model=live.model,
            optimizers=[_unwrapped(live.optimizer)],
            loader=self.place.loader,
            val_loader=self._val_loader(),
            device=devices.pop() if len(devices) == 1 else None,
            amp_type=half if args.bf16 or args.fp16 else None,
            scaler=_scaler(live.optimizer),
        )

    def rehearse(self) -> ContextManager[Rehearsal]:
        """Refused: the loop is the Trainer's."""
        raise NotPossible(_NO_REHEARSAL)

    def read_again(self, back: int) -> ContextManager[Iterator[Any]]:
        """The batches of the epoch under way (0), from its first."""
        return self.place.read_again(back)

    # What can be told

    def batch_indices(self, step: int) -> List[int]:
        """None are told: the Trainer's loader reads ahead of the steps."""
        return []

    def tensors(self) -> List[torch.Tensor]:
        """Every tensor that training holds on the device."""
        return self._training.tensors()

    # Parts

    def _val_loader(self) -> Any:
        """What the Trainer evaluates on, where that is one dataset; made anew, as it does itself."""
        trainer = self._trainer
        if trainer is None or trainer.eval_dataset is None:
            return None
        if isinstance(trainer.eval_dataset, dict):
            return None
        loader = trainer.get_eval_dataloader()
        return getattr(loader, "base_dataloader", loader)

    def _completed(self, final: Dict[str, Any]) -> Dict[str, Any]:
        """The state at the end, with what a person has changed since."""
        live = self._training.capture()
        groups = live["optimizer"]["param_groups"]
        return {
            **final,
            "run": self._engine.run,
            "limits": self.limits.state(),
            "hyperparameters": live["hyperparameters"],
            "optimizer": {**final["optimizer"], "param_groups": groups},
        }

    def _random_state(self) -> Dict[str, Any]:
        # Until a step is trained from where training was put, nothing that was drawn counts.
        if self.place.is_restored and self._random is not None:
            return randomness.as_plain(self._random)
        return randomness.as_plain(randomness.capture())

    def _callbacks(self) -> List[Any]:
        if self._trainer is None:
            return []
        callbacks: List[Any] = self._trainer.callback_handler.callbacks
        return callbacks

    def _steps_per_epoch(self, epochs: Optional[int]) -> Optional[int]:
        if epochs:
            return int(self.live.state.max_steps) // epochs
        batches = steps_per_epoch(self.live.loader)
        accumulated = self.live.args.gradient_accumulation_steps
        return None if batches is None else -(-batches // accumulated)


def _unwrapped(optimizer: Any) -> Any:
    """The optimizer inside of Accelerate's, which has no hooks."""
    return getattr(optimizer, "optimizer", optimizer)


def _scaler(optimizer: Any) -> Any:
    """What scales the loss; None where nothing does."""
    return getattr(optimizer, "scaler", None)


class _NoScaler:
    """What a scaler keeps where no loss is scaled."""

    def state_dict(self) -> Dict[str, Any]:
        return {}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """There is nothing to put it into: the run was begun with fp16 and goes on without."""
