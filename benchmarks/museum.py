"""Each broken evaluation of tests/museum and each honest network: what a plain audit says, what the checks say, what
the automatic answers bring the figure down to, and what it is in truth.

    python benchmarks/museum.py
    python benchmarks/museum.py --samples 100 --only quantised,cold

"naive" is the robust accuracy under PGD of 40 steps, as a plain audit reports it, if it does not fail; "adapted" the
same audit's with --adapt; "true" that of the same network without the fault under AutoAttack, all on the same digits
and at the same ε. The exit status is 1 where a check misses its fault, where the adapted figure lies more than two
points above the true one, or where an honest network alarms. Where no attack can answer a fault (labels in another
order, pixels in another range) the check alone counts.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "tools"))
from museum import EPS, MUSEUM, Exhibit, digits, honest

from robustkit import audit
from robustkit.attacks import PGD, AutoAttack, Classifier
from robustkit.errors import AuditFailed
from robustkit.reports import AuditRecord

MARGIN = 0.02


@dataclass(frozen=True)
class Line:
    """One row of the table, and what is wrong with it."""

    model: str
    fault: str
    naive: float
    fired: list[str]
    adapted: float
    true: float
    seconds: float
    trouble: str

    def __str__(self) -> str:
        three = (self.naive, self.adapted, self.true)
        figures = "".join(" " * 7 + "fails" if math.isnan(figure) else f"{100 * figure:>8.0f} %" for figure in three)
        told = "  ".join(filter(None, (", ".join(self.fired) or "none", self.trouble)))
        return f"{self.model:<19}{self.fault:<46}{figures}{self.seconds:>6.0f} s  {told}"


@cache
def true_figure(base: str, sound: Callable[[nn.Module], nn.Module] | None, samples: int) -> float:
    """Robust accuracy of the network without the fault under AutoAttack."""
    x, y = digits(samples)
    net = honest(base)
    model = Classifier(net if sound is None else sound(net).eval())
    points = AutoAttack(eps=EPS[base])(model, x, y)
    return float((model.logits(points).argmax(1) == y).float().mean())


def audited(exhibit: Exhibit, samples: int, adapt: bool) -> AuditRecord:
    """The audit as people run it, or with its answers."""
    x, y = digits(samples)
    torch.manual_seed(0)
    return audit(exhibit.net(), (x, exhibit.labels(y)), [PGD()], [EPS[exhibit.base]], adapt=adapt)


def line(exhibit: Exhibit, samples: int) -> Line:
    """What becomes of one exhibit; one without checks to fire is honest."""
    started = time.perf_counter()
    try:
        naive = audited(exhibit, samples, adapt=False).worst_case[-1].robust.value or 0.0
    except AuditFailed:  # without a gradient a plain audit stops; only one that may take another way goes on
        naive = math.nan
    record = audited(exhibit, samples, adapt=True)
    adapted = record.worst_case[-1].robust.value or 0.0
    fired = [check.id for check in record.checks if check.status in ("warn", "fail")]
    true, trouble = true_figure(exhibit.base, exhibit.sound, samples), ""
    missed = sorted(exhibit.fires - set(fired))
    if missed:
        trouble = f"MISSED: {', '.join(missed)}"
    elif not exhibit.fires and fired:
        trouble = "FALSE ALARM"
    elif exhibit.fires and exhibit.answered and adapted > true + MARGIN + 1e-9:
        trouble = "NOT BROUGHT DOWN"
    seconds = time.perf_counter() - started
    return Line(exhibit.name, exhibit.fault, naive, fired, adapted, true, seconds, trouble)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--only", default="", help="names of exhibits, separated by commas")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    only = set(filter(None, given.only.split(",")))
    sound = [Exhibit(name, "none", name, lambda net: net, frozenset()) for name in EPS]
    print(f"{'model':<19}{'fault':<46}{'naive':>10}{'adapted':>10}{'true':>10}{'time':>8}  checks that fired")
    troubles = 0
    for exhibit in (*sound, *MUSEUM):
        if not only or exhibit.name in only:
            found = line(exhibit, given.samples)
            print(found, flush=True)
            troubles += bool(found.trouble)
    sys.exit(1 if troubles else 0)


if __name__ == "__main__":
    main()
