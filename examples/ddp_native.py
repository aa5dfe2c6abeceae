"""Training by several processes: `Trainer` with DistributedDataParallel.

    torchrun --nproc-per-node 2 examples/ddp_native.py

Rank 0 records and talks for all; a command takes effect at the same step on every rank. Without
torchrun it trains in one process. Needs scikit-learn, whose handwritten digits it trains on.
"""

import argparse
import os

import torch
import torch.distributed as dist
from onthefly import Trainer
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset, random_split


def main() -> None:
    """Train for as many epochs as asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    epochs = parser.parse_args().epochs

    torch.manual_seed(0)
    data = load_digits(return_X_y=True)
    digits = TensorDataset(torch.tensor(data[0]).float() / 16, torch.tensor(data[1]).long())
    training, validation = random_split(digits, [0.8, 0.2])
    model: nn.Module = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    samplers = None, None
    if "RANK" in os.environ:
        # On GPUs: the backend "nccl", and the model on the device of LOCAL_RANK.
        dist.init_process_group("gloo")
        model = DistributedDataParallel(model)
        samplers = DistributedSampler(training), DistributedSampler(validation, shuffle=False)

    trainer = Trainer(project="digits", run_name="parallel", max_epochs=epochs, reduce_metrics=True)
    result = trainer.fit(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.3),
        loss_fn=nn.CrossEntropyLoss(),
        # The Trainer tells the sampler each epoch.
        train_loader=DataLoader(
            training, batch_size=32, sampler=samplers[0], shuffle=samplers[0] is None
        ),
        val_loader=DataLoader(validation, batch_size=256, sampler=samplers[1]),
    )
    if not dist.is_initialized() or dist.get_rank() == 0:
        print(f"val_accuracy {result.metrics['val_accuracy']:.3f} after {result.step} steps")
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
