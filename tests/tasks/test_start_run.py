"""A training that goes on from another run: where it starts, what it says of that, and what is refused."""

import csv
import dataclasses
import json
import re
import shutil

import jax
import numpy as np
import pytest
import tiny
from flax.traverse_util import flatten_dict

from ctd_jax import data, metrics, run_folder, training_run
from ctd_jax.config import config_hash, config_of_run
from ctd_jax.errors import UserError
from ctd_jax.tasks.landmarks import LandmarkTask
from ctd_jax.tasks.start_run import HEADS, StartRun, check_judged, trained_on, warn_of_known
from ctd_jax.training import checkpoint, step
from ctd_jax.training.parallel import Parallel


@pytest.fixture(scope="module")
def run(finished_run):
    return finished_run[0]


@pytest.fixture(scope="module")
def pictures(run):
    return data.load(config_of_run(run).data, run / "tfds")


def going_on(run, **changes):
    """The configuration of a run that goes on from `run`."""
    config = config_of_run(run)
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    config.update_from_flattened_dict({"model.start": str(run), "train.steps": 2, "eval.every": 1} | dotted)
    return config


def task(run, pictures, **changes):
    return LandmarkTask(going_on(run, **changes), pictures)


def same(a, b):
    """Whether two trees have the same arrays to the bit."""
    a, b = flatten_dict(a), flatten_dict(b)
    return a.keys() == b.keys() and all(np.array_equal(a[path], b[path]) for path in a)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def change_rows(path, change):
    """Writes a csv file anew; `change` gives the new row, or None: without it."""
    rows = [row for row in map(change, rows_of(path)) if row]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


# ---------------------------------------------------------------- where it starts


def test_before_the_first_step_it_is_the_network_of_the_run(run, pictures):
    made = task(run, pictures)
    start = jax.device_get(made.init(3))
    assert same(start, checkpoint.best(run)[0])
    parallel = Parallel("shard_map", jax.devices()[:1])
    error, _ = made.validator(parallel)(parallel.replicate(start))
    errors = [float(row["val_error"]) for row in rows_of(run / "log.csv") if row["val_error"]]
    assert error == pytest.approx(min(errors), rel=1e-6) and max(errors) > 1.0001 * min(errors)


def test_the_average_is_what_it_starts_from(run, pictures, tmp_path):
    variables, meta = checkpoint.best_of_training(run)
    halves = jax.tree.map(lambda x: (x / 2).astype(x.dtype), variables)
    place = shutil.copytree(run, tmp_path / "averaged")
    shutil.rmtree(place / "checkpoints")
    state = step.TrainState(np.int32(4), variables["params"], variables["batch_stats"], (), halves)
    with checkpoint.manager(place) as checkpoints:
        checkpoint.save(checkpoints, 4, state, meta, 0.1)
        checkpoints.wait_until_finished()
    assert same(jax.device_get(task(place, pictures).init(0)), halves)


def test_a_head_that_only_one_of_the_two_has_starts_anew(run, pictures, caplog):
    made = task(run, pictures, coordinates__weight=1.0)
    start = made.init(0)
    assert same({k: v for k, v in start["params"].items() if k != "coordinates"}, checkpoint.best(run)[0]["params"])
    assert same({"x": start["params"]["coordinates"]}, {"x": made.heads(jax.random.key(0))["coordinates"]})
    assert "has no head `coordinates` like this one's; it starts anew" in caplog.text
    moved = jax.tree.map(lambda x: x + 1, start["params"]["coordinates"])
    other = dataclasses.replace(
        made._start, variables=start | {"params": start["params"] | {"coordinates": moved, "presence": {}}}
    )
    assert same(other.into(start)["params"], start["params"] | {"coordinates": moved})
    narrow = jax.tree.map(lambda x: x[..., :4], moved)
    other = dataclasses.replace(made._start, variables=start | {"params": start["params"] | {"coordinates": narrow}})
    assert same(other.into(start)["params"], start["params"])
    assert {"coordinates", "presence"} < set(HEADS)


def test_the_picture_is_as_large_as_there(run, tmp_path, capsys):
    assert training_run.prepare(going_on(run, data__image_size=0), tmp_path)[0].config.data.image_size == 32
    assert f"data.image_size=32 (as in {run})" in capsys.readouterr().err


def test_a_landmark_that_the_run_learned_is_not_unknown_and_boxes_are_said(run, pictures, monkeypatch, caplog):
    """Here no picture has the chin; where the run did not have it either, nobody has learned it."""
    points = pictures.targets
    xy = np.where(np.array(points.landmarks.names)[:, None] == "chin", np.nan, points.xy)
    everything = dataclasses.replace(pictures.everything, targets=dataclasses.replace(points, xy=xy))
    without = dataclasses.replace(pictures, everything=everything)
    assert task(run, without).meta["never_annotated"] is None
    boxes = "trained on whole pictures, and sees boxes in pictures here"
    assert boxes not in caplog.text
    everything = dataclasses.replace(everything, boxes=np.full((len(everything), 4), [0.0, 0, 30, 30]))
    assert task(run, dataclasses.replace(without, everything=everything))
    assert boxes in caplog.text
    assert task(run, without, model__start="").meta["never_annotated"] == ["chin"]
    best = checkpoint.best_of_training
    monkeypatch.setattr(
        checkpoint, "best_of_training", lambda run: (best(run)[0], best(run)[1] | {"never_annotated": ["chin"]})
    )
    assert task(run, without).meta["never_annotated"] == ["chin"]


def test_random_layers_are_not_frozen(run, pictures):
    made = task(run, pictures, teacher__start=False, train__encoder_layers="none", constraints__ed__weight=0.0)
    labels = flatten_dict(made.param_labels(made.init(0)["params"]))
    assert {label for path, label in labels.items() if path[0] == "encoder"} == {"frozen"}
    with pytest.raises(UserError, match="random layers would be frozen"):
        changes = {"teacher__start": False, "train__encoder_layers": "none", "constraints__ed__weight": 0.0}
        task(run, pictures, model__start="", **changes)


def test_whom_the_teacher_of_a_run_knows_the_run_knows(tmp_path, caplog):
    theirs, ours = [("a.png", "anna", "train", "00"), ("c.png", "carl", "val", "22")], ("b.png", "ben", "train", "11")
    config = tiny.config("none", teacher__run=str(tmp_path / "teacher"), constraints__ed__weight=0.0)
    run_folder.begin(tmp_path / "teacher", tiny.config("none"), theirs)
    run_folder.begin(tmp_path / "alone", config, [ours])
    config.constraints.kd.weight = 1.0
    run_folder.begin(tmp_path / "student", config, [ours])
    assert trained_on(tmp_path / "student") == [list(ours), list(theirs[0])]
    assert trained_on(tmp_path / "alone") == [list(ours)], "no term reads the teacher"
    assert not caplog.records
    shutil.rmtree(tmp_path / "teacher")
    assert trained_on(tmp_path / "student") == [list(ours)]
    assert f"taught by {tmp_path / 'teacher'}, which is not there: whom that has learned from is not" in caplog.text


# ---------------------------------------------------------------- what it leaves behind


@pytest.fixture(scope="module")
def second(run, tmp_path_factory):
    """A run of two steps that went on from a copy of the first, and its result; the copy is gone."""
    folder = tmp_path_factory.mktemp("second")
    first = shutil.copytree(run, folder / "first")
    result = training_run.train_and_evaluate(going_on(first), folder / "run", first / "tfds")
    shutil.rmtree(first)
    return folder / "run", result


def test_two_steps_and_what_they_leave(run, second, cli, tmp_path):
    workdir, result = second
    first = workdir.parent / "first"
    expected = {"run": str(first), "config_hash": config_hash(config_of_run(run))}
    assert result["start"] == expected == json.loads((workdir / "metrics.json").read_text())["start"]
    page = (workdir / "report.html").read_text()
    assert f"went on from the network of <code>{first}</code>, configuration <code>{expected['config_hash']}" in page
    noted = json.loads((workdir / "start.json").read_text())
    learned = [list(row.values()) for row in rows_of(run / "split.csv") if row["split"] == "train"]
    assert noted["trained_on"] == learned and len(learned) == 8
    assert noted | expected == noted and noted["network"] == checkpoint.digest(checkpoint.best_of_training(run)[0])
    leaves = [jax.tree.leaves(checkpoint.best(place)[0]["params"]) for place in (run, workdir)]
    assert 0 < max(np.abs(a - b).max() for a, b in zip(*leaves, strict=True)) < 0.01
    assert "start" not in json.loads((run / "metrics.json").read_text())
    root = config_of_run(workdir).data.root
    code, _, error = cli("ctd_jax.predict", f"--workdir={workdir}", f"{root}/images", f"--out={tmp_path / 'out.csv'}")
    assert code == 0, error
    of_run = metrics.read_predictions(workdir / "predictions.csv")
    table = metrics.read_predictions(tmp_path / "out.csv")
    row = next(i for i, image in enumerate(table.images) if image.endswith(of_run.images[0]))
    np.testing.assert_allclose(table.xy[row], of_run.xy[0], atol=0.01)
    code, out, error = cli("ctd_jax.export", f"--workdir={workdir}", "--to=stablehlo", f"--out={tmp_path / 'out'}")
    assert code == 0, error


def test_it_continues_to_the_same_end(run, second, tmp_path):
    """From its own checkpoint, without a step made twice; where the start has other weights by now, it is refused."""
    workdir, result = second
    first = shutil.copytree(run, workdir.parent / "first")
    place = shutil.copytree(workdir, tmp_path / "run")
    (place / "report.html").unlink()
    shutil.rmtree(place / "checkpoints" / "2")
    again = training_run.train_and_evaluate(going_on(first), place, first / "tfds")
    assert again | {"seconds": 0} == result | {"seconds": 0}
    (place / "report.html").unlink()
    shutil.rmtree(first)
    tiny.other_weights(run, first, seed=0)
    with pytest.raises(UserError, match="start of this run have changed since it began"):
        training_run.train_and_evaluate(going_on(first), place, first / "tfds")
    shutil.rmtree(first)
    with pytest.raises(UserError, match="model.start is .*first; expected the --workdir of a training"):
        training_run.train_and_evaluate(going_on(run, model__start=str(first)), place)


# ---------------------------------------------------------------- what is refused


def read(run, pictures, config=None, **changes):
    """`StartRun.read`, with the run's own outputs, encoder and input but for `changes`."""
    _, meta = checkpoint.best(run)
    own = {"outputs": {"": meta["landmarks"]}, "encoder": meta["encoder"], "input_spec": meta["input"]}
    return StartRun.read(config or going_on(run), pictures=pictures, **own | changes)


def test_another_network_is_refused_by_the_key_that_differs(run, pictures):
    _, meta = checkpoint.best(run)
    names = meta["landmarks"]
    for outputs, message in (
        ({"": names[1:]}, rf"are not those of the data: 1 only in {run} \({names[0]}\); expected the same"),
        ({"": [*names, "navel"]}, r"1 only in the data \(navel\)"),
        ({"": names[::-1]}, f"another order: {names[0]}, "),
        ({"left": names, "right": names}, "whose domains are none, and here they are left, right"),
    ):
        with pytest.raises(UserError, match=message):
            read(run, pictures, outputs=outputs)
    for key, value, message in (
        ("model.decoder", "separable", "is 'dense', and here it is 'separable'; give --config.model.decoder=dense"),
        ("model.decoder_channels", (8, 8), r"is \[8\], .*; give --config.model.decoder_channels=8,"),
        ("model.network", "hourglass", "give --config.model.network=encoder_decoder"),
        ("domains.start", "elsewhere", "and domains.start elsewhere; give one of them"),
        ("task", "segmentation", "which learned landmarks; give a run that learned segmentation"),
    ):
        config = going_on(run)
        config.update_from_flattened_dict({key: value})
        with pytest.raises(UserError, match=f"model.start is {run}.*{message}"):
            read(run, pictures, config)
    weights = r"give --config.teacher.weights=.*teacher.safetensors and --config.model.encoder=auto"
    with pytest.raises(UserError, match=rf"whose encoder is .*'width': 4.*'width': 5.*; {weights}"):
        read(run, pictures, encoder=meta["encoder"] | {"width": 5})
    with pytest.raises(UserError, match=rf"whose input is .*RGB.*BGR.*; {weights}"):
        read(run, pictures, input_spec=meta["input"] | {"channels": "BGR"})
    assert read(run, pictures, encoder=meta["encoder"] | {"num_outputs": 7}), "the teacher's head is not the student's"


def test_a_network_of_other_shapes_is_refused(run, pictures):
    start, (variables, _) = read(run, pictures), checkpoint.best(run)
    lacking = jax.tree.map(lambda x: x, variables)
    del lacking["params"]["decoder"]["final"]["bias"]
    with pytest.raises(UserError, match="whose network is another: params/decoder/final/bias and 0 more do not fit"):
        start.into(lacking)


def with_splits(pictures, **splits):
    """`pictures` with a person's pictures in another split."""
    table = zip(pictures.everything.subjects, pictures.split_of, strict=True)
    return dataclasses.replace(pictures, split_of=[splits.get(who, split) for who, split in table])


def test_nobody_is_judged_whom_the_run_knows(run, pictures):
    """The run has learned from four people, person_00000 to person_00003, with two pictures each."""
    assert read(run, pictures)
    assert read(run, with_splits(pictures, person_00004="train", person_00006="val")), "whom it was judged by"
    with pytest.raises(UserError, match=r"on 4 of the 12 pictures of val and test, .*: person_00001, person_00002;"):
        read(run, with_splits(pictures, person_00001="val", person_00002="test1"))


@pytest.mark.parametrize(
    ("change", "known"),
    [
        (lambda row: {"subject": f"x{row['subject']}"}, True),  # the same files under other names
        (lambda row: {"subject": row["subject"].upper(), "sha256": "0"}, True),  # the same people on other pictures
        (lambda row: {"split": "unused"} if row["subject"] == "person_00000" else {}, False),
        (lambda row: {"split": "unlabelled"} if row["subject"] == "person_00000" else {}, False),
    ],
)
def test_whom_a_run_knows(run, pictures, tmp_path, change, known):
    place = shutil.copytree(run, tmp_path / "run")
    change_rows(place / "split.csv", lambda row: row | change(row))
    moved = with_splits(pictures, person_00000="test1")
    if not known:
        assert read(place, moved)
        return
    with pytest.raises(UserError, match=r"trained on 2 of the 10 .*: person_00000;"):
        read(place, moved)


@pytest.mark.parametrize(
    ("learned", "known"),
    [
        ([("faces/a.png", "faces/person_00000", "")], True),
        ([("faces/a.png", "faces/ Person_00000", ""), ("hands/a.png", "hands/somebody", "")], True),
        ([("hands/a.png", "hands/person_00000", ""), ("faces/b.png", "faces/person_00001", "here")], False),
        ([("faces/person_00000", "faces/person_00000", "")], False),  # nobody has said whose picture it is
        ([("person_00000", "person_00000", "")], False),
        ([("heads/0.png", "person_00000/heads/0.png", "")], False),  # nor of a class map, after its domain
    ],
)
def test_people_of_several_domains_are_known_without_them(run, pictures, learned, known):
    judged = with_splits(pictures, person_00000="test1")
    judged = dataclasses.replace(judged, sha256=(*judged.sha256[:2], "here", *judged.sha256[3:]))  # of train
    rows = [(image, subject, "train", digest) for image, subject, digest in learned]
    if not known:
        check_judged("it", run, rows, judged)
        return
    with pytest.raises(UserError, match=r"trained on 2 of the 10 .*: person_00000;"):
        check_judged("it", run, rows, judged)
    check_judged("it", run, rows, dataclasses.replace(judged, parts={"other": judged}))


@pytest.mark.parametrize(
    ("learned", "image", "said"),
    [
        ("array 0", "images/004.png", True),
        ("images/000.png", "array 1", True),
        ("array 0", "array 1", True),  # of another type, or another picture
        ("images/000.png", "images/004.png", False),
        ("array 0", "", False),  # those that the run was judged by
    ],
)
def test_pictures_that_were_arrays_are_not_told_again_which_is_said(run, pictures, caplog, learned, image, said):
    if image:
        images = (image, *pictures.everything.images[1:])
        judged = dataclasses.replace(pictures, everything=dataclasses.replace(pictures.everything, images=images))
        judged = dataclasses.replace(judged, split_of=["val", *judged.split_of[1:]], sha256=("x", *judged.sha256[1:]))
    else:
        judged = pictures
    check_judged("model.start is it", run, [(learned, "somebody", "train", "0")], judged)
    assert ("model.start is it: pictures given as arrays can't be told again" in caplog.text) == said


def test_a_teacher_that_has_seen_whom_this_run_is_judged_by_is_said(run, pictures, tmp_path, monkeypatch, caplog):
    """By the run of recognition whose folder its file lies in; a copy elsewhere tells nothing."""
    judged, of_landmarks, place = (
        with_splits(pictures, person_00000="test1"),
        tmp_path / "landmarks",
        tmp_path / "people",
    )
    for folder in (tmp_path, shutil.copytree(run, of_landmarks), shutil.copytree(run, place)):
        (folder / "teacher.safetensors").touch()
    config = json.loads((place / "config.json").read_text()) | {"task": "recognition"}
    (place / "config.json").write_text(json.dumps(config))
    monkeypatch.chdir(place)
    for weights in ("embedded", tmp_path / "teacher.safetensors", of_landmarks / "teacher.safetensors"):
        warn_of_known(str(weights), judged)
    teacher = str(place / "teacher.safetensors")
    warn_of_known(teacher, dataclasses.replace(judged, drawn=True))
    warn_of_known(teacher, pictures)
    assert not caplog.text
    warn_of_known(teacher, dataclasses.replace(judged, parts={"faces": judged}))
    assert caplog.text.count("person_00000;") == 1
    caplog.clear()
    warn_of_known(teacher, judged)
    assert re.search(
        r"teacher.weights is .*trained on 2 of the 10 .*: person_00000;.* give both one data.split", caplog.text
    )
    (place / "split.csv").write_text("image\n")
    warn_of_known(teacher, judged)
    assert f"whom teacher.weights, {teacher}, has learned from is not known: " in caplog.text


def test_pictures_without_labels_have_been_learned_too(run, pictures, tmp_path):
    place = shutil.copytree(run, tmp_path / "run")
    change_rows(place / "split.csv", lambda row: row | {"split": row["split"].replace("train", "unlabelled")})
    config = json.loads((place / "config.json").read_text())
    config["data"]["unlabelled"] = "rows"
    (place / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="person_00000;"):
        read(place, with_splits(pictures, person_00000="test1"))


def test_a_person_whom_the_run_itself_had_on_two_sides_is_judged_as_before(run, pictures, tmp_path):
    place = shutil.copytree(run, tmp_path / "run")
    one = {"person_00003": "person_00004"}  # of train and of val
    change_rows(place / "split.csv", lambda row: row | {"subject": one.get(row["subject"], row["subject"])})
    assert read(place, pictures)


def test_the_runs_before_the_run_count_too(run, second, pictures, tmp_path):
    place = shutil.copytree(second[0], tmp_path / "run")
    change_rows(place / "split.csv", lambda row: row | {"split": "unused"} if row["subject"] == "person_00000" else row)
    assert len(trained_on(place)) == 8 > sum(row["split"] == "train" for row in rows_of(place / "split.csv"))
    with pytest.raises(UserError, match=r"trained on 2 of the 10 .*: person_00000;"):
        read(place, with_splits(pictures, person_00000="val"))
    (place / "start.json").unlink()
    with pytest.raises(UserError, match=r"start.json"):
        trained_on(place)


def test_a_teacher_goes_on_from_no_run(run, teacher_file):
    config = tiny.config("none", task="recognition", model__encoder="resnet8", model__start=str(run))
    with pytest.raises(UserError, match="model.start is .*, but the task is recognition, which starts from random"):
        training_run.prepare(config, None)
