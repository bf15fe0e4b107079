"""The wheel installs one package, with its templates and weights."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
DATA = {
    "robustkit/cli/attack_catalogue.json",
    "robustkit/reports/record/schema.json",
    "robustkit/zoo/lenet-mnist.safetensors",
    "robustkit/zoo/lenet-mnist-pgd.safetensors",
    "robustkit/zoo/lenet-mnist-noise.safetensors",
    "robustkit/zoo/lenet.json",
    "robustkit/zoo/imagenet_wnids.txt",
}
NOT_THE_PROJECTS = shutil.ignore_patterns(
    "build", "*.egg-info", ".*", "__pycache__", "node_modules", "report", "shared"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools leaves its own folders beside the sources, and takes old ones from there."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "source", symlinks=True, ignore=NOT_THE_PROJECTS)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, folder / "source"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    top = {PurePosixPath(name).parts[0] for name in names}
    assert top == {"robustkit", next(part for part in top if part.endswith(".dist-info"))}
    sources = {
        f"{package}/{path.relative_to(ROOT / where).as_posix()}"
        for package, where in (
            ("robustkit", "robustkit"),
            ("robustkit/attacks", "attacks"),
            ("robustkit/reports", "reports"),
        )
        for path in (ROOT / where).rglob("*.py")
    }
    folder = ROOT / "reports" / "page" / "templates"
    files = [path for path in folder.rglob("*") if path.is_file()]
    templates = {f"robustkit/reports/page/templates/{path.relative_to(folder).as_posix()}" for path in files}
    assert len(templates) >= 2
    assert sources | templates | DATA <= names
    extra = {name for name in names - sources - templates - DATA if ".dist-info/" not in name}
    assert extra == set()


def test_the_unpacked_wheel_works(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path / "installed")!r})
import robustkit
assert robustkit.__file__.startswith({str(tmp_path / "installed")!r}), robustkit.__file__
from robustkit import attacks, audit, load_data, load_model, reports
record = audit(load_model("lenet-mnist"), load_data("mnist-samples"), [attacks.FGSM()], [0.3], samples=3)
page = reports.write(record, {str(tmp_path / "report")!r})
assert "<html" in page.read_text("utf-8")
print("done")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout == "done\n", done.stderr
