"""A student that learns from what its parents answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import torch
from torch import Tensor, nn

from ..averaging import averaged_state
from ..batches import again_and_again, moved
from ..errors import InvalidTask, MissingNeed
from ..evaluation import Scores, device_of, evaluate, model_with, names_in
from ..parameters import Range
from ..randomness import seeded
from ..recalibration import has_running_statistics
from ..registry import model_method
from ..task import users_code

if TYPE_CHECKING:
    from ..parents import Parent
    from ..progress import Progress
    from ..task import Task

Teaching = Literal["logits", "probabilities", "domain"]


@model_method(
    "distill",
    summary="A student trained on its parents' softened outputs.",
    paper="arXiv:1503.02531",
    symmetric=False,
)
def distill(
    parents: Sequence[Parent],
    *,
    task: Task,
    weights: Sequence[float],
    progress: Progress,
    report: dict[str, Any],
    base: Optional[Parent] = None,
    teacher: Annotated[
        Literal["auto", "logits", "probabilities", "domain"],
        "who teaches: the parents' mean logits, the mean of their probabilities, or for each of the "
        "task's domains the parent that owns it; auto is domain where the task has domains, else "
        "logits",
    ] = "auto",
    student: Annotated[
        Literal["average", "base", "first"],
        "what the student starts from: the parents' weighted average, the base, or the first parent",
    ] = "average",
    temperature: Annotated[
        float, "what logits are divided by before they become probabilities", Range(above=0)
    ] = 2.0,
    alpha: Annotated[
        float, "the teachers' share of the loss; the rest is the task's loss by labels", Range(0, 1)
    ] = 0.9,
    steps: Annotated[int, "optimizer steps", Range(least=1)] = 500,
    lr: Annotated[float, "Adam's learning rate", Range(above=0)] = 1e-3,
    evaluate_every: Annotated[
        int, "after how many steps the student is validated", Range(least=1)
    ] = 50,
    seed: Annotated[int, "of the data's order and of dropout"] = 0,
) -> Mapping[str, Tensor]:
    """Train a student by `(1-a) * loss(y, s) + a * T**2 * KL(teacher_T || student_T)`.

    Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531, with T the
    temperature and a `alpha`. `teacher_T` is the softmax of the parents' mean logits over T, or the
    mean of their softmaxes over T, both by `weights`. Where each parent was trained on data of its
    own, it is better to ask the one that owns a sample: each step then has a batch of every domain,
    which count by the parents' weights.

    The student learns on the task's training data, or without it on its domains, in training mode,
    so that normalisation statistics follow; teachers are in evaluation mode. It is validated before
    the first step, every `evaluate_every` steps and after the last, and the best is returned: by
    the metric, and where that is equal by the loss. The same seed gives the same student.

    In memory are all parents (with one domain each, or together), the student with Adam's state,
    and the best student so far.
    """
    chosen = teacher if teacher != "auto" else "domain" if task.domains else "logits"
    learner = model_with(task, _start(parents, weights, base, student))
    lessons = _lessons(parents, weights, task, chosen, has_running_statistics(learner))
    loss = _Loss(task, temperature, alpha, softened_first=chosen == "probabilities")
    optimizer = torch.optim.Adam([it for it in learner.parameters() if it.requires_grad], lr=lr)
    best = _Best(learner, evaluate(learner, task))
    before, place = best.scores, device_of(learner)
    learner.train()
    with seeded(seed, *(lesson.data for lesson in lessons)), torch.enable_grad():
        streams = [again_and_again(it.data, it.least) for it in lessons]
        for step in range(1, steps + 1):
            optimizer.zero_grad(set_to_none=True)
            for lesson, batches in zip(lessons, streams):
                batch = moved(next(batches), place)
                with users_code("The task"):
                    (lesson.share * loss(learner, lesson, batch)).backward()
            optimizer.step()
            if step % evaluate_every == 0 or step == steps:
                best.offer(learner, evaluate(learner, task), step)
            progress(step, steps, "steps")
    report["distill"] = {
        "teacher": chosen,
        "before": before._asdict(),
        "after": best.scores._asdict(),
        "step": best.step,
    }
    return _renamed(best.state, learner, parents[0])


@dataclass(frozen=True)
class _Lesson:
    """Data, who teaches on them and with which weights, and their share of the loss."""

    data: Iterable[Any]
    teachers: Sequence[tuple[nn.Module, float]]
    share: float
    least: int


def _lessons(
    parents: Sequence[Parent],
    weights: Sequence[float],
    task: Task,
    teacher: Teaching,
    normalised: bool,
) -> list[_Lesson]:
    total = sum(weights)
    shares = [weight / total for weight in weights]
    # Normalisation takes statistics over a batch, for which one sample is too few.
    least = 2 if normalised else 1
    teachers = {
        place: model_with(task, dict(parent.tensors())).requires_grad_(False)
        for place, parent in enumerate(parents)
        if shares[place]
    }
    if teacher == "domain":
        domains = task.domains_for(len(parents))
        return [
            _Lesson(domains[place], [(model, 1.0)], shares[place], least)
            for place, model in teachers.items()
        ]
    together = [(model, shares[place]) for place, model in teachers.items()]
    sources = task.training_sources()
    return [_Lesson(source, together, 1 / len(sources), least) for source in sources]


@dataclass(frozen=True)
class _Loss:
    """The loss of a student: how far it is from its teachers, and from the labels."""

    task: Task
    temperature: float
    alpha: float
    softened_first: bool

    def __call__(self, student: nn.Module, lesson: _Lesson, batch: Any) -> Tensor:
        outputs = self.task.outputs(student, batch)
        if outputs.shape[-1] < 2:  # noqa: PLR2004 - as many classes as there must be
            raise InvalidTask(
                f"The task's outputs have the shape {list(outputs.shape)}. Students learn from the "
                "probabilities of classes, so the last dimension must have the logits of two or "
                "more. Merge by another method."
            )
        taught = self._divergence(outputs, self._target(lesson, batch))
        if self.alpha == 1:
            return taught
        own = self.task.loss(outputs, self.task.targets(batch))
        return (1 - self.alpha) * own + self.alpha * taught

    def _divergence(self, outputs: Tensor, target: Tensor) -> Tensor:
        logs = _rows(outputs).div(self.temperature).log_softmax(-1)
        divergence = nn.functional.kl_div(logs, target, reduction="batchmean")
        return self.temperature**2 * divergence

    @torch.no_grad()
    def _target(self, lesson: _Lesson, batch: Any) -> Tensor:
        """The teachers' probabilities, one row a prediction."""
        answers = [
            (_rows(self.task.outputs(model, batch)) / self.temperature, weight)
            for model, weight in lesson.teachers
        ]
        if self.softened_first:
            return torch.stack([weight * it.softmax(-1) for it, weight in answers]).sum(0)
        return torch.stack([weight * it for it, weight in answers]).sum(0).softmax(-1)


class _Best:
    """The best student so far, what it scored, and after which step."""

    def __init__(self, model: nn.Module, scores: Scores) -> None:
        self.scores, self.step = scores, 0
        self.state = _copied(model)

    def offer(self, model: nn.Module, scores: Scores, step: int) -> None:
        """Take the student as it is now where it is better."""
        if scores.rank > self.scores.rank:
            self.scores, self.step = scores, step
            self.state = _copied(model)


def _start(
    parents: Sequence[Parent], weights: Sequence[float], base: Parent | None, student: str
) -> Mapping[str, Tensor]:
    if student == "first":
        return dict(parents[0].tensors())
    if student == "average":
        return averaged_state(parents, weights)
    if base is None:
        raise MissingNeed("The student is to start from the base, and there is none. Name --base.")
    return dict(base.tensors())


def _rows(outputs: Tensor) -> Tensor:
    return outputs.reshape(-1, outputs.shape[-1])


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: it.detach().cpu().clone() for name, it in model.state_dict().items()}


def _renamed(state: Mapping[str, Tensor], model: nn.Module, first: Parent) -> dict[str, Tensor]:
    """The model's tensors under the first checkpoint's names, in its dtypes."""
    own = {theirs: name for name, theirs in names_in(model, list(first.names)).items()}
    return {name: state[own[name]].to(spec.dtype) for name, spec in first.specs.items()}
