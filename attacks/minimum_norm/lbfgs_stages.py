"""What the searches of L-BFGS have found by the end of each, so that more of them never end farther than fewer."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.method import Best


class Stages:
    """The smallest adversarial points at the end of each row's first search, of its second and so on, of all classes.

    What a search does depends on those before it alone, never on how many are to follow: so the first stages of many
    searches are those of few.
    """

    def __init__(self, x: Tensor) -> None:
        self._x = x
        self.bests: list[Best] = []  # one a stage; a row holds inf where none of its classes has found any by then
        self.spent = torch.zeros(len(x), dtype=torch.int64, device=x.device)  # gradients of each row's searches

    def note(self, rows: Tensor, tried: Tensor, points: Tensor, sizes: Tensor) -> None:
        """Keep what `rows`, which have just ended search number `tried`, have found by now; points are [R, n]."""
        for stage in sorted(set(tried.tolist())):
            while len(self.bests) < stage:
                self.bests.append(nothing(self._x))
            here = (tried == stage).nonzero().squeeze(1)
            self.bests[stage - 1].offer(rows[here], points[here].view(-1, *self._x.shape[1:]), sizes[here])

    def reached(self, rows: Tensor, tried: Tensor) -> Tensor:
        """The smallest size [R] in the stages that each row has come to."""
        smallest = self._x.new_full((len(rows),), torch.inf)
        for stage, best in enumerate(self.bests, 1):
            smallest = torch.where(tried >= stage, torch.minimum(smallest, best.score[rows]), smallest)
        return smallest

    def earlier(self, score: Tensor) -> list[tuple[Tensor, Best]]:
        """The rows and points with which fewer searches would have ended, the last first, where not at `score` [B]."""
        smallest, found = torch.full_like(score, torch.inf), []
        for best in self.bests:
            rows = ((best.score < smallest) & (best.score > score)).nonzero().squeeze(1)
            smallest = torch.minimum(smallest, best.score)
            found.append((rows, Best(best.point[rows], best.score[rows])))
        return found[::-1]


def nothing(x: Tensor) -> Best:
    """A place for points of which none is found yet."""
    return Best(x.clone(), x.new_full((len(x),), torch.inf))
