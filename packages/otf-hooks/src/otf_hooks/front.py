"""What a front is to the engine: the small interface through which commands reach training.

The engine knows when; the front knows how. Everything here is called on the training thread, at a
safe point.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import (
    Any,
    Callable,
    ContextManager,
    Dict,
    Iterator,
    List,
    Mapping,
    Optional,
    Protocol,
    runtime_checkable,
)

import torch

from .hyperparameters import Hyperparameters
from .limits import Limits
from .loaders import Loader
from .trace import Trace

#: Told how many of how many batches are done (0: unknown); says whether to go on.
KeepGoing = Callable[[int, int], bool]


class Verdict(Enum):
    """What a safe point tells the front's loop."""

    GO_ON = "go on"
    #: Training has been put somewhere else: leave what is under way and look at the position.
    MOVED = "moved"
    END = "end"


class Evaluated:
    """The means over one split; None where a mean is not finite."""

    def __init__(self, split: str, samples: int, values: Dict[str, Optional[float]]) -> None:
        self.split = split
        self.samples = samples
        self.values = values


class Front(Protocol):
    """A training loop that can be captured, restored, evaluated and replayed."""

    hyperparameters: Hyperparameters
    limits: Limits

    @property
    def phase(self) -> str:
        """Where training is: `between` epochs, `train`, `validate`, `test` or `end`."""

    def capture(self) -> Dict[str, Any]:
        """The whole state, by reference: tensors that the next step will change."""

    def check(self, state: Dict[str, Any], *, weights_only: bool = False) -> None:
        """Raise `CheckpointError` where `state`, or its weights, do not fit; nothing is changed."""

    def load_weights(self, state: Dict[str, Any]) -> None:
        """Put the weights of `state` into the model, and nothing else."""

    def restore(self, state: Dict[str, Any]) -> List[str]:
        """Put training where `state` was captured; what could not be restored, as sentences."""

    def hyperparameters_changed(self) -> None:
        """Have the next step see what was changed."""

    def evaluate(self, split: str, keep_going: KeepGoing) -> Optional[Evaluated]:
        """Evaluate the live weights over `validation` or `test`; None where it was broken off.

        Raises `NotPossible` where the front has no data for it.
        """

    def retrain(self, steps: int, keep_going: KeepGoing) -> List[Trace]:
        """Train so many steps twice from here, and leave everything as it was; both traces."""

    def findings(self) -> List[str]:
        """Why going back will not be exact, as far as it is known beforehand; none where it will."""

    def batch_indices(self, step: int) -> List[int]:
        """The dataset indices of the batch that `step` was trained on, where they can be told."""

    def tensors(self) -> List[Any]:
        """Every tensor that training holds on the device: parameters, buffers, optimizer state."""


@dataclass(frozen=True)
class Probe:
    """What a check of health may look at, and must leave as it is.

    `device` is None for a model that is spread over several. `scaler` is None where no loss is
    scaled, and `amp_type` None without mixed precision. `step_time` is what a step of this process
    takes in seconds without waiting for other processes, where the front measures that.
    """

    model: torch.nn.Module
    optimizers: List[torch.optim.Optimizer]
    loader: Loader
    val_loader: Optional[Loader]
    device: Optional[torch.device]
    amp_type: Optional[torch.dtype] = None
    scaler: Any = None
    step_time: Optional[float] = None


class Rehearsal(Protocol):
    """Steps on trial: afterwards training, its data and its generators are as they were.

    Batches are read in the run's own order, and each is to be trained on before the next is read,
    as the run itself will do: data that is drawn from the global generators then comes out the same.
    """

    def read(self) -> Optional[Any]:
        """The next batch as the loader gives it; None where there is none left."""

    def move(self, batch: Any) -> Any:
        """The batch on the device."""

    def train(self, batch: Any) -> Mapping[str, Any]:
        """One whole step on a batch that was moved, not recorded and not counted; its metrics."""


@runtime_checkable
class Examinable(Protocol):
    """A front whose run can be checked for its health."""

    def probe(self) -> Probe:
        """What is trained, with what and on what; `NotPossible` where the front cannot say."""

    def rehearse(self) -> ContextManager[Rehearsal]:
        """Train on trial; `NotPossible`, when it is entered, where that would leave traces."""

    def read_again(self, back: int) -> ContextManager[Iterator[Any]]:
        """The batches of the epoch under way (0) or of the one before (1), from its first.

        `NotPossible`, when it is entered, where there is no such epoch or its order is not known.
        """
