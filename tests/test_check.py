"""The command that looks through a folder; what it finds is tested in `inspection`."""

import json
import shutil

import landmark_rows
import pytest


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
