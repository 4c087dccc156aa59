"""Every experiment with a trainer that only writes what a run leaves behind: its files have the columns and the keys of
those that docs/results.md is made from, and a second call trains nothing."""

import csv
import importlib
import itertools
import json
import pathlib
import sys
import zlib

import numpy as np
import pytest

from ctd_jax import metrics, training_run
from ctd_jax.metrics import segmentation

HERE = pathlib.Path(__file__).parents[2] / "experiments"
LANDMARKS = ("left_eye_outer", "right_eye_outer", "chin")
PEOPLE = 6


def landmark_result(folder, config, random, *, in_mm):
    """Writes what a run leaves of one domain; returns the content of its metrics.json."""
    folder.mkdir(parents=True, exist_ok=True)
    images, subjects = [f"{i}.png" for i in range(PEOPLE)], [f"s{i}" for i in range(PEOPLE)]
    true_xy = np.tile([[10.0, 10.0], [50.0, 10.0], [30.0, 50.0]], (PEOPLE, 1, 1))
    xy = true_xy + random.normal(0, 3, true_xy.shape)
    spacing = np.full((PEOPLE, 2), 1.0 if in_mm else np.nan)
    table = metrics.Predictions.from_points(images, subjects, LANDMARKS, xy, true_xy=true_xy, spacing=spacing)
    metrics.write_predictions(folder / "predictions.csv", table)
    table = metrics.read_predictions(folder / "predictions.csv")
    normalizer = None if in_mm else LANDMARKS[:2]
    settings = {"normalizer": normalizer, "thresholds": config.eval.threshold.to_dict(), "radii_mm": (2, 2.5, 3, 4)}
    result = {"split": config.eval.split} | metrics.summarize(table, **settings)
    result |= {"normalizer": normalizer, "n_params": 1000, "gflops": 0.5, "config_hash": "0" * 12, "seconds": 60.0}
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    (folder / "metrics.json").write_text(json.dumps(result))
    return result


def segmentation_result(folder, config, random):
    """The same of class maps."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    known = json.loads((pathlib.Path(config.data.root) / "classes.json").read_text())
    classes = {domain: known[domain] for domain in config.data.domains or known}
    rows = []
    for domain, names in classes.items():
        for i in range(PEOPLE):
            true, found = (random.random((2, 12, 12)) < 0.6).astype(bool)
            cells = {"image": f"{domain}{i}", "subject": f"{domain}{i}", "domain": domain, "class": names[1]}
            rows.append(cells | segmentation.measure(true, found, np.ones(2)))
    segmentation.write(folder / "segmentation_metrics.csv", rows)
    result = {"split": config.eval.split, "classes": classes, "seconds": 60.0}
    result |= segmentation.summarize(segmentation.read(folder / "segmentation_metrics.csv"), classes)
    (folder / "metrics.json").write_text(json.dumps(result))
    return result


@pytest.fixture
def trained(monkeypatch):
    """Folders that were trained in, in their order."""
    names = []

    def train_and_evaluate(config, workdir, cache):
        names.append(workdir.name)
        random = np.random.default_rng(zlib.crc32(workdir.name.encode()))
        domains = [pathlib.Path(root).name for root in config.data.root.split(",")]
        if config.name == "mtmd":
            result = segmentation_result(workdir, config, random)
        elif len(domains) > 1 and not config.data.domains:
            parts = {
                domain: landmark_result(workdir / domain, config, random, in_mm=domain != "faces_fgnet")
                for domain in domains
            }
            result = {"split": config.eval.split, "domains": parts, "seconds": 60.0, "config_hash": "0" * 12}
            (workdir / "config.json").write_text(json.dumps(config.to_dict()))
            (workdir / "metrics.json").write_text(json.dumps(result))
        else:
            (domain,) = config.data.domains or domains
            in_mm = domain in ("ceph_isbi2015", "fetal_head_us")
            result = landmark_result(workdir, config, random, in_mm=in_mm)
        (workdir / "checkpoints").mkdir()
        (workdir / "report.html").write_text("")
        return result

    monkeypatch.setattr(training_run, "train_and_evaluate", train_and_evaluate)
    monkeypatch.setattr("ctd_jax.study._read_other_roots", lambda trainings: None)  # of folders that are not there
    return names


@pytest.fixture
def run(tmp_path, monkeypatch, trained):
    """Runs an experiment twice, the second time from finished runs; returns the folder of its results."""
    monkeypatch.chdir(HERE.parent)
    (tmp_path / "splits").symlink_to(HERE / "splits")

    def call(name, *arguments, file):
        module = importlib.import_module(f"experiments.{name}")
        monkeypatch.setattr(module, "HERE", tmp_path)
        monkeypatch.setattr(sys, "argv", [name, *arguments, f"--runs={tmp_path / 'runs'}"])
        module.main()
        first, number = [(tmp_path / f"{file}.{kind}").read_bytes() for kind in ("csv", "json")], len(trained)
        module.main()
        assert len(trained) == number == len(set(trained))
        assert [(tmp_path / f"{file}.{kind}").read_bytes() for kind in ("csv", "json")] == first
        return tmp_path

    return call


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def keys(content):
    """The shape of a JSON value: keys of objects, and that something else is there."""
    return {key: keys(value) for key, value in content.items()} if isinstance(content, dict) else type(content) is str


def same_files(folder, name):
    ours, known = table(folder / f"{name}.csv"), table(HERE / f"{name}.csv")
    assert list(ours[0]) == list(known[0]) and len(ours) == len(known)
    same_keys(folder, name)


def same_keys(folder, name):
    found, known = (json.loads((place / f"{name}.json").read_text("utf-8")) for place in (folder, HERE))
    assert keys(found) == keys(known)


@pytest.mark.slow
def test_demo(run, trained):
    folder = run("demo", "--labels=8", file="demo_8")
    same_files(folder, "demo_8")
    assert trained[:2] == ["ft-val-seed10-lr0.001-ed0", "ft-val-seed11-lr0.001-ed0"]
    assert {line["run"] for line in table(HERE / "demo_8.csv") if line["split"] == "val"} > set(trained[:8])
    lines = table(folder / "demo_8.csv")
    ft = {rate: [float(line["nme"]) for line in lines[:4] if float(line["lr"]) == rate] for rate in (1e-3, 3e-3)}
    chosen = json.loads((folder / "demo_8.json").read_text())["chosen"]
    assert chosen["ft"]["rate"] == min(ft, key=lambda rate: np.mean(ft[rate])) == chosen["ctd_ed"]["rate"]


def test_faces_fgnet(run, trained):
    folder = run("faces_fgnet", "--root=faces_fgnet", "--teacher=a.safetensors", file="faces_fgnet")
    same_files(folder, "faces_fgnet")
    known = [line["run"] for line in table(HERE / "faces_fgnet.csv")]
    assert trained[:4] == known[:4]
    assert [line["split"] for line in table(folder / "faces_fgnet.csv")] == 8 * ["val"] + 6 * ["test"]


@pytest.mark.slow
def test_fsf_ld(run, trained, monkeypatch):
    module = importlib.import_module("experiments.fsf_ld")
    monkeypatch.setattr(module, "latency", lambda *_: 1.0)
    monkeypatch.setattr(module.cost, "gflops", lambda *_: 1.0)
    flags = ("--seeds=2", "--teacher_steps=800", "--steps=500", "--alternatives", "--micro")
    folder = run("fsf_ld", "--root=ceph_isbi2015", *flags, file="fsf_ld")
    same_files(folder, "fsf_ld")
    assert [line["row"] for line in table(folder / "fsf_ld.csv")] == [
        line["row"] for line in table(HERE / "fsf_ld.csv")
    ]
    kept = {path.parent.name.rpartition("-")[0] for path in folder.glob("runs/*/checkpoints")}
    assert kept == {f"teacher-{kind}-test-seed{seed}" for kind in ("heatmaps", "multi-task") for seed in (0, 1)}


@pytest.mark.slow
def test_multidomain(run, trained, tmp_path):
    domains = {line["domain"]: ["background", "inside"] for line in table(HERE / "multidomain.csv")}
    (tmp_path / "classes.json").write_text(json.dumps(domains))
    flags = (f"--root={tmp_path}", "--teacher=mfn.safetensors", "--seeds=1", "--steps=400")
    same_files(run("multidomain", *flags, file="multidomain"), "multidomain")
    known = [line["run"] for line in table(HERE / "multidomain.csv")]
    assert trained == list(dict.fromkeys(known))


def test_the_weight_of_multidomain_is_that_of_the_best_dice_on_val(run, trained, tmp_path):
    (tmp_path / "classes.json").write_text(json.dumps({"a": ["background", "x"], "b": ["background", "y"]}))
    flags = (f"--root={tmp_path}", "--teacher=t.safetensors", "--seeds=1", "--shares=1", "--weights=0.1,0.01")
    folder = run("multidomain", *flags, file="multidomain")
    assert trained[:2] == [f"val_contrastive_{weight}-100percent-seed1000-200x16-96px" for weight in ("0.1", "0.01")]
    dice = [json.loads((folder / "runs" / name / "metrics.json").read_text())["dice"] for name in trained[:2]]
    chosen = json.loads((folder / "multidomain.json").read_text())["arguments"]["chosen"]
    assert chosen == {"1": (0.1, 0.01)[int(np.argmax(dice))]}
    assert {line["seed"] for line in table(folder / "multidomain.csv")} == {"0"}


@pytest.mark.slow
def test_domains(run, trained):
    roots = "--roots=faces_fgnet,ceph_isbi2015,multidomain/fetal_head_us"
    folder = run("domains", roots, "--teacher=mfn.safetensors", "--seeds=2", "--steps=200", file="domains")
    same_keys(folder, "domains")
    assert trained[0] == "own_faces_fgnet-seed0-200x8-112px-lr0.003-budgetall"
    assert trained[3] == "joint-seed0-600x8-112px-lr0.003-budgetall"
    lines = table(folder / "domains.csv")
    assert len(lines) == 2 * (3 + 5 * 3)
    result = json.loads((folder / "domains.json").read_text())["domains"]["ceph_isbi2015"]["peers"]["joint"]
    errors = [float(line["error"]) for line in lines if (line["scheme"], line["domain"]) == ("joint", "ceph_isbi2015")]
    assert result["seeds"] == errors and result["error"] == pytest.approx(np.mean(errors))


def teachers(run, trained, monkeypatch, *flags):
    """The folder of the experiment's results, without the package of ImageNet's weights and with a teacher's file that
    nobody reads."""
    module = importlib.import_module("experiments.teachers")
    monkeypatch.setattr(module, "decoder_channels", lambda weights: {"imagenet": (64,) * 3}.get(weights, (64,) * 2))
    roots = "--roots=faces_fgnet,ceph_isbi2015,multidomain/fetal_head_us"
    return run("teachers", roots, "--teacher=mfn.safetensors", *flags, file="teachers")


@pytest.mark.slow
def test_teachers(run, trained, monkeypatch):
    folder = teachers(run, trained, monkeypatch, "--seeds=2", "--labels=10,50")
    assert len(trained) == 3 * 2 * 4 * (3 + 2)
    assert trained[:3] == [
        f"none-faces_fgnet-10-val-seed1000-200x8-96px-lr{r}" for r in ("0.001-0.001", "0.003-0.001", "0.003-0.003")
    ]
    lines = table(folder / "teachers.csv")
    assert len(lines) == len(trained)
    result = json.loads((folder / "teachers.json").read_text())
    assert result["arguments"]["roots"] == ["faces_fgnet", "ceph_isbi2015", "fetal_head_us"]
    for data, labels, teacher in itertools.product(result["arguments"]["roots"], ("10", "50"), ("none", "real faces")):
        cells = {"data": data, "labels": labels, "teacher": teacher}
        tried, tested = (
            [line for line in lines if (cells | {"split": split}).items() <= line.items()] for split in ("val", "test")
        )
        best = min(tried, key=lambda line: float(line["error"]))
        cell, level = (result[split][data][labels][teacher] for split in ("val", "test"))
        assert (str(cell["error"]), str(cell["encoder_lr"])) == (best["error"], best["encoder_lr"])
        rates = ("encoder_lr", "decoder_lr")
        assert {tuple(line[rate] for rate in rates) for line in tested} == {tuple(best[rate] for rate in rates)}
        assert level["seeds"] == [float(line["error"]) for line in tested] and len(tested) == 2
        assert level["error"] == pytest.approx(np.mean(level["seeds"]))
        assert level["ci95"][0] < level["error"] < level["ci95"][1]
        imagenet = result["test"][data][labels]["imagenet"]["error"]
        assert level["minus_imagenet"]["difference"] == pytest.approx(level["error"] - imagenet)


@pytest.mark.slow
def test_teachers_on_val_alone(run, trained, monkeypatch, capsys):
    folder = teachers(run, trained, monkeypatch, "--seeds=0", "--labels=10", "--steps=100", "--size=64")
    assert len(trained) == 3 * 4 * 3
    assert all("-val-seed1000-100x8-64px-" in name for name in trained)
    assert set(json.loads((folder / "teachers.json").read_text())) == {"arguments", "val"}
    printed = capsys.readouterr().out
    assert "| val | faces_fgnet, 10 | ceph_isbi2015, 10 | fetal_head_us, 10 |" in printed and " mm |" in printed
    config = json.loads((folder / "runs" / trained[9] / "config.json").read_text())
    assert config["teacher"]["weights"] == "imagenet" and config["model"]["decoder_channels"] == [64, 64, 64]
    none = json.loads((folder / "runs" / trained[0] / "config.json").read_text())
    assert (none["teacher"]["weights"], none["model"]["encoder"]) == ("none", "efficientnet_lite0")


def test_teachers_have_heatmaps_of_one_stride(tmp_path):
    module = importlib.import_module("experiments.teachers")
    assert module.decoder_channels("none") == (64, 64, 64)  # 32 to 4 pixels
    assert module.decoder_channels("embedded") == (64, 64)  # 16 to 4


def test_the_package_imports_neither_experiments_nor_benchmarks():
    package = HERE.parent / "ctd_jax"
    lines = [line for path in package.rglob("*.py") for line in path.read_text("utf-8").splitlines()]
    imports = [line for line in lines if line.lstrip().startswith(("import ", "from "))]
    assert len(imports) > 100
    assert [line for line in imports if "experiments" in line or "benchmarks" in line] == []
