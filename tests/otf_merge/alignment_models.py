"""Small networks to align, of the kinds that there are rules for, and what the tests do with them."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from otf_merge.alignment.units import Permutations, PermutationSpec
from otf_merge.checkpoints.checkpoint import Checkpoint, TensorSpec
from otf_merge.parents import Parent
from otf_merge.task import Task
from torch import Tensor, nn


class InMemory(Checkpoint):
    """A state dict as a checkpoint."""

    def __init__(self, state: dict[str, Tensor], name: str = "model") -> None:
        specs = {key: TensorSpec(it.dtype, tuple(it.shape)) for key, it in state.items()}
        super().__init__(Path(name), specs)
        self.state = state

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        return self.state[name].detach().reshape(-1)[start:stop]

    def close(self) -> None:
        pass


def parent_of(state: dict[str, Tensor], name: str = "model") -> Parent:
    return Parent(InMemory(state, name), {key: key for key in state})


def randomized(model: nn.Module, seed: int) -> nn.Module:
    """A copy with random weights and statistics, of which no two are alike."""
    model = copy.deepcopy(model).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                drawn = torch.randn(tensor.shape, generator=generator) * 0.5
                tensor.copy_(0.5 + drawn.abs() if name.endswith("running_var") else drawn)
    return model


def permuted_state(
    state: dict[str, Tensor], spec: PermutationSpec, permutations: Permutations
) -> dict[str, Tensor]:
    return {name: spec.permuted(name, it, permutations) for name, it in state.items()}


def task_of(model: nn.Module, *shape: int, whole: bool = False) -> Task:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(4, *shape, generator=generator)
    if whole:
        inputs = torch.randint(0, 11, (4, *shape), generator=generator)
    return Task(model=lambda: copy.deepcopy(model), validation=[(inputs, torch.zeros(4).long())])


def mlp(*widths: int, norm: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = []
    for into, out in zip(widths, widths[1:-1]):
        layers.append(nn.Linear(into, out))
        if norm:
            layers.append(nn.BatchNorm1d(out))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


class Convolutions(nn.Module):
    """Two convolutions with norms, one of them depthwise, flattened into two linear layers."""

    def __init__(self, first: int = 6, second: int = 5, hidden: int = 7) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, first, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(first)
        self.conv2 = nn.Conv2d(first, 2 * first, 3, padding=1, groups=first)
        self.conv3 = nn.Conv2d(2 * first, second, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(second)
        self.fc1 = nn.Linear(second * 9, hidden)
        self.fc2 = nn.Linear(hidden, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu(self.bn1(self.conv1(x)))
        x = nn.functional.max_pool2d(self.conv2(x), 2)
        x = nn.functional.adaptive_avg_pool2d(nn.functional.relu(self.bn2(self.conv3(x))), 3)
        x = torch.flatten(x, 1)
        output: Tensor = self.fc2(self.fc1(x).relu())
        return output


class Block(nn.Module):
    def __init__(
        self, into: int, out: int, stride: int = 1, *, norm: type = nn.BatchNorm2d
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(into, out, 3, stride, 1, bias=False)
        self.norm1 = norm(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm2 = norm(out)
        self.down = nn.Sequential()
        if stride > 1 or into != out:
            self.down = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), norm(out))

    def forward(self, x: Tensor) -> Tensor:
        out = nn.functional.relu(self.norm1(self.conv1(x)))
        return nn.functional.relu(self.norm2(self.conv2(out)) + self.down(x))


class ResNet(nn.Module):
    def __init__(self, width: int = 6, wide: int = 8, *, norm: type = nn.BatchNorm2d) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), norm(width), nn.ReLU())
        self.layer1 = nn.Sequential(Block(width, width, norm=norm), Block(width, width, norm=norm))
        self.layer2 = nn.Sequential(Block(width, wide, 2, norm=norm))
        self.head = nn.Linear(wide, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(self.stem(x)))
        output: Tensor = self.head(x.mean((2, 3)))
        return output


class Mixed(nn.Module):
    """Embedding, a parameter used by itself, two branches that are joined, and tied layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.position = nn.Parameter(torch.randn(3, 6))
        self.norm = nn.LayerNorm(6)
        self.left = nn.Linear(6, 5)
        self.right = nn.Linear(6, 4)
        self.again = nn.Linear(9, 9)
        self.slope = nn.PReLU(9)
        self.out = nn.Linear(9, 6)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        stream = self.norm(self.embed(x) + self.position)
        joined = torch.cat(
            [nn.functional.gelu(self.left(stream)), self.right(stream).tanh()], dim=-1
        )
        joined = self.slope(self.again(joined).transpose(1, 2)).transpose(1, 2)
        stream = stream + self.out(nn.functional.silu(self.again(joined)))
        output: Tensor = self.head(stream.amax(1))
        return output
