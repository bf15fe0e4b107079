"""Certified radii of predictions: randomised smoothing, and bounds of small networks."""

from robustkit.certification.bounds import Bounds
from robustkit.certification.certifier import Certifier, Prediction
from robustkit.certification.smoothing import Smoothing

__all__ = ["Bounds", "Certifier", "Prediction", "Smoothing"]
