"""TFDS data sets as input: which features are meant, what their numbers mean, and what is refused."""

import io
import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
import tfds_faces
import tiny
from PIL import Image
from pyarrow import parquet
from tfds_faces import FACES, FEATURES, XY, K

from configs import default
from ctd_jax import data
from ctd_jax.errors import UserError

REPO = pathlib.Path(__file__).parents[2]
ORDER = [6, 7, 0, 1, 2, 3, 4, 5]  # the splits by their names: test, train, validation
POINTS = FEATURES.Tensor(shape=(K, 2), dtype=np.float32)
LABELS = [f"mark {k}" for k in range(K)]
PAIR = FEATURES.Tensor(shape=(2,), dtype=np.float32)


def config_of(root, **keys):
    config = default.get_config().data
    config.update({"root": f"tfds:{root}", "image_size": 32, "tfds": keys})
    return config


def load(root, targets=data.LANDMARKS, **keys):
    return data.load(config_of(root, **keys), None, targets=targets)


def refused(root, **keys):
    with pytest.raises(UserError) as told:
        load(root, **keys)
    return str(told.value)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """TFDS's folder with the data set `toy_faces`: points in pixels, and who it is."""
    home = tmp_path_factory.mktemp("home")
    tfds_faces.write(
        home,
        {"points": POINTS, "Patient": FEATURES.Text(), "file": FEATURES.Text()},
        lambda i: {"points": XY[i], "Patient": f"person {i // 2}", "file": f"{i}.png"},
    )
    return home


def test_pictures_points_splits_and_subjects_of_a_data_set(home, monkeypatch, caplog):
    monkeypatch.setenv("TFDS_DATA_DIR", str(home))
    found = load("toy_faces")
    assert found.everything.images == (
        "test/0",
        "test/1",
        *(f"train/{i}" for i in range(4)),
        "validation/0",
        "validation/1",
    )
    assert found.split_of == ["test"] * 2 + ["train"] * 4 + ["val"] * 2
    assert found.everything.subjects == tuple(f"person {i // 2}" for i in ORDER)
    assert found.targets.landmarks.names == tuple(f"point_{k}" for k in range(K))
    np.testing.assert_array_equal(found.targets.xy, XY[ORDER])
    for image, i in zip(found.everything.images, ORDER, strict=True):
        np.testing.assert_array_equal(found.picture(image), FACES["pictures"][i])
    for said in (f"the {K} points are those of points, x and y in pixels", "the subject is the feature Patient"):
        assert said in caplog.text


@pytest.mark.parametrize("place", ["toy_faces", "toy_faces/1.0.0"])
def test_a_data_set_by_its_folder(home, place):
    assert len(load(home / place).everything) == 8


def test_identities_need_no_points(tmp_path):
    home = tfds_faces.write(tmp_path, {"subject": FEATURES.Scalar(np.int64)}, lambda i: {"subject": i // 2}).parent
    assert load(home, data.IDENTITIES).targets.person.tolist() == [i // 2 for i in ORDER]
    assert "none of its features has key points" in refused(home)


FORMS = {  # feature -> its type, its value for points [K, 2], the names of the points
    "numbers": (POINTS, lambda xy: xy, None),
    "sequence": (FEATURES.Sequence(PAIR), lambda xy: list(xy), None),
    "dicts": (
        FEATURES.Sequence({"x": np.float32, "y": np.float32, "seen": np.bool_}),
        lambda xy: [{"x": x, "y": y, "seen": True} for x, y in xy],
        None,
    ),
    "labelled": (
        FEATURES.Sequence({"x": np.float32, "y": np.float32, "which": FEATURES.ClassLabel(names=LABELS)}),
        lambda xy: [{"x": x, "y": y, "which": LABELS[k]} for k, (x, y) in reversed(list(enumerate(xy)))],
        LABELS,
    ),
    "pairs": (
        {f"m{k:02d}_{axis}": np.float32 for k in range(K) for axis in "xy"} | {"z": np.float32},
        lambda xy: {f"m{k:02d}_{axis}": xy[k, j] for k in range(K) for j, axis in enumerate("xy")} | {"z": 0.0},
        [f"m{k:02d}" for k in range(K)],
    ),
    "inner/named": (
        {"named": {f"m{k:02d}": PAIR for k in range(K)}},
        lambda xy: {"named": {f"m{k:02d}": xy[k] for k in range(K)}},
        [f"m{k:02d}" for k in range(K)],
    ),
    "face/points": (POINTS, lambda xy: xy, None),
    "fractions": (POINTS, lambda xy: (xy + 0.5) / tfds_faces.SIZE, None),
    "turned": (FEATURES.Tensor(shape=(K, 2), dtype=np.float64), lambda xy: xy[:, ::-1].astype(float), None),
}


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    """A data set with all kinds of points."""
    features = {name.removesuffix("/named"): feature for name, (feature, _, _) in FORMS.items()}
    return tfds_faces.write(
        tmp_path_factory.mktemp("forms"),
        features,
        lambda i: {name.removesuffix("/named"): value(XY[i]) for name, (_, value, _) in FORMS.items()},
        file_format="parquet",
        numbers={"train": 3, "validation": 1, "test": 1},
    )


@pytest.mark.parametrize("name", FORMS)
def test_points_in_every_form(forms, name, caplog):
    found = load(forms, points=name, order="yx" if name == "turned" else "xy")
    assert list(found.targets.landmarks.names) == (FORMS[name][2] or [f"point_{k}" for k in range(K)])
    np.testing.assert_allclose(found.targets.xy, XY[[4, 0, 1, 2, 3]], atol=1e-5)
    assert (
        f"{'y and x' if name == 'turned' else 'x and y'} in {'fractions' if name == 'fractions' else 'pixels'}"
        in caplog.text
    )
    assert "every picture counts as a person of its own" in caplog.text


def test_several_features_that_may_be_meant_are_named(forms):
    said = refused(forms)
    for part in (*FORMS, "give one of them, --config.data.tfds.points="):
        assert part in said
    assert "data.tfds.points is 'sequense', which is no such feature" in refused(forms, points="sequense")
    assert "is it 'sequence'?" in refused(forms, points="sequense")
    assert "data.tfds.image is 'numbers'" in refused(forms, image="numbers", points="numbers")


def test_fractions_that_are_called_pixels_are_refused(forms):
    assert "fractions" in refused(forms, points="fractions", coordinates="pixels")


def with_about(place, tmp_path, names, **more):
    place = shutil.copytree(place, tmp_path / "1.0.0")
    (place / "dataset.json").write_text(json.dumps({"landmarks": names} | more))
    return place


def test_dataset_json_beside_the_examples_names_points_and_pairs(forms, tmp_path):
    pairs = [[LABELS[0], LABELS[1]]]
    place = with_about(forms, tmp_path, LABELS, flip_pairs=pairs, normalizer=pairs[0])
    assert load(place, points="labelled").targets.landmarks.flip_order[:3] == (1, 0, 2)
    found = load(place, points="numbers")
    assert found.targets.landmarks.names == tuple(LABELS) and found.targets.landmarks.normalizer == tuple(pairs[0])
    np.testing.assert_allclose(found.targets.xy[1], XY[0], atol=1e-5)


def test_dataset_json_may_order_points_that_have_names_and_not_rename_them(forms, tmp_path):
    found = load(with_about(forms, tmp_path, LABELS[::-1]), points="labelled")
    assert found.targets.landmarks.names == tuple(LABELS[::-1])
    np.testing.assert_allclose(found.targets.xy[1], XY[0][::-1], atol=1e-5)
    said = refused(tmp_path / "1.0.0", points="pairs")
    assert "dataset.json: landmarks are mark 29" in said and "expected m00, m01" in said


def test_dataset_json_must_name_every_point(forms, tmp_path):
    assert f"expected {K} names" in refused(with_about(forms, tmp_path, LABELS[1:]), points="numbers")


def dot(i):
    """A picture of 40 x 20 pixels that is white at (19, 4) and (20, 5), grey of 16 bits."""
    values = np.zeros((20, 40), np.uint16)
    values[4:6, 19:21] = 60000
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    file.seek(0)
    return file


def test_fractions_are_of_the_width_and_height_from_edge_to_edge(tmp_path):
    """The middle of a picture of 40 pixels lies between the pixels 19 and 20."""
    deep = FEATURES.Image(shape=(None, None, 1), dtype=np.uint16, encoding_format="png")
    point = FEATURES.Tensor(shape=(1, 2), dtype=np.float32)
    place = tfds_faces.write(
        tmp_path, {"image": deep, "point": point}, lambda i: {"image": dot(i), "point": [[0.5, 0.25]]}
    )
    found = load(place, subject="")
    np.testing.assert_allclose(found.targets.xy, np.tile([19.5, 4.5], (8, 1, 1)), atol=1e-5)
    bright = found.picture("train/0")[..., 0] > 100
    np.testing.assert_allclose(np.argwhere(bright).mean(0)[::-1], found.targets.xy[0, 0])


def test_marks_of_what_is_not_annotated_are_no_fractions(tmp_path):
    def values(i):
        xy = (XY[i] + 0.5) / tfds_faces.SIZE
        xy[:2] = [[-1, -1], [0, 0]]
        return {"points": xy}

    found = load(tfds_faces.write(tmp_path, {"points": POINTS}, values)).targets.xy
    assert np.isnan(found[:, :2]).all()
    np.testing.assert_allclose(found[:, 2:], XY[ORDER][:, 2:], atol=1e-4)


def test_one_split_only_is_divided(tmp_path):
    place = tfds_faces.write(
        tmp_path,
        {"points": POINTS, "subject": FEATURES.Text()},
        lambda i: {"points": XY[i], "subject": f"{i}"},
        numbers={"train": 8},
    )
    found = load(place)
    assert sorted(set(found.split_of)) == ["test", "train", "val"]


def test_a_picture_without_points_is_not_annotated_and_another_number_is_refused(tmp_path):
    def values(i, number):
        return {"points": list(XY[i][: number if i == 1 else K])}

    feature = {"points": FEATURES.Sequence(PAIR)}
    none = load(tfds_faces.write(tmp_path / "none", feature, lambda i: values(i, 0)))
    assert none.split_of[3] == "unlabelled" and np.isnan(none.targets.xy[3]).all()
    said = refused(tfds_faces.write(tmp_path / "fewer", feature, lambda i: values(i, 2)))
    assert f"example 1 of train has 2 points and another one {K}" in said


def test_points_outside_their_picture_are_refused_by_example(tmp_path):
    place = tfds_faces.write(tmp_path, {"points": POINTS}, lambda i: {"points": XY[i] + 50 * (i == 2)})
    assert "example 2 of train" in refused(place) and "outside the picture of 32 x 32 pixels" in refused(place)


def test_a_data_set_that_is_not_there_is_named_with_those_that_are(home, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(home))
    said = refused("toy_face")
    for part in ("data.root is tfds:toy_face", str(home), "toy_faces", "tfds build --file_format=array_record"):
        assert part in said
    assert "data.root is tfds:" in refused("")


def test_several_versions_are_named(home, tmp_path):
    place = tmp_path / ("a_long_name_" * 10) / "toy_faces"
    for version in ("1.0.0", "2.0.0", "incomplete.AB_3.0.0"):
        shutil.copytree(home / "toy_faces/1.0.0", place / version)
    said = refused(place)
    assert f"several: 1.0.0, 2.0.0; give one, such as tfds:{place}/2.0.0" in said
    assert "incomplete" not in said


def in_copy(home, tmp_path, change):
    place = shutil.copytree(home / "toy_faces/1.0.0", tmp_path / "1.0.0")
    content = json.loads((place / "dataset_info.json").read_text())
    change(content)
    (place / "dataset_info.json").write_text(json.dumps(content))
    return place


def test_examples_that_are_lost_are_missed(home, tmp_path):
    """TFDS says how many it wrote, whether or not they are there."""

    def one_more(content):
        (train,) = (split for split in content["splits"] if split["name"] == "train")
        train["shardLengths"] = ["5"]

    said = refused(in_copy(home, tmp_path, one_more))
    assert "example 4 of train can't be read" in said


def test_examples_that_parquet_has_lost_are_missed(forms, tmp_path):
    place = shutil.copytree(forms, tmp_path / "1.0.0")
    (file,) = place.glob("*train.parquet*")
    parquet.write_table(parquet.read_table(file)[:2], file)
    said = refused(place, points="numbers")
    assert f"{place}: the split train has 2 examples, and dataset_info.json says 3; prepare it anew" in said


def test_files_without_random_access_are_refused(home, tmp_path, monkeypatch):
    said = refused(in_copy(home, tmp_path, lambda content: content.update(fileFormat="tfrecord")))
    assert "tfrecord files, of which no single example can be read here" in said and "array_record" in said

    def no_array_record(*_, **__):
        raise ModuleNotFoundError("No module named 'array_record'")

    monkeypatch.setattr(type(tfds.builder_from_directory(home / "toy_faces/1.0.0")), "as_data_source", no_array_record)
    assert "has array_record files, of which no single example can be read here" in refused(home / "toy_faces")


@pytest.mark.parametrize("what", ["features.json", "dataset_info.json", "toy_faces-train.array_record-00000-of-00001"])
def test_damaged_files_are_named(home, tmp_path, what):
    place = shutil.copytree(home / "toy_faces/1.0.0", tmp_path / "1.0.0")
    content = (place / what).read_bytes()
    (place / what).write_bytes(content[: len(content) // 2])
    said = refused(place)
    assert str(place) in said and ("can't be read" in said or "can't read" in said)


@pytest.mark.slow
def test_a_training_on_it(home, teacher_file, tmp_path, cli):
    small = tiny.arguments(teacher_file, data__root=f"tfds:{home / 'toy_faces'}", train__steps=2)
    workdir = tmp_path / "run"
    config = REPO / "configs" / "ctd_ed.py"
    code, _, error = cli("ctd_jax.main", f"--config={config}", f"--workdir={workdir}", *small)
    assert code == 0, error
    assert not (workdir / "tfds").exists()  # no second copy
    rows = (workdir / "predictions.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * K and rows[1].startswith("test/0,person 3,point_0,")
