"""The checks that need no attack: a few samples and seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from robustkit.attacks.model.classifier import Classifier, as_classifier
from robustkit.checks import gradients, labels, model_output
from robustkit.checks.probe import COMPANY, Probe, put_back, untouched_random_state
from robustkit.checks.result import Check
from robustkit.reports import CheckResult

_AUTOATTACK = "Croce & Hein 2020, arXiv 2003.01690"
_CARLINI = "Carlini et al. 2019, arXiv 1902.06705"
_ATHALYE = "Athalye, Carlini & Wagner 2018, arXiv 1802.00420"
_PINTOR = "Pintor et al. 2022, arXiv 2106.09947"
_TEST_TIME = "Croce et al. 2022, arXiv 2202.13711"

PREFLIGHT: tuple[Check[Probe], ...] = (
    Check(
        "training-mode",
        "The network answers as it does in eval mode.",
        _CARLINI,
        0.0,
        "warn",
        "Call .eval() on the network, and compare with figures that were taken in eval mode alone.",
        model_output.training_mode,
    ),
    Check(
        "state-changes",
        "A query changes nothing in the network.",
        _TEST_TIME,
        0.0,
        "fail",
        "Take what learns or counts out of the forward pass, or attack a fresh copy each time.",
        model_output.state_changes,
    ),
    Check(
        "randomised",
        "The same picture gets the same answer every time.",
        f"{_AUTOATTACK}; {_ATHALYE}",
        1e-4,
        "fail",
        "Average the gradients over draws (eot=20), and judge each point by several draws too.",
        model_output.randomised,
    ),
    Check(
        "batch-dependent",
        "A row's answer does not depend on the other rows.",
        _TEST_TIME,
        COMPANY,
        "fail",
        "Use fixed statistics in place of the batch's: running statistics in batch norm, and eval mode.",
        model_output.batch_dependent,
    ),
    Check(
        "probabilities",
        "The model returns logits, not probabilities.",
        _AUTOATTACK,
        0.99,
        "fail",
        "Return what goes into the softmax; if that cannot be had, say outputs='probabilities'.",
        model_output.probabilities,
    ),
    Check(
        "huge-logits",
        "The logits are finite and of a size that float32 resolves.",
        _CARLINI,
        1e6,
        "fail",
        "Look for a division by 0 or a weight that grew without bound; divide the logits by a constant.",
        model_output.huge_logits,
    ),
    Check(
        "gradient-unavailable",
        "The gradient with respect to the picture can be taken.",
        _PINTOR,
        0.0,
        "fail",
        "Write the stage in differentiable operations or give it a stand-in gradient (BPDA); else take attacks that "
        "need none, such as square.",
        gradients.unavailable,
    ),
    Check(
        "gradient-zero",
        "Every row has a gradient that is not 0.",
        f"{_PINTOR}; {_ATHALYE}",
        0.05,
        "fail",
        "Find the stage that stops it (rounding, argmax, detach, saturation), replace its gradient (BPDA), and attack "
        "without gradients too.",
        gradients.zero,
    ),
    Check(
        "gradient-nan",
        "No gradient holds NaN or infinite numbers.",
        _CARLINI,
        0.0,
        "fail",
        "Look for a division by 0, a square root or a norm at 0 in the forward pass; add a small constant there.",
        gradients.nan,
    ),
    Check(
        "saturated",
        "The float32 cross-entropy has a gradient wherever the margin has one.",
        "Carlini & Wagner 2016, arXiv 1607.04311; " + _CARLINI,
        0.05,
        "fail",
        "Attack with a loss that does not saturate (loss=margin or dlr), or divide the logits by a constant.",
        gradients.saturated,
    ),
    Check(
        "gradient-wrong",
        "The gradient is the slope of what the model answers.",
        _ATHALYE,
        0.3,
        "fail",
        "Find the stage with a gradient of its own, or with none; attack without gradients too (square).",
        gradients.wrong,
    ),
    Check(
        "step-stage",
        "The answer follows small changes of the picture smoothly.",
        _ATHALYE,
        0.25,
        "fail",
        "Replace the gradient of the quantising stage (BPDA), and attack without gradients too (square).",
        model_output.step_stage,
    ),
    Check(
        "leaps",
        "The answer moves with the picture without leaps.",
        "Tramèr et al. 2020, arXiv 2002.08347; " + _ATHALYE,
        0.25,
        "fail",
        "Average the gradients over draws near the point (eot=20), start from many points, and attack without "
        "gradients too (square).",
        model_output.leaps,
    ),
    Check(
        "optimises-inside",
        "A forward pass does not optimise anything.",
        _TEST_TIME,
        0.0,
        "fail",
        "Attack through the optimisation (unroll it, or BPDA with EOT), and attack the network without it.",
        gradients.optimises_inside,
    ),
    Check(
        "labels-permuted",
        "The labels number the classes as the model does.",
        _CARLINI,
        0.3,
        "fail",
        "Compare the order of the data's classes with the model's; give the names of the classes. Is it trained?",
        labels.permuted,
    ),
    Check(
        "wrong-range",
        "The pixels are preprocessed as the model was trained, once.",
        _CARLINI,
        0.2,
        "fail",
        "Give pixels in [0,1] and the normalisation once, in the model or beside it (mean=..., std=...).",
        labels.wrong_range,
    ),
    Check(
        "unstable",
        "The loss near a picture is not dominated by noise.",
        _PINTOR,
        0.1,
        "warn",
        "Average the gradients over draws near the point (eot=20), and attack without gradients too (square).",
        model_output.unstable,
    ),
)


def preflight(
    model: Classifier | nn.Module | Callable[[Tensor], Any], x: Tensor, y: Tensor, seed: int = 0
) -> list[CheckResult]:
    """Every check that needs no attack, on a few labelled samples.

    The model, its weights and buffers included, and the global random generators are afterwards as they were; the
    queries count.

    Args:
        model: a Classifier, or a bare module or function that takes pictures in [0,1].
        x: float [B, C, H, W] or [B, n] in [0,1], on the model's device; 16 to 32 samples will do.
        y: int64 [B], the true classes.
        seed: of all random draws.

    Raises:
        ValueError: no samples, or a model that gives no logits for them.

    >>> import torch
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    >>> found = preflight(net, torch.rand(16, 3, 2, 2), torch.arange(16) % 3)
    >>> sorted({result.status for result in found})
    ['pass']
    """
    if not len(x):
        raise ValueError("x holds no samples: give 16 or more")
    probe = Probe(as_classifier(model), x.detach(), y.detach(), seed)
    with untouched_random_state():
        try:
            _ = probe.goal.margin(probe.logits)  # what is no classifier at all is refused here
            return [check.run(probe) for check in PREFLIGHT]
        finally:
            put_back(probe.model.net, probe.kept)
