"""Batch norm folded for prediction changes no number (in float64: random networks amplify rounding)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from configs import default
from ctd_jax import models

SIZE = 64
RESNET8 = {"name": "resnet8", "width": 4, "stage_sizes": (1, 1)}  # a shortcut as it is, and one with a convolution
RESNET50 = {"name": "resnet50", "width": 4, "stage_sizes": (2, 1)}


def network(name: str, *, decoder: str = "dense", deconv: str = "phases", norms: tuple[str, ...] = (), **attributes):
    config = default.get_config("demo").model
    config.decoder, config.deconv, config.decoder_channels = decoder, deconv, (8, 8)
    encoder = {"name": name} | attributes
    return models.build(config, encoder=encoder, num_landmarks=3, norms=norms, dtype=jnp.float64)


def mobilenet(*, light: bool):
    """The form of `mobilenet_tiny` and `mobilenet_micro`, smaller: blocks that add their input, and others."""
    encoder = models.mobilenet.MobileNet(4, ((2, 6, 2), (3, 8, 1)), dtype=jnp.float64)
    return models.EncoderDecoder(encoder, models.decoder.Decoder(3, (8, 8), light=light, dtype=jnp.float64))


def unet(**encoder):
    config = default.get_config("demo").model
    config.decoder_channels = (8, 8)
    return models.build_segmentation(config, encoder=encoder, num_classes=3, dtype=jnp.float64)


def hourglass():
    return models.StackedHourglass(3, stacks=1, depth=1, channels=8, dtype=jnp.float64)


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def trained(model) -> dict:
    """Random variables, of batch norm too; variances as they are after training, not one."""
    picture = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float64)
    domain = jax.ShapeDtypeStruct((1,), jnp.int32)
    shapes = jax.eval_shape(lambda *x: model.init(jax.random.key(0), *x, train=False), picture, domain)
    rng = np.random.default_rng(0)

    def drawn(path, shape):
        if path[-1] in ("scale", "var"):
            return rng.uniform(0.5, 2, shape)
        if path[-1] in ("bias", "mean"):
            return rng.normal(0, 0.5, shape)
        return rng.normal(0, np.prod(shape[:-1]) ** -0.5, shape)

    flat = {path: drawn(path, leaf.shape) for path, leaf in flatten_dict(shapes).items()}
    return unflatten_dict(flat)


def features_of(model):
    """Function of variables and of the pictures' domain."""
    picture = np.random.default_rng(1).normal(size=(2, SIZE, SIZE, 3))

    @jax.jit
    def features(variables, domain=0):
        with models.folded():
            return model.apply(variables, picture, jnp.full(2, domain, jnp.int32), train=False)

    return features


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        pytest.param(network(**RESNET8), id="resnet8"),
        pytest.param(network(**RESNET50), id="resnet50"),
        pytest.param(network("mobilefacenet"), id="mobilefacenet"),
        pytest.param(network("efficientnet_lite0"), id="efficientnet_lite0"),
        pytest.param(mobilenet(light=False), id="mobilenet"),
        pytest.param(mobilenet(light=True), id="separable"),
        pytest.param(network(**RESNET8, deconv="transpose"), id="transpose"),
        pytest.param(unet(**RESNET8), id="unet"),
    ],
)
def test_every_feature_is_that_of_the_trained_network_and_no_batch_norm_is_left(model):
    variables = trained(model)
    folded = models.fold(model, variables, SIZE)
    assert not folded["batch_stats"]
    assert "scale" not in {path[-1] for path in flatten_dict(folded["params"])}
    want, got = map(features_of(model), (variables, folded))
    assert want.keys() == got.keys()
    for name, feature in want.items():
        np.testing.assert_allclose(got[name], feature, rtol=0, atol=1e-6 * np.abs(feature).max())


@pytest.mark.slow
def test_batch_norm_before_a_convolution_stays():
    model = hourglass()
    variables = trained(model)
    folded = models.fold(model, variables, SIZE)
    assert 0 < len(flatten_dict(folded["batch_stats"])) < len(flatten_dict(variables["batch_stats"]))
    want, got = (out["heatmaps"] for out in map(features_of(model), (variables, folded)))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6 * np.abs(want).max())


@pytest.mark.slow
def test_batch_norm_of_several_domains_stays():
    model = network(**RESNET8, norms=("a", "b"))
    variables, features = trained(model), features_of(model)
    folded = models.fold(model, variables, SIZE)
    assert flatten_dict(folded["batch_stats"]).keys() == flatten_dict(variables["batch_stats"]).keys()
    of_domain = []
    for domain in (0, 1):
        want, got = (features(one, domain)["heatmaps"] for one in (variables, folded))
        np.testing.assert_array_equal(got, want)
        of_domain.append(got)
    assert np.abs(of_domain[0] - of_domain[1]).max() > 0.1


def test_by_hand():
    """One channel: 2 x, then (y - 1) / sqrt(3.99999 + 1e-5) * 6 + 5 = 3 y + 2 = 6 x + 2."""
    from flax import linen as nn

    from ctd_jax.models.batch_norm import batch_norm
    from ctd_jax.models.layers import Conv

    class Pair(nn.Module):
        @nn.compact
        def __call__(self, x, domain, *, train):
            return batch_norm(train=train, dtype=jnp.float32, axis_name=None, name="norm")(Conv(1, 1, name="conv")(x))

    variables = {
        "params": {
            "conv": {"kernel": np.array([[[[2.0]], [[0.0]], [[0.0]]]]).reshape(1, 1, 3, 1)},
            "norm": {"scale": np.array([6.0]), "bias": np.array([5.0])},
        },
        "batch_stats": {"norm": {"mean": np.array([1.0]), "var": np.array([3.99999])}},
    }
    folded = models.fold(Pair(), variables, 4)
    np.testing.assert_allclose(folded["params"]["conv"]["kernel"].ravel(), [6, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(folded["params"]["norm"]["bias"], [2], rtol=1e-6)
    assert folded["batch_stats"] == {}
