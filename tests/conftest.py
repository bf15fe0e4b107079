"""Fixtures that tests of several rooms share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from audit_tools import Cli, Digits, make_digits

pytest_plugins = ["loader_fixtures"]

# No test fetches anything; the libraries read this when they are imported.
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Networks this small only wait for a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """The command line as a shell runs it, in a folder of its own."""
    line = Cli(tmp_path_factory.mktemp("cli"))
    yield line
    line.close()


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    """Ten digits as a folder of PNG files that the LeNet gets right; treat as read-only."""
    return make_digits(tmp_path_factory.mktemp("digits"))
