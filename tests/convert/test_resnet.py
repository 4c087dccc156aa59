"""`vggface2` and `torchvision`: files in every style, against PyTorch's numbers (golden/README.md)."""

import json
import pickle
import re
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
import state_files
from golden.seeded import picture, resnet_shapes, resnet_state

from convert import port, state_dict, torchvision, vggface2
from ctd_jax import models
from ctd_jax.errors import UserError

GOLDEN = Path(__file__).parents[1] / "golden"
RESNETS = json.loads((GOLDEN / "resnets.json").read_text())
RGB = [131.0912, 103.8827, 91.4953]


def state(case, **kwargs):
    return resnet_state(RESNETS[case]["sizes"], RESNETS[case]["bottleneck"], **kwargs)


def matconvnet(state):
    """The same arrays by the names of the MatConvNet import, in the order of its layers."""
    names = ["conv1_7x7_s2", "conv1_7x7_s2_bn"]
    for stage, size in ((2, 3), (3, 4), (4, 6), (5, 3)):
        for block in range(1, size + 1):
            for part in ("1x1_reduce", "3x3", "1x1_increase", "1x1_proj")[: 4 if block == 1 else 3]:
                names += [f"conv{stage}_{block}_{part}", f"conv{stage}_{block}_{part}_bn"]
    names.append("classifier")
    layers = list(dict.fromkeys(key.rpartition(".")[0] for key in state))
    theirs = dict(zip(layers, names, strict=True))
    new = {f"{theirs[layer]}.{kind}": x for key, x in state.items() for layer, _, kind in [key.rpartition(".")]}
    return new | {"classifier.weight": state["fc.weight"][:, :, None, None]}


def check_against_pytorch(path, case):
    """What a converted file computes, built from its own metadata."""
    variables, meta = models.weight_file.load(path)
    net = models.build_encoder(**meta["encoder"])
    out = jax.jit(lambda v, x: net.apply(v, x, train=False))(variables, picture(64, 96))
    with np.load(GOLDEN / "models.npz") as golden:
        stages = [key for key in golden if key.startswith(f"{case}/64/")]
        assert len(stages) == 7
        for key in stages:
            x = np.asarray(out[key.rpartition("/")[2]])
            got = x[:, :8] if x.ndim == 2 else np.stack([x[..., :8].mean((1, 2)), x[:, -1, -1, :8]])
            np.testing.assert_allclose(got, golden[key], rtol=1e-4, atol=1e-4 * np.abs(golden[key]).max(), err_msg=key)
    return meta


def convert(converter, path, content):
    """Through the command line; returns the file written."""
    path.write_bytes(content)
    out = path.with_suffix(".safetensors")
    assert port.main(converter.original, "A converter.", [str(path), f"--out={out}"]) == 0
    return out


@pytest.mark.slow
@pytest.mark.parametrize("form", ["VGGFace2-pytorch", "MatConvNet"])
def test_vggface2(form, tmp_path, capsys):
    is_matconvnet, arrays = form == "MatConvNet", state("resnet50_caffe")
    content = state_files.torch_legacy(matconvnet(arrays)) if is_matconvnet else state_files.numpy_python2(arrays)
    out = convert(vggface2, tmp_path / "w", content)
    report, said = capsys.readouterr()
    assert "warning:" in said and said.endswith(
        "take `ctd-jax convert torchvision`, whose strides, pooling and input are others\n"
    )
    for stage in ("stem", "stage1", "stage2", "stage3", "stage4", "pooled", "classifier"):
        assert float(re.search(rf"  {stage} +(\S+)\n", report)[1]) < 1e-4
    meta = check_against_pytorch(out, "resnet50_caffe")
    kwargs = {"num_outputs": 10, "width": 8, "stride_in_1x1": True, "pool_padding": "ceil"}
    assert meta["encoder"] == {"name": "resnet50", **kwargs}
    assert meta["input"]["mean"] == (RGB if is_matconvnet else RGB[::-1])
    fed = models.normalize(np.uint8([[[200, 100, 50]]]), meta["input"])[0, 0]  # red, green, blue
    want = [200 - 131.0912, 100 - 103.8827, 50 - 91.4953]
    np.testing.assert_allclose(fed, want if is_matconvnet else want[::-1], rtol=1e-6)


@pytest.mark.parametrize(
    "write",
    [
        state_files.numpy_python2,
        lambda state: pickle.dumps(state, 5),
        state_files.torch_legacy,
        lambda state: state_files.torch_zip({f"module.{key}": x for key, x in state.items()}, "state_dict"),
        lambda state: state_files.torch_zip(state | {"bn1.num_batches_tracked": np.ones(())}, "model"),
    ],
    ids=["NumPy, Python 2", "NumPy, protocol 5", "PyTorch, legacy", "PyTorch, state_dict", "PyTorch, model"],
)
def test_every_style_gives_the_same_arrays(write, tmp_path):
    arrays = state("resnet50_caffe")
    (tmp_path / "w").write_bytes(write(arrays))
    found = {key: x for key, x in state_dict.read(tmp_path / "w").items() if key != "bn1.num_batches_tracked"}
    assert {key: x.dtype for key, x in found.items()} == {key: x.dtype for key, x in arrays.items()}
    jax.tree.map(np.testing.assert_array_equal, found, arrays)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_weights_of_every_precision_become_float32(dtype):
    arrays = {key: x.astype(dtype) for key, x in state("resnet18").items()}
    variables = port.port(arrays, torchvision.original(arrays, "w"), "w")
    assert {x.dtype for x in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(variables["params"]["classifier"]["kernel"], np.float32(arrays["fc.weight"].T))


def test_a_network_of_other_classes_whose_first_layer_fits_the_other_input_is_doubted():
    """A ResNet-50 of VGGFace2 that was trained on for other classes has torchvision's names."""
    arrays = state("resnet50")
    small = arrays | {"conv1.weight": arrays["conv1.weight"] / 58}
    for converter, fits, doubtful, words in (
        (torchvision, arrays, small, "torchvision's resnet50 takes them .* first trained on VGGFace2, .*convert vgg"),
        (vggface2, small, arrays, "ResNet-50 of VGGFace2 takes .* first trained on ImageNet, .*convert torchvision"),
    ):
        assert not converter.original(fits, "w").doubt(fits)
        assert re.search(words, converter.original(doubtful, "w").doubt(doubtful))
    for case, classes in (("resnet18", 10), ("resnet50", 1000)):
        arrays = state(case, classes=classes)
        arrays["conv1.weight"] = arrays["conv1.weight"] / 58
        assert not torchvision.original(arrays, "w").doubt(arrays), case


@pytest.mark.slow
@pytest.mark.parametrize("case", ["resnet18", "resnet34", "resnet50"])
def test_torchvision_is_recognised(case, tmp_path):
    meta = check_against_pytorch(convert(torchvision, tmp_path / "w.pt", state_files.torch_zip(state(case))), case)
    kwargs = {"num_outputs": 10, "width": 8, "stride_in_1x1": False, "pool_padding": "same"}
    assert meta["encoder"] == {"name": case, **kwargs}
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    assert meta["input"] == {"channels": "RGB", "scale": 255.0, "mean": mean, "std": std}


@pytest.mark.slow
def test_the_published_width_and_number_of_classes():
    """The shapes alone say it: 41,136,167 parameters with VGGFace2's 8631 classes."""
    shapes = resnet_shapes([3, 4, 6, 3], True, classes=8631, width=64)
    state = {key: np.broadcast_to(np.float32(1), shape) for key, shape in shapes.items()}
    for arrays in (state, matconvnet(state)):
        variables = port.port(arrays, vggface2.original(arrays, "w.pkl"), "w.pkl")
        assert sum(x.size for x in jax.tree.leaves(variables["params"])) == 23_508_032 + 2048 * 8631 + 8631


@pytest.mark.slow
@pytest.mark.parametrize("torch", [True, False], ids=["PyTorch", "NumPy"])
@pytest.mark.parametrize("wrong", [{"stride_in_1x1": False}, {"pool_padding": "same"}])
def test_wrong_strides_or_pooling_are_refused(wrong, torch, tmp_path, monkeypatch):
    """No name or shape tells them: only the comparison of numbers can."""
    if torch:
        pytest.importorskip("torch")
    else:
        monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(state("resnet50_caffe")))

    def describe(state, path):
        original = vggface2.original(state, path)
        return original._replace(encoder=original.encoder | wrong)

    with pytest.raises(UserError, match="w.pkl: the port differs from the original by .* at "):
        port.convert(tmp_path / "w.pkl", describe)


def others():
    """Arrays of other networks, a part of the message, and the converters that must not take them."""
    resnet50 = state("resnet50")
    block = resnet50["layer1.0.conv3.weight"].shape[0]
    se = {f"layer1.0.conv{i}.weight": np.zeros((block, block, 1, 1)) for i in (4, 5)}
    matconvnet_se = {"conv2_1_1x1_down.weight": np.zeros((16, 256, 1, 1))}
    return {
        "ResNet-18": (state("resnet18"), r"ResNet-18 \(ctd-jax convert torchvision\)", [vggface2]),
        "SENet-50": (resnet50 | se, "SENet-50 of VGGFace2.*2 unused: layer1.0.conv4", [vggface2, torchvision]),
        "its import": (matconvnet(resnet50) | matconvnet_se, "SENet-50.*1 unused: conv2_1_1x1_down", [vggface2]),
        "the import": (matconvnet(resnet50), r"ResNet-50 of VGGFace2 \(ctd-jax convert vggface2\)", [torchvision]),
        "MobileFaceNet": (
            {"dw_conv.depthwise.weight": np.zeros((64, 1, 3, 3))},
            r"MobileFaceNet \(ctd-jax convert mobilefacenet\)",
            [vggface2, torchvision],
        ),
        "ResNet-101": (
            resnet_state([3, 4, 23, 3], True),
            "ResNet-101.*255 unused: layer3.6.conv1.weight",
            [vggface2, torchvision],
        ),
        "ResNet-10": (resnet_state([1, 1, 1, 1], False), r"a ResNet of \[1, 1, 1, 1\] blocks", [torchvision]),
        "half a head": (
            {key: x for key, x in resnet50.items() if key != "fc.weight"},
            "1 missing: fc.weight",
            [vggface2, torchvision],
        ),
        "IResNet": (
            {"layer1.0.prelu.weight": np.zeros(64), "conv1.weight": np.zeros((64, 3, 3, 3))},
            r"IResNet face network.*1 unused.*1 of another shape: conv1.weight \(64, 3, 3, 3\)",
            [vggface2, torchvision],
        ),
        "of no width": ({"conv1.weight": np.zeros((0, 3, 7, 7))}, "1 of another|missing", [vggface2, torchvision]),
        "a number": ({"conv1.weight": np.array(1.0)}, r"conv1.weight \(\)", [vggface2, torchvision]),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", others())
def test_another_network_is_named(name, tmp_path):
    arrays, message, converters = others()[name]
    for converter in converters:
        (tmp_path / "w.pkl").write_bytes(pickle.dumps(arrays))
        with pytest.raises(UserError, match=f"w.pkl: not .*{message}"):
            port.convert(tmp_path / "w.pkl", converter.original)


def test_the_number_of_classes_tells_imagenet_from_vggface2(tmp_path):
    """The names are the same; strides, pooling and input are not."""
    for case, classes, converter, right in (
        ("resnet50", 1000, vggface2, "torchvision"),
        ("resnet18", 1000, vggface2, "torchvision"),
        ("resnet50", 8631, torchvision, "vggface2"),
    ):
        (tmp_path / "w.pkl").write_bytes(pickle.dumps(state(case, classes=classes)))
        message = f"w.pkl: it seems to be ResNet-{case[-2:]} .*, as it has {classes} classes; take .*convert.{right}`"
        with pytest.raises(UserError, match=message):
            port.convert(tmp_path / "w.pkl", converter.original)


# ---------------------------------------------------------------- backbones, and other files


@pytest.mark.slow
@pytest.mark.parametrize("style", ["without fc", "sequential", "in a safetensors file"])
def test_a_backbone_without_its_classifier(style, tmp_path, capsys):
    """PyTorch's own numbers, but for the classifier's, which the file lacks."""
    backbone = {key: value for key, value in state("resnet18").items() if not key.startswith("fc.")}
    if style == "sequential":
        places = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
        backbone = {f"{places[key.split('.')[0]]}.{key.partition('.')[2]}": x for key, x in backbone.items()}
    if style == "in a safetensors file":
        backbone = {f"backbone.{key}": np.ascontiguousarray(x) for key, x in backbone.items()}
        out = convert(torchvision, tmp_path / "w", safetensors.numpy.save(backbone))
    else:
        out = convert(torchvision, tmp_path / "w.pkl", pickle.dumps(backbone))
    assert "constraints.cd can't be used" in capsys.readouterr().out
    variables, meta = models.weight_file.load(out)
    assert meta["encoder"]["num_outputs"] == 0 and "classifier" not in variables["params"]
    want = port.port(state("resnet18"), torchvision.original(state("resnet18"), "w"), "w")
    del want["params"]["classifier"]
    jax.tree.map(np.testing.assert_array_equal, variables, want)


def test_a_result_of_another_format_and_a_url_are_refused(tmp_path, capsys):
    for arguments, message in (
        ([str(tmp_path / "w"), "--out=teacher.pt"], "teacher.pt ends in .pt"),
        (["https://download.pytorch.org/resnet18.pth", "--out=w.safetensors"], "is a URL; fetch it first"),
    ):
        assert port.main(torchvision.original, "Converts.", arguments) == 2
        assert message in capsys.readouterr().err
