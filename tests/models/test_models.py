"""Encoders, the decoder and their builder against PyTorch's numbers (golden/README.md).

Tested here: resnet, mobilefacenet, mobilenet, efficientnet, decoder and encoder_decoder."""

import functools
import json
import re
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from golden.seeded import draw, mobilefacenet_state, picture

from convert import efficientnet_lite, mobilefacenet, port
from ctd_jax import models
from ctd_jax.errors import UserError
from ctd_jax.models import deconvolution
from ctd_jax.models.decoder import Decoder

GOLDEN = Path(__file__).parents[1] / "golden"
RESNETS = json.loads((GOLDEN / "resnets.json").read_text())
FACES = Path(__file__).parents[2] / "../shared/weights/mobilefacenet"
KINDS = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
CONFIG = SimpleNamespace(network="encoder_decoder", decoder="dense", decoder_channels=(16, 16), deconv="phases")


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "models.npz") as numbers:
        return dict(numbers)


def shapes(net, *shape):
    return jax.eval_shape(lambda: net.init(jax.random.key(0), jnp.zeros(shape), train=False))


def decoder_shapes(net, *shape):
    return jax.eval_shape(lambda: net.init(jax.random.key(0), {"encoder": jnp.zeros(shape)}, train=False))


def count(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


def torch_resnet_key(path):
    *_, layer, kind = path
    layer = re.sub(r"^norm", "bn", layer).replace("stem_conv", "conv1").replace("stem_norm", "bn1")
    layer = layer.replace("shortcut_conv", "downsample.0").replace("shortcut_norm", "downsample.1")
    block = re.sub(r"stage(\d)_block(\d)", r"layer\1.\2.", path[1]) if len(path) == 4 else ""
    return f"{block}{layer.replace('classifier', 'fc')}.{KINDS[kind]}"


def torch_decoder_key(path):
    _, layer, kind = path
    name, i = layer.rstrip("0123456789"), layer[-1]
    place = "final_layer" if name == "final" else f"deconv_layers.{3 * int(i) - 3 + (name == 'norm')}"
    return f"{place}.{KINDS[kind]}"


def filled(template, torch_key):
    """The template's variables with the numbers that PyTorch drew for the same keys."""

    def fill(path, x):
        key, shape = torch_key(path), x.shape
        if path[-1] == "kernel" and len(shape) == 4:
            if "deconv" in key:  # in, out, height, width
                return draw(key, tuple(shape[i] for i in (2, 3, 0, 1))).transpose(2, 3, 0, 1)
            return draw(key, tuple(shape[i] for i in (3, 2, 0, 1))).transpose(2, 3, 1, 0)
        return draw(key, shape[::-1]).T

    return unflatten_dict({path: fill(path, x) for path, x in flatten_dict(template).items()})


def check_stages(out, golden, prefix):
    stages = [key.removeprefix(prefix) for key in golden if key.startswith(prefix)]
    assert len(stages) >= 5
    for stage in stages:
        x = np.asarray(out[stage])
        got = x[:, :8] if x.ndim == 2 else np.stack([x[..., :8].mean((1, 2)), x[:, -1, -1, :8]])
        want = golden[prefix + stage]
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max(), err_msg=prefix + stage)


@pytest.mark.slow
@pytest.mark.parametrize("case", RESNETS)
def test_resnet_matches_pytorch(case, golden):
    spec = RESNETS[case]
    net = models.build_encoder(spec["name"], num_outputs=10, width=8, **spec["kwargs"])
    variables = filled(shapes(net, 1, 64, 64, 3), torch_resnet_key)
    for size in ((64, 96), (65, 79)):
        out = jax.jit(lambda v, x: net.apply(v, x, train=False))(variables, picture(*size))
        check_stages(out, golden, f"{case}/{size[0]}/")
        np.testing.assert_array_equal(out["encoder"], out["stage4"])


@pytest.mark.slow
def test_resnet_in_training_matches_pytorch(golden):
    net = models.build_encoder("resnet18", num_outputs=10, width=8)
    variables = filled(shapes(net, 1, 64, 64, 3), torch_resnet_key)
    step = jax.jit(lambda v, x: net.apply(v, x, train=True, mutable=["batch_stats"]))
    out, updates = step(variables, picture(64, 96))
    want = golden.pop("train/stem_mean")
    np.testing.assert_allclose(updates["batch_stats"]["stem_norm"]["mean"], want, rtol=1e-4, atol=1e-5)
    check_stages(out, golden, "train/")


@pytest.mark.slow
@pytest.mark.parametrize("size", [112, 128])
def test_mobilefacenet_matches_pytorch(size, golden):
    net = models.build_encoder("mobilefacenet", num_outputs=128)
    state = mobilefacenet_state()
    variables = port.port(state, mobilefacenet.original(state, "drawn"), "drawn")
    out = jax.jit(lambda v, x: net.apply(v, x, train=False))(variables, picture(size, size))
    check_stages(out, golden, f"mobilefacenet/{size}/")


@pytest.mark.slow
def test_mobilefacenet_gives_the_recorded_features_of_real_faces():
    if not FACES.is_dir():
        pytest.skip("the published weights and their recorded features are not beside this checkout")
    variables, meta, *_ = port.convert(FACES / "mobilefacenet.pt", mobilefacenet.original)
    net = models.build_encoder(**meta["encoder"])
    spec = meta["input"]
    with np.load(FACES / "golden.npz") as want:
        images = (want["image_rgb_uint8"] / np.float32(spec["scale"]) - np.float32(spec["mean"])) / spec["std"]
        out = jax.jit(lambda v, x: net.apply(v, x, train=False))(variables, images.astype(np.float32))
        means = {"stem_mean_c": "stem", "dw_mean_c": "depthwise", "features_4": "block4"}
        maps = {"features_11": "block11", "features_14": "block14", "conv2": "encoder", "embedding": "embedding"}
        assert set(want) == {"image_rgb_uint8", *means, *maps}
        for theirs, ours in means.items():
            np.testing.assert_allclose(out[ours].mean((1, 2)), want[theirs], rtol=1e-4, atol=1e-4)
        for theirs, ours in maps.items():
            np.testing.assert_allclose(out[ours], want[theirs], rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def lite_golden():
    with np.load(GOLDEN / "efficientnet_lite.npz") as numbers:
        return dict(numbers)


def torch_lite_key(path):
    return f"{port.renamed('/'.join(path[1:-1]), efficientnet_lite.LAYERS)}.{KINDS[path[-1]]}"


@pytest.fixture(scope="module")
def lite():
    net = models.build_encoder("efficientnet_lite0", num_outputs=10)
    return net, filled(shapes(net, 1, 64, 64, 3), torch_lite_key)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 96), (112, 80)])
def test_efficientnet_lite_matches_pytorch(size, lite, lite_golden):
    """The second size has 7x5 cells before the last halving, which TensorFlow pads otherwise than an even number."""
    net, variables = lite
    out = jax.jit(lambda v, x: net.apply(v, x, train=False))(variables, picture(*size))
    check_stages(out, lite_golden, f"drawn/{size[0]}/")
    for stage, block, stride in (("stage1", 2, 4), ("stage2", 4, 8), ("stage3", 10, 16), ("stage4", 15, 32)):
        np.testing.assert_array_equal(out[stage], out[f"block{block}"])
        assert out[stage].shape[1:3] == (-(-size[0] // stride), -(-size[1] // stride))


@pytest.mark.slow
def test_efficientnet_lite_in_training_matches_pytorch(lite, lite_golden):
    net, variables = lite
    out, updates = jax.jit(lambda v, x: net.apply(v, x, train=True, mutable=["batch_stats"]))(
        variables, picture(64, 96)
    )
    want = lite_golden.pop("train/stem_mean")
    np.testing.assert_allclose(updates["batch_stats"]["stem_norm"]["mean"], want, rtol=1e-4, atol=1e-5)
    check_stages(out, lite_golden, "train/")


@pytest.mark.slow
def test_the_head_of_efficientnet_lite_stays_as_it_is_if_it_is_told_so(lite):
    net, variables = lite
    same = set()

    def look(variables):
        apply = functools.partial(net.apply, train=True, train_head=False, mutable=["batch_stats"])
        old, new = variables["batch_stats"], apply(variables, picture(32, 32))[1]["batch_stats"]
        same.update(layer for layer, leaves in old.items() if isinstance(leaves, dict) and "mean" in leaves
                    and all(new[layer][kind] is leaves[kind] for kind in leaves))  # fmt: skip

    jax.eval_shape(look, variables)
    assert same == {"head_norm"}


@pytest.mark.slow
def test_efficientnet_lite_has_the_published_number_of_parameters(lite_golden):
    params = shapes(models.build_encoder("efficientnet_lite0", num_outputs=1000), 1, 64, 64, 3)["params"]
    assert count(params) == lite_golden["count"] == 4_652_008  # the authors say 4.7 M


@pytest.mark.parametrize("deconv", deconvolution.FORMS)
def test_decoder_and_its_gradients_match_pytorch(deconv, golden):
    net = Decoder(3, (8, 6), deconv)
    variables = filled(decoder_shapes(net, 1, 5, 7, 12), torch_decoder_key)
    x = draw("decoder/x", (2, 12, 5, 7)).transpose(0, 2, 3, 1)
    g = draw("decoder/g", (2, 3, 20, 28)).transpose(0, 2, 3, 1)

    def total(params, x):
        out = net.apply({**variables, "params": params}, {"encoder": x}, train=False)
        return jnp.sum(out["heatmaps"] * g), out

    (grads, grad_x), out = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))(variables["params"], x)
    for stage, y in out.items():
        np.testing.assert_allclose(y.transpose(0, 3, 1, 2), golden[f"decoder/{stage}"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(grad_x.transpose(0, 3, 1, 2), golden["decoder/grad_x"], rtol=1e-4, atol=1e-4)
    grad_kernel = grads["deconv1"]["kernel"].transpose(2, 3, 0, 1)
    np.testing.assert_allclose(grad_kernel, golden["decoder/grad_kernel"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "published"), [("resnet18", 11_689_512), ("resnet34", 21_797_672), ("resnet50", 25_557_032)]
)
def test_resnet_has_the_published_number_of_parameters(name, published, golden):
    params = shapes(models.build_encoder(name, num_outputs=1000), 1, 64, 64, 3)["params"]
    assert count(params) == published == golden[f"count/{name}"]


@pytest.mark.slow
def test_other_parameter_counts(golden):
    variables = shapes(models.build_encoder("mobilefacenet", num_outputs=128), 1, 112, 112, 3)
    assert count(variables["params"]) == golden["count/mobilefacenet"]
    norms = sum(path[-1] == "mean" for path in flatten_dict(variables["batch_stats"]))
    assert count(variables) + norms == 1_019_699  # the published file, which counts batches in every norm
    assert count(decoder_shapes(Decoder(19), 1, 8, 8, 2048)["params"]) == golden["count/decoder"]


@pytest.mark.slow
@pytest.mark.parametrize("name", models.ENCODERS)
def test_landmark_net(name):
    """Named features, no head unless asked for, the teacher's tree inside, and a heatmap cell per `stride` pixels."""
    net = models.build(CONFIG, encoder={"name": name}, num_landmarks=5)
    variables = shapes(net, 1, 128, 96, 3)
    image = jnp.zeros((2, 128, 96, 3))
    out, _ = jax.eval_shape(lambda v: net.apply(v, image, train=True, mutable=["batch_stats"]), variables)
    assert out["heatmaps"].shape == (2, 128 // net.stride, 96 // net.stride, 5)
    assert {"stem", "encoder", "deconv1", "deconv2"} <= set(out)
    assert not {"pooled", "classifier", "embedding"} & set(out)
    assert set(variables["params"]) == set(variables["batch_stats"]) == {"encoder", "decoder"}
    teacher = shapes(models.build_encoder(name), 1, 128, 96, 3)
    for kind in ("params", "batch_stats"):
        models.weight_file.match(variables[kind]["encoder"], teacher[kind], "student")


@pytest.mark.slow
def test_bfloat16_activations_keep_float32_parameters_and_heatmaps():
    net = models.build(CONFIG, encoder={"name": "mobilefacenet"}, num_landmarks=5, dtype=jnp.bfloat16)
    variables = shapes(net, 1, 64, 64, 3)
    out = jax.eval_shape(lambda v: net.apply(v, jnp.zeros((1, 64, 64, 3)), train=False), variables)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert out["heatmaps"].dtype == jnp.float32
    assert out["stem"].dtype == out["encoder"].dtype == out["deconv2"].dtype == jnp.bfloat16


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kwargs"),
    [("resnet8", {"width": 8, "stage_sizes": (1, 1)}), ("mobilefacenet", {}), ("mobilenet_micro", {})],
)
def test_every_parameter_learns(name, kwargs):
    net = models.build(CONFIG, encoder={"name": name, **kwargs}, num_landmarks=3)
    x = jnp.asarray(picture(32, 32))
    template = flatten_dict(shapes(net, 1, 32, 32, 3))
    named = {path: draw(f"{'/'.join(path[:-1])}.{KINDS[path[-1]]}", leaf.shape) for path, leaf in template.items()}
    variables = unflatten_dict(named)

    def loss(params):
        out, _ = net.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
        return jnp.mean((out["heatmaps"] - 1) ** 2) + jnp.mean(out["encoder"] ** 3)

    for path, grad in flatten_dict(jax.device_get(jax.jit(jax.grad(loss))(variables["params"]))).items():
        assert np.all(np.isfinite(grad)), path
        assert np.any(grad != 0), path


@pytest.mark.slow
def test_batch_norm_is_taken_over_the_mapped_axis():
    net = models.build_encoder("resnet8", width=4, stage_sizes=(1, 1), axis_name="data")
    x = jnp.asarray(picture(32, 32))
    variables = filled(shapes(net, 1, 32, 32, 3), torch_resnet_key)

    def encode(net, x):
        return net.apply(variables, x, train=True, mutable=["batch_stats"])[0]["encoder"]

    mapped = jax.jit(jax.vmap(lambda x: encode(net, x), axis_name="data"))(x[:, None])[:, 0]
    want = jax.jit(lambda x: encode(net.clone(axis_name=None), x))(x)
    np.testing.assert_allclose(mapped, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ({"name": "resnet5"}, "resnet5.*resnet8, resnet18, resnet34, resnet50, mobilefacenet"),
        ({"name": "mobilefacenet", "width": 8}, "width"),
    ],
)
def test_unknown_encoder(encoder, message):
    with pytest.raises(UserError, match=message):
        models.build_encoder(**encoder)


def test_unusable_decoders():
    for channels, deconv, message in (
        ((4,) * 5, "phases", "finer than the picture"),
        ((4,), "fast", "phases, transpose"),
    ):
        config = SimpleNamespace(network="encoder_decoder", decoder="dense", decoder_channels=channels, deconv=deconv)
        with pytest.raises(UserError, match=message):
            models.build(config, encoder={"name": "resnet8"}, num_landmarks=1)


@pytest.mark.slow
def test_embedding_of_a_small_picture_is_refused():
    with pytest.raises(UserError, match="112x112.*96x112"):
        shapes(models.build_encoder("mobilefacenet", num_outputs=128), 1, 112, 96, 3)
