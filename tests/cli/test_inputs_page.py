"""docs/inputs.md names every kind of model and data that can be read, and every option and extra that it speaks of."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from robustkit.cli import main
from robustkit.data import load as data
from robustkit.models import loaders as models

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "inputs.md").read_text("utf-8")


def part(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("name", [*models.NAMES, *models.PREFIXES])
def test_every_model_is_on_the_page(name: str) -> None:
    assert f"`{name}" in part("Models") or name == "http:"


@pytest.mark.parametrize("name", [*data.NAMES, *data.PREFIXES, *data.SUFFIXES])
def test_every_kind_of_data_is_on_the_page(name: str) -> None:
    assert name in part("Data")


@pytest.mark.parametrize("suffix", [".onnx", ".pt2", ".py"])
def test_the_files_of_models_are_on_the_page(suffix: str) -> None:
    assert f"FILE{suffix}" in part("Models")


def test_the_page_speaks_of_options_that_there_are() -> None:
    known = {option for parameter in main.commands["audit"].params for option in parameter.opts}
    assert set(re.findall(r"--[a-z][a-z-]+", PAGE)) <= known


def test_the_page_speaks_of_extras_that_there_are() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert set(re.findall(r"robustkit\[(\w+)\]", PAGE)) == set(extras) - {"test", "all"}
