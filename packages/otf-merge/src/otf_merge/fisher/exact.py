"""The Fisher diagonal from data: every sample's gradient squared by itself."""

from __future__ import annotations

import contextlib
import textwrap
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from ..batches import first_samples, moved, separated, size_of
from ..errors import InvalidTask
from ..evaluation import device_of, in_modes_of
from ..progress import unwatched
from ..randomness import seeded
from ..task import users_code

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ..progress import Progress
    from ..task import Task

Kind = Literal["true", "sampled", "empirical"]

#: How many numbers the gradients that are held at a time may have: a quarter of a GB in float32.
_HELD = 1 << 26
#: How many samples are taken at a time at most: their activations need memory too.
_TOGETHER = 64
#: How much is told of why they cannot be taken together, in letters.
_TOLD = 200


@dataclass(frozen=True)
class ExactFisher:
    """The diagonal of each parameter that asks for gradients, in float32 at least, on the CPU.

    `samples` is how many it is the mean over. `one_by_one` is why they had to be taken one at a
    time, in torch's words; empty where they could be taken together.
    """

    diagonal: Mapping[str, Tensor]
    samples: int
    one_by_one: str = ""


def exact_fisher(
    model: nn.Module,
    data: Iterable[Any],
    task: Task,
    samples: int = 256,
    kind: Kind = "true",
    seed: int = 0,
    progress: Progress = unwatched,
) -> ExactFisher:
    """The Fisher diagonal of a model, as the mean over the first `samples` samples of `data`.

    - `true`: `sum_c p(c|x) * (d log p(c|x))**2` over all classes c, exactly (Matena and Raffel
      2022, arXiv:2111.09832).
    - `sampled`: `(d log p(c|x))**2` for one class drawn from `p(c|x)`, which is the same on average
      at the cost of one class.
    - `empirical`: `(d loss)**2` at the data's own targets, for any task. It goes to zero where a
      model fits its data perfectly.

    The first two take the task's outputs as logits of classes, in the last dimension. Where a
    sample has several rows of them, as in a text, each row is a prediction of its own: the terms of
    different rows have no correlation, and their squares add up.

    The model is in evaluation mode meanwhile; modes and random generators are afterwards as they
    were. Gradients of many samples are computed together by `torch.func`, in portions that bound
    the memory; where the model does not allow that, one by one.
    """
    _require_single_samples(model)
    calculation = _Calculation(model, task, kind, torch.Generator().manual_seed(seed))
    done = 0
    with seeded(seed, data), in_modes_of(model), torch.enable_grad(), _without_cudnn_for(model):
        model.eval()
        place = device_of(model)
        for batch in first_samples(data, samples):
            calculation.add(moved(batch, place))
            done += size_of(batch)
            progress(done, max(samples, done), "samples")
    if not done:
        raise InvalidTask(
            "The task's training data has no batches, or none the second time, and the Fisher "
            "information is a mean over samples. Give a loader or a list."
        )
    diagonal = {name: (total / done).cpu() for name, total in calculation.totals.items()}
    return ExactFisher(diagonal, done, calculation.one_by_one)


class _Calculation:
    """Sums of squared gradients, over the samples that were added."""

    def __init__(
        self, model: nn.Module, task: Task, kind: Kind, generator: torch.Generator
    ) -> None:
        self.one_by_one = ""
        self._outputs = _Outputs(model, task)
        self._task = task
        self._kind = kind
        self._generator = generator
        self._parameters = {
            f"model.{name}": it.detach()
            for name, it in model.named_parameters()
            if it.requires_grad
        }
        self._size = max(1, sum(it.numel() for it in self._parameters.values()))
        self._totals = {
            name: torch.zeros_like(it, dtype=torch.promote_types(it.dtype, torch.float32))
            for name, it in self._parameters.items()
        }

    @property
    def totals(self) -> dict[str, Tensor]:
        """The sums by the model's own names."""
        return {name[len("model.") :]: total for name, total in self._totals.items()}

    def add(self, batch: Any) -> None:
        """Add the samples of a batch."""
        size = size_of(batch)
        labels, number = torch.zeros(size, 1), 1
        if self._kind != "empirical":
            with users_code("The task"), torch.no_grad():
                outputs, targets = self._outputs(batch), self._task.targets(batch)
            _require_classes(outputs, targets, size)
            labels = self._drawn(outputs).reshape(size, -1)
            number = outputs.numel() // size if self._kind == "true" else 1
        count = _Terms(number, min(number, max(1, _HELD // max(self._size, number))))
        tensors, rebuilt = separated(batch)
        together = max(1, min(_TOGETHER, _HELD // (self._size * (count.together + 1))))
        for start in range(0, size, together):
            places = slice(start, start + together)
            self._add(_Samples([it[places] for it in tensors], labels[places], rebuilt), count)

    def _add(self, samples: _Samples, count: _Terms) -> None:
        if not self.one_by_one:
            try:
                squares = self._together(samples, count)
            except (RuntimeError, ValueError) as error:
                # What a model does that torch.func cannot follow is told in many words.
                self.one_by_one = textwrap.shorten(str(error), _TOLD, placeholder=" ...")
            else:
                self._sum_up(squares)
                return
        for sample in samples.single():
            with users_code("The task"):
                self._sum_up(self._alone(sample, count))

    def _sum_up(self, squares: Mapping[str, Tensor]) -> None:
        for name, total in self._totals.items():
            total.add_(squares[name])

    def _together(self, samples: _Samples, count: _Terms) -> dict[str, Tensor]:
        """The squares of several samples, added up."""

        def squares(tensors: list[Tensor], labels: Tensor) -> dict[str, Tensor]:
            sample = _Samples(tensors, labels, samples.rebuilt)
            terms, pulled = vjp(lambda it: self._terms(it, sample), self._parameters)[:2]
            totals = {name: torch.zeros_like(it) for name, it in self._totals.items()}
            for places in torch.arange(count.number, device=terms.device).split(count.together):
                basis = nn.functional.one_hot(places, count.number).to(terms.dtype)
                weights = self._weights(terms[places])
                (gradients,) = vmap(pulled)(basis)
                for name, total in totals.items():
                    squared = gradients[name].to(total.dtype).square()
                    totals[name] = total + torch.tensordot(weights.to(total.dtype), squared, 1)
            return totals

        # Each sample stays a batch, of one.
        tensors = [it.unsqueeze(1) for it in samples.tensors]
        with warnings.catch_warnings():
            # torch says of an operation it knows no way for that it will be slow.
            warnings.simplefilter("ignore")
            found = vmap(squares, randomness="different")(tensors, samples.labels)
        return {name: it.sum(0) for name, it in found.items()}

    def _alone(self, sample: _Samples, count: _Terms) -> dict[str, Tensor]:
        """The squares of one sample, one gradient after the other."""
        parameters = {name: it.detach().requires_grad_() for name, it in self._parameters.items()}
        terms = self._terms(parameters, sample)
        weights = self._weights(terms.detach())
        totals = {name: torch.zeros_like(it) for name, it in self._totals.items()}
        for place in range(count.number):
            gradients = torch.autograd.grad(
                terms[place], list(parameters.values()), retain_graph=True, allow_unused=True
            )
            for total, gradient in zip(totals.values(), gradients):
                if gradient is not None:
                    total.add_(weights[place] * gradient.to(total.dtype).square())
        return totals

    def _terms(self, parameters: Mapping[str, Tensor], sample: _Samples) -> Tensor:
        """What is differentiated, one after the other: log-likelihoods of a sample, or its loss."""
        batch = sample.rebuilt(sample.tensors)
        outputs = functional_call(self._outputs, dict(parameters), (batch,))
        if self._kind == "empirical":
            return self._task.loss(outputs, self._task.targets(batch)).reshape(1)
        logs = _logs(outputs)
        if self._kind == "true":
            return logs.reshape(-1)
        return logs.gather(1, sample.labels.reshape(-1, 1)).sum().reshape(1)

    def _weights(self, terms: Tensor) -> Tensor:
        """What each term's square counts: the probability of its class, where all are taken."""
        return terms.exp() if self._kind == "true" else torch.ones_like(terms)

    def _drawn(self, outputs: Tensor) -> Tensor:
        """A class for each row, drawn from the model's own predictions."""
        probabilities = _logs(outputs).exp().cpu()
        drawn = torch.multinomial(probabilities, 1, generator=self._generator)
        return drawn.to(outputs.device)


@dataclass(frozen=True)
class _Samples:
    """Some samples: their tensors, a drawn class for each row, and what makes a batch of them."""

    tensors: list[Tensor]
    labels: Tensor
    rebuilt: Callable[[Sequence[Tensor]], Any]

    def single(self) -> Iterator[_Samples]:
        for place in range(len(self.labels)):
            one = slice(place, place + 1)
            yield _Samples([it[one] for it in self.tensors], self.labels[one], self.rebuilt)


class _Terms(NamedTuple):
    """How many terms a sample has, and how many of them are differentiated at a time."""

    number: int
    together: int


class _Outputs(nn.Module):
    """The task's outputs as a module, whose parameters can be replaced for a call."""

    def __init__(self, model: nn.Module, task: Task) -> None:
        super().__init__()
        self.model = model
        self._task = task

    def forward(self, batch: Any) -> Tensor:
        return self._task.outputs(self.model, batch)


def _logs(outputs: Tensor) -> Tensor:
    """The logarithms of the classes' probabilities, one row a prediction."""
    wide = torch.promote_types(outputs.dtype, torch.float32)
    return outputs.reshape(-1, outputs.shape[-1]).to(wide).log_softmax(-1)


def _require_classes(outputs: Tensor, targets: Tensor, size: int) -> None:
    classes = outputs.shape[-1] if outputs.dim() > 1 else 0
    if classes < 2 or targets.is_floating_point() or outputs.numel() % (classes * size):  # noqa: PLR2004
        raise InvalidTask(
            f"The task's outputs of shape {list(outputs.shape)} and targets of {targets.dtype} for "
            f"{size} samples are not logits and classes, which the true Fisher information is "
            "taken of. Pass kind=empirical, which takes the gradients of the task's loss."
        )


def _require_single_samples(model: nn.Module) -> None:
    for name, part in model.named_modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is None:  # noqa: SLF001 - their one base
            raise InvalidTask(
                f"`{name}` takes its statistics from the batch, also in evaluation, so that single "
                "samples have no gradients of their own. Merge by the optimizer's state, with "
                "source=optimizer, or by another method."
            )


def _without_cudnn_for(model: nn.Module) -> contextlib.AbstractContextManager[Any]:
    # It differentiates recurrent layers in training mode only.
    recurrent = any(isinstance(part, nn.RNNBase) for part in model.modules())
    flags: contextlib.AbstractContextManager[Any] = torch.backends.cudnn.flags(enabled=False)
    return flags if recurrent else contextlib.nullcontext()
