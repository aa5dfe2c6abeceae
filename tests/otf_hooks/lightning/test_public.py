"""The front touches nothing of Lightning's that is not public, and patches nothing."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

pytest.importorskip("lightning")

from otf_hooks.fronts import lightning as front

from .scenarios import LIGHTNING_WARNS, L, Net, Steered, shuffled

pytestmark = pytest.mark.filterwarnings(*LIGHTNING_WARNS)

_FILES = sorted(Path(front.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.name)
def test_only_what_is_its_own_has_an_underscore(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            dunder = node.attr.startswith("__") and node.attr.endswith("__")
            owner = ast.unparse(node.value)
            assert dunder or owner in ("self", "super()"), f"{path.name}: {ast.unparse(node)}"


def test_classes_and_methods_are_afterwards_what_they_were():
    def everything(trainer, module):
        fit = trainer.fit_loop
        parts = [trainer, module, fit, fit.epoch_loop.val_loop, trainer.strategy]
        kinds = [*map(type, parts), type(fit.epoch_loop)]
        # Python itself notes under dunder names how a class is copied.
        return [{k: v for k, v in vars(kind).items() if k[:2] != "__"} for kind in kinds]

    steered = Steered("plain", max_epochs=1)
    plain = L.Trainer(accelerator="cpu", logger=False, max_epochs=1, enable_checkpointing=False)
    module = Net()
    plain.fit(module, shuffled())
    wanted = everything(plain, module)
    steered.run()
    found = everything(steered.trainer, steered.module)
    assert found == wanted
    assert isinstance(steered.handle.callback, L.Callback)
