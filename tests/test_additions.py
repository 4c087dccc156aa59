"""What the recipes of docs/architecture.md add, added from outside the package: a toy of each kind, used in a run."""

import csv
import hashlib
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
from PIL import Image

from ctd_jax import data, files, formats, metrics, models, tasks, training_run
from ctd_jax.config import POSITIVE
from ctd_jax.data import points
from ctd_jax.data.landmark_folder import LandmarkTable
from ctd_jax.errors import UserError
from ctd_jax.losses import terms
from ctd_jax.models import layers
from ctd_jax.models.batch_norm import batch_norm

pytestmark = pytest.mark.slow


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
    config = tiny.config(teacher, constraints__ed__weight=0.0, eval__gradient_norms=True, train__steps=2)
    config.constraints.toy = ConfigDict({"weight": 0.5, "layers": ("encoder", "stage1"), "power": 3.0} | keys)
    return config


def test_a_constraint(toy_constraint, teacher_file, tmp_path):
    training_run.train_and_evaluate(with_toy_constraint(teacher_file), tmp_path)
    first, evaluated = log(tmp_path)
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
        norm = batch_norm(train=train, dtype=self.dtype, axis_name=self.axis_name, name="norm")
        return nn.relu(norm(x))


class ToyEncoder(nn.Module):
    num_outputs: int = 0
    dtype: Any = jnp.float32
    axis_name: str | None = None
    stride = 4
    head = "classifier"
    last_layer = ("block2/conv", "block2/norm")
    blocks = (Halving,)

    @nn.compact
    def __call__(self, image_BHWC: Array, *, train: bool, train_head: bool = True) -> dict[str, Array]:
        out, x = {}, image_BHWC
        for i in (1, 2):
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
    ties = {"constraints__ed__layers": ("block1", "encoder"), "constraints__cd__weight": 0.1}
    changes = {"train__remat": True, "train__encoder_layers": trained, "eval__gradient_norms": True}
    changes |= {"train__steps": 2, "model__decoder_channels": ()}
    config = tiny.config(teacher, **changes, **ties)
    result = training_run.train_and_evaluate(config, tmp_path / "run")
    assert 0 < result["me_px"] < config.data.image_size
    first, evaluated = log(tmp_path / "run")
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


# A format of data: one file, a row.


def read_points(root):
    """`points.txt`: a picture, its split, and x and y of its one landmark in each line."""
    lines = [line.split() for line in (root / "points.txt").read_text().splitlines()]
    return LandmarkTable(
        images=tuple(line[0] for line in lines),
        subjects=tuple(line[0] for line in lines),
        splits=tuple(line[1] for line in lines),
        spacing=np.full((len(lines), 2), np.nan),
        where=tuple(f"points.txt, line {i}" for i in range(1, len(lines) + 1)),
        title="points.txt",
        sha256=tuple(hashlib.sha256((root / line[0]).read_bytes()).hexdigest() for line in lines),
        files=("points.txt",),
        landmarks=data.Landmarks(("tip",)),
        xy=np.array([[line[2:]] for line in lines], float),
        boxes=np.full((len(lines), 4), np.nan),
    )


@pytest.fixture
def points_folder(monkeypatch, tmp_path):
    monkeypatch.setitem(points.FORMATS, "points.txt", read_points)
    root, rng = tmp_path / "fingers", np.random.default_rng(0)
    root.mkdir()
    lines = []
    for i, split in enumerate(["train"] * 4 + ["val", "test"]):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(root / f"{i}.png")
        lines.append(f"{i}.png {split} {10 + i} {20.5 + i}")
    (root / "points.txt").write_text("\n".join(lines))
    return root


def test_a_format_of_data(points_folder, teacher_file, tmp_path):
    config = tiny.config(teacher_file, data__root=str(points_folder), train__steps=2)
    training_run.train_and_evaluate(config, tmp_path / "run")
    table = metrics.read_predictions(tmp_path / "run" / "predictions.csv")
    assert list(table.images) == ["5.png"] and list(table.landmarks) == ["tip"]
    np.testing.assert_array_equal(table.true_xy, [[[15, 25.5]]])


def test_a_format_of_data_is_checked_like_the_others(points_folder, teacher_file, tmp_path):
    (points_folder / "points.txt").write_text("0.png train 500 20\n1.png val 10 20\n2.png test 10 20")
    config = tiny.config(teacher_file, data__root=str(points_folder))
    with pytest.raises(UserError, match=r"points.txt, line 1, 0.png: tip lies at \(500.0, 20.0\), outside the picture"):
        training_run.train_and_evaluate(config, tmp_path / "run")


# A task: one folder, a row.


class BrightnessTask:
    """How bright a picture is, as a factor times its mean."""

    targets = data.LANDMARKS
    last_file = "metrics.json"
    terms = ("squared_error",)
    gradient_terms = ()
    term_weights = {}
    constants = ()
    start = {}

    def __init__(self, config, pictures):
        self.config, self.pictures, self.train = config, pictures, pictures.split("train")
        self.meta = {"unit": "share of white"}

    def init(self, seed):
        return {"params": {"encoder": {"factor": jnp.zeros(1)}}, "batch_stats": {}}

    def param_labels(self, params):
        return {"encoder": {"factor": "encoder"}}

    def loss(self, params, batch_stats, constants, batch, keys):
        brightness = batch["picture"].astype(jnp.float32).mean((1, 2, 3)) / 255
        error = (params["encoder"]["factor"] * brightness - brightness) ** 2
        return error, (batch_stats, {"squared_error": error})

    def validator(self, parallel):
        def validate(variables):
            error = abs(float(parallel.first(variables)["params"]["encoder"]["factor"][0]) - 1)
            return error, f"off by {error:.3f}"

        return validate

    def finish(self, variables, parallel, workdir, began):
        result = {"split": "test", "factor": float(variables["params"]["encoder"]["factor"][0])}
        files.write_text(workdir / "metrics.json", json.dumps(result))
        return result

    @classmethod
    def trained(cls, run, domain, config):
        raise UserError(f"{run.workdir}: this run learned brightness, which predicts no place")

    @staticmethod
    def console(result, workdir):
        return f"factor {result['factor']:.2f}"


@pytest.fixture
def toy_task(monkeypatch):
    monkeypatch.setitem(tasks.TASKS, "brightness", BrightnessTask)


def test_a_task(toy_task, tmp_path):
    """40 steps of Adam at 0.05 bring a factor of 0 most of the way to 1."""
    changes = {"train__steps": 40, "train__encoder_lr": 0.05, "eval__every": 20, "model__encoder": "resnet8"}
    config = tiny.config("none", task="brightness", constraints__ed__weight=0.0, **changes)
    result = training_run.train_and_evaluate(config, tmp_path / "run")
    assert 0.7 < result["factor"] < 1.1
    assert training_run.train_and_evaluate(config, tmp_path / "run") == result
    assert tasks.of(config).console(result, tmp_path).startswith("factor")
    with pytest.raises(UserError, match="this run learned brightness"):
        tasks.trained(tmp_path / "run")
