"""Lines of other people's code that an exception came from."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

_OURS = Path(__file__).resolve().parents[2]
# What is installed or comes with Python: nobody's own code.
_INSTALLED = {Path(path).resolve() for path in map(sysconfig.get_path, ("stdlib", "purelib", "platlib"))} | {
    _OURS,
    _OURS.parent / "attacks",
    _OURS.parent / "reports",
}


def is_own(file: Path, root: Path | None = None) -> bool:
    """True of a file of somebody's own code: under `root`, or neither installed nor ours.

    A folder of code may hold the environment that it runs in.
    """
    parents = set(file.resolve().parents)
    installed = {path for path in _INSTALLED if root is None or path not in {root.resolve(), *root.resolve().parents}}
    return not parents & installed and (root is None or root.resolve() in parents)


def line_of(error: BaseException, root: Path | None = None) -> str:
    """`net.py:12`, the innermost line under `root` that the exception passed; "" where there is none.

    Args:
        error: as it was caught.
        root: folder of the code; None for whatever is neither installed nor ours.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if frame.filename.startswith("<") or not file.is_file():
            continue
        if is_own(file, root):
            return f"{file.name}:{frame.lineno}"
    return ""


def reason_of(error: BaseException | None, root: Path | None = None) -> str:
    """One line: what was raised, with the line of the owner's own code where it passed any."""
    if error is None:
        return "no reason given"
    # TorchScript says what happened in the last line, after a traceback.
    text = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()[:160]
    line = line_of(error, root)
    return f"{line}: {type(error).__name__}: {text}" if line else text
