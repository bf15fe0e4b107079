"""The attacks by the name they have on the command line."""

from __future__ import annotations

from .black_box.boundary import Boundary
from .black_box.hopskipjump import HopSkipJump
from .black_box.nes import NES
from .black_box.noise import GaussianNoise, UniformNoise
from .black_box.simba import SimBA
from .black_box.square import Square
from .bounded.apgd import APGD
from .bounded.pgd import BIM, FGSM, MIFGSM, PGD
from .composed.autoattack import AutoAttack
from .core.attack import Attack
from .minimum_norm.carlini_wagner import CarliniWagner
from .minimum_norm.ddn import DDN
from .minimum_norm.deepfool import DeepFool
from .minimum_norm.ead import EAD
from .minimum_norm.fab import FAB
from .minimum_norm.fmn import FMN
from .minimum_norm.lbfgs import LBFGS
from .unrestricted.corruptions import Corruption
from .unrestricted.patch import Patch
from .unrestricted.spatial import Spatial
from .unrestricted.universal import Universal

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
