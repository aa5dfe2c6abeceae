"""What every front is told of a run beside its data: how it is recorded, kept and watched."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple, Union

from otf_session.address import DEFAULT_HOST
from otf_session.address import dashboard_port as find_port

from ..assembly import Address
from ..errors import ArgumentError
from ..guards import Guard, check_guards
from ..health.guard import planned
from ..health.schedule import check_schedule

_LONGEST_NAME = 100


@dataclass(frozen=True)
class RunOptions:
    """How a run is recorded, kept and watched, as the script says it and checked.

    Raises `ArgumentError` where an option cannot be what it is.

    Args:
        project: What the runs belong to, for a person.
        save_dir: Where checkpoints are written; None is inside the session's folder.
        dashboard_host: The host of the server, which shares this machine's OnTheFly home.
        dashboard_port: Its port; None is `$ONTHEFLY_DASHBOARD_PORT`, else 47621.
        auto_connect: Link to that server whenever it runs.
        linger: Stay, paused, after training where a dashboard is open.
        ckpt_keep: The checkpoints that are kept of each run, beside those that are pinned.
        ckpt_every_steps: Save the whole state every so many steps.
        ckpt_every_minutes: Save the whole state every so many minutes; None saves none by time.
        guards: What watches the numbers; None is a warning where the loss is not finite.
        stall_after: Seconds without any movement that count as a stall; None depends on the phase.
        health: Every how many steps each check of health is made, such as {"numerics": 1000}.
        reduce_metrics: With several processes, record the means over all, and not rank 0's own.
        telemetry_budget: The share of step time (0 to 1) that sampled norms and activations may
            cost; 0 samples none.
    """

    project: str
    save_dir: Optional[Union[str, Path]] = None
    dashboard_host: str = DEFAULT_HOST
    dashboard_port: Optional[int] = None
    auto_connect: bool = True
    linger: bool = False
    ckpt_keep: int = 10
    ckpt_every_steps: Optional[int] = None
    ckpt_every_minutes: Optional[float] = 10.0
    guards: Optional[Sequence[Guard]] = None
    stall_after: Optional[float] = None
    health: Optional[Mapping[str, int]] = None
    reduce_metrics: bool = False
    telemetry_budget: float = 0.01
    #: Where the server is looked for.
    address: Address = field(init=False)
    #: The guards, the default one where none was said.
    watching: Tuple[Guard, ...] = field(init=False)
    #: The checks of health that are made by themselves, those of guards included.
    checkups: Dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.project, str) or not self.project.strip():
            raise ArgumentError("project must be a name, such as project='mnist'.")
        check_count("ckpt_keep", self.ckpt_keep)
        check_count("ckpt_every_steps", self.ckpt_every_steps)
        check_positive("ckpt_every_minutes", self.ckpt_every_minutes)
        check_positive("stall_after", self.stall_after)
        check_share("telemetry_budget", self.telemetry_budget)
        # The way to set what a frozen dataclass works out from its fields.
        port = find_port(self.dashboard_port)
        object.__setattr__(self, "address", Address(self.dashboard_host, port, self.auto_connect))
        object.__setattr__(self, "watching", tuple(check_guards(self.guards)))
        object.__setattr__(self, "checkups", planned(check_schedule(self.health), self.watching))

    @property
    def checkpoints(self) -> Optional[Path]:
        """The absolute folder for checkpoints; None is inside the session's."""
        return None if self.save_dir is None else Path(self.save_dir).absolute()


def check_count(name: str, value: Any) -> None:
    """Raise `ArgumentError` unless it is None or a whole number of at least 1."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if value is not None and not (whole and value >= 1):
        raise ArgumentError(f"{name} is {value!r}; it is a whole number of at least 1.")


def check_positive(name: str, value: Any) -> None:
    """Raise `ArgumentError` unless it is None or a number greater than 0."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is not None and not (is_number and value > 0):
        raise ArgumentError(f"{name} is {value!r}; it is a number greater than 0, or None.")


def check_share(name: str, value: Any) -> None:
    """Raise `ArgumentError` unless it is a number from 0 to 1."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (is_number and 0 <= value <= 1):
        raise ArgumentError(f"{name} is {value!r}; it is a number from 0 to 1, such as 0.01.")


def check_run_name(name: Any) -> None:
    """Raise `ArgumentError` unless it is a name that a table can show."""
    if not isinstance(name, str) or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise ArgumentError(
            f"run_name is {name!r:.80}; it is a text of at most {_LONGEST_NAME} printable "
            "characters, such as run_name='baseline'."
        )
