"""A determinised model: what its answers depend on besides the picture is found, and then put back, fixed or averaged.

Croce et al. 2022, arXiv 2202.13711: a defence that adapts at test time is to be attacked as a static one too. Athalye
et al. 2018, arXiv 1802.00420: of one that answers at random, the expectation is attacked (EOT).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.attacks.model.classifier import Classifier
from robustkit.checks.checked_model import BATCH_TOLERANCE, LARGE_PICTURE, CheckedModel
from robustkit.checks.state import ModuleState, reseed, untouched_random_state

DRAWS = 20  # answers of a model that answers at random: as many as in AutoAttack's version for such models
_BESIDE = 31  # clean rows beside a row whose answer depends on the batch
_AT_ONCE = 8  # rows of dear pictures that share a batch while a gradient is taken


@dataclass(frozen=True)
class Nondeterminism:
    """Dependence of a model's answers on something besides the picture.

    Args:
        state: the weights and buffers that a query changes, as they were; None where there are none.
        fixed_batch: clean rows [R, ...] that complete the batch of each row, where the answer depends on the batch.
        draws: random answers that are averaged; 1 where they are all the same.
    """

    state: ModuleState | None = None
    fixed_batch: Tensor | None = None
    draws: int = 1

    @property
    def rows_at_once(self) -> int:
        """Rows that share the fixed batch while a gradient is taken. The judge asks about each by itself."""
        return _AT_ONCE if self.fixed_batch is not None and self.fixed_batch[0].numel() > LARGE_PICTURE else 1

    @property
    def absent(self) -> bool:
        """True of a model whose answers depend on the picture alone."""
        return self.state is None and self.fixed_batch is None and self.draws == 1

    def __str__(self) -> str:
        parts = []
        if self.state is not None:
            parts.append(f"what a query changes ({', '.join(list(self.state.values)[:3])}) is put back before each")
        if self.fixed_batch is not None:
            count = len(self.fixed_batch)
            parts.append(f"each row is asked beside the same {count} clean ones, so that no other decides for it")
        if self.draws > 1:
            parts.append(f"the answer is the class that the model returns most often in {self.draws} draws")
        return "; ".join(parts)


class DeterminisedModel(Classifier):
    """The model, or its network's backward model, whose state is put back and whose batch is fixed.

    Args:
        model: whose normalisation and kind of output it has.
        nondeterminism: what to put back, to fix and to average.
        net: in place of the model's.
        outputs: of that network, where they are others.
        rows_at_once: rows that share the fixed batch.
    """

    def __init__(
        self,
        model: Classifier,
        nondeterminism: Nondeterminism,
        net: nn.Module | None = None,
        outputs: str | None = None,
        rows_at_once: int = 1,
    ) -> None:
        super().__init__(
            net or model.net,
            mean=model.mean,
            std=model.std,
            labels=model.labels,
            precision=model.precision,
            outputs=outputs or model.outputs,
            classes=model.classes,
        )
        self.nondeterminism, self.rows_at_once = nondeterminism, rows_at_once

    def _forward(self, x: Tensor, precision: str = "fp32") -> Tensor:
        beside = self.nondeterminism.fixed_batch
        if beside is None:
            return self._restored(x, precision)
        parts = [torch.cat([part, beside.to(x)]) for part in torch.split(x, self.rows_at_once)]
        return torch.cat([self._restored(part, precision)[: len(part) - len(beside)] for part in parts])

    def _restored(self, x: Tensor, precision: str) -> Tensor:
        if self.nondeterminism.state is not None:
            self.nondeterminism.state.restore()
        return super()._forward(x, precision)


class _MajorityVote(DeterminisedModel):
    """Its logits are the logarithms of how often each class was returned; the mean softmax breaks a tie."""

    def logits(self, x: Tensor, *, draws: int = 1) -> Tensor:
        """Logits [B, K] of x [B, ...]."""
        if self.nondeterminism.draws == 1:
            return super().logits(x)
        answers = torch.stack([super(_MajorityVote, self).logits(x) for _ in range(self.nondeterminism.draws)])
        votes = torch.nn.functional.one_hot(answers.argmax(2), answers.shape[2]).to(answers).mean(0)
        share = votes + 1e-3 * answers.softmax(2).mean(0)
        return (share / share.sum(1, keepdim=True)).clamp_min(torch.finfo(share.dtype).tiny).log()


def determinised_judge(model: Classifier, nondeterminism: Nondeterminism) -> Classifier:
    """The model that says whether a point is adversarial: itself, where its answers depend on the picture alone."""
    return model if nondeterminism.absent else _MajorityVote(model, nondeterminism)


def find_nondeterminism(model: Classifier, x: Tensor, y: Tensor, seed: int) -> Nondeterminism:
    """Find what the answers of a model depend on besides the picture, on clean samples x [B, ...] of classes y.

    The model and the global random generators are afterwards as they were.
    """
    before = ModuleState.of(model.net)
    with untouched_random_state():
        try:
            reseed(seed)
            model.logits(x)
            changed = before.only(before.changed())
            before.restore()
            state = changed if changed.values else None
            checked = CheckedModel(DeterminisedModel(model, Nondeterminism(state)), x, y, seed)
            if checked.randomised:
                return Nondeterminism(state, draws=DRAWS)
            if len(x) < 2:
                return Nondeterminism(state)
            most = checked.batch_dependence[0]
            dependent = most is None or most > BATCH_TOLERANCE
            return Nondeterminism(state, fixed_batch=x[:_BESIDE].clone() if dependent else None)
        finally:
            before.restore()
