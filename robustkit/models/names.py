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
        "any torchvision classifier with its own weights: torchvision:resnet50, torchvision:vgg16; of older ones "
        "torchvision:resnet50@IMAGENET1K_V1",
    ),
    (
        "FILE.py:NAME",
        "code of yours, which is run: a torch.nn.Module, a Classifier, or a function "
        "that returns one; also package.module:NAME",
    ),
    ("timm:NAME", "any timm classifier with its own weights: timm:convnext_tiny.fb_in1k"),
    ("hf:ORG/NAME", "an image classifier of the Hugging Face hub, or hf:FOLDER, a folder that save_pretrained wrote"),
    (
        "https://HOST/v2/models/NAME",
        "a model that a server of the Open Inference Protocol (KServe, Triton, MLServer) answers for, for attacks "
        "without gradients; http:// too",
    ),
    (
        "FILE",
        "a state dict (.safetensors, .pth, .pt, with --arch, such as resnet18 or timm:NAME), an exported program "
        "(.pt2), TorchScript, or ONNX (.onnx)",
    ),
)


def model_names() -> list[tuple[str, str]]:
    """(name, description) of every model that `load_model` takes."""
    return list(MODELS)
