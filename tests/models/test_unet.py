"""The segmentation network: its decoder sees the encoder's maps, and logits are as large as the picture."""

import jax
import jax.numpy as jnp
import pytest

from configs import mtmd
from ctd_jax import models
from ctd_jax.errors import UserError


@pytest.mark.parametrize(
    ("encoder", "beside"),
    [
        ({"name": "resnet8", "width": 4}, [8, 4, 4]),  # stage2, stage1, unpooled
        ({"name": "resnet18", "width": 4}, [16, 8, 4, 4]),
        ({"name": "mobilefacenet"}, [128, 64, 64]),  # block11 at stride 8, block4, pointwise
    ],
)
def test_the_decoder_sees_the_encoders_maps(encoder, beside):
    """The kernel of each 3x3 convolution has room for the deconvolution's map and the encoder's of that size."""
    config_model = mtmd.get_config().model
    config_model.decoder_channels = (7,) * len(beside)
    model = models.build_segmentation(config_model, encoder=encoder, num_classes=5)
    assert model.stride == 2
    picture = jnp.zeros((1, 64, 64, 3))
    shapes = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x, train=False), picture)
    out, decoder = shapes[0], shapes[1]["params"]["decoder"]
    assert [decoder[f"conv{i + 1}"]["kernel"].shape[2] - 7 for i in range(len(beside))] == beside
    assert out["logits"].shape == (1, 64, 64, 5) and out[f"level{len(beside)}"].shape == (1, 32, 32, 7)


def test_a_decoder_as_fine_as_the_picture():
    config_model = mtmd.get_config().model
    config_model.decoder_channels = (4, 4, 4, 4)
    encoder = {"name": "resnet8", "width": 4}
    model = models.build_segmentation(config_model, encoder=encoder, num_classes=2)
    assert model.stride == 1
    config_model.decoder_channels = (4,) * 5
    with pytest.raises(UserError, match="5 deconvolutions make maps finer than the picture"):
        models.build_segmentation(config_model, encoder=encoder, num_classes=2)
    config_model.network = "hourglass"
    with pytest.raises(UserError, match="model.network is 'hourglass'; segmentation expects encoder_decoder"):
        models.build_segmentation(config_model, encoder=encoder, num_classes=2)
