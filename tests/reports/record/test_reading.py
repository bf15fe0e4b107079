"""Files that are no report.json: refused with one line, unread, and without waiting for a writer."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from robustkit.reports import RecordError, read, redraw
from robustkit.reports.record import reading


def refused(path: str | Path, why: str) -> None:
    for reader in (read, redraw):
        with pytest.raises(RecordError, match=why) as caught:
            reader(path)
        assert str(caught.value).startswith(f"{path}: cannot be read (")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_and_a_link_to_one_are_refused(tmp_path: Path, device: str) -> None:
    refused(device, "a device or a socket: save the report to a file first")
    link = tmp_path / "report.json"
    link.symlink_to(device)
    refused(link, "a device or a socket")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "report.json"
    os.mkfifo(pipe)
    ran = subprocess.run(
        [sys.executable, "-m", "robustkit", "report", str(pipe)], capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 2
    assert "cannot be read (a pipe: save what it carries to a file first" in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1


def test_a_process_substitution_is_a_pipe() -> None:
    end, other = os.pipe()
    os.close(other)
    try:
        refused(f"/dev/fd/{end}", "a pipe: save what it carries to a file first")
    finally:
        os.close(end)


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as end:
        end.bind("s")
        refused("s", "a device or a socket")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, re.escape("a folder: name the report.json in it"))


def test_a_huge_file_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    with path.open("wb") as file:
        file.truncate(reading.MOST_BYTES + 1)  # a hole: takes no room on the disk
    refused(path, "larger than 256 MiB")


def test_a_file_that_grew_since_is_read_no_further(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written / "report.json"
    size = path.stat().st_size
    monkeypatch.setattr(reading, "MOST_BYTES", size)
    assert read(path)
    monkeypatch.setattr(reading, "_no_record", lambda found: None)
    monkeypatch.setattr(reading, "MOST_BYTES", size - 1)
    refused(path, "larger than")
