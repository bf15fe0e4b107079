"""What the attack tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from attack_models import Trained, train_small_net


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Networks this small only wait for a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def trained(one_thread: None) -> Trained:
    """A small conv net that is right about nearly all of 64 pictures; treat as read-only."""
    return train_small_net()
