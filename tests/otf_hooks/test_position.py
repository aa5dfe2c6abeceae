"""Where training is in its data: written down, gone back to, and known beforehand where it fails."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from otf_hooks import checkpoint, randomness, sources
from otf_hooks.errors import CheckpointError
from otf_hooks.position import DataPosition, is_iterable_dataset, steps_per_epoch
from otf_hooks.snapshot import Snapshot
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

SIZE, BATCH = 22, 4
COUNT = 6
#: Each sample is its own index, so that a batch says which samples it is of.
NUMBERS = torch.arange(SIZE)


class Numbers(Dataset[Any]):
    def __init__(self, size=SIZE):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return index


class Drawing(Numbers):
    """Draws at random for each sample, from all global generators."""

    def __getitem__(self, index):
        random.random()
        np.random.rand()
        torch.rand(1)
        return index


class Stream(IterableDataset[Any]):
    def __iter__(self):
        return iter(range(SIZE))


class Remembers(Sampler[int]):
    """Each order is a shuffle of the one before, of which it keeps several accounts."""

    def __init__(self):
        self.order = list(range(SIZE))
        self.shared = self.order
        self.array = np.arange(SIZE, dtype="uint32")
        self.weights = torch.ones(SIZE)
        self.names = np.array(["not", "numbers"])
        self.epoch = 0

    def __len__(self):
        return SIZE

    def __iter__(self):
        self.epoch += 1
        random.shuffle(self.order)
        self.array = np.random.permutation(self.array)
        self.weights = self.weights + torch.rand(SIZE)
        found = torch.argsort(self.weights)
        return iter([self.order[self.array[index]] for index in found.tolist()])


class OwnNumpy(Sampler[int]):
    def __init__(self):
        self.generator = np.random.default_rng(3)
        self.older = np.random.RandomState(4)

    def __len__(self):
        return SIZE

    def __iter__(self):
        first = self.generator.permutation(SIZE)
        return iter(first[self.older.permutation(SIZE)].tolist())


class KeepsItself(Sampler[int]):
    """Says its state itself, which is in no plain attribute."""

    def __init__(self):
        self._state = ([5],)

    def __len__(self):
        return SIZE

    def __iter__(self):
        self._state = ([self._state[0][0] + 1],)
        order = list(range(SIZE))
        random.Random(self._state[0][0]).shuffle(order)
        return iter(order)

    def state_dict(self):
        return {"seed": self._state[0][0]}

    def load_state_dict(self, state):
        self._state = ([state["seed"]],)


def weighted():
    return WeightedRandomSampler(torch.arange(1.0, SIZE + 1).tolist(), SIZE)


def loader(dataset=None, **options):
    return DataLoader(Numbers() if dataset is None else dataset, **{"batch_size": BATCH, **options})


LOADERS = {
    "sequential": lambda: loader(),
    "shuffled": lambda: loader(shuffle=True),
    "drop-last": lambda: loader(shuffle=True, drop_last=True),
    "own-generator": lambda: loader(shuffle=True, generator=torch.Generator().manual_seed(2)),
    "drawing": lambda: loader(Drawing(), shuffle=True),
    "workers": lambda: loader(Drawing(), shuffle=True, num_workers=2),
    "weighted": lambda: loader(sampler=weighted()),
    "with-replacement": lambda: loader(sampler=RandomSampler(NUMBERS, replacement=True)),
    "subset": lambda: loader(sampler=SubsetRandomSampler(range(0, SIZE, 2))),
    "batch-sampler": lambda: DataLoader(
        Numbers(), batch_sampler=BatchSampler(RandomSampler(NUMBERS), BATCH, False)
    ),
    "batch-sampler-of-own": lambda: DataLoader(
        Numbers(), batch_sampler=BatchSampler(Remembers(), BATCH, False)
    ),
    "own-sampler": lambda: loader(sampler=Remembers()),
    "own-numpy": lambda: loader(sampler=OwnNumpy()),
    "keeps-itself": lambda: loader(sampler=KeepsItself()),
    "no-batches": lambda: loader(batch_size=None, shuffle=True),
    "iterable": lambda: loader(Stream()),
}


@pytest.fixture(params=LOADERS)
def name(request):
    return request.param


def made(name):
    for seed in (torch.manual_seed, random.seed, np.random.seed):
        seed(5)
    return LOADERS[name]()


def trained():
    """What a step draws, of all global generators."""
    return (float(torch.rand(1)), random.random(), float(np.random.rand()))


def numbers(batch):
    return batch.reshape(-1).tolist() if isinstance(batch, torch.Tensor) else [batch]


def bare(name, epochs=3):
    """Every batch, and what the step drew, in a loop without the product."""
    train_loader = made(name)
    return [(numbers(batch), trained()) for _ in range(epochs) for batch in train_loader]


class Training:
    """A loop through the product's position."""

    def __init__(self, name):
        self.loader = made(name)
        self.position = DataPosition(self.loader)
        self.step = 0
        self.seen = []

    def train(self, until=None, *, each=None):
        """Train to a step, or to the end of the third epoch."""
        while self.step != until:
            if not self.position.is_under_way:
                if self.position.epoch == 3:
                    return
                self.position.begin_epoch(self.position.epoch + 1, self.step)
            batch = next(self.position.batches(), None)
            if batch is None:
                self.position.end_epoch()
                continue
            self.seen.append((numbers(batch), trained()))
            self.step += 1
            if each is not None:
                each(self.step, numbers(batch))

    def saved(self, path):
        state = {
            "step": self.step,
            "data": self.position.capture(self.step),
            "random": randomness.as_plain(randomness.capture()),
        }
        return checkpoint.write(path, Snapshot(state).wait()).path

    def load(self, path):
        state = checkpoint.load(path)
        findings = self.position.restore(state["data"])
        self.step = state["step"]
        del self.seen[self.step :]
        randomness.restore(randomness.from_plain(state["random"]))
        return findings


# Going through and back


def test_the_batches_are_the_loaders_own(name):
    training = Training(name)
    training.train()
    assert training.seen == bare(name)


def test_a_place_is_gone_back_to_bit_for_bit(name, tmp_path):
    wanted = bare(name)
    training = Training(name)
    length = len(wanted) // 3
    for number, step in enumerate((2, length + 3, 2 * length)):
        training.train(step)
        path = training.saved(tmp_path / f"{number}.pt")
        training.train(step + 2)
        assert training.load(path) == []
        # In another process, where nothing has been drawn yet.
        other = Training(name)
        torch.manual_seed(99)
        assert other.load(path) == []
        other.train()
        assert other.seen == wanted[step:]
        assert training.load(path) == []
    training.train()
    assert training.seen == wanted


def test_between_two_epochs_a_place_is_gone_back_to(name, tmp_path):
    wanted = bare(name)
    length = len(wanted) // 3
    training = Training(name)
    training.train(length)
    assert next(training.position.batches(), None) is None
    training.position.end_epoch()
    path = training.saved(tmp_path / "a.pt")
    training.train()
    assert training.load(path) == []
    training.train()
    assert training.seen == wanted


def test_what_is_drawn_undisturbed_is_not_drawn(name):
    training = Training(name)

    def evaluate(step, batch):
        with training.position.undisturbed():
            trained()
            if name != "keeps-itself":
                sources_of_own = getattr(training.loader, "generator", None)
                if sources_of_own is not None:
                    torch.rand(3, generator=sources_of_own)

    training.train(each=evaluate)
    assert training.seen == bare(name)


# Indices


def test_the_indices_are_those_of_the_batch_that_was_read(name):
    training, found = Training(name), []
    training.train(each=lambda step, batch: found.append(training.position.indices(step) == batch))
    if name == "iterable":
        # Positions of whole batches; that the last has fewer samples, nobody knows beforehand.
        assert found == ([True] * 5 + [False]) * 3
    else:
        assert found == [True] * len(found)
    # To be asked leaves no trace.
    assert training.seen == bare(name)


def test_the_indices_of_the_epoch_before_can_still_be_told(name):
    training, batches = Training(name), {}
    training.train(each=batches.__setitem__)
    length = len(batches) // 3
    for step in (length + 1, length + 3, 2 * length - 1, 2 * length + 1, 3 * length - 1):
        assert training.position.indices(step) == batches[step]
    # Of the first they can no longer.
    assert training.position.indices(length) == []


def test_to_ask_for_the_epoch_before_leaves_no_trace(name):
    length = len(bare(name)) // 3
    training = Training(name)
    training.train(length + 2)
    assert training.position.indices(length - 1) == training.seen[length - 2][0]
    training.train()
    assert training.seen == bare(name)


def test_after_going_back_the_indices_are_the_same(name, tmp_path):
    training, batches = Training(name), {}
    training.train(3, each=batches.__setitem__)
    path = training.saved(tmp_path / "a.pt")
    training.train()
    other = Training(name)
    other.load(path)
    assert [other.position.indices(step) for step in (1, 2, 3)] == list(batches.values())


def test_the_positions_of_an_iterable_datasets_samples():
    training = Training("iterable")
    training.train(4)
    assert training.position.indices(2) == [4, 5, 6, 7]


class Pairs(Sampler[Any]):
    """Keys that are no numbers: an index and an augmentation."""

    def __len__(self):
        return 4

    def __iter__(self):
        return iter([(0, "flip"), (1, "crop"), (2, "flip"), (3, "crop")])


class Names(Sampler[Any]):
    def __len__(self):
        return 4

    def __iter__(self):
        return iter(["a", "b", "c", "d"])


class Tensors(Sampler[Any]):
    """Whole batches, as tensors."""

    def __len__(self):
        return 2

    def __iter__(self):
        return iter(torch.tensor([[3, 1], [0, 2]]))


class ByKey(Numbers):
    def __getitem__(self, key):
        return 0 if isinstance(key, (str, tuple)) else key


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"sampler": Pairs(), "batch_size": 2}, []),
        ({"sampler": Names(), "batch_size": 2}, []),
        ({"sampler": Names(), "batch_size": None}, []),
        ({"batch_sampler": Tensors()}, [3, 1]),
        ({"sampler": Tensors(), "batch_size": None}, [3, 1]),
    ],
)
def test_keys_that_are_no_indices_are_not_told(options, wanted):
    position = DataPosition(DataLoader(ByKey(), **options))
    position.begin_epoch(1, 0)
    next(position.batches())
    assert position.indices(1) == wanted


def test_loaders_of_other_kinds_have_no_indices():
    for train_loader in ([1, 2, 3], loader(Stream(), batch_size=None)):
        position = DataPosition(train_loader)
        position.begin_epoch(1, 0)
        assert next(position.batches()) is not None
        assert position.indices(1) == []


def test_before_anything_has_begun_there_are_none():
    assert DataPosition(made("shuffled")).indices(1) == []


# What samplers and datasets remember


def test_what_a_sampler_remembers_is_put_back_in_place():
    sampler = Remembers()
    train_loader = loader(sampler=sampler)
    list(train_loader)
    then = [list(sampler.order), sampler.array.tolist(), sampler.weights.tolist(), sampler.epoch]
    states = Snapshot(sources.capture(train_loader)).wait()
    list(train_loader)
    assert sources.restore(train_loader, states) == []
    now = [list(sampler.order), sampler.array.tolist(), sampler.weights.tolist(), sampler.epoch]
    assert now == then
    assert sampler.shared is sampler.order
    assert sampler.array.dtype == np.dtype("uint32")
    assert sampler.names.tolist() == ["not", "numbers"]


class OwnGenerators(Numbers):
    def __init__(self):
        super().__init__()
        self.numpy = np.random.default_rng(3)
        self.python = random.Random(4)
        self.torch = torch.Generator().manual_seed(5)

    def __getitem__(self, index):
        noise = [self.numpy.random(), self.python.random(), torch.rand(1, generator=self.torch)]
        return torch.tensor([float(value) for value in noise])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda dataset: dataset,
        lambda dataset: Subset(dataset, range(4)),
        lambda dataset: ConcatDataset([Numbers(2), dataset]),
        lambda dataset: Subset(ConcatDataset([dataset, dataset]), range(10)),
    ],
)
def test_the_generators_of_a_dataset_are_found_wherever_it_is(wrap):
    train_loader = loader(wrap(OwnGenerators()), batch_size=None)
    states = Snapshot(sources.capture(train_loader)).wait()
    first = [torch.as_tensor(batch).tolist() for batch in train_loader]
    assert [torch.as_tensor(batch).tolist() for batch in train_loader] != first
    sources.restore(train_loader, states)
    assert [torch.as_tensor(batch).tolist() for batch in train_loader] == first


def test_a_source_that_is_gone_is_named():
    training = Training("own-generator")
    training.train(3)
    state = Snapshot(training.position.capture(3)).wait()
    (finding,) = DataPosition(loader(shuffle=True)).restore(state)
    assert finding.startswith("train_loader.generator was drawn from when the checkpoint was made")


# What is known beforehand


class HoldsAnIterator(IterableDataset[Any]):
    def __init__(self):
        self.lines = iter(range(8))

    def __iter__(self):
        return self.lines


class HoldsAFile(HoldsAnIterator):
    def __init__(self, path):
        self.lines = path.open()


class SaysItsPlace(HoldsAnIterator):
    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        self.lines = iter(range(8))


def test_a_loader_that_can_be_gone_back_in_has_no_findings(name):
    assert DataPosition(made(name)).findings() == []


def test_a_dataset_that_holds_an_iterator_is_told_beforehand():
    (finding,) = DataPosition(loader(HoldsAnIterator())).findings()
    assert finding.startswith("train_loader.dataset.lines is a range_iterator, which can be read")
    assert "Open it in __iter__" in finding


def test_a_dataset_that_holds_a_file_is_told_beforehand(tmp_path):
    (tmp_path / "lines").write_text("1\n2\n")
    dataset = HoldsAFile(tmp_path / "lines")
    (finding,) = DataPosition(loader(dataset)).findings()
    assert "train_loader.dataset.lines is a TextIOWrapper" in finding
    dataset.lines.close()


def test_a_dataset_that_says_its_place_itself_is_taken_at_its_word():
    assert DataPosition(loader(SaysItsPlace())).findings() == []


def test_a_generator_as_a_loader_is_told_beforehand():
    (finding,) = DataPosition(batch for batch in [1, 2, 3]).findings()
    assert finding.startswith("train_loader is a generator, which can be read only once")


def test_persistent_workers_are_told_beforehand():
    train_loader = loader(num_workers=1, persistent_workers=True)
    (finding,) = DataPosition(train_loader).findings()
    assert "persistent_workers=True" in finding
    assert DataPosition(loader(num_workers=1)).findings() == []


# Another dataset


def test_fewer_samples_than_were_read_are_a_clear_error():
    training = Training("shuffled")
    training.train(4)
    state = Snapshot(training.position.capture(4)).wait()
    position = DataPosition(loader(Numbers(2 * BATCH), shuffle=True))
    position.restore(state)
    with pytest.raises(CheckpointError) as caught:
        next(position.batches())
    assert str(caught.value) == (
        "The checkpoint was made after 4 batches of an epoch, and train_loader yields 2 now. "
        "Resume with the data and the loader it was made with."
    )


@pytest.mark.parametrize("step", [4, COUNT])
@pytest.mark.parametrize("size", [SIZE - 1, SIZE + 1, 10 * SIZE])
def test_another_number_of_samples_is_told(size, step):
    training = Training("shuffled")
    training.train(step)
    if step == COUNT:
        assert next(training.position.batches(), None) is None
        training.position.end_epoch()
    state = Snapshot(training.position.capture(step)).wait()
    (finding,) = DataPosition(loader(Numbers(size), shuffle=True)).restore(state)
    assert f"{SIZE} samples" in finding
    assert f"{size} now" in finding
    assert DataPosition(loader(shuffle=True)).restore(state) == []


# What a loader knows of itself


def test_the_steps_of_an_epoch():
    assert steps_per_epoch(loader()) == COUNT
    assert steps_per_epoch(loader(drop_last=True)) == COUNT - 1
    assert steps_per_epoch([1, 2, 3]) == 3
    assert steps_per_epoch(loader(Stream())) is None
    assert steps_per_epoch(batch for batch in [1]) is None


def test_whether_a_dataset_is_only_iterated_over():
    assert is_iterable_dataset(loader(Stream()))
    assert not is_iterable_dataset(loader())
    assert not is_iterable_dataset([1, 2])
    assert not is_iterable_dataset(
        DataLoader(TensorDataset(NUMBERS), sampler=SequentialSampler(NUMBERS))
    )
