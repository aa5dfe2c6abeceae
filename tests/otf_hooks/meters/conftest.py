import pytest
import torch


@pytest.fixture(autouse=True)
def _optimizers_call_their_hooks():
    """torch 2.2 has them called no more once anything was compiled in the process."""
    called = []
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    optimizer.register_step_pre_hook(lambda *args: called.append(args))
    optimizer.step()
    if not called and not hasattr(torch.compiler, "is_compiling"):
        pytest.skip("a test before this one compiled a model, and this is torch 2.2")
