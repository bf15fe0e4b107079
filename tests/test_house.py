"""Limits that keep the house one that a stranger finds their way in."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("attacks", "reports", "robustkit")
# Functions that scripts call by keyword: their parameters are the product.
PUBLIC = {"audit", "certify", "load_model", "load_data"}


def sources(*tops: str) -> Iterator[Path]:
    """Python files under folders of the project, through no symlink."""
    for top in tops:
        for folder, _, names in os.walk(ROOT / top):
            yield from (Path(folder) / name for name in sorted(names) if name.endswith(".py"))


def too_long(limit: int, *tops: str) -> list[str]:
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in sources(*tops)}
    return [f"{path.relative_to(ROOT)}: {length}" for path, length in lengths.items() if length > limit]


def test_no_file_holds_two_things() -> None:
    assert not too_long(300, *ROOMS, "benchmarks")
    assert not too_long(450, "tests")


def test_no_folder_is_a_heap() -> None:
    heaps = []
    for top in (*ROOMS, "tests"):
        for folder in {path.parent for path in sources(top)}:
            count = sum(entry.is_file() and not entry.is_symlink() for entry in folder.iterdir())
            if count > 16:
                heaps.append(f"{folder.relative_to(ROOT)}: {count}")
    assert not heaps


def test_no_function_takes_more_than_eight_parameters() -> None:
    wide = []
    for path in sources(*ROOMS):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name not in PUBLIC:
                names = [each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
                count = len([name for name in names if name not in ("self", "cls")])
                if count > 8:
                    wide.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {count}")
    assert not wide


def test_no_call_passes_more_than_five_positional_arguments() -> None:
    blind = []
    for path in sources(*ROOMS):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and len(node.args) > 5 and not _of_torch(node.func):
                blind.append(f"{path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node.func)}: {len(node.args)}")
    assert not blind


def _of_torch(function: ast.expr) -> bool:
    """A function of PyTorch's, some of which take their arguments by place alone, or a shape of many axes."""
    shape = isinstance(function, ast.Attribute) and function.attr in ("view", "permute", "reshape")
    return shape or ast.unparse(function).startswith(("torch.", "F.", "functional."))
