"""Small Trainers that must be exact, bit for bit, and a way to give commands after certain steps.

As a script, `python -m tests.otf_hooks.transformers.trainers NAME OUT [AT=ACTION ...]` trains one of
them and writes its weights to OUT. Each `AT=ACTION` says what happens after step AT.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from typing import Any, Callable, Dict, List

import numpy as np
import torch
import transformers
from otf_hooks import OnTheFlyTransformersCallback
from otf_session.commands import Command, CommandRequest, SaveCheckpoint
from torch.utils.data import Dataset, IterableDataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    EarlyStoppingCallback,
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

SAMPLES, BATCH, EPOCHS = 40, 4, 3
STEPS_PER_EPOCH = SAMPLES // BATCH
STEPS = EPOCHS * STEPS_PER_EPOCH

transformers.logging.set_verbosity_error()


class Sentences(Dataset[Any]):
    """Made-up sentences of eight words, and whether their words come late in the vocabulary."""

    def __init__(self, samples: int = SAMPLES) -> None:
        generator = torch.Generator().manual_seed(7)
        self.words = torch.randint(1, 32, (samples, 8), generator=generator)
        self.late = (self.words.sum(dim=1) > 128).long()

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, index: int) -> Dict[str, torch.Tensor]:
        return {"input_ids": self.words[index], "labels": self.late[index]}


class Texts(Sentences):
    """The same, to be continued word by word."""

    def __getitem__(self, index: int) -> Dict[str, torch.Tensor]:
        return {"input_ids": self.words[index], "labels": self.words[index]}


class Stream(IterableDataset[Any]):
    """Sentences without indices, in an order that depends on how often they were read."""

    def __init__(self) -> None:
        self.inner = Sentences(160)
        self.passes = 0

    def __iter__(self) -> Any:
        self.passes += 1
        order = list(range(len(self.inner)))
        random.Random(self.passes).shuffle(order)
        return iter([self.inner[index] for index in order])


def bert() -> Any:
    """A BERT of one layer, with dropout."""
    config = BertConfig(
        vocab_size=32,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        num_labels=2,
    )
    return BertForSequenceClassification(config)


def gpt() -> Any:
    """A GPT of one layer, with dropout."""
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=32, n_positions=16, n_embd=16, n_layer=1, n_head=2, bos_token_id=0,
            eos_token_id=0,
        )
    )  # fmt: skip


def accuracy(prediction: Any) -> Dict[str, float]:
    """For `compute_metrics`."""
    chosen = np.argmax(prediction.predictions, axis=-1)
    return {"accuracy": float((chosen == prediction.label_ids).mean())}


def make_trainer(
    model: Callable[[], Any] = bert,
    data: Any = None,
    callbacks: Any = (),
    trainer: Dict[str, Any] = {},  # noqa: B006
    **args: Any,
) -> Trainer:
    """A Trainer from the beginning, the same each time."""
    # Sums come out differently when they are shared among another number of threads.
    torch.set_num_threads(1)
    for seed in (torch.manual_seed, random.seed, np.random.seed):
        seed(1)
    # Older versions leave the precision of one Trainer to those that are made after it.
    os.environ.pop("ACCELERATE_MIXED_PRECISION", None)
    given = {
        "output_dir": tempfile.mkdtemp(prefix="trainer-"),
        "per_device_train_batch_size": BATCH,
        "num_train_epochs": EPOCHS,
        "learning_rate": 1e-2,
        "logging_steps": 4,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        **args,
    }
    return Trainer(
        model=model(),
        args=TrainingArguments(**given),
        train_dataset=Sentences() if data is None else data,
        eval_dataset=(Texts if isinstance(data, Texts) else Sentences)(16),
        callbacks=list(callbacks),
        **trainer,
    )


#: Each makes a Trainer, with the callbacks that it is handed.
SCENARIOS: Dict[str, Callable[..., Trainer]] = {
    "dropout": lambda callbacks: make_trainer(callbacks=callbacks),
    "accumulation": lambda callbacks: make_trainer(
        gpt,
        Texts(2 * SAMPLES),
        callbacks,
        gradient_accumulation_steps=2,
        lr_scheduler_type="cosine",
        warmup_steps=4,
        prediction_loss_only=True,
    ),
    "bf16": lambda callbacks: make_trainer(callbacks=callbacks, bf16=True),
    "evaluated": lambda callbacks: make_trainer(
        callbacks=[EarlyStoppingCallback(early_stopping_patience=30), *callbacks],
        trainer={"compute_metrics": accuracy},
        eval_strategy="steps",
        eval_steps=5,
        save_strategy="steps",
        save_steps=10,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
    ),
    "evaluated-by-epoch": lambda callbacks: make_trainer(
        callbacks=callbacks, eval_strategy="epoch", save_strategy="epoch", save_total_limit=1
    ),
    "plateau": lambda callbacks: make_trainer(
        callbacks=callbacks,
        lr_scheduler_type="reduce_lr_on_plateau",
        lr_scheduler_kwargs={"patience": 0, "factor": 0.7, "threshold": 0.5},
        metric_for_best_model="loss",
        eval_strategy="steps",
        eval_steps=5,
    ),
    "stream": lambda callbacks: make_trainer(
        data=Stream(), callbacks=callbacks, max_steps=STEPS, num_train_epochs=1
    ),
    "workers": lambda callbacks: make_trainer(callbacks=callbacks, dataloader_num_workers=2),
    "progress": lambda callbacks: make_trainer(
        callbacks=callbacks, disable_tqdm=False, eval_strategy="steps", eval_steps=7
    ),
}


class Planned(TrainerCallback):
    """Gives commands after certain steps, each once; they come at the safe point behind the step."""

    def __init__(self, callback: Any) -> None:
        self.callback = callback
        self.plan: Dict[int, List[Any]] = {}

    @property
    def engine(self) -> Any:
        """The newest one; it is still known when training is over."""
        if self.callback._training is not None:
            self._engine = self.callback._training.engine
        return self._engine

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # One that is told of a step which is going to be undone gives nothing.
        if self.callback._training._left is not None:
            return
        assert self.engine
        for what in self.plan.pop(state.global_step, []):
            if isinstance(what, Command.__args__):
                request = CommandRequest(id=f"{id(what)}", author="test", command=what)
                self.engine.desk.receive(request)
            else:
                what(self.engine)


class Steered:
    """A Trainer with the callback, and commands that are given after certain steps."""

    def __init__(
        self, make: Callable[..., Trainer], *, attach: bool = True, **options: Any
    ) -> None:
        options = {"project": "exact", "run_name": "baseline", "auto_connect": False, **options}
        self.callback = OnTheFlyTransformersCallback(**options)
        self.planned = Planned(self.callback)
        self.trainer = make([self.planned, self.callback])
        if attach:
            self.callback.attach(self.trainer)

    def at(self, step: int, *what: Any) -> Steered:
        self.planned.plan.setdefault(step, []).extend(what)
        return self

    @property
    def engine(self) -> Any:
        return self.planned.engine

    @property
    def folder(self) -> Any:
        return self.callback._folder

    def run(self, **options: Any) -> Dict[str, torch.Tensor]:
        self.output = self.trainer.train(**options)
        return weights(self.trainer)


def weights(trainer: Trainer) -> Dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def bare(name: str) -> Dict[str, torch.Tensor]:
    """What the Trainer comes to without the callback."""
    trainer = SCENARIOS[name]([])
    trainer.train()
    return weights(trainer)


def kill(engine: Any) -> None:
    engine.keeper.flush()
    # Longer than the writer's interval, so that the record has what was saved.
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    name, out, *plan = sys.argv[1:]
    steered = Steered(SCENARIOS[name])

    def fail(model: Any, args: Any) -> None:
        raise ValueError("a bad batch")

    def spoil(engine: Any) -> None:
        """The next step fails in its forward pass."""
        steered.trainer.model.register_forward_pre_hook(fail)

    for item in plan:
        step, _, action = item.partition("=")
        actions = {"save": SaveCheckpoint(), "kill": kill, "spoil": spoil}
        steered.at(int(step), actions[action])
    torch.save(steered.run(), out)


if __name__ == "__main__":
    main()
