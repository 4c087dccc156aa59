"""ResNet-18, 34 or 50 of torchvision (BSD-3-Clause), trained on ImageNet or further: its weights as a teacher.

    python -m convert.torchvision resnet50-0676ba61.pth --out=teacher.safetensors

Which of the three it is, and for how many classes, is read from the file: also a backbone without its classifier, as
it is or as `torch.nn.Sequential(*list(model.children())[:-1])` names it. (constraints.cd needs a classifier.)
"""

import re
import sys

from . import port, resnet

SOURCE = "torchvision, BSD-3-Clause; arXiv 1512.03385"


def original(state: port.State, path: str) -> port.Original:
    """The ResNet that the keys call for."""
    rename = sequential if "4.0.conv1.weight" in state else str
    if f"{rename('layer1.0.conv3')}.weight" in state:
        network = "resnet50"
    else:
        network = "resnet34" if f"{rename('layer1.2.conv1')}.weight" in state else "resnet18"
    return resnet.original(
        state,
        path,
        network=network,
        caffe=False,
        rename=rename,
        name=f"torchvision's {network}",
        converter="torchvision",
        source=SOURCE,
        input=port.IMAGENET,
    )


def sequential(layer: str) -> str:
    """A layer's name by its place among the network's parts: conv1, bn1, ReLU, pooling, layer1, ..."""
    layer = re.sub(r"^layer(\d)", lambda match: str(int(match[1]) + 3), layer)
    return {"conv1": "0", "bn1": "1"}.get(layer, layer)


if __name__ == "__main__":
    sys.exit(port.main(original, __doc__))
