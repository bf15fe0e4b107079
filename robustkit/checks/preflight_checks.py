"""The checks that need no attack: a few samples and seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from robustkit.attacks.model.classifier import Classifier, as_classifier
from robustkit.checks import gradients, model_output
from robustkit.checks.check import Check
from robustkit.checks.checked_model import CheckedModel
from robustkit.checks.samples.chance import chance
from robustkit.checks.samples.labels import permuted
from robustkit.checks.samples.preprocessing import wrong_range
from robustkit.checks.state import untouched_random_state
from robustkit.reports import CheckResult

PREFLIGHT: tuple[Check[CheckedModel], ...] = (
    model_output.training_mode,
    model_output.state_changes,
    model_output.randomised,
    model_output.batch_dependent,
    model_output.probabilities,
    model_output.huge_logits,
    gradients.unavailable,
    gradients.zero,
    gradients.nan,
    gradients.saturated,
    gradients.wrong,
    model_output.step_stage,
    model_output.leaps,
    gradients.optimises_inside,
    chance,
    permuted,
    wrong_range,
    model_output.unstable,
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
    >>> x = torch.rand(16, 3, 2, 2)
    >>> results = {result.id: result.status for result in preflight(net, x, (net(x).argmax(1) + 1) % 3)}
    >>> results["gradient-zero"], results["chance"]
    ('pass', 'fail')
    """
    if not len(x):
        raise ValueError("x holds no samples: give 16 or more")
    checked = CheckedModel(as_classifier(model), x.detach(), y.detach(), seed)
    with untouched_random_state():
        try:
            _ = checked.goal.margin(checked.logits)  # what is no classifier at all is refused here
            return [check.run(checked) for check in PREFLIGHT]
        finally:
            checked.state.restore()
