from __future__ import annotations

from pathlib import Path

import pytest
from report_factory import draw_pictures, realistic
from report_suite import suite

from robustkit.reports import AuditRecord, write


@pytest.fixture(scope="session")
def record() -> AuditRecord:
    return realistic()


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory, record: AuditRecord) -> Path:
    """A folder with a whole report."""
    folder = tmp_path_factory.mktemp("report")
    draw_pictures(record, folder)
    write(record, folder)
    return folder


@pytest.fixture(scope="session")
def written_suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the report of a whole suite of attacks."""
    folder = tmp_path_factory.mktemp("suite")
    record = suite()
    draw_pictures(record, folder)
    write(record, folder)
    return folder
