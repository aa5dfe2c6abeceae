import random

import numpy as np
import torch
from otf_hooks import checkpoint, randomness


def draw():
    return random.random(), float(np.random.rand()), float(torch.rand(())), random.gauss(0, 1)


def test_draws_inside_leave_no_trace():
    randomness.seed_all(3)
    random.gauss(0, 1)
    state = randomness.capture()
    expected = draw()
    randomness.restore(state)
    with randomness.preserved():
        draw()
    assert draw() == expected


def test_the_state_survives_a_checkpoint(tmp_path):
    randomness.seed_all(4)
    written = checkpoint.write(
        tmp_path / "a.pt", {"random": randomness.as_plain(randomness.capture())}
    )
    expected = draw()
    loaded = torch.load(written.path, weights_only=True)["random"]
    randomness.restore(randomness.from_plain(loaded))
    assert draw() == expected


def test_the_same_seed_gives_the_same_draws():
    randomness.seed_all(5)
    first = draw()
    randomness.seed_all(5)
    assert draw() == first
