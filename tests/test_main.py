"""The command: what it leaves behind, that it continues, and what it says to a mistake."""

import csv
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from PIL import Image

from ctd_jax import files, models, run_folder, training_run, versions
from ctd_jax.data import synthetic
from ctd_jax.tasks.landmarks import LandmarkTask
from ctd_jax.training import checkpoint, memory, step
from ctd_jax.training.log import SPEEDS
from ctd_jax.training.parallel import Parallel

pytestmark = pytest.mark.slow

REPO = pathlib.Path(__file__).parents[1]
ANOTHER = {"model__encoder": "resnet18", "data__image_size": 64}  # than the tiny teacher's
UNTAUGHT = {"teacher__weights": "none", "model__encoder": "resnet8", "constraints__ed__weight": 0.0}
COLUMNS = "image,subject,landmark,x,y,true_x,true_y,error_px,error_mm,confidence,radius_px,radius_mm,unlike"


def content(folder):
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def main(cli, monkeypatch, tmp_path, teacher_file):
    """The command in small; its workdir is `run` under `tmp_path`, which is the current folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, config="ctd_ed.py", workdir="run", **changes):
        small = tiny.arguments(teacher_file, **changes)
        return cli("ctd_jax.main", f"--config={REPO / 'configs' / config}", f"--workdir={workdir}", *small, *arguments)

    return call


def assert_complaint(result, *parts):
    code, _, error = result
    assert code == 2, error
    assert error.startswith(("error: ", "ctd_jax "))
    assert error.count("error: ") == 1
    assert "Traceback" not in error
    for part in parts:
        assert part in error


# ---------------------------------------------------------------- what a run leaves behind


def test_what_a_run_says(finished_run):
    """A process of its own: nothing but the run's own words."""
    run, out, error = finished_run
    # JAX 0.10.0 says of each program that it finds in the compilation cache for which processor it was made
    made, said, *lines = (line for line in error.splitlines() if "cpu_aot_loader" not in line)
    config = json.loads((run / "config.json").read_text())
    assert made == versions.line(config["versions"][0]) and made.endswith("4 x cpu")
    assert f"jax {jax.__version__}, " in made
    size = r"[\d.]+ [MG]iB"
    parts = f"parameters {size}, optimiser {size}, activations {size}, in all {size} of {size}; "
    parts += f"with the program, {size}, and {size} where gradient norms are measured"
    assert re.fullmatch(f"memory(: | of each of [0-9]+ devices: ){parts}", said)
    assert all(line.startswith("step ") for line in lines), error
    assert [line.split()[1] for line in lines] == ["2/4", "4/4"]
    for word in ("loss", "error", "images/s", "left"):
        assert word in lines[-1]
    assert "Mean error (ME)" in out
    assert "report.html" in out.splitlines()[-1]


def test_the_files_of_a_run(finished_run):
    run, _, _ = finished_run
    names = {p.name for p in run.iterdir()}
    assert names == {
        *("config.json", "split.csv", "checkpoints", "log.csv", "tensorboard", "tfds", "predictions.csv"),
        *("metrics.json", "metrics_test1.json", "metrics_test2.json", "report.html"),
        *("ced.png", "overlays.png", "curves.png", "measurements.png", "measurements.csv", "mean_shape.csv"),
        *("trust.safetensors", "raters.csv"),
    }
    for name in ("ced.png", "overlays.png", "curves.png"):
        Image.open(run / name).verify()
    assert json.loads((run / "config.json").read_text())["train"]["steps"] == 4
    assert (run / "split.csv").read_text().startswith("image,subject,split,sha256\n")
    assert {row["split"] for row in rows(run / "split.csv")} == {"train", "val", "test1", "test2"}
    assert any((run / "tensorboard").iterdir())


def test_predictions_csv_has_a_row_per_picture_and_landmark(finished_run):
    run, _, _ = finished_run
    assert (run / "predictions.csv").read_text().splitlines()[0] == COLUMNS
    table = rows(run / "predictions.csv")
    tested = {row["image"] for row in rows(run / "split.csv") if row["split"].startswith("test")}
    assert {(row["image"], row["landmark"]) for row in table} == {(i, k) for i in tested for k in synthetic.LANDMARKS}
    assert len(table) == len(tested) * len(synthetic.LANDMARKS)
    empty = [row for row in table if not row["true_x"]]
    assert [(row["landmark"], row["error_px"], row["error_mm"]) for row in empty] == [("chin", "", "")]
    for row in table:
        if row["true_x"]:
            offset = [float(row[axis]) - float(row[f"true_{axis}"]) for axis in "xy"]
            assert float(row["error_px"]) == pytest.approx(np.hypot(*offset), abs=2e-3)
            assert float(row["error_mm"]) == pytest.approx(np.hypot(0.5 * offset[0], 0.25 * offset[1]), abs=2e-3)
        assert 0 <= float(row["confidence"]) <= 1


def test_metrics_json(finished_run):
    run, _, _ = finished_run
    metrics = {name: json.loads((run / f"metrics{name}.json").read_text()) for name in ("", "_test1", "_test2")}
    pooled = metrics[""]
    nme = "nme_left_eye_outer_right_eye_outer"
    numbers = ("me_px", "me_mm", nme, "auc@0.1", "fr@0.1", *(f"sdr_le_{r}mm" for r in ("2", "2.5", "3", "4")))
    others = ("split", "n_images", "n_points", "ci95", "per_landmark", "n_params", "gflops", "config_hash", "seconds")
    assert pooled.keys() >= {*numbers, *others}
    assert set(pooled["ci95"]) == set(numbers)
    assert set(pooled["per_landmark"]) == set(synthetic.LANDMARKS)
    assert [metrics[name]["split"] for name in metrics] == ["test", "test1", "test2"]
    assert [metrics[name]["n_images"] for name in metrics] == [4, 2, 2]
    assert pooled["n_points"] == 4 * 30 - 1 == len(synthetic.LANDMARKS) * 4 - 1
    errors = {}
    for row in rows(run / "predictions.csv"):
        if row["error_px"]:
            errors.setdefault(row["image"], []).append(float(row["error_px"]))
    assert pooled["me_px"] == pytest.approx(np.mean([np.mean(e) for e in errors.values()]), rel=1e-6)
    assert pooled["me_px"] == pytest.approx((metrics["_test1"]["me_px"] + metrics["_test2"]["me_px"]) / 2, rel=1e-6)
    variables, _ = checkpoint.best(run)
    assert pooled["n_params"] == sum(x.size for x in models_leaves(variables["params"]))


def models_leaves(tree):
    return [x for v in tree.values() for x in models_leaves(v)] if isinstance(tree, dict) else [tree]


def test_log_csv(finished_run):
    run, _, _ = finished_run
    log = rows(run / "log.csv")
    assert list(log[0]) == [
        *("step", "loss", "heatmap", "ed", "encoder_lr", "decoder_lr", "gradient_heatmap", "gradient_ed"),
        *("val_error", "images_per_s", "processor_seconds"),
    ]
    assert [bool(row["gradient_ed"]) for row in log] == [False, True, False, True]
    assert all(float(row[f"gradient_{term}"]) > 0 for row in log[1::2] for term in ("heatmap", "ed"))
    assert [row["step"] for row in log] == ["2", "2", "4", "4"]
    assert [bool(row["val_error"]) for row in log] == [False, True, False, True]
    # The second of four steps: 1e-3 (1 - 1/4)^0.9
    assert float(log[0]["encoder_lr"]) == pytest.approx(1e-3 * 0.75**0.9, rel=1e-5)
    for row in log[::2]:
        assert float(row["loss"]) == pytest.approx(float(row["heatmap"]) + 0.01 * float(row["ed"]), rel=1e-4)


def test_a_finished_run_says_so_and_changes_nothing(finished_run, cli, monkeypatch):
    run, out, _ = finished_run
    before = content(run)
    arguments = json.loads((run.parent / "arguments.json").read_text())
    code, again, error = cli("ctd_jax.main", *arguments)
    assert code == 0
    assert f"{run} is finished" in error
    assert again == out
    assert content(run) == before


def test_a_finished_run_says_that_its_data_have_changed_since(finished_run, cli, tmp_path):
    run = shutil.copytree(finished_run[0], tmp_path / "run")
    arguments = json.loads((finished_run[0].parent / "arguments.json").read_text())
    config = json.loads((run / "config.json").read_text())
    config["contents"]["data.root"] = "0" * 16
    (run / "config.json").write_text(json.dumps(config))
    code, out, error = cli("ctd_jax.main", *arguments, f"--workdir={run}")
    assert code == 0 and out.splitlines()[:-1] == finished_run[1].splitlines()[:-1]
    assert f"{config['data']['root']}: files were changed, added or removed since this run began" in error


def test_the_source_task_runs(main, tmp_path):
    """The other configurations are rows of the result table: test_rows.py."""
    changes = {"train__steps": 2, "teacher__weights": "none", "data__synthetic__identities": (4, 2, 0)}
    code, out, error = main(config="source.py", **changes)
    assert code == 0, error
    assert (tmp_path / "run" / "metrics.json").exists()
    assert "Teacher: run/teacher.safetensors" in out
    models.weight_file.load(tmp_path / "run" / "teacher.safetensors")


def test_the_log_has_what_each_term_pulls_and_a_dead_one_is_named(main, tmp_path, monkeypatch):
    """Lambda times the norm; a live one, in `test_what_a_run_says`, is not spoken of."""
    monkeypatch.setattr(
        step, "gradient_norms", lambda loss, terms, labels, **_: lambda *_: dict.fromkeys(terms, jnp.ones(()))
    )
    weights = {"ed": 0.5, "channel": 1e-12, "l2": 1e-12}  # channel sorts before all others
    changes = {"constraints__channel__layers": ("stage1",)}
    changes |= {f"constraints__{name}__weight": weight for name, weight in weights.items()}
    code, _, error = main(eval__gradient_norms=True, **changes)
    assert code == 0, error
    evaluated = rows(tmp_path / "run" / "log.csv")[1::2]
    for column, norm in (("heatmap", 1.0), ("channel", 1e-12), ("ed", 0.5)):
        assert [float(row[f"gradient_{column}"]) for row in evaluated] == [norm, norm]
    assert "gradient_l2" not in evaluated[0]  # it does not reach the encoder
    warnings = [line for line in error.splitlines() if line.startswith("WARNING")]
    (warning,) = warnings
    assert "constraints.channel pulls" in warning and "constraints.channel.weight" in warning


# ---------------------------------------------------------------- continuing

KILLED = """
import os, signal, sys
from ctd_jax import training_run
from ctd_jax.training import checkpoint
import tiny

save, saved = checkpoint.save, []

def save_then_die(checkpoints, *rest):
    save(checkpoints, *rest)
    saved.append(1)
    if len(saved) == 1:
        checkpoints.wait_until_finished()
    else:
        os.kill(os.getpid(), signal.SIGKILL)  # while the second is being written

checkpoint.save = save_then_die
import pathlib
training_run.train_and_evaluate(
    tiny.config(pathlib.Path(sys.argv[1]), train__steps=7, train__average=0.9), pathlib.Path(sys.argv[2])
)
"""


def test_a_killed_run_continues_to_the_same_end(teacher_file, tmp_path):
    config = tiny.config(teacher_file, train__steps=7, train__average=0.9)
    arguments = [sys.executable, "-c", KILLED, str(teacher_file), str(tmp_path / "killed")]
    paths = os.pathsep.join([str(REPO), str(REPO / "tests")])
    killed = subprocess.run(arguments, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "killed" / "metrics.json").exists()
    results = []
    for name in ("whole", "killed"):
        training_run.train_and_evaluate(config, tmp_path / name)
        results.append(json.loads((tmp_path / name / "metrics.json").read_text()) | {"seconds": 0})
    assert results[0] == results[1]
    speeds = dict.fromkeys(SPEEDS, "")
    logs = [[row | speeds for row in rows(tmp_path / name / "log.csv")] for name in ("whole", "killed")]
    assert logs[0] == logs[1]
    assert [row["step"] for row in logs[0]] == ["2", "2", "4", "4", "6", "6", "7", "7"]
    states = [checkpoint.read(tmp_path / name / "checkpoints" / "7") for name in ("whole", "killed")]
    assert len(models_leaves(states[0]["params"])) == len(models_leaves(states[1]["params"])) > 10
    for key in ("params", "batch_stats", "average"):
        for a, b in zip(*(models_leaves(state[key]) for state in states), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
    for name in ("predictions.csv", "split.csv"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_run_that_stopped_before_its_report_finishes(finished_run, cli, tmp_path):
    run = shutil.copytree(finished_run[0], tmp_path / "run")
    (run / "report.html").unlink()
    arguments = json.loads((finished_run[0].parent / "arguments.json").read_text())
    code, out, error = cli("ctd_jax.main", *arguments, f"--workdir={run}")
    assert code == 0, error
    assert out.splitlines()[:-1] == finished_run[1].splitlines()[:-1]
    assert (run / "report.html").exists()


# ---------------------------------------------------------------- mistakes


def test_help_teaches():
    done = subprocess.run([sys.executable, "-m", "ctd_jax.main", "--help"], cwd=REPO, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("--config=configs/ctd_ed.py", "ctd_ed.py:paper", "configs/default.py", "--workdir", "--debug"):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["--config is missing"]),
        (["somewhere"], ["unexpected argument 'somewhere'"]),
        (["--wrokdir=x"], ["wrokdir", "Did you mean: workdir"]),
        (["--config=configs/ctd_de.py"], ["no such configs/ctd_de.py", "ctd_cd, ", " ft, "]),
        (["--config=README.md"], ["expected a Python file"]),
        (["--config=configs/ctd_ed.py:papre"], ["'papre'", "demo and paper"]),
        (["--config=configs/ft.py", "--config.train.stps=3"], ["train.stps", "the nearest is train.steps"]),
        (["--config", "configs/ft.py", "--config.train.stps=3"], ["train.stps", "the nearest is train.steps"]),
        (
            ["--config=configs/ft.py", "--config.train.steps=many"],
            ["--config.train.steps=many: expected a whole number", "like 800"],
        ),
        (["--config=configs/ft.py", "--config.train.steps"], ["--config.train.steps=VALUE"]),
        (["--config.seed=1"], ["--config is missing"]),
        (
            ["--config=configs/ctd_ed.py:paper"],
            ["no data", "--config.data.root=DIR", "no teacher", "--config.teacher.weights"],
        ),
        (
            ["--config=configs/ctd_ed.py:paper", "--config.data.root=synthetic"],
            ["no teacher", "--config.teacher.weights=FILE", "convert mobilefacenet"],
        ),
        (["--config=configs/ft.py", "--config.data.root=nowhere"], ["nowhere: no such folder"]),
    ],
)
def test_mistakes_on_the_command_line(cli, tmp_path, monkeypatch, arguments, parts):
    monkeypatch.chdir(REPO)
    small = [f"--config.data.synthetic.identities={(5, 1, 1)}"] * any("paper" in a for a in arguments)
    small += ["--config.data.image_size=64"] * bool(small)
    assert_complaint(cli("ctd_jax.main", f"--workdir={tmp_path / 'run'}", *arguments, *small), *parts)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"train__batch_size": 6}, ["train.batch_size is 6", "number of devices, 4"]),
        ({"train__batch_size": 0}, ["train.batch_size is 0"]),
        ({"train__steps": -1}, ["train.steps is -1"]),
        ({"train__accumulate_steps": 0}, ["train.accumulate_steps is 0"]),
        (
            {"train__batch_size": 12, "train__accumulate_steps": 2},
            ["train.batch_size is 12", "multiple of 8", "devices, 4", "train.accumulate_steps, 2"],
        ),
        (
            {"train__batch_size": 8, "train__accumulate_steps": 2, "constraints__rkd_angle__weight": 1.0},
            ["constraints.rkd_angle.weight is not 0", "train.accumulate_steps is 2"],
        ),
        ({"train__batch_norm": "local"}, ["train.batch_norm is 'local'", "global or device"]),
        ({"eval__every": -1}, ["eval.every is -1"]),
        ({"eval__split": "tset"}, ["eval.split is tset", "train, val, test"]),
        ({"data__image_size": 42}, ["data.image_size is 42", "multiple of 4"]),
        ({"data__budget": 99}, ["data.budget", "99", "there are 8"]),
        ({"data__budget": -1}, ["data.budget is -1"]),
        ({"data__synthetic__identities": (4, 2)}, ["data.synthetic.identities"]),
        ({"data__synthetic__shots": (2, -1, 2)}, ["data.synthetic.shots"]),
        ({"model__decoder_channels": ("wide",)}, ["model.decoder_channels"]),
        ({"model__decoder_channels": (8, 0)}, ["model.decoder_channels"]),
        ({"constraints__ed__layers": ("stage7",)}, ["'stage7'", "encoder, heatmaps, stage1"]),
        ({"constraints__ed__weight": -1.0}, ["constraints.ed.weight is -1.0"]),
        ({"constraints__cd__temperature": 0.0}, ["constraints.cd.temperature is 0.0", "more than 0"]),
        ({"constraints__cd__form": "l3"}, ["constraints.cd.form is 'l3'", "l2 or kl"]),
        ({"constraints__ed__over": "channel"}, ["constraints.ed.over is 'channel'", "map, location or pooled"]),
        ({"constraints__bss__k": 0}, ["constraints.bss.k is 0", "1 or more"]),
        ({"constraints__cd__weight": 0.1}, ["constraints.cd.weight", "the teacher's file has no classifier"]),
        (ANOTHER, ["constraints.ed, encoder: ", "equal shape", "(1, 2, 2, 512)", "(1, 16, 16, 4)"]),
        (
            ANOTHER | {"constraints__ed__layers": ("stage1",)},
            ["constraints.ed, stage1: ", "(1, 16, 16, 64)", "(1, 16, 16, 4)"],
        ),
        (
            ANOTHER | {"constraints__ed__weight": 0.0, "constraints__hint__weight": 1.0},
            ["constraints.hint, encoder: ", "(1, 2, 2, 4)", "(1, 16, 16, 4)"],  # an adapter changes the width only
        ),
        (
            ANOTHER | {"constraints__ed__layers": ("stage4",)},
            ["constraints.ed.layers names 'stage4'; the teacher's features are encoder, stage1, stem"],
        ),
        (ANOTHER | {"constraints__ed__weight": 0.0}, ["weights of resnet8, but model.encoder is resnet18"]),
        (
            ANOTHER | {"constraints__ed__weight": 0.0, "constraints__l2_sp__weight": 0.1},
            ["constraints.l2_sp.weight needs a student that starts from the teacher"],
        ),
        ({"train__encoder_layers": "none"}, ["constraints.ed.weight is not 0, but train.encoder_layers is none"]),
        (
            {"train__encoder_layers": "none", "constraints__ed__weight": 0.0}
            | {"constraints__l2__weight": 0.1, "constraints__l2_sp__weight": 0.1},
            ["constraints.l2_sp.weight is not 0, but train.encoder_layers is none"],
        ),
        ({"train__encoder_layers": "lsat"}, ["train.encoder_layers is 'lsat'", "all, last or none"]),
        (
            UNTAUGHT | {"train__encoder_layers": "last"},
            ["train.encoder_layers is last", "random layers would be frozen"],
        ),
        (
            {"model__network": "hourglass", "train__encoder_layers": "last"},
            ["train.encoder_layers is last", "an hourglass has no encoder"],
        ),
        (UNTAUGHT | {"train__encoder_layers": "none"}, ["train.encoder_layers is none", "give teacher.weights"]),
        (UNTAUGHT | {"constraints__at__weight": 0.1}, ["constraints.at.weight needs a teacher", "is none"]),
        ({"model__network": "hourglass"}, ["constraints.ed.weight is not 0, but an hourglass has no teacher"]),
        ({"model__network": "sandglass"}, ["model.network is 'sandglass'", "encoder_decoder or hourglass"]),
        ({"augment__flip": 1.5}, ["augment.flip is 1.5", "0 .. 1"]),
        ({"parallel": "pjit"}, ["parallel is 'pjit'", "shard_map or pmap"]),
        ({"dtype": "int8"}, ["dtype is 'int8'"]),
        ({"task": "poems"}, ["task is 'poems'", "landmarks, segmentation, recognition"]),
        ({"model__encoder": "resnet51"}, ["resnet51"]),
        ({"teacher__weights": "nowhere.safetensors"}, ["nowhere.safetensors: no such weight file"]),
        ({"data__split": "nowhere.csv", "data__root": "synthetic"}, ["nowhere.csv", "no such file"]),
    ],
)
def test_mistakes_in_a_configuration(main, tmp_path, changes, parts):
    assert_complaint(main(**changes), *parts)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_none(main, tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"\x80\x04 a pickle")
    assert_complaint(main(teacher__weights="weights.pt"), "weights.pt: not a safetensors file", "convert")
    assert not (tmp_path / "run").exists()


def test_a_strangers_folder_stays_as_it_is(main, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("chapter 1")
    before = content(tmp_path)
    assert_complaint(main(), "run is not a run", "thesis.tex", "--workdir")
    assert content(tmp_path) == before


def test_a_run_of_another_configuration_stays_as_it_is(finished_run, cli, tmp_path):
    run = shutil.copytree(finished_run[0], tmp_path / "run")
    before = content(tmp_path)
    arguments = json.loads((finished_run[0].parent / "arguments.json").read_text())
    result = cli("ctd_jax.main", *arguments, f"--workdir={run}", "--config.train.steps=9")
    assert_complaint(result, "another configuration", "train.steps was 4, is 9", "nothing was changed")
    assert content(tmp_path) == before


def test_other_pictures_than_at_the_start(main, tmp_path, teacher_file):
    config = tiny.config(teacher_file, constraints__ed__weight=1e-4)
    run_folder.claim_split(tmp_path / "run", [("person_00000_0", "person_00000", "train", "ab")])
    files.write_text(tmp_path / "run" / "config.json", json.dumps(config.to_dict()))
    before = content(tmp_path)
    assert_complaint(main(), "split.csv", "not those that this run began with")
    assert content(tmp_path) == before


def test_other_annotations_than_at_the_start(finished_run, tmp_path, cli):
    """A label corrected between stop and restart must not slip into a run unseen."""
    run = shutil.copytree(finished_run[0], tmp_path / "run")
    (run / "report.html").unlink()  # as if stopped before the end
    config, arguments = run / "config.json", json.loads((finished_run[0].parent / "arguments.json").read_text())
    root = json.loads(config.read_text())["data"]["root"]
    own = shutil.copytree(root, tmp_path / "faces")  # others read the run's pictures meanwhile
    config.write_text(config.read_text().replace(root, str(own)))
    arguments = [argument.replace(root, str(own)) for argument in arguments]
    header, first, rest = (own / "landmarks.csv").read_text().split("\n", 2)
    cells = first.split(",")
    column = header.split(",").index("chin_x")
    cells[column] = str(float(cells[column]) + 1)
    (own / "landmarks.csv").write_text("\n".join([header, ",".join(cells), rest]))
    result = cli("ctd_jax.main", *arguments, f"--workdir={run}")
    assert_complaint(result, "annotations of this run have changed since it began", "new --workdir")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        # one step that throws the parameters far away: its own loss is finite, and so are they
        ({"train__encoder_lr": 1e30, "eval__every": 1}, "after step 1: what the network says is NaN or infinite for 4"),
        # seen only at the end of four steps
        ({"train__encoder_lr": 1e30, "train__decoder_lr": 1e30, "eval__every": 4}, "at step 2 heatmap is nan, "),
    ],
)
def test_nothing_that_is_not_finite_is_kept(main, tmp_path, changes, said):
    code, _, error = main(**changes)
    assert code == 2
    message = error[error.index("error: ") :]
    assert said in message
    assert "lower train.encoder_lr and train.decoder_lr" in message and "There is no checkpoint yet" in message
    assert "Traceback" not in error
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


def test_a_step_that_does_not_fit_is_refused_before_anything_is_written(main, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 2**20)
    code, _, error = main(train__batch_size=16)
    _, said, message = error.splitlines()
    assert code == 2 and said.startswith("memory of each of 4 devices: parameters ")
    assert message.startswith("error: a step with 16 pictures does not fit into a device's memory: parameters ")
    assert "of 0.2 MiB" in message and "--config.train.remat=True" in message
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_an_allocator_that_gives_up_where_nothing_is_learned(main, monkeypatch):
    """While validating, and while evaluating. Another key helps there, with which the same run goes on."""

    def fail(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.")

    for name, stand_in, learned in (("validator", lambda *_: fail, 0), ("finish", fail, 2)):
        with monkeypatch.context() as replaced:
            replaced.setattr(LandmarkTask, name, stand_in)
            for size, words in ((10, "give --config.eval.batch_size=5, or less"), (4, "even one picture at once is")):
                code, _, error = main(eval__batch_size=size, train__steps=2)  # on 4 devices
                assert code == 2 and words in error and "accumulate_steps" not in error
        assert checkpoint.best_step(pathlib.Path("run")) == learned
    assert main(eval__batch_size=5, train__steps=2)[0] == 0


@pytest.mark.parametrize("when", ["compiling", "training"])
def test_an_allocator_that_gives_up(main, monkeypatch, when):
    def fail(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.\nat 0xffff")

    if when == "compiling":
        monkeypatch.setattr(Parallel, "compile", lambda *_, **__: types.SimpleNamespace(lower=fail))
    else:
        fail.memory_analysis = lambda: types.SimpleNamespace(temp_size_in_bytes=0)
        monkeypatch.setattr(memory, "compile_step", lambda *_: fail)
    result = main(train__batch_size=16)
    assert_complaint(result, "Out of memory allocating 99 bytes", "--config.train.accumulate_steps=2", "batch_size=8")
    assert "0xffff" not in result[2]


def test_debug_shows_where(main):
    code, _, error = main("--debug", train__steps=-1)
    assert code == 2
    assert "Traceback" in error
    assert error.splitlines()[-1].startswith("error: train.steps is -1")


def test_an_error_of_ours_is_no_mistake_of_the_user(main, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(training_run, "train_and_evaluate", fail)
    code, _, error = main()
    assert code == 1
    assert error.startswith("error: ZeroDivisionError: division by zero\n")
    assert "Traceback" not in error
    assert "--debug" in error
    monkeypatch.setattr(training_run, "train_and_evaluate", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    code, _, error = main()
    assert code == 1
    assert "continues from its last checkpoint" in error
