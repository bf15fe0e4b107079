"""Our attacks and those of the same name in foolbox, torchattacks and ART, side by side in one run.

All meet the same pictures (those that the model gets right), the same model in full precision, the same ε, steps and
queries; every package's points are judged again here, and one outside ball or box does not count. A budgeted attack is
summed up by the robust accuracy it leaves, one that searches the smallest change by its median distance.

    pip install torchattacks adversarial-robustness-toolbox
    python benchmarks/suite.py --model lenet-mnist-pgd --norm linf --eps 0.3 --samples 100
    python benchmarks/suite.py --model lenet-mnist --norm l2 --eps 1 --only ddn,cw,deepfool

Seconds are of the whole call on this machine; gradients and forwards are per sample, counted in the network. A peer
that is not installed is left out with a line that says so.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustkit import load_data, load_model
from robustkit.attacks import Classifier, norms
from robustkit.attacks.base import Attack
from robustkit.attacks.foolbox import Foolbox
from robustkit.attacks.registry import ATTACKS
from robustkit.memory import keep_freed

TOLERANCE = 1e-6
PEERS = {"torchattacks": "torchattacks", "art": "adversarial-robustness-toolbox"}


class Counted(nn.Module):
    """The network on pixels, with its normalisation, counting what goes through it and back."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.inner, self.mean, self.std = model.net, model.mean, model.std
        self.forwards = self.backwards = 0
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        for numbers, apply in ((self.mean, torch.sub), (self.std, torch.div)):
            if numbers is not None:
                x = apply(x, torch.tensor(numbers, dtype=x.dtype, device=x.device).view(-1, 1, 1))
        out: Tensor = self.inner(x)
        if out.requires_grad:
            out.register_hook(self._back)
        return out

    def _back(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


@dataclass(frozen=True)
class Setting:
    """What every package is given."""

    norm: str
    eps: float
    steps: int
    queries: int
    classes: int

    @property
    def step(self) -> float:
        return 2.5 * self.eps / self.steps


Maker = Callable[[Setting], Any]
POWER = {"linf": np.inf, "l2": 2, "l1": 1}
LETTERS = {"linf": "Linf", "l2": "L2", "l1": "L1"}


def foolbox_peers(s: Setting) -> dict[str, Attack]:
    """foolbox's attack for each of our names, through its own front door."""
    pick = LETTERS[s.norm]
    relative = 2.5 / s.steps
    found: dict[str, tuple[str, dict[str, Any]]] = {
        "fgsm": (f"{pick}FastGradientAttack", {}),
        "bim": (f"{pick}BasicIterativeAttack", {"steps": s.steps, "rel_stepsize": relative}),
        "pgd": (f"{pick}ProjectedGradientDescentAttack", {"steps": s.steps, "rel_stepsize": relative}),
        "fmn": (f"{'LInf' if s.norm == 'linf' else pick}FMNAttack", {"steps": s.steps}),
    }
    if s.norm != "l1":
        found["deepfool"] = (f"{pick}DeepFoolAttack", {"steps": 50})
    if s.norm == "l2":
        found["cw"] = ("L2CarliniWagnerAttack", {"binary_search_steps": 9, "steps": s.steps, "stepsize": 0.1})
        found["ddn"] = ("DDNAttack", {"steps": s.steps})
        found["hopskipjump"] = ("HopSkipJumpAttack", {"max_gradient_eval_steps": 100, "steps": 12})
        found["boundary"] = ("BoundaryAttack", {"steps": s.queries})
    if s.norm == "l1":
        found["ead"] = ("EADAttack", {"binary_search_steps": 9, "steps": s.steps, "decision_rule": "L1"})
    made = {}
    for name, (attack, parameters) in found.items():
        made[name] = Foolbox(attack, **parameters, **({} if ATTACKS[name].minimum_norm else {"eps": s.eps}))
    return made


def torchattacks_peers(s: Setting) -> dict[str, Callable[[nn.Module], Any]]:
    import torchattacks as peer

    letters = LETTERS[s.norm]
    made: dict[str, Callable[[nn.Module], Any]] = {
        "fab": lambda net: peer.FAB(net, letters, s.eps, s.steps, multi_targeted=True, n_classes=s.classes),
    }
    if s.norm == "linf":
        made["fgsm"] = lambda net: peer.FGSM(net, s.eps)
        made["bim"] = lambda net: peer.BIM(net, s.eps, s.step, s.steps)
        made["pgd"] = lambda net: peer.PGD(net, s.eps, s.step, s.steps)
        made["mifgsm"] = lambda net: peer.MIFGSM(net, s.eps, s.eps / s.steps, s.steps)
    if s.norm == "l2":
        made["pgd"] = lambda net: peer.PGDL2(net, s.eps, s.step, s.steps)
        made["cw"] = lambda net: peer.CW(net, c=1, steps=9 * s.steps, lr=0.01)
        made["deepfool"] = lambda net: peer.DeepFool(net)
    if s.norm == "l1":
        made["ead"] = lambda net: peer.EADL1(net, max_iterations=s.steps)
        return made
    made["apgd"] = lambda net: peer.APGD(net, letters, s.eps, s.steps)
    made["square"] = lambda net: peer.Square(net, letters, s.eps, s.queries)
    made["autoattack"] = lambda net: peer.AutoAttack(net, letters, s.eps, n_classes=s.classes)
    return made


def art_peers(s: Setting) -> dict[str, Callable[[Any], Any]]:
    from art.attacks import evasion as peer

    power, quiet = POWER[s.norm], {"verbose": False}
    made: dict[str, Callable[[Any], Any]] = {
        "fgsm": lambda net: peer.FastGradientMethod(net, norm=power, eps=s.eps),
        "pgd": lambda net: peer.ProjectedGradientDescentPyTorch(
            net, norm=power, eps=s.eps, eps_step=s.step, max_iter=s.steps, num_random_init=1, **quiet
        ),
        "apgd": lambda net: peer.AutoProjectedGradientDescent(
            net, norm=power, eps=s.eps, eps_step=2 * s.eps, max_iter=s.steps, nb_random_init=1, verbose=False
        ),
    }
    if s.norm == "linf":
        made["mifgsm"] = lambda net: peer.MomentumIterativeMethod(
            net, norm=power, eps=s.eps, eps_step=s.eps / s.steps, max_iter=s.steps, **quiet
        )
        made["bim"] = lambda net: peer.BasicIterativeMethod(net, eps=s.eps, eps_step=s.step, max_iter=s.steps, **quiet)
    if s.norm in ("linf", "l2"):
        made["square"] = lambda net: peer.SquareAttack(
            net, norm=power, eps=s.eps, max_iter=s.queries, nb_restarts=1, **quiet
        )
    if s.norm == "l2":
        made["deepfool"] = lambda net: peer.DeepFool(net, max_iter=50, nb_grads=s.classes, **quiet)
        made["cw"] = lambda net: peer.CarliniL2Method(
            net, learning_rate=0.1, binary_search_steps=9, max_iter=s.steps, **quiet
        )
        made["hopskipjump"] = lambda net: peer.HopSkipJump(net, norm=2, max_iter=12, max_eval=1000, **quiet)
    if s.norm == "l1":
        made["ead"] = lambda net: peer.ElasticNet(
            net, binary_search_steps=9, max_iter=s.steps, decision_rule="L1", **quiet
        )
    return made


def our_attacks(s: Setting) -> dict[str, Attack]:
    """Ours, with the settings that the peers get."""
    made: dict[str, Attack] = {}
    settings: dict[str, dict[str, Any]] = {
        **{name: {"steps": s.steps} for name in ("bim", "pgd", "mifgsm", "apgd", "fmn", "ddn", "cw", "ead")},
        "fab": {"steps": s.steps, "targets": s.classes - 1},
        **{name: {"queries": s.queries} for name in ("square", "hopskipjump", "boundary", "simba", "nes")},
    }
    for name, kind in ATTACKS.items():
        if kind.ball and s.norm in kind.norms and not kind.control and name != "universal":
            budget = {} if kind.minimum_norm else {"eps": s.eps}
            made[name] = kind(norm=s.norm, **budget, **settings.get(name, {}))  # type: ignore[arg-type]
    return made


def runs(s: Setting, model: Classifier, x: Tensor, y: Tensor) -> Iterator[tuple[str, str, Callable[[Counted], Tensor]]]:
    """(name of the attack, package, what gives its points) for all there are."""
    ours, peers = our_attacks(s), foolbox_peers(s)
    foreign: dict[str, dict[str, Callable[[Any], Any]]] = {}
    for package, distribution in PEERS.items():
        if importlib.util.find_spec(package) is None:
            print(f"{package} is not installed, so it is left out: pip install {distribution}")
            continue
        foreign[package] = torchattacks_peers(s) if package == "torchattacks" else art_peers(s)

    def torchattacks(make: Callable[[Any], Any], net: Counted) -> Tensor:
        points: Tensor = make(net)(x, y)
        return points.detach()

    def art(make: Callable[[Any], Any], net: Counted) -> Tensor:
        from art.estimators.classification import PyTorchClassifier

        wrapped = PyTorchClassifier(
            net, nn.CrossEntropyLoss(), tuple(x.shape[1:]), s.classes, clip_values=(0, 1), device_type="cpu"
        )
        return torch.from_numpy(np.asarray(make(wrapped).generate(x.numpy(), y.numpy()), dtype=np.float32))

    call = {"torchattacks": torchattacks, "art": art}
    for name, attack in ours.items():
        yield name, "robustkit", lambda net, attack=attack: attack(net, x, y)
        if name in peers:
            yield name, "foolbox", lambda net, attack=peers[name]: attack(net, x, y)
        for package, makers in foreign.items():
            if name in makers:
                yield name, package, lambda net, run=call[package], make=makers[name]: run(make, net)


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
    for name, package, run in runs(setting, model, x, y):
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
