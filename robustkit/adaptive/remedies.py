"""Remedies that the literature prescribes where a check finds a fault."""

from __future__ import annotations

from enum import StrEnum

from robustkit.checks.papers import ATHALYE, AUTOATTACK, CARLINI, CARLINI_WAGNER, SQUARE, TRAMER


class Remedy(StrEnum):
    """One thing to do about a fault."""

    LOSS = "loss"  # a loss that no scaling flattens, on the logits from before a softmax or sigmoid
    DRAWS = "draws"  # expectation over the model's randomness
    BRIDGE = "bridge"  # a stand-in for the gradient of what stops it or lies
    SMOOTH = "smooth"  # gradients averaged over noisy copies
    MORE = "more"  # more steps, towards each rival in turn
    BLIND = "blind"  # no gradients at all


PAPERS = {
    Remedy.LOSS: (AUTOATTACK, CARLINI_WAGNER),
    Remedy.DRAWS: (f"{ATHALYE} (EOT)",),
    Remedy.BRIDGE: (f"{ATHALYE} (BPDA)",),
    Remedy.SMOOTH: (TRAMER,),
    Remedy.MORE: (AUTOATTACK, CARLINI),
    Remedy.BLIND: (SQUARE, CARLINI),
}

_GRADIENT = (Remedy.BRIDGE, Remedy.SMOOTH, Remedy.LOSS, Remedy.MORE, Remedy.BLIND)
_WEAK = (Remedy.MORE, Remedy.BLIND)

PRESCRIBED: dict[str, tuple[Remedy, ...]] = {
    "training-mode": (Remedy.DRAWS,),
    "state-changes": (Remedy.DRAWS, Remedy.MORE),
    "randomised": (Remedy.DRAWS, Remedy.MORE),
    "batch-dependent": (Remedy.DRAWS, Remedy.MORE),
    "probabilities": (Remedy.LOSS, Remedy.MORE),
    "huge-logits": (Remedy.LOSS, Remedy.MORE),
    "saturated": (Remedy.LOSS, Remedy.MORE),
    "gradient-unavailable": _GRADIENT,
    "gradient-zero": _GRADIENT,
    "gradient-nan": _GRADIENT,
    "gradient-wrong": _GRADIENT,
    "step-stage": _GRADIENT,
    "leaps": _GRADIENT,
    "optimises-inside": _GRADIENT,
    "unstable": _GRADIENT,
    "single-step": _GRADIENT,
    "eps-growth": _GRADIENT,
    "black-box": _GRADIENT,
    "large-eps": _GRADIENT,
    "unbounded": _GRADIENT,
    "active-test": _GRADIENT,
    "more-steps": _WEAK,
    "other-loss": (Remedy.LOSS, Remedy.MORE),
    "incomplete": _WEAK,
    "silent-success": _WEAK,
}

# No attack mends these: what is measured is not what was meant.
UNANSWERABLE = frozenset({"chance", "labels-permuted", "wrong-range", "few-samples", "rounding", "outside"})
