"""A finished run as an object: the same numbers as the command's, to the bit."""

import dataclasses
import pathlib
import re
import subprocess
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ctd_jax import Predictor, metrics
from ctd_jax.data import synthetic
from ctd_jax.data.given import Given
from ctd_jax.data.prefetch import THREADS
from ctd_jax.errors import UserError

REPO = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def predictor(finished_run):
    return Predictor(finished_run[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures of several sizes, one of them 16-bit."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for i, (height, width) in enumerate(((40, 60), (71, 33), (32, 32))):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(folder / f"{i}.png")
    Image.fromarray(rng.integers(0, 4096, (50, 50), np.uint16)).save(folder / "deep.png")
    return folder


def array_of(path):
    return np.asarray(Image.open(path))


def test_the_numbers_are_those_of_the_command(predictor, folder, finished_run, cli, tmp_path):
    code, _, error = cli("ctd_jax.predict", f"--workdir={finished_run[0]}", folder, f"--out={tmp_path / 'a.csv'}")
    assert code == 0, error
    result = predictor(folder)
    result.to_csv(tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    table = metrics.read_predictions(tmp_path / "a.csv")
    np.testing.assert_allclose(result.xy, table.xy, atol=5.1e-4)
    assert result.xy.shape == (4, len(result.names), 2) and result.confidence.shape == (4, len(result.names))
    assert result.names == predictor.names == tuple(table.landmarks)
    for path, message in (("b.xlsx", "does not end in .csv"), ("nowhere/b.csv", "can't be written there (No such")):
        with pytest.raises(UserError, match=re.escape(message)):
            result.to_csv(tmp_path / path)


def test_millimetres_from_python(predictor, folder, tmp_path, monkeypatch):
    path = sorted(folder.glob("*.png"))[0]
    result = predictor(path, spacing=(0.5, 0.25))
    np.testing.assert_allclose(result.xy_mm, result.xy * (0.5, 0.25))
    result.to_csv(tmp_path / "mm.csv")
    assert (tmp_path / "mm.csv").read_text().splitlines()[0].endswith(",x_mm,y_mm")
    first, second = result.names[:2]
    scaled = predictor(path, scale=(first, second, 12.0))
    assert np.linalg.norm(scaled.xy_mm[0, 0] - scaled.xy_mm[0, 1]) == pytest.approx(12)
    assert np.isnan(predictor(path).xy_mm).all()
    with pytest.raises(UserError, match="spacing of .* expected mm above 0"):
        predictor(path, spacing=-1)
    never = dataclasses.replace(predictor.trained, never_annotated=(second,))
    monkeypatch.setattr(predictor, "trained", never)
    with pytest.raises(UserError, match=f"scale names '{second}', which is not predicted"):
        predictor(path, scale=(first, second, 12.0))
    nothing = types.SimpleNamespace(
        trained=types.SimpleNamespace(has_points=False, workdir="runs/s", what="class maps")
    )
    with pytest.raises(UserError, match="runs/s finds class maps, to which no spacing is needed; leave out"):
        Predictor.check_points(nothing)


def test_arrays_and_files_of_any_mix_give_the_same_to_the_bit(predictor, folder):
    paths = sorted(folder.glob("*.png"))
    files = predictor(paths)
    arrays = predictor([array_of(path) for path in paths])
    mixed = predictor([paths[0], array_of(paths[1]), str(paths[2]), array_of(paths[3])])
    for other in (arrays, mixed):
        np.testing.assert_array_equal(other.xy, files.xy)
        np.testing.assert_array_equal(other.confidence, files.confidence)
    assert arrays.images == ("array 0", "array 1", "array 2", "array 3")
    alone = [predictor(array_of(path)).xy[0] for path in paths[:3]]
    np.testing.assert_array_equal(alone, files.xy[:3])


@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.int32, np.int64, np.float16, np.float32, np.float64])
def test_every_type_that_a_picture_has(predictor, kind):
    values = np.random.default_rng(1).integers(0, 256, (40, 44))
    want = predictor(values.astype(np.uint8)).xy
    given = values / 255 if np.dtype(kind).kind == "f" else values
    np.testing.assert_allclose(predictor(given.astype(kind)).xy, want, atol=0.5 if kind == np.float16 else 1e-3)


def test_grey_and_rgb_arrays_are_the_same_picture(predictor):
    grey = np.random.default_rng(2).integers(0, 256, (40, 44), np.uint8)
    rgb = np.stack([grey] * 3, axis=-1)
    for same in (rgb, jnp.asarray(rgb), jnp.asarray(grey)):
        np.testing.assert_array_equal(predictor(grey).xy, predictor(same).xy)


class OnDevice:
    """Like a PyTorch tensor on a GPU."""

    def __array__(self, dtype=None, copy=None):
        raise TypeError("on another device")


PICTURE = np.zeros((9, 9, 3), np.uint8)
FACE = synthetic.draw(3, 0, size=48, seed=5)[0]


@pytest.mark.parametrize("page", ["README.md", "docs/predict.md"])
def test_what_the_pages_say(page, finished_run, folder, monkeypatch, tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", (REPO / page).read_text("utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    for name in ("anna.png", "ben.png"):
        (tmp_path / name).write_bytes((folder / "0.png").read_bytes())
    names = {}
    exec(code.replace("runs/eyes", str(finished_run[0])), names)
    assert names["result"].xy.shape == (2, len(names["predictor"].names), 2)
    assert (tmp_path / "predictions.csv").exists() == (page != "README.md")


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        ([], "no pictures"),
        (np.zeros((9, 9, 1), np.uint8), r"shape \(9, 9, 1\); expected \[H, W\], grey, or \[H, W, 3\]"),
        ([PICTURE, np.zeros((9, 9, 5), np.uint8)], r"array 1 has the shape"),
        (np.zeros(9), "shape"),
        (np.array(5), "shape"),
        (np.zeros((0, 9), np.uint8), "shape"),
        (np.zeros((9, 9), bool), "holds bool"),
        (np.zeros((9, 9), complex), "holds complex"),
        ([None], "NoneType"),
        (None, "NoneType"),
        ([OnDevice()], "array 0 can't be read as an array .on another device.; give one of NumPy"),
        (3, "array 0 is a int; expected a file, a folder or an array"),
        (Image.fromarray(PICTURE), "array 0 is a Image; expected a file, a folder or an array"),
        ("nowhere.png", "no such file"),
    ],
)
def test_what_is_no_picture(predictor, pictures, message):
    with pytest.raises(UserError, match=message):
        predictor(pictures)


def test_a_run_without_boxes_takes_none(predictor):
    with pytest.raises(UserError, match="leave out boxes"):
        predictor(PICTURE, boxes=np.array([[0, 0, 5, 5]]))


def test_a_picture_without_a_box_is_seen_as_a_whole(predictor, monkeypatch):
    whole = predictor(FACE)
    monkeypatch.setattr(predictor, "trained", dataclasses.replace(predictor.trained, boxes=True))
    found = predictor([FACE, FACE], boxes=np.array([[9, 5, 38, 36], [np.nan] * 4])).xy
    np.testing.assert_array_equal(found[1], whole.xy[0])
    assert np.abs(found[0] - found[1]).max() > 1
    with pytest.raises(UserError, match=r"boxes\[0\] is .*; expected four numbers, or four NaN: the whole picture"):
        predictor(FACE, boxes=np.array([[9, 5, np.nan, 36]]))


def test_no_run(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for place in (tmp_path, "~"):
        with pytest.raises(UserError, match=f"{tmp_path}/config.json: no such file"):
            Predictor(place)


def test_mirror_is_a_word_of_yes_or_no(finished_run):
    with pytest.raises(UserError, match="mirror is 'no'; expected True or False, or None: as the run was evaluated"):
        Predictor(finished_run[0], mirror="no")
    assert Predictor(finished_run[0], mirror=np.False_).trained.mirrored is False


def test_a_domain_that_the_run_lacks(finished_run):
    with pytest.raises(UserError, match="one kind of pictures"):
        Predictor(finished_run[0], domain="hands")


def test_it_compiles_once(predictor, folder, monkeypatch):
    compiled = []
    (one,) = predictor._compiled
    monkeypatch.setattr(one, "_look", lambda *a, real=one._look: (compiled.append(a[1]), real(*a))[1])
    predictor([PICTURE] * 11)
    predictor(folder)
    assert {batch["picture"].shape for batch in compiled} == {(predictor.batch_size, 32, 32, 3)}


def test_a_picture_has_the_same_numbers_wherever_it_stands(predictor):
    """To the bit: at each place of a batch, among other pictures, and alone."""
    one, *others = np.random.default_rng(1).integers(0, 256, (predictor.batch_size + 1, 40, 60, 3), np.uint8)
    alone = predictor(one)
    for i in range(predictor.batch_size):
        among = predictor([*others[:i], one, *others[i + 1 :]])
        np.testing.assert_array_equal(among.xy[i], alone.xy[0])
        np.testing.assert_array_equal(among.confidence[i], alone.confidence[0])


def test_few_pictures_are_in_memory(predictor, monkeypatch):
    """However many there are: those that are read ahead, and three batches on their way."""
    names = [pathlib.Path(str(i)) for i in range(20 * predictor.batch_size)]
    given, begun, done, most = Given(names, {}, {}, {}), [], 0, 0
    monkeypatch.setattr(given, "picture", lambda file: (begun.append(file), np.zeros((8, 8, 3), np.uint8))[1])
    for batch in predictor.found(given, predictor.batches(given)):
        done += len(batch.files)
        most = max(most, len(begun) - done)
    assert done == len(begun) == len(names) and begun != []
    assert predictor.batch_size <= most <= 4 * predictor.batch_size + THREADS


def test_pictures_that_are_links_keep_their_own_names(tmp_path):
    """A folder of links into one pool, as downloads are kept."""
    files = [tmp_path / "all" / name / "0.png" for name in ("p1", "p2")]
    (tmp_path / "pool").mkdir()
    for i, file in enumerate(files):
        file.parent.mkdir(parents=True)
        (tmp_path / "pool" / f"blob{i}").touch()
        file.symlink_to(tmp_path / "pool" / f"blob{i}")
    (tmp_path / "link").symlink_to(tmp_path / "all")
    given = Given([tmp_path / "link" / "p1" / "0.png", files[1]], {}, {}, {})
    names = [given.beside(pathlib.Path("out"), file).as_posix() for file in given.files]
    assert names == ["out/p1/0.png.png", "out/p2/0.png.png"]


@pytest.mark.slow
def test_importing_ctd_jax_loads_no_jax():
    code = "import ctd_jax, sys; assert not {'jax', 'numpy'} & set(sys.modules); ctd_jax.Predictor; import jax"
    subprocess.run([sys.executable, "-c", code], check=True)
