from __future__ import annotations

from typing import Iterator

import pytest

from ..forked import Forked


@pytest.fixture(scope="package")
def script() -> Iterator[Forked]:
    """The Trainers in processes of their own, which need not import transformers each time."""
    forked = Forked("tests.otf_hooks.transformers.trainers")
    yield forked
    forked.close()
