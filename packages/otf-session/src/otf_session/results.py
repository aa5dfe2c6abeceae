"""Results: what a command that was applied brought about, beyond its message."""

from typing import Dict, List, Optional, Union

import msgspec

from .health import HealthReport


class ResultBase(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """The base of every result; `kind` is its tag."""


class CheckpointWritten(ResultBase, frozen=True, kw_only=True, tag="checkpoint-written"):
    """The checkpoint `id` is on disk; `size` is in bytes."""

    id: str
    path: str
    size: int
    sha256: str


class Rewinding(ResultBase, frozen=True, kw_only=True, tag="rewinding"):
    """Training is at `step` of `run`, as the checkpoint `checkpoint` holds it.

    `exact` is false where a part of the state could not be restored; `findings` says which.
    """

    run: str
    step: int
    checkpoint: str
    exact: bool = True
    findings: List[str] = []


class Evaluation(ResultBase, frozen=True, kw_only=True, tag="evaluation"):
    """Means over `samples` samples of a split; `null` is a mean that is not finite."""

    split: str
    samples: int
    values: Dict[str, Optional[float]]


class HyperparameterChange(msgspec.Struct, frozen=True, kw_only=True):
    """One hyperparameter before, as it was asked for, and as it is now.

    `group` is the parameter group; none for what has no groups.
    """

    name: str
    group: Optional[int] = None
    before: Union[bool, int, float, str, None] = None
    requested: Union[bool, int, float, str, None] = None
    applied: Union[bool, int, float, str, None] = None


class HyperparametersSet(ResultBase, frozen=True, kw_only=True, tag="hyperparameters-set"):
    """What was changed, and who owns the learning rate from now on, as a sentence."""

    changes: List[HyperparameterChange]
    lr_rule: str = ""


class LimitsSet(ResultBase, frozen=True, kw_only=True, tag="limits-set"):
    """Where training ends now (`null`: no such limit), and where it pauses, if anywhere."""

    max_epochs: Optional[int] = None
    max_steps: Optional[int] = None
    pause_at_step: Optional[int] = None
    pause_after_epoch: Optional[int] = None


class Released(ResultBase, frozen=True, kw_only=True, tag="released"):
    """`moved` bytes went to host memory; the device has `freed` bytes more than before."""

    device: str
    moved: int
    freed: int


class Proof(ResultBase, frozen=True, kw_only=True, tag="proof"):
    """`steps` steps were trained twice; `exact` says whether every bit was the same.

    Otherwise `difference` names what differed first, `step` where, and `hint` what to do.
    """

    steps: int
    exact: bool
    step: Optional[int] = None
    difference: str = ""
    hint: str = ""


class HealthChecked(ResultBase, frozen=True, kw_only=True, tag="health-checked"):
    """What each check that was asked for came to."""

    reports: List[HealthReport]


Result = Union[
    CheckpointWritten,
    Rewinding,
    Evaluation,
    HyperparametersSet,
    LimitsSet,
    Released,
    Proof,
    HealthChecked,
]
