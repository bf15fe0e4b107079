"""Check of the labels: they are the model's own."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from robustkit.checks.check import Finding, NotApplicable, check
from robustkit.checks.checked_model import CheckedModel
from robustkit.checks.papers import CARLINI
from robustkit.checks.samples.preprocessing import best_fit

_SHUFFLES = 400
_GAIN = 0.3  # in accuracy, of another naming of the classes
_GOOD = 0.7  # the accuracy from which on another naming is taken for the right one


@check(
    id="labels-permuted",
    title="The labels number the classes as the model does.",
    paper=CARLINI,
    threshold=0.3,
    severity="fail",
    remedy="Compare the order of the data's classes with the model's; give the names of the classes. Is it trained?",
)
def permuted(checked: CheckedModel) -> Finding:
    """Gain in accuracy from the best renaming of the classes; wrong if it is much, and no accident.

    Where there are too few samples of a class to rename them, only a model that is sure of itself and nearly always
    wrong, however the pixels are preprocessed, looks as if the labels were not its own.
    """
    truth, said = checked.y.cpu().numpy(), checked.logits.argmax(1).cpu().numpy()
    accuracy = float((truth == said).mean())
    classes = len(set(truth.tolist()))
    renamed = _renamed(truth, said)
    gain = renamed - accuracy
    detail = f"{100 * accuracy:.0f} % are right, and {100 * renamed:.0f} % after the best renaming of the classes."
    if len(truth) >= 2 * classes and classes >= 2:
        draws = np.random.default_rng(checked.seed)
        much = gain >= _GAIN and renamed >= _GOOD
        much = much and renamed > max(_renamed(draws.permutation(truth), said) for _ in range(_SHUFFLES))
        return Finding(gain, detail, wrong=much)
    sure = float(checked.logits.softmax(1).amax(1).mean())
    if accuracy <= 0.1 and renamed >= 0.9 and sure >= 0.5 and classes >= 10:
        fit = best_fit(checked)
        if fit is None or not fit.certain:
            return Finding(gain, f"{detail} Yet the mean confidence is {100 * sure:.0f} %.", wrong=True)
    raise NotApplicable(
        f"{len(truth)} samples of {classes} classes are too few to tell wrong labels from a wrong model; "
        f"{100 * accuracy:.0f} % are right."
    )


def _renamed(truth: np.ndarray, said: np.ndarray) -> float:
    """Accuracy after the one-to-one renaming of the predicted classes that suits best."""
    _, rows = np.unique(truth, return_inverse=True)
    _, columns = np.unique(said, return_inverse=True)
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(table, (rows, columns), 1)
    return float(table[linear_sum_assignment(table, maximize=True)].sum() / len(truth))
