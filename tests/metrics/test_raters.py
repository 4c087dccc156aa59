"""A network and several raters: by hand, and of a run."""

import csv
import json
import re
import types

import numpy as np
import pytest
from point_tables import NAN, table
from scipy import stats

from ctd_jax import data, metrics
from ctd_jax.errors import UserError
from ctd_jax.metrics import raters
from ctd_jax.tasks.landmarks import evaluate

NAMES = ("ann", "bob")


def two_raters(predictions, apart):
    """The first has annotated what the table has; the second, to the right of it by `apart` [N, K] px."""
    first = predictions.true_xy.copy()
    second = first + np.stack([np.asarray(apart, float), np.zeros_like(apart, float)], axis=-1)
    return np.stack([first, second])


def test_distances_are_means_over_raters_points_and_pictures():
    # network 1, 3 px from the first rater, who is 4 px left of the second: 3, 1 px from that one; mean 2, 2
    # second picture, one point: 6 px, and 6 - 4 = 2 px; mean 4. Together (2 + 4) / 2 = 3; the raters are 4 apart
    predictions = table([[1, 3], [6, NAN]])
    found = raters.summarize(predictions, two_raters(predictions, [[4, 4], [4, 4]]), NAMES, np.full((2, 2), NAN))
    assert (found["unit"], found["n_points"], found["names"]) == ("px", 3, ["ann", "bob"])
    assert (found["network"], found["between"], found["difference"]) == pytest.approx((3, 4, -1))


def test_the_interval_is_that_of_a_paired_test_over_subjects():
    differences = np.array([-1.0, -2.0, -1.5, -0.5])
    predictions = table(np.zeros((4, 1)))  # the network is where the first rater is, half as far as the raters apart
    apart = -2 * differences[:, None]
    found = raters.summarize(predictions, two_raters(predictions, apart), NAMES, np.full((4, 2), [0.5, 9]))
    low, high = stats.ttest_1samp(differences / 2, 0).confidence_interval()
    assert found["unit"] == "mm" and found["ci95"] == pytest.approx([low, high])
    assert found["p"] == pytest.approx(stats.ttest_1samp(differences / 2, 0).pvalue)
    assert found["beaten"]


def test_who_is_not_beaten():
    worse = table([[5], [6], [7]])
    assert not raters.summarize(worse, two_raters(worse, np.ones((3, 1))), NAMES, np.ones((3, 2)))["beaten"]
    unsure = table([[0], [0], [14]])  # differences of -4, -4 and 2 px: nearer on average, not in every subject
    found = raters.summarize(unsure, two_raters(unsure, np.full((3, 1), 8)), NAMES, np.ones((3, 2)))
    assert found["difference"] < 0 and found["ci95"][1] > 0 and not found["beaten"]


def test_one_subject_has_no_interval_and_one_rater_no_comparison():
    one = table([[1, 3]])
    found = raters.summarize(one, two_raters(one, [[4, 4]]), NAMES, np.ones((1, 2)))
    assert found["beaten"] and "ci95" not in found
    assert raters.summarize(one, two_raters(one, [[4, 4]])[:1], NAMES[:1], np.ones((1, 2))) == {}
    assert raters.summarize(one, two_raters(one, [[NAN, NAN]]), NAMES, np.ones((1, 2))) == {}


SETTINGS = {"normalizer": None, "thresholds": {"nme": 0.1, "mm": 4.0, "px": 4.0}, "radii_mm": (2.0,)}


def three_raters():
    """A network beside three people, who are at 0, 4 and 10 px; the second picture has one point that all have, which
    the network finds exactly. A pixel is half a millimetre."""
    predictions = table([[1, 3], [0, 50]], mm_per_px=0.5)
    points = np.stack([two_raters(predictions, np.full((2, 2), shift))[1] for shift in (0.0, 4.0, 10.0)])
    points[1, 1, 1] = NAN
    names = ("ann", "bob", "cat")
    return predictions, raters.Distances.of(predictions.xy, points, names, np.full((2, 2), 0.5))


def test_every_pair_beside_the_network():
    predictions, distances = three_raters()
    found = raters.beside(predictions, distances, measure="me_mm", **SETTINGS)
    # ann: 1, 3 and 0 px, mean (2 + 0) / 2; bob: 3, 1 and 4 px, (2 + 4) / 2; cat: 9, 7 and 10 px, (8 + 10) / 2
    assert [one["me_px"] for one in found["network_to"].values()] == [1.0, 3.0, 9.0]
    assert found["network_to"]["cat"]["me_mm"] == 4.5 and found["network_to"]["ann"]["sdr_le_2mm"] == 1.0
    assert found["annotation"]["me_px"] == 1.0 and found["annotation"]["n_points"] == 3  # not the 50 px
    assert [one["raters"] for one in found["pairs"]] == [["ann", "bob"], ["ann", "cat"], ["bob", "cat"]]
    assert [one["me_mm"] for one in found["pairs"]] == [2.0, 5.0, 3.0]
    people = found["people"]
    assert people["me_mm"] == pytest.approx(10 / 3) and people["sdr_le_2mm"] == pytest.approx(1 / 3)
    assert people["fr@4"] == pytest.approx(1 / 3)  # of three pairs, one is more than 4 mm apart
    assert list(people["per_landmark"]) == ["p0", "p1"]
    assert people["per_landmark"]["p1"] == pytest.approx({"me_px": 20 / 3, "me_mm": 10 / 3})
    errors = distances.image_error(predictions, distances.of_network, None, "me_px")
    np.testing.assert_allclose(errors, [(2 + 2 + 8) / 3, (0 + 4 + 10) / 3])


def test_what_is_not_known_is_left_out(tmp_path):
    """No millimetres, a landmark that nobody but the network has, and one subject, who has no interval."""
    predictions = table([[1, 3]])
    points = two_raters(predictions, [[4, NAN]])
    distances = raters.Distances.of(predictions.xy, points, NAMES, np.full((1, 2), NAN))
    found = raters.beside(predictions, distances, measure="me_px", **SETTINGS)
    (name, _) = predictions.landmarks.tolist()
    assert found["people"]["per_landmark"] == {name: {"me_px": 4.0}}
    assert set(found["people"]) == {"me_px", "auc@4", "fr@4", "ci95", "per_landmark"}  # no rate within 2 mm
    assert found["people"]["ci95"] == {} and "per_landmark" not in found["annotation"]
    raters.write(tmp_path / "raters.csv", predictions, distances)
    lines = (tmp_path / "raters.csv").read_text("utf-8").splitlines()
    assert [row["distance_mm"] for row in csv.DictReader(lines)] == [""] * 3


def test_people_are_normalised_by_what_is_annotated():
    predictions, distances = three_raters()
    found = raters.beside(predictions, distances, measure="nme_p0_p1", **SETTINGS | {"normalizer": ("p0", "p1")})
    assert [one["nme_p0_p1"] for one in found["pairs"]] == pytest.approx([4 / 50, 10 / 50, 6 / 50])


def test_distances_as_they_are_written(tmp_path):
    predictions, distances = three_raters()
    raters.write(tmp_path / "raters.csv", predictions, distances)
    lines = (tmp_path / "raters.csv").read_text().splitlines()
    assert lines[:2] == ["image,landmark,from,rater,distance_px,distance_mm", "0.png,p0,,ann,1.0000,0.5"]
    assert len(lines) == 1 + 3 * 6
    again = raters.read(tmp_path / "raters.csv", predictions)
    assert list(again.px) == list(distances.px) and again.of_people == distances.of_people
    for pair in distances.px:
        np.testing.assert_array_equal(again.px[pair], distances.px[pair])
        np.testing.assert_array_equal(again.mm[pair], distances.mm[pair])
    for spoilt in ("0.png,p0,,ann,1.0,0.5", "0.png,p9,,ann,1,1", "0.png,p0,,ann,x,1"):
        (tmp_path / "raters.csv").write_text(f"{lines[0]}\n{spoilt}\n")
        if spoilt.endswith("1.0,0.5"):
            assert raters.read(tmp_path / "raters.csv", predictions).px["", "ann"][0, 0] == 1
            continue
        with pytest.raises(UserError, match="raters.csv, line 2: expected"):
            raters.read(tmp_path / "raters.csv", predictions)


@pytest.mark.parametrize(
    ("annotated", "names", "said"),
    [
        ([[1, 1], [1, 1], [0, 0]], ("ann", "bob"), "cat, who annotated none of the evaluated pictures"),
        ([[1, 0], [0, 0], [0, 0]], None, "bob, cat, who annotated none .*no point .* is annotated by two people"),
        ([[0, 0], [0, 0], [0, 0]], None, "ann, bob, cat, who annotated none .*annotated by two people"),
        ([[1, 0], [0, 1], [1, 1]], None, "no point of the evaluated pictures is annotated by ann and bob and cat"),
        ([[1, 0], [1, 0], [1, 1]], ("ann", "bob", "cat"), ""),
    ],
)
def test_who_has_no_evaluated_picture_is_left_out_and_named(tmp_path, caplog, annotated, names, said):
    """Three raters of three pictures, of which two are evaluated."""
    predictions = table([[1, 3], [6, 2]])
    points = np.ones((3, 3, 2, 2))  # [N, R, K, 2]
    points[:2] = np.where(np.transpose(annotated)[..., None, None], points[:2], NAN)
    marks = data.Landmarks(("p0", "p1"), raters=("ann", "bob", "cat"))
    everything = types.SimpleNamespace(images=[*predictions.images, "2.png"], spacing=np.full((3, 2), 0.5))
    pictures = types.SimpleNamespace(targets=data.Points(marks, points[:, 0], points), everything=everything)
    found = evaluate._people(tmp_path / "raters.csv", predictions, pictures)
    assert (found and found.names) == names and (tmp_path / "raters.csv").exists() == bool(names)
    assert re.fullmatch(f".*{said}", " ".join(caplog.messages))
    if found:
        assert len(found.points) == len(names) and found.distances.known.any()
        assert raters.summarize(predictions, found.points, found.names, found.spacing)["names"] == list(names)


def test_a_run_on_a_folder_with_raters(finished_run):
    workdir, *_ = finished_run
    predictions = metrics.read_predictions(workdir / "predictions.csv")
    root = json.loads((workdir / "config.json").read_text())["data"]["root"]
    with open(f"{root}/landmarks_one.csv", newline="") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    true = [[[float(rows[i][f"{k}_{a}"]) for a in "xy"] for k in predictions.landmarks] for i in predictions.images]
    mm = np.array([0.5, 0.25])
    apart = [np.linalg.norm((predictions.xy - true - [shift, 0]) * mm, axis=-1).mean() for shift in (0, 2)]
    found = json.loads((workdir / "metrics.json").read_text())["raters"]
    assert found["network"] == pytest.approx(np.mean(apart), rel=1e-4)
    assert found["between"] == pytest.approx(2 * 0.5)
    assert found["n_points"] == predictions.xy[..., 0].size  # also the chin that landmarks.csv lacks
    assert found["shape"]["between"] == pytest.approx(
        {"procrustes_distance": 0, "centroid_size_difference": 0}, abs=1e-6
    )  # one rater's points are the other's, shifted
    assert found["shape"]["network"]["procrustes_distance"] > 0.01
    assert {"raters"} <= set(json.loads((workdir / "metrics_test1.json").read_text()))
    assert [one["me_mm"] for one in found["pairs"]] == pytest.approx([1.0])
    assert [one["me_mm"] for one in found["network_to"].values()] == pytest.approx(apart, rel=1e-4)
    page = (workdir / "report.html").read_text("utf-8")
    assert "Beside people" in page and "one, from two" in page and "network, from one" in page
    width = json.loads((workdir / "metrics.json").read_text())["measurements"]
    assert all(one["raters"]["reproducibility"] == pytest.approx(0, abs=1e-4) for one in width.values())
    assert "than another annotator is (1.00 mm)" in (workdir / "report.html").read_text("utf-8")
