"""Automatic answers: where a check finds a fault, the attack that the literature prescribes against it."""

from robustkit.adaptive.attack import AdaptiveAttack
from robustkit.adaptive.determinised import Nondeterminism, determinised_judge, find_nondeterminism
from robustkit.adaptive.remedies import PRESCRIBED, UNANSWERABLE
from robustkit.adaptive.select import PlannedAnswer, Trial, plan_answers

__all__ = [
    "PRESCRIBED",
    "UNANSWERABLE",
    "AdaptiveAttack",
    "Nondeterminism",
    "PlannedAnswer",
    "Trial",
    "determinised_judge",
    "find_nondeterminism",
    "plan_answers",
]
