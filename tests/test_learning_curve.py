"""Learning curves: which runs there are, that they continue after an interruption, and every number of the result. What
does not ask for a trained network is asked of runs that are not trained, see `untrained`."""

import collections
import contextlib
import csv
import importlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from PIL import Image

from ctd_jax import data, learning_curve, training_run
from ctd_jax.data import synthetic
from ctd_jax.errors import UserError
from ctd_jax.label_study import LabelStudy
from ctd_jax.training import checkpoint

pytestmark = pytest.mark.slow

REPO = pathlib.Path(__file__).parents[1]
GRID = '--config.grid=("train.encoder_lr=1e-3","train.encoder_lr=1e-2")'
CHOOSING = "1000"


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def of_split(run, split="train"):
    return {row["image"] for row in rows(run / "split.csv") if row["split"] == split}


@pytest.fixture(scope="module")
def arguments(teacher_file):
    return [*tiny.arguments(teacher_file), GRID]


WHOLE = ("--configs=ctd_ed,ft", "--budgets=all,2", "--seeds=2")


@pytest.fixture(scope="module")
def made():
    """The folders of the curves that were made."""
    return {}


@pytest.fixture
def curve(made, call, monkeypatch, tmp_path_factory):
    """The folder of a whole curve: two methods, 2 and all 8 labels, two seeds. Settings are chosen with 8 labels. The
    runs are not trained."""
    if "curve" not in made:
        out = tmp_path_factory.mktemp("curve")
        with monkeypatch.context() as patch:
            patch.setattr(training_run, "train_and_evaluate", training_run.train_and_evaluate)  # who imports replaces
            patch.setattr(training_run, "train_and_evaluate", importlib.import_module("untrained").train_and_evaluate)
            code, said, error = call(*WHOLE, f"--out={out}")
        assert code == 0, error
        (out / "stdout").write_text(said)
        (out / "stderr").write_text(error)
        made["curve"] = out
    return made["curve"]


@pytest.fixture(scope="module")
def faces(landmark_folder):
    return landmark_folder(name="curve_of_a_folder", size=48)


SMALL = ("--configs=ft", "--budgets=2", "--choose_at=all", "--seeds=1")


@pytest.fixture
def trained_curve(made, call, monkeypatch, tmp_path_factory, faces):
    """The folder of a curve of three runs, which are trained on a landmark folder: two settings with all labels, then
    the better one with 2."""
    if "trained" not in made:
        out = tmp_path_factory.mktemp("trained_curve")
        code, _, error = call(*SMALL, f"--out={out}", f"--config.data.root={faces}")
        assert code == 0, error
        made["trained"] = out
    return made["trained"]


@pytest.fixture
def call(cli, monkeypatch, arguments):
    monkeypatch.chdir(REPO)
    return lambda *more: cli("ctd_jax.learning_curve", *arguments, *more)


# ---------------------------------------------------------------- a whole curve


def test_curve_csv_has_a_line_for_each_run(curve):
    lines = rows(curve / "curve.csv")
    chosen, compared = lines[:4], lines[4:]
    assert [(line["method"], line["setting"], line["seed"]) for line in chosen] == [
        (method, f"train.encoder_lr={lr}", CHOOSING) for method in ("ctd_ed", "ft") for lr in ("1e-3", "1e-2")
    ]
    assert [(line["seed"], line["budget"], line["labels"], line["method"]) for line in compared] == [
        (seed, budget, labels, method)
        for seed in "01"
        for budget, labels in (("2", "2"), ("all", "8"))
        for method in ("ctd_ed", "ft")
    ]
    for line in lines:
        result = json.loads((curve / line["run"] / "metrics.json").read_text())
        assert line["split"] == result["split"] == ("val" if line["seed"] == CHOOSING else "test")
        assert float(line["error"]) == result[line["measure"]] == result["nme_left_eye_outer_right_eye_outer"]
        assert float(line["mean_shape"]) == result["mean_shape"][line["measure"]]
        assert line["config_hash"] == result["config_hash"] and float(line["me_px"]) == result["me_px"]
    assert len({line["run"] for line in lines}) == 12


def test_only_the_checkpoints_of_each_methods_best_run_on_val_are_kept(curve):
    compared = rows(curve / "curve.csv")[4:]
    best = {}
    for method in ("ctd_ed", "ft"):
        logs = {line["run"]: rows(curve / line["run"] / "log.csv") for line in compared if line["method"] == method}
        errors = {run: min(float(row["val_error"]) for row in log if row["val_error"]) for run, log in logs.items()}
        best[method] = min(errors, key=errors.get)
    kept = [str(folder.parent.relative_to(curve)) for folder in curve.glob("runs/*/*/checkpoints")]
    assert sorted(kept) == sorted(best.values())


def test_help_says_which_checkpoints_are_deleted(cli):
    code, out, _ = cli("ctd_jax.learning_curve", "--help")
    text = " ".join(out.split())
    assert code == 0 and "Checkpoints are deleted" in text
    assert "of all runs of a method but the one with the lowest error on val" in text


def test_choosing_never_reads_test(curve):
    for line in rows(curve / "curve.csv")[:4]:
        run = curve / line["run"]
        assert {row["image"] for row in rows(run / "predictions.csv")} == of_split(run, "val")
        assert len(of_split(run)) == 8


def test_the_best_setting_on_val_is_compared(curve):
    lines = rows(curve / "curve.csv")
    result = json.loads((curve / "curve.json").read_text())
    for method in ("ctd_ed", "ft"):
        tried = {float(line["error"]): line["setting"] for line in lines[:4] if line["method"] == method}
        assert len(tried) == 2
        assert {line["setting"] for line in lines[4:] if line["method"] == method} == {tried[min(tried)]}
        assert result["methods"][method]["setting"] == tried[min(tried)]
    assert result["chosen_at"] == "all"


def test_all_methods_of_a_seed_learn_from_the_same_pictures_fewer_are_a_subset(curve):
    pictures = collections.defaultdict(list)
    for line in rows(curve / "curve.csv")[4:]:
        pictures[line["seed"], line["budget"]].append(of_split(curve / line["run"]))
    assert all(one == other for one, other in pictures.values())
    for seed in "01":
        assert pictures[seed, "2"][0] < pictures[seed, "all"][0]
    assert pictures["0", "2"][0] != pictures["1", "2"][0]


def test_curve_json_is_what_the_predictions_say(curve):
    """NME by hand: a picture's mean distance over that of the true eyes; then the mean over pictures and seeds."""
    result, lines = json.loads((curve / "curve.json").read_text()), rows(curve / "curve.csv")[4:]
    assert (result["measure"], result["unit"], result["scale"]) == ("nme_left_eye_outer_right_eye_outer", "%", 100)
    assert (result["reference"], result["split"], result["n_images"]) == ("ft", "test", 4)

    def nme(run):
        points = collections.defaultdict(dict)
        for row in rows(curve / run / "predictions.csv"):
            points[row["image"]][row["landmark"]] = [float(row[key]) for key in ("x", "y", "true_x", "true_y")]
        errors = {}
        for image, of in points.items():
            x, y, true_x, true_y = np.array([of[name] for name in synthetic.LANDMARKS]).T
            left, right = (list(of).index(f"{side}_eye_outer") for side in ("left", "right"))
            eyes = np.hypot(true_x[left] - true_x[right], true_y[left] - true_y[right])
            errors[image] = np.hypot(x - true_x, y - true_y).mean() / eyes
        return errors

    errors = {(line["method"], line["labels"], line["seed"]): nme(line["run"]) for line in lines}
    for method in ("ctd_ed", "ft"):
        for labels in ("2", "8"):
            point = result["methods"][method]["budgets"][labels]
            seeds = {seed: np.mean(list(errors[method, labels, seed].values())) for seed in "01"}
            assert point["seeds"] == pytest.approx(seeds, rel=1e-4)
            assert point["error"] == pytest.approx(np.mean(list(seeds.values())), rel=1e-4)
            assert point["ci95"][0] <= point["error"] <= point["ci95"][1]
            ft = np.mean([list(errors["ft", labels, seed].values()) for seed in "01"])
            if method != "ft":
                against = point["minus_reference"]
                assert against["difference"] == pytest.approx(point["error"] - ft, abs=2e-5)  # three decimals
                assert against["ci95"][0] <= against["difference"] <= against["ci95"][1]
                assert 0 < against["p"] <= 1
            else:
                assert "minus_reference" not in point


def test_what_the_command_says_and_draws(curve):
    out, error = (curve / "stdout").read_text(), (curve / "stderr").read_text()
    scaled = json.loads((curve / "curve.json").read_text())["methods"]["ft"]["budgets"]["8"]["error"] * 100
    table = [line.split() for line in out.splitlines()]
    assert ["labels", "2", "8"] in table and ["p:", "paired,", "over"] in [words[:3] for words in table]
    assert next(words for words in table if words[:1] == ["ft"])[2] == f"{scaled:.2f}"
    assert [line for line in error.splitlines() if line.startswith("run ")][11].startswith("run 12 of 12: ft ")
    assert "Traceback" not in error
    Image.open(curve / "curve.png").verify()


def test_a_finished_curve_says_that_its_data_have_changed(curve, call, tmp_path):
    """Once, though all of its runs are older than that."""
    out = shutil.copytree(curve, tmp_path / "curve")
    for path in out.glob("runs/*/*/config.json"):
        content = json.loads(path.read_text())
        content["contents"]["data.root"] = "0" * 16
        path.write_text(json.dumps(content))
    code, _, error = call("--configs=ctd_ed,ft", "--budgets=2,all", "--seeds=2", f"--out={out}")
    assert code == 0 and error.count("files were changed, added or removed since") == 1


def test_a_finished_curve_is_not_repeated(curve, call, monkeypatch):
    def never(*_):
        raise AssertionError("a finished run was repeated")

    before = {name: (curve / name).read_bytes() for name in ("curve.csv", "curve.json", "stdout")}
    monkeypatch.setattr(training_run, "train_and_evaluate", never)
    code, out, error = call("--configs=ctd_ed,ft", "--budgets=2,all", "--seeds=2", f"--out={curve}")
    assert code == 0, error
    assert {name: (curve / name).read_bytes() for name in ("curve.csv", "curve.json")} | {
        "stdout": out.encode()
    } == before


def test_workers_make_the_same_curve(curve, arguments, tmp_path):
    command = [sys.executable, REPO / "tests" / "untrained.py", *WHOLE, "--cluster=local:2", f"--out={tmp_path}"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(REPO), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([*command, *arguments], cwd=REPO, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert {file: (tmp_path / file).read_bytes() for file in ("curve.csv", "curve.json")} == {
        file: (curve / file).read_bytes() for file in ("curve.csv", "curve.json")
    }
    ours, theirs = ([line for line in error.splitlines() if line.startswith("run ")]
                    for error in (done.stderr, (curve / "stderr").read_text()))  # fmt: skip
    assert [line.partition("; about")[0] for line in ours] == [line.partition("; about")[0] for line in theirs]


# ---------------------------------------------------------------- with training


def test_the_runs_of_a_folder_share_one_copy_of_its_pictures(trained_curve):
    assert (trained_curve / "tfds").is_dir()
    assert not list(trained_curve.glob("runs/**/tfds"))


def test_a_trained_curve_is_what_its_runs_say(trained_curve):
    chosen, (compared,) = rows(trained_curve / "curve.csv")[:2], rows(trained_curve / "curve.csv")[2:]
    assert compared["setting"] == min(chosen, key=lambda line: float(line["error"]))["setting"]
    assert (compared["split"], compared["labels"]) == ("test", "2")
    point = json.loads((trained_curve / "curve.json").read_text())["methods"]["ft"]["budgets"]["2"]
    assert point["seeds"] == {"0": float(compared["error"])}


def test_the_run_that_is_kept_can_be_used(trained_curve):
    (checkpoints,) = trained_curve.glob("runs/*/*/checkpoints")
    assert str(checkpoints.parent.relative_to(trained_curve)) == rows(trained_curve / "curve.csv")[2]["run"]
    assert "params" in checkpoint.best(checkpoints.parent)[0]


# ---------------------------------------------------------------- interrupted


def test_an_interrupted_curve_continues_to_the_same_end(trained_curve, call, monkeypatch, tmp_path, faces):
    """Stopped in the middle of the third run, after its first checkpoint."""
    flags = (*SMALL, f"--out={tmp_path}", f"--config.data.root={faces}")
    save, saved = checkpoint.save, []

    def save_then_stop(checkpoints, step, *rest):
        save(checkpoints, step, *rest)
        saved.append(step)
        if len(saved) == 5:
            checkpoints.wait_until_finished()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save_then_stop)
        code, _, error = call(*flags)
    assert (code, saved) == (1, [2, 4, 2, 4, 2])
    assert "continues" in error and not (tmp_path / "curve.json").exists()

    trained, real = [], training_run.train_and_evaluate
    monkeypatch.setattr(
        training_run, "train_and_evaluate", lambda config, run, *cache: trained.append(run) or real(config, run, *cache)
    )
    code, _, error = call(*flags)
    assert code == 0, error
    assert [run.name.rpartition("-")[0] for run in trained] == ["2-seed0"]
    assert "from step 2 of 4" in error

    ours, whole = (
        [line | {"seconds": ""} for line in rows(folder / "curve.csv")] for folder in (tmp_path, trained_curve)
    )
    assert len(ours) == 3 and ours == whole
    ours, whole = (json.loads((folder / "curve.json").read_text()) for folder in (tmp_path, trained_curve))
    assert ours == whole


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (["--configs=ft", "--config.seed=4"], ["--config.seed: --seeds=N trains with the seeds 0 to N - 1"]),
        (["--configs=ft", "--config.data.budget=4"], ["--config.data.budget: --budgets=N,N,... gives the numbers"]),
        (["--configs=ft", "--config.data.budget_seed=4"], ["--config.data.budget_seed: it is the seed of each run"]),
        (["--configs=ft", "--budgets=0"], ["'0'; expected a number of pictures, or all"]),
        (["--configs=ft", "--budgets="], ["--budgets is empty; expected numbers of labelled pictures, or all"]),
        (["--configs="], ["--configs is empty; expected names of configurations"]),
        (["--configs=ft", "--budgets=ten"], ["'ten'; expected a number"]),
        (["--configs=ft", "--choose_at=-1"], ["'-1'; expected a number"]),
        (["--configs=ft", "--seeds=0"], ["--seeds is 0"]),
        (["--configs=ft", "--reference=hg"], ["--reference is hg", "one of --configs: ft"]),
        (["--configs=ctd_de"], ["no such ctd_de", "ctd_cd", "fe, "]),
        (["--configs=source"], ["source finds no landmarks"]),
        (["--configs=ft,configs/ft.py:paper"], ["are both named ft"]),
        ([], ["--configs is missing"]),
        (["--configs=ft", "--config.train.stps=1"], ["no such key", "train.steps"]),
        (["--configs=ft", "--config.train.steps=many"], ["--config.train.steps=many: expected a whole number"]),
        (["--configs=ft", "--budgets=2,9"], ["ft: data.budget asks for 9", "there are 8"]),
        (["--configs=ft", "--budgets=2", "--choose_at=9"], ["ft: data.budget asks for 9", "there are 8"]),
        (["--configs=ft", "--budgets=2,8,all"], ["--budgets has 8 and all", "leave one out"]),
        (["--configs=ft", "--budgets=2,all", "--config.data.share=0.5"], ["ft: data.share is 0.5 and data.budget 2"]),
        (["--configs=ft", '--config.grid=("train.encoder_lr=2","train.lr=1")'], ["train.lr: no such key"]),
        (["--configs=ft", '--config.grid=("train.steps=2","seed=3")'], ["the grid of ft has seed: --seeds=N trains"]),
        (["--configs=ft", '--config.grid=("eval.split=val",)'], ["the grid of ft has eval.split: settings are chosen"]),
        (["--configs=ft", '--config.grid=("data.seed=1",)'], ["the grid of ft has data.seed: all settings have the"]),
        (["--configs=ft", "--config.name=../ft"], ["ft has name '../ft'; expected one that a folder can have"]),
        (["--configs=ft", "--config.name=.."], ["ft has name '..'"]),
        (["--configs=ft", "--config.name="], ["ft has name ''"]),
        (
            ["--configs=ft,ctd_ed", "--config.constraints.ed.weight=1e-3"],
            ["ctd_ed: but for its name it is the same as ft"],
        ),
        (["--configs=ft", "--config.grid=()", "--config.train.batch_size=6"], ["ft: train.batch_size is 6"]),
    ],
)
def test_mistakes(call, tmp_path, more, parts):
    code, _, error = call(f"--out={tmp_path}", *more)
    assert code == 2, error
    assert error.startswith("error: ") and error.count("error: ") == 1
    assert "Traceback" not in error
    assert all(part in error for part in parts), error
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def prepared(monkeypatch):
    """The splits and points of the pictures of each configuration, where they are not these."""
    others = {}

    def prepare(config, _):
        split_of, xy = others.get(config.name, (["train"] * 8 + ["val", "test"], np.zeros((10, 1, 2))))
        known, images = data.Points(data.Landmarks(("chin",)), xy), [f"{i}.png" for i in range(len(xy))]
        dataset = data.Dataset.of(config.data, known, images=images, subjects=images, original=None)
        return SimpleNamespace(pictures=data.SplitPictures(dataset, split_of, ())), None

    monkeypatch.setattr(training_run, "prepare", prepare)
    return others


@pytest.mark.parametrize(
    ("splits", "moved", "message"),
    [
        (["train"] * 8 + ["val", "test"], 7, None),  # a training picture may have other labels
        (["train"] * 8 + ["val", "test"], 9, "fe and ft were measured against other annotations"),
        (["train"] * 8 + ["val", "val"], 7, r"fe and ft have other pictures: 9 in .*first: '9.png of test'"),
        (["train"] * 7 + ["unused", "val", "test"], 7, r"1 only in ft \(first: '7.png of train'\)"),
    ],
)
def test_methods_with_other_pictures_are_refused_before_the_first_run(prepared, tmp_path, splits, moved, message):
    xy = np.zeros((10, 1, 2))
    xy[moved] = 5
    prepared["fe"] = splits, xy
    study = LabelStudy({"ft": "ft", "fe": "fe"}, [], tmp_path)
    with pytest.raises(UserError, match=message) if message else contextlib.nullcontext():
        study.check({"ft": ("",), "fe": ("",)}, [0], 0)


def test_methods_that_only_their_grids_tell_apart_are_two(prepared, tmp_path):
    study = LabelStudy({"ft": "ft", "too": "ft"}, [], tmp_path)
    grids = {"ft": ("train.encoder_lr=1e-3", "train.encoder_lr=3e-3")}
    study.check(grids | {"too": ("constraints.ed.weight=1e-3", "constraints.ed.weight=1e-2")}, [0], 0)
    with pytest.raises(UserError, match="too: but for its name it is the same as ft"):
        study.check(grids | {"too": grids["ft"]}, [0], 0)


def test_a_key_that_a_grid_has_too_is_warned_of(monkeypatch, caplog):
    monkeypatch.setattr(learning_curve, "_overrides", ["train.encoder_lr=1e-2", "train.steps=4"])
    learning_curve._check_grids({"ft": ("train.encoder_lr=1e-3", "train.encoder_lr=3e-3"), "fe": ("a=1", "a=2")})
    (said,) = caplog.messages
    assert "the grid of ft has train.encoder_lr, so that --config.train.encoder_lr does not hold for it" in said


def test_settings_may_be_chosen_with_all_labels_beside_a_budget_of_as_many(prepared, tmp_path):
    """Only --budgets may not have the same pictures twice: choosing and comparing are runs apart."""
    study = LabelStudy({"ft": "ft"}, [], tmp_path)
    study.check({"ft": ("",)}, [2, 8], 0)
    with pytest.raises(UserError, match="--budgets has 8 and all"):
        study.check({"ft": ("",)}, [8, 0], 8)


def test_methods_with_grids_of_unequal_sizes_are_refused(cli, tmp_path, monkeypatch, teacher_file):
    monkeypatch.chdir(REPO)
    (tmp_path / "mine.py").write_text(
        "from configs import ft\n\n\ndef get_config(variant='demo'):\n    config = ft.get_config(variant)\n"
        "    config.name, config.grid = 'mine', config.grid[:2]\n    return config\n"
    )
    flags = [f"--configs=ft,{tmp_path / 'mine.py'}", f"--out={tmp_path / 'out'}", *tiny.arguments(teacher_file)]
    code, _, error = cli("ctd_jax.learning_curve", *flags)
    assert code == 2
    assert "ft 3, mine 2" in error and "--config.grid=()" in error
    assert not (tmp_path / "out").exists()
