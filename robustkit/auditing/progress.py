"""Progress of an audit, told to whoever watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from robustkit.attacks.model.classifier import Classifier

Watch = Callable[[str, int, int, int], None]  # what is going on, samples done with it, samples in all, queries


class Progress:
    """Tells a `watch` what is going on, how many samples are done with it, and how many queries it took.

    Args:
        watch: is told.
        model: whose queries are counted.
        total: samples in all.
    """

    def __init__(self, watch: Watch, model: Classifier, total: int) -> None:
        self.watch = watch
        self.model = model
        self.total = total
        self.stage, self.done, self.base = "", 0, 0

    def enter(self, stage: str, done: int) -> None:
        """Begin something, with so many samples done already."""
        self.stage, self.done, self.base = stage, done, self.model.forwards
        self.tell()

    def tell(self) -> None:
        self.watch(self.stage, self.done, self.total, self.model.forwards - self.base)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Tell at each query of the model, too."""
        before, self.model.listener = self.model.listener, self.tell
        try:
            yield
        finally:
            self.model.listener = before
