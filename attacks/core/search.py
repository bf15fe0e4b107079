"""Search loop of every attack: evaluate, keep the best point ever seen, drop finished rows, step.

An attack brings a `Method`: what to differentiate, how to score a point, and where to go next. Its state is a
dataclass of tensors with the batch in front, so that it shrinks with the rows.
"""

from __future__ import annotations

from functools import partial

import torch

from ..model.classifier import Classifier
from .bf16_claims import Claims
from .method import Best, Evaluation, Method, S
from .problem import Problem


def search(model: Classifier, problem: Problem, method: Method[S], rounds: int) -> Best:
    """Search with `method` for the best point of each row.

    A row gets at most `rounds` steps, each with a gradient unless the method is blind; the last point is evaluated too.
    """
    best = Best(problem.x.clone(), problem.x.new_full((len(problem.x),), torch.inf))
    rounded = model.precision != "fp32" and not (method.blind or method.exact)
    claims = Claims(model, problem, method, best) if rounded else None
    rows = torch.arange(len(problem.x), device=problem.x.device)
    state = method.begin(problem)
    # Packing reads `done` back from the device: every round on the CPU, seldom where that stalls a queue.
    interval = 1 if problem.x.device.type == "cpu" else 4
    for turn in range(rounds + 1):
        if turn % interval == 0 and bool(state.done.any()):
            keep = (~state.done).nonzero().squeeze(1)
            rows, problem = rows[keep], problem.take(keep)
            state.take(keep)
        if len(rows) == 0:
            break
        last = turn == rounds
        blind = last or method.blind
        problem.spend(method.draws, 0 if blind else method.draws * method.objectives)
        if blind:
            logits = model.logits(state.point, draws=method.draws)
            value, gradient = logits.new_empty(0), logits.new_empty(0)
        else:
            logits, value, gradient = model.gradient(
                state.point, partial(method.objective, state), exact=method.exact, draws=method.draws
            )
        margin = problem.goal.margin(logits)
        score = method.score(problem, state, margin)
        if claims is not None:
            score = claims.verify(problem, rows, state, margin, score=score, exact=last)
        best.offer(rows, state.point, score)
        if problem.trace is not None:
            problem.trace.note(problem.rows, score, margin < 0)
        if last:
            break
        method.advance(problem, state, Evaluation(margin, value, gradient, logits))
    if claims is not None:
        claims.verify_pending()
    return best
