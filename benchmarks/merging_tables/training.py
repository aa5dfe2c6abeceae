"""Small networks, trained with Adam on batches that are drawn with replacement."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Callable, List, Mapping

import torch
from otf_merge.evaluation import evaluate, model_with
from otf_merge.preparing import prepared
from otf_merge.request import Machine, Request
from otf_merge.task import Task
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from .digits import CLASSES, PIXELS, Batch, Samples, dice

BATCH = 64


def mlp(width: int = 128) -> nn.Module:
    """Two hidden layers: 64, width, width, 10."""
    return nn.Sequential(
        *(nn.Linear(PIXELS, width), nn.ReLU()),
        *(nn.Linear(width, width), nn.ReLU()),
        nn.Linear(width, CLASSES),
    )


def fresh(make: Callable[[], nn.Module], seed: int, purpose: int) -> nn.Module:
    """A model from a start of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=dice(seed, purpose))))
        return make()


class Trained:
    """A model and its optimizer, which can be trained on."""

    def __init__(self, model: nn.Module, rate: float = 1e-3, decay: float = 0.0) -> None:
        self.model = model
        trained = [it for it in model.parameters() if it.requires_grad]
        self.optimizer = torch.optim.Adam(trained, lr=rate, weight_decay=decay, fused=True)

    def train(
        self,
        data: Samples,
        steps: int,
        draws: torch.Generator,
        *,
        noise: float = 0.0,
        smoothing: float = 0.0,
    ) -> Trained:
        """So many steps more. `noise` is added to the images, normal with that deviation."""
        self.model.train()
        for _ in range(steps):
            places = torch.randint(len(data.y), (BATCH,), generator=draws)
            x = data.x[places]
            if noise:
                x = x + noise * torch.randn(x.shape, generator=draws)
            self.optimizer.zero_grad()
            cross_entropy(self.model(x), data.y[places], label_smoothing=smoothing).backward()
            self.optimizer.step()
        self.model.eval()
        return self

    def fork(self, rate: float = 1e-3, decay: float = 0.0) -> Trained:
        """A copy of the model with an optimizer that knows nothing yet."""
        return Trained(copy.deepcopy(self.model), rate, decay)

    def save(self, path: Path) -> Path:
        """A training checkpoint: the weights and the optimizer's state."""
        torch.save(
            {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}, path
        )
        return path


def percent(task: Task, weights: Mapping[str, Tensor], data: List[Batch]) -> float:
    """The accuracy of those weights in the task's model."""
    return 100 * evaluate(model_with(task, weights), task, data).metric


def percent_of(model: nn.Module, task: Task, data: List[Batch]) -> float:
    return 100 * evaluate(model, task, data).metric


def mean_of_outputs(
    models: List[nn.Module], x: Tensor, after: Callable[[Tensor], Tensor] = lambda it: it
) -> Tensor:
    """The mean over the models of their logits, or of what `after` makes of them."""
    with torch.no_grad():
        return torch.stack([after(model(x)) for model in models]).mean(0)


def collapse_score(paths: List[Path]) -> float:
    """What the product says beforehand of how far the checkpoints are apart, in thousandths."""
    with prepared(Request(inputs=paths), Machine(threads=1)) as preparation:
        return 1e3 * float(preparation.report["assessment"]["collapse_score"])


def right(outputs: Tensor, y: Tensor) -> float:
    """The share of rows whose greatest output is the class's, in percent."""
    return 100 * float((outputs.argmax(1) == y).double().mean())
