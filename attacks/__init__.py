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
from .base import Attack
from .classifier import Classifier
from .lbfgs import LBFGS

__all__ = ["APGD", "BIM", "FGSM", "LBFGS", "MIFGSM", "PGD", "Attack", "Classifier"]
