"""Checks of an evaluation: whether its numbers mean what they seem to."""

from robustkit.checks.check import Check
from robustkit.checks.evaluation_checks import EVALUATION, evaluation, with_gates
from robustkit.checks.preflight_checks import PREFLIGHT, preflight
from robustkit.checks.samples.chance import on_all_samples
from robustkit.reports import CheckResult

__all__ = ["EVALUATION", "PREFLIGHT", "Check", "CheckResult", "evaluation", "on_all_samples", "preflight", "with_gates"]
