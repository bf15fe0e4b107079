"""The attacks by the name they have on the command line."""

from __future__ import annotations

from .apgd import APGD
from .ascent import BIM, FGSM, MIFGSM, PGD
from .autoattack import AutoAttack
from .base import Attack
from .boundary import Boundary
from .carlini_wagner import CarliniWagner
from .corruptions import Corruption
from .ddn import DDN
from .deepfool import DeepFool
from .ead import EAD
from .fab import FAB
from .fmn import FMN
from .hopskipjump import HopSkipJump
from .lbfgs import LBFGS
from .nes import NES
from .noise import GaussianNoise, UniformNoise
from .patch import Patch
from .simba import SimBA
from .spatial import Spatial
from .square import Square
from .universal import Universal

ATTACKS: dict[str, type[Attack]] = {
    "fgsm": FGSM,
    "bim": BIM,
    "pgd": PGD,
    "mifgsm": MIFGSM,
    "apgd": APGD,
    "square": Square,
    "simba": SimBA,
    "nes": NES,
    "hopskipjump": HopSkipJump,
    "boundary": Boundary,
    "autoattack": AutoAttack,
    "deepfool": DeepFool,
    "fab": FAB,
    "lbfgs": LBFGS,
    "universal": Universal,
    "patch": Patch,
    "spatial": Spatial,
    "corruption": Corruption,
    "gaussian-noise": GaussianNoise,
    "uniform-noise": UniformNoise,
    "cw": CarliniWagner,
    "ddn": DDN,
    "ead": EAD,
    "fmn": FMN,
}
