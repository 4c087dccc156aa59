"""Measurements: definitions and values, and what a run makes of them."""

import csv
import json
import types

import numpy as np
import pytest
import scipy.spatial

from configs import default
from ctd_jax import data, metrics
from ctd_jax.data import synthetic
from ctd_jax.metrics import definitions, measurements
from ctd_jax.tasks.landmarks import evaluate
from ctd_jax.tasks.student import Facts
from ctd_jax.training.parallel import Parallel

LANDMARKS = ("a", "b", "c", "d")
CONTENT = {
    "openness": {"ratio": ["ab", "ac"]},  # before its parts
    "ab": ["a", "b"],
    "ac": ["a", "c"],
    "at_a": ["b", "a", "c"],
    "at_d": ["a", "d", "b"],
}
PARSED = definitions.parse(CONTENT, LANDMARKS, "here")
NOT_KNOWN = np.full((1, 2), np.nan)


# Definitions


def test_kinds_and_what_they_are_of():
    assert [(one.name, one.kind, one.of) for one in PARSED] == [
        ("openness", "ratio", ("ab", "ac")),
        ("ab", "distance", ("a", "b")),
        ("ac", "distance", ("a", "c")),
        ("at_a", "angle", ("b", "a", "c")),
        ("at_d", "angle", ("a", "d", "b")),
    ]
    assert {one.name: one.definition for one in PARSED} == CONTENT
    assert definitions.parse(None, LANDMARKS, "here") == definitions.parse({}, LANDMARKS, "here") == ()


# Values


def values(points, spacing=NOT_KNOWN):
    found = measurements.evaluate(PARSED, LANDMARKS, np.array([points], float), np.asarray(spacing, float)).value
    return {one.name: value for one, value in zip(PARSED, found[0], strict=True)}


def test_values_by_hand():
    """a at (1, 1); b 3 right and 4 down of it; c 10 down; d 3 right: a right angle there."""
    found = values([(1, 1), (4, 5), (1, 11), (4, 1)])
    assert found["ab"] == pytest.approx(5) and found["ac"] == pytest.approx(10)
    assert found["openness"] == pytest.approx(0.5)
    assert found["at_a"] == pytest.approx(36.8699, abs=1e-4)  # arctan(3 / 4)
    assert found["at_d"] == pytest.approx(90)


def test_spacing_of_two_axes_changes_distances_and_angles():
    """2 mm across, 0.5 mm down: b lies 6 mm right and 2 mm below a, c 5 mm below it."""
    found = values([(1, 1), (4, 5), (1, 11), (4, 1)], [(2, 0.5)])
    assert found["ab"] == pytest.approx(40**0.5) and found["ac"] == pytest.approx(5)
    assert found["openness"] == pytest.approx(40**0.5 / 5)
    assert found["at_a"] == pytest.approx(71.5651, abs=1e-4)  # arctan(6 / 2)


@pytest.mark.parametrize("degrees", [0, 1e-6, 0.01, 30, 90, 150, 179.99, 180])
def test_angles_have_no_sign_and_no_blunt_ends(degrees):
    for turn in np.radians([0, 77, 200, 300]):
        for sign in (-1, 1):
            ends = [np.array([np.cos(t), np.sin(t)]) for t in (turn, turn + sign * np.radians(degrees))]
            found = values([(0, 0), 7 * ends[0], 3 * ends[1], (9, 9)])
            assert found["at_a"] == pytest.approx(degrees, abs=1e-9, rel=1e-6)


def test_signed_angles_go_round_and_sums_go_beyond():
    """Rays at 179, -178, 100, -100 and 60 degrees from the one to a, about o; a mean does not depend on the order."""
    names = ("o", "a", "b", "c", "d", "e", "f")
    content = {one: {"signed_angle": ["a", "o", one]} for one in "bcdef"} | {
        "mean": {"mean": ["b", "c"]}, "less": {"difference": ["b", "c"]}, "sum": {"sum": ["b", "d"]},
        "half": {"mean": ["sum", "c"]}, "of means": {"difference": ["c", "mean"]},
        "bef": {"mean": ["b", "e", "f"]}, "efb": {"mean": ["e", "f", "b"]}, "feb": {"mean": ["f", "e", "b"]},
    }  # fmt: skip
    turn = np.radians([0, 179, -178, 100, -100, 60])
    xy = np.concatenate([[[0, 0]], np.stack([np.cos(turn), np.sin(turn)], -1)])[None]
    parsed = definitions.parse(content, names, "here")
    found = measurements.evaluate(parsed, names, xy, NOT_KNOWN).value[0]
    of_three = (260 + 179 + 60) / 3
    expected = [179, -178, 100, -100, 60, -179.5, -3, 279, (279 - 178) / 2, 1.5, of_three, of_three, of_three]
    np.testing.assert_allclose(found, expected)
    assert measurements.units(parsed, NOT_KNOWN).tolist() == [["deg"] * 13]


def test_what_cannot_be_told_is_missing():
    found = values([(1, 1), (4, 5), (np.nan, np.nan), (1, 1)])
    assert found["ab"] == 5
    assert all(np.isnan(found[name]) for name in ("ac", "at_a", "openness"))  # without c
    assert np.isnan(found["at_d"])  # d lies on a
    assert np.isnan(values([(1, 1), (4, 5), (1, 1), (4, 1)])["openness"])  # divided by nothing


def test_units():
    units = measurements.units(PARSED, np.array([[0.1, 0.2], [np.nan, np.nan]]))
    assert units.tolist() == [["", "mm", "mm", *["deg unsigned"] * 2], ["", "px", "px", *["deg unsigned"] * 2]]


# From the folder to metrics.json


def run(tmp_path, monkeypatch, content):
    """metrics.json of two test splits of three pictures each, whose predictions all lie (3, 4) px off in point b."""
    names = ["train", "test1", "test2"]
    true = np.random.default_rng(0).uniform(0, 50, (6, 4, 2))
    true[5, 0] = np.nan
    xy = np.nan_to_num(true, nan=7.0)
    xy[:, 1] += (3, 4)
    parsed = definitions.parse(content, LANDMARKS, "here")
    marks = data.Landmarks(LANDMARKS, measurements=parsed)

    config = default.get_config()
    config.data.image_size = 50

    def part(name, xy):
        images = [f"{name}_{i}.png" for i in range(3)]
        blank, spacing = np.zeros((50, 50, 3), np.uint8), np.array([[2.0, 0.5]] * 3)
        points = data.Points(marks, xy)
        return data.Dataset.of(
            config.data, points, images=images, subjects=images, spacing=spacing, original=lambda i: blank
        )

    pictures = types.SimpleNamespace(
        targets=data.Points(marks, true),
        names=names,
        splits_called=lambda name: names[1:],
        split=lambda name: part(name, true[3:] if name == "test2" else true[:3]),
        picture=lambda image: np.zeros((50, 50, 3), np.uint8),
    )
    pictures.evaluated, pictures.trained_on = {"": pictures}, pictures.split("train")

    def look_at(look, variables, part, parallel, batch_size):
        rows = slice(3, 6) if part.images[0].startswith("test2") else slice(0, 3)
        table = metrics.Predictions.from_points(
            part.images, part.subjects, LANDMARKS, xy[rows], true_xy=true[rows], spacing=part.spacing
        )
        return evaluate.Looked(table, {}, np.full(3, 50.0), None)

    monkeypatch.setattr(evaluate, "look_at", look_at)
    (tmp_path / "config.json").write_text("{}")
    evaluate.evaluate(None, {"params": {}}, pictures, Parallel("shard_map"), config, tmp_path, Facts(1, 0.0, 0.1))
    return true, xy, {s: json.loads((tmp_path / f"metrics{s}.json").read_text()) for s in ("", "_test1", "_test2")}


@pytest.mark.slow
def test_every_split_has_its_measurements(tmp_path, monkeypatch):
    true, xy, found = run(tmp_path, monkeypatch, CONTENT)
    d = [np.linalg.norm((points[:, 0] - points[:, 1]) * (2.0, 0.5), axis=-1) for points in (xy, true)]
    difference = d[0] - d[1]
    for split, rows in {"": slice(0, 5), "_test1": slice(0, 3), "_test2": slice(3, 5)}.items():
        one = found[split]["measurements"]["ab"]
        assert one["n"] == len(difference[rows]) and one["unit"] == "mm"
        assert one["bias"] == pytest.approx(difference[rows].mean(), abs=2e-3)  # the points are written to 0.001 px
        assert one["loa"][1] == pytest.approx(one["bias"] + 1.96 * difference[rows].std(ddof=1), abs=5e-3)
        pairs = [(p[known], t[known]) for p, t in zip(xy, true, strict=True) for known in [np.isfinite(t[:, 0])]]
        shapes = [scipy.spatial.procrustes(t * (2, 0.5), p * (2, 0.5))[2] ** 0.5 for p, t in pairs]
        of_split = {"": shapes, "_test1": shapes[:3], "_test2": shapes[3:]}[split]
        assert found[split]["shape"]["n_images"] == len(of_split)
        assert found[split]["shape"]["procrustes_distance"] == pytest.approx(np.mean(of_split), abs=2e-4)
    assert list(found[""]["measurements"]) == list(CONTENT)
    assert found[""]["measurements"]["openness"]["of"] == {"ratio": ["ab", "ac"]}
    with (tmp_path / "measurements.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 * len(CONTENT)
    assert "<h2>Measurements" in (tmp_path / "report.html").read_text() and (tmp_path / "measurements.png").exists()


def test_without_measurements_there_is_no_trace_of_them(tmp_path, monkeypatch):
    found = run(tmp_path, monkeypatch, None)[-1]
    assert "measurements" not in found[""]
    assert not list(tmp_path.glob("measurements.*"))
    assert "<h2>Measurements" not in (tmp_path / "report.html").read_text()


def test_drawn_faces_have_measurements(tmp_path):
    parsed = definitions.parse(synthetic.MEASUREMENTS, synthetic.LANDMARKS, "here")
    assert {one.kind for one in parsed} == {"distance", "angle", "ratio"}
    config = default.get_config().data
    config.update({"root": "synthetic", "image_size": 32, "budget": 0})
    config.synthetic.update({"identities": (1, 1, 1), "shots": (1, 1, 1)})
    assert data.load(config, tmp_path).targets.landmarks.measurements == parsed
