"""A run of an older version, whose config.json lacks keys: every command reads it."""

import json
import shutil

import older
import pytest
from PIL import Image

from ctd_jax import Predictor

pytestmark = pytest.mark.slow


@pytest.fixture
def picture(tmp_path):
    Image.linear_gradient("L").resize((60, 40)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.fixture(scope="module")
def known():
    """What `predictions_of_today` found."""
    return {}


@pytest.fixture
def predictions(cli, tmp_path, monkeypatch, picture):
    """Function of a run: the content of its predictions of the picture."""
    monkeypatch.chdir(tmp_path)

    def call(run):
        code, _, error = cli("ctd_jax.predict", f"--workdir={run}", picture.name, "--out=table.csv")
        assert code == 0, error
        return (tmp_path / "table.csv").read_bytes()

    return call


@pytest.fixture
def predictions_of_today(predictions, known, finished_run):
    if not known:
        known[""] = predictions(finished_run[0])
    return known[""]


@pytest.mark.parametrize("version", older.CONFIGS)
def test_predictions_are_those_of_a_run_of_today(predictions, predictions_of_today, finished_run, tmp_path, version):
    assert predictions(older.copy(finished_run[0], tmp_path / "run", version)) == predictions_of_today


def test_it_is_exported(cli, finished_run, tmp_path):
    run = older.copy(finished_run[0], tmp_path / "run", "first")
    code, _, error = cli("ctd_jax.export", f"--workdir={run}", "--to=stablehlo", f"--out={tmp_path / 'network'}")
    assert code == 0, error
    about = json.loads((tmp_path / "network.json").read_text())
    assert about["config_hash"] == json.loads((run / "metrics.json").read_text())["config_hash"]


def test_it_is_compared(cli, finished_run, tmp_path):
    run = older.copy(finished_run[0], tmp_path / "run", "first")
    shutil.copy(run / "predictions.csv", tmp_path / "b.csv")
    code, out, error = cli("ctd_jax.compare", run, tmp_path / "b.csv")
    assert code == 0, error
    assert out.startswith("A is no better than the mean shape") and "4 pictures" in out


def arguments_of(finished_run, version):
    """The command line of the run; the keys of the hourglass, which it isn't, came after the first version."""
    arguments = json.loads((finished_run[0].parent / "arguments.json").read_text())
    return [argument for argument in arguments if version != "first" or "hourglass" not in argument]


@pytest.mark.parametrize("version", ["first", "landmark_teacher"])
def test_it_continues_and_its_configuration_is_written_anew(cli, finished_run, tmp_path, version):
    run, arguments = older.copy(finished_run[0], tmp_path / "run", version), arguments_of(finished_run, version)
    code, out, error = cli("ctd_jax.main", *arguments, f"--workdir={run}")
    assert code == 0 and f"{run} is finished" in error
    (run / "report.html").unlink()
    code, out, error = cli("ctd_jax.main", *arguments, f"--workdir={run}")
    assert code == 0, error
    assert out.splitlines()[:-1] == finished_run[1].splitlines()[:-1]
    found, today = (json.loads((folder / "config.json").read_text()) for folder in (run, finished_run[0]))
    if version == "first":
        assert found["model"].pop("hourglass") == {"stacks": 2, "channels": 64, "depth": 3}
        del today["model"]["hourglass"]
    noted = {"versions": 0, "contents": 0}  # other tests write to the folder of the pictures
    assert found | noted == today | noted


def test_another_value_of_a_key_that_it_lacks_is_named(cli, finished_run, tmp_path):
    run, arguments = older.copy(finished_run[0], tmp_path / "run", "first"), arguments_of(finished_run, "first")
    code, _, error = cli("ctd_jax.main", *arguments, f"--workdir={run}", "--config.train.batch_norm=device")
    assert code == 2
    assert "another configuration: train.batch_norm was 'global', is 'device'." in error


def test_a_key_that_every_version_had_is_named(cli, finished_run, picture, tmp_path):
    run = older.copy(finished_run[0], tmp_path / "run", "first")
    content = json.loads((run / "config.json").read_text())
    del content["model"]["encoder"], content["data"]["image_size"]
    (run / "config.json").write_text(json.dumps(content))
    code, _, error = cli("ctd_jax.predict", f"--workdir={run}", picture, f"--out={tmp_path / 'a.csv'}")
    assert code == 2
    assert "config.json: it has no data.image_size, model.encoder, so it is damaged; restore the file" in error


def test_from_python(finished_run, picture, tmp_path):
    run = older.copy(finished_run[0], tmp_path / "run", "first")
    assert (Predictor(run)(picture).xy == Predictor(finished_run[0])(picture).xy).all()
