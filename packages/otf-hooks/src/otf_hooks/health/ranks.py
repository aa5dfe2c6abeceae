"""Several processes that train one model: whether they are the same, as fast, and see other data.

Each process describes itself; what they said is gathered, and compared as plain values.
"""

from __future__ import annotations

from statistics import median
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from ..front import Probe
from ..trace import digest_of
from .examination import Examination
from .findings import LISTED, Findings, percent

#: A process that takes so many times the median step time holds up the others.
_SLOWER = 1.25
#: The share of a process's samples that others may see too: padding makes the last ones double.
_OVERLAP = 0.05


class RankReport(NamedTuple):
    """What one process says of itself; plain values, so that it can be sent.

    `parameters` and `buffers` are digests by name, `step_time` is in seconds, `unused` are the
    parameters that got no gradient, and `indices` the dataset indices that it trains on.
    """

    rank: int
    world: int
    backend: str
    device: str
    parameters: Mapping[str, str]
    buffers: Mapping[str, str]
    step_time: Optional[float] = None
    unused: Sequence[str] = ()
    indices: Sequence[int] = ()


def check(exam: Examination) -> None:
    """Have all processes describe themselves, and compare them."""
    probe = exam.probe
    assert exam.gather is not None
    reports = exam.gather(tuple(described(probe)))
    compare(exam.notes, [RankReport(*each) for each in reports])


def described(probe: Probe) -> RankReport:
    """This process, where torch.distributed is initialised."""
    import torch.distributed as dist

    model = probe.model
    return RankReport(
        rank=dist.get_rank(),
        world=dist.get_world_size(),
        backend=str(dist.get_backend()),
        device=str(probe.device),
        parameters={name: digest_of(each) for name, each in model.named_parameters()},
        buffers={name: digest_of(each) for name, each in model.named_buffers()},
        step_time=probe.step_time,
        unused=_without_gradient(model),
        indices=tuple(_sampled(probe.loader)),
    )


def compare(notes: Findings, reports: Sequence[RankReport]) -> None:
    """What all processes said, in the order of their ranks."""
    first = reports[0]
    notes.fact("world", first.world)
    notes.fact("backend", first.backend)
    notes.fact("devices", ", ".join(report.device for report in reports))
    for kind in ("parameters", "buffers"):
        _same_tensors(notes, kind, {each.rank: getattr(each, kind) for each in reports})
    _stragglers(notes, reports)
    _unused(notes, reports)
    _overlap(notes, reports)


def _same_tensors(notes: Findings, kind: str, digests: Mapping[int, Mapping[str, str]]) -> None:
    ranks = sorted(digests)
    names = list(dict.fromkeys(name for rank in ranks for name in digests[rank]))
    differing = [name for name in names if len({digests[rank].get(name) for rank in ranks}) > 1]
    notes.measure(f"{kind} that differ", len(differing))
    for name in differing[:LISTED]:
        add = notes.critical if kind == "parameters" else notes.warning
        add(
            name,
            f"This {kind[:-1]} is not the same in all processes.",
            value=f"ranks {_groups(name, digests)}",
            meaning="Each process trains a model of its own; which of them is saved is chance."
            if kind == "parameters"
            else "Evaluation differs between processes, and only one of them is saved.",
            remedy="Seed all processes alike before the model is built, or let "
            "DistributedDataParallel broadcast it; change weights on all ranks or on none."
            if kind == "parameters"
            else "SyncBatchNorm keeps them alike (torch.nn.SyncBatchNorm.convert_sync_batchnorm).",
        )


def _groups(name: str, digests: Mapping[int, Mapping[str, str]]) -> str:
    """The ranks that have the same, as in `0 1 | 2`."""
    groups: Dict[Optional[str], List[int]] = {}
    for rank in sorted(digests):
        groups.setdefault(digests[rank].get(name), []).append(rank)
    return " | ".join(" ".join(map(str, group)) for group in groups.values())


def _stragglers(notes: Findings, reports: Sequence[RankReport]) -> None:
    times = {each.rank: each.step_time for each in reports if each.step_time is not None}
    if len(times) < 2:  # noqa: PLR2004 - nobody to compare with
        return
    for rank, seconds in times.items():
        others = median(each for other, each in times.items() if other != rank)
        notes.measure(f"step time of rank {rank}", seconds)
        if seconds > _SLOWER * others:
            notes.warning(
                f"rank {rank}",
                "This process is slower than the others.",
                value=f"{1000 * seconds:.3g} ms a step, the others {1000 * others:.3g} ms",
                meaning="All wait for the slowest at every step.",
                remedy="Look at its device (temperature, clocks, other programs), at its data, and "
                "at what only this rank does, such as logging or evaluating.",
            )


def _unused(notes: Findings, reports: Sequence[RankReport]) -> None:
    ranks: Dict[str, List[int]] = {}
    for report in reports:
        for name in report.unused:
            ranks.setdefault(name, []).append(report.rank)
    for name, where in list(ranks.items())[:LISTED]:
        everywhere = len(where) == len(reports)
        add = notes.info if everywhere else notes.critical
        add(
            name,
            "This parameter got no gradient."
            if everywhere
            else "This parameter got a gradient in some processes only.",
            value="in all processes"
            if everywhere
            else f"none on ranks {' '.join(map(str, where))}",
            meaning="It is not trained, and DistributedDataParallel waits for it."
            if everywhere
            else "The processes' weights come apart, or the reduction waits for ever.",
            remedy="Freeze it (requires_grad_(False)), or pass find_unused_parameters=True.",
        )


def _overlap(notes: Findings, reports: Sequence[RankReport]) -> None:
    seen = [set(report.indices) for report in reports]
    if not all(seen) or len(seen) < 2:  # noqa: PLR2004
        return
    for report, own in zip(reports, seen):
        others = set().union(*(each for each in seen if each is not own))
        share = len(own & others) / len(own)
        notes.measure(f"samples shared by rank {report.rank}", share)
        if share > _OVERLAP:
            notes.critical(
                f"rank {report.rank}",
                "This process trains on samples that others train on too.",
                value=f"{percent(share)} of its samples",
                meaning="The work is done several times over, and an epoch is not what it seems.",
                remedy="Give each process its share: DistributedSampler, or split an iterable "
                "dataset by rank.",
            )


def _without_gradient(model: Any) -> List[str]:
    trained = [(name, each) for name, each in model.named_parameters() if each.requires_grad]
    without = [name for name, each in trained if each.grad is None]
    # Where there is no gradient at all, no step was made yet or they were cleared.
    return without if len(without) < len(trained) else []


def _sampled(loader: Any) -> List[int]:
    """The indices that a sampler which only depends on its epoch gives this process."""
    import torch

    sampler = getattr(loader, "sampler", None)
    if isinstance(sampler, torch.utils.data.DistributedSampler):
        return [int(index) for index in sampler]
    return []
