"""The verdict on an attack's points, in full precision by the model itself: nobody's word is taken for success."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustkit.attacks.core.attack import Attack
from robustkit.attacks.core.goal import answered
from robustkit.attacks.geometry.norms import Norm
from robustkit.attacks.model.classifier import Classifier
from robustkit.certification import Certifier
from robustkit.reports.record.statistics import TOLERANCE


@dataclass(frozen=True)
class Rows:
    """The samples of a batch that the model gets right, R of them."""

    x: Tensor  # [R, C, H, W]
    y: Tensor
    targets: Tensor | None
    ids: Tensor  # on the CPU
    places: Tensor  # in the batch, on the CPU
    known: Tensor | None = None  # float64, on the CPU: the smallest distance at which an attack before broke it, or inf

    def take(self, keep: Tensor | slice) -> Rows:
        """Some of the rows, by place on the device of x."""
        host = keep.cpu() if isinstance(keep, Tensor) else keep
        return Rows(
            x=self.x[keep],
            y=self.y[keep],
            targets=None if self.targets is None else self.targets[keep],
            ids=self.ids[host],
            places=self.places[host],
            known=None if self.known is None else self.known[host],
        )

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Verdict:
    """What became of R points.

    Args:
        wrong: bool [R], the model errs.
        reached: bool [R], the target where there is one, else `wrong`.
        distances, rms: float64 [R], on the CPU as are the next two.
        predictions: int64 [R].
        confidences: float64 [R].
        points: [R, C, H, W] as judged: one outside ball or box is the sample itself again.
        outside, undecided: how many were outside; how many the certifier gave no answer for.
    """

    wrong: Tensor
    reached: Tensor
    distances: Tensor
    rms: Tensor
    predictions: Tensor
    confidences: Tensor
    points: Tensor
    outside: int
    undecided: int


@dataclass(frozen=True)
class Judge:
    """Judges points by a model, or by the certifier in its place.

    Args:
        model: what is asked; of a model that answers at random, its determinised form.
        norm: in which distances are measured.
        certifier: where there is one, its answers count; a row without an answer is not broken.
    """

    model: Classifier
    norm: Norm
    certifier: Certifier | None = None

    def verdict(self, attack: Attack, eps: float | None, rows: Rows, points: Tensor) -> Verdict:
        """The verdict on what an attack made of the rows. Box and budget must hold.

        Raises:
            RuntimeError: points of the wrong shape, or NaN; points of an attack of ours outside ball or box, which is a
                defect. Of somebody else's, such a point is not counted.
        """
        if not isinstance(points, Tensor) or points.shape != rows.x.shape or not bool(torch.isfinite(points).all()):
            raise RuntimeError(f"{attack.title} returned points of the wrong shape, or NaN")
        change = (points - rows.x).double()
        sizes = self.norm.size(change)
        outside = (points.flatten(1).amin(1) < -TOLERANCE) | (points.flatten(1).amax(1) > 1 + TOLERANCE)
        if eps is not None:
            outside = outside | (sizes > eps + TOLERANCE)
        stray = outside.nonzero().squeeze(1)
        if len(stray):
            if not attack.foreign:
                _complain(attack, eps, points, sizes)
            points = points.clone()
            points[stray] = rows.x[stray]
        undecided = 0
        if self.certifier is None:
            confidence, predicted = answered(self.model.logits(points))
            wrong = predicted != rows.y
        else:
            seen = self.certifier.predict(points, rows.ids)
            confidence, predicted = seen.confidence, seen.predicted
            undecided = int(seen.abstained.sum())
            wrong = (predicted != rows.y) & ~seen.abstained
        return Verdict(
            wrong=wrong,
            reached=wrong if rows.targets is None else predicted == rows.targets,
            distances=sizes.cpu(),
            rms=change.flatten(1).square().mean(1).sqrt().cpu(),
            predictions=predicted.cpu(),
            confidences=confidence.double().cpu(),
            points=points,
            outside=len(stray),
            undecided=undecided,
        )


def _complain(attack: Attack, eps: float | None, points: Tensor, sizes: Tensor) -> None:
    low, high = (float(bound) for bound in torch.aminmax(points))
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise RuntimeError(f"{attack.title} left the box [0,1]: its points span [{low:.7g}, {high:.7g}]")
    raise RuntimeError(f"{attack.title} left the ball: {float(sizes.max()):.7g} from the picture, ε is {eps:.7g}")
