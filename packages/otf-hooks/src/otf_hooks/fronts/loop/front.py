"""What the engine knows of a loop that the script runs itself."""

from __future__ import annotations

from typing import Any, Callable, ContextManager, Dict, Iterator, List, Optional, cast

import torch

from ... import randomness
from ...engine import Engine
from ...errors import NotPossible
from ...front import Evaluated, KeepGoing, Probe, Rehearsal
from ...hyperparameters import Hyperparameters, Tunables
from ...limits import Limits
from ...position import DataPosition
from ...snapshot import Snapshot, is_plain
from ...trace import Trace
from ..evaluation import Undisturbed
from ..state import TrainingState
from .evaluators import Evaluators
from .passes import Passes
from .rates import LoopHyperparameters
from .setup import Watched

_NO_MODEL = (
    "The script gave watch no model, so there is nothing that could be put back. Pass model and "
    "optimizer: onthefly.watch(model, optimizer, ...)."
)
_NO_PROOF = (
    "A proof trains the same steps twice, and here a step is the script's own code, which only the "
    "script can run. To see whether going back is exact, run the script twice for some steps, once "
    "with a rewind, and compare the weights."
)
_NO_REHEARSAL = (
    "This check trains some steps on trial, and here a step is the script's own code, which only the "
    "script can run."
)
_OWN_EPOCHS = (
    "The script counts its epochs itself, so that it cannot be taken to another than the one it is "
    "in: write `for epoch in run.epochs(...)`. In a new process it works as it is: `otf resume`."
)


class LoopFront:
    """Captures and restores what the script trains; where the script is, the `Course` knows."""

    def __init__(
        self,
        *,
        engine: Engine,
        watched: Watched,
        tunables: Tunables,
        limits: Limits,
        own: Dict[str, Any],
        watch_gradients: bool,
    ) -> None:
        self._engine = engine
        self._watched = watched
        self._own = own
        self.limits = limits
        self.phase = "between"
        self.passes = Passes(noticed=engine.assess)
        self.evaluators = Evaluators()
        self.rates = LoopHyperparameters(
            optimizer=watched.optimizer,
            parts=watched.optimizers,
            scheduler=watched.scheduler,
            tunables=tunables,
            watch_gradients=watch_gradients and not watched.scales,
        )
        self.hyperparameters: Hyperparameters = self.rates
        self._training = TrainingState(
            model=watched.model,
            optimizer=watched.optimizer,
            scheduler=watched.scheduler,
            scaler=watched.scaler,
            loss_fn=watched.loss_fn,
            hyperparameters=self.hyperparameters,
            own=own,
        )
        self._calm: Optional[Undisturbed] = None
        #: Why a state that is captured now cannot be gone on from exactly.
        self.reasons: Callable[[], List[str]] = list
        #: What of the place in the data is in no checkpoint, known beforehand.
        self.unplaced: Callable[[], List[str]] = list
        #: Whether the script's own loops can go to another epoch or pass.
        self.can_travel: Callable[[], bool] = lambda: True
        #: A copy of the state that training was put into, where the script is not there yet.
        self.waiting: Optional[Dict[str, Any]] = None
        #: How the generators were when the script began its epoch.
        self.epoch_random: Optional[Dict[str, Any]] = None
        self.best: Optional[float] = None

    # What commands ask for

    def capture(self) -> Dict[str, Any]:
        """The whole state, by reference; during an evaluation, as it was before it."""
        engine, calm = self._engine, self._calm
        self.rates.in_force()
        random = randomness.capture() if calm is None else calm.random
        state = {
            "run": engine.run,
            "step": engine.step,
            "epoch": engine.epoch,
            "phase": self.phase,
            "val_loss": None,
            "best": self.best,
            "limits": self.limits.state(),
            "data": self.passes.capture(),
            "random": randomness.as_plain(random),
            "epoch_random": None
            if self.epoch_random is None
            else randomness.as_plain(self.epoch_random),
            "findings": self.reasons(),
            **self._training.capture(),
        }
        if calm is not None:
            state["eval_modules"] = calm.eval_modules
        return state

    def check(self, state: Dict[str, Any], *, weights_only: bool = False) -> None:
        """Raise an error where `state`, or its weights, do not fit; nothing is changed."""
        if not self._watched.has_model:
            raise NotPossible(_NO_MODEL)
        self._training.check(state, weights_only=weights_only)

    def load_weights(self, state: Dict[str, Any]) -> None:
        """Put the weights of `state` into the model, and nothing else."""
        self._training.load_weights(state)

    def restore(self, state: Dict[str, Any]) -> List[str]:
        """Put training where `state` was captured; what could not be restored, as sentences.

        Where the script's loops are elsewhere, a copy waits until they have come there: what the
        script does until then is undone by it.
        """
        self.check(state)
        stays = self.passes.is_at(state["data"]) and state["epoch"] == self._engine.epoch
        if not stays and not self.can_travel():
            raise NotPossible(_OWN_EPOCHS)
        self.waiting = None if stays else Snapshot(state).wait()
        return [*self.put_back(state), *self._watched.findings()]

    def put_back(self, state: Dict[str, Any]) -> List[str]:
        """Put everything but the counters to where `state` was captured, and keep the tensors."""
        kept = state.get("own", {})
        for name in [n for n, value in self._own.items() if n not in kept and is_plain(value)]:
            del self._own[name]
        self._training.restore(state)
        findings = self.passes.restore(state["data"])
        self.phase, self.best = state["phase"], state["best"]
        self.limits.load(state["limits"])
        epoch_random = state.get("epoch_random")
        self.epoch_random = None if epoch_random is None else randomness.from_plain(epoch_random)
        if self._calm is not None:
            self._calm.moved()
            self._calm = None
        # Last: what was done until here may have drawn from the generators.
        randomness.restore(randomness.from_plain(state["random"]))
        return [*state["findings"], *findings, *self._training.left_out()]

    def hyperparameters_changed(self) -> None:
        """The next step sees it: it is put in force when the safe point is left."""

    def evaluate(self, split: str, keep_going: KeepGoing) -> Optional[Evaluated]:
        """Evaluate as the script said, and leave no trace; None where it was broken off."""
        outer, calm = self._calm, self.undisturbed()
        self._calm = outer or calm
        try:
            with calm:
                return self.evaluators.run(split, keep_going, self._engine.rounds())
        finally:
            self._calm = outer

    def undisturbed(self) -> Undisturbed:
        """While entered, all is as for an evaluation; afterwards it is as before."""
        return Undisturbed(self._watched.model, cast("DataPosition", self.passes))

    def retrain(self, steps: int, keep_going: KeepGoing) -> List[Trace]:
        """Refused: a step is the script's own."""
        raise NotPossible(_NO_PROOF)

    def findings(self) -> List[str]:
        """Why going back will not be exact, as far as it is known beforehand; none where it will."""
        return [*self.passes.findings(), *self.unplaced(), *self._watched.findings()]

    # What a check of health needs

    def probe(self) -> Probe:
        """What is trained, with what and on what."""
        watched, loader = self._watched, self.passes.loader
        if not watched.has_model or loader is None:
            raise NotPossible(
                "A check of health needs a model, and a loader that run.batches goes over. "
                "Ask again in a pass."
            )
        devices = {tensor.device for tensor in watched.model.parameters()}
        return Probe(
            model=watched.model,
            optimizers=list(watched.optimizers.values()),
            loader=loader,
            val_loader=self.evaluators.loader("validation"),
            device=devices.pop() if len(devices) == 1 else None,
            scaler=watched.scaler if watched.scales else None,
        )

    def rehearse(self) -> ContextManager[Rehearsal]:
        """Refused: a step is the script's own."""
        raise NotPossible(_NO_REHEARSAL)

    def read_again(self, back: int) -> ContextManager[Iterator[Any]]:
        """The batches of the newest pass over the loader (0) or of the one before (1)."""
        return self.passes.read_again(back)

    # What can be told

    def batch_indices(self, step: int) -> List[int]:
        """The dataset indices of the batch that `step` was trained on, where they can be told."""
        return self.passes.indices(step, self._engine.step)

    def tensors(self) -> List[torch.Tensor]:
        """Every tensor that training holds on the device."""
        return self._training.tensors()
