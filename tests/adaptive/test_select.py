"""Choice among surrogate gradients: one that cannot be taken is told in the answer, with the reason."""

from __future__ import annotations

import pytest
import torch
from museum import digits, honest
from museum_faults import OpaqueJpeg, Stage
from torch import Tensor

from robustkit import audit
from robustkit.adaptive import Nondeterminism, PlannedAnswer, Trial, plan_answers
from robustkit.adaptive.remedies import Remedy
from robustkit.attacks import PGD, Classifier


class NoGraph(Stage):
    """Raises where a graph is built."""

    def enter(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            raise RuntimeError("gradients are\nfor sale")
        return x


def planned(net: Stage, *remedies: Remedy) -> list[PlannedAnswer]:
    x, y = digits(4)
    trial = Trial(x, y, torch.arange(4), norm="linf", eps=0.1, seed=0)
    return plan_answers(Classifier(net.eval()), Nondeterminism(), frozenset(remedies), trial)


def test_the_reason_of_a_surrogate_gradient_that_cannot_be_taken_stands_in_the_answer() -> None:
    first, *others = planned(OpaqueJpeg(honest("lenet-mnist")), Remedy.BRIDGE, Remedy.MORE)
    assert "the stages before net bridged by the identity" in first.what
    told = "could not be taken: the model's own gradient"
    assert told in first.what
    assert "(the model gives no gradient: its output does not depend" in first.what
    assert first.what.endswith(").")
    assert not [each.what for each in others if "could not be taken" in each.what]


def test_no_answer_at_all_says_why() -> None:
    with pytest.raises(RuntimeError, match=r"taken: the model's own gradient / .*net.* \(gradients are\)$"):
        planned(NoGraph(honest("lenet-mnist")), Remedy.BRIDGE, Remedy.MORE)
    (blind,) = planned(NoGraph(honest("lenet-mnist")), Remedy.BRIDGE, Remedy.BLIND)
    assert blind.attack.title == "Square (adaptive)"
    assert "; could not be taken: the model's own gradient / " in blind.what


def test_a_sound_choice_says_nothing_of_failures() -> None:
    assert not [each.what for each in planned(Stage(honest("lenet-mnist")), *Remedy) if "could not" in each.what]


def test_the_report_tells_the_reasons() -> None:
    record = audit(OpaqueJpeg(honest("lenet-mnist")).eval(), digits(8), [PGD(steps=5)], [0.2], adapt=True)
    assert record.adapted is not None
    assert "could not be taken: the model's own gradient" in record.adapted.answers[0].what
