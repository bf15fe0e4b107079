"""Records for the tests: consistent by construction, whatever distances go in."""

from __future__ import annotations

import dataclasses
import random
import statistics
from pathlib import Path
from typing import Any

from PIL import Image

from robustkit.reports import (
    AttackResult,
    AuditRecord,
    CheckResult,
    Comparison,
    DataInfo,
    EpsPoint,
    Gate,
    ModelInfo,
    Picture,
    Rate,
    RunInfo,
    Samples,
    Spread,
)

Columns = list[float | None]
CLASSES = ["otter", "cannon", "gibbon", "giant panda", "teapot"]
EPS = {1 / 255: "1/255", 2 / 255: "2/255", 4 / 255: "4/255"}
ATTACKS = {
    "FGSM": ("Goodfellow et al. 2015, arXiv:1412.6572", "budget", "linf", {}),
    "PGD": (
        "Madry et al. 2018, arXiv:1706.06083",
        "budget",
        "linf",
        {"steps": 40, "step": 0.025, "restarts": 1},
    ),
    "L-BFGS": (
        "Szegedy et al. 2014, arXiv:1312.6199",
        "minimum",
        "l2",
        {"steps": 60, "history": 10, "c": None},
    ),
    "DDN": ("Rony et al. 2019, arXiv:1811.09600", "minimum", "l2", {"steps": 100}),
    "Square": ("Andriushchenko et al. 2020, arXiv:1912.00049", "budget", "linf", {"queries": 5000, "p": 0.8}),
    "HopSkipJump": ("Chen et al. 2020, arXiv:1904.02144", "minimum", "linf", {"queries": 2000}),
    "Gaussian noise": ("", "budget", "linf", {"draws": 10}),
    "Patch": ("Brown et al. 2017, arXiv:1712.09665", "free", "", {"size": 0.05}),
    "Corruptions": ("Hendrycks & Dietterich 2019, arXiv:1903.12261", "free", "", {}),
}
TRAITS: dict[str, dict[str, Any]] = {
    "Square": {"access": "scores"},
    "HopSkipJump": {"access": "labels"},
    "Gaussian noise": {"access": "labels", "control": True},
    "Corruptions": {"access": "labels"},
}


def spread(values: list[float]) -> Spread:
    if not values:
        return Spread(0, None, None, None, None, None, None, None, None)
    values = sorted(values)

    def at(share: float) -> float:
        place = share * (len(values) - 1)
        low = int(place)
        high = min(low + 1, len(values) - 1)
        return values[low] + (place - low) * (values[high] - values[low])

    quantiles = [at(share) for share in (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1)]
    return Spread(len(values), *quantiles, statistics.fmean(values))


def build(
    right: list[bool],
    distances: dict[str, Columns],
    *,
    eps: dict[float, str] | None = None,
    norm: str = "linf",
    seed: int = 1,
    judged: dict[str, int] | None = None,
    target: str | None = None,
    traits: dict[str, dict[str, Any]] | None = None,
    **fields: Any,
) -> AuditRecord:
    """A record of `right[i]`: was sample i right before; `distances[attack][i]`: the change that broke it.

    traits: further fields of an attack; see `arrivals` for the queries of a black-box one.
    """
    eps = EPS if eps is None else eps
    draw = random.Random(seed)
    n = len(right)
    labels = [i % len(CLASSES) for i in range(n)]
    predictions = [label if ok else (label + 1) % len(CLASSES) for label, ok in zip(labels, right, strict=True)]
    confidences = [round(draw.uniform(0.5, 0.99), 4) for _ in range(n)]
    attacks = [
        dataclasses.replace(
            _attack(title, column, right, labels, confidences, eps, (judged or {}).get(title, n), target, draw),
            **{**TRAITS.get(title, {}), **(traits or {}).get(title, {})},
        )
        for title, column in distances.items()
    ]
    smallest: Columns = []
    by: list[int | None] = []
    for i in range(n):
        found = [(d, k) for k, a in enumerate(attacks) if a.kind != "free" and (d := a.distances[i]) is not None]
        nearest, place = min(found, default=(None, None))
        smallest.append(nearest if right[i] else 0.0)
        by.append(place)
    reach = min((attack.judged for attack in attacks if attack.kind != "free"), default=0)
    return AuditRecord(
        **{
            "status": "complete",
            "norm": norm,
            "eps": list(eps),
            "target": target,
            "model": ModelInfo(
                "efficientnet-lite0",
                "EfficientNet-Lite0 (ImageNet)",
                1000,
                [3, 224, 224],
                [127 / 255] * 3,
                [128 / 255] * 3,
                4_652_008,
                "sha256:" + "ab" * 32,
            ),
            "data": DataInfo("imagenet-samples", "ImageNet photographs from foolbox", n, []),
            "run": RunInfo(
                "2025-11-24T23:18:05+00:00",
                171.4,
                "robustkit audit --model efficientnet-lite0 --data imagenet-samples --attack fgsm --seed 0",
                0,
                16,
                "cpu",
                "fp32",
                "0.1.0",
                "2.9.1",
                "3.11.9",
                "Linux x86_64",
                2,
            ),
            "clean": Rate.of(sum(right), n),
            "clean_confidence": spread(confidences),
            "worst_case": _curve(smallest[:reach], right[:reach], eps),
            "worst_distance": spread([d for d, ok in zip(smallest, right, strict=True) if ok and d is not None]),
            "attacks": attacks,
            "samples": Samples(
                list(range(n)),
                [f"photo-{i:02d}.jpg" for i in range(n)],
                labels,
                predictions,
                confidences,
                smallest,
                by,
            ),
            "classes": {str(i): name for i, name in enumerate(CLASSES)},
            **fields,
        }
    )


def _curve(column: Columns, right: list[bool], eps: dict[float, str]) -> list[EpsPoint]:
    n, points, before = len(right), [], 0
    for size, text in eps.items():
        broken = sum(ok and d is not None and d <= size for d, ok in zip(column, right, strict=True))
        robust, success = Rate.of(sum(right) - broken, n), Rate.of(broken, sum(right))
        points.append(EpsPoint(size, text, robust, success, before))
        before = broken
    return points


def _attack(
    title: str,
    column: Columns,
    right: list[bool],
    labels: list[int],
    confidences: list[float],
    eps: dict[float, str],
    judged: int,
    target: str | None,
    draw: random.Random,
) -> AttackResult:
    paper, kind, own_norm, parameters = ATTACKS.get(title, ("", "budget", "linf", {}))
    column = [d if ok and i < judged else None for i, (d, ok) in enumerate(zip(column, right, strict=True))]
    hit = [i for i, d in enumerate(column) if d is not None]
    after = [None if d is None else round(draw.uniform(0.3, 0.99), 4) for d in column]
    return AttackResult(
        name=title.lower().replace("-", ""),
        title=title,
        paper=paper,
        kind=kind,
        own_norm=own_norm,
        parameters=dict(parameters),
        judged=judged,
        curve=[] if kind == "free" else _curve(column[:judged], right[:judged], eps),
        success=Rate.of(len(hit), sum(right[:judged])),
        targeted=None if target is None else Rate.of(len(hit) // 2, sum(right[:judged])),
        distortion=spread([d for d in column if d is not None]),
        rms=spread([0.6 * d for d in column if d is not None]),
        confidence_before=spread([confidences[i] for i in hit]),
        confidence_after=spread([c for c in after if c is not None]),
        forwards=41.0,
        backwards=40.0,
        seconds=54.2,
        distances=column,
        rms_each=[None if d is None else 0.6 * d for d in column],
        predictions=[None if d is None else (labels[i] + 2) % len(CLASSES) for i, d in enumerate(column)],
        confidences=after,
    )


def realistic() -> AuditRecord:
    """20 samples, one wrong before; three attacks, three ε, three comparisons, two gates (one fails), four checks."""
    right = [i != 13 for i in range(20)]
    grid = list(EPS)
    distances: dict[str, Columns] = {
        "FGSM": [grid[i % 3] if i % 5 else None for i in range(20)],
        "PGD": [grid[0] if i % 4 else grid[1] if i % 8 else grid[2] for i in range(20)],
        "L-BFGS": [0.004 + 0.0007 * i for i in range(20)],
    }
    record = build(right, distances)
    robust = record.worst_case[-1].robust
    return build(
        right,
        distances,
        comparisons=[comparison(3, "FGSM"), comparison(5, "PGD"), comparison(7, "L-BFGS", undone=True)],
        gates=[
            gate("robust accuracy at 4/255 ≥ 0.30", 4 / 255, robust.value or 0.0, 0.30),
            gate("clean accuracy ≥ 0.80", None, 0.95, 0.80),
        ],
        checks=[
            check("batch-dependent", "pass", 2.1e-7, 0.01),
            check("more-steps", "warn", 0.1, 0.03),
            check("gradient-zero", "fail", 1.0, 0.05),
            check("black-box", "n/a", None, 0.01),
        ],
    )


def check(name: str, status: str, measured: float | None = 0.0, threshold: float | None = 0.0) -> CheckResult:
    found = f"What {name} found." if status != "n/a" else f"Why {name} could not be made."
    return CheckResult(
        name,
        f"What holds where {name} passes.",
        "Carlini et al. 2019, arXiv 1902.06705",
        measured,
        threshold,
        status,
        found,
        f"What to do about {name}.",
    )


def gate(name: str, eps: float | None, measured: float, required: float) -> Gate:
    detail = f"measured {measured:.2f}, required {required:.2f}"
    return Gate(name, "fail-under", eps, measured, required, measured >= required, detail)


def comparison(sample: int, attack: str, *, undone: bool = False, side: int = 32) -> Comparison:
    stem = f"comparisons/{sample:04d}-{attack.lower()}"
    after = ("otter", 0) if undone else ("cannon", 1)
    return Comparison(
        sample=sample,
        name=f"photo-{sample:02d}.jpg",
        truth="otter",
        attack=attack,
        norm="linf",
        eps=None if attack == "L-BFGS" else 4 / 255,
        target=None,
        original=Picture(f"{stem}-original.png", "otter", 0, 0.912),
        perturbation=f"{stem}-perturbation.png",
        amplification=31.875,
        adversarial=Picture(f"{stem}-adversarial.png", *after, 0.874),
        size=4 / 255,
        rms=3.8 / 255,
        before_label="cannon",
        before_confidence=0.51,
        undone=undone,
    )


def draw_pictures(record: AuditRecord, folder: Path, side: int = 32) -> None:
    """The comparisons' PNG files: a gradient, noise, and their sum."""
    for c in record.comparisons:
        draw = random.Random(c.sample)
        base = [(4 * x + 40, 5 * y + 30, 120) for y in range(side) for x in range(side)]
        noise = [tuple(draw.choice((-4, 4)) for _ in range(3)) for _ in base]
        summed = [tuple(a + b for a, b in zip(p, q, strict=True)) for p, q in zip(base, noise, strict=True)]
        shown = [tuple(128 + 31 * v for v in q) for q in noise]
        files = {c.original.file: base, c.perturbation: shown, c.adversarial.file: summed}
        for file, pixels in files.items():
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = Image.new("RGB", (side, side))
            picture.putdata(pixels)
            picture.save(path)
