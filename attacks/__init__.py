"""Adversarial attacks on any `torch.nn.Module`, in pixel units of [0,1].

>>> import torch
>>> from robustkit.attacks import PGD
>>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 10))
>>> x, y = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 3])
>>> PGD(eps=8 / 255)(net, x, y, seed=0).shape
torch.Size([4, 3, 2, 2])
"""

from .apgd import APGD
from .ascent import BIM, FGSM, MIFGSM, PGD
from .autoattack import AutoAttack
from .base import Attack
from .boundary import Boundary
from .bpda import BPDA
from .carlini_wagner import CarliniWagner
from .classifier import Classifier
from .corruptions import Corruption
from .ddn import DDN
from .deepfool import DeepFool
from .ead import EAD
from .fab import FAB
from .fmn import FMN
from .foolbox import Foolbox, as_foolbox
from .hopskipjump import HopSkipJump
from .lbfgs import LBFGS
from .nes import NES
from .noise import GaussianNoise, UniformNoise
from .patch import Patch
from .simba import SimBA
from .spatial import Spatial
from .square import Square
from .trace import Trace
from .transfer import Transfer
from .universal import Universal

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
