"""Low-rank adapters as PEFT writes them, and their products by the definition."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .conftest import safetensors_bytes

PREFIX = "base_model.model."


def factors(
    seed: int,
    shapes: Mapping[str, tuple[int, int]],
    rank: int = 4,
    dtype: torch.dtype = torch.float32,
    prefix: str = PREFIX,
) -> dict[str, Tensor]:
    """A random adapter: for each module's `(outputs, inputs)` the two factors."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for module, (outputs, inputs) in shapes.items():
        a = torch.randn(rank, inputs, generator=generator)
        b = torch.randn(outputs, rank, generator=generator)
        found[f"{prefix}{module}.lora_A.weight"] = a.to(dtype)
        found[f"{prefix}{module}.lora_B.weight"] = b.to(dtype)
    return found


def folder(path: Path, tensors: Mapping[str, Tensor], **config: Any) -> Path:
    """A PEFT folder; the configuration has PEFT's defaults where nothing is said."""
    path.mkdir()
    (path / "adapter_model.safetensors").write_bytes(safetensors_bytes(dict(tensors)))
    defaults = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["fc1", "fc2"],
        "rank_pattern": {},
        "alpha_pattern": {},
        "use_rslora": False,
        "use_dora": False,
        "bias": "none",
        "modules_to_save": None,
        "init_lora_weights": True,
    }
    (path / "adapter_config.json").write_text(json.dumps({**defaults, **config}))
    return path


def config_of(path: Path) -> dict[str, Any]:
    """The configuration in a folder."""
    found: dict[str, Any] = json.loads((path / "adapter_config.json").read_text())
    return found


def product(tensors: Mapping[str, Tensor], module: str, prefix: str = PREFIX) -> Tensor:
    """`B @ A` in float64, by the definition."""
    a = tensors[f"{prefix}{module}.lora_A.weight"].double().flatten(1)
    b = tensors[f"{prefix}{module}.lora_B.weight"].double().flatten(1)
    return b @ a


def distance(found: Tensor, expected: Tensor) -> float:
    """The relative error in the Frobenius norm."""
    return float((found - expected).norm() / expected.norm())
