"""Round trips from randomly initialised PyTorch networks, in all key styles. Needs PyTorch; CI has none."""

import collections
import pickle
import re

import jax
import numpy as np
import pytest

from convert import efficientnet_lite, mobilefacenet, port, state_dict, torchvision, vggface2
from ctd_jax import models

torch = pytest.importorskip("torch")
nn = torch.nn
TORCHVISION = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
RGB = np.float32([131.0912, 103.8827, 91.4953])


@pytest.fixture(scope="module")
def make(request):
    """The networks of `tests/golden/make.py`, which has the published names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(request.path.parents[1] / "golden"))
        patch.setattr(torch, "use_deterministic_algorithms", lambda _: None)
        import make

        yield make


class Caffe(nn.Module):
    """ResNet-50 as MatConvNet's import spells it out, an eighth as wide, with 11 classes."""

    def __init__(self):
        super().__init__()
        self.conv1_7x7_s2, self.conv1_7x7_s2_bn = nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8)
        self.pool1_3x3_s2 = nn.MaxPool2d(3, 2, 0, ceil_mode=True)
        inputs = 8
        for stage, (size, width) in enumerate(((3, 8), (4, 16), (6, 32), (3, 64)), 2):
            for block in range(1, size + 1):
                stride = 2 if block == 1 and stage > 2 else 1
                parts = {
                    "1x1_reduce": nn.Conv2d(inputs, width, 1, stride, bias=False),
                    "3x3": nn.Conv2d(width, width, 3, 1, 1, bias=False),
                    "1x1_increase": nn.Conv2d(width, 4 * width, 1, bias=False),
                }
                if block == 1:
                    parts["1x1_proj"] = nn.Conv2d(inputs, 4 * width, 1, stride, bias=False)
                for part, conv in parts.items():
                    setattr(self, f"conv{stage}_{block}_{part}", conv)
                    setattr(self, f"conv{stage}_{block}_{part}_bn", nn.BatchNorm2d(conv.out_channels))
                inputs = 4 * width
        self.classifier = nn.Conv2d(inputs, 11, 1)

    def forward(self, x):
        def unit(x, name):
            return getattr(self, f"{name}_bn")(getattr(self, name)(x))

        out = {"stem": self.pool1_3x3_s2(torch.relu(unit(x, "conv1_7x7_s2")))}
        x = out["stem"]
        for stage, size in ((2, 3), (3, 4), (4, 6), (5, 3)):
            for block in range(1, size + 1):
                name = f"conv{stage}_{block}_"
                y = torch.relu(unit(x, name + "1x1_reduce"))
                y = unit(torch.relu(unit(y, name + "3x3")), name + "1x1_increase")
                x = torch.relu(y + (unit(x, name + "1x1_proj") if block == 1 else x))
            out[f"stage{stage - 1}"] = x
        out["pooled"] = x.mean((2, 3), keepdim=True)
        out["classifier"] = self.classifier(out["pooled"]).flatten(1)
        return out | {"pooled": out["pooled"].flatten(1)}


def trained(net, seed=0):
    """Batch norm as if it had seen data; every other number is PyTorch's own initialisation."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for x, low, high in ((module.running_mean, -1, 1), (module.running_var, 0.5, 2), (module.bias, -1, 1)):
                x.data.uniform_(low, high, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
    return net.eval()


def numpy_state(net):
    return {key: x.numpy() for key, x in net.state_dict().items()}


def data_parallel(net):
    return collections.OrderedDict((f"module.{key}", x) for key, x in net.state_dict().items())


STYLES = {
    "zip": lambda net, file: torch.save(net.state_dict(), file),
    "legacy": lambda net, file: torch.save(net.state_dict(), file, _use_new_zipfile_serialization=False),
    "module. in state_dict": lambda net, file: torch.save({"state_dict": data_parallel(net), "epoch": 3}, file),
    "model, legacy": lambda net, file: torch.save(
        {"model": net.state_dict()}, file, _use_new_zipfile_serialization=False
    ),
    "parameters": lambda net, file: torch.save(dict(net.state_dict(keep_vars=True)), file),
    "NumPy, protocol 2": lambda net, file: pickle.dump(numpy_state(net), file, 2),
    "NumPy, protocol 5": lambda net, file: pickle.dump(numpy_state(net), file, 5),
}


def check(net, converter, style, tmp_path, capsys, prepare, size=(64, 96)):
    """Converts and compares every stage of the file's network with the original, from the same uint8 picture."""
    with (tmp_path / "w").open("wb") as file:
        STYLES[style](net, file)
    out = tmp_path / "w.safetensors"
    assert port.main(converter.original, "A converter.", [str(tmp_path / "w"), f"--out={out}"]) == 0
    report = capsys.readouterr().out
    assert f"original in PyTorch {torch.__version__}" in report
    variables, meta = models.weight_file.load(out)
    encoder = models.build_encoder(**meta["encoder"])
    picture = np.random.default_rng(1).integers(0, 256, (2, *size, 3), np.uint8)
    image = models.normalize(picture, meta["input"])
    ours = jax.jit(lambda v, x: encoder.apply(v, x, train=False))(variables, image)
    with torch.no_grad():
        theirs = net(torch.from_numpy(np.float32(prepare(picture.astype(np.float64)))).permute(0, 3, 1, 2))
    assert {"stem", "classifier"} <= set(theirs) or {"stem", "embedding"} <= set(theirs)
    for stage, x in theirs.items():
        want = np.moveaxis(x.numpy(), 1, -1)
        np.testing.assert_allclose(ours[stage], want, rtol=0, atol=1e-4 * np.abs(want).max(), err_msg=stage)
        assert float(re.search(rf"  {stage} +(\S+)\n", report)[1]) < 1e-4
    return meta


def imagenet(picture_rgb):
    mean, std = TORCHVISION
    return (picture_rgb / 255 - mean) / std


def vggface2_net(make):
    return trained(make.ResNet((3, 4, 6, 3), True, 11, width=8, stride_in_1x1=True, pool_padding="ceil"))


@pytest.mark.slow
def test_vggface2(make, tmp_path, capsys):
    check(vggface2_net(make), vggface2, "zip", tmp_path, capsys, lambda rgb: (rgb - RGB)[..., ::-1])


@pytest.mark.slow
def test_vggface2_by_way_of_matconvnet(tmp_path, capsys):
    check(trained(Caffe()), vggface2, "zip", tmp_path, capsys, lambda rgb: rgb - RGB)


@pytest.fixture(scope="module")
def nets(make):
    return {
        "vggface2": vggface2_net(make),
        "matconvnet": trained(Caffe()),
        "mobilefacenet": trained(make.MobileFaceNet()),
    }


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", ["vggface2", "matconvnet", "mobilefacenet"])
def test_every_style_gives_the_same_arrays(name, style, nets, tmp_path):
    """What is made of them is seen above and below, in the style "zip"."""
    with (tmp_path / "w").open("wb") as file:
        STYLES[style](nets[name], file)
    found, want = (
        {key: value for key, value in arrays.items() if not key.endswith("num_batches_tracked")}
        for arrays in (state_dict.read(tmp_path / "w"), numpy_state(nets[name]))
    )
    assert found.keys() == want.keys()
    for key, value in want.items():
        assert found[key].dtype == value.dtype
        np.testing.assert_array_equal(found[key], value, err_msg=key)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "depth"), [("resnet18", "2222"), ("resnet34", "3463"), ("resnet50", "3463")])
def test_torchvision(name, depth, make, tmp_path, capsys):
    net = trained(make.ResNet(tuple(map(int, depth)), name == "resnet50", 11, width=8))
    assert check(net, torchvision, "zip", tmp_path, capsys, imagenet)["encoder"]["name"] == name


@pytest.mark.slow
def test_efficientnet_lite(tmp_path, capsys):
    """Against the network of PyPI's efficientnet-lite-pytorch, which pads for any size of picture."""
    lite = pytest.importorskip("efficientnet_lite_pytorch")
    net = trained(lite.EfficientNet.from_name("efficientnet-lite0", image_size=None, num_classes=11))
    inner, seen = net.forward, {}
    net._bn0.register_forward_hook(lambda *call: seen.update(stem=call[2].clip(0, 6)))
    for i, block in enumerate(net._blocks):
        block.register_forward_hook(lambda *call, i=i: seen.update({f"block{i}": call[2]}))
    net.forward = lambda x: {"classifier": inner(x)} | seen | {"encoder": seen["block15"]}
    check(net, efficientnet_lite, "zip", tmp_path, capsys, lambda rgb: (rgb - 127) / 128)


@pytest.mark.slow
def test_mobilefacenet(make, tmp_path, capsys):
    check(trained(make.MobileFaceNet()), mobilefacenet, "zip", tmp_path, capsys, imagenet, size=(112, 112))
