"""What the recipes of docs/architecture.md add, added from outside the package: a toy of each kind, used in a run."""

import csv
import json
import sys
import textwrap
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from jax import Array
from ml_collections import ConfigDict

from ctd_jax import formats, models, training_run
from ctd_jax.config import POSITIVE
from ctd_jax.errors import UserError
from ctd_jax.losses import terms
from ctd_jax.models import layers


def log(workdir):
    """The rows of log.csv: name of a column -> text."""
    with (workdir / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# A constraint: its function, a row, a key.


def power_distance(student: Array, teacher: Array, *, power: float) -> Array:
    """`[B]` mean of |s - t| ** power over the map."""
    return jnp.mean(jnp.abs(student - teacher) ** power, axis=(1, 2, 3))


@pytest.fixture
def toy_constraint(monkeypatch):
    row = terms.Constraint(power_distance, terms.Ties.MAP, {"power": POSITIVE})
    monkeypatch.setitem(terms.CONSTRAINTS, "toy", row)


def with_toy_constraint(teacher, **keys):
    config = tiny.config(teacher, constraints__ed__weight=0.0)
    config.constraints.toy = ConfigDict({"weight": 0.5, "layers": ("encoder", "stage2"), "power": 3.0} | keys)
    return config


def test_a_constraint(toy_constraint, teacher_file, tmp_path):
    training_run.train_and_evaluate(with_toy_constraint(teacher_file), tmp_path)
    first, evaluated, *_ = log(tmp_path)
    term, loss, heatmap = (float(first[column]) for column in ("toy", "loss", "heatmap"))
    assert term > 0 and loss == pytest.approx(heatmap + 0.5 * term, rel=1e-3)
    assert float(evaluated["gradient_toy"]) > 0


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"power": 0.0}, "constraints.toy.power is 0.0; expected more than 0"),
        ({"layers": ()}, "constraints.toy.layers is"),
        ({"layers": ("deconv1",)}, "constraints.toy.layers names 'deconv1'; the teacher's features are"),
    ],
)
def test_a_constraint_is_checked_like_the_others(toy_constraint, teacher_file, tmp_path, keys, message):
    with pytest.raises(UserError, match=message):
        training_run.train_and_evaluate(with_toy_constraint(teacher_file, **keys), tmp_path)


# An encoder: one file, a row.


class Halving(nn.Module):
    """3x3 convolution with stride 2, batch norm, ReLU."""

    width: int
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x_BHWC: Array, *, train: bool) -> Array:
        x = layers.Conv(self.width, 3, 2, 1, dtype=self.dtype, name="conv")(x_BHWC)
        norm = layers.batch_norm(train=train, dtype=self.dtype, axis_name=self.axis_name, name="norm")
        return nn.relu(norm(x))


class ToyEncoder(nn.Module):
    num_outputs: int = 0
    dtype: Any = jnp.float32
    axis_name: str | None = None
    stride = 16
    head = "classifier"
    last_layer = ("block4/conv", "block4/norm")
    blocks = (Halving,)

    @nn.compact
    def __call__(self, image_BHWC: Array, *, train: bool, train_head: bool = True) -> dict[str, Array]:
        out, x = {}, image_BHWC
        for i in range(1, 5):
            x = out[f"block{i}"] = Halving(4 * i, self.dtype, self.axis_name, name=f"block{i}")(x, train=train)
        out["encoder"] = x
        if self.num_outputs:
            pooled = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
            out["classifier"] = nn.Dense(self.num_outputs, name="classifier")(pooled)
        return out


@pytest.fixture
def toy_encoder(monkeypatch):
    monkeypatch.setitem(models.ENCODERS, "toy", ToyEncoder)


@pytest.mark.parametrize("trained", ["all", "last"])
def test_an_encoder(toy_encoder, tmp_path, trained):
    """As teacher and student, tied by its layers and its head, and with `train.remat`."""
    teacher = tiny.write_teacher(tmp_path / "toy.safetensors", {"name": "toy", "num_outputs": 3})
    ties = {"constraints__ed__layers": ("block2", "encoder"), "constraints__cd__weight": 0.1}
    config = tiny.config(teacher, train__remat=True, train__encoder_layers=trained, **ties)
    result = training_run.train_and_evaluate(config, tmp_path / "run")
    assert 0 < result["me_px"] < config.data.image_size
    first, evaluated, *_ = log(tmp_path / "run")
    assert float(first["ed"]) > 0 and float(first["cd"]) > 0
    assert float(evaluated["gradient_ed"]) > 0 and float(evaluated["gradient_cd"]) > 0


def test_an_encoder_whose_blocks_remat_does_not_know_is_refused(toy_encoder, monkeypatch, tmp_path):
    monkeypatch.setattr(ToyEncoder, "blocks", ())
    config = tiny.config("none", model__encoder="toy", constraints__ed__weight=0.0, train__remat=True)
    with pytest.raises(UserError, match="train.remat computes the blocks of a network again, but this one has none"):
        training_run.train_and_evaluate(config, tmp_path)


def test_an_encoder_that_lacks_a_member_is_refused(toy_encoder, monkeypatch, tmp_path):
    monkeypatch.delattr(ToyEncoder, "last_layer")
    config = tiny.config("none", model__encoder="toy", constraints__ed__weight=0.0)
    with pytest.raises(UserError, match=r"encoder 'toy' \(ToyEncoder\) has no last_layer"):
        training_run.train_and_evaluate(config, tmp_path)


# An export format: one file, a row.

FORMAT = '''
    """A StableHLO file for the CPU alone, of one picture, with three letters before it."""

    import functools

    import jax
    import numpy as np
    from jax import export


    def write(body, variables, batch, outputs, metadata):
        exported = export.export(jax.jit(functools.partial(body, variables)), platforms=("cpu",))(batch)
        return b"toy" + bytes(exported.serialize())


    def load(content, outputs):
        call = jax.jit(export.deserialize(bytearray(content[3:])).call)
        return lambda pictures: [np.concatenate(x) for x in zip(*(call(one[None]) for one in pictures), strict=True)]
'''


@pytest.fixture
def toy_format(monkeypatch, tmp_path):
    pytest.importorskip("flatbuffers")
    (tmp_path / "formats").mkdir()
    (tmp_path / "formats" / "toy.py").write_text(textwrap.dedent(FORMAT))
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path / "formats")])
    monkeypatch.setitem(formats.FORMATS, "toy", formats.Format(("flatbuffers",), "export", any_batch=False))
    yield
    sys.modules.pop("ctd_jax.formats.toy", None)
    if hasattr(formats, "toy"):
        del formats.toy


def test_an_export_format(toy_format, cli, finished_run, tmp_path):
    workdir = finished_run[0]
    code, out, error = cli("ctd_jax.export", f"--workdir={workdir}", "--to=toy", f"--out={tmp_path / 'landmarks.toy'}")
    assert code == 0, error
    assert (tmp_path / "landmarks.toy").read_bytes().startswith(b"toy")
    report = json.loads((tmp_path / "landmarks.toy.json").read_text())["report"]
    assert report["validation_pictures"] == 4 and report["largest_difference_px"] < 1e-3
    call = formats.load("toy").load((tmp_path / "landmarks.toy").read_bytes(), ("xy", "confidence"))
    xy, confidence = call(np.zeros((2, 32, 32, 3), np.uint8))
    assert xy.shape == (2, 30, 2) and confidence.shape == (2, 30)
