"""write and redraw: all files or none, and what an older report is worth when the new one fails."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from report_factory import build, draw_pictures
from report_suite import suite

from robustkit.reports import AuditRecord, Rate, RecordError, read, redraw, write
from robustkit.reports.page import html

NAMES = {"report.json", "index.html", "junit.xml", "summary.md"}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_four_files_and_nothing_else(written: Path, record: AuditRecord) -> None:
    assert set(files(written)) == NAMES
    assert read(written / "report.json") == record


def test_a_redrawn_report_is_the_same_byte_for_byte(written: Path, tmp_path: Path) -> None:
    before = files(written)
    assert redraw(written / "report.json") == written / "index.html"
    assert files(written) == before
    redraw(written / "report.json", tmp_path / "new" / "place")
    assert files(tmp_path / "new" / "place") == before  # the pictures are read from beside report.json


def test_files_get_the_usual_permissions(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch()
    write(build([True], {"PGD": [None]}), tmp_path)
    assert (tmp_path / "index.html").stat().st_mode == other.stat().st_mode


def test_a_failure_while_rendering_leaves_the_older_report(
    tmp_path: Path, record: AuditRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(build([True], {"PGD": [None]}), tmp_path)
    before = files(tmp_path)

    def broken(page: object) -> str:
        raise RuntimeError("no template")

    monkeypatch.setattr(html, "render", broken)
    with pytest.raises(RuntimeError):
        write(record, tmp_path)
    assert files(tmp_path) == before


def test_a_full_disk_leaves_the_older_report(
    tmp_path: Path, record: AuditRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(build([True], {"PGD": [None]}), tmp_path)
    before = files(tmp_path)
    whole = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if "index" in self.name:
            whole(self, data[:100])
            raise OSError(28, "No space left on device")
        return whole(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write(record, tmp_path)
    assert files(tmp_path) == before


def test_a_record_that_contradicts_itself_is_never_written(tmp_path: Path, record: AuditRecord) -> None:
    with pytest.raises(RecordError, match="the samples say"):
        write(dataclasses.replace(record, clean=Rate.of(1, 20)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_broken_report_is_not_redrawn(written: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text((written / "report.json").read_text("utf-8").replace("otter", "gibbon", 1), "utf-8")
    with pytest.raises(RecordError, match="digest"):
        redraw(path)
    assert set(files(tmp_path)) == {"report.json"}


def test_ten_thousand_samples_make_a_small_page(tmp_path: Path) -> None:
    n = 10_000
    column: list[float | None] = [0.001 + i * 1e-6 if i % 3 else None for i in range(n)]
    record = build([i % 10 != 0 for i in range(n)], {"PGD": column, "L-BFGS": column})
    page = write(record, tmp_path).read_text("utf-8")
    assert len(page) < 1_000_000
    assert "The 200 weakest of 10,000 samples" in page


def test_a_suite_on_ten_thousand_samples_is_drawn_in_time(tmp_path: Path) -> None:
    few, many = suite(20), suite(10_000)
    draw_pictures(many, tmp_path)

    def effort(record: AuditRecord) -> float:
        """Processor time: others run beside the tests."""
        started = time.process_time()
        write(record, tmp_path)
        return time.process_time() - started

    effort(few)  # what is imported then
    assert min(effort(many) for _ in range(2)) < 6 * min(effort(few) for _ in range(2))  # 2.5 where this was written
    assert (tmp_path / "index.html").stat().st_size < 5_000_000


def test_large_pictures_are_left_out_with_a_note(tmp_path: Path, record: AuditRecord) -> None:
    draw_pictures(record, tmp_path)
    for c in record.comparisons:
        with (tmp_path / c.perturbation).open("ab") as file:
            file.write(os.urandom(2_000_000))
    page = write(record, tmp_path).read_text("utf-8")
    assert len(page) < 5_000_000
    assert "left out to keep this page small" in page


@pytest.mark.parametrize("code", ["import robustkit.reports", "from robustkit.reports import AuditRecord, write"])
def test_import_is_light(code: str) -> None:
    check = "; print([m for m in ('torch', 'matplotlib', 'jinja2', 'jsonschema', 'numpy') if m in sys.modules])"
    out = subprocess.run(
        [sys.executable, "-c", "import sys; " + code + check], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"


def test_a_report_is_redrawn_without_torch(written: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; from robustkit.reports import redraw; "
        f"redraw({str(written / 'report.json')!r}, {str(tmp_path)!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert set(files(tmp_path)) == NAMES
