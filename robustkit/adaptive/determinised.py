"""A model asked so that one question has one answer: its state put back, its rows in the same company."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.attacks.model.classifier import Classifier
from robustkit.checks.probe import COMPANY, LARGE, Kept, Probe, changed, kept, put_back, reseed, untouched_random_state

DRAWS = 20  # answers of a model that answers at random: as many as in AutoAttack's version for such models
_BESIDE = 31  # clean rows beside a row whose answer depends on them
_TOGETHER = 8  # rows of dear pictures that share their company while a gradient is taken


@dataclass(frozen=True)
class Habits:
    """What an answer of the model depends on besides the picture.

    Args:
        state: the weights and buffers that a query changes, with their values.
        company: clean rows [R, ...] that a row is asked beside; None where its answer is its own.
        draws: answers that are put together; 1 where they are all the same.
    """

    state: Kept
    company: Tensor | None = None
    draws: int = 1

    @property
    def together(self) -> int:
        """Rows that share their company while a gradient is taken. Each by itself is what the model is judged by."""
        return _TOGETHER if self.company is not None and self.company[0].numel() > LARGE else 1

    @property
    def none(self) -> bool:
        return not self.state and self.company is None and self.draws == 1

    def __str__(self) -> str:
        parts = [
            f"what a query changes ({', '.join(list(self.state)[:3])}) is put back before each" if self.state else "",
            ""
            if self.company is None
            else f"each row is asked beside the same {len(self.company)} clean ones, so that no other decides for it",
            f"the answer is the class that the model returns most often in {self.draws} draws"
            if self.draws > 1
            else "",
        ]
        return "; ".join(filter(None, parts))


class Steady(Classifier):
    """The model, or its network under another look, with its habits seen to.

    Args:
        model: whose normalisation and kind of output it has.
        habits: what to put back and to average.
        net: in place of the model's.
        outputs: of that network, where they are others.
        together: rows that are asked at once where company counts.
    """

    def __init__(
        self,
        model: Classifier,
        habits: Habits,
        net: nn.Module | None = None,
        outputs: str | None = None,
        together: int = 1,
    ) -> None:
        super().__init__(
            net or model.net,
            model.mean,
            model.std,
            model.labels,
            model.precision,
            outputs or model.outputs,
            model.classes,
        )
        self.owner, self.habits, self.together = model.net, habits, together

    def _forward(self, x: Tensor, precision: str = "fp32") -> Tensor:
        company = self.habits.company
        if company is None:
            return self._restored(x, precision)
        parts = [torch.cat([part, company.to(x)]) for part in torch.split(x, self.together)]
        return torch.cat([self._restored(part, precision)[: len(part) - len(company)] for part in parts])

    def _restored(self, x: Tensor, precision: str) -> Tensor:
        if self.habits.state:
            _put_back(self.owner, self.habits.state)
        return super()._forward(x, precision)


class _Judge(Steady):
    """Its logits are the logarithms of how often each class was returned; the mean softmax breaks a tie."""

    def logits(self, x: Tensor, *, draws: int = 1) -> Tensor:
        """Logits [B, K] of x [B, ...]."""
        if self.habits.draws == 1:
            return super().logits(x)
        answers = torch.stack([super(_Judge, self).logits(x) for _ in range(self.habits.draws)])
        votes = torch.nn.functional.one_hot(answers.argmax(2), answers.shape[2]).to(answers).mean(0)
        share = votes + 1e-3 * answers.softmax(2).mean(0)
        return (share / share.sum(1, keepdim=True)).clamp_min(torch.finfo(share.dtype).tiny).log()


def judge_of(model: Classifier, habits: Habits) -> Classifier:
    """What says whether a point fools the model: itself, where it has no habits."""
    return model if habits.none else _Judge(model, habits)


def habits_of(model: Classifier, x: Tensor, y: Tensor, seed: int) -> Habits:
    """What the answers of a model depend on besides the picture, found on clean samples x [B, ...] of classes y.

    The model and the global random generators are afterwards as they were.
    """
    before = kept(model.net)
    with untouched_random_state():
        try:
            reseed(seed)
            model.logits(x)
            state = {name: before[name] for name in changed(model.net, before) if name in before}
            put_back(model.net, before)
            habits = Habits(state)
            if Probe(Steady(model, habits), x, y, seed).random_answers:
                return Habits(state, draws=DRAWS)
            if len(x) < 2:
                return habits
            most = Probe(Steady(model, habits), x, y, seed).company[0]
            if most is None or most > COMPANY:
                return Habits(state, company=x[:_BESIDE].clone())
            return habits
        finally:
            put_back(model.net, before)


@torch.no_grad()
def _put_back(net: nn.Module, state: Kept) -> None:
    for name, (tensor, values) in state.items():
        owner, _, key = name.rpartition(".")
        module = net.get_submodule(owner)
        tensor.copy_(values)
        if getattr(module, key, None) is not tensor:
            setattr(module, key, tensor)
