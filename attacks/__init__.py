"""Adversarial attacks on any `torch.nn.Module`, in pixel units of [0,1].

>>> import torch
>>> from robustkit.attacks import PGD
>>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 10))
>>> x, y = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 3])
>>> PGD(eps=8 / 255)(net, x, y, seed=0).shape
torch.Size([4, 3, 2, 2])
"""

from .black_box.boundary import Boundary
from .black_box.hopskipjump import HopSkipJump
from .black_box.nes import NES
from .black_box.noise import GaussianNoise, UniformNoise
from .black_box.simba import SimBA
from .black_box.square import Square
from .bounded.apgd import APGD
from .bounded.pgd import BIM, FGSM, MIFGSM, PGD
from .composed.autoattack import AutoAttack
from .composed.transfer import Transfer
from .core.attack import Attack
from .core.query_trace import Trace
from .foolbox_bridge.attack import Foolbox, as_foolbox
from .minimum_norm.carlini_wagner import CarliniWagner
from .minimum_norm.ddn import DDN
from .minimum_norm.deepfool import DeepFool
from .minimum_norm.ead import EAD
from .minimum_norm.fab import FAB
from .minimum_norm.fmn import FMN
from .minimum_norm.lbfgs import LBFGS
from .model.bpda import BPDA
from .model.classifier import Classifier
from .unrestricted.corruptions import Corruption
from .unrestricted.patch import Patch
from .unrestricted.spatial import Spatial
from .unrestricted.universal import Universal

__all__ = [
    "APGD",
    "BIM",
    "BPDA",
    "DDN",
    "EAD",
    "FAB",
    "FGSM",
    "FMN",
    "LBFGS",
    "MIFGSM",
    "NES",
    "PGD",
    "Attack",
    "AutoAttack",
    "Boundary",
    "CarliniWagner",
    "Classifier",
    "Corruption",
    "DeepFool",
    "Foolbox",
    "GaussianNoise",
    "HopSkipJump",
    "Patch",
    "SimBA",
    "Spatial",
    "Square",
    "Trace",
    "Transfer",
    "UniformNoise",
    "Universal",
    "as_foolbox",
]
