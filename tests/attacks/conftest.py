"""What the attack tests share."""

from __future__ import annotations

import pytest
import torch
from attack_models import Trained, train_small_net


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def trained() -> Trained:
    """A small conv net that is right about nearly all of 64 pictures; treat as read-only."""
    return train_small_net()
