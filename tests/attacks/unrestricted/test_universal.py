"""One perturbation for all: known optima, samples it was not fitted on, and what fitting costs."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from attack_models import NORMS, Counting, Trained, conv_net, plane, wrong
from torch import Tensor

from robustkit import load_data, load_model
from robustkit.attacks import Attack, Classifier, GaussianNoise, Universal
from robustkit.attacks.core.query_trace import Trace
from robustkit.attacks.geometry import norms

EPS = {"linf": 0.1, "l2": 0.3, "l1": 0.45}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(16,), (1, 4, 4), (3, 5, 7)])
@pytest.mark.parametrize("norm", NORMS)
def test_on_a_linear_model_it_is_the_steepest_direction(norm: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    p = plane(shape, 9, dtype, margin=5.0, middle=True)
    attack = Universal(norm=norm, eps=EPS[norm], batch=4).fitted(p.net, lambda: [(p.x, p.y, torch.arange(9))])
    r = attack.change.double().flatten()
    best = EPS[norm] * float(torch.linalg.vector_norm(p.w, {"linf": 1, "l2": 2, "l1": float("inf")}[norm]))
    assert -float(r @ p.w) >= best * (1 - 1e-3)
    assert float(norms.get(norm).size(r[None])) <= EPS[norm] + 1e-6
    torch.testing.assert_close(attack(p.net, p.x, p.y), p.x + attack.change)


def test_where_the_box_is_in_the_way_the_budget_goes_elsewhere() -> None:
    """Half of the pixels are black in all rows and would have to fall."""
    p = plane((16,), 8, torch.float64, margin=9.0, middle=True)
    x = torch.where(p.w > 0, 0.0, p.x)
    r = Universal(norm="l2", eps=0.3).fitted(p.net, lambda: [(x, p.y, torch.arange(8))]).change
    free = torch.where(p.w > 0, 0.0, -p.w)
    torch.testing.assert_close(r, free * 0.3 / free.norm(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("norm", NORMS)
def test_it_stays_in_ball_and_box_and_is_the_same_for_all(trained: Trained, norm: str) -> None:
    net, x, y = trained
    eps = {"linf": 0.2, "l2": 1.5, "l1": 5.0}[norm]
    attack = Universal(norm=norm, eps=eps).fitted(net, lambda: [(x, y, torch.arange(64))])
    adv = attack(net, x, y)
    assert float(norms.get(norm).size((adv - x).double()).max()) <= eps + 1e-6
    assert float(adv.min()) >= 0
    assert float(adv.max()) <= 1
    order = torch.randperm(64)
    assert torch.equal(attack(net, x[order], y[order]), adv[order])
    assert torch.equal(attack(net, x[3:4], y[3:4]), adv[3:4])
    noise = GaussianNoise(norm=norm, eps=eps)(net, x, y)
    assert int(wrong(net, adv, y).sum()) > 2 * int(wrong(net, noise, y).sum())


def test_unseen_digits_are_fooled_too() -> None:
    model = load_model("lenet-mnist", device="cpu", precision="fp32")
    batch = next(load_data("mnist-samples").batches(model, 400, 400))
    seen, unseen = slice(0, 200), slice(200, 400)
    attack = Universal(eps=0.3).fitted(model, lambda: [(batch.x[seen], batch.y[seen], batch.ids[seen])])
    adv = attack(model, batch.x[unseen], batch.y[unseen])
    # 20 % are left of 500 unseen ones after fitting on 500; Gaussian noise of that size leaves 97 %.
    assert float((model.logits(adv).argmax(1) == batch.y[unseen]).float().mean()) < 0.35


def test_fitting_is_a_matter_of_the_samples_and_does_not_touch_the_attack(trained: Trained) -> None:
    net, x, y = trained
    plain = Universal(eps=0.2)

    def halves() -> list[tuple[Tensor, Tensor, Tensor]]:
        return [(x[i : i + 32], y[i : i + 32], torch.arange(i, i + 32)) for i in (0, 32)]

    one, two = plain.fitted(net, halves, 0), plain.fitted(net, lambda: [(x, y, torch.arange(64))], 5)
    torch.testing.assert_close(one.change, two.change)  # the same minibatches of 32
    assert plain.change is None
    assert one.parameters() == plain.parameters()
    assert json.loads(json.dumps(one.parameters())) == one.parameters()
    assert one == plain
    assert dataclasses.replace(one, eps=0.1).change is None  # another attack, to be fitted anew
    assert [kind for kind in Attack.kinds() if kind.name == "universal"] == [Universal]


def test_no_samples_leave_it_as_it_was(trained: Trained) -> None:
    plain = Universal()
    assert plain.fitted(trained.net, list, 0) is plain


def test_called_without_fitting_it_fits_on_its_batch(trained: Trained) -> None:
    net, x, y = trained
    fitted = Universal(eps=0.2).fitted(net, lambda: [(x, y, torch.arange(64))])
    torch.testing.assert_close(Universal(eps=0.2)(net, x, y), fitted(net, x, y))
    target = (y + 1) % 5
    adv = Universal(eps=0.5)(net, x, y, target=torch.where(y == 0, 1, 0))
    assert float((net(adv).argmax(1) == 0)[y != 0].float().mean()) > 0.6
    assert Universal(eps=0.2)(net, x, y, target=target).shape == x.shape


def test_fitting_costs_its_epochs_and_attacking_nothing(trained: Trained) -> None:
    net = Counting(conv_net().eval())
    model, x, y = Classifier(net), trained.x, trained.y
    attack = Universal(epochs=3, batch=10).fitted(model, lambda: [(x, y, torch.arange(64))])
    assert (net.forwards, net.backwards) == (model.forwards, model.backwards) == (192, 192)
    attack(model, x, y)
    assert net.forwards == 192
    trace = Trace(64)
    Universal(epochs=3, batch=10)(model, x, y, trace=trace)
    assert trace.forwards.tolist() == trace.backwards.tolist() == [3] * 64


def test_the_model_is_left_as_it_was() -> None:
    net = conv_net().train()
    x, y = torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64)
    with torch.inference_mode():
        batch = (x.clone(), y.clone(), torch.arange(4))
        Universal(epochs=2).fitted(net, lambda: [batch])
    assert net.training
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


def test_pictures_of_another_shape_are_refused(trained: Trained) -> None:
    attack = Universal().fitted(trained.net, lambda: [(trained.x, trained.y, torch.arange(64))])
    with pytest.raises(ValueError, match=r"fitted on pictures of shape \(1, 8, 8\), these are \(1, 4, 4\)"):
        attack(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 5)), torch.rand(2, 1, 4, 4), trained.y[:2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eps": -1}, "eps must be a positive number"),
        ({"norm": "l7"}, "norm is one of"),
        ({"epochs": 0}, "epochs must be a whole number"),
        ({"batch": 1.5}, "batch must be a whole number"),
        ({"step_size": 0}, "step_size must be a positive number"),
    ],
)
def test_wrong_parameters_are_one_line(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        Universal(**settings)
    assert "\n" not in str(raised.value)
