"""Automatic answers: where a check finds a fault, the attack that the literature prescribes against it."""

from robustkit.adaptive.attack import Adaptive
from robustkit.adaptive.determinised import Habits, habits_of, judge_of
from robustkit.adaptive.remedies import PRESCRIBED, UNANSWERABLE
from robustkit.adaptive.select import Prepared, prepare

__all__ = ["PRESCRIBED", "UNANSWERABLE", "Adaptive", "Habits", "Prepared", "habits_of", "judge_of", "prepare"]
