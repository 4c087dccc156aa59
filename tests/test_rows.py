"""Every landmark configuration, one per row of the result table: it trains, it builds at the paper's size, its grid."""

import csv
import functools
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
from ctd_jax.models.mobilenet import MobileNet
from ctd_jax.tasks.landmarks import LandmarkTask
from ctd_jax.tasks.teacher import IMAGENET, Teacher, TeacherNetwork

pytestmark = pytest.mark.slow

FOLDER = pathlib.Path(__file__).parents[1] / "configs"
MODULES = {p.stem: importlib.import_module(f"configs.{p.stem}") for p in sorted(FOLDER.glob("[a-z]*.py"))}
ROWS = [name for name, m in MODULES.items() if name != "default" and m.get_config().task == "landmarks"]
STUDENTS = ("student", "fpd", "fitnets", "attention_transfer", "fsf_ld")
LAYERS = {"stage2": "stem", "stage3": "encoder"}  # in place of those that the smallest networks do not have
OF_STUDENTS = LAYERS | {"stage2": "stem=unpooled"}  # a MobileNet's stem has this size
VGGFACE2 = {"name": "resnet50", "stride_in_1x1": True, "pool_padding": "ceil", "num_outputs": 8631}


def test_the_rows_of_both_papers_and_of_what_they_are_compared_with():
    assert set(ROWS) == {
        *("recipe", "hg", "fe", "ftp", "ft", "ctd_cd", "ctd_ed", "ctd_com", "rtl_layers", "rtl_spatial", "rtl_channel"),
        *("l2_sp", "delta", "scratch", "domains", "helping"),
        *("fsf_teacher", "student", "fpd", "fitnets", "attention_transfer", "fsf_ld"),
    }
    assert [MODULES[row].get_config().name for row in ROWS] == ROWS


def small(row, classifier, **changes):
    """The configuration of a row, made small, for two steps."""
    config = MODULES[row].get_config()
    changes |= {"train__steps": 2, "eval__gradient_norms": True, "data__synthetic__shots": (2, 1, 1)}
    changes |= {"model__hourglass__stacks": 1}
    layers = OF_STUDENTS if row in STUDENTS else LAYERS
    for name, term in config.constraints.items():
        if term.weight and "layers" in term:
            changes[f"constraints__{name}__layers"] = tuple(layers.get(layer, layer) for layer in term.layers)
    weights = config.teacher.weights
    return tiny.config(classifier if weights == "embedded" else weights, MODULES[row], **changes)


@pytest.fixture(scope="module")
def landmark_teacher(classifier_file, tmp_path_factory):
    """The run of `fsf_teacher`, which teaches the students: its configuration, folder and result."""
    workdir = tmp_path_factory.mktemp("landmark_teacher") / "run"
    config = small("fsf_teacher", classifier_file)
    return config, workdir, training_run.train_and_evaluate(config, workdir)


@pytest.fixture
def trained(classifier_file, landmark_teacher, tmp_path, monkeypatch):
    """Function of a row: the configuration, folder and result of its run."""
    # one stage of other widths than the teacher's
    monkeypatch.setitem(models.ENCODERS, "mobilenet_micro", functools.partial(MobileNet, 6, ((2, 8, 1),)))

    def train(row):
        if row == "fsf_teacher":
            return landmark_teacher
        changes = {"teacher__run": str(landmark_teacher[1]), "model__encoder": "mobilenet_micro"}
        config = small(row, classifier_file, **(changes if row in STUDENTS else {}))
        return config, tmp_path, training_run.train_and_evaluate(config, tmp_path)

    return train


@pytest.mark.parametrize("row", ROWS)
def test_two_steps_and_all_that_a_run_leaves(row, trained):
    config, workdir, result = trained(row)
    for domain, numbers in result.get("domains", {"": result}).items():
        assert 0 < numbers["me_px"] < config.data.image_size
        names = {"config.json", "split.csv", "log.csv", "predictions.csv", "metrics.json", "report.html"}
        assert names <= {p.name for p in (workdir / domain).iterdir()}
    assert names - {"predictions.csv"} | {"checkpoints"} <= {p.name for p in workdir.iterdir()}
    with (workdir / "log.csv").open(newline="") as file:
        steps, evaluated = csv.DictReader(file)
    terms = ["coordinates"] * (config.coordinates.weight > 0)
    terms += [name for name, term in config.constraints.items() if term.weight]
    assert all(math.isfinite(float(steps[column])) for column in ("loss", "heatmap", *terms))
    constraints = [term for term in terms if term != "l2"]
    norms = [column for column in evaluated if column.startswith("gradient_")]
    assert norms == [f"gradient_{term}" for term in ("heatmap", *constraints) if constraints]
    assert all(float(evaluated[column]) > 0 for column in norms)


@pytest.fixture(scope="module")
def zeros():
    """Variables of VGGFace2's form."""
    network = models.build_encoder(**VGGFACE2)
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), train=False))
    return jax.tree.map(lambda x: np.broadcast_to(np.float32(0), x.shape), shapes)


@pytest.mark.parametrize("row", ROWS)
def test_the_papers_size(row, zeros, monkeypatch, tmp_path):
    """Shapes only: a teacher of VGGFace2's form, and pictures that nobody draws."""
    config = MODULES[row].get_config("paper")
    assert config.variant == "paper"
    faces = data.load(tiny.config("none", MODULES[row]).data, None)
    if row in STUDENTS:
        heavy = models.build(MODULES["fsf_teacher"].get_config("paper").model, encoder=VGGFACE2, num_landmarks=30)
        monkeypatch.setattr(
            "ctd_jax.tasks.landmarks.task.load_teacher_run", lambda *_: TeacherNetwork(heavy, IMAGENET, {})
        )
        config.teacher.run = str(tmp_path)
    else:
        monkeypatch.setattr("ctd_jax.tasks.student.load_teacher", lambda *_: Teacher(VGGFACE2, IMAGENET, zeros))
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
