"""The audits that `same_figures.py` runs: every attack of `robustkit attacks` in every norm it works in, and the rest
of the command line that makes figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

NORMS = ("linf", "l2", "l1")
# Cheap parameters, by attack; one that is not named here runs with its own.
CHEAP = {
    **dict.fromkeys(("bim", "mifgsm"), "steps=6"),
    "pgd": "steps=10,restarts=2",
    "apgd": "steps=10,restarts=2",
    "square": "queries=60,restarts=2",
    **dict.fromkeys(("simba", "boundary"), "queries=100"),
    "hopskipjump": "queries=200",
    "nes": "queries=156",
    "autoattack": "steps=6,queries=40",
    "deepfool": "steps=20",
    "fab": "steps=6,restarts=2,targets=3",
    "lbfgs": "steps=6,searches=4,candidates=3",
    "universal": "epochs=3,batch=8",
    "patch": "epochs=3,batch=8",
    "spatial": "angles=5,shifts=3",
    "cw": "steps=10,searches=3",
    **dict.fromkeys(("ddn", "fmn"), "steps=20"),
    "ead": "steps=10,searches=2,targets=3",
    "foolbox:GaussianBlurAttack": "steps=50",
    "foolbox:L2CarliniWagnerAttack": "steps=20,binary_search_steps=2",
    "foolbox:EADAttack": "steps=20,binary_search_steps=2",
}
# Where the same would take long on photographs.
CHEAPER = {
    **CHEAP,
    **dict.fromkeys(("bim", "mifgsm"), "steps=3"),
    "pgd": "steps=4,restarts=2",
    "apgd": "steps=5",
    **dict.fromkeys(("square", "simba", "boundary", "hopskipjump"), "queries=40"),
    "hopskipjump": "queries=130",
    "nes": "queries=104",
    "autoattack": "steps=3,queries=20",
    "deepfool": "steps=4,candidates=3",
    "fab": "steps=3,targets=2",
    "lbfgs": "steps=3,searches=2,candidates=2",
    "universal": "epochs=1,batch=4",
    "patch": "epochs=1,batch=4",
    "spatial": "angles=3,shifts=2",
    "corruption": "severity=3",
    **dict.fromkeys(("gaussian-noise", "uniform-noise"), "draws=3"),
    "cw": "steps=4,searches=2",
    **dict.fromkeys(("ddn", "fmn"), "steps=6"),
    "ead": "steps=3,searches=2,targets=2",
    "foolbox:GaussianBlurAttack": "steps=10",
}
FOOLBOX = {
    "foolbox:LinfProjectedGradientDescentAttack": ("linf",),
    "foolbox:GaussianBlurAttack": NORMS,
    "foolbox:L2CarliniWagnerAttack": ("l2",),
    "foolbox:EADAttack": ("l1",),
}
EPS = {  # of the digits, then of the photographs
    "linf": ("0.1,0.2,0.3", "1/255,4/255"),
    "l2": ("0.5,1,2", "0.5,2"),
    "l1": ("5,10,20", "10,50"),
}
PRESETS = ("quick", "standard", "autoattack", "thorough")
AIMED = {  # attacks that can have a target
    "linf": ("fgsm", "pgd", "apgd", "square", "nes", "fmn", "universal"),
    "l2": ("lbfgs", "cw", "ddn", "fmn", "hopskipjump", "boundary", "autoattack"),
    "l1": ("ead:steps=10,searches=2", "apgd", "fab:steps=6"),
}


@dataclass(frozen=True)
class Case:
    """One run of the command line: a name for the table, the command, what follows it, and whether it takes files of
    `figures_models.py`."""

    name: str
    command: str
    options: tuple[str, ...]
    files: bool = False


@dataclass(frozen=True)
class Sizes:
    """How many digits and photographs a run judges; more than one batch each."""

    digits: int
    photographs: int

    def digit_options(self, model: str, norm: str, share: float = 1) -> tuple[str, ...]:
        """Options of a run on `share` of the digits."""
        samples = max(2, round(share * self.digits))
        return (*_subject(model, samples, max(1, 3 * samples // 8)), "--norm", norm, "--eps", EPS[norm][0])

    def photograph_options(self, norm: str) -> tuple[str, ...]:
        """Options of a run on the photographs."""
        subject = _subject("efficientnet-lite0", self.photographs, max(1, self.photographs * 2 // 3))
        return (*subject, "--norm", norm, "--eps", EPS[norm][1])


def cases(listed: dict[str, tuple[str, ...]], sizes: Sizes) -> Iterator[Case]:
    """All runs.

    Args:
        listed: the norms of every attack that `robustkit attacks` lists, none for those that no norm measures.
        sizes: of the runs.
    """
    yield from _digits(listed, sizes)
    yield from _files(sizes)
    for norm in NORMS:
        options = sizes.photograph_options(norm)
        yield Case(f"efficientnet-lite0 {norm}", "audit", options + _attacks(_named(listed, norm), CHEAPER))
    options = sizes.photograph_options("linf")
    yield Case("efficientnet-lite0 free", "audit", options + _attacks(_free(listed), CHEAPER))
    options = sizes.photograph_options("l2")
    aimed = _attacks(("pgd", "lbfgs"), CHEAPER)
    yield Case("efficientnet-lite0 targeted", "audit", (*options, "--target", "goldfish", *aimed))
    yield from _presets(sizes)
    yield from _certified(sizes)


def _digits(listed: dict[str, tuple[str, ...]], sizes: Sizes) -> Iterator[Case]:
    for model in ("lenet-mnist", "lenet-mnist-pgd", "lenet-mnist-noise"):
        for norm in NORMS:
            options = sizes.digit_options(model, norm)
            yield Case(f"{model} {norm}", "audit", options + _attacks(_named(listed, norm), CHEAP))
        yield Case(f"{model} free", "audit", sizes.digit_options(model, "linf") + _attacks(_free(listed), CHEAP))
    for norm, names in AIMED.items():
        for target in ("3", "least-likely"):
            options = (*sizes.digit_options("lenet-mnist", norm), "--target", target)
            yield Case(f"target {target} {norm}", "audit", options + _attacks(names, CHEAP))
    others = ("--surrogate", "lenet-mnist", "--surrogate", "lenet-mnist-noise")
    for norm in NORMS:
        names = ("pgd", "fmn") if norm != "l2" else ("pgd", "ddn", "square")
        options = sizes.digit_options("lenet-mnist-pgd", norm) + others
        yield Case(f"surrogates {norm}", "audit", options + _attacks(names, CHEAP))
    bare = (*sizes.digit_options("lenet-mnist", "linf"), "--no-checks", "--no-prepare")
    gates = ("--fail-under", "0.1=0.99", "--fail-under", "0.3=0")
    yield Case("gates, no checks", "audit", (*bare, *gates, *_attacks(("pgd", "square"), CHEAP)))


def _presets(sizes: Sizes) -> Iterator[Case]:
    for preset in PRESETS:
        for norm in NORMS:
            model = "lenet-mnist-pgd" if norm == "linf" else "lenet-mnist"
            options = sizes.digit_options(model, norm, 0.25)
            yield Case(f"preset {preset} {norm}", "audit", (*options, "--preset", preset))


def _files(sizes: Sizes) -> Iterator[Case]:
    for fault in ("cold", "quantised"):
        subject = sizes.digit_options(f"{fault}.pt", "linf", 0.25)
        options = (*subject, "--config", "small.toml", "--data", "mnist-samples")
        yield Case(f"adapt {fault}", "audit", (*options, "--adapt", *_attacks(("pgd",), CHEAP)), files=True)
    options = (*sizes.digit_options("lenet.pt", "l2"), "--arch", "lenet5", "--data", "noise.npz")
    yield Case("state dict, arrays", "audit", options + _attacks(("pgd", "deepfool"), CHEAP), files=True)


def _certified(sizes: Sizes) -> Iterator[Case]:
    for method in ("crown", "ibp"):
        for norm, eps in (("linf", "0.01,0.05"), ("l2", "0.1,0.5"), ("l1", "0.2,1")):
            samples, batch = (2, 1) if method == "crown" else (max(2, sizes.digits // 2), 3)  # CROWN is slow
            options = (*_subject("lenet-mnist-pgd", samples, batch), "--method", method, "--norm", norm, "--eps", eps)
            yield Case(f"certify {method} {norm}", "certify", options)
    draws = ("--sigma", "0.5", "--draws", "200", "--select", "20", "--eps", "0.25,0.5,1")
    for name, attacks in (("", ()), (" attacked", ("--attack", "pgd:steps=3", "--attack", "ddn:steps=5"))):
        options = (*_subject("lenet-mnist-noise", max(2, sizes.digits // 2), 64), *draws, *attacks)
        yield Case(f"certify smoothing{name}", "certify", options)


def _subject(model: str, samples: int, batch: int) -> tuple[str, ...]:
    chosen = ("--model", model, "--samples", str(samples), "--batch-size", str(batch))
    return (*chosen, "--device", "cpu", "--precision", "fp32", "--seed", "0")


def _named(listed: dict[str, tuple[str, ...]], norm: str) -> list[str]:
    return [name for name, norms in (*listed.items(), *FOOLBOX.items()) if norm in norms]


def _free(listed: dict[str, tuple[str, ...]]) -> list[str]:
    return [name for name, norms in listed.items() if not norms]


def _attacks(names: tuple[str, ...] | list[str], settings: dict[str, str]) -> tuple[str, ...]:
    specs = [f"{name}:{settings[name]}" if name in settings else name for name in names]
    return tuple(word for spec in specs for word in ("--attack", spec))
