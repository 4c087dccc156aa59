"""ResNet-50 trained on VGGFace2 (Cao et al. 2018, arXiv 1710.08092): its weights as a teacher.

    python -m convert.vggface2 resnet50_ft_weight.pkl --out=teacher.safetensors

Two ports of the authors' Caffe network are public, and both are read: github.com/cydonia999/VGGFace2-pytorch (a pickled
dict of NumPy arrays with torchvision's names; pictures in BGR, as in Caffe), and the import by way of MatConvNet
(robots.ox.ac.uk/~albanie/pytorch-models.html; Caffe's names; RGB, as the authors' own `pytorch_feature_extractor.py` in
github.com/ox-vgg/vgg_face2 feeds it). Both have Caffe's strides and pooling, and take 0..255 minus the mean.

The authors' network takes 224 x 224 pixels. At 256 x 256 its 7 x 7 pooling leaves 2 x 2 cells and its forward fails, so
that it has no classifier output there. Ours is the classifier of the mean over all cells, which differs from the mean
over those windows by up to 9 %; at 224 x 224 they are the same.
"""

import re
import sys

from . import port, resnet

MEAN = [91.4953, 103.8827, 131.0912]  # blue, green, red
INPUT = {"channels": "BGR", "scale": 1.0, "mean": MEAN, "std": [1.0, 1.0, 1.0]}
MATCONVNET_INPUT = {**INPUT, "channels": "RGB", "mean": MEAN[::-1]}
PARTS = {"1": "1x1_reduce", "2": "3x3", "3": "1x1_increase"}


def original(state: port.State, path: str) -> port.Original:
    """The port that the keys call for."""
    is_matconvnet = "conv1_7x7_s2.weight" in state
    return resnet.original(
        state,
        path,
        network="resnet50",
        caffe=True,
        rename=matconvnet if is_matconvnet else str,
        name="ResNet-50 of VGGFace2",
        converter="vggface2",
        source="VGGFace2, "
        + ("by way of MatConvNet" if is_matconvnet else "as in VGGFace2-pytorch")
        + "; arXiv 1710.08092",
        input=MATCONVNET_INPUT if is_matconvnet else INPUT,
    )


def matconvnet(layer: str) -> str:
    """MatConvNet's name of a layer, from PyTorch's: layer1.0.bn2 -> conv2_1_3x3_bn."""
    if match := re.fullmatch(r"layer(\d)\.(\d)\.(conv|bn|downsample\.)(\d)", layer):
        stage, block, kind, n = match.groups()
        part = "1x1_proj" if kind == "downsample." else PARTS[n]
        is_norm = kind == "bn" or kind + n == "downsample.1"
        return f"conv{int(stage) + 1}_{int(block) + 1}_{part}{'_bn' if is_norm else ''}"
    return {"conv1": "conv1_7x7_s2", "bn1": "conv1_7x7_s2_bn", "fc": "classifier"}[layer]


if __name__ == "__main__":
    sys.exit(port.main(original, __doc__))
