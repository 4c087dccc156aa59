"""The evidence of the recipe with a trainer that only writes what a run leaves behind; and one slice that is
trained."""

import csv
import json
import sys

import numpy as np
import pytest
import tiny

from ctd_jax import lock, metrics, training_run
from ctd_jax.config import config_hash, load_config
from ctd_jax.data import splits
from ctd_jax.errors import UserError
from experiments import recipe

pytestmark = pytest.mark.slow

LANDMARKS = ("a", "b")
PARTS = {"shift": ["augment.shift=0"], "mirror": ["augment.flip=0", "augment.scale=0"]}
# The recipe of these tests: two rates to choose from.
RECIPE = """
from configs import default

def get_config(variant="demo"):
    config = default.get_config(variant)
    config.name = "toy"
    config.grid = ("train.decoder_lr=0.01", "train.decoder_lr=0.02")
    return config
"""


def seconds_of_a_step(config):
    return 0.25 if config.name == "toy" else 0.5


def log_of(config):
    """Ten steps of 7 s, as the first ones may be, then all others, at 16 pictures/s; and a look at val."""
    last, after = config.train.steps, seconds_of_a_step(config)
    return f"step,val_error,images_per_s,processor_seconds\n10,,2,7\n{last},,16,{after}\n{last},1.5,,\n"


def error_of(config):
    """Pixels. The best settings are FT's middle rate, DELTA's largest weight, the recipe's second rate."""
    if config.name == "toy":
        return {0.01: 2.0, 0.02: 1.0}.get(config.train.decoder_lr, 9.0) + 0.5 * (config.augment.shift == 0)
    if config.name == "delta":
        return 3.0 + (config.constraints.delta.weight < 1e-4) + 10 * (config.train.encoder_lr != 1e-3)
    return {3e-4: 6.0, 1e-3: 4.0, 3e-3: 5.0}[config.train.encoder_lr]


@pytest.fixture
def trained(monkeypatch):
    """Folders that were trained in, in their order, and their configurations."""
    found = {}

    def train_and_evaluate(config, workdir, cache):
        if workdir.name != "timing":
            found[f"{workdir.parent.name}/{workdir.name}"] = config
        workdir.mkdir(parents=True)
        true_xy = np.tile([[10.0, 10.0], [50.0, 10.0]], (6, 1, 1))
        images, subjects = [f"{i}.png" for i in range(6)], [f"s{i}" for i in range(6)]
        split_of = ["test1", "test2"] * 3 if config.eval.split == "test" else ["val"] * 6
        xy = true_xy + [error_of(config), 0.0]
        table = metrics.Predictions.from_points(images, subjects, LANDMARKS, xy, true_xy=true_xy)
        metrics.write_predictions(workdir / "predictions.csv", table)
        settings = {"thresholds": config.eval.threshold.to_dict(), "normalizer": None, "radii_mm": ()}
        result = {"split": config.eval.split} | metrics.summarize(table, **settings)
        result |= {"normalizer": None, "n_train": config.data.budget or 99, "config_hash": "0" * 12, "seconds": 60.0}
        rows = list(zip(images, subjects, split_of, ["0"] * 6, strict=True))
        (workdir / "split.csv").write_text(splits.text(rows))
        (workdir / "config.json").write_text(json.dumps(config.to_dict()))
        (workdir / "metrics.json").write_text(json.dumps(result))
        (workdir / "log.csv").write_text(log_of(config))
        (workdir / "checkpoints").mkdir()
        (workdir / "report.html").write_text("")
        return result

    monkeypatch.setattr(training_run, "train_and_evaluate", train_and_evaluate)
    return found


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the driver with the recipe and the parts above, on two seeds; returns what it writes."""
    (tmp_path / "toy.py").write_text(RECIPE)
    (tmp_path / "parts.json").write_text(json.dumps(PARTS))
    monkeypatch.setattr(recipe, "HERE", tmp_path)

    def call(*arguments):
        flags = [f"--recipe={tmp_path / 'toy.py'}", f"--parts={tmp_path / 'parts.json'}", f"--runs={tmp_path / 'runs'}"]
        flags += ["--folder=pictures", "--teacher=t.safetensors", "--seeds=0,1", "--minutes=1", *arguments]
        monkeypatch.setattr(sys, "argv", ["recipe", *flags])
        recipe.main()
        table = "recipe_val.json" if "--split=val" in arguments else "recipe.json"
        return json.loads((tmp_path / table).read_text())["data"]

    return call


def lines(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_row_is_trained_at_its_best_on_val_with_every_seed(run, trained, tmp_path):
    result = run("--data=faces_fgnet", "--labels=5,all")["faces_fgnet"]
    rows = ["ft", "delta", "recipe", "less:shift", "less:mirror"]
    assert list(result) == ["5", "all"] and list(result["5"]) == rows
    assert [result["5"][row]["setting"] for row in rows] == [
        "train.encoder_lr=0.001",
        "train.encoder_lr=0.001 constraints.delta.weight=0.0001",
        *["train.decoder_lr=0.02"] * 3,
    ]
    tried = [config for config in trained.values() if config.eval.split == "val"]
    assert len(tried) == 3 + 3 + 2 and {(one.seed, one.data.budget) for one in tried} == {(1000, 25)}
    compared = [config for config in trained.values() if config.eval.split == "test"]
    assert sorted((one.seed, one.data.budget_seed, one.data.budget) for one in compared) == sorted(
        [(seed, seed, labels) for seed in (0, 1) for labels in (5, 0)] * 5
    )
    assert {one.data.root for one in compared} == {"pictures/faces_fgnet"}
    assert len(lines(tmp_path / "recipe.csv")) == 8 + 20


def test_the_table_has_paired_differences(run, trained):
    table = run("--data=faces_fgnet", "--labels=5")["faces_fgnet"]["5"]
    assert {row: table[row]["of_seeds"] for row in table} == {
        "ft": [4, 4], "delta": [3, 3], "recipe": [1, 1], "less:shift": [1.5, 1.5], "less:mirror": [1, 1],
    }  # fmt: skip
    for split in ("test", "test1", "test2"):
        found = {(row, key): part["me_px"]["difference"] for row in table for key, part in table[row][split].items()
                 if key.startswith("minus_")}  # fmt: skip
        assert found == {
            ("recipe", "minus_ft"): -3, ("recipe", "minus_delta"): -2,
            ("less:shift", "minus_recipe"): 0.5, ("less:mirror", "minus_recipe"): 0,
        }  # fmt: skip


def test_who_decides_between_rows_reads_val_alone(run, trained, tmp_path, capsys):
    run("--data=faces_fgnet", "--labels=5", "--rows=ft")
    before = (tmp_path / "recipe.csv").read_text(), (tmp_path / "recipe.json").read_text(), len(trained)
    table = run("--data=faces_fgnet", "--labels=5", "--rows=recipe,less:shift", "--split=val")["faces_fgnet"]["5"]
    assert {config.eval.split for config in list(trained.values())[before[2] :]} == {"val"}
    assert table["less:shift"]["val"]["minus_recipe"]["me_px"]["difference"] == 0.5
    assert "test" not in table["recipe"] and "minus recipe +0.5" in capsys.readouterr().out
    assert ((tmp_path / "recipe.csv").read_text(), (tmp_path / "recipe.json").read_text()) == before[:2]
    assert {line["split"] for line in lines(tmp_path / "recipe_val.csv")} == {"val"}


def test_rows_have_steps_for_the_same_minutes(run, trained, tmp_path):
    """A minute of two cores is 120 s of processor time: 240 steps of 0.5 s, or 480 of 0.25 s; the first ten do not
    count. The runs have ten of 7 s, and 230 of 0.5 s or 470 of 0.25 s."""
    run("--data=faces_fgnet", "--labels=5", "--rows=ft,recipe")
    assert {(config.name, config.train.steps, config.eval.every) for config in trained.values()} == {
        ("ft", 240, 30), ("toy", 480, 60),
    }  # fmt: skip
    table = lines(tmp_path / "recipe.csv")
    assert {line["minutes"] for line in table} == {"1.0"} and {line["teacher"] for line in table} == {"t.safetensors"}
    assert {line["image_size"] for line in table if line["row"] == "ft"} == {"112"}
    assert {(line["row"], float(line["processor_minutes"])) for line in table} == {
        ("ft", (70 + 115) / 120), ("recipe", (70 + 117.5) / 120),
    }  # fmt: skip
    known = json.loads((tmp_path / "runs" / "timing" / "seconds_per_step.json").read_text())
    assert sorted(known.values()) == [0.25, 0.5]


def test_who_knows_the_steps_does_not_wait_for_a_slice_that_times_others(run, trained, tmp_path):
    run("--data=faces_fgnet", "--labels=5", "--rows=ft")
    before = len(trained)
    with lock.held(tmp_path / "runs" / "timing"):
        run("--data=faces_fgnet", "--labels=5", "--rows=ft", "--seeds=7")
    assert len(trained) == before + 1


def test_rows_have_the_steps_that_were_given(run, trained, tmp_path):
    """In batches of 8: ten steps at 2 pictures/s, then 20 at 16."""
    run("--data=faces_fgnet", "--labels=5", "--rows=ft,recipe", "--steps=30")
    assert {(config.name, config.train.steps) for config in trained.values()} == {("ft", 30), ("toy", 30)}
    table = lines(tmp_path / "recipe.csv")
    assert {line["minutes"] for line in table} == {""} and not (tmp_path / "runs" / "timing").exists()
    assert {float(line["clock_minutes"]) for line in table if line["row"] == "ft"} == {(40 + 10) / 60}


def test_a_second_call_trains_nothing_and_a_slice_keeps_the_other_lines(run, trained, tmp_path):
    run("--data=faces_fgnet", "--labels=5", "--rows=ft")
    run("--data=ceph_isbi2015", "--labels=10", "--rows=recipe")
    number, table = len(trained), lines(tmp_path / "recipe.csv")
    assert len(table) == 3 + 2 + 2 + 2
    run("--data=faces_fgnet", "--labels=5", "--rows=ft")
    run("--data=ceph_isbi2015", "--labels=10", "--rows=recipe")
    assert len(trained) == number and lines(tmp_path / "recipe.csv") == table
    kept = {path.parent.name.split("-seed")[0] for path in (tmp_path / "runs").glob("*/*/checkpoints")}
    assert kept == {"10-recipe-test"}


def test_cephalograms_have_our_split_and_no_other_data_has(run, trained, tmp_path):
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "ceph_isbi2015.csv").write_text("")
    run("--data=ceph_isbi2015,faces_fgnet", "--labels=5", "--rows=ft", "--seeds=0")
    found = {(config.data.root, config.data.split, config.data.image_size) for config in trained.values()}
    split = str(tmp_path / "splits" / "ceph_isbi2015.csv")
    assert found == {("pictures/ceph_isbi2015", split, 128), ("pictures/faces_fgnet", "", 112)}


def test_flags_change_the_recipes_rows_or_todays_alone(run, trained):
    flags = ("--data=faces_fgnet", "--labels=5", "--rows=ft,delta,recipe,less:shift", "--set=teacher.weights=none")
    run(*flags, "--set=data.image_size=64", "--set_today=data.image_size=96")
    found = {(config.name, config.teacher.weights, config.data.image_size) for config in trained.values()}
    assert found == {("ft", "t.safetensors", 96), ("delta", "t.safetensors", 96), ("toy", "none", 64)}


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--rows=less:size",), "no such row less:size; expected some of ft, delta, recipe, less:shift, less:mirror"),
        (("--set=augment.shift=0",), "--parts: shift (augment.shift=0) is what the recipe has anyway"),
        (("--set=augment.shft=0",), "--config.augment.shft: no such key; the nearest is augment.shift"),
        (("--data=faces",), "--data: 'faces'; expected some of faces_fgnet, ceph_isbi2015, fetal_head_us"),
        (("--labels=5,many",), "--labels: 'many'; expected numbers of pictures or all"),
        (("--seeds=one",), "argument --seeds: invalid integers value: 'one'"),
        (("--parts=none.json",), "none.json: no such file; give another file with --parts"),
    ],
)
def test_what_is_wrong_is_said_before_the_first_run(run, trained, capsys, tmp_path, flags, message):
    with pytest.raises((UserError, SystemExit)) as stop:  # of the study, or of its flags
        run("--data=faces_fgnet", *flags)
    assert message in f"{stop.value}{capsys.readouterr().err}"
    assert not trained and not (tmp_path / "runs").exists()


def test_a_slice_that_is_trained(run, landmark_folder, teacher_file, tmp_path, monkeypatch):
    root = landmark_folder(name="drawn")
    monkeypatch.setitem(recipe.DATA, "drawn", "drawn")
    small = [f"--set={key}={value}" for key, value in tiny.KEYS.items() if not key.startswith("data.synthetic")]
    flags = ("--data=drawn", "--labels=4", "--seeds=3", "--rows=recipe", "--set=model.encoder=auto")
    more = (f"--folder={root.parent}", f"--teacher={teacher_file}", "--minutes=0.0001", "--choose_at=4")
    (tmp_path / "toy.py").write_text(RECIPE.replace('"train.decoder_lr=0.01", ', "").replace('0.02"', '0.02",'))
    table = run(*flags, *small, *more, "--calibrate=20")["drawn"]["4"]
    (line,) = lines(tmp_path / "recipe.csv")
    assert (line["n_train"], line["seed"], line["split"]) == ("4", "3", "test")
    (seconds,) = json.loads((tmp_path / "runs" / "timing" / "seconds_per_step.json").read_text()).values()
    assert 0 < seconds < 10 and 0 < float(line["processor_minutes"]) < 1
    assert int(line["steps"]) == max(round(0.0001 * 120 / seconds), 1)
    assert table["recipe"]["test"]["levels"][line["measure"]]["mean"] == pytest.approx(float(line["error"]))


def test_each_part_that_comes_along_is_one_of_the_recipe():
    parts = json.loads((recipe.HERE / "recipe_parts.json").read_text())
    whole = config_hash(load_config("recipe"))
    assert parts and all(config_hash(load_config("recipe", changes)) != whole for changes in parts.values())
