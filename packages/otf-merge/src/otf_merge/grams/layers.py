"""What is known of the inputs of a model's linear layers, and how it is kept in files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..checkpoints.atomic import replacing
from ..checkpoints.checkpoint import Contents
from ..checkpoints.formats import format_of, open_checkpoint
from ..errors import InvalidInputs, OutputRefused
from ..merged import Whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: The key under which files of `torch.save`, also training checkpoints, keep Gram matrices.
KEY = "grams"

_GRAM, _ROWS, _IN_FIRST = ".gram", ".rows", ".in_first"
_DIMENSIONS = 3


@dataclass(frozen=True)
class LayerGram:
    """The Gram matrices of one layer's inputs: `X.T @ X`, added up over `rows` rows of X.

    `matrix` has the shape `(groups, d, d)`. The rows of the weight, its outputs, lie in as many
    equal groups, each with inputs of its own: in one group mostly, and in several for grouped
    convolutions or where one weight projects queries, keys and values. d is the number of inputs
    of a group, and one more where the layer has a bias, which is a last input that is always 1.
    The weight is stored with its outputs first, as `torch.nn.Linear` does it, unless `in_first`.
    """

    matrix: Tensor
    rows: int
    in_first: bool = False

    @property
    def mean(self) -> Tensor:
        """The mean over the rows, in float64."""
        return self.matrix.to(torch.float64) / self.rows


class Grams(Mapping[str, LayerGram]):
    """The Gram matrices of a model's layers, by the names of the layers' weights.

    In a file, and under the key `grams` in a checkpoint, a layer whose weight is `fc.weight` has
    the tensors `fc.weight.gram` of shape `(groups, d, d)`, in float32, and `fc.weight.rows`, a
    whole number; `fc.weight.in_first`, a truth value, is there where it is true. Such a file may be
    of `torch.save` or of safetensors.
    """

    def __init__(self, layers: Mapping[str, LayerGram]) -> None:
        self._layers = dict(layers)

    def __getitem__(self, name: str) -> LayerGram:
        return self._layers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def renamed(self, names: Mapping[str, str]) -> Grams:
        """The layers that `names` has names for, under these."""
        return Grams({new: self[old] for old, new in names.items() if old in self})

    def state(self) -> dict[str, Tensor]:
        """The tensors of a file, or of the key `grams` in a checkpoint."""
        state = {}
        for name, layer in self.items():
            state[name + _GRAM] = layer.matrix.detach().to("cpu", torch.float32)
            state[name + _ROWS] = torch.tensor(layer.rows)
            if layer.in_first:
                state[name + _IN_FIRST] = torch.tensor(True)
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], source: str = "The state") -> Grams:
        """The Gram matrices that `state` was made of; `source` is what to call it in messages.

        Raises `InvalidInputs` where there are none, or where they are of another form.
        """
        layers = {}
        for key, matrix in state.items():
            name = key[: -len(_GRAM)]
            if not key.endswith(_GRAM):
                continue
            rows = state.get(name + _ROWS)
            _require_gram(source, name, matrix, rows)
            layers[name] = LayerGram(matrix, int(rows or 0), bool(state.get(name + _IN_FIRST)))
        if not layers:
            raise InvalidInputs(
                f"{source} holds no Gram matrices, that is no tensors `WEIGHT{_GRAM}` and "
                f"`WEIGHT{_ROWS}`. `otf_merge.grams.Grams.save` writes a file that does."
            )
        return cls(layers)

    def save(self, path: Path) -> None:
        """Write a file, of the format that its suffix says, whole or not at all."""
        held = Whole(self.state())
        contents = Contents(held.specs, held.stream, {}, nesting=KEY)
        try:
            with replacing(path) as file:
                format_of(path, OutputRefused).write(file, contents)
        except OSError as error:
            raise OutputRefused(
                f"`{path}` cannot be written: {error.strerror or error}. Nothing was left behind."
            ) from error

    @classmethod
    def load(cls, path: Path) -> Grams:
        """Read a file that `save` wrote, or a checkpoint of `torch.save` that has the key `grams`."""
        file = open_checkpoint(path, None if path.suffix.lower() == ".safetensors" else KEY)
        try:
            state = {
                name: file.read(name).reshape(spec.shape).clone()
                for name, spec in file.specs.items()
            }
        finally:
            file.close()
        return cls.from_state(state, f"`{path}`")


def _require_gram(source: str, name: str, matrix: Tensor, rows: Tensor | None) -> None:
    square = matrix.dim() == _DIMENSIONS and matrix.shape[1] == matrix.shape[2]
    if not square or rows is None or rows.numel() != 1 or int(rows) < 1:
        raise InvalidInputs(
            f"{source} has for `{name}` no Gram matrices of shape (groups, d, d) with the number "
            f"of rows that they were added up over, but a tensor of {list(matrix.shape)}. Compute "
            "them anew."
        )
    if not bool(torch.isfinite(matrix).all()):
        raise InvalidInputs(
            f"{source} has for `{name}` a Gram matrix with NaN or infinity. Look at the data that "
            "it was computed from."
        )
