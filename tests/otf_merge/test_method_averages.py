"""`ema` against its recursion and against torch's own averaging."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from otf_merge.methods.ema import ema
from otf_merge.methods.swa import swa
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

SHAPES = [(), (0,), (7,), (5, 1), (2, 3, 4)]


def checkpoints(count: int, shape: tuple[int, ...] = (7,), seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randn((count, *shape), generator=generator, dtype=torch.float64))


def recursion(numbers: list[float], decays: list[float]) -> float:
    average = numbers[0]
    for number, decay in zip(numbers[1:], decays):
        average = decay * average + (1 - decay) * number
    return average


@given(
    st.integers(2, 9),
    st.sampled_from(SHAPES),
    st.sampled_from([0.0, 0.3, 0.9, 0.999]),
    st.booleans(),
)
def test_ema_is_its_recursion(
    count: int, shape: tuple[int, ...], decay: float, warmup: bool
) -> None:
    tensors = checkpoints(count, shape)
    decays = [min(decay, (1 + t) / (10 + t)) if warmup else decay for t in range(1, count)]
    columns = zip(*(tensor.flatten().tolist() for tensor in tensors))
    expected = [recursion(list(column), decays) for column in columns]
    result = ema(tensors, decay=decay, warmup=warmup)
    assert result.shape == shape
    wanted = torch.tensor(expected, dtype=torch.float64).reshape(shape)
    torch.testing.assert_close(result, wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_without_bias_only_age_tells_the_shares(decay: float) -> None:
    tensors = checkpoints(6)
    moving = torch.zeros(7, dtype=torch.float64)
    for tensor in tensors:
        moving = decay * moving + (1 - decay) * tensor
    expected = moving / (1 - decay**6)
    torch.testing.assert_close(
        ema(tensors, decay=decay, debias=True), expected, rtol=1e-9, atol=1e-12
    )


def test_at_the_default_decay_the_first_checkpoint_is_nearly_all() -> None:
    ones = [torch.ones(1), *[torch.zeros(1)] * 4]
    assert ema(ones).item() == pytest.approx(0.999**4)
    assert ema(ones, debias=True).item() == pytest.approx(0.2, abs=1e-3)
    assert ema(ones, warmup=True).item() == pytest.approx(2 / 11 * 3 / 12 * 4 / 13 * 5 / 14)


def test_without_decay_the_last_checkpoint_is_all() -> None:
    tensors = checkpoints(3)
    assert torch.equal(ema(tensors, decay=0.0), tensors[-1])
    assert torch.equal(ema(tensors, decay=0.0, debias=True), tensors[-1])


@settings(max_examples=10)
@given(st.integers(0, 1000), st.integers(2, 8), st.sampled_from([0.5, 0.9, 0.999]))
def test_ema_is_what_torch_averages(seed: int, count: int, decay: float) -> None:
    torch.manual_seed(seed)
    snapshots = [torch.nn.Linear(4, 3) for _ in range(count)]
    averaged = AveragedModel(snapshots[0], multi_avg_fn=get_ema_multi_avg_fn(decay))
    for snapshot in snapshots:
        averaged.update_parameters(snapshot)
    for name, expected in averaged.module.state_dict().items():
        tensors = [snapshot.state_dict()[name].double() for snapshot in snapshots]
        torch.testing.assert_close(
            ema(tensors, decay=decay).float(), expected, rtol=1e-5, atol=1e-6
        )


def test_the_order_of_checkpoints_matters_to_ema_alone() -> None:
    tensors = checkpoints(3)
    assert not ema.symmetric
    assert swa.symmetric
    assert not torch.allclose(ema(tensors, decay=0.5), ema(tensors[::-1], decay=0.5))
