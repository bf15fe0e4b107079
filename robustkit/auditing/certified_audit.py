"""Two-sided figures: what is certain of a model's answers, and what attacks on the same samples leave of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from robustkit.attacks import APGD, PGD, Square
from robustkit.attacks.core.attack import Attack
from robustkit.auditing.progress import Watch
from robustkit.auditing.resolve import AnyData, AnyModel, default_batch, read_grid, resolved
from robustkit.auditing.run import audit
from robustkit.certification import Bounds, Smoothing
from robustkit.certification.bounds import BoundsCertifier
from robustkit.certification.certifier import Certifier
from robustkit.certification.smoothing import SmoothingCertifier, smoothed
from robustkit.errors import AuditFailed, AuditInterrupted, ConfigError
from robustkit.models.load import LoadedModel
from robustkit.models.memory import HalvingBatch
from robustkit.reports import AuditRecord, CheckResult


def certify(
    model: AnyModel,
    data: AnyData,
    method: Smoothing | Bounds,
    eps: Iterable[float] | Mapping[float, str],
    *,
    attacks: Sequence[Attack] = (),
    seed: int = 0,
    samples: int | None = None,
    batch_size: int | None = None,
    out: str | Path | None = None,
    watch: Watch | None = None,
    command: str = "",
    checks: bool = False,
) -> AuditRecord:
    """Certify a model's answers, attack the same samples, and record both: certified <= true <= attacked.

    With smoothing the certificate is of the smoothed classifier, so that is what is attacked: through the mean of its
    answers to `method.eot` noisy copies, and judged by fresh noise. A point that it gives no answer for is not broken.

    Args:
        model, data, eps, seed, samples, out, watch, command: see `robustkit.audit`; ε in the method's norm.
        method: how to certify; it fixes the norm, L2 for smoothing.
        attacks: budgeted or minimum-norm; by default APGD, or PGD of 20 steps on a smoothed classifier, and Square
            where there are no gradients.
        batch_size: samples, or noisy copies of one, at a time.
        checks: also see whether the figures can be trusted, as `robustkit.audit` does. Of a smoothed classifier, which
            answers at random by design, they look at the network under the noise.

    Returns:
        The record of the audit with `certified` filled in. An attack that breaks a sample within its certified radius
        fails the check "certificate"; where the certificate is a proof, the record cannot be written at all.

    Raises:
        As `robustkit.audit`; ModelError for a network that no bounds are known for.
    """
    smoothing = isinstance(method, Smoothing)
    norm = "l2" if isinstance(method, Smoothing) else method.norm
    grid = read_grid(eps)
    if not grid:
        raise ConfigError("eps is empty: give at least one, such as [0.25]")
    if not all(attack.ball for attack in attacks):
        raise ConfigError("a certificate is about a ball, which patches, rotations and corruptions leave: take others")
    (subject,), data = resolved((model,), data)
    attacks = attacks or [_default(subject, norm, smoothing)]
    if smoothing:  # just across the boundary of the attack's model, the vote would give no answer
        attacks = [attack.thorough() for attack in attacks]
    certifier: Certifier
    if isinstance(method, Smoothing):
        room = batch_size or default_batch(subject)
        certifier = SmoothingCertifier(subject, method, seed, HalvingBatch(room))
        batch_size = max(1, room // method.eot)
        subject = smoothed(subject, method, seed)
    else:
        certifier = BoundsCertifier(subject, method, sorted(grid))
    try:
        record = audit(
            subject,
            data,
            attacks,
            grid,
            seed=seed,
            norm=norm,
            samples=samples,
            batch_size=batch_size,
            out=None if smoothing else out,  # a picture shows what the network says, not the vote
            watch=watch,
            command=command,
            certifier=certifier,
            checks=checks,
        )
    except (AuditFailed, AuditInterrupted) as stopped:
        if stopped.record is not None:
            stopped.record = with_certificate(stopped.record)
        raise
    return with_certificate(record)


def with_certificate(record: AuditRecord) -> AuditRecord:
    """The record with a failed check if an attack broke a sample within its certified radius."""
    broken = record.refuted
    if not broken:
        return record
    sample, radius, distance = broken[0]
    check = CheckResult(
        id="certificate",
        title="No attack breaks a sample within its certified radius",
        source=record.certified.paper if record.certified is not None else "",
        measured=float(len(broken)),
        threshold=0.0,
        status="fail",
        detail=(
            f"{len(broken)} samples were broken within their radius, first {sample}: certified to {radius:.4g}, broken "
            f"at {distance:.4g}."
        ),
        remedy=(
            "With smoothing, certify again with a smaller alpha and another seed; a proof that is broken is a defect."
        ),
    )
    return dataclasses.replace(record, checks=[*record.checks, check])


def _default(model: LoadedModel, norm: str, smoothing: bool) -> Attack:
    if model.access != "gradient":
        return Square(norm=norm, queries=200)
    return PGD(norm=norm, steps=20) if smoothing else APGD(norm=norm)
