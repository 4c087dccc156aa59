"""The network that benchmarks/step.py measures ours against is ours: same numbers, same size, same heatmaps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from configs import default
from convert.port import renamed
from convert.resnet import LAYERS
from ctd_jax import models
from ctd_jax.tasks.landmarks import heatmaps

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
KINDS = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def torch_key(path):
    part, *layers, kind = path
    layer = "/".join(layers)
    if part == "encoder":
        return f"encoder.{renamed(layer, LAYERS)}.{KINDS[kind]}"
    place = "final" if layer == "final" else f"decoder.{3 * (int(layer[-1]) - 1) + layer.startswith('norm')}"
    return f"{place}.{KINDS[kind]}"


def as_ours(key, value):
    value = value.detach().numpy()
    if value.ndim != 4:
        return value
    return value.transpose((2, 3, 0, 1) if key.startswith("decoder") else (2, 3, 1, 0))


@pytest.mark.slow
def test_the_baseline_is_the_same_network():
    from benchmarks import torch_baseline

    torch.manual_seed(0)
    theirs = torch_baseline.SimpleBaseline(5).eval()
    state = theirs.state_dict()
    ours = models.build(default.get_config("paper").model, encoder={"name": "resnet50"}, num_landmarks=5)
    picture = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype("float32")
    template = jax.eval_shape(lambda: ours.init(jax.random.key(0), picture, train=False))
    paths = {(kind, *path): torch_key(path) for kind, tree in template.items() for path in flatten_dict(tree)}
    assert set(paths.values()) == {key for key in state if not key.endswith("num_batches_tracked")}
    variables = unflatten_dict({path: jnp.asarray(as_ours(key, state[key])) for path, key in paths.items()})
    with torch.no_grad():
        features, want = theirs(torch.from_numpy(picture).permute(0, 3, 1, 2))
    out = jax.jit(lambda v, x: ours.apply(v, x, train=False))(variables, picture)
    for found, theirs in ((out["encoder"], features), (out["heatmaps"], want)):
        theirs = theirs.permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(found, theirs, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.slow
def test_the_baseline_draws_the_same_heatmaps_and_normalises_the_same():
    from benchmarks import torch_baseline
    from ctd_jax.tasks.teacher import IMAGENET

    xy = np.random.default_rng(0).uniform(0, 63, (2, 5, 2)).astype("float32")
    want = heatmaps.draw(jnp.asarray(xy), size=64, stride=4, sigma=2.0)
    found = torch_baseline.draw(torch.from_numpy(xy), 64).permute(0, 2, 3, 1)
    np.testing.assert_allclose(found, want, atol=1e-6)
    picture = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    found = torch_baseline.normalize(torch.from_numpy(picture)).permute(0, 2, 3, 1)
    np.testing.assert_allclose(found, models.normalize(jnp.asarray(picture), IMAGENET), atol=1e-5)
