"""What the attack tests share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from attack_models import Trained, train_small_net


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def seeded_on_one_thread() -> Iterator[None]:
    """Networks this small only wait for a second thread."""
    torch.manual_seed(0)
    with threads(1):
        yield


@pytest.fixture(scope="session")
def trained() -> Trained:
    """A small conv net that is right about nearly all of 64 pictures; treat as read-only."""
    with threads(1):
        return train_small_net()
