"""Measurements: definitions, values, their table, and agreement."""

import csv
import json
import types

import numpy as np
import pytest
import scipy.stats

from configs import default
from ctd_jax import data, metrics
from ctd_jax.data import folder, synthetic
from ctd_jax.errors import UserError
from ctd_jax.metrics import agreement, measurements
from ctd_jax.metrics.agreement import Measured
from ctd_jax.tasks.landmarks import evaluate
from ctd_jax.training.parallel import Parallel

LANDMARKS = ("a", "b", "c", "d")
CONTENT = {
    "openness": {"ratio": ["ab", "ac"]},  # before its parts
    "ab": ["a", "b"],
    "ac": ["a", "c"],
    "at_a": ["b", "a", "c"],
    "at_d": ["a", "d", "b"],
}
PARSED = measurements.parse(CONTENT, LANDMARKS, "here")
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
    assert measurements.parse(None, LANDMARKS, "here") == measurements.parse({}, LANDMARKS, "here") == ()


FORMS = 'two landmarks (a distance), three (the angle at the middle one), or {"ratio": [two other measurements]}'
BAD = {
    "a list": ([["a", "b"]], f"measurements is [['a', 'b']]; expected an object, each name with {FORMS}"),
    "one landmark": ({"m": ["a"]}, f"measurement 'm' has ['a']; expected a name with {FORMS}, all different"),
    "four": ({"m": ["a", "b", "c", "d"]}, "measurement 'm' has ['a', 'b', 'c', 'd']; expected a name with two"),
    "the same twice": ({"m": ["a", "b", "a"]}, "measurement 'm' has ['a', 'b', 'a']; expected a name with two"),
    "a word": ({"m": "ab"}, "measurement 'm' has ab; expected a name with two landmarks"),
    "numbers": ({"m": [0, 1]}, "measurement 'm' has [0, 1]; expected a name with two landmarks"),
    "no name": ({" ": ["a", "b"]}, "measurement ' ' has ['a', 'b']; expected a name with"),
    "another form": ({"m": {"sum": ["x", "y"]}}, "measurement 'm' has {'sum': ['x', 'y']}; expected a name with two"),
    "unknown landmark": (
        {"m": ["a", "dd"]},
        "measurement 'm' names 'dd', which is not one of the landmarks; the nearest is 'd'",
    ),
    "unknown measurement": (
        {"width": ["a", "b"], "m": {"ratio": ["width", "widht"]}},
        "measurement 'm' names 'widht', which is not one of the measurements; the nearest is 'width'",
    ),
    "ratio of landmarks": ({"m": {"ratio": ["a", "b"]}}, "names 'a', which is not one of the measurements"),
    "ratio of three": (
        {"x": ["a", "b"], "y": ["a", "c"], "z": ["a", "d"], "m": {"ratio": ["x", "y", "z"]}},
        "measurement 'm' has {'ratio': ['x', 'y', 'z']}; expected",
    ),
    "ratio to itself": ({"x": ["a", "b"], "m": {"ratio": ["x", "x"]}}, "measurement 'm' has {'ratio': ['x', 'x']}"),
    "ratio of two kinds": (
        {"x": ["a", "b"], "y": ["a", "b", "c"], "m": {"ratio": ["x", "y"]}},
        "the ratio 'm' divides 'x' (kind: distance) by 'y' (kind: angle); expected two distances, or two angles",
    ),
    "ratio of ratios": (
        {"m": {"ratio": ["x", "n"]}, "n": {"ratio": ["x", "m"]}, "x": ["a", "b"]},
        "the ratio 'm' divides 'x' (kind: distance) by 'n' (kind: ratio); expected two distances, or two angles",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_measurement(case):
    content, expected = BAD[case]
    with pytest.raises(UserError) as caught:
        measurements.parse(content, LANDMARKS, "dataset.json")
    assert str(caught.value).startswith("dataset.json: ") and expected in str(caught.value)


# Values


def values(points, spacing=NOT_KNOWN):
    found = measurements.values(PARSED, LANDMARKS, np.array([points], float), np.asarray(spacing, float))
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


def test_what_cannot_be_told_is_missing():
    found = values([(1, 1), (4, 5), (np.nan, np.nan), (1, 1)])
    assert found["ab"] == 5
    assert all(np.isnan(found[name]) for name in ("ac", "at_a", "openness"))  # without c
    assert np.isnan(found["at_d"])  # d lies on a
    assert np.isnan(values([(1, 1), (4, 5), (1, 1), (4, 1)])["openness"])  # divided by nothing


def test_units():
    units = measurements.units(PARSED, np.array([[0.1, 0.2], [np.nan, np.nan]]))
    assert units.tolist() == [["", "mm", "mm", *["deg unsigned"] * 2], ["", "px", "px", *["deg unsigned"] * 2]]


# Agreement

# Bland and Altman 1986, Lancet 327:307-310: peak expiratory flow of 17 people, l/min, first readings. They report a
# mean difference (large - mini) of -2.1 and a standard deviation of 38.8.
LARGE = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
# Shrout and Fleiss 1979, Psychological Bulletin 86:420-428, table 2: 6 targets x 4 judges; ICC(2,1) is 0.29.
JUDGES = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]


def icc_by_anova(ratings):
    """ICC(2,1) of n targets x k judges from the table of the two-way analysis of variance, as Shrout and Fleiss."""
    ratings = np.asarray(ratings, float)
    (n, k), grand = ratings.shape, ratings.mean()
    targets, judges = ratings.mean(axis=1, keepdims=True), ratings.mean(axis=0, keepdims=True)
    bms = k * ((targets - grand) ** 2).sum() / (n - 1)
    jms = n * ((judges - grand) ** 2).sum() / (k - 1)
    ems = ((ratings - targets - judges + grand) ** 2).sum() / ((n - 1) * (k - 1))
    return (bms - ems) / (bms + (k - 1) * ems + k * (jms - ems) / n)


def test_limits_of_agreement_as_published():
    found = agreement.agreement(np.array(MINI, float), np.array(LARGE, float))
    assert found["bias"] == pytest.approx(-2.1, abs=0.05)
    np.testing.assert_allclose(found["loa"], (-2.1 - 1.96 * 38.8, -2.1 + 1.96 * 38.8), atol=0.15)
    differences = np.subtract(LARGE, MINI)
    assert found["mae"] == pytest.approx(np.abs(differences).mean())
    mean = np.add(LARGE, MINI) / 2
    assert found["slope"] == pytest.approx(np.polyfit(mean, differences, 1)[0])


def test_icc_is_that_of_shrout_and_fleiss():
    assert icc_by_anova(JUDGES) == pytest.approx(0.29, abs=0.005)  # the formula of this test
    for pair in ((LARGE, MINI), *(np.array(JUDGES, float)[:, [i, j]].T for i in range(4) for j in range(i))):
        found = agreement.agreement(*np.asarray(pair, float))
        assert found["icc"] == pytest.approx(icc_by_anova(np.transpose(pair)), rel=1e-9)
    far = agreement.agreement(1e6 + np.array(LARGE, float), 1e6 + np.array(MINI, float))
    assert far["icc"] == pytest.approx(icc_by_anova(np.transpose([LARGE, MINI])), rel=1e-6)


def test_too_few_or_all_the_same():
    one = agreement.agreement(np.array([3.0]), np.array([3.5]))
    assert one["bias"] == one["mae"] == 0.5
    assert np.isnan([*one["loa"], one["icc"], one["slope"]]).all()
    same = agreement.agreement(np.full(7, 0.1), np.full(7, 0.1))
    assert same["loa"] == [0, 0] and np.isnan([same["icc"], same["slope"]]).all()


def measured(n=40, *, subjects=20, unit="mm", seed=0):
    """One measurement of n pictures; the differences lie in the subjects, and so do the pictures' values."""
    rng = np.random.default_rng(seed)
    of = np.arange(n) % subjects
    true_value, shift = rng.normal(30, 3, subjects)[of], rng.normal(1, 2, subjects)[of]
    names = {"images": [f"{i}.png" for i in range(n)], "subjects": [f"s{i}" for i in of], "names": ["ab"] * n}
    units = np.broadcast_to(unit, n).astype("<U3")
    return Measured(
        **{key: np.array(value) for key, value in names.items()},
        units=units,
        value=true_value + shift + rng.normal(0, 0.1, n),
        true_value=true_value,
    )


AB = [one for one in PARSED if one.name == "ab"]


def test_intervals_match_a_loop_that_leaves_out_people():
    table = measured(18, subjects=9)
    found = agreement.summarize(table, AB)["ab"]
    assert found["n"] == 18 and found["unit"] == "mm" and found["of"] == ["a", "b"]
    assert found["true_mean"] == pytest.approx(table.true_value.mean())

    def numbers(rows):
        d, pair = (table.value - table.true_value)[rows], np.stack([table.true_value, table.value], axis=1)[rows]
        bias, sd = d.mean(), d.std(ddof=1)
        slope = np.polyfit(pair.mean(axis=1), d, 1)[0]
        return np.array([bias, bias - 1.96 * sd, bias + 1.96 * sd, slope, np.abs(d).mean(), icc_by_anova(pair)])

    every = numbers(table.subjects != "")
    left_out = np.array([numbers(table.subjects != one) for one in np.unique(table.subjects)])
    half = scipy.stats.t.ppf(0.975, 8) * np.sqrt(8 / 9 * ((left_out - every) ** 2).sum(axis=0))
    ci95 = found["ci95"]
    for key, i in (("bias", 0), ("slope", 3)):
        np.testing.assert_allclose(ci95[key], [every[i] - half[i], every[i] + half[i]])
    np.testing.assert_allclose(ci95["loa"], [[every[i] - half[i], every[i] + half[i]] for i in (1, 2)])
    np.testing.assert_allclose(ci95["mae"], every[4] * np.exp(np.array([-1, 1]) * half[4] / every[4]))
    z = np.arctanh(every[5]) + np.array([-1, 1]) * half[5] / (1 - every[5] ** 2)
    np.testing.assert_allclose(ci95["icc"], np.tanh(z))


def test_no_interval_from_too_few_people():
    assert agreement.summarize(measured(subjects=1), AB)["ab"]["ci95"] == {}
    two = agreement.summarize(measured(2, subjects=2, seed=1), AB)["ab"]
    assert list(two["ci95"]) == ["bias", "mae"]  # the others cannot be told of one picture
    json.dumps(two, allow_nan=False)


def test_pictures_without_spacing_are_not_mixed_with_millimetres():
    table = measured(unit=np.where(np.arange(40) < 30, "mm", "px"))
    only = agreement.summarize(table.rows(np.arange(40) < 30), AB)
    assert agreement.summarize(table, AB) == only
    assert only["ab"]["n"] == 30 and only["ab"]["unit"] == "mm"


def test_a_missing_value_leaves_its_picture_out():
    table = measured()
    table.true_value[3:] = np.nan
    found = agreement.summarize(table, AB)["ab"]
    assert found["n"] == 3 and found["bias"] == pytest.approx((table.value - table.true_value)[:3].mean())
    table.true_value[:] = np.nan
    found = agreement.summarize(table, AB)["ab"]
    assert found == {"of": ["a", "b"], "unit": "mm", "n": 0, "ci95": {}}


# The table


def test_table_as_it_is_opened(tmp_path):
    points = np.array([[(1, 1), (4, 5), (1, 11), (4, 1)]] * 2, float)
    true = points.copy()
    true[1, 0] = np.nan
    table = metrics.Predictions.from_points(["x.png", "y.png"], ["s", ""], LANDMARKS, points, true_xy=true)
    spacing = np.array([[0.5, 0.5], [np.nan, np.nan]])
    measured = Measured.from_predictions(table, [PARSED[1], PARSED[3]], spacing)
    agreement.write(tmp_path / "m.csv", measured)
    assert (tmp_path / "m.csv").read_text().splitlines() == [
        "image,subject,measurement,unit,value,true_value",
        "x.png,s,ab,mm,2.5000,2.5000",
        "x.png,s,at_a,deg unsigned,36.8699,36.8699",
        "y.png,,ab,px,5.0000,",
        "y.png,,at_a,deg unsigned,36.8699,",
    ]
    again = agreement.read(tmp_path / "m.csv")
    for field in ("images", "subjects", "names", "units"):
        np.testing.assert_array_equal(getattr(again, field), getattr(measured, field))
    np.testing.assert_allclose(again.value, measured.value, atol=5e-5)
    np.testing.assert_allclose(again.true_value, measured.true_value, atol=5e-5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "line 1: expected the columns image,.*true_value, found nothing"),
        ("image,value\n", "line 1: expected the columns image,.*found image,value"),
        (
            "{header}\na,s,m,mm,1,2\na,s,m,mm,1\n",
            "line 3: expected 6 cells, found 5",
        ),
        ("{header}\na,s,m,mm,1,2,3\n", "line 2: expected 6 cells"),
        ('{header}\na,s,m,mm,"1,5",2\n', "line 2: expected numbers or empty cells, found 1,5,2"),
        ("{header}\na,s\n", "line 2: expected 6 cells"),
    ],
)
def test_a_table_spoilt(tmp_path, text, expected):
    (tmp_path / "m.csv").write_text(text.replace("{header}", ",".join(agreement.COLUMNS)))
    with pytest.raises(UserError, match=f"m.csv, {expected}"):
        agreement.read(tmp_path / "m.csv")
    with pytest.raises(UserError, match="none.csv: no such file"):
        agreement.read(tmp_path / "none.csv")


# From the folder to metrics.json


def run(tmp_path, monkeypatch, content):
    """metrics.json of two test splits of three pictures each, whose predictions all lie (3, 4) px off in point b."""
    names = ["train", "test1", "test2"]
    true = np.random.default_rng(0).uniform(0, 50, (6, 4, 2))
    true[5, 0] = np.nan
    xy = np.nan_to_num(true, nan=7.0)
    xy[:, 1] += (3, 4)
    parsed = measurements.parse(content, LANDMARKS, "here")
    marks = folder.Landmarks(LANDMARKS, measurements=parsed)

    def part(name, xy):
        images, spacing = [f"{name}_{i}.png" for i in range(3)], np.array([[2.0, 0.5]] * 3)
        frames = np.ones(3), np.zeros((3, 2))
        return types.SimpleNamespace(
            name=name, landmarks=marks, images=images, subjects=images, xy=xy, spacing=spacing, size=50,
            frames=lambda: frames,
        )  # fmt: skip

    source = types.SimpleNamespace(
        landmarks=marks,
        names=names,
        covered=lambda name: names[1:],
        split=lambda name: part(name, true[3:] if name == "test2" else true[:3]),
        picture=lambda image: np.zeros((50, 50, 3), np.uint8),
    )
    source.judged = {"": source}

    def predict(forward, variables, part, parallel, batch_size):
        rows = slice(0, 3) if part.name == "test1" else slice(3, 6)
        images = [f"{part.name}_{i}.png" for i in range(3)]
        return metrics.Predictions.from_points(
            images, images, LANDMARKS, xy[rows], true_xy=true[rows], spacing=part.spacing
        )

    monkeypatch.setattr(evaluate, "predict", predict)
    config = default.get_config()
    (tmp_path / "config.json").write_text("{}")
    evaluate.evaluate(
        None, {"params": {}}, source, Parallel("shard_map"), config, tmp_path, evaluate.Facts(1, 0.1, 0.0)
    )
    return true, xy, {s: json.loads((tmp_path / f"metrics{s}.json").read_text()) for s in ("", "_test1", "_test2")}


def test_every_split_has_its_measurements(tmp_path, monkeypatch):
    true, xy, found = run(tmp_path, monkeypatch, CONTENT)
    d = [np.linalg.norm((points[:, 0] - points[:, 1]) * (2.0, 0.5), axis=-1) for points in (xy, true)]
    difference = d[0] - d[1]
    for split, rows in {"": slice(0, 5), "_test1": slice(0, 3), "_test2": slice(3, 5)}.items():
        one = found[split]["measurements"]["ab"]
        assert one["n"] == len(difference[rows]) and one["unit"] == "mm"
        assert one["bias"] == pytest.approx(difference[rows].mean(), abs=2e-3)  # the points are written to 0.001 px
        assert one["loa"][1] == pytest.approx(one["bias"] + 1.96 * difference[rows].std(ddof=1), abs=5e-3)
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
    parsed = measurements.parse(synthetic.MEASUREMENTS, synthetic.LANDMARKS, "here")
    assert {one.kind for one in parsed} == {"distance", "angle", "ratio"}
    config = default.get_config().data
    config.update({"root": "synthetic", "image_size": 32, "budget": 0})
    config.synthetic.update({"identities": (1, 1, 1), "shots": (1, 1, 1)})
    assert data.load(config, tmp_path).landmarks.measurements == parsed
