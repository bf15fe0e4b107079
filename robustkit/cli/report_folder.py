"""Folders of reports: a report is built beside its place and moved there whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from robustkit.errors import ConfigError


def writable(folder: Path) -> Path:
    """Make the folder if need be; ConfigError if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"--out {folder}: cannot write there ({error.strerror}): choose another folder") from None
    return folder


@contextmanager
def output_folder(folder: Path) -> Iterator[Path]:
    """Make a writable folder for what the body writes; where the body fails, a folder made for it goes away again."""
    fresh = _missing(folder)
    try:
        yield writable(folder)
    except BaseException:
        if fresh is not None:
            shutil.rmtree(fresh, ignore_errors=True)
        raise


def _missing(folder: Path) -> Path | None:
    """The topmost folder on the way to `folder` that does not exist yet."""
    return next((path for path in reversed([folder, *folder.parents]) if not path.exists()), None)


class StagingFolder:
    """A staging folder: inside the report's, the new report grows in it, and `publish` moves it into place.

    Left without publishing, it goes away, and an older report is as it was.
    """

    def __init__(self, out: Path) -> None:
        self.fresh = _missing(out)
        self.out = writable(out)
        self.folder = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=out))

    def publish(self) -> None:
        """Put the pictures and pages in place of the old ones."""
        shutil.rmtree(self.out / "comparisons", ignore_errors=True)
        for entry in sorted(self.folder.iterdir()):
            os.replace(entry, self.out / entry.name)
        self.fresh = None

    def __enter__(self) -> StagingFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.fresh is not None:
            shutil.rmtree(self.fresh, ignore_errors=True)
