"""Fixtures of the command line's tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from audit_tools import QUICK, Cli


@pytest.fixture(scope="module")
def older(cli: Cli) -> Path:
    """A good report that bad runs must leave as it is."""
    done = cli(*QUICK, "--attack", "pgd:steps=3", "--out", "older", "--fail-under", "0.1=0")
    assert done.status == 0, done
    assert done.stdout.rstrip().endswith("report: older/index.html")
    return cli.folder / "older"
