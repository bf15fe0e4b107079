"""Records of a whole suite of attacks: black box, controls, patches and corruptions, surrogates, many at once."""

from __future__ import annotations

import dataclasses
import math
import random
from typing import Any

from report_factory import EPS, Columns, build, comparison, gate

from robustkit.reports import AuditRecord, Cell, CheckResult, Picture, Rate, Skipped, Transfer
from robustkit.reports.record.verdicts import STATUSES

KINDS = ["Gaussian noise", "shot noise", "defocus blur", "motion blur", "fog", "brightness", "contrast", "JPEG"]


def arrivals(column: Columns, right: list[bool], eps: list[float], most: int, seed: int = 7) -> list[list[int | None]]:
    """For each ε the queries after which the samples of `column` broke within it."""
    draw = random.Random(seed)
    each = [round(math.exp(draw.uniform(0, math.log(most)))) for _ in column]
    return [
        [q if ok and d is not None and d <= size else None for q, d, ok in zip(each, column, right, strict=True)]
        for size in eps
    ]


def cells(right: list[bool], kinds: list[str], levels: int = 5) -> list[Cell]:
    total = sum(right)
    broken = [
        [round(total * (0.1 + 0.05 * k) * level / levels) for level in range(1, levels + 1)] for k in range(len(kinds))
    ]
    return [
        Cell(kind, str(level + 1), Rate.of(count, total))
        for kind, row in zip(kinds, broken, strict=True)
        for level, count in enumerate(row)
    ]


def suite(n: int = 20, more: int = 0, surrogates: int = 2) -> AuditRecord:
    """Six attacks on the ball (two of them black box), `more` others, a control, a patch and corruptions."""
    draw = random.Random(3)
    right = [i % 15 != 13 for i in range(n)]
    grid = list(EPS)
    own = [0.001 + 0.0158 * (i + 0.5) / n for i in range(n)]  # what the best attack could reach
    draw.shuffle(own)

    def within(miss: float) -> Columns:
        found = [min((e for e in grid if e >= d), default=None) for d in own]
        return [None if draw.random() < miss else e for e in found]

    def smallest(factor: float) -> Columns:
        return [d * draw.uniform(1, factor) for d in own]

    distances: dict[str, Columns] = {
        "FGSM": within(0.5),
        "PGD": within(0.1),
        "L-BFGS": smallest(2),
        "DDN": smallest(1.3),
        "Square": within(0.2),
        "HopSkipJump": smallest(1.9),
        **{f"Attack number {i}": within(0.1 + 0.04 * i) for i in range(more)},
        "Gaussian noise": [grid[2] if i % 9 == 0 else None for i in range(n)],
        "Patch": [0.9 if i % 3 else None for i in range(n)],
        "Corruptions": [0.3 if i % 4 else None for i in range(n)],
    }
    traits: dict[str, dict[str, Any]] = {
        name: {"arrived": arrivals(distances[name], right, grid, most)}
        for name, most in {"Square": 5000, "HopSkipJump": 2000}.items()
    }
    traits["Corruptions"] = {"cells": cells(right, KINDS), "access": "labels"}
    traits["PGD"] = {"notes": ["The gradient was zero on 2 samples, so they may be more fragile than they look."]}
    for name, figure in {"FGSM": 0.412, "PGD": 0.731, "L-BFGS": 0.884, "DDN": 0.991, "Square": 0.7}.items():
        traits.setdefault(name, {})["optimality"] = figure
    record = build(right, distances, traits=traits)
    others = [
        dataclasses.replace(record.model, name=f"other-{i}", title=f"Other network {i} (ImageNet)")
        for i in range(1, surrogates + 1)
    ]
    models = [record.model.title, *(model.title for model in others)]
    total = max(1, sum(right) - 1)
    wrong = [
        [Rate.of(round(total * (1 if i == j else 0.7 / (1 + abs(i - j)))), total) for j in range(len(models))]
        for i in range(len(models))
    ]
    return dataclasses.replace(
        record,
        surrogates=others,
        transfer=[Transfer("MI-FGSM", grid[-1], EPS[grid[-1]], models, models, wrong)] if others else [],
        comparisons=[comparison(3, "FGSM"), comparison(4, "Patch"), comparison(5, "PGD")],
        gates=[gate("robust accuracy at 4/255 ≥ 0.30", grid[-1], record.worst_case[-1].robust.value or 0.0, 0.30)],
    )


HOSTILE = (
    "<script>alert(1)</script>\"'&|`*_[x](javascript:1)$\\frac{1}{0}$\u202eevil\u0000\x1b[31m\nשלום {{ 7 * 7 }} ]]>"
)


def hostile() -> AuditRecord:
    """Hostile text in every field that takes a name."""
    record = build([True, True, False], {HOSTILE: [0.01, None, None], "_PGD": [0.003, 0.02, None]})
    bad = comparison(1, HOSTILE)
    bad = dataclasses.replace(
        bad,
        name=HOSTILE,
        truth=HOSTILE,
        target=HOSTILE + "2",
        before_label=HOSTILE,
        undone=True,
        perturbation="comparisons/$(id).png",
        adversarial=Picture("comparisons/'.png", HOSTILE + "2", 1, 0.5),
        original=Picture("comparisons/<b>&\"'.png", HOSTILE, 0, 0.5),
    )
    return dataclasses.replace(
        record,
        target=HOSTILE,
        model=dataclasses.replace(record.model, title=HOSTILE, name=HOSTILE, digest=HOSTILE),
        data=dataclasses.replace(record.data, title=HOSTILE, name=HOSTILE, skipped=[Skipped(HOSTILE, HOSTILE)]),
        run=dataclasses.replace(record.run, command=HOSTILE, device=HOSTILE, platform=HOSTILE),
        samples=dataclasses.replace(record.samples, names=[HOSTILE, "n" * 5000, "🦦\u202e"]),
        classes={"0": HOSTILE, "1": "", "2": "é" * 300},
        comparisons=[bad],
        gates=[dataclasses.replace(gate(HOSTILE, None, 0.1, 0.5), detail=HOSTILE)],
        checks=[
            CheckResult(HOSTILE + status, HOSTILE, HOSTILE, 0.1, None, status, HOSTILE, HOSTILE) for status in STATUSES
        ],
        worst_case=[dataclasses.replace(p, text=HOSTILE) for p in record.worst_case],
        attacks=[
            dataclasses.replace(
                a,
                paper=HOSTILE,
                parameters={HOSTILE: HOSTILE},
                notes=[HOSTILE],
                cells=[Cell(HOSTILE, HOSTILE, Rate.of(1, 2)), Cell(HOSTILE, "2", Rate.of(2, 2))],
            )
            for a in record.attacks
        ],
        surrogates=[dataclasses.replace(record.model, title=HOSTILE + "3", name=HOSTILE)],
        transfer=[
            Transfer(
                HOSTILE, None, HOSTILE, [HOSTILE + "3"], [HOSTILE, HOSTILE + "3"], [[Rate.of(1, 2), Rate.of(2, 2)]]
            )
        ],
    )
