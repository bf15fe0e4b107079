"""Fixtures that the tests of loaders share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import pytest

from robustkit.data.pictures import Preprocess

Refuses = Callable[[type[Exception], str], AbstractContextManager[None]]


@pytest.fixture
def refuses() -> Refuses:
    """Exactly this exception, its message one line that matches."""

    @contextmanager
    def check(kind: type[Exception], pattern: str) -> Iterator[None]:
        with pytest.raises(kind) as caught:
            yield
        assert caught.type is kind
        assert isinstance(caught.value, ValueError)
        message = str(caught.value)
        assert "\n" not in message
        assert re.search(pattern, message), message

    return check


@dataclass
class Stand:
    """As much of a model as the data asks about."""

    num_classes: int = 3
    labels: tuple[str, ...] | None = None
    preprocess: Preprocess = field(default_factory=lambda: Preprocess((8, 8), 3))
    name: str = "stand-in"


@pytest.fixture
def stand() -> type[Stand]:
    return Stand
