"""What an audit is asked to do, checked before any work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

import robustkit
from robustkit.attacks import Transfer
from robustkit.attacks.core.attack import Attack
from robustkit.attacks.core.validation import check_eps
from robustkit.attacks.geometry import norms
from robustkit.attacks.model.classifier import Classifier
from robustkit.auditing.resolve import AnyData, AnyModel, check_surrogate, default_batch, read_grid, resolved
from robustkit.certification import Certifier
from robustkit.data.dataset import Data
from robustkit.errors import ConfigError
from robustkit.models.load import LoadedModel

LEAST_LIKELY = "least-likely"

MOST = 2**63 - 1  # the largest whole number that a report can hold


@dataclass(frozen=True)
class Request:
    """An audit as it was asked for; see `robustkit.audit` for each field."""

    model: AnyModel
    data: AnyData
    attacks: Sequence[Attack]
    eps: Iterable[float] | Mapping[float, str] = ()
    seed: int = 0
    norm: str | None = None
    samples: int | None = None
    batch_size: int | None = None
    target: int | str | None = None
    surrogates: Sequence[LoadedModel | Classifier | nn.Module] = ()
    command: str = ""
    certifier: Certifier | None = None


@dataclass(frozen=True)
class Plan:
    """An audit that has been checked: nothing in it can be refused any more."""

    model: LoadedModel
    data: Data
    attacks: list[Attack]
    eps: dict[float, str]
    norm: str
    seed: int
    samples: int | None
    batch_size: int
    target: int | str | None
    surrogates: list[LoadedModel]
    command: str
    certifier: Certifier | None = None

    @property
    def network(self) -> Classifier:
        """The network that answers in the end: the model's, or the one that a certifier asks in its place."""
        return self.model if self.certifier is None else self.certifier.model

    @property
    def total(self) -> int:
        """Samples to judge, those included that may turn out to be unreadable."""
        return min(len(self.data), self.samples or len(self.data))

    def stages(self, attack: Attack) -> list[float] | list[None]:
        """The ε at which an attack runs one after the other; None for one that has none."""
        return list(self.eps) if attack.ball and not attack.minimum_norm else [None]

    def counts_queries(self, attack: Attack) -> bool:
        """Say whether the queries of each row are counted: of a black box, in the audit's norm."""
        black = attack.ball and attack.access != "gradient" and attack.norm == self.norm
        return black and attack.queried and bool(self.eps)

    def description(self) -> dict[str, Any]:
        """Everything that the figures depend on, as JSON values; how fast they come about is no part of it."""
        models = [
            {"name": model.name, "digest": model.digest, "precision": model.precision, "outputs": model.outputs}
            for model in (self.model, *self.surrogates)
        ]
        certifier = None if self.certifier is None else [self.certifier.name, self.certifier.parameters()]
        return {
            "robustkit": robustkit.__version__,
            "models": models,
            "mean": list(self.network.mean or ()),
            "std": list(self.network.std or ()),
            "data": {"name": self.data.name, "available": len(self.data)},
            "attacks": [{"name": attack.name, **attack.parameters()} for attack in self.attacks],
            "eps": list(self.eps),
            "norm": self.norm,
            "seed": self.seed,
            "samples": self.samples,
            "target": self.target,
            "certifier": certifier,
        }

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the description, hex: two plans that share it have the same figures."""
        text = json.dumps(self.description(), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def make_plan(request: Request) -> Plan:
    """The plan of what was asked for; ConfigError, DataError or ModelError where it does not fit."""
    attacks = request.attacks
    if not attacks or not all(isinstance(attack, Attack) for attack in attacks):
        raise ConfigError("attacks must be a list of at least one attack, such as [PGD()]")
    norm = _norm(request)
    grid = read_grid(request.eps)
    try:
        for value in grid:
            check_eps(norm, value)
        norms.get(norm)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    budgeted = any(attack.ball and not attack.minimum_norm for attack in attacks)
    if (budgeted or request.surrogates) and not grid:
        raise ConfigError("eps is empty: give at least one, such as [4/255]")
    for name, number in (("samples", request.samples), ("batch_size", request.batch_size)):
        if number is not None and (not isinstance(number, int) or not 1 <= number <= MOST):
            raise ConfigError(f"{name} must be a whole number from 1 to 2^63 - 1, got {number!r}")
    if not isinstance(request.seed, int) or not 0 <= request.seed <= MOST:
        raise ConfigError(f"seed must be a whole number from 0 to 2^63 - 1, got {request.seed!r}")
    (model, *others), data = resolved((request.model, *request.surrogates), request.data)
    for attack in attacks:
        model.check_attack(attack, request.target is not None)
    for other in others:
        check_surrogate(model, other)
    return Plan(
        model=model,
        data=data,
        attacks=with_transfers(attacks, others, norm),
        eps=dict(sorted((float(value), text) for value, text in grid.items())),
        norm=norm,
        seed=request.seed,
        samples=request.samples,
        batch_size=request.batch_size or default_batch(model),
        target=_target(model, request.target),
        surrogates=others,
        command=request.command,
        certifier=request.certifier,
    )


def _norm(request: Request) -> str:
    """The norm that was asked for, else that of the budgeted attacks, which must be one."""
    attacks, norm = request.attacks, request.norm
    budgets = {attack.norm for attack in attacks if attack.ball and not attack.minimum_norm}
    if norm is None:
        norm = min(budgets) if budgets else next((attack.norm for attack in attacks if attack.ball), "linf")
    if budgets - {norm}:
        raise ConfigError(f"an audit has one norm, here {norm}, but an attack works in {min(budgets - {norm})}")
    return norm


def with_transfers(attacks: Sequence[Attack], surrogates: Sequence[LoadedModel], norm: str) -> list[Attack]:
    """The attacks, and one for the points made on each surrogate."""
    return [*attacks, *(Transfer(surrogate, norm=norm) for surrogate in surrogates)]


def _target(model: LoadedModel, target: int | str | None) -> int | str | None:
    if target is None or target == LEAST_LIKELY:
        return target
    return model.class_index(target)


def target_name(model: LoadedModel, target: int | str | None) -> str | None:
    """The target as a record names it: a class by name, least-likely, or None."""
    found = _target(model, target)
    return model.class_name(found) if isinstance(found, int) else found
