"""Names that `load_model` takes, for listings; needs no torch."""

from __future__ import annotations

MODELS = (
    (
        "efficientnet-lite0",
        "EfficientNet-Lite0 with its ImageNet weights, 224×224, 1,000 classes (the default)",
    ),
    ("lenet-mnist", "LeNet-5 on MNIST digits, standard training, 28×28, 10 classes"),
    ("lenet-mnist-pgd", "LeNet-5 on MNIST digits, trained on PGD adversarial examples (Madry et al. 2018)"),
    ("lenet-mnist-noise", "LeNet-5 on MNIST digits, trained under Gaussian noise σ = 0.5, to be smoothed"),
    (
        "torchvision:NAME",
        "any torchvision classifier with its own weights: torchvision:resnet50, torchvision:vgg16",
    ),
    (
        "FILE",
        "a state dict (.safetensors, .pth, .pt, with --arch), an exported program (.pt2), TorchScript, or ONNX (.onnx)",
    ),
)


def model_names() -> list[tuple[str, str]]:
    """(name, description) of every model that `load_model` takes."""
    return list(MODELS)
