"""Another pass of the Trainer, from a state that training was put into."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator

import torch
from transformers import PreTrainedModel
from transformers.trainer import TRAINER_STATE_NAME
from transformers.utils import WEIGHTS_NAME

from .front import Pass
from .kept import state_to_begin_with


@contextlib.contextmanager
def folder_to_begin_from(state: Dict[str, Any], live: Pass, inside: Path) -> Iterator[Path]:
    """A folder like those that the Trainer saves, of which it takes the place in the data.

    The Trainer asks for weights in it, too. Everything else is put back from `state` when the pass
    has begun; the folder may be emptied then.
    """
    folder = Path(tempfile.mkdtemp(dir=inside, prefix=".pass-"))
    try:
        kept = {**state["trainer"], "global_step": int(state["step"])}
        begin = state_to_begin_with(kept, live.state)
        begin.save_to_json(str(folder / TRAINER_STATE_NAME))
        model: Any = live.model
        if isinstance(model, PreTrainedModel) or not hasattr(model, "save_pretrained"):
            torch.save(model.state_dict(), folder / WEIGHTS_NAME)
        else:
            # Adapters of PEFT, of which the Trainer looks for their own files.
            model.save_pretrained(str(folder))
        yield folder
    finally:
        empty(folder)


def empty(folder: Path) -> None:
    """The Trainer has read what it needs."""
    shutil.rmtree(folder, ignore_errors=True)
