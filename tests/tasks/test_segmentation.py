"""Segmentation as a task: where classes stand, losses of one's own domain, and whole runs."""

import contextlib
import csv
import dataclasses
import functools
import io
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import segmentation_folder
import tiny
from flax.traverse_util import flatten_dict
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from configs import mtmd
from ctd_jax import Predictor, data, formats, inspection, models, report, run_folder, tasks, training_run
from ctd_jax.config import config_of_run
from ctd_jax.errors import UserError
from ctd_jax.inspection import contradicted, reading
from ctd_jax.metrics import segmentation
from ctd_jax.tasks.segmentation import Layout, SegmentationTask, evaluate, forward
from ctd_jax.tasks.segmentation.network import IMPOSSIBLE
from ctd_jax.tasks.segmentation.trained import TrainedClassMaps, mean_class_map
from ctd_jax.tasks.student import Facts
from ctd_jax.tasks.trained import Run
from ctd_jax.training import checkpoint
from ctd_jax.training.parallel import Parallel

pytestmark = pytest.mark.slow

REPO = pathlib.Path(__file__).parents[2]
CLASSES = {"heads": ("background", "skull", "brain"), "spines": ("background", "disc")}
SMALL = {"data__synthetic__shots": (1, 1, 1)}
JOINT = {"domains__norm": False, "domains__heads": False, "constraints__contrastive__weight": 0.0}
# the schemes of Boutillon et al. 2021 and what they are compared with
SCHEMES = {
    "one network each": {"data__domains": ("heads",), "constraints__contrastive__weight": 0.0},
    "joint": JOINT,
    "heads": JOINT | {"domains__heads": True},
    "norm": {"constraints__contrastive__weight": 0.0},
    "contrastive": {},
    "multi-scale": {"constraints__contrastive__layers": ("encoder", "level1")},
}


def make_task(teacher, **changes):
    config = tiny.config(teacher, mtmd, **SMALL | changes)
    return SegmentationTask(config, data.load(config.data, None, targets=data.CLASS_MAPS))


# ---------------------------------------------------------------- where classes stand


def test_layouts_by_hand():
    separate, joint = Layout.of(CLASSES, heads=True), Layout.of(CLASSES, heads=False)
    np.testing.assert_array_equal(separate.columns, [[0, 1, 2], [3, 4, -1]])
    np.testing.assert_array_equal(joint.columns, [[0, 1, 2], [0, 3, -1]])
    assert (separate.total, joint.total) == (5, 4)
    np.testing.assert_array_equal(separate.foreground, [False, True, True, False, True])
    np.testing.assert_array_equal(joint.foreground, [False, True, True, True])
    classes = np.array([[[0, 2, 255]], [[0, 1, 255]]], np.uint8)
    of_separate, of_joint = jax.jit(lambda *x: (separate.places(*x), joint.places(*x)))(classes, np.array([0, 1]))
    np.testing.assert_array_equal(of_separate, [[[0, 2, -1]], [[3, 4, -1]]])
    np.testing.assert_array_equal(of_joint, [[[0, 2, -1]], [[0, 3, -1]]])


@pytest.mark.parametrize("heads", [True, False])
def test_what_is_found_is_a_class_of_the_pictures_domain(heads):
    layout = Layout.of(CLASSES, heads=heads)
    logits = np.random.default_rng(0).normal(size=(2, 3, 3, layout.total)).astype(np.float32)
    both = jax.jit(lambda *x: (layout.probabilities(*x), layout.within(*x)))
    found, within = map(np.asarray, both(logits, np.array([1, 0])))
    for b, columns in ((0, layout.columns[1][:2]), (1, layout.columns[0])):
        odds = np.exp(logits[b][..., columns])
        want = odds / odds.sum(-1, keepdims=True)
        np.testing.assert_allclose(found[b, ..., : len(columns)], want, rtol=1e-5)
    assert (found[0, ..., 2] == 0).all()
    assert (within[0, ..., 1 if heads else 2] == IMPOSSIBLE).all()


@pytest.mark.parametrize("heads", [True, False])
def test_only_with_heads_is_a_pictures_loss_free_of_other_domains_logits(heads, teacher_file):
    """The gradient of each picture's loss by the logits of the other domain's classes."""
    task = make_task(teacher_file, domains__heads=heads, domains__norm=heads, constraints__contrastive__weight=0.0)
    batch = task.train.batch(np.array([0, len(task.train) - 1]))
    assert batch["domain"].tolist() == [0, 1]

    @jax.jit
    @jax.jacrev
    def slopes_of(logits):
        truth = task.layout.places(batch["classes"], batch["domain"]), batch["domain"]
        return task.task_terms({"logits": logits}, {}, truth)["segmentation"]

    logits = np.random.default_rng(0).normal(size=(2, 32, 32, task.layout.total)).astype(np.float32)
    slopes = np.abs(slopes_of(logits)).max((2, 3))
    assert (slopes[0, 1] == 0).all() and (slopes[1, 0] == 0).all()  # another picture's logits
    for b in range(2):
        of_domain = np.isin(np.arange(task.layout.total), task.layout.columns[b])
        assert (slopes[b, b][of_domain] > 0).all()
        assert (slopes[b, b][~of_domain] == 0).all() == heads


# ---------------------------------------------------------------- the task


def paths_of(task):
    return {"/".join(path) for path in flatten_dict(jax.eval_shape(lambda: task.init(0))["params"])}


def test_filters_are_shared_norms_and_heads_are_not(teacher_file):
    paths = paths_of(make_task(teacher_file))
    assert {"decoder/norm1/heads/scale", "decoder/norm1/spines/scale", "decoder/conv1/kernel"} <= paths
    assert {"decoder/final_heads/kernel", "decoder/final_spines/kernel", "encoder/stem_norm/heads/bias"} <= paths
    assert not [path for path in paths if path.endswith("kernel") and "final" not in path and "/heads" in path]
    joint = paths_of(make_task(teacher_file, **JOINT))
    assert "decoder/final/kernel" in joint and not [path for path in joint if "heads" in path]


def test_it_starts_from_the_teacher_in_every_domain(teacher_file):
    task = make_task(teacher_file)
    params = task.init(0)["params"]["encoder"]
    taught = task.teacher.variables["params"]
    np.testing.assert_array_equal(params["stem_conv"]["kernel"], taught["stem_conv"]["kernel"])
    for domain in ("heads", "spines"):
        np.testing.assert_array_equal(params["stem_norm"][domain]["scale"], taught["stem_norm"]["scale"])


def test_constraints_tie_it_to_the_teacher(teacher_file):
    """Every term of one layer at once: finite, and in the total with its weight."""
    terms = ("ed", "spatial", "channel", "at", "hint", "rkd_distance", "l2_sp", "l2", "contrastive")
    changes = {f"constraints__{name}__layers": ("stage1",) for name in ("spatial", "channel", "at")}
    task = make_task(teacher_file, **changes, **{f"constraints__{name}__weight": 0.1 for name in terms})
    trained = tiny.trainer(task)
    _, means = trained([task.train.batch(np.array([0, 1, 4, 5]))] * 2)
    for mean in means:
        assert np.isfinite(list(mean.values())).all()
        total = mean["segmentation"] + sum(0.1 * mean[name] for name in terms)
        assert mean["loss"] == pytest.approx(total, rel=1e-4)
        assert mean["segmentation"] == pytest.approx(mean["cross_entropy"] + mean["dice_loss"], rel=1e-5)
    assert means[1]["segmentation"] < means[0]["segmentation"]


@pytest.fixture(scope="module")
def still(teacher_file):
    """Function of the arguments of `tiny.trainer`: the means of the second step on one batch."""
    task = make_task(teacher_file, **tiny.STILL)
    batches = [task.train.batch(np.array([0, 4, 1, 5]))] * 2
    return lambda *where: tiny.trainer(task, *where)(batches)[1][-1]


@pytest.fixture(scope="module")
def of_one_device(still):
    return still("shard_map", 1)


@pytest.mark.parametrize(("kind", "devices"), [("shard_map", 2), ("pmap", 1), ("pmap", 2)])
def test_devices_agree(kind, devices, still, of_one_device):
    """They do what one of `shard_map` does: statistics and the contrastive term are of the whole batch."""
    found = still(kind, devices)
    assert found.keys() == of_one_device.keys()
    for name, value in of_one_device.items():
        assert found[name] == pytest.approx(value, rel=2e-4, abs=1e-6), name


def test_training_on_one_domain_leaves_the_other_in_evaluation_as_it_was(teacher_file):
    """Statistics, affine parameters and head of a domain that the batches do not have stay; shared filters are held."""
    task = make_task(teacher_file, constraints__contrastive__weight=0.0)
    heads = np.flatnonzero(task.train.domain == 0)[:4]
    labels = jax.tree_util.tree_map_with_path(
        lambda path, _: "decoder" if any(getattr(k, "key", "").endswith("heads") for k in path) else "frozen",
        task.init(0)["params"],
    )
    task.param_labels = lambda _: labels
    start = jax.device_get(task.init(0))
    state, _ = tiny.trainer(task)([task.train.batch(heads)] * 2)
    before, after = (flatten_dict({"params": p, "stats": s}) for p, s in (
        (start["params"], start["batch_stats"]), (state.params, state.batch_stats)))  # fmt: skip
    changed = {path for path in before if (np.asarray(before[path]) != after[path]).any()}
    assert changed and all(any("heads" in part for part in path) for path in changed)
    pictures = task.pictures.split("test").batch(np.arange(4))
    apply = jax.jit(functools.partial(task.model.apply, train=False))
    picture = models.normalize(pictures["picture"], task.teacher.input)
    spines = np.ones(4, np.int32)
    first = apply(start, picture, spines)["logits"][..., 3:]
    second = apply({"params": state.params, "batch_stats": state.batch_stats}, picture, spines)["logits"][..., 3:]
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("mirror", [False, True])
def test_the_validator_is_the_mean_dice_of_val(teacher_file, mirror):
    task = make_task(teacher_file, eval__mirror=mirror, augment__flip=0.5)
    parallel = Parallel("shard_map")
    variables = task.init(0)
    error, text = task.validator(parallel)(parallel.replicate(variables))
    val = task.pictures.split("val")
    batch = val.batch(np.arange(len(val)))

    @jax.jit
    def probabilities(variables, picture):
        seen = models.normalize(picture, task.teacher.input)
        logits = task.model.apply(variables, seen, batch["domain"], train=False)["logits"]
        return task.layout.probabilities(logits, batch["domain"])

    plain = np.asarray(probabilities(variables, batch["picture"]))
    turned = probabilities(variables, np.flip(batch["picture"], 2)) if mirror else np.flip(plain, 2)
    found = (plain + np.flip(turned, 2)).argmax(-1)
    dice = [
        [segmentation.measure(true == i, labels == i, np.full(2, np.nan))["dice"] for i in (1, 2)]
        for true, labels in zip(batch["classes"], found, strict=True)
    ]
    want = np.mean([np.mean(np.array(dice)[val.domain == d], axis=0) for d in (0, 1)])
    assert error == pytest.approx(1 - want, abs=1e-6) and text == f"1 - mean Dice {error:.3f}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__decoder": "separable"}, "model.decoder is separable, but the task is segmentation.*decoder=dense"),
        ({"coordinates__weight": 0.1}, "coordinates.weight is 0.1, but the task is segmentation"),
        ({"data__image_size": 42}, "data.image_size is 42; resnet8 needs a multiple of 4"),
        ({"data__domains": ("heads",)}, "constraints.contrastive.weight is not 0, but there is one domain"),
        ({"constraints__contrastive__layers": ("level9",)}, "constraints.contrastive.layers names 'level9'"),
        ({"data__synthetic__identities": (4, 2, 0)}, "domain heads: eval.split is test, but the splits are train, val"),
    ],
)
def test_what_does_not_go_together(changes, message, teacher_file, tmp_path):
    with pytest.raises(UserError, match=message):
        training_run.prepare(tiny.config(teacher_file, mtmd, **SMALL | changes), tmp_path)


# ---------------------------------------------------------------- runs


def run(workdir, teacher, **changes):
    return training_run.train_and_evaluate(tiny.config(teacher, mtmd, **SMALL | changes), workdir)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_is_a_matter_of_keys(scheme, teacher_file):
    """Shapes only: each has a loss with all of its terms and a gradient."""
    task = make_task(teacher_file, **SCHEMES[scheme])
    assert list(task.classes) == (["heads"] if scheme == "one network each" else ["heads", "spines"])
    variables, keys = jax.eval_shape(lambda: task.init(0)), jax.random.split(jax.random.key(0), 4)
    frozen = task.constants

    def gradient(params, batch, keys):
        return jax.grad(lambda params: task.loss(params, variables_of(), frozen, batch, keys)[0].mean())(params)

    def variables_of():
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), variables["batch_stats"])

    batch = jax.tree.map(lambda x: x[None], task.train.batch(np.arange(4)))
    mapped = jax.vmap(gradient, in_axes=(None, 0, 0), axis_name="data")
    found = jax.eval_shape(mapped, variables["params"], batch, keys[None])
    assert found["decoder"]["conv1"]["kernel"].shape[0] == 1
    assert ("contrastive" in task.terms) == (scheme in ("contrastive", "multi-scale"))


@pytest.fixture(scope="module")
def folder_run(tmp_path_factory, teacher_file):
    root = segmentation_folder.write(tmp_path_factory.mktemp("segmentation") / "anatomies")
    rows = segmentation_folder.read_rows(root)
    tests = {"person6": "test1", "person7": "test2"}
    segmentation_folder.write_rows(root, [[*row[:4], tests.get(row[3], row[4]), *row[5:]] for row in rows])
    workdir = root.parent / "run"
    return root, workdir, run(workdir, teacher_file, data__root=str(root))


def test_a_run_is_gone_on_from_with_all_of_its_network(folder_run):
    _, workdir, _ = folder_run
    config = config_of_run(workdir)
    config.model.start = str(workdir)
    made = SegmentationTask(config, data.load(config.data, workdir / "tfds", targets=data.CLASS_MAPS))
    start, known = flatten_dict(made.init(1)), flatten_dict(checkpoint.best(workdir)[0])
    assert start.keys() == known.keys() and all(np.array_equal(start[path], known[path]) for path in known)
    assert made.start_named["run"] == str(workdir) and made.meta["start"] == made.start["network"]


def test_the_files_of_a_run(folder_run):
    root, workdir, result = folder_run
    names = {p.name for p in workdir.iterdir()}
    assert names == {
        *("config.json", "split.csv", "checkpoints", "log.csv", "tensorboard", "tfds", "masks", "metrics.json"),
        *("segmentation_metrics.csv", "mean_map.csv", "report.html", "overlays.png", "curves.png"),
        *("trust.safetensors", "metrics_test1.json", "metrics_test2.json"),
    }
    assert result == json.loads((workdir / "metrics.json").read_text())
    assert result["split"] == "test" and result["n_images"] == 4
    assert {"dice", "dice_heads_skull", "sensitivity_spines_disc", "ci95", "config_hash", "seconds"} <= result.keys()
    assert not [key for key in result if "_mm_spines" in key]  # no spacing there
    variables, meta = checkpoint.best(workdir)
    assert result["n_params"] == sum(np.size(x) for x in jax.tree.leaves(variables["params"]))
    assert [one["name"] for one in meta["domains"]] == ["heads", "spines"]
    page = (workdir / "report.html").read_text()
    assert "Segmentation report" in page and "vertebra" in page and "<script" not in page


def test_every_number_is_that_of_the_masks(folder_run):
    """Predicted class maps have the pictures' size, and the table is theirs."""
    root, workdir, result = folder_run
    with (workdir / "segmentation_metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert {(row["image"], row["class"]) for row in table} == {
        *((f"heads/{i}.png", name) for i in (6, 7) for name in ("skull", "brain")),
        *((f"spines/{i}.png", name) for i in (6, 7) for name in ("vertebra", "disc")),
    }
    for row in table:
        number = {"skull": 1, "brain": 2, "vertebra": 1, "disc": 2}[row["class"]]
        with Image.open(evaluate.mask_path(workdir, row["image"])) as mask:
            found = np.asarray(mask)
        with Image.open(root / row["image"].replace(".png", "_mask.png")) as mask:
            true = np.asarray(mask)
        assert found.shape == true.shape == (32, 40)
        spacing = np.array([0.5, 0.25] if row["domain"] == "heads" else [np.nan] * 2)
        want = segmentation.measure(true == number, found == number, spacing)
        for key in segmentation.MEASURES:
            np.testing.assert_allclose(float(row[key] or "nan"), want[key], rtol=1e-5)
    of_skull = [float(row["dice"] or "nan") for row in table if row["class"] == "skull"]
    assert result["dice_heads_skull"] == pytest.approx(np.nanmean(of_skull), rel=1e-5)


def test_each_of_several_tests_has_its_numbers(folder_run):
    _, workdir, result = folder_run
    scores = segmentation.read(workdir / "segmentation_metrics.csv")
    blind = segmentation.read(workdir / "mean_map.csv")
    for name, image in (("test1", "spines/6.png"), ("test2", "spines/7.png")):
        one = json.loads((workdir / f"metrics_{name}.json").read_text("utf-8"))
        assert (one["split"], one["n_images"], one["config_hash"]) == (name, 2, result["config_hash"])
        row = (scores.names["image"] == image) & scores.of("spines", "disc")
        assert one["dice_spines_disc"] == scores.values["dice"][row]
        assert one["mean_map"]["dice_spines_disc"] == blind.values["dice"][row]


def test_a_helping_domain_is_not_in_the_result(folder_run, tmp_path, monkeypatch):
    root, workdir, _ = folder_run
    monkeypatch.setattr(report.segmentation, "write", lambda *_: None)
    pictures = dataclasses.replace(segmentation_folder.load(root, workdir), helping=("spines",))
    with (workdir / "segmentation_metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["domain"] == "heads"]
    rows = [row | {key: float(row[key] or "nan") for key in segmentation.MEASURES} for row in rows]
    config, facts = config_of_run(workdir), Facts(0, 0.0)
    evaluate._write(rows, rows, pictures, config, tmp_path, facts, {("spines", "disc"): 0})
    result = json.loads((tmp_path / "metrics.json").read_text("utf-8"))
    assert list(result["classes"]) == ["heads"] and "spines" not in report.segmentation.console(result)


def test_no_two_pictures_have_one_mask(tmp_path):
    paths = {evaluate.mask_path(tmp_path, f"heads/{image}") for image in ("scan..1.png", "scan_1.png", "a/scan_1.png")}
    assert len(paths) == 3 and all(path.is_relative_to(tmp_path / "masks" / "heads") for path in paths)


@pytest.fixture
def with_small(folder_run):
    """Makes the first class of each domain, or each class, too small to be seen: of 40 columns 32 are, not column 2."""
    root, workdir, _ = folder_run
    pictures = segmentation_folder.load(root, workdir)
    every = pictures.everything

    def changed(*names):
        def class_map(index):
            classes = np.where(np.isin(every.targets.class_map(index), names), 0, every.targets.class_map(index))
            classes[3, 2] = 1
            return classes

        targets = dataclasses.replace(every.targets, class_map=class_map)
        return dataclasses.replace(pictures, everything=dataclasses.replace(every, targets=targets))

    return changed


def test_a_class_that_is_too_small_is_named_before_training(folder_run, with_small, caplog):
    """What the run before has learned is no unknown class."""
    config = config_of_run(folder_run[1])
    config.model.start = str(folder_run[1])
    made = SegmentationTask(config, with_small(1))
    assert "seen at 32 x 32 pixels: skull of heads in 4 of 4, vertebra of spines in 4 of 4 training" in caplog.text
    start = made._start
    for before, names in (
        (start, None),
        (dataclasses.replace(start, meta=start.meta | {"never_annotated": ["heads/skull"]}), ["heads/skull"]),
        (None, ["heads/skull", "spines/vertebra"]),
    ):
        made._start = before
        assert made.meta["never_annotated"] == names
    assert made._untrained == {("heads", "skull"): 4, ("spines", "vertebra"): 4}


def test_a_val_in_which_no_class_is_seen_is_refused(folder_run, with_small):
    message = "is 32, where every class of heads is too small to be seen in all 2 pictures of val, .*; give a larger"
    with pytest.raises(UserError, match=message):
        SegmentationTask(config_of_run(folder_run[1]), with_small(1, 2))


def test_every_result_has_the_mean_map(folder_run):
    """Dice of mean_map.csv is that of metrics.json; four steps of training are no better, and that is said first."""
    root, workdir, result = folder_run
    blind = segmentation.read(workdir / "mean_map.csv")
    scores = segmentation.read(workdir / "segmentation_metrics.csv")
    assert blind.names["image"].tolist() == scores.names["image"].tolist()
    rows = blind.of("heads", "skull")
    assert result["mean_map"]["dice_heads_skull"] == pytest.approx(np.nanmean(blind.values["dice"][rows]), rel=1e-5)
    assert result["mean_map"]["beaten"] == {"heads": False, "spines": False}
    first = report.segmentation.console(result).splitlines()[0]
    assert first.startswith("This network is no better than the mean map of the training labels of heads")
    page = (workdir / "report.html").read_text("utf-8")
    assert page.index(first) < page.index("the mean Dice coefficient is")
    assert f"Made with ctd_jax {result['versions']['ctd_jax']}" in page
    assert result == json.loads((workdir / "metrics.json").read_text())


def test_predict_makes_the_class_maps_of_the_run(folder_run, cli, tmp_path):
    root, workdir, result = folder_run
    maps = sorted((workdir / "masks").rglob("*.png"))
    domain, other = result["classes"]
    pictures = [root / path.relative_to(workdir / "masks").with_suffix("") for path in maps]
    pairs = [(picture, path) for picture, path in zip(pictures, maps, strict=True) if domain in picture.parts]
    out, overlays = tmp_path / "maps", tmp_path / "overlays"
    flags = (f"--workdir={workdir}", *(str(picture) for picture, _ in pairs), f"--out={out}", f"--overlays={overlays}")
    code, said, error = cli("ctd_jax.predict", *flags, f"--domain={domain}")
    assert code == 0, error
    assert f"{len(pairs)} pictures, a class map each (0 background, 1 " in said
    for picture, path in pairs:
        files = out / f"{picture.name}.png", path, overlays / f"{picture.name}.png"
        with contextlib.ExitStack() as opened:
            found, expected, drawn = (np.asarray(opened.enter_context(Image.open(file))) for file in files)
        assert np.mean(found != expected) < 2e-3  # batch norm is folded here: ties may fall otherwise
        assert drawn.shape == (*found.shape, 3)
    for more, words in (
        ([], f"several domains, each with classes of its own; give --domain={domain}|{other}"),
        (["--domain=knee"], "there is no 'knee'; give --domain="),
        (
            [f"--domain={domain}", "--boxes=b.csv"],
            "trained on whole pictures, not on what is in a box; leave out --boxes",
        ),
        ([f"--domain={domain}", "--format=coco"], "--format is for points, and "),
    ):
        code, _, error = cli("ctd_jax.predict", *flags, *more)
        assert code == 2 and words in error and error.count("error: ") == 1


def test_overlays_take_the_place_of_no_class_map(folder_run, cli, tmp_path):
    root, workdir, result = folder_run
    domain, out = next(iter(result["classes"])), tmp_path / "maps"
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for place in (".", "deep"):
        shutil.copy(root / domain / "0.png", tmp_path / "in" / place)
    (tmp_path / "link").symlink_to(out)
    flags = (f"--workdir={workdir}", tmp_path / "in", f"--out={out}", f"--domain={domain}")
    assert cli("ctd_jax.predict", *flags)[0] == 0
    before = {path: path.read_bytes() for path in out.rglob("*.png")}
    assert len(before) == 2
    for overlays in (out, tmp_path / "link", out / "deep"):
        code, said, error = cli("ctd_jax.predict", *flags, f"--overlays={overlays}")
        assert (code, said, error.count("error: ")) == (2, "", 1)
        assert "--out and --overlays would both write " in error and "give each a place of its own" in error
    assert {path: path.read_bytes() for path in out.rglob("*.png")} == before


def test_class_maps_of_shards_are_those_of_one_process(folder_run, cli, tmp_path):
    root, workdir, result = folder_run
    domain = next(iter(result["classes"]))
    pictures = sorted((root / domain).glob("?.png"))

    def call(name, *more):
        kinds = (f"--out={tmp_path / name / 'maps'}", f"--overlays={tmp_path / name / 'seen'}", f"--domain={domain}")
        code, said, error = cli("ctd_jax.predict", f"--workdir={workdir}", *pictures, *kinds, *more)
        assert code == 0, error
        return said

    whole = call("one").replace("one/maps", "shards/maps")
    assert call("shards", "--shard=2/2").startswith("shard 2-of-2 is done")
    assert call("shards", "--shard=1/2") == whole
    one, shards = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("one", "shards")
    )
    assert one == shards and len(one) == 2 * len(pictures)


def test_corrected_class_maps_are_kept(folder_run, cli, tmp_path):
    root, workdir, result = folder_run
    domain, out = next(iter(result["classes"])), tmp_path / "maps"
    pictures = sorted((root / domain).glob("?.png"))[:3]
    command = ("ctd_jax.predict", f"--workdir={workdir}", *pictures, f"--out={out}", f"--domain={domain}")
    assert cli(*command)[0] == 0
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert cli(*command)[0] == 0  # nobody has changed them
    assert before == {path: path.read_bytes() for path in out.iterdir()}
    path = out / f"{pictures[1].name}.png"
    with Image.open(path) as picture:
        classes, text = np.array(picture), PngInfo()
        for key, value in picture.info.items():  # some editors keep them
            text.add_text(key, value)
    classes[0, 0] ^= 1
    corrected = io.BytesIO()
    Image.fromarray(classes).save(corrected, "PNG", pnginfo=text)
    bare = io.BytesIO()
    Image.fromarray(classes).save(bare, "PNG")
    for content in (corrected.getvalue(), bare.getvalue(), b"mine", before[path][:-40]):
        path.write_bytes(content)
        code, said, error = cli(*command)
        assert (code, said) == (2, "") and error.count("error: ") == 1
        assert f"{path} is there already, and nothing in it says that it is as `predict` wrote it" in error
        assert {p: p.read_bytes() for p in out.iterdir()} == before | {path: content}


def test_predict_reads_with_the_grey_range_of_the_domain(folder_run, cli, tmp_path, monkeypatch):
    _, workdir, result = folder_run
    domain, best = next(iter(result["classes"])), checkpoint.best
    grey = np.asarray(Image.linear_gradient("L").resize((40, 32)))
    Image.fromarray(grey).save(tmp_path / "8.png")
    Image.fromarray(grey.astype(np.uint16) * 200).save(tmp_path / "16.png")  # by itself it would be of 0 to 65535
    kept = {"grey": {domain: {"integer": [0.0, 51000.0]}}}
    monkeypatch.setattr(checkpoint, "best", lambda run: (best(run)[0], best(run)[1] | kept))
    flags = (f"--workdir={workdir}", f"--out={tmp_path / 'maps'}", f"--domain={domain}")
    code, _, error = cli("ctd_jax.predict", *flags, tmp_path / "8.png", tmp_path / "16.png")
    assert code == 0 and "grey range" not in error, error
    with Image.open(tmp_path / "maps/8.png.png") as one, Image.open(tmp_path / "maps/16.png.png") as other:
        np.testing.assert_array_equal(one, other)


def test_pictures_unlike_those_of_the_domain_are_named(folder_run, cli, tmp_path):
    """The pictures of val, by the rule, and stripes that no scanner makes."""
    root, workdir, _ = folder_run
    predictor = Predictor(workdir, domain="heads")
    like = [root / "heads" / f"{i}.png" for i in (4, 5)]
    stripes = np.repeat(np.random.default_rng(0).integers(0, 2, (8, 1), np.uint8) * 255, 64, axis=1).repeat(8, axis=0)
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    result = predictor([*like, tmp_path / "stripes.png"])
    assert result.unlike[-1] > 1 >= result.unlike[:-1].max(initial=0) - 0.01
    flags = (f"--workdir={workdir}", f"--out={tmp_path / 'maps'}", "--domain=heads")
    code, _, error = cli("ctd_jax.predict", *flags, tmp_path / "stripes.png")
    assert code == 0 and "1 of 1 pictures are unlike those" in error and "stripes.png" in error
    folder = shutil.copytree(root, tmp_path / "anatomies")
    Image.fromarray(stripes).resize((40, 32)).save(folder / "heads" / "6.png")
    found = [one for one in inspection.inspect(folder, workdir).findings if one.title == contradicted.UNLIKE]
    names = [item.rows[0] for one in found for item in one.items]
    assert "heads/6.png" in [reading.read(folder).table.images[row] for row in names]
    with pytest.raises(UserError, match="--domain is for landmark folders"):
        inspection.inspect(folder, workdir, "heads")


@pytest.mark.parametrize("scheme", ["one network each", "joint", "heads", "norm"])
def test_one_domain_alone_says_what_it_says_among_the_others(scheme, teacher_file):
    task, rng = make_task(teacher_file, **SCHEMES[scheme]), np.random.default_rng(0)
    variables = jax.tree.map(lambda x: np.asarray(x + rng.uniform(0, 0.3, x.shape), np.float32), task.init(0))
    run = Run(pathlib.Path("run"), task.config, variables, task.meta)
    picture = rng.integers(0, 256, (2, task.size, task.size, 3), np.uint8)
    for d, (name, classes) in enumerate(task.classes.items()):
        batch = {"picture": picture, "domain": np.full(2, d)}
        want = jax.jit(forward(task.model, task.teacher.input, task.layout))(variables, batch)
        alone = TrainedClassMaps.read(run, name, task.config)
        (got,) = jax.jit(alone.forward)(alone.variables, {"picture": picture})
        assert alone.names == tuple(classes) and got.shape[-1] == len(classes)
        assert len({path for path in flatten_dict(alone.variables["params"]) if path[-2].startswith("final")}) == 2
        assert np.ptp(got) > 0.1
        np.testing.assert_allclose(got, want[..., : len(classes)], atol=1e-4)


@pytest.fixture(scope="module")
def of_heads(folder_run):
    """A picture, and the probabilities that the run has for it as one of the heads."""
    alone, S = tasks.trained(folder_run[1], "heads"), config_of_run(folder_run[1]).data.image_size
    picture = np.random.default_rng(0).integers(0, 256, (1, S, S, 3), np.uint8)
    return picture, np.asarray(jax.jit(alone.forward)(alone.variables, {"picture": picture})[0])


@pytest.mark.parametrize("to", formats.FORMATS)
def test_export(folder_run, of_heads, cli, to, tmp_path):
    for package in formats.FORMATS[to].packages:
        pytest.importorskip(package.replace("-", "_"))
    root, workdir, result = folder_run
    config, out = config_of_run(workdir), tmp_path / "file"
    flags = (f"--workdir={workdir}", f"--to={to}", f"--out={out}")
    code, said, error = cli("ctd_jax.export", *flags, "--domain=heads")
    assert code == 0, error
    about = json.loads((tmp_path / "file.json").read_text())
    S = config.data.image_size
    assert about["classes"] == list(CLASSES["heads"]) and about["output"]["probabilities"]["shape"][1:] == [S, S, 3]
    report = about["report"]
    assert report["validation_pictures"] == 2 and report["bytes"] == out.stat().st_size
    assert 0 <= report["largest_difference_probability"] < 1e-4 and "in a probability, allowed 0.001" in said
    picture, want = of_heads
    (found,) = formats.load(to).load(out.read_bytes(), ("probabilities",))(picture)
    np.testing.assert_allclose(found, want, atol=1e-4)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    code, _, error = cli("ctd_jax.export", *flags)
    assert code == 2 and "several domains, each with classes of its own; give --domain=heads|spines" in error


def test_several_networks_decide_by_their_mean_probability(folder_run, cli, tmp_path):
    """Pictures of the networks' size: no frame is between a probability and its pixel."""
    root, workdir, _ = folder_run
    runs = workdir, tiny.other_weights(workdir, tmp_path / "other", 1)
    S = config_of_run(workdir).data.image_size
    picture = np.random.default_rng(0).integers(0, 256, (3, S, S, 3), np.uint8)
    each = [tasks.trained(run, "heads") for run in runs]
    probabilities = jax.jit(each[0].forward)
    found = np.array([probabilities(one.variables, {"picture": picture})[0] for one in each])
    alone, mean = found.argmax(-1), found.mean(0).argmax(-1)
    assert all(np.mean(one != mean) > 0.02 for one in alone)
    result = Predictor(runs, domain="heads")(list(picture))
    assert np.mean(np.array(result.class_maps) != mean) < 2e-3  # batch norm is folded there: ties may fall otherwise

    out = tmp_path / "file"
    flags = (f"--workdir={runs[0]},{runs[1]}", "--to=stablehlo", f"--out={out}", "--domain=heads")
    code, _, error = cli("ctd_jax.export", *flags)
    assert code == 0, error
    (exported,) = formats.load("stablehlo").load(out.read_bytes(), ("probabilities",))(picture)
    np.testing.assert_allclose(exported, found.mean(0), atol=1e-4)


def test_a_class_map_is_seen_from_both_sides_where_it_is_asked_for(folder_run, tmp_path):
    workdir = shutil.copytree(folder_run[1], tmp_path / "run")
    content = json.loads((workdir / "config.json").read_text())
    content["augment"]["flip"] = 0.5
    (workdir / "config.json").write_text(json.dumps(content))
    pictures = list(np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8))
    for mirror in (True, None):
        predictor = Predictor(workdir, domain="heads", mirror=mirror)
        found, turned = (
            np.array(predictor(each).class_maps) for each in (pictures, [np.flip(one, 1) for one in pictures])
        )
        assert (np.mean(np.flip(found, 2) != turned) < 2e-3) == bool(mirror)  # ties may fall otherwise


def test_networks_of_two_sizes_decide_together():
    """A picture of 4 x 4 pixels; to a network of 4 it is 0.4 red, to one of 8 pixels 0.9 on the left and 0.1 else."""
    small = np.full((4, 4, 2), (0.6, 0.4))
    large = np.where(np.arange(8)[:, None] < 4, (0.1, 0.9), (0.9, 0.1)) * np.ones((8, 1, 1))
    frames = data.Frame(1.0, (0.0, 0.0), 4), data.Frame(2.0, (0.5, 0.5), 8)
    found = mean_class_map([(small, frames[0]), (large, frames[1])], 4, 4)
    np.testing.assert_array_equal(found, [[1, 1, 0, 0]] * 4)
    assert found.dtype == np.uint8


def test_an_export_that_differs_is_refused(folder_run, cli, tmp_path, monkeypatch):
    form = formats.load("stablehlo")
    right = form.write
    monkeypatch.setattr(form, "write", lambda body, v, *rest: right(body, jax.tree.map(lambda x: 1.2 * x, v), *rest))
    flags = (f"--workdir={folder_run[1]}", "--to=stablehlo", f"--out={tmp_path / 'file'}", "--domain=heads")
    code, _, error = cli("ctd_jax.export", *flags)
    assert code == 2 and "in a probability (5.png)" in error and "more than 0.001; nothing was written" in error
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_was_stopped_ends_as_one_that_was_not(folder_run, tmp_path, teacher_file, monkeypatch):
    root, workdir, result = folder_run
    save = checkpoint.save

    def stop(checkpoints, step, *args):
        save(checkpoints, step, *args)
        checkpoints.wait_until_finished()
        if step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", teacher_file, data__root=str(root))
    monkeypatch.setattr(checkpoint, "save", save)
    again = run(tmp_path / "run", teacher_file, data__root=str(root))
    assert again | {"seconds": 0} == result | {"seconds": 0}
    for name in ("segmentation_metrics.csv", "masks/heads/6.png.png"):
        assert (tmp_path / "run" / name).read_bytes() == (workdir / name).read_bytes()


def test_a_class_map_that_changed_is_another_run(tmp_path, teacher_file):
    root = segmentation_folder.write(tmp_path / "anatomies")
    config = tiny.config(teacher_file, mtmd, data__root=str(root))
    pictures = data.load(config.data, tmp_path, targets=data.CLASS_MAPS)
    run_folder.claim_split(tmp_path / "run", pictures.rows())
    (tmp_path / "run/config.json").write_text("{}")  # the run has begun
    segmentation_folder.change(root / "heads/0_mask.png", lambda classes: classes[::-1])
    changed = data.load(config.data, tmp_path, targets=data.CLASS_MAPS)
    with pytest.raises(UserError, match="not those that this run began with .*heads/0.png"):
        run_folder.claim_split(tmp_path / "run", changed.rows())


def test_a_domain_is_added_to_a_trained_network(tmp_path, teacher_file, folder_run, caplog):
    """All that the first network knows stays; only norms and head of the new domain learn."""
    root, workdir, _ = folder_run
    other = segmentation_folder.write(tmp_path / "other")
    text = (other / "segmentation.csv").read_text().replace(",heads,", ",skulls,").replace(",spines,", ",backs,")
    (other / "segmentation.csv").write_text(text)
    (other / "classes.json").write_text('{"skulls": ["none", "rim", "inside"], "backs": ["none", "block", "disc"]}')
    keys = {"data__domains": ("skulls",), "constraints__contrastive__weight": 0.0, "train__steps": 2}
    result = run(tmp_path / "run", teacher_file, data__root=str(other), domains__start=str(workdir), **keys)
    assert 0 <= result["dice_skulls"] <= 1
    assert f"domains.start is {workdir}: this run will not know heads, spines, of which there are no" in caplog.text
    old, new = (flatten_dict(checkpoint.best(path)[0]) for path in (workdir, tmp_path / "run"))
    shared = {path for path in new if path in old}
    assert shared == {path for path in new if path[-1] == "kernel" and path[-2] != "final_skulls"} and len(shared) == 5
    assert all((np.asarray(old[path]) == new[path]).all() for path in shared)
    assert all(any("skulls" in part for part in path) for path in new if path not in old)


def test_the_command_prints_a_table(cli, monkeypatch, tmp_path, teacher_file):
    monkeypatch.chdir(tmp_path)
    arguments = tiny.arguments(teacher_file, train__steps=2, data__synthetic__shots=(1, 1, 1))
    code, out, error = cli("ctd_jax.main", f"--config={REPO / 'configs' / 'mtmd.py'}", "--workdir=run", *arguments)
    assert code == 0, error
    for word in ("mean of the domains", "Dice", "95 % interval", "vertebra", "average distance", "report.html"):
        assert word in out


def test_an_empty_class_map_stops_the_command(cli, monkeypatch, tmp_path, teacher_file):
    root = segmentation_folder.write(tmp_path / "anatomies")
    segmentation_folder.change(root / "heads/2_mask.png", lambda classes: 0 * classes)
    monkeypatch.chdir(tmp_path)
    arguments = tiny.arguments(teacher_file, data__root=root)
    code, _, error = cli("ctd_jax.main", f"--config={REPO / 'configs' / 'mtmd.py'}", "--workdir=run", *arguments)
    assert code == 2 and error.count("error: ") == 1 and "is empty" in error and "Traceback" not in error


def test_the_papers_size():
    config = mtmd.get_config("paper")
    assert (config.variant, config.data.image_size) == ("paper", 256)
    model = models.build_segmentation(config.model, encoder={"name": "resnet50"}, num_classes=3)
    assert model.stride == 2
