from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _expected_of_this_test_alone(monkeypatch):
    # Rendezvous files and results lie in the test's own home; torchrun's variables are not ours.
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
