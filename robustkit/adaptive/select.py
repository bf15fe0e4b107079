"""Choice of adaptive attacks: surrogate gradients are compared by short attacks, each judged by the model itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from robustkit.adaptive.attack import AdaptedModel, AdaptiveAttack
from robustkit.adaptive.backward_model import SurrogateGradient
from robustkit.adaptive.determinised import DeterminisedModel, Nondeterminism
from robustkit.adaptive.remedies import PAPERS, Remedy
from robustkit.adaptive.survey import survey
from robustkit.attacks import APGD, Square
from robustkit.attacks.core.goal import Goal
from robustkit.attacks.model.classifier import Classifier
from robustkit.checks.checked_model import LARGE_PICTURE
from robustkit.checks.papers import cite
from robustkit.text import one_line

_STEPS_TRIED = 10
_COPIES = 8
_CLEARLY = 1.5
_NOISE = 0.5  # of the copies: in parts of ε in L∞, of the same size as it per value else
_STEPS = 100
_QUERIES = 5000
_DEAR_QUERIES = 1000  # where a picture is large
_TARGETS = 9
_DEAR_TARGETS = 5  # where an answer costs many queries
_REASONS = 2  # told, why surrogate gradients could not be taken


@dataclass(frozen=True)
class Trial:
    """Samples on which surrogate gradients are compared.

    Args:
        x, y, ids: a few that are still right at eps.
        norm, eps, seed: of the audit.
    """

    x: Tensor
    y: Tensor
    ids: Tensor
    norm: str
    eps: float
    seed: int


@dataclass(frozen=True)
class PlannedAnswer:
    """An answer to checks that fired, ready to run.

    Args:
        remedies: what it is an instance of.
        attack: what runs.
        what: a sentence for the report.
    """

    remedies: frozenset[Remedy]
    attack: AdaptiveAttack
    what: str

    @property
    def source(self) -> str:
        """The papers."""
        return cite(*(paper for remedy in sorted(self.remedies) for paper in PAPERS[remedy]))


@dataclass(frozen=True, order=True)
class _Outcome:
    """A short attack along a surrogate gradient; of two, the smaller is the better one.

    Args:
        right: samples that it left right.
        margin: their mean.
        failure: one line of the exception that ended it; "" where none did.
    """

    right: int
    margin: float
    failure: str = ""


def plan_answers(
    model: Classifier, nondeterminism: Nondeterminism, remedies: frozenset[Remedy], trial: Trial
) -> list[PlannedAnswer]:
    """Choose the attacks to run for some remedies, the most promising first.

    Args:
        model: frozen and asked, not changed.
        nondeterminism: of its answers.
        remedies: what the checks ask for.
        trial: where the surrogate gradients are compared.

    Raises:
        RuntimeError: no surrogate gradient could be taken, and no attack without gradients is asked for.
    """
    x = trial.x
    candidates = surrogate_gradients(model, nondeterminism, remedies, trial)
    surrogates = [SurrogateGradient(), *(each for each in candidates if not each.plain)]
    outcomes = {each: _tried(AdaptedModel(model, nondeterminism, each), trial) for each in surrogates}
    ranked = sorted(
        (each for each in surrogates if not outcomes[each].failure),
        # The margins of probabilities tell little: where as many are left, the logits are the better way.
        key=lambda each: (outcomes[each].right, not each.before_softmax, outcomes[each]),
    )
    classes = model.logits(x[:1]).shape[1]
    loss, targets = ("dlr", min(_TARGETS, classes - 1)) if classes >= 4 else ("margin", classes - 1)
    shared = frozenset({Remedy.DRAWS}) & remedies if nondeterminism.draws > 1 else frozenset()
    # Equal results: the same in other words.
    others = [each for each in ranked[1:] if outcomes[each] != outcomes[ranked[0]]]
    alone = nondeterminism.draws == 1 and nondeterminism.fixed_batch is None  # else each answer costs many queries
    dear = nondeterminism.draws > 1 or nondeterminism.rows_at_once > 1
    made = []
    if ranked:
        best = AdaptedModel(model, nondeterminism, ranked[0])
        steps = _STEPS // (2 if dear else 1)
        apgd = APGD(trial.norm, trial.eps, steps, loss=loss, eot=nondeterminism.draws)
        made.append(_answer(best, apgd, shared, "adaptive"))
        if others and not dear and not others[0].plain and Remedy.BRIDGE in remedies:
            second = AdaptedModel(model, nondeterminism, others[0])
            apgd = APGD(trial.norm, trial.eps, _STEPS, loss=loss)
            made.append(_answer(second, apgd, shared, "second surrogate"))
        inner = next((each for each in others if each.before_softmax), None)
        if inner is not None and not dear and not ranked[0].before_softmax and Remedy.BRIDGE not in remedies:
            apgd = APGD(trial.norm, trial.eps, _STEPS, loss=loss)
            made.append(_answer(AdaptedModel(model, nondeterminism, inner), apgd, shared, "logits"))
        if Remedy.MORE in remedies:
            rivals = min(_DEAR_TARGETS, targets) if dear else targets
            eot = nondeterminism.draws
            apgd = APGD(trial.norm, trial.eps, _STEPS // 2, loss=loss, targets=rivals, eot=eot)
            made.append(_answer(best, apgd, shared | {Remedy.MORE}, "each rival"))
    if Remedy.BLIND in remedies and alone:
        queries = _QUERIES if x[0].numel() <= LARGE_PICTURE else _DEAR_QUERIES
        plain = AdaptedModel(model, nondeterminism, SurrogateGradient())
        square = Square(trial.norm, trial.eps, queries)
        made.append(_answer(plain, square, frozenset({Remedy.BLIND}), "adaptive"))
    failures = _failures(outcomes)
    if not made:
        raise RuntimeError(f"no surrogate gradient could be taken: {failures}")
    if failures:
        made[0] = replace(made[0], what=f"{made[0].what[:-1]}; could not be taken: {failures}.")
    return made


def _failures(outcomes: dict[SurrogateGradient, _Outcome]) -> str:
    """The surrogate gradients that could not be taken, with the reasons."""
    failed: dict[str, list[str]] = {}
    for each, outcome in outcomes.items():
        if outcome.failure:
            failed.setdefault(outcome.failure, []).append(str(each))
    parts = [f"{' / '.join(names)} ({reason})" for reason, names in failed.items()]
    more = [f"and {len(parts) - _REASONS} more reasons"] if len(parts) > _REASONS else []
    return "; ".join(parts[:_REASONS] + more)


def _answer(adapted: AdaptedModel, attack: APGD | Square, remedies: frozenset[Remedy], kind: str) -> PlannedAnswer:
    surrogate, count = adapted.surrogate, adapted.nondeterminism.draws
    if isinstance(attack, APGD):
        bridged = surrogate.straight_through or surrogate.entry is not None or surrogate.exit is not None
        remedies |= {Remedy.BRIDGE} if bridged else set()
        remedies |= {Remedy.LOSS} if surrogate.before_softmax or surrogate.plain or not remedies else set()
        remedies |= {Remedy.SMOOTH} if surrogate.copies > 1 else set()
        goal = f"towards each of {attack.targets} rivals in turn" if attack.targets else "away from the label"
        draws = f", {count} draws a gradient" if count > 1 else ""
        what = f"{attack.title} of {attack.steps} steps {goal} on the {attack.loss} loss: {surrogate}{draws}."
    else:
        what = f"{attack.title} with {attack.queries} queries, which needs no gradient."
    return PlannedAnswer(remedies, AdaptiveAttack(adapted, attack, kind), what)


def surrogate_gradients(
    model: Classifier, nondeterminism: Nondeterminism, remedies: frozenset[Remedy], trial: Trial
) -> Iterator[SurrogateGradient]:
    """The surrogate gradients worth a trial, the model's own among them."""
    x = trial.x
    found = survey(DeterminisedModel(model, Nondeterminism(nondeterminism.state)), x)
    base = SurrogateGradient(before_softmax=found.softmax and Remedy.LOSS in remedies, eval_mode=found.stuck)
    yield base
    if Remedy.BRIDGE in remedies:
        ways = [replace(base, entry=entry) for entry in found.entries]
        exits = [replace(base, exit=exit, before_softmax=False) for exit in found.exits]
        both = [replace(each, entry=entry) for entry in found.entries[-1:] for each in exits]
        yield from ([replace(base, straight_through=True)] if found.steps else []) + ways + exits + both
    if Remedy.SMOOTH in remedies and nondeterminism.draws == 1:
        size = trial.eps
        if trial.norm != "linf":
            size /= x[0].numel() ** (0.5 if trial.norm == "l2" else 1)
        scale = min(model.std) if model.std else 1.0
        yield replace(base, noise=_NOISE * size / scale, copies=_COPIES)


def _tried(adapted: AdaptedModel, trial: Trial) -> _Outcome:
    """Run a short attack. A surrogate gradient that costs many times another's queries has to end clearly better."""
    apgd = APGD(trial.norm, trial.eps, _STEPS_TRIED, loss="margin", early_stop=False)
    try:
        attack = AdaptiveAttack(adapted, apgd, "trial")
        points = attack(adapted, trial.x.clone(), trial.y, ids=trial.ids, seed=trial.seed)
        margin = Goal.of(trial.y, False).margin(adapted.logits(points))
    except Exception as error:  # the model may be anybody's code, and its backward model nobody's
        return _Outcome(len(trial.x), 0.0, one_line(error))
    mean = float(margin.mean())
    return _Outcome(int((margin >= 0).sum()), mean * (_CLEARLY if adapted.surrogate.copies > 1 and mean > 0 else 1))
