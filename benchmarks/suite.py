"""Our attacks and those of the same name in foolbox, torchattacks and ART, side by side in one run.

All meet the same pictures (those that the model gets right), the same model in full precision, the same ε, steps and
queries; every package's points are judged again here, and one outside ball or box does not count. A budgeted attack is
summed up by the robust accuracy it leaves, one that searches the smallest change by its median distance.

    pip install torchattacks adversarial-robustness-toolbox
    python benchmarks/suite.py --model lenet-mnist-pgd --norm linf --eps 0.3 --samples 100
    python benchmarks/suite.py --model lenet-mnist --norm l2 --eps 1 --only ddn,cw,deepfool

Seconds are of the whole call on this machine; gradients and forwards are per sample, counted in the network. A peer
that is not installed is left out with a line that says so. Two settings are not ours to choose: torchattacks'
AutoAttack climbs 10 steps where the paper's has 100, and its FAB keeps what lies within ε alone.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from adaptors import POWER, Counted, Setting, foolbox_peers, installed, makers, points_of
from torch import Tensor

from robustkit import load_data, load_model
from robustkit.attacks import Classifier
from robustkit.attacks.core.attack import Attack
from robustkit.attacks.geometry import norms
from robustkit.attacks.registry import ATTACKS
from robustkit.models.memory import keep_freed

TOLERANCE = 1e-6


def our_attacks(s: Setting) -> dict[str, Attack]:
    """Ours, with the settings that the peers get."""
    made: dict[str, Attack] = {}
    settings: dict[str, dict[str, Any]] = {
        **{name: {"steps": s.steps} for name in ("bim", "pgd", "mifgsm", "apgd", "fmn", "ddn", "cw")},
        "ead": {"steps": max(10, s.steps // (s.classes - 1))},
        "fab": {"steps": s.steps, "targets": s.classes - 1},
        **{name: {"queries": s.queries} for name in ("square", "hopskipjump", "boundary", "simba", "nes")},
    }
    for name, kind in ATTACKS.items():
        if kind.ball and s.norm in kind.norms and not kind.control and name != "universal":
            budget = {} if kind.minimum_norm else {"eps": s.eps}
            made[name] = kind(norm=s.norm, **budget, **settings.get(name, {}))  # type: ignore[arg-type]
    return made


def runs(s: Setting, x: Tensor, y: Tensor) -> Iterator[tuple[str, str, Callable[[Counted], Tensor]]]:
    """(name of the attack, package, what gives its points) for all there are."""
    ours, peers = our_attacks(s), foolbox_peers(s)
    foreign = {package: makers(package, s) for package in installed()}
    for name, attack in ours.items():
        yield name, "robustkit", lambda net, attack=attack: attack(net, x, y)
        if name in peers:
            yield name, "foolbox", lambda net, points=peers[name]: points(net, x, y)
        for package, known in foreign.items():
            if name in known:
                run = partial(points_of, package, known[name], x=x, y=y, classes=s.classes)
                yield name, package, lambda net, run=run: run(net=net)


def judged(model: Classifier, s: Setting, minimum: bool, x: Tensor, y: Tensor, points: Tensor) -> tuple[str, int]:
    """The figure of a set of points, and how many lay outside ball or box."""
    sizes = norms.get(s.norm).size((points - x).double())
    outside = (points.flatten(1).amin(1) < -TOLERANCE) | (points.flatten(1).amax(1) > 1 + TOLERANCE)
    if not minimum:
        outside |= sizes > s.eps + TOLERANCE
    wrong = (model.logits(points.clamp(0, 1)).argmax(1) != y) & ~outside
    if not minimum:
        return f"{100 * float((~wrong).float().mean()):.1f} % robust", int(outside.sum())
    median = f"{float(sizes[wrong].median()):.4g}" if wrong.any() else "–"
    return f"median {median} ({100 * float(wrong.float().mean()):.0f} % broken)", int(outside.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lenet-mnist-pgd")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--norm", default="linf", choices=list(POWER))
    parser.add_argument("--eps", type=float, default=0.3)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--only", default="", help="names of attacks, separated by commas")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)

    model = load_model(given.model, device="cpu", precision="fp32")
    data = load_data("mnist-samples" if given.model.startswith("lenet") else "imagenet-samples")
    (batch,) = data.batches(model, given.samples, given.samples)
    right = model.logits(batch.x).argmax(1) == batch.y
    x, y = batch.x[right], batch.y[right]
    setting = Setting(given.norm, given.eps, given.steps, given.queries, model.num_classes)
    print(f"{model.title}, {len(x)} samples that are right, {given.norm} ε {given.eps:g}, {given.threads} threads")
    print(f"{'attack':<14}{'package':<14}{'result':<32}{'gradients':>10}{'forwards':>10}{'seconds':>9}  outside")
    only = set(filter(None, given.only.split(",")))
    for name, package, run in runs(setting, x, y):
        if only and name not in only:
            continue
        torch.manual_seed(0)
        np.random.seed(0)
        net = Counted(model)
        started = time.perf_counter()
        try:
            points = run(net)
        except Exception as error:  # a peer's own trouble is a result too
            print(f"{name:<14}{package:<14}{type(error).__name__}: {str(error).splitlines()[0][:80]}")
            continue
        seconds = time.perf_counter() - started
        result, outside = judged(model, setting, ATTACKS[name].minimum_norm, x, y, points)
        effort = f"{net.backwards / len(x):>10.1f}{net.forwards / len(x):>10.1f}{seconds:>9.2f}"
        print(f"{name:<14}{package:<14}{result:<32}{effort}  {outside or ''}")


if __name__ == "__main__":
    main()
