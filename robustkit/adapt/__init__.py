"""Automatic answers: where a check finds a fault, the attack that the literature prescribes against it."""

from robustkit.adapt.adaptive import Adaptive
from robustkit.adapt.choose import Prepared, prepare
from robustkit.adapt.steady import Habits, habits_of, judge_of
from robustkit.adapt.table import PRESCRIBED, UNANSWERABLE

__all__ = ["PRESCRIBED", "UNANSWERABLE", "Adaptive", "Habits", "Prepared", "habits_of", "judge_of", "prepare"]
