"""`attach_lightning`: one call before `trainer.fit`."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Optional

from ...errors import ArgumentError
from . import namespaces
from .callback import Steering, callback_class


class AttachedRun:
    """What `attach_lightning` returns: the callback that it gave the trainer, until it is closed."""

    def __init__(self, trainer: Any, callback: Any) -> None:
        self._trainer = trainer
        self.callback = callback

    @property
    def folder(self) -> Optional[Path]:
        """The session's folder, from where training begins."""
        found: Optional[Path] = self.callback.folder
        return found

    def close(self) -> None:
        """Take the callback away; a fit that follows is neither recorded nor steered."""
        self._trainer.callbacks = [
            one for one in self._trainer.callbacks if one is not self.callback
        ]

    def __enter__(self) -> AttachedRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def attach_lightning(
    trainer: Any = None,
    model: Any = None,
    project: Optional[str] = None,
    run_name: Optional[str] = None,
    **options: Any,
) -> AttachedRun:
    """Have the next `trainer.fit(model, ...)` recorded, and steered from a dashboard.

    Training is the same with and without it, bit for bit. What is trained on is what `fit` is given.

    Args:
        trainer: A `Trainer` of `lightning.pytorch` or `pytorch_lightning`.
        model: The module that will be trained.
        project: What the runs belong to, for a person.
        run_name: The run's name.
        options: The further arguments of `OnTheFlyCallback`.
    """
    package = namespaces.of(trainer)
    if not isinstance(model, package.LightningModule):
        raise ArgumentError(
            f"model is a {type(model).__name__}; attach_lightning needs the {package.__name__}."
            "LightningModule that will be trained."
        )
    if project is None or run_name is None:
        raise ArgumentError(
            "attach_lightning needs project= and run_name=: what it is recorded as."
        )
    known = inspect.signature(Steering).parameters
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ArgumentError(
            f"attach_lightning has no argument {unknown[0]!r}. It takes: "
            f"{', '.join(name for name in known)}."
        )
    callback = callback_class(package)(project, run_name, **options)
    if any(isinstance(one, Steering) for one in trainer.callbacks):
        raise ArgumentError(
            "The trainer has an OnTheFlyCallback already. Close the handle of the first "
            "attach_lightning, or leave out one of the two."
        )
    trainer.callbacks = [callback, *trainer.callbacks]
    return AttachedRun(trainer, callback)
