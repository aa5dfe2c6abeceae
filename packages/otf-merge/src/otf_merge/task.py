"""The user's model and data, for methods that need them: one small object from a few lines.

    # mytask.py
    def task():
        return Task(model=build_model, train=train_loader, validation=validation_loader)

is given as `--task mytask:task`, or as a path, `--task examples/mytask.py:task`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import torch
from torch import Tensor

from .errors import InvalidTask, MergeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def first_of(model: torch.nn.Module, batch: Any) -> Tensor:
    """The model's output for a batch `(inputs, targets)`, or for a mapping without its labels.

    A Transformers output's `logits` are taken.
    """
    if isinstance(batch, Mapping):
        given = {key: value for key, value in batch.items() if key not in ("labels", "label")}
        output = model(**given)
    else:
        output = model(batch[0] if isinstance(batch, Sequence) else batch)
    logits: Tensor = getattr(output, "logits", output)
    return logits


def last_of(batch: Any) -> Tensor:
    """The targets of a batch `(inputs, targets)`, or a mapping's `labels` or `label`."""
    if isinstance(batch, Mapping):
        targets: Tensor = batch["labels"] if "labels" in batch else batch["label"]
        return targets
    last: Tensor = batch[-1]
    return last


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """The share of samples whose greatest output is the target's: a scalar in 0 to 1."""
    return (outputs.argmax(dim=-1) == targets).to(torch.float64).mean()


@dataclass(frozen=True)
class Task:
    """What a merged model is for.

    `model()` makes a model whose `state_dict` the checkpoints fit; its own weights do not matter.
    `validation` and `train` are iterables of batches that can be gone through again and again:
    loaders, or lists. A batch is a tuple, list or mapping of tensors whose first dimension counts
    its samples. `train` is what models are fitted to (distillation, fusion, the Fisher information,
    Gram matrices, normalisation statistics); `validation` is what is decided by.

    `outputs(model, batch)` gives the logits or predictions, one row a sample, or one for each of a
    sample's predictions; `targets(batch)` what they should be. `loss(outputs, targets)` is a mean
    over rows; `metric(outputs, targets)` a mean over rows too, and higher is better. Unless given,
    they are those of classification: batches of inputs and targets, cross-entropy, and accuracy.

    `domains` has one iterable of batches for each parent, in their order, where each parent was
    trained on data of its own: then its Fisher information and Gram matrices are taken there, and
    distillation asks for each domain the parent that owns it.

    `device` is where the work is done, such as `cuda`; unless given, where `model()` puts the model.
    Batches are moved there.
    """

    model: Callable[[], torch.nn.Module]
    validation: Iterable[Any]
    train: Iterable[Any] | None = None
    outputs: Callable[[torch.nn.Module, Any], Tensor] = first_of
    targets: Callable[[Any], Tensor] = last_of
    loss: Callable[[Tensor, Tensor], Tensor] = torch.nn.functional.cross_entropy
    metric: Callable[[Tensor, Tensor], Any] = accuracy
    domains: Sequence[Iterable[Any]] | None = None
    device: str | torch.device | None = None

    @property
    def has_training_data(self) -> bool:
        """Whether there is anything that models can be fitted to."""
        return self.train is not None or bool(self.domains)

    def data_of(self, parent: int, parents: int) -> Iterable[Any]:
        """The batches that the parent of that place learned from: its domain, else all of `train`.

        Raises `InvalidTask` where there are none.
        """
        if self.domains is not None:
            return self.domains_for(parents)[parent]
        return self.training_sources()[0]

    def training_sources(self) -> Sequence[Iterable[Any]]:
        """All that models can be fitted to: `train` alone, or without it the domains."""
        if self.train is not None:
            return [self.train]
        if self.domains:
            return self.domains
        raise InvalidTask(
            "The task has no training data, which this needs. Give `train=`, an iterable of "
            "batches."
        )

    def domains_for(self, parents: int) -> Sequence[Iterable[Any]]:
        """The domains, one for each of so many parents, which must be there."""
        found = len(self.domains or ())
        if found != parents:
            raise InvalidTask(
                f"The task has {found} domains for {parents} checkpoints. Give one for each, in "
                "their order, or leave `domains` out."
            )
        assert self.domains is not None
        return self.domains


def load_task(named: str) -> Task:
    """The task that `module:function` or `path.py:function` makes; the function takes nothing.

    Raises `InvalidTask` where it cannot be found, fails, or makes something else.
    """
    place, colon, function = named.rpartition(":")
    if not colon or not place or not function:
        raise InvalidTask(
            f"`{named}` names no task. Say `module:function`, or `path/to/file.py:function`."
        )
    maker = getattr(_module(place), function, None)
    if not callable(maker):
        raise InvalidTask(f"`{place}` has no function `{function}`, which should make the task.")
    with users_code(f"`{named}`"):
        task = maker()
    if not isinstance(task, Task):
        raise InvalidTask(
            f"`{named}` returned a {type(task).__name__}. It must return an `otf_merge.Task`."
        )
    return task


@contextlib.contextmanager
def users_code(what: str) -> Iterator[None]:
    """A block that calls the user's functions: what they raise becomes an `InvalidTask`.

    Its message says where that was, as there is no traceback on the command line.
    """
    try:
        yield
    except MergeError:
        raise
    except Exception as error:
        raise InvalidTask(
            f"{what} failed with {type(error).__name__}: {error}{_place_of(error)}. Correct the "
            "task, or try it by itself first."
        ) from error


def _place_of(error: Exception) -> str:
    """The innermost line of the user's own that the error went through, in words."""
    if isinstance(error, SyntaxError):
        return ""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        installed = "site-packages" in path.parts or path.parent == Path(__file__).parent
        if not installed and path.is_file():
            return f" ({path.name}, line {frame.lineno})"
    return ""


def _module(place: str) -> Any:
    path = Path(place)
    if path.suffix == ".py":
        return _file(path)
    # As `python script.py` would: a task beside where one stands can be imported.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        with users_code(f"The module `{place}` of the task"):
            return importlib.import_module(place)
    except InvalidTask as error:
        cause = error.__cause__
        missing = cause.name if isinstance(cause, ModuleNotFoundError) else None
        if missing is None or not f"{place}.".startswith(f"{missing}."):
            raise
        raise InvalidTask(
            f"There is no module `{place}` for the task. Run the command where it lies, or give "
            "the path of the file."
        ) from cause


def _file(path: Path) -> Any:
    if not path.is_file():
        raise InvalidTask(f"There is no file `{path}`. Check the path of the task.")
    # Beside it, as `python script.py` would have it: what it imports.
    if str(path.parent.resolve()) not in sys.path:
        sys.path.insert(0, str(path.parent.resolve()))
    name = path.stem if path.stem not in sys.modules else f"task_in_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Worker processes of loaders, and dataclasses, look a class's module up by its name.
    sys.modules[name] = module
    with users_code(f"The task's file `{path}`"):
        spec.loader.exec_module(module)
    return module
