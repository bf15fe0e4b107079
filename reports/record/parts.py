"""Parts of a record: model, data, run, attacks, samples, comparisons, certificate, gates and answers.

Every figure is a count over a total, with the 95 % Wilson interval beside it. A figure that does not exist is None.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .statistics import TOLERANCE, Rate, Spread


@dataclass(frozen=True)
class ModelInfo:
    name: str  # as on the command line
    title: str  # as a person says it: "EfficientNet-Lite0 (ImageNet)"
    classes: int
    input: list[int]  # channels, height, width
    mean: list[float]
    std: list[float]
    parameters: int
    digest: str  # sha256 over the weights


@dataclass(frozen=True)
class Skipped:
    file: str
    reason: str


@dataclass(frozen=True)
class DataInfo:
    name: str
    title: str
    available: int  # samples the data set holds
    skipped: list[Skipped]  # files that could not be read, among those asked for


@dataclass(frozen=True)
class RunInfo:
    created: str  # ISO 8601, UTC
    seconds: float
    command: str  # what reproduces it
    seed: int
    batch_size: int
    device: str
    precision: str  # of the gradients; verdicts are always fp32
    robustkit: str
    torch: str
    python: str
    platform: str
    threads: int
    prepared: str = ""  # how the model was read, what was done to it for speed, and how far its logits moved


@dataclass(frozen=True)
class EpsPoint:
    """Robust accuracy within one ε. A clean mistake counts as not robust."""

    eps: float
    text: str  # as it was asked for: "4/255"
    robust: Rate  # of all judged samples
    success: Rate  # attack success rate: of the samples that were right before the attack
    inherited: int  # broken already at a smaller ε, not attacked again here


@dataclass(frozen=True)
class Cell:
    """Variant at one level, such as a corruption at a severity."""

    variant: str  # "fog"
    level: str  # "3"
    broken: Rate  # of the samples that were right before


@dataclass(frozen=True)
class AttackResult:
    name: str  # on the command line: "pgd"
    title: str  # "PGD"
    paper: str
    # "budget": searches inside an ε-ball; "minimum": searches the smallest perturbation; "free": no norm measures it
    # (patch, rotation, corruption), so it has no curve and no part in the worst case.
    kind: str
    own_norm: str  # the norm it works in, "" for a free one; distances below are in the audit's norm all the same
    parameters: dict[str, int | float | str | bool | None]
    judged: int  # the first `judged` samples went through this attack; fewer than all if interrupted
    curve: list[EpsPoint]
    success: Rate  # broken at any distance (minimum, free) or within the largest ε (budget), of those right before
    targeted: Rate | None  # reached the target class; None where the audit has no target
    distortion: Spread  # distance in the audit's norm, broken samples only
    rms: Spread  # sqrt(mean of the squared change per input value), Szegedy et al. 2014
    confidence_before: Spread  # in the true class... of the clean prediction, broken samples only
    confidence_after: Spread  # of the wrong prediction
    forwards: float  # model evaluations per attacked sample
    backwards: float  # gradients per attacked sample
    seconds: float
    # One entry a sample, in the order of `samples`; None where not broken, not attacked or wrong before.
    distances: list[float | None]
    rms_each: list[float | None]
    predictions: list[int | None]
    confidences: list[float | None]
    access: str = "gradient"  # what it needs of the model: "gradient", "scores" or "labels"
    control: bool = False  # noise, which attacks are compared with
    notes: list[str] = field(default_factory=list)  # sentences that a reader must know
    optimality: float | None = None  # AttackBench, Cinà et al. 2025: against the per-sample best of this record
    # Black box: for each ε, per sample the queries after which it was broken within it; None where it was not.
    arrived: list[list[int | None]] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    outside: int = 0  # points that left ball or box and did not count


@dataclass(frozen=True)
class Transfer:
    """Points made against one model, shown to the others; all of them had the samples right before."""

    attack: str  # title of the attack
    eps: float | None  # None for a minimum-norm attack
    text: str  # ε as it was asked for, "" where there is none
    makers: list[str]  # titles of the models that points were made against: those that give gradients
    models: list[str]  # titles; the first is the audited one, the rest are the surrogates
    wrong: list[list[Rate]]  # row i: of the points made against makers[i], the share that models[j] gets wrong


@dataclass(frozen=True)
class Samples:
    """Columns, one entry a judged sample."""

    ids: list[int]
    names: list[str]
    labels: list[int]
    predictions: list[int]
    confidences: list[float]
    # Worst case: the smallest over all attacks but the free ones, in the audit's norm; 0 if wrong before.
    distances: list[float | None]
    by: list[int | None] = field(default_factory=list)  # place in `attacks` of the one that found that distance


@dataclass(frozen=True)
class Picture:
    file: str  # relative to report.json: "comparisons/0003-pgd-adversarial.png"
    label: str  # what the model says of this very file, read back from disk
    index: int
    confidence: float


@dataclass(frozen=True)
class Comparison:
    """original + ε · perturbation = adversarial, as files; see Goodfellow et al. 2015, figure 1."""

    sample: int  # id
    name: str
    truth: str  # the true class, "" where it is not known
    attack: str  # title of the attack
    norm: str
    eps: float | None  # None for a minimum-norm attack
    target: str | None
    original: Picture
    perturbation: str  # file; amplified so that its largest change spans the full range
    amplification: float  # what the perturbation was multiplied by for that picture
    adversarial: Picture
    size: float  # of the perturbation in the saved file, in `norm`
    rms: float
    before_label: str  # what the model said of the point before it was rounded to 8 bits
    before_confidence: float
    undone: bool  # the attack fooled the model before rounding, and no longer does in the file


@dataclass(frozen=True)
class Certified:
    """Certificate: for each sample a radius within which its answer is certain, whatever the attack."""

    method: str  # on the command line: "smoothing", "crown" or "ibp"
    title: str
    paper: str
    norm: str
    exact: bool  # by proof; else each sample's is wrong with a probability of at most the parameter alpha
    parameters: dict[str, int | float | str | bool | None]
    curve: list[Rate]  # certified accuracy at each ε of the record: right, and certain that far
    radius: Spread  # over the samples that were right before
    radii: list[float | None]  # one a sample; None where the answer is wrong or there is none

    def held(self, eps: float, most: int | None = None) -> int:
        """Count those of the first `most` samples that are certain within ε and the rounding of pixels."""
        return sum(radius is not None and radius >= eps + TOLERANCE for radius in self.radii[:most])


@dataclass(frozen=True)
class Gate:
    """Condition that the build must meet."""

    name: str  # "robust accuracy at 4/255 ≥ 0.30"
    kind: str  # "fail-under", "baseline" or "strict"
    eps: float | None  # None for clean accuracy and for the checks
    measured: float | None
    required: float  # smallest value that passes
    passed: bool
    detail: str  # one sentence, interval included


@dataclass(frozen=True)
class Answer:
    """Answer of an audit to checks that found a fault."""

    checks: list[str]  # their ids
    attack: int | None  # place in `attacks`; None where none was run
    what: str  # a sentence: what was done, or why nothing was
    source: str
    broken: int  # samples that it broke within a smaller ε of the grid than anything before it


@dataclass(frozen=True)
class Adapted:
    """Automatic answers of an audit to its checks, in the order in which they ran."""

    before: list[EpsPoint]  # the worst case over the named attacks
    after: list[EpsPoint]  # and over the answers too
    judging: str  # how a point was judged where one answer of the model does not tell; "" where it does
    answers: list[Answer]
