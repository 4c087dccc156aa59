"""The outputs of a network for many pictures; that they are finite is tested in test_finite.py."""

import jax
import numpy as np
import pytest

from ctd_jax import data
from ctd_jax.training import inference
from ctd_jax.training.parallel import Parallel

NAMES = tuple(f"{i}.png" for i in range(7))


@pytest.fixture
def dataset():
    """Seven pictures of 8 x 4 pixels, each of one grey, seen at 8 x 8."""
    pictures = [np.full((4, 8, 3), 10 * i, np.uint8) for i in range(7)]
    boxes = np.full((7, 4), np.nan)
    return data.Dataset.unlabelled(NAMES, pictures.__getitem__, boxes=boxes, size=8, margin=0.0)


def brightest(variables, batch):
    return {"grey": variables * batch["picture"].max((1, 2, 3)), "maps": batch["picture"][:, :2, :, 0]}


@pytest.mark.parametrize(("devices", "batch_size", "sizes"), [(1, 3, [3, 3, 1]), (2, 3, [4, 3]), (4, 100, [7])])
def test_every_picture_has_its_output_and_the_filling_has_none(dataset, devices, batch_size, sizes):
    parallel, seen = Parallel("shard_map", jax.devices()[:devices]), []
    compiled = parallel.compile(brightest, sharded=True)

    def body(variables, batch):
        seen.append(batch["picture"].shape)
        return compiled(variables, batch)

    two = parallel.replicate(np.float32(2))
    parts = list(inference.each(body, two, dataset, parallel, batch_size))
    assert [len(found["grey"]) for found, _, _ in parts] == sizes
    assert len(set(seen)) == 1  # one compilation serves all batches
    found, offset, scale = inference.apply(body, two, dataset, parallel, batch_size)
    np.testing.assert_array_equal(found["grey"], 20 * np.arange(7))
    assert found["maps"].shape == (7, 2, 8) and not found["maps"].any()  # above the picture there is none
    np.testing.assert_array_equal(scale, np.ones(7))
    np.testing.assert_array_equal(offset, [[0, 2]] * 7)
