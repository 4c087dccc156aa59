"""ResNet-18, 34 or 50 of torchvision (BSD-3-Clause), trained on ImageNet or further: its weights as a teacher.

    python -m convert.torchvision resnet50-0676ba61.pth --out=teacher.safetensors

Which of the three it is, and for how many classes, is read from the file.
"""

import sys

from convert import port, resnet

SOURCE = "torchvision, BSD-3-Clause; arXiv 1512.03385"


def original(state: port.State, path: str) -> port.Original:
    """The ResNet that the keys call for."""
    if "layer1.0.conv3.weight" in state:
        network = "resnet50"
    else:
        network = "resnet34" if "layer1.2.conv1.weight" in state else "resnet18"
    return resnet.original(
        state,
        path,
        network=network,
        caffe=False,
        name=f"torchvision's {network}",
        source=SOURCE,
        input=port.IMAGENET,
    )


if __name__ == "__main__":
    sys.exit(port.main(original, __doc__))
