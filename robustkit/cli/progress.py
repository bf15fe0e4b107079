"""Progress of an audit on standard error: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from robustkit.auditing.progress import Watch

_EVERY = 10.0  # seconds between lines in a log


@contextmanager
def progress_display() -> Iterator[Watch]:
    """Give a `watch` for an audit, drawn on standard error."""
    if sys.stderr.isatty():
        with _bar() as watch:
            yield watch
    else:
        yield _Lines()


@contextmanager
def _bar() -> Iterator[Watch]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("samples, {task.fields[queries]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("starting", total=None, queries="")

        def watch(stage: str, done: int, total: int, queries: int) -> None:
            progress.update(task, description=stage, completed=done, total=total, queries=f"{queries:,} queries")

        yield watch


class _Lines:
    """Lines for a log: one when a stage begins for the first time, and one every ten seconds."""

    def __init__(self) -> None:
        self.started = self.last = time.monotonic()
        self.stages: set[str] = set()

    def __call__(self, stage: str, done: int, total: int, queries: int) -> None:
        now = time.monotonic()
        if stage not in self.stages or now - self.last >= _EVERY:
            self.stages.add(stage)
            self.last = now
            taken = f", {queries:,} queries" if queries else ""
            print(
                f"[{now - self.started:4.0f} s] {stage}: {done} of {total} samples{taken}", file=sys.stderr, flush=True
            )
