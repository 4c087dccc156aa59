"""The command that looks through a folder; what it finds is tested in `inspection`."""

import json
import shutil

import landmark_rows
import numpy as np
import pytest
from PIL import Image

from ctd_jax import Predictor, inspection
from ctd_jax.data import splits
from ctd_jax.inspection import contradicted


@pytest.fixture
def root(landmark_folder, tmp_path):
    return shutil.copytree(landmark_folder(people=8, shots=1), tmp_path / "faces")


def test_a_sound_folder_ends_with_0_and_a_page(root, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, error = cli("ctd_jax.check", root)
    assert (code, error) == (0, "")
    assert out == f"{root}: 8 pictures of 8 subjects; nothing found\n\ncheck.html\n"
    assert (tmp_path / "check.html").stat().st_size > 8000


def test_what_is_worth_a_look_ends_with_0(root, cli, tmp_path):
    landmark_rows.change(root, {0: {"colour": "red"}})
    code, out, _ = cli("ctd_jax.check", root, f"--report={tmp_path / 'page.html'}")
    assert code == 0 and "look at" in out and "spoils" not in out


def test_what_spoils_a_training_ends_with_1(root, cli, tmp_path):
    landmark_rows.change(root, {0: {"chin_x": ""}})
    code, out, error = cli("ctd_jax.check", root, f"--report={tmp_path / 'page.html'}")
    assert (code, error) == (1, "") and "half a point" in out and (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "expected one folder, found 0"),
        (["a", "b"], "expected one folder, found 2"),
        (["nowhere"], "nowhere: no such folder"),
        (["nowhere", "--domain=hands"], "--domain is one of those of a run; add --workdir=RUN"),
        (["nowhere", "--report=page.pdf"], "give a name that ends in .html"),
    ],
)
def test_mistakes_end_with_2(cli, arguments, said):
    code, out, error = cli("ctd_jax.check", *arguments)
    assert (code, out) == (2, "") and said in error and error.count("\n") == 1


def test_a_run_is_asked_about_what_it_was_not_trained_on(finished_run, cli, tmp_path):
    run = finished_run[0]
    root = json.loads((run / "config.json").read_text())["data"]["root"]
    page = tmp_path / "page.html"
    code, out, error = cli("ctd_jax.check", root, f"--workdir={run}", f"--report={page}")
    assert code in (0, 1) and error == "" and out.endswith(f"{page}\n")
    code, _, error = cli("ctd_jax.check", root, f"--workdir={tmp_path}", f"--report={page}")
    assert code == 2 and str(tmp_path) in error


def test_what_a_real_network_contradicts_and_what_is_unlike_its_training(finished_run, tmp_path):
    """The labels of eight pictures that the run was not trained on are what it says itself, but for half a pixel to
    either side, and a chin that is 25 px off; the last of the pictures is one of squares."""
    run = finished_run[0]
    trained = {row[0] for row in splits.read(run / "split.csv") if row[2] == "train"}
    root = shutil.copytree(json.loads((run / "config.json").read_text())["data"]["root"], tmp_path / "faces")
    images = [row["image"] for row in landmark_rows.read(root)]
    rows = [i for i, image in enumerate(images) if image not in trained]
    squares = np.kron(np.random.default_rng(0).integers(0, 2, (6, 6), np.uint8) * 255, np.ones((8, 8), np.uint8))
    Image.fromarray(squares).save(root / images[rows[-1]])
    found = Predictor(run)([root / images[row] for row in rows])
    xy = found.xy + np.random.default_rng(0).choice([-0.5, 0.5], found.xy.shape)
    chin = found.names.index("chin")
    xy[2, chin, 0] += 25 if xy[2, chin, 0] < 22 else -25
    columns = [f"{name}_{axis}" for name in found.names for axis in "xy"]
    of_row = [dict(zip(columns, map(str, points.ravel().clip(0, 47)), strict=True)) for points in xy]
    landmark_rows.change(root, dict(zip(rows, of_row, strict=True)))
    named = {one.title: one for one in inspection.inspect(root, run).findings}
    (label,) = named[contradicted.LABELS].items
    assert label.rows == (rows[2],) and label.text.startswith("chin lies 2") and label.images[0][1] == images[rows[2]]
    unlike = {item.rows[0]: float(item.text.split()[1][:-1]) for item in named[contradicted.UNLIKE].items}
    scores = dict(zip(rows, found.unlike, strict=True))
    assert unlike == {row: pytest.approx(score, abs=0.01) for row, score in scores.items() if score > 1}
    assert max(unlike, key=unlike.get) == rows[-1]
