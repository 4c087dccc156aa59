"""A study, with a trainer that only writes what a run leaves behind."""

import csv
import json

import pytest
import tiny

from configs import ft
from ctd_jax import study, training_run
from ctd_jax.errors import UserError
from ctd_jax.training import finite

# Errors of methods by setting, of seed 7; each other seed adds its offset.
ERRORS = {"a": {1: 0.5, 2: 0.3, 3: 0.3}, "b": {1: 0.4, 2: 0.1}}
OFFSETS = {7: 0.0, 8: 0.01, study.CHOOSING_SEED: 0.002}


class Toy(study.Study[str, int]):
    def __init__(self, folder):
        super().__init__(folder / "runs", folder / "toy.csv")
        self.tidied = []

    def trial(self, method, setting, seed, split):
        config = ft.get_config()
        config.name, config.train.steps, config.seed, config.eval.split = method, setting, seed, split or "test"
        cells = {"method": method, "setting": setting, "seed": seed}
        return study.Trial(f"{method}-{setting}-{seed}-{config.eval.split}", config, cells)

    def lines_of(self, run):
        more = {"only_b": 1} if run.cells["method"] == "b" else {}
        return [run.cells | {"error": run.result["error"]} | more]

    def tidy(self, run):
        self.tidied.append(run.workdir.name)


@pytest.fixture
def trained(monkeypatch):
    """Names of the runs that were trained, in their order."""
    names = []

    def train_and_evaluate(config, workdir, cache):
        assert config.grid == () and cache == workdir.parent / "tfds"
        names.append(workdir.name)
        workdir.mkdir(parents=True)
        result = {"error": ERRORS[config.name][config.train.steps] + OFFSETS[config.seed], "seconds": 2.0}
        (workdir / "config.json").write_text(json.dumps(config.to_dict()))
        (workdir / "metrics.json").write_text(json.dumps(result))
        (workdir / "checkpoints" / "2").mkdir(parents=True)
        (workdir / "report.html").write_text("")
        return result

    monkeypatch.setattr(training_run, "train_and_evaluate", train_and_evaluate)
    return names


def error(run):
    return run.result["error"]


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_first_of_the_best_settings_on_val_is_chosen(tmp_path, trained):
    assert Toy(tmp_path).choose("a", [1, 2, 3], error) == 2
    assert trained == ["a-1-1000-val", "a-2-1000-val", "a-3-1000-val"]


def test_the_mean_over_the_choosing_seeds_decides(tmp_path, trained, monkeypatch):
    """With seed 7 setting 2 has 0.1 and 1 has 0.4; with seed 8, on which 2 fails, 0.9 and 0.41: means 0.5 and 0.405."""
    monkeypatch.setitem(OFFSETS, 8, 0.0)
    toy, found = Toy(tmp_path), {("b", 1, 7): 0.4, ("b", 2, 7): 0.1, ("b", 1, 8): 0.41, ("b", 2, 8): 0.9}
    assert toy.choose("b", [2, 1], lambda run: found[tuple(run.cells.values())], seeds=(7, 8)) == 1
    assert trained == ["b-2-7-val", "b-2-8-val", "b-1-7-val", "b-1-8-val"]


@pytest.fixture
def running_away(trained, monkeypatch):
    """Settings 2 and 4 of any method run away."""
    train = training_run.train_and_evaluate

    def train_and_evaluate(config, workdir, cache):
        if config.train.steps in (2, 4):
            raise finite.RanAway(f"after step 4: heatmap is nan: {finite.RUN_AWAY}. There is no checkpoint yet")
        return train(config, workdir, cache)

    monkeypatch.setattr(training_run, "train_and_evaluate", train_and_evaluate)


def test_a_setting_that_runs_away_is_not_chosen(tmp_path, running_away, caplog):
    assert Toy(tmp_path).choose_each({"a": [1, 2, 3], "b": [2, 1]}, error) == {"a": 3, "b": 1}
    first = f"{tmp_path}/runs/a-2-1000-val: after step 4: heatmap is nan; its setting is not chosen"
    assert first in caplog.messages
    assert [row["setting"] for row in rows(tmp_path / "toy.csv")] == ["1", "3", "1"]


def test_a_compared_run_that_runs_away_and_a_grid_of_such_runs_are_named(tmp_path, running_away):
    with pytest.raises(UserError, match="a-2-7-test: after step 4: heatmap is nan; training .* out of the grid .*, or"):
        Toy(tmp_path).repeat({"a": 2, "b": 1}, (7,))
    with pytest.raises(UserError, match="b-2-1000-val and the other settings .* no finite error on val; training has"):
        Toy(tmp_path).choose("b", [2, 4], error)


@pytest.mark.slow
def test_a_training_runs_away_at_a_step(teacher_file, tmp_path):
    config = tiny.config(teacher_file, train__encoder_lr=1e30, train__decoder_lr=1e30, eval__every=4)
    result, _ = study._train(study._Training(config, tmp_path / "run", tmp_path / "tfds"))
    said = "after step 4: at step 2 heatmap is nan, constraints.ed is nan, the first that is not finite"
    assert result == {study.RAN_AWAY: said}


def test_two_trials_of_one_folder_are_refused_before_the_first_training(tmp_path, trained, monkeypatch):
    """Settings that name files of one name in two folders, or that write one number in two ways."""
    toy = Toy(tmp_path)
    trial = toy.trial
    monkeypatch.setattr(toy, "trial", lambda *one: trial(*one)._replace(name="a-of-one-name"))
    with pytest.raises(UserError, match="runs/a-of-one-name: two runs .*: a, 1, 1000, and a, 2, 1000; leave one"):
        toy.choose("a", [1, 2], error)
    assert trained == []


def test_a_grid_of_one_is_not_tried(tmp_path, trained):
    assert Toy(tmp_path).choose("a", [3], error) == 3
    assert trained == []


def test_every_method_is_trained_with_every_seed(tmp_path, trained):
    runs = Toy(tmp_path).repeat({"a": 2, "b": 1}, (7, 8))
    assert trained == ["a-2-7-test", "b-1-7-test", "a-2-8-test", "b-1-8-test"]
    assert {method: [error(run) for run in found] for method, found in runs.items()} == {
        "a": pytest.approx([0.3, 0.31]),
        "b": pytest.approx([0.4, 0.41]),
    }
    assert [run.workdir for run in runs["b"]] == [tmp_path / "runs" / f"b-1-{seed}-test" for seed in (7, 8)]


def test_the_table_has_a_line_of_each_run_and_all_columns(tmp_path, trained):
    toy = Toy(tmp_path)
    toy.repeat({"a": 2, "b": 1}, (7,))
    assert (tmp_path / "toy.csv").read_text().splitlines() == [
        "method,setting,seed,error,only_b",
        "a,2,7,0.3,",
        "b,1,7,0.4,1",
    ]
    toy.write({"best": "a", "ci95": [float("nan"), 1.0]})
    assert json.loads((tmp_path / "toy.json").read_text(), parse_constant=str) == {"best": "a", "ci95": [None, 1.0]}


def test_a_finished_run_is_read_and_the_table_is_the_same(tmp_path, trained):
    Toy(tmp_path).repeat({"a": 2}, (7, 8))
    table = (tmp_path / "toy.csv").read_bytes()
    again = Toy(tmp_path)
    runs = again.repeat({"a": 2, "b": 1}, (7, 8))
    assert trained == ["a-2-7-test", "a-2-8-test", "b-1-7-test", "b-1-8-test"]
    assert error(runs["a"][1]) == pytest.approx(0.31)
    assert again.tidied == ["a-2-7-test", "b-1-7-test", "a-2-8-test", "b-1-8-test"]
    assert table.splitlines()[1] == (tmp_path / "toy.csv").read_bytes().splitlines()[1].removesuffix(b",")


def test_a_finished_run_that_chose_its_size_is_read(tmp_path, trained):
    """config.json has what was chosen where the study says 0."""

    class Open(Toy):
        def trial(self, *of):
            found = super().trial(*of)
            found.config.data.image_size = 0
            return found

    Open(tmp_path).repeat({"a": 2}, (7,))
    path = tmp_path / "runs" / "a-2-7-test" / "config.json"
    content = json.loads(path.read_text())
    content["data"]["image_size"] = 128
    path.write_text(json.dumps(content))
    Open(tmp_path).repeat({"a": 2}, (7,))
    assert trained == ["a-2-7-test"]


def test_runs_of_other_versions_are_warned_of_once(tmp_path, trained, caplog):
    Toy(tmp_path).repeat({"a": 2}, (7, 8, study.CHOOSING_SEED))
    runs = [tmp_path / "runs" / f"a-2-{seed}-test" for seed in (7, 8, study.CHOOSING_SEED)]
    for run, device in zip(runs, ("1 x cpu", "1 x NVIDIA H200", "1 x NVIDIA H200"), strict=True):
        content = json.loads((run / "config.json").read_text())
        made = [{"jax": "0.1", "device": "1 x TPU"}, {"jax": "0.2", "device": device}]
        (run / "config.json").write_text(json.dumps(content | {"versions": made}))
    Toy(tmp_path).repeat({"a": 2}, (7, 8, study.CHOOSING_SEED))
    (said,) = caplog.messages
    assert f"{runs[1]} was made under other versions than {runs[0]} (device 1 x cpu, now 1 x NVIDIA H200)" in said


def test_a_run_without_its_last_file_is_continued(tmp_path, trained, monkeypatch):
    Toy(tmp_path).repeat({"a": 2}, (7,))
    (tmp_path / "runs" / "a-2-7-test" / "report.html").unlink()
    monkeypatch.setattr(
        training_run, "train_and_evaluate", lambda config, workdir, cache: {"error": 0.2, "seconds": 1.0}
    )
    assert error(Toy(tmp_path).run("a", 2, 7)) == 0.2


def test_a_finished_run_of_another_configuration_is_refused(tmp_path, trained, monkeypatch):
    toy = Toy(tmp_path)
    toy.run("a", 2, 7)
    other = toy.trial("a", 3, 7, None)._replace(name="a-2-7-test")
    monkeypatch.setattr(toy, "trial", lambda *_: other)
    with pytest.raises(UserError, match="holds a run of another configuration: train.steps was 2, is 3"):
        toy.run("a", 2, 7)


def test_what_is_wrong_with_a_run_is_said_before_the_others_are_trained(tmp_path, trained, caplog, monkeypatch):
    toy = Toy(tmp_path)
    toy.run("b", 2, 7)
    monkeypatch.setattr("ctd_jax.run_folder.changed", lambda workdir, _: ["faces"] if trained == ["b-2-7-test"] else [])
    toy.repeat({"a": 2, "b": 2}, (7,))
    assert trained == ["b-2-7-test", "a-2-7-test"] and "files were changed, added or removed since" in caplog.text
    of = toy.trial
    toy.trial = lambda *what: of("b", 3, 7, None)._replace(name="b-2-7-test") if what[0] == "b" else of(*what)
    for last in ("report.html", "metrics.json"):  # finished, and interrupted
        with pytest.raises(UserError, match="holds a run of another configuration: train.steps was 2, is 3"):
            toy.repeat({"c": 2, "b": 2}, (7,))
        (tmp_path / "runs" / "b-2-7-test" / last).unlink()
    assert trained == ["b-2-7-test", "a-2-7-test"]


def test_a_finished_run_without_a_result_says_what_to_do(tmp_path, trained):
    Toy(tmp_path).run("a", 2, 7)
    (tmp_path / "runs" / "a-2-7-test" / "metrics.json").unlink()
    with pytest.raises(UserError, match="metrics.json: no such file; remove .*a-2-7-test, and the same command"):
        Toy(tmp_path).run("a", 2, 7)


def test_what_is_said_of_a_run(tmp_path, trained, capsys):
    toy = Toy(tmp_path)
    toy.run("a", 2, 7)
    toy.run("a", 2, 7)
    toy.total = 4
    toy.run("b", 1, 8)
    first, second, third = capsys.readouterr().err.splitlines()
    assert first == "run 1: a-2-7-test, error 0.3 (2 s)"
    assert second == "run 2: a-2-7-test, error 0.3"
    assert third == "run 3 of 4: b-1-8-test, error 0.41 (2 s; about 0 min left)"


def test_a_folder_that_is_not_there_is_named_before_the_first_training(tmp_path, trained, landmark_folder):
    folders = {"a": landmark_folder(), "b": tmp_path / "nowhere"}

    class OfFolders(Toy):
        def trial(self, method, setting, seed, split):
            trial = super().trial(method, setting, seed, split)
            trial.config.data.root = str(folders[method])
            return trial

    with pytest.raises(UserError, match="nowhere: no such folder"):
        OfFolders(tmp_path).choose_each({"a": [1, 2], "b": [1, 2]}, error)
    assert trained == []
    OfFolders(tmp_path).choose("a", [1, 2], error)
    assert trained == ["a-1-1000-val", "a-2-1000-val"]


def test_the_lowest_error_on_val_is_that_of_the_log(tmp_path):
    run = study.Run(tmp_path, {}, {})
    assert run.val_error() == float("inf")
    (tmp_path / "log.csv").write_text("step,loss,val_error\n1,3.0,\n2,2.0,0.25\n3,1.0,\n4,0.5,0.5\n")
    assert run.val_error() == 0.25


def test_checkpoints_are_removed_once(tmp_path):
    run = study.Run(tmp_path, {}, {})
    (tmp_path / "checkpoints" / "2").mkdir(parents=True)
    (tmp_path / "metrics.json").write_text("{}")
    run.remove_checkpoints()
    run.remove_checkpoints()
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


def test_the_domains_of_a_run(tmp_path):
    run = study.Run(tmp_path, {"seed": 1}, {"domains": {"faces": {"me_px": 2.0}, "hands": {"me_px": 3.0}}})
    parts = run.domains()
    assert [part.workdir for part in parts.values()] == [tmp_path / "faces", tmp_path / "hands"]
    assert parts["hands"].result == {"me_px": 3.0} and parts["hands"].cells == {"seed": 1}
