"""Interpreters as they start: help and listings without torch and at once, imports in any order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from audit_tools import QUICK, Cli


def test_fresh_interpreters_give_the_same_statuses(cli: Cli, tmp_path: Path) -> None:
    words = (*QUICK, "--out", tmp_path / "out")
    runs = [cli.start(*words), cli.start(*words[:-1], tmp_path / "2", "--fail-under", "0.3=1"), cli.start("audit", "x")]
    results = [(*run.communicate(timeout=600), run.returncode) for run in runs]
    assert [status for *_, status in results] == [0, 1, 2]
    assert results[2][1].count("\n") == 1


LISTED = {"audit", "certify", "compare", "models", "attacks", "report"}


# A finder that lets nobody import torch, in every interpreter that starts with this folder on its path.
BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ImportError("torch is not there")
sys.meta_path.insert(0, Block())
"""


def test_help_models_and_report_do_without_torch(cli: Cli, older: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCK)
    env = {"PYTHONPATH": str(tmp_path)}

    def run(*words: str | Path) -> tuple[int | None, str]:
        process = cli.start(*words, **env)
        stdout, stderr = process.communicate(timeout=600)
        return process.returncode, stdout + stderr

    status, text = run("--help")
    assert status == 0
    assert set(text.partition("Commands:")[2].split()) >= LISTED
    for command in LISTED:
        assert run(command, "--help")[0] == 0
    status, text = run("models")
    assert status == 0
    assert all(name in text for name in ("efficientnet-lite0", "lenet-mnist-pgd", "imagenet-samples"))
    status, text = run("report", older / "report.json", "--out", tmp_path / "out")
    assert (status, text) == (0, f"report: {tmp_path / 'out' / 'index.html'}\n")
    status, text = run("attacks")
    assert status == 0
    assert "Madry et al. 2018" in text
    status, text = run("attacks", "pgd")
    assert status == 0
    assert "step_size" in text
    assert run("attacks", "foolbox")[0] != 0  # the block does block
    assert run("--version") == (0, "robustkit, version 0.1.0\n")


@pytest.mark.parametrize("words", [["--help"], ["attacks"], ["attacks", "pgd"]], ids=["help", "attacks", "pgd"])
def test_what_is_only_told_is_told_at_once(words: list[str]) -> None:
    # The slow part of a start is what it imports: nothing here needs a library that computes or draws.
    code = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "from robustkit.cli import main\n"
        f"try: main.main({words!r}, prog_name='robustkit')\n"
        "except SystemExit: pass\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    needed = {"robustkit", "click"} if words == ["--help"] else {"robustkit", "click", "rich"}
    assert "robustkit" in (imported := set(done.stdout.splitlines()[-1].split()))
    assert imported <= needed


@pytest.mark.parametrize(
    "code",
    [
        "from robustkit import audit, load_model, load_data, reports, attacks",
        "from robustkit import attacks, reports, load_data, load_model, audit",
        "import robustkit.auditing.run; from robustkit import audit",
        "import robustkit.reports; import robustkit.attacks; import robustkit; audit = robustkit.audit",
        "from robustkit.attacks import PGD; from robustkit import *",
    ],
)
def test_imports_work_in_any_order(code: str) -> None:
    check = "assert callable(audit); import robustkit; assert callable(robustkit.audit)"
    lazy = "import sys; import robustkit; assert 'torch' not in sys.modules"
    ends = "assert callable(robustkit.attacks.PGD) and callable(robustkit.reports.write)"
    subprocess.run([sys.executable, "-c", "; ".join([lazy, code, check, ends])], check=True)


def test_an_unknown_name_is_an_attribute_error() -> None:
    import robustkit

    with pytest.raises(AttributeError, match="no attribute 'adit'"):
        robustkit.adit  # noqa: B018
