"""Two checkouts of this repository give the same figures, sample by sample, to 1e-4.

Each audit of `figures_cases.py` runs twice through the command line, with either checkout, and all of the two
report.json is compared: the columns with an entry a sample, the curves, the worst case, the checks by their id and the
numbers in their sentences, the comparisons' labels and confidences, gates, certificates and transfers. Numbers may
differ by 1e-4, absolute or relative, where one of them is a fraction; whole numbers and words may not. What says when,
how long, where and by which version is left out, as is what only the new report holds (named below the table).

    python benchmarks/same_figures.py OLD NEW
    python benchmarks/same_figures.py OLD NEW --keep FOLDER --only "lenet-mnist-pgd*" --samples 24

Prints a row an audit; the exit status is 1 where a figure differs, a run of either side fails, or nothing ran. Which
attacks there are in which norms is read off `robustkit attacks` of OLD, so that none is forgotten. `--keep` stores
OLD's reports under its commit, to be used again by runs on the same machine; NEW always runs. One thread, fp32, CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path
from typing import Any

from figures_cases import Case, Sizes, cases

TOLERANCE = 1e-4
MAKER = Path(__file__).with_name("figures_models.py")
# Paths without the places in lists: what may differ between two runs of the same audit.
LEFT_OUT = (
    "version",
    "digest",
    "attacks.seconds",
    *(f"run.{name}" for name in ("created", "seconds", "command", "robustkit", "torch", "python", "platform")),
    *(f"run.{name}" for name in ("threads", "prepared")),
)
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?")
NORM_OF = {"L∞": "linf", "L2": "l2", "L1": "l1"}
LISTED = re.compile(r"(\S+) +((?:(?:L∞|L2|L1) )*) *(?:white box|scores|labels) +(?:within ε|smallest|other) ")


@dataclass
class Comparison:
    """What two values differ in; `compare` fills it."""

    ignored: tuple[str, ...] = LEFT_OUT
    figures: int = 0
    largest: float = 0.0  # of two fractions, in parts of the old one where that is above 1
    differing: int = 0
    first: str = ""
    added: set[str] = field(default_factory=set)  # paths that only the new one has

    def compare(self, old: Any, new: Any, path: str = "") -> None:
        """Compare two JSON values and all that is in them."""
        if any(fnmatchcase(re.sub(r"\[[^]]*]", "", path), pattern) for pattern in self.ignored):
            return
        if path == "checks":
            old, new = ({check["id"]: check for check in checks} for checks in (old, new))
        if isinstance(old, dict) and isinstance(new, dict):
            for key in old:
                below = f"{path}[{key}]" if path == "checks" else f"{path}.{key}".removeprefix(".")
                if key in new:
                    self.compare(old[key], new[key], below)
                else:
                    self.compare(None, "nothing", below)
            self.added |= {re.sub(r"\[\d+]", "", f"{path}.{key}".removeprefix(".")) for key in new if key not in old}
        elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
            for place, pair in enumerate(zip(old, new, strict=True)):
                self.compare(*pair, f"{path}[{place}]")
        else:
            self.figures += not isinstance(old, str | dict | list)
            if not self.same(old, new):
                self.differing += 1
                self.first = self.first or f"{path}: {shown(old)}, now {shown(new)}"

    def same(self, old: Any, new: Any) -> bool:
        """Compare two leaves: numbers to the tolerance, the words of two sentences exactly."""
        if isinstance(old, str) and isinstance(new, str):
            numbers = list(zip(NUMBER.findall(old), NUMBER.findall(new), strict=False))
            return NUMBER.split(old) == NUMBER.split(new) and all(
                before == after or self.near(float(before), float(after)) for before, after in numbers
            )
        if type(old) is type(new) or {type(old), type(new)} == {int, float}:
            return self.near(old, new) if isinstance(old, float) or isinstance(new, float) else bool(old == new)
        return False

    def near(self, old: float, new: float) -> bool:
        difference = abs(old - new) / max(1.0, abs(old))
        self.largest = max(self.largest, difference)
        return difference <= TOLERANCE


def shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"{len(value)} entries"
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True)
class Checkout:
    """One side: where it lies, and where its reports are kept, if they may be used again."""

    root: Path
    kept: Path | None = None

    def python(self, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run this interpreter with the packages of the checkout, in a folder."""
        own = {"PYTHONPATH": str(self.root), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8"}
        alone = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        environment = {**os.environ, **own, **alone, "COLUMNS": "200"}
        return subprocess.run(
            [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8"
        )

    def check(self, folder: Path) -> None:
        """Leave where another robustkit than the checkout's would answer."""
        done = self.python("-c", "import robustkit; print(robustkit.__file__)", folder=folder)
        if not done.stdout or not Path(done.stdout.strip()).resolve().is_relative_to(self.root):
            sys.exit(f"{self.root} is no checkout of robustkit: {(done.stdout + done.stderr).strip()[-200:]}")

    def listed(self, folder: Path) -> dict[str, tuple[str, ...]]:
        """The norms of each attack that `robustkit attacks` lists."""
        done = self.python("-m", "robustkit", "attacks", folder=folder)
        lines = [line for line in done.stdout.splitlines()[1:] if line[:1].strip() and "foolbox:NAME" not in line]
        found = [LISTED.match(f"{line} ") for line in lines]
        if not lines or not all(found):
            sys.exit(f"the attacks that {self.root} lists cannot be read: {done.stdout[:200]} {done.stderr[-200:]}")
        return {match[1]: tuple(NORM_OF[norm] for norm in match[2].split()) for match in found if match}

    def report(self, case: Case, files: Path) -> dict[str, Any]:
        """What a run leaves, kept or made: its exit status and report.json, or its last words."""
        key = json.dumps([case.command, *case.options, version("torch"), MAKER.read_text() if case.files else ""])
        stem = re.sub(r"\W+", "-", case.name)
        kept = self.kept and self.kept / f"{stem}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"
        if kept and kept.exists():
            return dict(json.loads(kept.read_text(encoding="utf-8")))
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            if case.files:
                shutil.copytree(files, folder, dirs_exist_ok=True)
            words = ("-m", "robustkit", case.command, *case.options, "--out", "out")
            done = self.python(*words, folder=folder)
            made: dict[str, Any] = {"exit": done.returncode, "said": "", "report": None}
            if done.returncode in (0, 1) and (folder / "out" / "report.json").exists():
                made["report"] = json.loads((folder / "out" / "report.json").read_text(encoding="utf-8"))
            else:
                made["said"] = (done.stderr.strip() or "nothing").splitlines()[-1][-300:]
        if kept and made["report"]:
            kept.parent.mkdir(parents=True, exist_ok=True)
            part = kept.with_suffix(".part")
            part.write_text(json.dumps(made, ensure_ascii=False, indent=1), encoding="utf-8")
            part.replace(kept)  # an interrupted run leaves no half of a report
        return made


def commit_of(root: Path) -> str:
    """The commit of a checkout without changes, else nothing."""
    git = ["git", "-C", str(root)]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        changed, head = (
            subprocess.run([*git, *words], check=True, capture_output=True, text=True).stdout.strip()
            for words in (("status", "--porcelain"), ("rev-parse", "HEAD"))
        )
        return "" if changed else head
    return ""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    case: Case
    samples: int
    found: Comparison
    trouble: str
    seconds: float

    def __str__(self) -> str:
        more = f" ({self.found.differing} in all)" if self.found.differing > 1 else ""
        said = (self.trouble or f"{self.found.first}{more}").replace("|", "/")
        counted = f"{self.found.figures} | {self.samples} | {self.found.largest:.1e} | {self.seconds:.0f}"
        return f"| {self.case.name} | {counted} | {said or 'same'} |"

    @property
    def same(self) -> bool:
        return not (self.trouble or self.found.differing)


def row_of(case: Case, sides: tuple[Checkout, Checkout], files: Path, ignored: tuple[str, ...]) -> Row:
    """Run an audit with both sides and compare."""
    started = time.perf_counter()
    old, new = (side.report(case, files) for side in sides)
    found = Comparison(ignored)
    silent = [(name, made) for name, made in (("old", old), ("new", new)) if not made["report"]]
    trouble = "; ".join(f"{name} left no report, exit {made['exit']}: {made['said']}" for name, made in silent)
    samples = 0
    if not trouble:
        found.compare({"exit": old["exit"], **old["report"]}, {"exit": new["exit"], **new["report"]})
        samples = len(old["report"]["samples"]["ids"])
    return Row(case, samples, found, trouble, time.perf_counter() - started)


def rows(given: argparse.Namespace, sides: tuple[Checkout, Checkout], folder: Path) -> Iterator[Row]:
    """The rows of all audits that were asked for, as they come."""
    files = folder / "files"
    files.mkdir()
    for side in sides:
        side.check(folder)
    sizes = Sizes(given.samples, max(2, given.samples // 3))
    wanted = [
        case for case in cases(sides[0].listed(folder), sizes) if not given.only or fnmatchcase(case.name, given.only)
    ]
    if any(case.files for case in wanted):
        done = sides[0].python(str(MAKER), str(files), folder=folder)
        if done.returncode:
            sys.exit(f"{MAKER.name} failed: {done.stderr.strip()[-300:]}")
    ignored = (*LEFT_OUT, *given.ignore)
    with ThreadPoolExecutor(given.jobs) as pool:
        yield from pool.map(lambda case: row_of(case, sides, files, ignored), wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--only", help="names of audits, with * and ?")
    parser.add_argument("--samples", type=int, default=12, help="digits of an audit; of photographs a third as many")
    parser.add_argument("--keep", type=Path, help="a folder for OLD's reports, used again while its commit is the same")
    parser.add_argument("--ignore", action="append", default=[], help="a path such as checks.remedy, with * and ?")
    parser.add_argument("--jobs", type=int, default=1, help="audits at a time")
    given = parser.parse_args()
    old, new = (root.resolve() for root in (given.old, given.new))
    commit = commit_of(old) if given.keep else ""
    if given.keep and not commit:
        print("OLD is no commit without changes: its reports are not kept\n")
    sides = (Checkout(old, given.keep.resolve() / commit if commit else None), Checkout(new))
    started = time.perf_counter()
    total, wrong, figures, added = 0, 0, 0, set[str]()
    print("| audit | figures | samples | largest difference | seconds | |\n|-|-|-|-|-|-|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(given, sides, Path(folder)):
            print(row, flush=True)
            total, wrong, figures = total + 1, wrong + (not row.same), figures + row.found.figures
            added |= row.found.added
    print(f"\n{total - wrong} of {total} audits the same, {figures} figures, {time.perf_counter() - started:.0f} s")
    if added:
        print(f"only in the new reports: {', '.join(sorted(added))}")
    if wrong or not total:
        sys.exit(1)


if __name__ == "__main__":
    main()
