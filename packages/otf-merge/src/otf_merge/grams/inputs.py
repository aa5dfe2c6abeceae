"""What goes into a layer, as rows that its weight is multiplied with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator

#: How many numbers of a convolution's patches are held at a time.
_HELD = 1 << 24


def is_in_first(module: nn.Module) -> bool:
    """Whether it is a linear layer as the Transformers library has some, stored inputs first."""
    weight = getattr(module, "weight", None)
    if type(module).__name__ != "Conv1D" or not isinstance(weight, Tensor):
        return False
    return weight.dim() == 2 and weight.shape[1] == getattr(module, "nf", None)  # noqa: PLR2004


def rows_of(inputs: Tensor) -> Tensor:
    """The inputs of a linear layer as `(rows, 1, inputs)`: one group of rows."""
    return inputs.reshape(-1, 1, inputs.shape[-1])


def rows_of_convolution(module: Any, inputs: Tensor) -> Iterator[Tensor]:
    """The patches that a convolution's kernel meets, as `(rows, groups, inputs of a group)`.

    They are ordered as the weight is: by channel, then by place in the kernel. A portion of the
    samples comes at a time, since each number of the inputs is in many patches.
    """
    if inputs.dim() == len(module.kernel_size) + 1:
        inputs = inputs.unsqueeze(0)
    padded = _padded(module, inputs)
    numbers = math.prod(padded.shape[1:]) * math.prod(module.kernel_size)
    for portion in padded.split(max(1, _HELD // max(1, numbers))):
        yield _patches(module, portion)


def _patches(module: Any, inputs: Tensor) -> Tensor:
    """`(samples, channels, *places)` to `(samples * places, groups, channels / groups * kernel)`."""
    spatial = len(module.kernel_size)
    for place in range(spatial):
        dilation = module.dilation[place]
        reach = dilation * (module.kernel_size[place] - 1) + 1
        # Each becomes a dimension of places, and another at the end of what lies in the window.
        inputs = inputs.unfold(place + 2, reach, module.stride[place])[..., ::dilation]
    places = range(2, 2 + spatial)
    kernel = range(2 + spatial, 2 + 2 * spatial)
    rows = inputs.permute(0, *places, 1, *kernel)
    return rows.reshape(math.prod(rows.shape[: 1 + spatial]), module.groups, -1)


def _padded(module: Any, inputs: Tensor) -> Tensor:
    """The inputs with what the convolution puts around them."""
    amounts = []
    # The function that pads wants the last dimension first.
    for place in reversed(range(len(module.kernel_size))):
        if module.padding == "same":
            total = module.dilation[place] * (module.kernel_size[place] - 1)
            amounts += [total // 2, total - total // 2]
        else:
            amounts += [0, 0] if module.padding == "valid" else [module.padding[place]] * 2
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    return nn.functional.pad(inputs, amounts, mode=mode) if any(amounts) else inputs
