"""Batch norm folded for prediction changes no number (in float64: random networks amplify rounding)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from configs import default
from ctd_jax import models

SIZE = 64


def network(encoder: str, *, decoder: str = "dense", deconv: str = "phases", norms: tuple[str, ...] = ()):
    config = default.get_config("demo").model
    config.decoder, config.deconv, config.decoder_channels = decoder, deconv, (8, 8)
    return models.build(config, encoder={"name": encoder}, num_landmarks=3, norms=norms, dtype=jnp.float64)


def unet(encoder: str):
    config = default.get_config("demo").model
    config.decoder_channels = (8, 8)
    return models.build_segmentation(config, encoder={"name": encoder}, num_classes=3, dtype=jnp.float64)


def hourglass():
    config = default.get_config("demo").model
    config.network, config.hourglass = "hourglass", {"stacks": 1, "depth": 1, "channels": 16}
    return models.build(config, encoder={"name": "resnet8"}, num_landmarks=3, dtype=jnp.float64)


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def trained(model) -> dict:
    """Random variables, of batch norm too; variances as they are after training, not one."""
    picture = jnp.zeros((1, SIZE, SIZE, 3))
    variables = jax.jit(lambda key: model.init(key, picture, jnp.zeros(1, jnp.int32), train=False))(jax.random.key(0))
    rng, out = np.random.default_rng(0), {}
    for kind, tree in variables.items():
        flat = {path: np.asarray(leaf, np.float64) for path, leaf in flatten_dict(tree).items()}
        for path, leaf in flat.items():
            if path[-1] in ("scale", "var"):
                flat[path] = rng.uniform(0.5, 2, leaf.shape)
            elif path[-1] in ("bias", "mean"):
                flat[path] = rng.normal(0, 0.5, leaf.shape)
        out[kind] = unflatten_dict(flat)
    return out


def apply(model, variables, domain=0) -> dict:
    picture = jnp.asarray(np.random.default_rng(1).normal(size=(2, SIZE, SIZE, 3)))

    @jax.jit
    def features(variables):
        with models.folded():
            return model.apply(variables, picture, jnp.full(2, domain, jnp.int32), train=False)

    return features(variables)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        *(pytest.param(network(name), id=name) for name in ("resnet8", "resnet50", "mobilefacenet", "mobilenet_tiny")),
        pytest.param(network("efficientnet_lite0"), id="efficientnet_lite0"),
        pytest.param(network("mobilenet_micro", decoder="separable"), id="separable"),
        pytest.param(network("resnet8", deconv="transpose"), id="transpose"),
        pytest.param(unet("resnet8"), id="unet"),
    ],
)
def test_every_feature_is_that_of_the_trained_network_and_no_batch_norm_is_left(model):
    variables = trained(model)
    folded = models.fold(model, variables, SIZE)
    assert not folded["batch_stats"]
    assert "scale" not in {path[-1] for path in flatten_dict(folded["params"])}
    want, got = apply(model, variables), apply(model, folded)
    assert want.keys() == got.keys()
    for name, feature in want.items():
        np.testing.assert_allclose(got[name], feature, rtol=0, atol=1e-6 * float(jnp.abs(feature).max()))


@pytest.mark.slow
def test_batch_norm_before_a_convolution_stays():
    model = hourglass()
    variables = trained(model)
    folded = models.fold(model, variables, SIZE)
    assert 0 < len(flatten_dict(folded["batch_stats"])) < len(flatten_dict(variables["batch_stats"]))
    want, got = (apply(model, one)["heatmaps"] for one in (variables, folded))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6 * float(jnp.abs(want).max()))


@pytest.mark.slow
def test_batch_norm_of_several_domains_stays():
    model = network("resnet8", norms=("a", "b"))
    variables = trained(model)
    folded = models.fold(model, variables, SIZE)
    assert flatten_dict(folded["batch_stats"]).keys() == flatten_dict(variables["batch_stats"]).keys()
    for domain in (0, 1):
        want, got = (apply(model, one, domain)["heatmaps"] for one in (variables, folded))
        np.testing.assert_array_equal(got, want)


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
