"""A training loop of one's own by several processes, with DistributedDataParallel.

    torchrun --nproc-per-node 2 examples/ddp_own_loop.py

Every rank watches its run; rank 0 records for all. Without torchrun it trains in one process. Needs
scikit-learn, whose handwritten digits it trains on.
"""

import argparse
import os

import onthefly
import torch
import torch.distributed as dist
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
    sampler, val_sampler = None, None
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
        model = DistributedDataParallel(model)
        sampler = DistributedSampler(training)
        val_sampler = DistributedSampler(validation, shuffle=False)
    train_loader = DataLoader(training, batch_size=32, sampler=sampler, shuffle=sampler is None)
    val_loader = DataLoader(validation, batch_size=256, sampler=val_sampler)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    loss_fn = nn.CrossEntropyLoss()

    def evaluate(batch):
        # Not the parallel one, whose forward pass would wait for the others.
        output = getattr(model, "module", model)(batch[0])
        accuracy = (output.argmax(dim=1) == batch[1]).float().mean()
        return {"loss": loss_fn(output, batch[1]), "accuracy": accuracy}

    with onthefly.watch(model, optimizer, project="digits", run_name="parallel-loop") as run:
        for epoch in run.epochs(epochs):
            if sampler is not None:
                sampler.set_epoch(epoch)
            for images, labels in run.batches(train_loader):
                optimizer.zero_grad()
                loss = loss_fn(model(images), labels)
                loss.backward()
                optimizer.step()
                run.step(loss=loss)
            # On every rank: the means are over the batches of all.
            found = run.evaluate(evaluate, val_loader)
    if not dist.is_initialized() or dist.get_rank() == 0:
        print(f"val_accuracy {found['val_accuracy']:.3f}")
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
