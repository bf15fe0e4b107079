"""The files of a report: written together, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from .record import AuditRecord, RecordError


def write(record: AuditRecord, directory: str | os.PathLike[str]) -> Path:
    """Write report.json, index.html, junit.xml and summary.md into `directory`; returns the page's path.

    Everything is rendered before the first file is touched, so a failure leaves an older report as it was.
    The comparisons' PNG files are read from `directory`, where the audit has put them.
    """
    folder = Path(directory)
    return _write(record, folder, folder)


def read(path: str | os.PathLike[str]) -> AuditRecord:
    """The record in a report.json; RecordError says in one sentence why it cannot be read."""
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise RecordError(f"{path}: not a robustkit report: it is not UTF-8 text") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise RecordError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    try:
        return AuditRecord.from_json(text)
    except RecordError as error:
        raise RecordError(f"{path}: {error}") from None


def redraw(path: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> Path:
    """Draw a report again from its report.json, beside it or into `out`; returns the page's path."""
    source = Path(path).parent
    return _write(read(path), source if out is None else Path(out), source)


def _write(record: AuditRecord, folder: Path, pictures: Path) -> Path:
    from . import html, junit, markdown, view
    from .pictures import PictureSource

    text = record.to_json()
    record = AuditRecord.from_json(text)  # never leave a report that could not be read back
    contents = {
        "report.json": text,
        "junit.xml": junit.render(record),
        "summary.md": markdown.render(record),
        "index.html": html.render(view.page(record, PictureSource(pictures))),
    }
    folder.mkdir(parents=True, exist_ok=True)
    waiting = {name: folder / f".{name}.{os.getpid()}.tmp" for name in contents}
    try:
        for name, content in contents.items():
            waiting[name].write_bytes(content.encode("utf-8"))
        for name, file in waiting.items():
            os.replace(file, folder / name)
    finally:
        for file in waiting.values():
            file.unlink(missing_ok=True)
    return folder / "index.html"
