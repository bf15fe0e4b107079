"""The model and the inputs are left as they were found, whatever kind of module and tensor they are."""

from __future__ import annotations

import contextlib
import copy
import warnings

import pytest
import torch
from attack_models import conv_net, label
from torch import Tensor, nn

from robustkit.attacks import BIM, FGSM, LBFGS, MIFGSM, PGD, Attack, Classifier

one_of_each = pytest.mark.parametrize(
    "attack", [FGSM(), BIM(steps=4), PGD(steps=4, restarts=2), MIFGSM(steps=4), LBFGS(steps=5, searches=2)], ids=label
)


def picture_of(net: nn.Module) -> list[object]:
    state: list[object] = []
    for name, module in net.named_modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        state.append((name, module.training, *(dict(h) for h in hooks), sorted(module.__dict__)))
    for name, p in net.named_parameters():
        grad = None if p.grad is None else p.grad.clone().tolist()
        state.append((name, id(p), p.requires_grad, p.tolist(), grad))
    return [*state, *((name, id(b), b.tolist()) for name, b in net.named_buffers())]


def used_net() -> nn.Module:
    """Half trained: modes mixed, one layer frozen, gradients pending, a hook in place."""
    net = conv_net()
    x = torch.rand(8, 1, 8, 8)
    nn.functional.cross_entropy(net(x), torch.zeros(8, dtype=torch.int64)).backward()
    net.train()
    net[1].eval()
    net[0].weight.requires_grad_(False)
    net[3].bias.grad = None
    net[7].register_forward_hook(lambda *_: None)
    return net


@one_of_each
@pytest.mark.parametrize("mode", ["plain", "no_grad", "inference_mode", "autocast"])
def test_model_and_inputs_are_left_as_found_in_every_mode(attack: Attack, mode: str) -> None:
    net, x = used_net(), torch.rand(6, 1, 8, 8)
    y = copy.deepcopy(net).eval()(x).argmax(1)
    modes = {
        "plain": contextlib.nullcontext(),
        "no_grad": torch.no_grad(),
        "inference_mode": torch.inference_mode(),
        "autocast": torch.autocast("cpu", torch.bfloat16),
    }
    before, kept = picture_of(net), (x.clone(), y.clone())
    want = attack(net, x, y)
    with modes[mode]:
        got = attack(net, x, y)
    assert picture_of(net) == before
    assert torch.equal(x, kept[0])
    assert torch.equal(y, kept[1])
    assert x.grad is None
    assert not got.requires_grad
    torch.testing.assert_close(got, want, atol=1e-6, rtol=0)


@one_of_each
@pytest.mark.parametrize("targeted", [False, True])
def test_inputs_made_in_inference_mode_will_do(attack: Attack, targeted: bool) -> None:
    net = conv_net().eval()
    with torch.inference_mode():
        x, ids = torch.rand(6, 1, 8, 8), torch.arange(6)
        y = net(x).argmax(1)
        target = (y + 1) % 5 if targeted else None
        inside = attack(net, x, y, target=target, ids=ids)
    torch.testing.assert_close(attack(net, x, y, target=target, ids=ids), inside)


@one_of_each
def test_a_picture_that_wants_a_gradient_gets_none(attack: Attack) -> None:
    net, x = conv_net().eval(), nn.Parameter(torch.rand(3, 1, 8, 8))
    adv = attack(net, x, torch.zeros(3, dtype=torch.int64))
    assert x.grad is None
    assert x.requires_grad
    assert not adv.requires_grad


@one_of_each
@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_model_that_raises_midway_is_left_as_found(attack: Attack, fails_at: int) -> None:
    net, calls = used_net(), []

    def fail(*_: object) -> None:
        calls.append(1)
        if len(calls) == fails_at:
            raise KeyError("broken")

    hook = net[7].register_forward_pre_hook(fail)
    before = picture_of(net)
    with pytest.raises(KeyError, match="broken"):
        attack(net, torch.rand(6, 1, 8, 8), torch.arange(6) % 5)
    assert picture_of(net) == before
    hook.remove()


class InPlace(nn.Module):
    """Normalises its input where it lies."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.sub_(0.5).div_(0.25))


@one_of_each
def test_a_network_that_works_in_place_does_not_spoil_the_pictures(attack: Attack) -> None:
    net, x = conv_net().eval(), torch.rand(6, 1, 8, 8)
    kept, y = x.clone(), net((x - 0.5) / 0.25).argmax(1)
    adv = attack(InPlace(net), x, y)
    assert torch.equal(x, kept)
    torch.testing.assert_close(adv, attack(Classifier(net, 0.5, 0.25), x, y), atol=1e-5, rtol=0)


@one_of_each
@pytest.mark.parametrize("layout", ["channels_last", "batch_last", "expanded", "strided"])
def test_the_layout_of_the_pictures_does_not_matter(attack: Attack, layout: str) -> None:
    net, x = conv_net(channels=3).eval(), torch.rand(6, 3, 8, 8)
    odd = {
        "channels_last": lambda: x.contiguous(memory_format=torch.channels_last),
        "batch_last": lambda: x.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
        "expanded": lambda: x[:1].expand(6, -1, -1, -1),
        "strided": lambda: x.repeat_interleave(2, 3)[..., ::2],
    }[layout]()
    y, plain = net(odd).argmax(1), odd.clone(memory_format=torch.contiguous_format)
    torch.testing.assert_close(attack(net, odd, y), attack(net, plain, y), atol=1e-3, rtol=0)
    assert torch.equal(odd, plain)


@one_of_each
@pytest.mark.parametrize("form", ["scripted", "frozen_script", "traced", "exported"])
def test_compiled_modules_are_attacked_like_the_original(attack: Attack, form: str) -> None:
    net, x = conv_net(channels=3).eval(), torch.rand(6, 3, 8, 8)
    y = net(x).argmax(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, but there are many such files
        if form == "exported":
            rows = torch.export.Dim("rows", min=1, max=1024)
            made = torch.export.export(net, (x,), dynamic_shapes=({0: rows},)).module()
        elif form == "traced":
            made = torch.jit.trace(net, x)
        else:
            made = torch.jit.script(net)
            made = torch.jit.freeze(made) if form == "frozen_script" else made
        adv = attack(made, x, y)
    torch.testing.assert_close(adv, attack(net, x, y), atol=1e-3, rtol=0)


def test_a_wrapped_exported_program_has_the_rest_in_eval_mode_and_back() -> None:
    net, x = conv_net(channels=3).eval(), torch.rand(6, 3, 8, 8)
    rows = torch.export.Dim("rows", min=1, max=1024)
    exported = torch.export.export(net, (x,), dynamic_shapes=({0: rows},)).module()
    whole = nn.Sequential(nn.BatchNorm2d(3), exported, nn.BatchNorm1d(5))
    before = picture_of(whole)
    assert whole[0].training
    assert whole[2].training
    PGD(steps=3)(whole, x, net(x).argmax(1))
    assert picture_of(whole) == before


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8, 8)], ids=str)
def test_normalisation_is_folded_in(shape: tuple[int, ...]) -> None:
    channels = shape[0]
    net, x = conv_net(channels=channels).eval(), torch.rand(5, *shape)
    mean, std = torch.rand(channels), torch.rand(channels) + 0.2
    folded = Classifier(net, mean=mean.tolist(), std=std.tolist())
    want = net((x - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)).detach()
    torch.testing.assert_close(folded.logits(x), want)
    adv = PGD(eps=0.05)(folded, x, want.argmax(1))
    assert float((adv - x).abs().max()) <= 0.05 + 1e-6  # in pixels
