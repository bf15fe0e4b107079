"""Records at the edges of what a page can show, each with a sentence that its page must say."""

from __future__ import annotations

from report_factory import build, realistic
from report_suite import hostile, suite

from robustkit.reports import AuditRecord

NOTHING: list[float | None] = [None] * 4
EDGES: dict[str, tuple[AuditRecord, str]] = {
    "realistic": (
        realistic(),
        "At ε = 4/255 (L∞) this model keeps 0 of 20 samples right (0 %, 95 % interval 0–16 %).",
    ),
    "already": (
        build([True] * 20, {"PGD": [0.003] * 20}),
        "Already at ε = 1/255 (L∞) this model keeps 0 of 20 samples right",
    ),
    "nothing broke": (
        build([True] * 4, {"PGD": NOTHING}),
        "No attack broke any of the 4 samples that were right.",
    ),
    "all wrong before": (
        build([False] * 4, {"PGD": NOTHING}),
        "This model is wrong on all 4 samples before any attack, so there was nothing to attack.",
    ),
    "one sample": (build([True], {"PGD": [0.01]}), "The one sample that broke needed a change of"),
    "one wrong sample": (build([False], {"PGD": [None]}), "This model is wrong on its one sample"),
    "no samples": (
        build([], {"PGD": []}, status="incomplete"),
        "The run ended before any sample was judged.",
    ),
    "no attacks": (
        build([True] * 4, {}, status="incomplete"),
        "The run ended before any sample was attacked.",
    ),
    "minimum only": (
        build([True] * 4, {"L-BFGS": [0.3, 0.4, 0.5, None]}, eps={}, norm="l2"),
        "Given enough change, the attacks broke 3 of the 4 samples that this model got right.",
    ),
    "minimum only, nothing broke": (
        build([True] * 4, {"L-BFGS": NOTHING}, eps={}),
        "broke 0 of the 4 samples",
    ),
    "incomplete": (
        build([True] * 8, {"FGSM": [0.01] * 8, "PGD": [0.01] * 8}, judged={"PGD": 3}, status="incomplete"),
        "Samples attacked so far, of 8 samples: FGSM 8 and PGD 3.",
    ),
    "L1": (
        build([True] * 4, {"PGD": [30.0] * 4}, norm="l1", eps={40.0: "40"}),
        "an L₁ change of 30 (on average 0.051",
    ),
    "target": (build([True] * 4, {"PGD": [0.01] * 4}, target="gibbon"), "aiming at “gibbon”"),
    "many attacks": (build([True] * 4, {f"A{i}": [i / 255 + 0.001] * 4 for i in range(14)}), "A13"),
    "many eps": (
        build([True] * 4, {"PGD": [0.1] * 4}, eps={i / 255: f"{i}/255" for i in range(1, 41)}),
        "Some ε are left out here",
    ),
    "hostile": (hostile(), "Undone by rounding"),
    "suite": (suite(), "The gradient was zero on 2 samples"),
    "twenty attacks": (suite(20, more=14, surrogates=5), "The 8 strongest of 20 attacks"),
    "only what no norm measures": (
        build([True] * 4, {"Patch": [0.5, None, None, None]}, eps={}),
        "Under Patch this model keeps 3 of 4 samples right",
    ),
}
