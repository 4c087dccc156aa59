"""Which network a state dict seems to be, from its keys."""

from collections.abc import Mapping
from typing import Any

RESNETS: dict[tuple[int, ...], str] = {  # blocks per stage, and whether they are bottlenecks
    (2, 2, 2, 2, False): "ResNet-18 (ctd-jax convert torchvision)",
    (3, 4, 6, 3, False): "ResNet-34 (ctd-jax convert torchvision)",
    (3, 4, 6, 3, True): "ResNet-50 (ctd-jax convert torchvision, or convert vggface2 if it knows those faces)",
    (3, 4, 23, 3, True): "ResNet-101",
    (3, 8, 36, 3, True): "ResNet-152",
}
SIGNS = {  # the first key found decides
    "conv2_1_1x1_down.weight": "SENet-50 of VGGFace2",
    "layer1.0.conv4.weight": "SENet-50 of VGGFace2",
    "conv2_1_1x1_reduce.weight": "ResNet-50 of VGGFace2 (ctd-jax convert vggface2)",
    "dw_conv.depthwise.weight": "MobileFaceNet (ctd-jax convert mobilefacenet)",
    "conv_1_dw.conv.weight": "another version of MobileFaceNet",
    "layer1.0.prelu.weight": "an IResNet face network of InsightFace",
    "input_layer.0.weight": "an IR-SE face network",
    "conv2d_1a.conv.weight": "an Inception-ResNet, as FaceNet",
    "conv1_1.weight": "VGG-16, as VGG-Face",
    "features.0.0.weight": "a MobileNet of torchvision",
    "features.0.weight": "AlexNet or VGG of torchvision",
    "_blocks.0._se_reduce.weight": "an EfficientNet with squeeze-and-excitation",
    "_blocks.16._project_conv.weight": "a larger EfficientNet-Lite than Lite0",
    "_blocks.15._project_conv.weight": "EfficientNet-Lite0 (ctd-jax convert efficientnet_lite)",
}


def seems(state: Mapping[str, Any]) -> str:
    """The network's name, and the command that converts it."""
    for key, name in SIGNS.items():
        if key in state:
            return name
    stages = [len({key.split(".")[1] for key in state if key.startswith(f"layer{i}.")}) for i in (1, 2, 3, 4)]
    if not stages[0]:
        return "a network unknown here"
    return RESNETS.get((*stages, "layer1.0.conv3.weight" in state), f"a ResNet of {stages} blocks")
