"""What every rank needs and takes seconds to import, imported once for all."""

import torch._dynamo
import torch.distributed.checkpoint.state_dict
import torch.distributed.fsdp
import torch.distributed.optim  # noqa: F401

from . import work  # noqa: F401
