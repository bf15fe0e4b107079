from __future__ import annotations

from pathlib import Path

import pytest
from report_factory import draw_pictures, realistic

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
