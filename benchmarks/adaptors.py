"""The other packages' attacks by our names, for the benchmarks that set them beside ours."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustkit.attacks import Classifier
from robustkit.attacks.registry import ATTACKS

PEERS = {"torchattacks": "torchattacks", "art": "adversarial-robustness-toolbox"}


class Counted(nn.Module):
    """The network on pixels, with its normalisation, counting what goes through it and back.

    Its weights are out of the graph, which no peer sees to: their seconds gain by it. Otherwise `frozen` is off.
    """

    def __init__(self, model: Classifier, frozen: bool = True) -> None:
        super().__init__()
        self.inner, self.mean, self.std = model.net, model.mean, model.std
        self.forwards = self.backwards = 0
        for parameter in self.parameters():
            parameter.requires_grad_(not frozen)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        x = x.float()  # ART asks in double precision now and then
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
    batch: int = 32  # of ART, which cuts what it is given

    @property
    def step(self) -> float:
        return 2.5 * self.eps / self.steps


Maker = Callable[[Setting], Any]
POWER = {"linf": np.inf, "l2": 2, "l1": 1}
LETTERS = {"linf": "Linf", "l2": "L2", "l1": "L1"}


def foolbox_peers(s: Setting) -> dict[str, Callable[[nn.Module, Tensor, Tensor], Tensor]]:
    """What gives the points of foolbox's attack for each of our names; none of ours is around it."""
    import foolbox

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
        # Their own search for a start gives up on some pictures, and then on the whole batch: that is a result too.
        found["hopskipjump"] = ("HopSkipJumpAttack", {"max_gradient_eval_steps": 100, "steps": 12})
        found["boundary"] = ("BoundaryAttack", {"steps": s.queries})
    if s.norm == "l1":
        found["ead"] = ("EADAttack", {"binary_search_steps": 9, "steps": s.steps, "decision_rule": "L1"})

    def points(attack: Any, eps: float | None, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        raw, clipped, _ = attack(foolbox.PyTorchModel(net, bounds=(0, 1)), x, y, epsilons=eps)
        given: Tensor = raw if eps is None else clipped
        return given

    return {
        name: partial(
            points, getattr(foolbox.attacks, attack)(**parameters), None if ATTACKS[name].minimum_norm else s.eps
        )
        for name, (attack, parameters) in found.items()
    }


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
            net,
            norm=power,
            eps=s.eps,
            eps_step=s.step,
            max_iter=s.steps,
            num_random_init=1,
            batch_size=s.batch,
            **quiet,
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


def installed() -> list[str]:
    """The packages of `PEERS` that are here, with a line about those that are not."""
    for package, distribution in PEERS.items():
        if importlib.util.find_spec(package) is None:
            print(f"{package} is not installed, so it is left out: pip install {distribution}", file=sys.stderr)
    return [package for package in PEERS if importlib.util.find_spec(package) is not None]


def makers(package: str, s: Setting) -> dict[str, Callable[[Any], Any]]:
    """What makes the attacks of one of `PEERS`, by our names."""
    return torchattacks_peers(s) if package == "torchattacks" else art_peers(s)


def points_of(package: str, make: Callable[[Any], Any], net: nn.Module, x: Tensor, y: Tensor, classes: int) -> Tensor:
    """What an attack of one of `PEERS` returns."""
    if package == "torchattacks":
        points: Tensor = make(net)(x, y)
        return points.detach()
    from art.estimators.classification import PyTorchClassifier

    wrapped = PyTorchClassifier(
        net, nn.CrossEntropyLoss(), tuple(x.shape[1:]), classes, clip_values=(0, 1), device_type="cpu"
    )
    return torch.from_numpy(np.asarray(make(wrapped).generate(x.numpy(), y.numpy()), dtype=np.float32))
