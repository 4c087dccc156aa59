"""landmarker's driver with a worker that finds bright dots instead of training; and landmarker's own conventions, where
`LANDMARKER_PYTHON` names an interpreter that has it."""

import csv
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from configs import default
from ctd_jax import data
from ctd_jax.errors import UserError
from experiments import landmarker, recipe

DOTS = ("bright", "dim")  # landmarks: the pixel of 255, and that of 200
SPLITS = ("train",) * 4 + ("val",) * 2 + ("test1",) * 2 + ("test2",) * 2
# Finds both dots, and is (3, 4) pixels wrong at 32 pixels and rate 1e-6, twice that at half of either.
WORKER = """
import json, pathlib, sys
import numpy as np
folder = pathlib.Path(sys.argv[1])
job = json.loads((folder / "job.json").read_text())
found = {}
for name in job["splits"]:
    with np.load(folder / f"{name}.npz") as file:
        assert name == "val" or not file["xy"].any(), "the truth of a test split"
        points = []
        for i in range(len(file["xy"])):
            picture = file[f"picture{i}"]
            first = picture if picture.ndim == 2 else picture[..., 0]
            rows, columns = zip(*(np.argwhere(first == value)[0] for value in (255, 200)))
            points.append(np.stack([columns, rows], axis=-1))
        found[name] = np.array(points) + np.array([3, 4]) * 32 / job["size"] * 1e-6 / job["rate"]
with np.load(folder / "train.npz") as file:
    seen = {"xy": file["xy"].tolist(), "spacing": file["spacing"].tolist(), "shape": file["picture0"].shape}
np.savez(folder / "predictions.npz", **found)
result = {"steps": 7, "minutes": job["minutes"], "val_error": 1.5, "n_params": 9, "versions": {}}
(folder / "training.json").write_text(json.dumps(result | {"seen": seen}))
"""


def write_dots(root, *, colour=False, empty=()):
    """A landmark folder of grey noise with two dots in each picture; `empty`: rows without the dim one."""
    random = np.random.default_rng(5)
    (root / "images").mkdir(parents=True)
    columns = ["image", "subject", "split", "spacing_x_mm", "spacing_y_mm", "bright_x", "bright_y", "dim_x", "dim_y"]
    rows = []
    for i, split in enumerate(SPLITS):
        places = random.choice(20 * 30, 2, replace=False)
        (y, x), (v, u) = (divmod(int(place), 20) for place in places)
        picture = random.integers(0, 150, (30, 20, 3) if colour else (30, 20)).astype(np.uint8)
        picture[y, x], picture[v, u] = 255, 200
        Image.fromarray(picture).save(root / "images" / f"{i}.png")
        dim = ("", "") if i in empty else (u, v)
        rows.append([f"images/{i}.png", f"s{i}", split, 0.5, 0.25, x, y, *dim])
    with (root / "landmarks.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    about = {"name": root.name, "landmarks": DOTS, "flip_pairs": None, "normalizer": None}
    (root / "dataset.json").write_text(json.dumps(about))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the driver on the folder `dots`, with the worker above."""
    (tmp_path / "worker.py").write_text(WORKER)
    monkeypatch.setattr(landmarker, "WORKER", tmp_path / "worker.py")
    monkeypatch.setattr(landmarker, "HERE", tmp_path)
    monkeypatch.setitem(recipe.DATA, "dots", "dots")

    def call(*arguments, python=sys.executable):
        flags = [f"--python={python}", f"--folder={tmp_path}", "--data=dots", "--minutes=0.5", *arguments]
        monkeypatch.setattr(sys, "argv", ["landmarker", f"--runs={tmp_path / 'runs'}", *flags])
        landmarker.main()
        return json.loads((tmp_path / "landmarker.json").read_text())["dots"]

    return call


def lines(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_points_go_out_and_come_back_in_pixels_of_the_picture(run, tmp_path):
    """Dots that are found, moved by (3, 4) px: 5 px, or (1.5, 1) mm at 0.5 x 0.25 mm a pixel."""
    write_dots(tmp_path / "dots")
    (tmp_path / "landmarker.json").write_text('{"others": {}}')
    result = run("--labels=2,all", "--seeds=0,1", "--sizes=32")
    assert list(json.loads((tmp_path / "landmarker.json").read_text())) == ["others", "dots"]
    assert result["2"]["test"]["levels"]["me_px"]["mean"] == pytest.approx(5, abs=1e-3)
    assert result["all"]["test2"]["levels"]["me_mm"]["mean"] == pytest.approx(np.hypot(1.5, 1), abs=1e-3)
    table = lines(tmp_path / "landmarker.csv")
    assert [(line["labels"], line["n_train"], line["seed"]) for line in table] == [
        ("2", "2", "0"), ("2", "2", "1"), ("all", "4", "0"), ("all", "4", "1"),
    ]  # fmt: skip
    assert {(line["steps"], line["minutes"], line["val_error"], line["measure"]) for line in table} == {
        ("7", "0.5", "1.5", "me_mm")
    }
    assert float(table[0]["me_mm_test1"]) == pytest.approx(np.hypot(1.5, 1), abs=1e-3)


@pytest.mark.parametrize("colour, shape", [(False, [30, 20]), (True, [30, 20, 3])])
def test_the_worker_gets_the_labelled_pictures_of_our_own_runs(run, tmp_path, colour, shape):
    write_dots(tmp_path / "dots", colour=colour)
    run("--labels=2", "--seeds=1", "--sizes=32")
    workdir = tmp_path / "runs" / "dots" / "2-test-seed1-32px-rate1e-06-0.5min"
    seen = json.loads((workdir / "training.json").read_text())["seen"]
    config = recipe.set_data(default.get_config(), tmp_path, "dots", 2, 1)
    source = data.load(config.data, tmp_path / "ours")
    assert seen["xy"] == source.split("train").targets.xy.tolist()
    assert seen["spacing"] == [[0.5, 0.25]] * 2 and seen["shape"] == shape
    assert not list(workdir.glob("t*.npz")), "copies of the pictures are left"


@pytest.mark.slow
def test_val_chooses_size_and_rate(run, tmp_path):
    write_dots(tmp_path / "dots")
    result = run("--labels=2,all", "--seeds=0", "--sizes=16,32", "--rates=1e-6,5e-7")
    assert {name: (row["size"], row["rate"]) for name, row in result.items()} == {"2": (32, 1e-6), "all": (32, 1e-6)}
    found = [(line["split"], line["size"], line["rate"], line["seed"]) for line in lines(tmp_path / "landmarker.csv")]
    assert found == [
        *(("val", size, rate, "1000") for size in ("16", "32") for rate in ("1e-06", "5e-07")),
        *[("test", "32", "1e-06", "0")] * 2,
    ]


@pytest.mark.slow
def test_a_finished_run_is_not_repeated_and_lines_of_other_calls_stay(run, tmp_path):
    write_dots(tmp_path / "dots")
    run("--labels=2", "--seeds=0", "--sizes=32")
    run("--labels=all", "--seeds=0", "--sizes=32")
    before = (tmp_path / "landmarker.csv").read_bytes()
    (tmp_path / "worker.py").write_text("raise SystemExit(1)")
    result = run("--labels=2,all", "--seeds=0", "--sizes=32")
    assert (tmp_path / "landmarker.csv").read_bytes() == before
    assert len(lines(tmp_path / "landmarker.csv")) == 2 and set(result) == {"2", "all"}


@pytest.mark.slow
def test_the_difference_from_ours_is_paired(run, tmp_path, capsys):
    """Ours are 10 px wrong, landmarker 5, at the same pictures."""
    write_dots(tmp_path / "dots")
    run("--labels=2", "--seeds=0", "--sizes=16")
    line = {"data": "dots", "labels": "2", "row": "recipe", "split": "test", "seed": 0, "minutes": 0.5}
    line["run"] = "dots/2-test-seed0-16px-rate1e-06-0.5min"
    (tmp_path / "recipe.csv").write_text(f"{','.join(line)}\n{','.join(map(str, line.values()))}\n")
    flags = ("--labels=2", "--seeds=0", "--sizes=32", f"--ours={tmp_path / 'runs'}")
    less = run(*flags)["2"]["test"]["minus_recipe"]["me_px"]
    assert less["difference"] == pytest.approx(-5, abs=1e-3) and less["p"] < 0.05
    assert "minus recipe" in capsys.readouterr().out
    assert "minus_recipe" not in run(*flags, "--minutes=0.6")["2"]["test"]
    assert "recipe.csv has no recipe of 0.6 minutes and seed 0" in capsys.readouterr().err
    both = [line | {"steps": 7}, line | {"steps": 8, "run": "dots/other"}]
    rows = [",".join(map(str, one.values())) for one in both]
    (tmp_path / "recipe.csv").write_text("\n".join([",".join(both[0]), *rows, ""]))
    with pytest.raises(UserError, match="two such runs of seed 0, .* and .*other; choose by --steps"):
        run(*flags)
    assert run(*flags, "--steps=7")["2"]["ours"] == ["2-test-seed0-16px-rate1e-06-0.5min"]


def fails(run, *arguments, **others):
    with pytest.raises(UserError) as stop:
        run("--labels=2", "--seeds=0", "--sizes=32", *arguments, **others)
    return str(stop.value)


def test_a_landmark_without_its_place_is_said(run, tmp_path):
    write_dots(tmp_path / "dots", empty=(4,))
    assert "1 pictures of val have a landmark without its place" in fails(run)


def test_an_unknown_name_is_said_before_the_first_run(run, tmp_path):
    write_dots(tmp_path / "dots")
    assert "--data: 'dotz'; expected some of" in fails(run, "--data=dots,dotz")
    assert not (tmp_path / "runs").exists()


def test_what_the_worker_said_last_is_said(run, tmp_path):
    write_dots(tmp_path / "dots")
    (tmp_path / "worker.py").write_text("raise SystemExit('no module named landmarker')")
    message = fails(run)
    assert "ended with 1 (no module named landmarker)" in message and "worker.log" in message


def test_a_point_that_is_no_number_is_no_result(run, tmp_path):
    write_dots(tmp_path / "dots")
    worker = WORKER.replace("np.savez(", "found['test1'][0, 0] = np.nan\nnp.savez(")
    (tmp_path / "worker.py").write_text(worker)
    assert "1 points of test1 are no numbers" in fails(run)
    assert not (tmp_path / "landmarker.csv").exists()


# ---------------------------------------------------------------- landmarker itself

CONVENTIONS = """
import importlib.util, json, sys
import numpy as np
import torch
from monai.transforms import Compose, ScaleIntensityd
spec = importlib.util.spec_from_file_location("worker", sys.argv[1])
worker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(worker)
random = np.random.default_rng(0)

def blob(height, width, x, y, sigma):
    rows, columns = np.mgrid[:height, :width]
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))

def centroid(picture):
    picture = np.asarray(picture, np.float64)
    rows, columns = np.indices(picture.shape)
    return np.array([(picture * rows).sum(), (picture * columns).sum()]) / picture.sum()

xy = random.uniform(20, 40, (30, 1, 2))
maps = torch.tensor(np.array([[blob(64, 64, x, y, 3)] for (x, y), in xy])) * 100 / (2 * np.pi * 9)
decoded = worker.decode(maps).numpy()[..., ::-1] - xy
generated = worker.Training(1, 1, 64, 1e-6).generator(torch.tensor(xy[..., ::-1].copy()).float()).detach().numpy()

places = random.uniform(15, 25, (30, 1, 2)).astype(np.float32)
pictures = {f"picture{i}": (255 * blob(50, 40, x, y, 2)).round().astype(np.uint8) for i, ((x, y),) in enumerate(places)}
np.savez(sys.argv[2], xy=places, spacing=np.ones((30, 2)), **pictures)
still = worker.dataset(sys.argv[2], 64, Compose([ScaleIntensityd(("image",))]))
moved = worker.dataset(sys.argv[2], 64, Compose([ScaleIntensityd(("image",)), worker.augmentation(64).transforms[-1]]))
back, seen, follows = [], [], []
for i in range(30):
    (batch,) = [{key: value[None] for key, value in still[i].items()}]
    back.append(worker.original_xy(batch["landmark"], batch, 64)[0] - places[i])
    seen.append(centroid(batch["image"][0, 0]) - batch["landmark"][0, 0].numpy())
    one = moved[i]
    follows.append(centroid(one["image"][0]) - one["landmark"][0].numpy())
print(json.dumps({
    "decoded": [np.abs(decoded).max(), *decoded.mean(axis=(0, 1))],
    "generated": np.abs(generated - maps.numpy()).max().item(),
    "back": np.abs(back).max().item(),
    "seen": np.array(seen).tolist(),
    "follows": np.array(follows).tolist(),
}))
"""


@pytest.fixture(scope="module")
def landmarker_python():
    python = os.environ.get("LANDMARKER_PYTHON")
    if not python:
        pytest.skip("LANDMARKER_PYTHON names no interpreter that has landmarker; see experiments/landmarker.py")
    return python


@pytest.fixture(scope="module")
def conventions(landmarker_python, tmp_path_factory):
    worker = pathlib.Path(landmarker.__file__).with_name("landmarker_worker.py")
    place = tmp_path_factory.mktemp("landmarker") / "dots.npz"
    command = [landmarker_python, "-I", "-c", CONVENTIONS, worker, place]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_landmarkers_maps_are_read_where_they_were_drawn(conventions):
    """A Gaussian whose middle is known: no shift of half a pixel, on either axis."""
    worst, *mean = conventions["decoded"]
    assert worst < 0.1 and np.abs(mean).max() < 0.02
    assert conventions["generated"] < 1e-4


def test_landmarkers_points_come_back_to_the_picture(conventions):
    assert conventions["back"] < 1e-3


def test_what_landmarker_resizes_lies_beside_its_label_by_one_constant(conventions):
    """50 x 40 -> 64 x 64 pixels, s = 1.28: a picture is resized about the corner of its first pixel, a label about the
    middle of it, (s - 1) / 2 = 0.14 away. So it is in the example, for all pictures alike: the network learns it."""
    np.testing.assert_allclose(conventions["seen"], 0.14, atol=0.03)


def test_landmarkers_labels_follow_its_augmentation(conventions):
    np.testing.assert_allclose(conventions["follows"], 0.14, atol=0.12)


def test_landmarker_trains(landmarker_python, run, tmp_path, monkeypatch):
    monkeypatch.setattr(landmarker, "WORKER", pathlib.Path(landmarker.__file__).with_name("landmarker_worker.py"))
    write_dots(tmp_path / "dots")
    result = run("--labels=2", "--seeds=0", "--sizes=32", "--minutes=0.02", python=landmarker_python)
    assert 0 < result["2"]["test"]["levels"]["me_px"]["mean"] < 36  # the diagonal
    (line,) = lines(tmp_path / "landmarker.csv")
    assert 0.02 <= float(line["minutes"]) < 0.1 and int(line["steps"]) >= 1


DIVERGES = """
import importlib.util, math, sys
import numpy as np
import torch
spec = importlib.util.spec_from_file_location("worker", sys.argv[1])
worker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(worker)
pictures = {f"picture{i}": np.eye(16) for i in range(150)}
np.savez(sys.argv[2], xy=np.ones((150, 1, 2)), spacing=np.ones((150, 2)), **pictures)

class Diverging(worker.Training):
    # After each of its epochs of 150 steps, the weights are their number.
    steps = 0

    def step(self, batch):
        self.steps += 1
        if self.steps == int(sys.argv[3]):
            raise torch.linalg.LinAlgError("singular")
        with torch.no_grad():
            for weights in self.model.parameters():
                weights.fill_(self.steps // 150)
        return 1.0

    def validate(self, pictures):
        return 1.0, [5.0, 4.0, math.nan][self.steps // 150 - 1]

training = Diverging(1, 1, 16, 1e-6)
result = worker.train(training, dict.fromkeys(("train", "val"), worker.dataset(sys.argv[2], 16, None)), 1e9, 0)
print(result["steps"], result["val_error"], next(training.model.parameters()).mean().item())
"""


@pytest.mark.parametrize("singular, said", [(0, "450 4.0 2.0"), (310, "300 4.0 2.0"), (200, "150 5.0 1.0")])
def test_a_training_that_diverges_ends_with_its_best_weights(landmarker_python, tmp_path, singular, said):
    """After an error on val that is no number, or at a step whose covariance has no inverse."""
    worker = pathlib.Path(landmarker.__file__).with_name("landmarker_worker.py")
    command = [landmarker_python, "-I", "-c", DIVERGES, worker, tmp_path / "dots.npz", str(singular)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == said
