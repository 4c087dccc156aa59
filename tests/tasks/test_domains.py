"""Several domains in one network: what they share, what is each one's own, and what a run of them leaves behind."""

import csv
import dataclasses
import functools
import itertools
import json
import pathlib
import shutil

import jax
import numpy as np
import older
import pytest
import tiny
from flax.traverse_util import flatten_dict, unflatten_dict

from configs import domains as domains_config
from configs import helping, hg
from ctd_jax import data, metrics, report, run_folder, training_run
from ctd_jax.data import splits, synthetic
from ctd_jax.errors import UserError
from ctd_jax.models import domain_norm
from ctd_jax.tasks import landmarks, start_run
from ctd_jax.tasks.landmarks import LandmarkTask, domains, evaluate, heatmaps
from ctd_jax.tasks.landmarks.teacher_run import load_teacher_run
from ctd_jax.tasks.landmarks.trained import TrainedLandmarks
from ctd_jax.tasks.trained import Run
from ctd_jax.training import checkpoint, step
from ctd_jax.training.parallel import Parallel

pytestmark = pytest.mark.slow

BOTH = ("synthetic", "synthetic_film")
PLAIN = {"constraints__contrastive__weight": 0.0}


def load(**changes):
    return data.load(tiny.config("none", domains_config, **changes).data, None)


# ---------------------------------------------------------------- the network


def owners(tree, names=BOTH):
    """Path -> the domain whose it is, or None, and the array."""
    return {path: (domain_norm.owner(path, names), leaf) for path, leaf in flatten_dict(tree).items()}


@pytest.fixture(scope="module")
def peer(teacher_file):
    """Function of domains.norm and domains.heads: the task."""

    def made(norm, heads):
        return tiny.task(teacher_file, domains_config, **PLAIN, domains__norm=norm, domains__heads=heads)

    return functools.cache(made)


@pytest.fixture(scope="module")
def task(peer):
    return peer(True, True)


class Steps:
    """A step of a task, on one device; `traced` has an entry for each time that its loss was traced."""

    def __init__(self, task):
        self.task, self.start, self.traced = task, jax.device_get(task.init(0)), []
        self.parallel = Parallel("shard_map", jax.devices()[:1])
        labels = task.param_labels(self.start["params"])
        self.tx = step.optimizer(labels)
        self.compiled = self.parallel.compile(step.make(self._loss, self.tx, labels), sharded=False)

    def _loss(self, *arguments):
        self.traced.append(1)
        return self.task.loss(*arguments)

    def train(self, batches):
        """From the start, the state after batches of these pictures."""
        config, start = self.task.config, self.start
        state = step.TrainState(
            np.int32(0), start["params"], start["batch_stats"], jax.jit(self.tx.init)(start["params"])
        )
        constants = step.constants(config.seed, config.train, self.task.constants)
        state, constants = self.parallel.replicate((state, constants))
        for rows in batches:
            state, _ = self.compiled(state, constants, self.parallel.shard(self.task.train.batch(np.array(rows))))
        return self.parallel.first(state)


@pytest.fixture(scope="module")
def steps(task):
    return Steps(task)


@pytest.fixture(scope="module")
def after_films(task, steps):
    """Variables at the start, and after three batches of films only."""
    films = np.flatnonzero(task.train.domain == 1)
    return steps.start, steps.train([films[:4]] * 3)


def test_every_domain_starts_as_the_teacher(task):
    start = task.init(0)
    teacher = domain_norm.spread(task.teacher.variables, BOTH)
    for kind in ("params", "batch_stats"):
        jax.tree.map(np.testing.assert_array_equal, start[kind]["encoder"], teacher[kind])
    assert {leaf.shape[-1] for path, leaf in flatten_dict(start["params"]).items() if path[-2].startswith("final")} == {
        30, 10,
    }  # fmt: skip


def test_filters_are_shared_statistics_and_heads_are_not(after_films):
    """Batches of one domain change all filters, and of batch norm and heads only its own, to the bit."""
    start, state = after_films
    seen = set()
    for kind in ("params", "batch_stats"):
        before, after = owners(start[kind]), flatten_dict(getattr(state, kind))
        for path, (owner, leaf) in before.items():
            assert (leaf != after[path]).any() == (owner != "synthetic"), path
            seen.add((kind, owner))
    assert seen == {("params", None), *itertools.product(("params", "batch_stats"), BOTH)}


def test_evaluating_a_domain_needs_nothing_of_another(task, after_films):
    """The faces' predictions are the same with the films' batch norm and head of another training, to the bit: what
    changes them is the shared filters only."""
    start, state = after_films
    body = Parallel("shard_map", jax.devices()[:1]).compile(
        landmarks.forward(task.model, task.teacher.input), sharded=True
    )
    faces = task.train.batch(np.flatnonzero(task.train.domain == 0)[:4])
    films = task.train.batch(np.flatnonzero(task.train.domain == 1)[:4])

    def predicted(variables, batch):
        return np.asarray(body(variables, {key: batch[key] for key in ("picture", "domain")})[0])

    mixed = {}
    for kind in ("params", "batch_stats"):
        after, owned = flatten_dict(getattr(state, kind)), owners(start[kind])
        mixed[kind] = {path: after[path] if owner else leaf for path, (owner, leaf) in owned.items()}
    mixed = {kind: unflatten_dict(tree) for kind, tree in mixed.items()}
    np.testing.assert_array_equal(predicted(mixed, faces)[:, :30], predicted(start, faces)[:, :30])
    assert (predicted(mixed, films)[:, 30:] != predicted(start, films)[:, 30:]).any()
    trained = {"params": state.params, "batch_stats": state.batch_stats}
    assert (predicted(trained, faces)[:, :30] != predicted(start, faces)[:, :30]).any()
    both = {key: np.concatenate([faces[key][:2], films[key][:2]]) for key in faces}
    np.testing.assert_allclose(predicted(trained, both)[:2], predicted(trained, faces)[:2], atol=1e-4)


def test_one_compilation_serves_batches_of_any_domain(steps):
    steps.train([[0, 1, 2, 3], [8, 9, 10, 11], [0, 8, 1, 9]])
    assert len(steps.traced) == 1 and steps.compiled._cache_size() == 1


def test_mirror_images_are_only_where_a_domain_has_pairs(teacher_file):
    """Films are never mirrored: what the network sees of a batch of them is the same at flip 0 and 1; faces are."""
    task = tiny.task(teacher_file, domains_config, **PLAIN, **tiny.STILL | {"augment__flip": 1.0})
    rows = np.concatenate([np.flatnonzero(task.train.domain == d)[:2] for d in range(2)])
    batch = task.train.batch(rows)
    picture, _ = jax.jit(task.augmented)(batch, jax.random.split(jax.random.key(0), 4))
    assert batch["domain"].tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(picture[:2], batch["picture"][:2, :, ::-1])
    np.testing.assert_array_equal(picture[2:], batch["picture"][2:])


@pytest.mark.parametrize(
    ("norm", "heads", "wanted"),
    [
        (False, False, "final norm1/scale"),
        (False, True, "final_synthetic norm1/scale"),
        (True, False, "final norm1/BOTH"),
    ],
)
def test_the_peers(peer, norm, heads, wanted):
    task = peer(norm, heads)
    paths = {"/".join(path) for path in flatten_dict(jax.eval_shape(lambda: task.init(0))["params"]["decoder"])}
    for start in wanted.replace("BOTH", "synthetic/scale").split():
        assert any(path.startswith((f"{start}/", start)) for path in paths)
    shared = not norm and not heads
    assert all((domain_norm.owner(["decoder", *path.split("/")], BOTH) is None) or not shared for path in paths)
    assert ("final/kernel" in paths) != heads and ("norm1/scale" in paths) != norm
    (means,) = tiny.trainer(task)([task.train.batch(np.array([0, 8, 1, 9]))])[1]
    assert np.isfinite(means["loss"])


@pytest.mark.parametrize(("norm", "heads"), [(True, True), (True, False), (False, False)])
def test_the_network_of_one_domain_says_what_the_common_one_does(peer, norm, heads):
    task = peer(norm, heads)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: x + rng.uniform(0.1, 0.2, x.shape).astype("f"), jax.device_get(task.init(0)))
    picture = rng.normal(size=(1, 32, 32, 3)).astype("f")
    common = jax.jit(functools.partial(task.model.apply, train=False))(variables, picture, np.ones(1, np.int32))
    run = Run(pathlib.Path("run"), task.config, variables, task.meta)
    alone = TrainedLandmarks.read(run, "synthetic_film", task.config)
    assert alone.names == task.pictures.parts["synthetic_film"].targets.landmarks.names
    found = jax.jit(functools.partial(alone.model.apply, train=False))(alone.variables, picture)["heatmaps"]
    np.testing.assert_allclose(found, common["heatmaps"][..., -len(alone.names) :], rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- what is measured


def table_of(xy, true_xy, images, names, spacing):
    return metrics.Predictions.from_points(images, images, names, xy, true_xy=true_xy, spacing=spacing)


def test_the_error_of_several_domains_is_the_geometric_mean_of_theirs():
    """In pixels 3, in mm 0.5: their geometric mean, whatever the units; a helper does not count."""
    true = np.full((3, 3, 2), np.nan)
    true[0, 0], true[1, 1], true[2, 2] = 0, 0, 0
    xy = np.zeros((3, 3, 2))
    xy[0, 0], xy[1, 1], xy[2, 2] = (0, 3), (0, 5), (0, 99)
    spacing = np.array([[np.nan] * 2, [0.1] * 2, [np.nan] * 2])
    table = table_of(xy, true, ["a/1", "b/1", "c/1"], ["a/tip", "b/tip", "c/tip"], spacing)
    nothing = data.Dataset.unlabelled([], None, boxes=np.zeros((0, 4)), size=8, margin=0.0)
    nothing = dataclasses.replace(nothing, targets=data.Points(data.Landmarks(("tip",)), np.zeros((0, 1, 2))))
    part = data.SplitPictures(nothing, [], ())
    pictures = data.SplitPictures(None, [], (), {"a": part, "b": part, "c": part}, ("c",))
    error, text = domains.validation_error(table, pictures)
    assert error == pytest.approx(np.sqrt(3 * 0.5)) and text == "a 3.00 px, b 0.50 mm"
    part_b = domains.table_of(table, "b")
    assert (part_b.images.tolist(), part_b.subjects.tolist(), part_b.landmarks.tolist()) == (["1"], ["1"], ["tip"])
    assert part_b.error_mm.tolist() == [[0.5]] and part_b.error_px.tolist() == [[5.0]]


@pytest.fixture(scope="module")
def finished(landmark_folder, teacher_file, tmp_path_factory):
    """A run over a folder with spacing and one without, and its configuration."""
    roots = [landmark_folder(people=8, shots=1, size=32, name=name) for name in ("mm", "px")]
    path = roots[0] / "landmarks.csv"
    header, *rows = path.read_text().splitlines()
    lines = [f"{header},spacing_x_mm,spacing_y_mm", *(f"{row},0.5,0.5" for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    config = tiny.config(teacher_file, domains_config, data__root=",".join(map(str, roots)))
    run = tmp_path_factory.mktemp("run") / "run"
    return run, config, training_run.train_and_evaluate(config, run)


def test_each_domain_has_the_files_and_names_of_a_run_of_its_own(finished):
    run, config, result = finished
    assert result == json.loads((run / "metrics.json").read_text())
    assert list(result["domains"]) == ["mm", "px"] and result["n_images"] == 4
    assert {"split", "n_params", "config_hash", "seconds"} <= result.keys()
    for name, numbers in result["domains"].items():
        table = metrics.read_predictions(run / name / "predictions.csv")
        assert numbers["me_px"] == pytest.approx(table.error_px.mean(), rel=1e-6)
        assert list(table.landmarks) == list(synthetic.LANDMARKS) and table.images[0].startswith("images/")
        assert ("me_mm" in numbers) == (name == "mm")
        assert "report.html" in {p.name for p in (run / name).iterdir()}
        assert numbers["measurements"]["mouth_width"]["unit"] == name
        assert numbers["cautions"][0].startswith("This network is no better than the mean shape")  # after four steps
        blind = metrics.read_predictions(run / name / "mean_shape.csv")
        assert numbers["mean_shape"]["me_px"] == pytest.approx(blind.error_px.mean(), rel=1e-6)
        assert numbers["cautions"][0] in (run / name / "report.html").read_text()
    first = f"mm: {result['domains']['mm']['cautions'][0]}"
    assert report.console(result).splitlines()[0] == first
    page = (run / "report.html").read_text()
    assert "px/report.html" in page and page.index(first) < page.index("<table>") and "Made with ctd_jax" in page
    rows = (run / "split.csv").read_text().splitlines()
    assert len(rows) == 17 and rows[1].startswith("mm/images/")


def test_the_pictures_of_a_domain_are_predicted_alike_alone_and_with_others(finished):
    """The table of `finish` is what the network says of one picture with its domain named."""
    run, config, _ = finished
    variables, meta = checkpoint.best(run)
    counts = {one["name"]: len(one["landmarks"]) for one in meta["domains"]}
    model = landmarks.build(config, meta["encoder"], 60, of_domain=counts)
    pictures = data.load(config.data, run / "tfds")
    part = pictures.split("test")
    batch = part.batch(np.array([3]))
    forward = jax.jit(landmarks.forward(model, meta["input"]))
    xy, _ = forward(variables, {k: batch[k] for k in ("picture", "domain")})
    table = metrics.read_predictions(run / "px" / "predictions.csv")
    want = (np.asarray(xy)[0, 30:] - batch["offset"]) / batch["scale"]
    np.testing.assert_allclose(table.xy[1], want, atol=2e-3)


def test_a_finished_run_is_found_so(finished, caplog):
    run, config, result = finished
    assert training_run.train_and_evaluate(config, run) == result
    assert "is finished" in caplog.text


def test_a_domain_of_a_run_is_predicted_by_name(finished, cli, tmp_path):
    run, config, _ = finished
    pictures = f"{config.data.root.split(',')[1]}/images"
    out = tmp_path / "out.csv"
    code, said, error = cli("ctd_jax.predict", f"--workdir={run}", pictures, f"--out={out}", "--domain=px")
    assert code == 0, error
    table = metrics.read_predictions(out)
    of_run = metrics.read_predictions(run / "px" / "predictions.csv")
    assert list(table.landmarks) == list(synthetic.LANDMARKS)
    where = [i for i, image in enumerate(table.images) if image.endswith(of_run.images[0].split("/")[-1])]
    np.testing.assert_allclose(table.xy[where[0]], of_run.xy[0], atol=0.01)
    for flag, words in (("", "several domains, each with"), ("--domain=cm", "there is no 'cm'")):
        code, _, error = cli("ctd_jax.predict", f"--workdir={run}", pictures, f"--out={out}", *filter(None, [flag]))
        assert code == 2 and words in error and "give --domain=mm|px" in error


def test_a_domain_of_a_run_is_asked_about_a_folder(finished, cli, tmp_path):
    run, config, _ = finished
    arguments = (config.data.root.split(",")[1], f"--workdir={run}", f"--report={tmp_path / 'check.html'}")
    code, out, error = cli("ctd_jax.check", *arguments, "--domain=px")
    assert code in (0, 1) and error == "" and "8 pictures" in out
    for more in ([], ["--domain=cm"]):
        code, _, error = cli("ctd_jax.check", *arguments, *more)
        assert code == 2 and "give --domain=mm|px" in error


@pytest.mark.parametrize(
    ("root", "changes"),
    [("{px}", {}), (".", {}), ("{px},{mm}", {"domains": ("px",)}), ("{px},{mm}", {"helping": ("mm",)})],
)
def test_a_run_of_several_domains_teaches_each(finished, monkeypatch, root, changes):
    run, config, _ = finished
    config = config.copy_and_resolve_references()
    mm, px = config.data.root.split(",")
    monkeypatch.chdir(px)
    config.teacher.run, config.data.root = str(run), root.format(mm=mm, px=px)
    config.data.update(changes)
    pictures = data.load(config.data, run / "tfds")
    teacher = load_teacher_run(config, pictures)
    batch = pictures.split("test").batch(np.array([1]))
    points = jax.jit(lambda *x: heatmaps.decode(teacher.features(*x)["heatmaps"], stride=2)[0])
    xy = points(teacher.variables, batch["picture"])
    table = metrics.read_predictions(run / "px" / "predictions.csv")
    np.testing.assert_allclose(table.xy[1], (np.asarray(xy)[0] - batch["offset"]) / batch["scale"], atol=2e-3)


def test_a_run_of_several_domains_is_gone_on_from_with_all_of_them(finished):
    run, config, _ = finished
    config = config.copy_and_resolve_references()
    config.model.start = str(run)
    made = LandmarkTask(config, data.load(config.data, run / "tfds"))
    start, known = flatten_dict(made.init(1)), flatten_dict(checkpoint.best(run)[0])
    assert start.keys() == known.keys() and all(np.array_equal(start[path], known[path]) for path in known)
    for key, value, message in (
        ("data.root", config.data.root.split(",")[1], "whose domains are mm, px, and here they are none"),
        ("data.domains", ("px", "mm"), "whose domains are mm, px, and here they are px, mm; .*same order"),
        ("domains.heads", False, "where domains.heads is True, and here it is False"),
    ):
        changed = config.copy_and_resolve_references()
        changed.update_from_flattened_dict({key: value})
        with pytest.raises(UserError, match=message):
            LandmarkTask(changed, data.load(changed.data, run / "tfds"))


def test_predict_refuses_a_domain_where_there_is_none(finished_run, cli, tmp_path):
    code, _, error = cli(
        "ctd_jax.predict", f"--workdir={finished_run[0]}", ".", f"--out={tmp_path / 'x.csv'}", "--domain=mm"
    )
    assert code == 2 and "leave out --domain" in error


@pytest.mark.parametrize("temperature", [1e-3, 0.5, 5.0])
def test_any_temperature_above_0_is_taken(temperature, teacher_file):
    config = tiny.config(teacher_file, domains_config, domains__temperature=temperature)
    training_run.prepare(config, None)


def test_a_helper_whose_landmarks_are_of_another_size_is_warned_of(landmark_folder, tmp_path, caplog):
    """By hand: points 24 pixels apart in pictures of 48, and 12."""
    for name, far in (("few", 24), ("near", 23), ("small", 12)):
        root = tmp_path / name
        shutil.copytree(landmark_folder(size=48), root)
        with (root / "landmarks.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        points = sorted({key[:-2] for key in rows[0] if key.endswith("_x")})
        for row in rows:
            for i, point in enumerate(points):
                row |= {f"{point}_x": 10 + (far if i else 0), f"{point}_y": 20 + (far // 2 if i else 0)}
        with (root / "landmarks.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    for helper, words in (("near", ""), ("small", "small: its landmarks span 25 % of a picture, those of few 50 %")):
        config = tiny.config(
            "none", helping, data__root=f"{tmp_path / 'few'},{tmp_path / helper}", data__helping=(helper,)
        )
        pictures = data.load(config.data, tmp_path / "tfds")
        caplog.clear()
        domains.warn_of_sizes(pictures)
        assert [words in record.message for record in caplog.records] == [True] * bool(words)


# ---------------------------------------------------------------- a domain added later


@pytest.fixture(scope="module")
def added(finished, landmark_folder, teacher_file, tmp_path_factory):
    """The task of a run that adds a third folder, and its state after two steps."""
    run, config, _ = finished
    root = landmark_folder(people=8, shots=1, size=32, name="new")
    keys = {"data__root": f"{config.data.root},{root}", "domains__start": str(run)}
    config = tiny.config(teacher_file, domains_config, **keys, **PLAIN)
    task = landmarks.LandmarkTask(config, data.load(config.data, tmp_path_factory.mktemp("cache")))
    batches = list(itertools.islice(task.train.training_batches(batch_size=4, seed=0, start=0), 2))
    return task, tiny.trainer(task)(batches)[0]


def test_only_what_is_new_learns(finished, added):
    known, _ = checkpoint.best(finished[0])
    task, state = added
    assert set(task.train.domain) == {2}
    learned = set()
    for kind in ("params", "batch_stats"):
        old, new = flatten_dict(known[kind]), owners(getattr(state, kind), ("mm", "px", "new"))
        for path, (owner, leaf) in new.items():
            if owner == "new":
                learned.add((kind, path[0], path[-1]))
            else:
                np.testing.assert_array_equal(leaf, old[path], err_msg="/".join(path))
    parts = ("encoder", "decoder")
    assert learned == {("params", "decoder", "kernel"), *itertools.product(["params"], parts, ("scale", "bias"))} | set(
        itertools.product(["batch_stats"], parts, ("mean", "var"))
    )
    start, moved = task.init(0), owners(state.params, ("new",))
    before = flatten_dict(start["params"])
    assert all((before[path] != leaf).any() for path, (owner, leaf) in moved.items() if owner == "new")
    norm = start["batch_stats"]["decoder"]["norm1"]
    np.testing.assert_allclose(norm["new"]["mean"], (norm["mm"]["mean"] + norm["px"]["mean"]) / 2, rtol=1e-6)


def test_pictures_without_labels_that_are_all_of_old_domains_are_left_out(added, caplog):
    start, train = added[0]._added_domains, added[0].pictures.split("train")
    assert start.only_new(dataclasses.replace(train, labelled=train.domain == 0)).has_unlabelled
    assert not caplog.records
    kept = start.only_new(dataclasses.replace(train, labelled=train.domain > 0))
    assert not kept.has_unlabelled and len(kept) == 4 and "labelled" not in kept.batch(np.arange(4))
    assert "knows the domains of all pictures of data.unlabelled: none of them is trained on" in caplog.text


def test_the_old_domains_are_predicted_as_before(finished, added):
    run, config, _ = finished
    task, state = added
    parallel = Parallel("shard_map")
    body = parallel.compile(landmarks.forward(task.model, task.teacher.input), sharded=True)
    variables = parallel.replicate({"params": state.params, "batch_stats": state.batch_stats})
    table = evaluate.predict(body, variables, task.pictures.split("test"), parallel, 4)
    for name in ("mm", "px"):
        want = metrics.read_predictions(run / name / "predictions.csv").xy
        np.testing.assert_allclose(domains.table_of(table, name).xy, want, atol=2e-3)


def test_whom_the_network_knows_is_noted_and_not_judged(finished, added, tmp_path):
    task, (run, *_) = added[0], finished
    trained = [list(row) for row in splits.read(run / "split.csv") if row[2] == "train"]
    assert len(trained) == 8 and task.start["trained_on"] == trained
    assert task.start["run"] == str(run) and task.meta["start"] is None, "older runs can be continued"
    table = zip(task.pictures.everything.subjects, task.pictures.split_of, strict=True)
    moved = ["test" if subject == "mm/person_00000" else split for subject, split in table]
    with pytest.raises(UserError, match="domains.start is .*, which was trained on 1 of .*: mm/person_00000"):
        LandmarkTask(task.config, dataclasses.replace(task.pictures, split_of=moved))
    run_folder.begin(tmp_path / "run", task.config, task.pictures.rows())
    (tmp_path / "run" / start_run.FILE).write_text(json.dumps(task.start | {"trained_on": [*trained, list("abcd")]}))
    assert len(start_run.trained_on(tmp_path / "run")) == 12 + 1
    (tmp_path / "run" / start_run.FILE).unlink()
    only_new = [row for row in splits.read(tmp_path / "run" / "split.csv") if row[0].startswith("new/")]
    (tmp_path / "run" / "split.csv").write_text(splits.text(only_new))
    assert len(start_run.trained_on(tmp_path / "run")) == 12, "an older version wrote no start.json"


@pytest.mark.parametrize("version", ["today", "domains"])
def test_a_folder_alone_can_be_added(finished, landmark_folder, teacher_file, tmp_path, version):
    run = finished[0] if version == "today" else older.copy(finished[0], tmp_path / "old", version)
    root = landmark_folder(people=8, shots=1, size=32, name="new")
    config = tiny.config(teacher_file, domains_config, data__root=str(root), domains__start=str(run), **PLAIN)
    task = landmarks.LandmarkTask(config, data.load(config.data, tmp_path))
    start = task.init(0)
    labels = flatten_dict(task.param_labels(start["params"]), sep="/")
    assert {path.split("/")[-2] for path, label in labels.items() if label == "frozen"} & {"stem_conv", "deconv1"}
    assert all((label == "frozen") != ("norm" in path or "final" in path) for path, label in labels.items())
    known, _ = checkpoint.best(finished[0])
    np.testing.assert_array_equal(
        start["params"]["encoder"]["stem_conv"]["kernel"], known["params"]["encoder"]["stem_conv"]["kernel"]
    )


# ---------------------------------------------------------------- mistakes


def config_error(teacher_file, tmp_path, **changes):
    config = tiny.config(teacher_file, domains_config, **changes)
    with pytest.raises(UserError) as error:
        training_run.train_and_evaluate(config, tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").glob("*")} <= {"tfds"}
    return str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"domains__schedule": "balancd"}, "domains.schedule is 'balancd'; expected proportional, balanced or tem"),
        ({"domains__temperature": 0.0}, "domains.temperature is 0.0; expected more than 0"),
        ({"data__domains": ("synthetic", "hips")}, "data.domains names 'hips'; the domains of data.root are synthetic"),
        ({"data__helping": ("hips",)}, "data.helping names 'hips'; the domains of data.root are synthetic"),
        ({"data__helping": BOTH}, "data.helping names all the domains that are used"),
        ({"data__root": "synthetic,synthetic"}, "data.root names two domains synthetic: synthetic and synthetic"),
        ({"train__remat": True}, "train.remat computes blocks again without knowing whose domain a picture is of"),
        ({"train__accumulate_steps": 2, "train__batch_size": 16}, "constraints.contrastive.weight is not 0, and that"),
        ({"data__domains": ("synthetic",)}, "constraints.contrastive.weight is not 0, but there is one domain"),
        ({"constraints__delta__weight": 0.1}, "constraints.delta.weight is not 0, but there are several domains"),
        ({"constraints__contrastive__temperature": 0.0}, "constraints.contrastive.temperature is 0.0; expected more"),
        ({"constraints__contrastive__layers": ("deconv9",)}, "layers names 'deconv9'; the student's features are"),
        ({"data__budget": 1}, "domain synthetic has 1 training picture of 16, as data.budget is 1; a domain needs 2"),
        ({"data__budget": 99}, "domain synthetic: data.budget asks for 99 training pictures, but there are 8"),
        ({"model__network": "hourglass"} | PLAIN, "an hourglass is the same for all domains"),
        ({"domains__start": "nowhere"}, "nowhere/config.json: no such file"),
        ({"task": "recognition"} | PLAIN, "data.root has 2 domains, but recognition learns from one"),
    ],
)  # fmt: skip
def test_mistakes(teacher_file, tmp_path, changes, message):
    assert message in config_error(teacher_file, tmp_path, **changes)


def test_two_folders_of_one_name(landmark_folder, teacher_file, tmp_path):
    roots = [landmark_folder(people=4, shots=1, size=32, name="faces") for _ in range(2)]
    message = config_error(teacher_file, tmp_path, data__root=f"{roots[0]},{roots[1]}")
    assert f"data.root names two domains faces: {roots[0]} and {roots[1]}" in message and "rename one" in message


def test_a_domain_of_one_picture(landmark_folder, teacher_file, tmp_path):
    root = landmark_folder(people=1, shots=1, size=32, split=False, name="lonely")
    message = config_error(teacher_file, tmp_path, data__root=f"synthetic,{root}")
    assert "domain lonely has 1 training picture of 1; a domain needs 2 or more" in message
    assert "--config.data.domains=('synthetic',)" in message


def test_a_domain_without_validation_pictures(landmark_folder, teacher_file, tmp_path):
    root = landmark_folder(people=8, shots=1, size=32, name="half")
    text = (root / "landmarks.csv").read_text()
    (root / "landmarks.csv").write_text(text.replace(",val,", ",test,").replace(",test,", ",unused,"))
    message = config_error(teacher_file, tmp_path, data__root=f"synthetic,{root}")
    assert message.startswith("domain half: eval.split is test, but the splits are train, val")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "which knows mm, px already; add a folder to data.root"),
        ({"model__decoder_channels": (16,)}, "whose network is another: "),
        ({"domains__heads": False}, "set domains.norm and .heads to True"),
        ({"data__margin": 0.5}, "where data.margin is 0.25, and here it is 0.5: the domains that it knows"),
        ({"teacher__weights": "none", "model__encoder": "resnet8"}, "whose encoder is"),
    ],
)
def test_a_start_that_does_not_fit(finished, landmark_folder, teacher_file, tmp_path, changes, message):
    run, config, _ = finished
    roots = config.data.root + (f",{landmark_folder(people=8, shots=1, size=32, name='new')}" if changes else "")
    found = config_error(teacher_file, tmp_path, data__root=roots, domains__start=str(run), **PLAIN | changes)
    assert f"domains.start is {run}" in found and message in found


def test_a_run_of_one_domain_has_no_norms_that_another_could_be_added_to(
    finished, landmark_folder, teacher_file, tmp_path, monkeypatch
):
    """As segmentation of one domain, whose configuration has domains.norm."""
    run, config, _ = finished
    best = checkpoint.best
    monkeypatch.setattr(
        checkpoint, "best", lambda run: (best(run)[0], best(run)[1] | {"domains": best(run)[1]["domains"][:1]})
    )
    roots = f"{config.data.root},{landmark_folder(people=8, shots=1, size=32, name='new')}"
    found = config_error(teacher_file, tmp_path, data__root=roots, domains__start=str(run), **PLAIN)
    assert "which has no batch norm and head for each domain; expected a run of several domains" in found


@pytest.mark.parametrize(
    ("of_run", "absent", "weight", "message"),
    [
        ({}, ["chin"], 0.03, "which has not learned whether px/chin may be absent"),
        ({"absent": ["px/chin"]}, ["chin"], 0.03, "which has not learned whether px/chin may be absent"),  # it was 0
        ({"absent": ["px/chin"]}, ["chin"], 0.0, ""),
        ({"never_annotated": ["px/chin"]}, [], 0.03, "where no training picture had px/chin"),
        ({"never_annotated": ["new/chin"]}, [], 0.03, ""),
    ],
)
def test_what_an_old_domain_has_not_learned_it_does_not_claim(
    finished, landmark_folder, teacher_file, tmp_path, monkeypatch, of_run, absent, weight, message
):
    run, config, _ = finished
    mm, px = config.data.root.split(",")
    old = shutil.copytree(px, tmp_path / "px")
    about = json.loads((old / "dataset.json").read_text())
    (old / "dataset.json").write_text(json.dumps(about | {"absent": absent}))
    new = landmark_folder(people=8, shots=1, size=32, name="new")
    best = checkpoint.best
    monkeypatch.setattr(checkpoint, "best", lambda run: (best(run)[0], best(run)[1] | of_run))
    keys = {"data__root": f"{mm},{old},{new}", "domains__start": str(run), "presence__weight": weight}
    config = tiny.config(teacher_file, domains_config, **keys, **PLAIN)
    pictures = data.load(config.data, tmp_path / "tfds")
    if not message:
        assert LandmarkTask(config, pictures)
        return
    with pytest.raises(UserError, match=f"domains.start is {run}, {message}"):
        LandmarkTask(config, pictures)


def test_what_an_old_domain_has_learned_it_still_knows(finished, landmark_folder, teacher_file, tmp_path):
    """No picture here has a chin."""
    run, config, _ = finished
    roots = f"{config.data.root},{landmark_folder(people=8, shots=1, size=32, name='new')}"
    config = tiny.config(teacher_file, domains_config, data__root=roots, domains__start=str(run), **PLAIN)
    pictures = data.load(config.data, tmp_path / "tfds")
    points = pictures.targets
    xy = np.where(np.char.endswith(points.landmarks.names, "/chin")[:, None], np.nan, points.xy)
    everything = dataclasses.replace(pictures.everything, targets=dataclasses.replace(points, xy=xy))
    made = LandmarkTask(config, dataclasses.replace(pictures, everything=everything))
    assert made.meta["never_annotated"] == ["new/chin"]


@pytest.mark.parametrize("mirror", [False, True])
def test_a_domain_of_an_hourglass_is_what_the_whole_network_says_of_it(tmp_path, mirror):
    """Each stack reads the heatmaps of all domains, so they stay in the network. Films are never mirrored."""
    keys = {"eval__mirror": mirror, "domains__norm": False, "domains__heads": False, "model__encoder": "resnet8"}
    made = tiny.task("none", hg, data__root="synthetic,synthetic_film", augment__flip=0.5, **keys)
    rng, shapes = np.random.default_rng(0), jax.eval_shape(lambda: made.init(0))
    variables = {
        "params": jax.tree.map(lambda x: rng.normal(0, 0.3, x.shape).astype("f"), shapes["params"]),
        "batch_stats": jax.tree.map(lambda x: np.ones(x.shape, "f"), shapes["batch_stats"]),
    }
    picture = {"picture": made.train.batch(np.array([0, 9]))["picture"]}
    run, first = Run(tmp_path, made.config, variables, made.meta), 0
    whole_of = functools.cache(lambda order: jax.jit(landmarks.network.look(made.model, made.teacher.input, order)))
    for domain, names in made.outputs.items():
        trained = TrainedLandmarks.read(run, domain, made.config)
        order = made._flip_order if domain == "synthetic" else None
        whole = whole_of(order)(variables, picture)
        found, exported = jax.jit(lambda *x, of=trained: (of.look(*x), of.forward(*x)))(variables, picture)
        assert trained.names == tuple(names) and found.keys() == whole.keys()
        assert ("mirror" in found) == trained.mirrored == (mirror and domain == "synthetic")
        for name, values in found.items():
            np.testing.assert_array_equal(values, whole[name][:, first : first + len(names)])
        np.testing.assert_array_equal(exported[0], found["xy"])
        first += len(names)
    assert first == whole["xy"].shape[1]


@pytest.mark.parametrize("version", ["today", "first"])
def test_a_start_without_domains(finished_run, teacher_file, tmp_path, version):
    run = finished_run[0] if version == "today" else older.copy(finished_run[0], tmp_path / "old", version)
    found = config_error(teacher_file, tmp_path, domains__start=str(run), **PLAIN)
    assert "which has no batch norm and head for each domain" in found


def test_a_learning_curve_is_of_one_domain(cli, monkeypatch, tmp_path, teacher_file):
    monkeypatch.chdir(tiny.REPO)
    small = tiny.arguments(teacher_file, data__root=",".join(BOTH), data__image_size=32)
    code, _, error = cli("ctd_jax.learning_curve", "--configs=ft", "--seeds=1", f"--out={tmp_path}", *small)
    assert code == 2 and "a learning curve is of one domain, these are synthetic, synthetic_film" in error


def test_a_learning_curve_with_and_without_a_helper(cli, monkeypatch, tmp_path, teacher_file):
    """The same roots for both: one configuration leaves the helper out, and labels are those of the judged domain. A
    helped run is as one of that domain."""
    monkeypatch.chdir(tiny.REPO)
    keys = {"data__root": ",".join(BOTH), "data__helping": BOTH[1:], "train__steps": 2, "grid": ()}
    flags = ["--configs=ft,helping", "--budgets=2", "--seeds=1", f"--out={tmp_path}"]
    code, _, error = cli("ctd_jax.learning_curve", *flags, *tiny.arguments(teacher_file, **keys))
    assert code == 0, error
    result = json.loads((tmp_path / "curve.json").read_text())
    assert list(result["methods"]) == ["ft", "helping"]
    assert {"difference", "ci95", "p"} <= result["methods"]["helping"]["budgets"]["2"]["minus_reference"].keys()
    (run,) = (path.parent for path in (tmp_path / "runs" / "helping").rglob("report.html"))
    numbers = json.loads((run / "metrics.json").read_text())
    assert numbers["n_images"] == 4 and "domains" not in numbers and "me_px" in numbers
    table = metrics.read_predictions(run / "predictions.csv")
    assert list(table.landmarks) == list(synthetic.LANDMARKS)
    assert not any(image.startswith("synthetic") for image in table.images)
    assert "<dt>Labelled pictures trained on</dt><dd>2</dd>" in (run / "report.html").read_text()
