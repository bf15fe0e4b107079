"""The attacks by the name they have on the command line."""

from __future__ import annotations

from .apgd import APGD
from .ascent import BIM, FGSM, MIFGSM, PGD
from .base import Attack
from .lbfgs import LBFGS

ATTACKS: dict[str, type[Attack]] = {
    "fgsm": FGSM,
    "bim": BIM,
    "pgd": PGD,
    "mifgsm": MIFGSM,
    "apgd": APGD,
    "lbfgs": LBFGS,
}
