"""How far an answer is certain to hold: randomised smoothing, and bounds of small networks."""

from robustkit.certificates.base import Certifier, Judged
from robustkit.certificates.bounds import Bounds
from robustkit.certificates.smoothing import Smoothing

__all__ = ["Bounds", "Certifier", "Judged", "Smoothing"]
