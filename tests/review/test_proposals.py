"""Points to begin with: labels, a table, a network."""

import dataclasses

import numpy as np
import pytest

from ctd_jax import Predictor
from ctd_jax.data import about
from ctd_jax.errors import UserError
from ctd_jax.metrics.predictions import Predictions, write_predictions
from ctd_jax.review import folder, proposals
from ctd_jax.tasks.trained import Run
from ctd_jax.training import checkpoint


def table(path, images, names, xy):
    write_predictions(path, Predictions.from_points(images, [""] * len(images), names, np.array(xy, float)))
    return path


@pytest.fixture(scope="module")
def reviewed(landmark_folder):
    root = landmark_folder(people=4, shots=1, size=32)
    lines = (root / "landmarks.csv").read_text().splitlines()
    (root / "landmarks.csv").write_text("\n".join(lines[:2]) + "\n")
    return folder.read(root)


def test_labels_come_first_then_the_table(reviewed, tmp_path):
    names, xy = ("chin", "other"), [[[1, 2], [5, 6]]] * 3
    images = ["images/000.png", str(reviewed.root / "images/001.png"), "elsewhere/002.png"]
    given = proposals.of_table(table(tmp_path / "p.csv", images, names, xy), reviewed)
    proposed = proposals.Proposals(reviewed, given)
    chin = {"chin": {"x": 1.0, "y": 2.0, "state": "placed", "how": "predicted"}}
    assert proposed.of("images/000.png").result() == reviewed.labels["images/000.png"]
    assert proposed.of("images/001.png").result() == proposed.of("images/002.png").result() == chin
    assert proposed.of("images/003.png").result() == {}
    proposed.close()


def test_a_row_of_this_folder_goes_before_one_of_another_with_the_same_name(reviewed, tmp_path):
    """As `predict` writes them of two folders at once."""
    here, elsewhere = str(reviewed.root / "images/001.png"), "week2/001.png"
    for images, places in (([here, elsewhere], [1, 9]), ([elsewhere, here], [9, 1])):
        xy = [[[place, place]] for place in places]
        given = proposals.of_table(table(tmp_path / "p.csv", images, ["chin"], xy), reviewed)
        assert given("images/001.png")["chin"]["x"] == 1
    two = table(tmp_path / "q.csv", [elsewhere, "week3/001.png"], ["chin"], [[[1, 1]], [[9, 9]]])
    with pytest.raises(UserError, match="q.csv: week2/001.png and week3/001.png may both be images/001.png of "):
        proposals.of_table(two, reviewed)


def test_a_point_that_is_said_to_be_absent_is_not_proposed(reviewed, finished_run, tmp_path, monkeypatch):
    images, names, present = ["images/001.png", "images/002.png"], ["chin", "nasion"], [[0.001, 0.5], [0.9, np.nan]]
    given = Predictions.from_points(images, [""] * 2, names, np.ones((2, 2, 2)))
    write_predictions(tmp_path / "p.csv", dataclasses.replace(given, present=np.array(present)))
    proposed = proposals.of_table(tmp_path / "p.csv", reviewed)
    assert [list(proposed(image)) for image in images] == [["nasion"], ["chin", "nasion"]]
    seen = Predictor.see

    def see(self, *given):
        found = seen(self, *given)
        return dataclasses.replace(found, present=np.where(found.landmarks == "chin", 0.001, np.nan)[None])

    monkeypatch.setattr(Predictor, "see", see)
    found = proposals.of_run(finished_run[0], reviewed)(images[0])
    assert list(found) == [name for name in Predictor(finished_run[0]).names if name != "chin"]


@pytest.mark.parametrize(
    ("image", "name", "said"),
    [("images/000.png", "x", "expected landmarks of the folder"), ("no.png", "chin", "expected pictures of")],
)
def test_a_table_of_something_else(reviewed, tmp_path, image, name, said):
    with pytest.raises(UserError, match=said):
        proposals.of_table(table(tmp_path / "p.csv", [image], [name], [[[1, 2]]]), reviewed)


def test_a_run_proposes_what_it_predicts(reviewed, finished_run):
    run = finished_run[0]
    found = proposals.of_run(run, reviewed)("images/001.png")
    expected = Predictor(run)([reviewed.root / "images/001.png"])
    assert tuple(found) == expected.names
    np.testing.assert_array_equal([[one["x"], one["y"]] for one in found.values()], expected.xy[0])
    other = dataclasses.replace(reviewed, landmarks=about.Landmarks(("tip",)), labels={}, table=None)
    with pytest.raises(UserError, match="expected landmarks of the folder, tip, found"):
        proposals.of_run(run, other)


def test_a_run_and_a_table_name_the_points(tmp_path, monkeypatch):
    assert proposals.names_of_table(table(tmp_path / "p.csv", ["a.png"], ["chin", "tip"], [[[1, 2]] * 2])) == (
        "chin", "tip",
    )  # fmt: skip
    meta = {"landmarks": ["chin", "tip"]}
    monkeypatch.setattr(Run, "read", lambda workdir: Run(workdir, None, {}, meta))
    assert proposals.names_of_run(tmp_path) == ("chin", "tip")
    meta["domains"] = [{"name": "eyes", "landmarks": ["a"]}, {"name": "hips", "landmarks": ["b"]}]
    assert proposals.names_of_run(tmp_path, "hips") == ("b",)
    with pytest.raises(UserError, match=r"give --domain=eyes\|hips"):
        proposals.names_of_run(tmp_path)


def test_a_run_of_several_domains_is_asked_for_one(reviewed, finished_run, monkeypatch):
    asked = []

    class Domains(Predictor):
        def __init__(self, workdir, *, domain=None):
            asked.append(domain)
            super().__init__(workdir)

    monkeypatch.setattr("ctd_jax.Predictor", Domains)
    proposals.of_run(finished_run[0], reviewed, "hands")
    assert asked == ["hands"]


def test_a_run_that_was_trained_on_boxes_sees_what_is_in_them(landmark_folder, finished_run, monkeypatch, caplog):
    run, best = finished_run[0], checkpoint.best
    monkeypatch.setattr(checkpoint, "best", lambda workdir: (best(workdir)[0], best(workdir)[1] | {"boxes": True}))
    root = landmark_folder(people=3, shots=1, size=48)
    with pytest.raises(UserError, match="expected the columns box_x0, box_y0, box_x1, box_y1 in "):
        proposals.of_run(run, folder.read(root))
    head, first, *_ = (root / "landmarks.csv").read_text().splitlines()
    boxed = [f"{head},box_x0,box_y0,box_x1,box_y1", f"{first},4,6,40,44"]
    (root / "landmarks.csv").write_text("\n".join(boxed) + "\n")
    reviewed = folder.read(root)
    predict = proposals.of_run(run, reviewed)
    said = "2 of 3 pictures have no box in landmarks.csv, and no points are proposed there: images/001.png, images/002"
    assert said in caplog.text
    found, image = predict(reviewed.images[0]), root / reviewed.images[0]
    expected = Predictor(run)([image], boxes=np.array([[4, 6, 40, 44]])).xy[0]
    np.testing.assert_array_equal([[one["x"], one["y"]] for one in found.values()], expected)
    assert predict(reviewed.images[1]) == {}  # it is not in the table
