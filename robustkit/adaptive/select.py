"""Which look at a network serves an attack: told by short attacks on a few samples, each judged by the model itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from robustkit.adaptive.attack import Adaptive, Subject
from robustkit.adaptive.backward_model import FIRST, LAST, Look
from robustkit.adaptive.determinised import Habits, Steady
from robustkit.adaptive.gradient_modes import Ends, Layers, StraightThrough, Thresholds
from robustkit.adaptive.remedies import PAPERS, Remedy
from robustkit.attacks import APGD, Square
from robustkit.attacks.core.attack import Attack
from robustkit.attacks.core.goal import Goal
from robustkit.attacks.model.classifier import Classifier
from robustkit.checks.papers import cite
from robustkit.checks.probe import LARGE

_MODULES = 3  # to try as the way in, and as the way out
_TRIAL = 10  # steps
_COPIES = 8
_CLEARLY = 1.5
_NOISE = 0.5  # of the copies: in parts of ε in L∞, of the same size as it per value else
_STEPS = 100
_QUERIES = 5000
_DEAR_QUERIES = 1000  # where a picture is large
_TARGETS = 9
_DEAR_TARGETS = 5  # where an answer costs many queries


@dataclass(frozen=True)
class Prepared:
    """An answer that is ready to run.

    Args:
        remedies: what it is an instance of.
        attack: what runs.
        what: a sentence for the report.
    """

    remedies: frozenset[Remedy]
    attack: Adaptive
    what: str

    @property
    def source(self) -> str:
        """The papers."""
        return cite(*(paper for remedy in sorted(self.remedies) for paper in PAPERS[remedy]))


def prepare(
    model: Classifier,
    habits: Habits,
    remedies: frozenset[Remedy],
    x: Tensor,
    y: Tensor,
    ids: Tensor,
    norm: str,
    eps: float,
    seed: int,
) -> list[Prepared]:
    """The attacks to run for some remedies, the most promising first.

    Args:
        model: frozen and asked, not changed.
        habits: of it; see `steady`.
        remedies: what the checks ask for.
        x, y, ids: some samples that are still right at eps, on which the looks are tried.
        norm, eps, seed: of the audit.
    """
    classes = model.logits(x[:1]).shape[1]
    looks = [Look(), *(look for look in looks_at(model, habits, remedies, x, norm, eps) if not look.plain)]
    tried = {look: _tried(Subject(model, habits, look), x, y, ids, norm, eps, seed) for look in looks}
    ranked = sorted((look for look in looks if tried[look][0] <= len(x)), key=tried.__getitem__)
    loss, targets = ("dlr", min(_TARGETS, classes - 1)) if classes >= 4 else ("margin", classes - 1)
    shared = frozenset({Remedy.DRAWS}) & remedies if habits.draws > 1 else frozenset()
    others = [look for look in ranked[1:] if tried[look] != tried[ranked[0]]]  # equal results: the same in other words
    alone = habits.draws == 1 and habits.company is None  # else each answer costs many queries
    dear = habits.draws > 1 or habits.together > 1
    made = []
    if ranked:
        apgd = APGD(norm, eps, _STEPS // (2 if dear else 1), loss=loss, eot=habits.draws)
        made.append(_answer(model, habits, ranked[0], apgd, shared, "adaptive"))
    if others and not dear and not others[0].plain and Remedy.BRIDGE in remedies:
        apgd = APGD(norm, eps, _STEPS, loss=loss)
        made.append(_answer(model, habits, others[0], apgd, shared, "second look"))
    if ranked and Remedy.MORE in remedies:
        rivals = min(_DEAR_TARGETS, targets) if dear else targets
        apgd = APGD(norm, eps, _STEPS // 2, loss=loss, targets=rivals, eot=habits.draws)
        made.append(_answer(model, habits, ranked[0], apgd, shared | {Remedy.MORE}, "each rival"))
    if Remedy.BLIND in remedies and alone:
        queries = _QUERIES if x[0].numel() <= LARGE else _DEAR_QUERIES
        made.append(_answer(model, habits, Look(), Square(norm, eps, queries), frozenset({Remedy.BLIND}), "adaptive"))
    return made


def _answer(
    model: Classifier, habits: Habits, look: Look, attack: APGD | Square, remedies: frozenset[Remedy], kind: str
) -> Prepared:
    if isinstance(attack, APGD):
        bridged = look.straight or look.enter is not None or look.leave is not None
        remedies |= {Remedy.BRIDGE} if bridged else set()
        remedies |= {Remedy.LOSS} if look.bare or look.plain or not remedies else set()
        remedies |= {Remedy.SMOOTH} if look.copies > 1 else set()
        goal = f"towards each of {attack.targets} rivals in turn" if attack.targets else "away from the label"
        draws = f", {habits.draws} draws a gradient" if habits.draws > 1 else ""
        what = f"{attack.title} of {attack.steps} steps {goal} on the {attack.loss} loss: {look}{draws}."
    else:
        what = f"{attack.title} with {attack.queries} queries, which needs no gradient."
    return Prepared(remedies, Adaptive(Subject(model, habits, look), attack, kind), what)


def looks_at(
    model: Classifier, habits: Habits, remedies: frozenset[Remedy], x: Tensor, norm: str, eps: float
) -> Iterator[Look]:
    """The looks worth a trial, the plain one among them."""
    found = survey(Steady(model, Habits(habits.state)), x)
    bare = found.softmax and Remedy.LOSS in remedies
    base = Look(bare=bare, calm=found.stuck)
    yield base
    if Remedy.BRIDGE in remedies:
        ways = [replace(base, enter=enter) for enter in found.entries]
        ways += [replace(base, leave=leave, bare=False) for leave in found.exits]
        ways += [replace(base, enter=a, leave=b, bare=False) for a in found.entries[-1:] for b in found.exits]
        yield from ([replace(base, straight=True)] if found.steps else []) + ways
    if Remedy.SMOOTH in remedies and habits.draws == 1:
        size = eps if norm == "linf" else eps / x[0].numel() ** (0.5 if norm == "l2" else 1)
        scale = min(model.std) if model.std else 1.0
        yield replace(base, noise=_NOISE * size / scale, copies=_COPIES)


@dataclass(frozen=True)
class Survey:
    """What a network is made of, as far as a look may use it.

    Args:
        entries: modules that take something of the picture's shape, a name for each value; FIRST where none does.
        exits: modules that return something of the logits' shape; LAST where none does.
        softmax, steps: whether it has a softmax over the classes; whether it rounds, detaches or has thresholds.
        stuck: whether a module stays in training mode after eval().
    """

    entries: list[str]
    exits: list[str]
    softmax: bool
    steps: bool
    stuck: bool


def survey(model: Classifier, x: Tensor) -> Survey:
    """Run the network once with its modules watched."""
    net, into, out = model.net, dict[str, Tensor](), dict[str, Tensor]()

    def before(name: str, inputs: tuple[Any, ...]) -> None:
        z = inputs[0] if inputs else None
        if isinstance(z, Tensor) and z.is_floating_point() and z.shape[1:] == x.shape[1:] and _fold(len(z), len(x)):
            into.setdefault(name, z.detach().clone())

    def after(name: str, answer: Any) -> None:
        if isinstance(answer, Tensor) and answer.is_floating_point() and answer.dim() == 2 and len(answer):
            out.setdefault(name, answer.detach().clone())

    handles = []
    with StraightThrough() as steps, Thresholds() as thresholds, Ends() as ends, Layers(x) as layers:
        try:
            for name, module in net.named_modules():
                if name and not isinstance(module, torch.jit.ScriptModule):  # which takes no hooks
                    handles.append(module.register_forward_pre_hook(lambda _, i, name=name: before(name, i)))
                    handles.append(module.register_forward_hook(lambda _, i, o, name=name: after(name, o)))
            logits = model.logits(x)
            with model.frozen():
                stuck = any(getattr(module, "training", False) for module in net.modules())
        finally:
            for handle in handles:
                handle.remove()
    first, last = layers.first, layers.last
    if first is not None and first[:1].numel() == x[:1].numel() and _fold(len(first), len(x)):
        into[FIRST] = first
    if last is not None and last.dim() == 2:
        out = {LAST: last} | out  # a module that returns the same comes before it
    shape = (logits.shape[1],)
    exits = {name: z for name, z in out.items() if z.shape[1:] == shape and _fold(len(z), len(x))}
    softmax = any(z.dim() == 2 and z.shape[1:] == shape and _fold(len(z), len(x)) for z in ends.inputs)
    # An inner module returns before the one around it: the outermost stands for both.
    ways = _distinct(into), _distinct(dict(reversed(exits.items())))
    steps_met = steps.met + thresholds.met > 0
    return Survey(ways[0][:1] + ways[0][1:][1 - _MODULES :], ways[1][:_MODULES], softmax, steps_met, stuck)


def _fold(rows: int, pictures: int) -> bool:
    return rows >= pictures and rows % pictures == 0


def _distinct(values: dict[str, Tensor]) -> list[str]:
    """A name for each different value, the first that had it."""
    kept: dict[str, Tensor] = {}
    for name, value in values.items():
        if not any(value.shape == other.shape and torch.equal(value, other) for other in kept.values()):
            kept[name] = value
    return list(kept)


def _tried(subject: Subject, x: Tensor, y: Tensor, ids: Tensor, norm: str, eps: float, seed: int) -> tuple[int, float]:
    """Samples that a short attack leaves right, and their mean margin; more than there are if the look cannot be taken.
    A look that costs many times another's queries has to end with a clearly smaller margin."""
    attack: Attack = Adaptive(subject, APGD(norm, eps, _TRIAL, loss="margin", early_stop=False), "trial")
    try:
        points = attack(subject, x.clone(), y, ids=ids, seed=seed)
        margin = Goal.of(y, False).margin(subject.logits(points))
    except Exception:  # the model may be anybody's code, and a look at it nobody's
        return len(x) + 1, 0.0
    mean = float(margin.mean())
    return int((margin >= 0).sum()), mean * (_CLEARLY if subject.look.copies > 1 and mean > 0 else 1)
