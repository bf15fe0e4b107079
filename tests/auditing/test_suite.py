"""What an audit says beyond one attack in one ball: black boxes, surrogates, controls, changes off any ball."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from audit_tools import Counting, lenet, plane
from torch import Tensor, nn

from robustkit import audit, load_data, load_model, reports
from robustkit.attacks import DDN, FGSM, LBFGS, PGD, Attack, Boundary, Classifier, GaussianNoise, HopSkipJump, Square
from robustkit.attacks.core.attack import Batch
from robustkit.attacks.core.method import Method, State
from robustkit.attacks.core.problem import Problem
from robustkit.attacks.core.search import search
from robustkit.errors import AuditFailed, ConfigError

ROWS = 12


@dataclass
class _Line(State):
    turn: int


@dataclass(frozen=True)
class _Walk(Method[_Line]):
    """Along the sign of the weights, farther with every query."""

    eps: float
    queries: int
    way: Tensor
    blind: bool = True

    def begin(self, problem: Problem) -> _Line:
        return _Line(problem.x.clone(), torch.zeros(len(problem.x), dtype=torch.bool), 0)

    def score(self, problem: Problem, state: _Line, margin: Tensor) -> Tensor:
        return margin

    def advance(self, problem: Problem, state: _Line, seen: object) -> None:
        state.done = seen.margin < 0  # type: ignore[attr-defined]
        state.turn += 1
        side = (1 - 2.0 * problem.goal.classes).view(-1, 1, 1, 1)
        state.point = problem.x - side * self.way * (self.eps * state.turn / self.queries)


def walker(w: Tensor, queries: int) -> Attack:
    """A black-box attack in L∞ whose number of queries has a closed form."""

    @dataclass(frozen=True)
    class Walker(Attack):
        name: ClassVar[str] = "walker"
        title: ClassVar[str] = "Walker"
        paper: ClassVar[str] = "none"
        access: ClassVar[str] = "labels"
        norm: str = "linf"
        eps: float = 0.1

        def run(self, model: Classifier, problem: Problem) -> Tensor:
            return search(model, problem, _Walk(self.eps, queries, w.sign().float().view(1, 4, 4)), queries).point

    return Walker()


def test_queries_until_broken_are_those_the_attack_spent() -> None:
    given = plane(ROWS)
    exact, right = given.distances("linf"), given.margins > 0
    grid = [float(exact[right].median()) * 1.01, float(exact.max()) * 1.01]
    record = audit(given.net, (given.x, given.y), [walker(given.w, 50)], grid, batch_size=5)
    (result,) = record.attacks
    assert result.access == "labels"
    for eps, column in zip(grid, result.arrived, strict=True):
        for row in range(ROWS):
            found, need = column[row], float(exact[row])
            if not right[row] or need > eps:
                assert found is None
                continue
            at = grid[0] if need < grid[0] else grid[1]  # broken at the first ε, inherited by the second
            assert found == pytest.approx(1 + math.ceil(50 * need / at), abs=1)
    assert result.arrived[0].count(None) > result.arrived[1].count(None)


def test_a_black_box_that_searches_the_smallest_change_has_queries_at_each_eps() -> None:
    given = plane(ROWS)
    record = audit(given.net, (given.x, given.y), [PGD(steps=2), Square(queries=40)], [0.01, 0.02], batch_size=5)
    white, black = record.attacks
    assert white.arrived == []
    assert (white.access, black.access) == ("gradient", "scores")
    for point, column in zip(black.curve, black.arrived, strict=True):
        assert sum(found is not None for found in column) == point.success.count
        assert all(found <= 2 * 40 for found in column if found is not None)


@dataclass(frozen=True)
class Inverted(Attack):
    """The negative of the picture, which no ball holds."""

    name: ClassVar[str] = "inverted"
    title: ClassVar[str] = "Inverted"
    paper: ClassVar[str] = "none"
    ball: ClassVar[bool] = False
    access: ClassVar[str] = "labels"
    norm: str = field(default="", init=False)

    def run(self, model: Classifier, problem: Problem) -> Tensor:
        problem.spend(1)
        wrong = problem.goal.margin(model.logits(1 - problem.x)) < 0
        if problem.trace is not None:
            problem.trace.mark("inverted", "1", problem.rows, wrong)
            problem.trace.mark("nothing", "1", problem.rows, torch.zeros_like(wrong))
        return torch.where(wrong.view(-1, 1, 1, 1), 1 - problem.x, problem.x)


def test_what_no_norm_measures_stays_out_of_the_worst_case(tmp_path: Path) -> None:
    given = plane(ROWS)
    record = audit(given.net, (given.x, given.y), [PGD(steps=3), Inverted()], [0.01, 0.9], batch_size=5, out=tmp_path)
    ball, free = record.attacks
    assert (ball.kind, free.kind, free.own_norm, free.curve) == ("budget", "free", "", [])
    with torch.no_grad():
        wrong = given.net(1 - given.x).argmax(1) != given.y
    right = given.margins > 0
    assert free.success.count == int((wrong & right).sum()) > 0
    assert [cell.variant for cell in free.cells] == ["inverted", "nothing"]
    assert free.cells[0].broken == free.success
    assert free.cells[1].broken.count == 0
    assert record.worst_case == ball.curve
    assert record.samples.distances == [
        0.0 if d is None and not r else d for d, r in zip(ball.distances, right, strict=True)
    ]
    assert set(record.samples.by) <= {0, None}
    assert reports.AuditRecord.from_json(record.to_json()) == record
    assert free.optimality is None


def test_the_worst_case_names_the_attack_it_came_from() -> None:
    given = plane(ROWS, even=True)
    record = audit(given.net, (given.x, given.y), [FGSM(norm="l2"), DDN(), LBFGS()], [0.02, 1.0], norm="l2")
    for row, by in enumerate(record.samples.by):
        found = [attack.distances[row] for attack in record.attacks]
        known = [distance for distance in found if distance is not None]
        assert (by is None) == (given.margins[row] < 0 or not known)
        if by is not None:
            assert found[by] == record.samples.distances[row] == min(known)
    budget, *best = [attack.optimality for attack in record.attacks]
    assert budget is None  # how far it goes is the grid's choice
    assert all(figure is not None and 0 <= figure <= 1 for figure in best)
    assert max(best) > 0.98


def foreign(act: Callable[[Problem], Tensor]) -> Attack:
    @dataclass(frozen=True)
    class Foreign(Attack):
        name: ClassVar[str] = "foreign"
        title: ClassVar[str] = "Foreign"
        paper: ClassVar[str] = "none"
        foreign: ClassVar[bool] = True
        norm: str = "linf"
        eps: float = 0.1

        def run(self, model: Classifier, problem: Problem) -> Tensor:
            return act(problem)

    return Foreign()


@pytest.mark.parametrize("stray", ["ball", "box"])
def test_somebody_elses_points_outside_do_not_count(stray: str) -> None:
    given = plane(ROWS)
    if stray == "ball":
        act = lambda problem: 1 - problem.x  # noqa: E731
    else:
        act = lambda problem: torch.where(problem.ids.view(-1, 1, 1, 1) % 2 == 0, problem.x - 9, problem.x)  # noqa: E731
    record = audit(given.net, (given.x, given.y), [foreign(act), PGD(steps=3)], [0.02])
    theirs, ours = record.attacks
    assert theirs.success.count == 0
    assert len(theirs.notes) == 1
    assert "left the ball or the box [0,1] and did not count" in theirs.notes[0]
    assert ours.notes == []
    assert record.worst_case == ours.curve


def test_an_attack_that_takes_no_gradient_is_seen_to_go_on() -> None:
    given, seen = plane(6), dict[str, list[int]]()

    def watch(stage: str, done: int, total: int, queries: int) -> None:
        seen.setdefault(stage, []).append(queries)

    record = audit(given.net, (given.x, given.y), [Square(queries=40), PGD(steps=3)], [1e-6], watch=watch)
    for result in record.attacks:
        (spent,) = (queries for stage, queries in seen.items() if stage.startswith(result.title))
        assert spent[0] == 0
        assert spent == sorted(spent)
        assert len(set(spent)) >= result.forwards


def test_noise_is_a_control_and_counts_all_the_same() -> None:
    given = plane(ROWS)
    record = audit(given.net, (given.x, given.y), [GaussianNoise(norm="l2"), FGSM(norm="l2")], [0.05, 2.0], norm="l2")
    noise, attack = record.attacks
    assert (noise.control, attack.control) == (True, False)
    assert attack.success.count >= noise.success.count > 0


def test_a_plain_function_is_audited_by_what_needs_no_gradient() -> None:
    given = plane(ROWS)

    def endpoint(x: Tensor) -> np.ndarray:
        with torch.no_grad():
            return given.net(x).numpy()

    record = audit(endpoint, (given.x, given.y), [Square(queries=60)], [0.005, 0.05])
    same = audit(given.net, (given.x, given.y), [Square(queries=60)], [0.005, 0.05])
    assert record.worst_case == same.worst_case
    assert record.model.name == "endpoint"
    assert record.attacks[0].backwards == 0
    with pytest.raises(ConfigError, match=r"PGD needs gradients, this model gives logits.*: take one of .*square"):
        audit(endpoint, (given.x, given.y), [PGD()], [0.005])
    labels = Classifier(lambda x: given.net(x).argmax(1), outputs="labels", classes=2)
    with pytest.raises(ConfigError, match=r"Square needs logits or probabilities, this model gives labels alone"):
        audit(labels, (given.x, given.y), [Square()], [0.005])


def test_the_transfer_matrix_is_what_one_would_compute(tmp_path: Path) -> None:
    data, eps = load_data("mnist-samples"), [0.1, 0.2]
    other = load_model("lenet-mnist-pgd", device="cpu")
    record = audit(lenet(), data, [PGD(steps=5)], eps, samples=30, batch_size=20, surrogates=[other])
    assert [info.name for info in record.surrogates] == ["lenet-mnist-pgd"]
    assert [attack.name for attack in record.attacks] == ["pgd", "transfer"]
    assert record.attacks[1].backwards == 0
    (matrix,) = record.transfer
    assert matrix.models == matrix.makers == [record.model.title, other.title]
    assert matrix.eps == 0.2
    own, theirs = matrix.wrong
    assert own[0].value > 0.9  # nearly every digit of the undefended net
    assert own[1].value < 0.3  # which do not fool the trained one
    assert theirs[0].value >= theirs[1].value  # and the other way round they do
    totals = {rate.total for row in matrix.wrong for rate in row}
    batch = next(iter(data.batches(lenet(), 30, 30)))
    both = (lenet().logits(batch.x).argmax(1) == batch.y) & (other.logits(batch.x).argmax(1) == batch.y)
    assert totals == {int(both.sum())}
    assert reports.AuditRecord.from_json(record.to_json()) == record


def test_surrogates_that_do_not_fit_are_refused() -> None:
    given, three = plane(ROWS), nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    with pytest.raises(ConfigError, match=r"the surrogate Sequential has other classes than Sequential"):
        audit(given.net, (given.x, given.y), [FGSM()], [0.1], surrogates=[three])
    with pytest.raises(ConfigError, match="gives no gradients"):
        audit(given.net, (given.x, given.y), [FGSM()], [0.1], surrogates=[Classifier(lambda x: given.net(x))])
    with pytest.raises(ConfigError, match="eps is empty"):
        audit(given.net, (given.x, given.y), [LBFGS()], surrogates=[given.net])
    with pytest.raises(ConfigError, match="pictures of another size"):
        audit(
            lenet(),
            load_data("mnist-samples"),
            [FGSM()],
            [0.1],
            surrogates=[load_model("lenet-mnist", size=28), wide()],
        )


def wide() -> nn.Module:
    class Wide(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :10]

    from robustkit.models.load import LoadedModel, ModelSource, Preprocess

    return LoadedModel("wide", ModelSource(Wide(), "Wide", Preprocess((32, 32), channels=1), classes=10))


@dataclass(frozen=True)
class Shift(Attack):
    """Adds one number to all pictures, found by a look at them."""

    name: ClassVar[str] = "shift"
    title: ClassVar[str] = "Shift"
    paper: ClassVar[str] = "none"
    norm: str = "linf"
    eps: float = 0.1
    seen: int = 0

    def fitted(self, model: Classifier, draw: Callable[[], Iterable[Batch]], seed: int) -> Attack:
        first, second = (sum(len(x) for x, _, _ in draw()) for _ in range(2))
        assert first == second
        return Shift(self.norm, self.eps, first)

    def run(self, model: Classifier, problem: Problem) -> Tensor:
        if self.seen == 0:
            raise RuntimeError("was not shown the samples")
        return (problem.x + self.eps).clamp(0, 1)


def test_an_attack_that_fits_all_samples_sees_the_right_ones_first(tmp_path: Path) -> None:
    given = plane(ROWS)
    net = Counting(given.net)
    record = audit(net, (given.x, given.y), [Shift()], [0.02, 0.2], batch_size=5, out=tmp_path)
    assert record.status == "complete"
    assert record.attacks[0].forwards == pytest.approx(2 * 2 * ROWS / (ROWS - 3))  # two passes at each ε
    assert record.attacks[0].parameters == {"norm": "linf", "seen": 0}


def test_skipped_files_are_told_once_however_often_they_are_read(tmp_path: Path) -> None:
    from audit_tools import make_digits

    folder = make_digits(tmp_path).folder
    broken = next(folder.rglob("*.png")).parent / "broken.png"
    broken.write_bytes(b"no picture")
    record = audit(lenet(), load_data(folder), [Shift()], [0.02, 0.2], batch_size=4)
    assert [skipped.file.endswith("broken.png") for skipped in record.data.skipped] == [True]


def test_an_interrupted_audit_keeps_queries_and_cells_apart_from_what_was_not_done() -> None:
    given = plane(ROWS)

    def fail(out: Tensor) -> Tensor:
        raise RuntimeError("out of order")

    net = Counting(given.net, after=60, fail=fail)
    with pytest.raises(AuditFailed) as caught:
        audit(net, (given.x, given.y), [walker(given.w, 20), Inverted()], [0.01, 0.02], batch_size=3)
    record = caught.value.record
    assert record is not None
    assert record.status == "incomplete"
    assert reports.AuditRecord.from_json(record.to_json()) == record


@pytest.mark.parametrize("attack", [HopSkipJump(queries=60), Boundary(queries=60)], ids=["hopskipjump", "boundary"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_rows_without_a_start_are_told(attack: Attack, norm: str) -> None:
    """A model that always says the same cannot be left: no start is found, which is no robustness."""

    def constant(x: Tensor) -> Tensor:
        return torch.zeros(len(x), dtype=torch.int64)

    model = Classifier(constant, outputs="labels", classes=2)
    x, y = torch.rand(3, 1, 4, 4), torch.tensor([0, 0, 1])
    (result,) = audit(model, (x, y), [attack], [0.5], norm=norm).attacks
    assert result.success.count == 0
    assert "No start was found for 2 of 2 samples, which count as robust" in result.notes
