"""How far an answer is certain to hold: randomised smoothing, and bounds of small networks."""

from robustkit.certification.bounds import Bounds
from robustkit.certification.certifier import Certifier, Judged
from robustkit.certification.smoothing import Smoothing

__all__ = ["Bounds", "Certifier", "Judged", "Smoothing"]
