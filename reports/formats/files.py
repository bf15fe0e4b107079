"""Files of a report: written together, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from ..record.audit_record import AuditRecord
from ..record.reading import RecordError, file_text


def write(record: AuditRecord, directory: str | os.PathLike[str]) -> Path:
    """Write report.json, index.html, junit.xml and summary.md into `directory`; returns the page's path.

    Everything is rendered before the first file is touched, so a failure leaves an older report as it was.
    The comparisons' PNG files are read from `directory`, where the audit has put them.
    """
    folder = Path(directory)
    text = record.to_json()
    # From what was read back: never leave a report that could not be.
    return _write_files(AuditRecord.from_json(text), text, folder, folder)


def read(path: str | os.PathLike[str]) -> AuditRecord:
    """Read the record in a report.json.

    Raises:
        RecordError: it cannot be read; one sentence says why. Pipes, devices and huge files are refused unread.
    """
    return _read(path)[0]


def redraw(path: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> Path:
    """Draw a report again from its report.json, beside it or into `out`; returns the page's path."""
    source = Path(path).parent
    return _write_files(*_read(path), source if out is None else Path(out), source)


def _read(path: str | os.PathLike[str]) -> tuple[AuditRecord, str]:
    """Read the record in a report.json, and the text itself."""
    text = file_text(path)
    try:
        return AuditRecord.from_json(text), text
    except RecordError as error:
        raise RecordError(f"{path}: {error}") from None


def _write_files(record: AuditRecord, text: str, folder: Path, pictures: Path) -> Path:
    """Write the files of a record, `text` its JSON; `pictures` is the folder that holds the comparisons."""
    from ..page import html, view
    from ..page.pictures import PictureSource
    from . import junit, markdown

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
