"""Where a report goes: built beside its place, moved there whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from robustkit.errors import ConfigError


def writable(folder: Path) -> Path:
    """The folder, made if need be; ConfigError if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"--out {folder}: cannot write there ({error.strerror}): choose another folder") from None
    return folder


class Staging:
    """A folder inside the report's in which the new report grows; `publish` moves it into place.

    Left without publishing, it goes away, and an older report is as it was.
    """

    def __init__(self, out: Path) -> None:
        self.fresh = not out.exists()
        self.out = writable(out)
        self.folder = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=out))

    def publish(self) -> None:
        """Put the pictures and pages in place of the old ones."""
        shutil.rmtree(self.out / "comparisons", ignore_errors=True)
        for entry in sorted(self.folder.iterdir()):
            os.replace(entry, self.out / entry.name)
        self.fresh = False

    def __enter__(self) -> Staging:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.fresh:
            shutil.rmtree(self.out, ignore_errors=True)
