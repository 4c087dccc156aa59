"""Every encoder keeps the contract; one that does not is refused."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax.traverse_util import flatten_dict

from ctd_jax import models
from ctd_jax.errors import UserError
from ctd_jax.models import encoder

B, H, W = 2, 224, 128


@pytest.mark.slow
@pytest.mark.parametrize("name", models.ENCODERS)
def test_the_contract(name):
    net = models.build_encoder(name, num_outputs=7)
    called = set()

    def watch(call, args, kwargs, context):
        called.add(type(context.module))
        return call(*args, **kwargs)

    with nn.intercept_methods(watch):
        image = jnp.zeros((B, H, W, 3))
        out, variables = jax.eval_shape(lambda: net.init_with_output(jax.random.key(0), image, train=False))
    assert out["encoder"].shape[:3] == (B, H // net.stride, W // net.stride)
    assert net.stride & (net.stride - 1) == 0
    assert all(x.ndim in (2, 4) and x.shape[0] == B for x in out.values())
    assert (out[net.head].shape, out[net.head].dtype) == ((B, 7), jnp.float32)
    without = models.build_encoder(name)
    assert net.head not in jax.eval_shape(lambda: without.init_with_output(jax.random.key(0), image, train=False))[0]
    assert set(net.blocks) <= called and net.blocks
    paths = {"/".join(path[:-1]) for path in flatten_dict(variables["params"])}
    assert set(net.last_layer) <= paths
    assert all("norm" in path[-2] for path in flatten_dict(variables["batch_stats"]))


class Bare(nn.Module):
    num_outputs: int
    dtype: object
    axis_name: str | None
    stride = 4
    head = "classifier"


def test_an_encoder_without_a_member_is_refused(monkeypatch):
    monkeypatch.setitem(models.ENCODERS, "bare", Bare)
    with pytest.raises(UserError, match=r"encoder 'bare' \(Bare\) has no last_layer, blocks; models/encoder.py"):
        models.build_encoder("bare")


def test_what_is_no_module_is_refused(monkeypatch):
    class Plain:
        stride, head, last_layer, blocks = 4, "classifier", (), ()

    monkeypatch.setitem(models.ENCODERS, "plain", lambda **_: Plain())
    with pytest.raises(UserError, match=r"encoder 'plain' \(Plain\) is no flax.linen.Module"):
        models.build_encoder("plain")


def test_the_members_are_these():
    assert set(encoder.MEMBERS) == {"stride", "head", "last_layer", "blocks"}
