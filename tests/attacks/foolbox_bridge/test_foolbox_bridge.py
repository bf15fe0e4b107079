"""foolbox's attacks by name, and a model of ours as one of foolbox's."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
import subprocess
import sys
from importlib.util import find_spec

import eagerpy
import foolbox
import numpy as np
import pytest
import torch
from attack_models import Counting, Trained, conv_net, dual, linear, plane, wrong
from foolbox.attacks.base import FixedEpsilonAttack, MinimizationAttack
from torch import Tensor, nn

from robustkit.attacks import Attack, Classifier, Foolbox, as_foolbox
from robustkit.attacks.core.query_trace import Trace
from robustkit.attacks.foolbox_bridge.attack import foolbox_attack, foolbox_names
from robustkit.attacks.geometry import norms

# What foolbox exports, found without our help.
THEIRS = {
    source.__name__: source
    for source in vars(foolbox.attacks).values()
    if inspect.isclass(source) and issubclass(source, foolbox.attacks.Attack) and not inspect.isabstract(source)
}
BRENDEL_BETHGE = [name for name in THEIRS if "BrendelBethge" in name]
BINARIZATION = "BinarizationRefinementAttack"
RUNNING = [name for name in THEIRS if name not in (*BRENDEL_BETHGE, BINARIZATION)]
UNTARGETED = {f"{norm}FastGradientAttack" for norm in ("L1", "L2", "Linf")} | {
    "NewtonFoolAttack",
    "VirtualAdversarialAttack",
}
SHORT = {"steps": 8, "repeats": 3, "directions": 30, "binary_search_steps": 3, "eps": 0.2}
SHORTER = {"initial_gradient_eval_steps": 5, "max_gradient_eval_steps": 10, "num_rotations": 3, "num_translations": 3}


def short(name: str) -> Attack:
    kind = foolbox_attack(name)
    fields = [field.name for field in dataclasses.fields(kind)]
    return kind(**{key: value for key, value in (SHORT | SHORTER).items() if key in fields})


@pytest.fixture
def few(trained: Trained) -> Trained:
    return Trained(trained.net, trained.x[:4], trained.y[:4])


def refusal(attack: Attack, *given: object, **more: object) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        attack(*given, **more)
    text = str(caught.value)
    assert text.startswith(attack.title)
    assert "\n" not in text
    return text


# Each of them


def test_every_attack_and_abbreviation_of_foolbox_has_its_class() -> None:
    assert len(THEIRS) > 50
    assert {foolbox_attack(name).name for name in foolbox_names()} == {f"foolbox:{name}" for name in THEIRS}
    for short_name in ("LinfPGD", "FGSM", "MIFGSM", "AdamPGD"):
        kind, whole = foolbox_attack(short_name), foolbox_attack(getattr(foolbox.attacks, short_name).__name__)
        assert issubclass(kind, whole)
        assert kind is foolbox_attack(short_name)
        assert (kind.name, kind.title) == (whole.name, f"foolbox {short_name}")
        assert kind().parameters() == whole().parameters()
        assert pickle.loads(pickle.dumps(kind())) == kind()


@pytest.mark.parametrize("name", THEIRS)
def test_kind_norm_and_parameters_are_foolboxs(name: str) -> None:
    kind, source = foolbox_attack(name), THEIRS[name]
    assert kind.minimum_norm == issubclass(source, MinimizationAttack)
    fields = {field.name: field.default for field in dataclasses.fields(kind)}
    assert ("eps" in fields) == issubclass(source, FixedEpsilonAttack)
    assert kind.ball == (name != "SpatialAttack")
    for norm in norms.NORMS:
        if name.lower().startswith(norm):
            assert kind.norms == (norm,)
    for key, parameter in inspect.signature(source).parameters.items():
        if key in fields and parameter.default is not parameter.empty:
            assert fields[key] == parameter.default
        else:
            assert key in ("distance", "constraint", "channel_axis", "tensorboard", "args", "kwargs", "steps")
    assert "foolbox 3" in kind.paper
    assert kind.__doc__


@pytest.mark.parametrize("name", RUNNING)
def test_it_runs_and_counts_and_is_repeatable(few: Trained, name: str) -> None:
    counting, attack, trace = Counting(few.net), short(name), Trace(4)
    model, before = Classifier(counting), (torch.get_rng_state(), np.random.get_state()[1].copy())
    x, y = few.x.clone(), few.y.clone()
    adv = attack(model, few.x, few.y, seed=3, trace=trace)
    assert torch.equal(few.x, x)
    assert torch.equal(few.y, y)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert adv.shape == x.shape
    assert adv.dtype == x.dtype
    assert not adv.requires_grad
    assert float(adv.min()) >= -1e-6
    assert float(adv.max()) <= 1 + 1e-6
    if not attack.minimum_norm and attack.ball:
        assert float(norms.get(attack.norm).size((adv - x).double()).max()) <= 0.2 + 1e-6
    assert (model.forwards, model.backwards) == (counting.forwards, counting.backwards)
    assert (int(trace.forwards.sum()), int(trace.backwards.sum())) == (model.forwards, model.backwards)
    assert (model.backwards > 0) == (attack.access == "gradient")
    torch.manual_seed(99)
    np.random.seed(99)
    assert torch.equal(attack(model, x, y, seed=3), adv)


@pytest.mark.parametrize("name", [name for name in RUNNING if name != "PointwiseAttack"])  # slow; aimed below
def test_a_target_is_aimed_at_or_refused_in_one_line(few: Trained, name: str) -> None:
    attack, target = short(name), (few.y + 1) % 5
    if name in UNTARGETED:
        assert refusal(attack, few.net, few.x, few.y, target=target) == f"{attack.title} takes no targets"
    else:
        assert attack(few.net, few.x, few.y, target=target).shape == few.x.shape


@pytest.mark.parametrize(
    "name", ["DDNAttack", "EADAttack", "L2FMNAttack", "LInfFMNAttack", "BoundaryAttack", "PointwiseAttack"]
)
def test_minimum_norm_attacks_reach_targets(few: Trained, name: str) -> None:
    target = (few.y + 1) % 5
    more = {} if name == "PointwiseAttack" else {"steps": 60}
    adv = Foolbox(name, **more)(few.net, few.x, few.y, target=target)
    assert int((few.net(adv).argmax(1) == target).sum()) >= 3


@pytest.mark.parametrize(
    "name", ["LinfBasicIterativeAttack", "L2DeepFoolAttack", "BoundaryAttack", "HopSkipJumpAttack"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(16,), (1, 4, 4), (3, 5, 7)], ids=str)
@pytest.mark.parametrize("rows", [1, 5])
def test_shapes_and_dtypes(name: str, dtype: torch.dtype, shape: tuple[int, ...], rows: int) -> None:
    p = plane(shape, rows, dtype, 0.3, middle=True)
    adv = short(name)(p.net, p.x, p.y)
    assert adv.dtype == dtype
    assert adv.shape == p.x.shape
    assert bool(wrong(p.net, adv, p.y).all())


# Those that need something


@pytest.mark.parametrize("name", BRENDEL_BETHGE)
@pytest.mark.skipif(find_spec("numba") is not None, reason="numba is there, and takes a minute to compile")
def test_brendel_bethge_says_that_it_needs_numba(name: str) -> None:
    with pytest.raises(ValueError, match=f"^foolbox {name} needs numba: pip install numba$"):
        Foolbox(name)


class Binarized(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x >= 0.5).to(x))


def test_binarization_refinement_finds_its_own_start_and_refuses_other_models(few: Trained) -> None:
    assert "does not match what is done by the model" in refusal(Foolbox(BINARIZATION), few.net, few.x, few.y)
    net = Binarized(few.net)
    y = net(few.x).argmax(1)
    start = Foolbox("SaltAndPepperNoiseAttack")(net, few.x, y)
    adv = Foolbox(BINARIZATION)(net, few.x, y)
    assert bool(wrong(net, adv, y).all())
    assert float((adv - few.x).norm()) < float((start - few.x).norm())


@pytest.mark.parametrize("name", ["BoundaryAttack", "HopSkipJumpAttack", "PointwiseAttack", "L2FMNAttack"])
def test_rows_without_a_starting_point_stay_as_they_are_and_the_others_go_on(name: str) -> None:
    """In class 1 wherever the first pixel is above -1, which no start changes."""
    net = linear(torch.tensor([[5.0, 0.0], [0.0, 0.0]]), torch.tensor([0.0, 2.0]))
    x, y = torch.tensor([[0.9, 0.5], [0.1, 0.5], [0.8, 0.2]]), torch.tensor([0, 1, 0])
    stuck = linear(torch.zeros(2, 2), torch.tensor([0.0, 1.0]))
    more = {"init_attack": "LinearSearchBlendedUniformNoiseAttack"}
    attack = dataclasses.replace(short(name), **more)
    assert bool(wrong(net, attack(net, x, y), y).all())
    assert torch.equal(attack(stuck, x, torch.ones(3, dtype=torch.int64)), x)


def test_a_start_can_come_from_the_batch(few: Trained) -> None:
    target = few.y.flip(0)
    rows = (target != few.y).nonzero().squeeze(1)
    adv = Foolbox("BoundaryAttack", steps=50, init_attack="DatasetAttack")(
        few.net, few.x[rows], few.y[rows], target=target[rows]
    )
    assert bool((few.net(adv).argmax(1) == target[rows]).any())


def test_genattack_without_a_target_aims_at_the_likeliest_class() -> None:
    p = plane((1, 4, 4), 5, torch.float32, 0.3, middle=True)
    assert bool(wrong(p.net, Foolbox("GenAttack", eps=0.2, steps=50)(p.net, p.x, p.y), p.y).all())


def test_a_row_that_foolbox_divides_by_zero_stays_and_the_others_go_on() -> None:
    """NewtonFool's gradient is exactly 0 where the softmax is saturated."""
    net = linear(torch.tensor([[1000.0, 0.0], [0.0, 1.0]]), torch.tensor([-100.0, 0.0]))
    x, y = torch.tensor([[0.9, 0.5], [0.101, 0.5]]), torch.tensor([0, 0])
    adv = Foolbox("NewtonFoolAttack")(net, x, y)
    assert torch.equal(adv[0], x[0])
    assert bool(torch.isfinite(adv).all())
    assert not torch.equal(adv[1], x[1])


def test_attacks_that_look_at_labels_run_on_a_model_that_gives_no_more(few: Trained) -> None:
    model = Classifier(lambda x: few.net(x).argmax(1), outputs="labels", classes=5)
    assert bool(wrong(few.net, short("BoundaryAttack")(model, few.x, few.y), few.y).all())
    with pytest.raises(ValueError, match="needs gradients, this model gives labels alone"):
        Foolbox("DDNAttack")(model, few.x, few.y)


# The same as foolbox alone


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("LinfDeepFoolAttack", {}),
        ("DDNAttack", {"steps": 20}),
        ("L2CarliniWagnerAttack", {"steps": 20, "binary_search_steps": 2}),
        ("LinfPGD", {"steps": 7, "rel_stepsize": 0.1, "random_start": False}),
        ("L1BasicIterativeAttack", {"steps": 5}),
    ],
)
def test_points_are_those_of_foolbox_called_directly(few: Trained, name: str, more: dict[str, object]) -> None:
    mine = Foolbox(name, **more)
    eps = None if mine.minimum_norm else 0.15
    attack = mine if eps is None else mine.at(eps)
    theirs = getattr(foolbox.attacks, name)(**more)
    wrapped = foolbox.PyTorchModel(few.net, bounds=(0, 1), device="cpu")
    expected = theirs(wrapped, few.x, foolbox.criteria.Misclassification(few.y), epsilons=eps)[1]
    torch.testing.assert_close(attack(few.net, few.x, few.y), expected, atol=1e-6, rtol=0)


def test_the_seed_and_the_first_sample_decide_the_noise(few: Trained) -> None:
    attack = Foolbox("LinfAdditiveUniformNoiseAttack", eps=0.1)
    first = attack(few.net, few.x, few.y, seed=1)
    for other in ({"seed": 2}, {"seed": 1, "ids": torch.arange(4) + 1}):
        assert not torch.equal(attack(few.net, few.x, few.y, **other), first)


# as_foolbox


def test_as_foolbox_is_the_classifier() -> None:
    net = conv_net(channels=3)
    net.train()
    model = Classifier(net, mean=(0.4, 0.5, 0.6), std=0.25)
    x = torch.rand(5, 3, 8, 8)
    theirs = as_foolbox(model)
    assert isinstance(theirs, foolbox.PyTorchModel)
    assert tuple(theirs.bounds) == (0, 1)
    torch.testing.assert_close(theirs(x), model.logits(x), atol=0, rtol=0)
    assert (model.forwards, model.backwards) == (10, 0)
    labels = eagerpy.astensor(torch.zeros(5, dtype=torch.int64))

    def loss(points: eagerpy.Tensor) -> eagerpy.Tensor:
        return eagerpy.crossentropy(theirs(points), labels).sum()

    _, gradient = eagerpy.value_and_grad(loss, eagerpy.astensor(x))
    ours = model.gradient(x, lambda logits: nn.functional.cross_entropy(logits, labels.raw, reduction="none"))[2]
    torch.testing.assert_close(gradient.raw, ours, atol=1e-5, rtol=0)
    assert (model.forwards, model.backwards) == (20, 10)
    assert all(module.training for module in net.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())


def test_a_script_can_give_it_to_foolbox(few: Trained) -> None:
    assert foolbox.utils.accuracy(as_foolbox(few.net), few.x, few.y) == 1
    attack = foolbox.attacks.LinfPGD()
    success = attack(as_foolbox(few.net), few.x, few.y, epsilons=[0.0, 0.5])[2]
    assert success.float().mean(1).tolist() == [0, 1]


def test_a_function_has_no_gradient_to_give(few: Trained) -> None:
    model = as_foolbox(lambda x: few.net(x).detach())
    with pytest.raises(ValueError, match="no gradient"):
        foolbox.attacks.LinfPGD()(model, few.x, few.y, epsilons=0.1)


# Parameters


@pytest.mark.parametrize(
    ("name", "more", "says"),
    [
        ("LinfDeepFool", {}, "foolbox has no attack 'LinfDeepFool'"),
        ("Attack", {}, "no attack 'Attack'"),
        ("LinfPGD", {"stepz": 3}, "no parameter 'stepz'; it has norm, eps, rel_stepsize"),
        ("LinfPGD", {"steps": 0}, "steps must be a whole number of at least 1"),
        ("LinfPGD", {"steps": 2.0}, "whole number"),
        ("LinfPGD", {"steps": True}, "whole number"),
        ("LinfPGD", {"rel_stepsize": -0.1}, "at least 0"),
        ("LinfPGD", {"rel_stepsize": "0.1"}, "at least 0"),
        ("LinfPGD", {"rel_stepsize": float("nan")}, "at least 0"),
        ("LinfPGD", {"random_start": 1}, "True or False"),
        ("LinfPGD", {"norm": "l2"}, "works in linf, not in 'l2'"),
        ("LinfPGD", {"eps": 8}, "at most 1 in linf"),
        ("L2DeepFoolAttack", {"loss": "ce"}, "loss is one of logits, crossentropy"),
        ("L2DeepFoolAttack", {"eps": 0.1}, "no parameter 'eps'"),
        ("BoundaryAttack", {"init_attack": "LinfPGD"}, "init_attack is one of"),
        ("BoundaryAttack", {"init_attack": "BoundaryAttack"}, "init_attack is one of"),
        ("BoundaryAttack", {"tensorboard": "runs"}, "no parameter 'tensorboard'"),
        ("GenAttack", {"reduced_dims": 4}, "2 whole numbers"),
        ("GenAttack", {"reduced_dims": (4, 0)}, "at least 1"),
        ("HopSkipJumpAttack", {"norm": "l1"}, "works in l2 and linf"),
        ("SparseL1DescentAttack", {"quantile": 1.5}, "between 0 and 1"),
    ],
)
def test_bad_parameters_are_one_line(name: str, more: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        Foolbox(name, **more)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_it_is_a_value_like_our_own_attacks() -> None:
    attack = Foolbox("GenAttack", eps=0.1, reduced_dims=(4, 4))
    assert pickle.loads(pickle.dumps(attack)) == attack
    assert pickle.loads(pickle.dumps(Foolbox("SpatialAttack"))) == Foolbox("SpatialAttack")
    assert len({attack, Foolbox("GenAttack", eps=0.1, reduced_dims=(4, 4))}) == 1
    assert attack.parameters()["reduced_dims"] == "4+4"
    assert attack.at(0.3).parameters()["eps"] == 0.3
    assert (attack.name, attack.title) == ("foolbox:GenAttack", "foolbox GenAttack")
    assert Foolbox("L0FMNAttack").notes(10)
    assert not Foolbox("L1FMNAttack").notes(10)


def test_our_attacks_do_not_import_foolbox() -> None:
    code = "import sys, robustkit.attacks.registry; print({'foolbox', 'eagerpy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# Where foolbox is wrong


def test_foolboxs_l2_fmn_does_not_project() -> None:
    """3.3.4 scales by min(1, norms / norms), which is 1: the step is never drawn back into the ball."""
    x0 = torch.full((3, 1, 4, 4), 0.5)
    far = x0 + torch.randn(3, 1, 4, 4)
    radius = eagerpy.astensor(torch.full((3,), 0.1))
    theirs = foolbox.attacks.L2FMNAttack().project(eagerpy.astensor(far), eagerpy.astensor(x0), radius).raw
    assert torch.equal(theirs, far)
    l2 = norms.get("l2")
    assert float(l2.size(l2.project(far - x0, 0.1, -x0, 1 - x0)).max()) <= 0.1 + 1e-6


def test_what_its_l2_fmn_calls_a_smallest_change_is_many_times_too_large() -> None:
    """On a plane, where the distance is |w·x + b| / ‖w‖; foolbox's L∞-FMN and DDN are right there."""
    p = plane((1, 4, 4), 16, torch.float32, 0.5, middle=True)
    found = {}
    for name in ("L2FMNAttack", "DDNAttack", "LInfFMNAttack"):
        attack = Foolbox(name)
        adv = attack(p.net, p.x, p.y)
        assert bool(wrong(p.net, adv, p.y).all())
        found[name] = norms.get(attack.norm).size((adv - p.x).double()) * dual(p.w, attack.norm) / p.margin
    assert float(found["L2FMNAttack"].min()) > 5
    assert float(found["DDNAttack"].max()) < 1.01
    assert float(found["LInfFMNAttack"].max()) < 1.01
