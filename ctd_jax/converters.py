"""The converters of published weights: what they convert, and where they are."""

import importlib.util

CONVERTERS = {  # module of convert/ -> what it converts
    "vggface2": "ResNet-50 trained on VGGFace2",
    "torchvision": "ResNet-18, 34 and 50 of torchvision",
    "mobilefacenet": "MobileFaceNet, face recognition",
    "efficientnet_lite": "EfficientNet-Lite0 trained on ImageNet",
}


def module(name: str) -> str:
    """The module of a converter, by the name that it is imported by here: in an installation, or in a mere clone."""
    package = "ctd_jax.convert" if importlib.util.find_spec("ctd_jax.convert") else "convert"
    return f"{package}.{name}"
