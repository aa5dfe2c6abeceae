"""A small BERT that reads handwritten digits as text, watched and steered while it trains.

    python examples/transformers_finetune.py

Needs scikit-learn, whose digits it spells out, a word for each row of dots, and transformers with
accelerate. The model is made from a config: nothing is downloaded.
"""

import argparse
import tempfile

import numpy as np
import torch
from onthefly import OnTheFlyTransformersCallback
from sklearn.datasets import load_digits
from torch.utils.data import Dataset, Subset, random_split
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

#: From here on a dot is black.
BLACK = 8


class SpelledDigits(Dataset):
    """Each digit as a text of eight words such as `..##.#..`, and which digit it is."""

    def __init__(self) -> None:
        images = load_digits()
        self.digits = images.target
        self.texts = [
            " ".join("".join("#" if dot >= BLACK else "." for dot in row) for row in image)
            for image in images.images
        ]
        words = sorted({word for text in self.texts for word in text.split()})
        self.vocabulary = {word: number for number, word in enumerate(words)}

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> dict:
        words = [self.vocabulary[word] for word in self.texts[index].split()]
        return {"input_ids": torch.tensor(words), "labels": int(self.digits[index])}


def accuracy(prediction) -> dict:
    """The share of digits that were read right."""
    return {"accuracy": float(np.mean(prediction.predictions.argmax(-1) == prediction.label_ids))}


def main() -> None:
    """Train for as many epochs as asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--samples", type=int, default=1797, help="how many of the 1797 digits")
    options = parser.parse_args()

    torch.manual_seed(0)
    digits = SpelledDigits()
    some = Subset(digits, range(options.samples))
    training, validation, test = random_split(some, [0.8, 0.1, 0.1])
    config = BertConfig(
        vocab_size=len(digits.vocabulary),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=8,
        num_labels=10,
        initializer_range=0.1,
    )
    callback = OnTheFlyTransformersCallback(
        project="digits", run_name="bert", test_dataset=test, ckpt_every_steps=200
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=BertForSequenceClassification(config),
            args=TrainingArguments(
                output_dir=folder,
                num_train_epochs=options.epochs,
                per_device_train_batch_size=32,
                learning_rate=2e-3,
                logging_steps=10,
                eval_strategy="epoch",
                save_strategy="no",
                report_to=[],
            ),
            train_dataset=training,
            eval_dataset=validation,
            compute_metrics=accuracy,
            callbacks=[callback],
        )
        # With the Trainer at hand it can evaluate on request, go back, extend and be resumed.
        callback.attach(trainer)
        steps = trainer.train().global_step
        print(f"accuracy {trainer.evaluate()['eval_accuracy']:.3f} after {steps} steps")


if __name__ == "__main__":
    main()
