"""Every landmark configuration, one per row of the result table: it trains, it builds at the paper's size, its grid."""

import csv
import importlib
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax.traverse_util import flatten_dict

from ctd_jax import data, models, training_run
from ctd_jax.config import config_hash, load_config
from ctd_jax.tasks.landmarks import LandmarkTask
from ctd_jax.tasks.teacher import IMAGENET, Teacher, TeacherNetwork

pytestmark = pytest.mark.slow

FOLDER = pathlib.Path(__file__).parents[1] / "configs"
MODULES = {p.stem: importlib.import_module(f"configs.{p.stem}") for p in sorted(FOLDER.glob("[a-z]*.py"))}
ROWS = [name for name, m in MODULES.items() if name != "default" and m.get_config().task == "landmarks"]
STUDENTS = ("student", "fpd", "fitnets", "attention_transfer", "fsf_ld")
VGGFACE2 = {"name": "resnet50", "stride_in_1x1": True, "pool_padding": "ceil", "num_outputs": 8631}


def test_the_rows_of_both_papers_and_of_what_they_are_compared_with():
    assert set(ROWS) == {
        *("recipe", "hg", "fe", "ftp", "ft", "ctd_cd", "ctd_ed", "ctd_com", "rtl_layers", "rtl_spatial", "rtl_channel"),
        *("l2_sp", "delta", "scratch", "domains", "helping"),
        *("fsf_teacher", "student", "fpd", "fitnets", "attention_transfer", "fsf_ld"),
    }
    assert [MODULES[row].get_config().name for row in ROWS] == ROWS


@pytest.fixture(scope="module")
def landmark_teacher(classifier_file, tmp_path_factory):
    """A run with pictures that are large enough for a tiny student."""
    workdir = tmp_path_factory.mktemp("landmark_teacher") / "run"
    training_run.train_and_evaluate(tiny.config(classifier_file, MODULES["fsf_teacher"], data__image_size=64), workdir)
    return workdir


@pytest.mark.parametrize("row", ROWS)
def test_two_steps_and_all_that_a_run_leaves(row, classifier_file, landmark_teacher, tmp_path):
    weights = MODULES[row].get_config().teacher.weights
    changes = {"train__steps": 2, "eval__gradient_norms": True}
    if row in STUDENTS:
        changes |= {"teacher__run": str(landmark_teacher), "data__image_size": 64, "model__decoder_channels": (8, 8, 8)}
        changes["model__encoder"] = "mobilenet_micro"
    config = tiny.config(classifier_file if weights == "embedded" else weights, MODULES[row], **changes)
    result = training_run.train_and_evaluate(config, tmp_path)
    for domain, numbers in result.get("domains", {"": result}).items():
        assert 0 < numbers["me_px"] < config.data.image_size
        names = {"config.json", "split.csv", "log.csv", "predictions.csv", "metrics.json", "report.html"}
        assert names <= {p.name for p in (tmp_path / domain).iterdir()}
    assert names - {"predictions.csv"} | {"checkpoints"} <= {p.name for p in tmp_path.iterdir()}
    with (tmp_path / "log.csv").open(newline="") as file:
        trained, evaluated = csv.DictReader(file)
    terms = ["coordinates"] * (config.coordinates.weight > 0)
    terms += [name for name, term in config.constraints.items() if term.weight]
    assert all(math.isfinite(float(trained[column])) for column in ("loss", "heatmap", *terms))
    constraints = [term for term in terms if term != "l2"]
    norms = [column for column in evaluated if column.startswith("gradient_")]
    assert norms == [f"gradient_{term}" for term in ("heatmap", *constraints) if constraints]
    assert all(float(evaluated[column]) > 0 for column in norms)


@pytest.mark.parametrize("row", ROWS)
def test_the_papers_size(row, monkeypatch, tmp_path):
    """Shapes only: a teacher of VGGFace2's form, and pictures that nobody draws."""
    config = MODULES[row].get_config("paper")
    assert config.variant == "paper"
    faces = data.load(tiny.config("none", MODULES[row]).data, None)
    small = models.build_encoder(**VGGFACE2)
    shapes = jax.eval_shape(lambda: small.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), train=False))
    variables = jax.tree.map(lambda x: np.broadcast_to(np.float32(0), x.shape), shapes)
    if row in STUDENTS:
        heavy = models.build(MODULES["fsf_teacher"].get_config("paper").model, encoder=VGGFACE2, num_landmarks=30)
        monkeypatch.setattr(
            "ctd_jax.tasks.landmarks.task.load_teacher_run", lambda *_: TeacherNetwork(heavy, IMAGENET, {})
        )
        config.teacher.run = str(tmp_path)
    else:
        monkeypatch.setattr("ctd_jax.tasks.student.load_teacher", lambda *_: Teacher(VGGFACE2, IMAGENET, variables))
    task = LandmarkTask(config, faces)
    start = jax.eval_shape(lambda: task.init(0))["params"]
    assert task.model.stride == 4
    if row in STUDENTS:
        assert sum(x.size for part in ("encoder", "decoder") for x in jax.tree.leaves(start[part])) < 1e6
    elif row != "hg":
        sizes = {path: x.size for path, x in flatten_dict(start["encoder"]).items()}
        shared = sum(size for path, size in sizes.items() if models.domain_norm.owner(path, ["synthetic_film"]) is None)
        assert shared == 23_508_032  # torchvision's, without fc


@pytest.mark.parametrize("row", ROWS)
def test_a_grid_of_three_settings(row):
    file, grid = str(FOLDER / f"{row}.py"), MODULES[row].get_config().grid
    settings = [load_config(file, setting.split()) for setting in grid]
    assert len({config_hash(config) for config in settings}) == 3 == len(grid)
