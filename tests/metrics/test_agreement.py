"""Agreement of measurements, against published numbers, an analysis of variance and a loop; and their table."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.stats

from ctd_jax import metrics
from ctd_jax.errors import UserError
from ctd_jax.metrics import agreement, definitions
from ctd_jax.metrics.agreement import Measured

LANDMARKS = ("a", "b", "c", "d")
DISTANCE, ANGLE = definitions.parse({"ab": ["a", "b"], "at_a": ["b", "a", "c"]}, LANDMARKS, "here")

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


def test_several_raters_are_those_of_shrout_and_fleiss():
    found = agreement.between(np.array(JUDGES, float))
    assert found["icc"] == pytest.approx(0.29, abs=0.005) and found["n"] == 6
    assert found["icc"] == pytest.approx(icc_by_anova(np.array(JUDGES, float)))


def test_reproducibility_of_two_is_that_of_their_differences():
    """Of two raters s_w is the root mean square difference over the root of 2: 1.96 times it remains."""
    values = np.array([[10.0, 12], [20, 19], [30, 32], [np.nan, 1]])
    found = agreement.between(values)
    assert found["reproducibility"] == pytest.approx(1.96 * np.sqrt((4 + 1 + 4) / 3))
    assert found["mae"] == pytest.approx(5 / 3) and found["n"] == 3
    assert agreement.between(np.full((3, 2), np.nan)) == {"n": 0} and agreement.between(np.ones((3, 1))) == {"n": 3}
    assert "icc" not in agreement.between(np.ones((3, 2)))


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
        **dict.fromkeys(("classes", "true_classes", "reasons"), np.full(n, "")),
    )


def test_intervals_match_a_loop_that_leaves_out_people():
    table = measured(18, subjects=9)
    found = agreement.summarize(table, [DISTANCE])["ab"]
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
    assert agreement.summarize(measured(subjects=1), [DISTANCE])["ab"]["ci95"] == {}
    two = agreement.summarize(measured(2, subjects=2, seed=1), [DISTANCE])["ab"]
    assert list(two["ci95"]) == ["bias", "mae"]  # the others cannot be told of one picture
    json.dumps(two, allow_nan=False)
    # of values that are all predicted as 2 the slope is the same without any of the people
    flat = dataclasses.replace(measured(4, subjects=4), true_value=np.array([1.0, 2, 3, 4]), value=np.full(4, 2.0))
    found = agreement.summarize(flat, [DISTANCE])["ab"]
    assert found["slope"] == -2 and "slope" not in found["ci95"] and "mae" in found["ci95"]


def test_pictures_without_spacing_are_not_mixed_with_millimetres():
    table = measured(unit=np.where(np.arange(40) < 30, "mm", "px"))
    only = agreement.summarize(table.rows(np.arange(40) < 30), [DISTANCE])
    assert agreement.summarize(table, [DISTANCE]) == only
    assert only["ab"]["n"] == 30 and only["ab"]["unit"] == "mm"


def test_signed_angles_are_compared_across_180_degrees():
    """Differences of 1, -1.5 and 0.5 degrees; the same angles turned to about 0 have the same numbers."""
    far = dataclasses.replace(
        measured(3, unit="deg"), true_value=np.array([179.5, -179, 178]), value=np.array([-179.5, 179.5, 178.5])
    )
    near = dataclasses.replace(far, true_value=np.array([-0.5, 1, -2]), value=np.array([0.5, -0.5, -1.5]))
    rows = far.comparable("ab")
    np.testing.assert_allclose(rows.value - rows.true_value, [1, -1.5, 0.5])
    found, want = (agreement.agreement(one.true_value, one.value) for one in (rows, near.comparable("ab")))
    for key in ("bias", "loa", "mae", "slope", "icc"):
        np.testing.assert_allclose(found[key], want[key], rtol=1e-9, err_msg=key)
    sums = dataclasses.replace(far, true_value=np.array([394.0, 250, 170]), value=np.array([200.0, 251, -175]))
    np.testing.assert_array_equal(sums.comparable("ab").value, [200, 251, -175])
    np.testing.assert_array_equal(sums.comparable("ab").true_value, [394, 250, 170])
    unsigned = dataclasses.replace(far, units=np.full(3, "deg unsigned"), value=np.array([0.0, 1, 2]))
    np.testing.assert_array_equal(unsigned.comparable("ab").value, [0, 1, 2])


def between_raters(degrees):
    """The agreement of R raters in one signed angle, whose values are `degrees` [N, R]."""
    measurements = definitions.parse({"knee": {"signed_angle": ["a", "b", "c"]}}, ("a", "b", "c"), "here")
    bend = np.radians(degrees)
    ends = np.stack([np.cos(bend), np.sin(bend)], -1)
    points = np.stack([np.broadcast_to([1.0, 0], ends.shape), np.zeros(ends.shape), ends], axis=2)
    points, n = points.swapaxes(0, 1), len(bend)
    table = metrics.Predictions.from_points([f"{i}" for i in range(n)], [""] * n, ("a", "b", "c"), points[0])
    return agreement.between_raters(100 * points, table, measurements, np.full((n, 2), np.nan))["knee"]


def test_people_are_compared_across_180_degrees():
    """A straight leg that the second person bends by 2 degrees the other way."""
    assert between_raters([[179, -179], [178, -178], [179, 179]])["mae"] == pytest.approx((2 + 4 + 0) / 3)


def test_heads_that_look_to_either_side_are_not_parted_at_their_angle():
    """Angles of about 90 and -90 degrees have a mean that means nothing, and is no place to cut."""
    true = np.array([87.0, 91, 91, 92, 91, 90, -88, -91, -91, -90, -91])
    off = np.array([1.0, -1, 0.5, -1, 1, 0, -1, 1, -1, 0, 1])
    rows = dataclasses.replace(measured(11, unit="deg"), true_value=true, value=true + off).comparable("ab")
    np.testing.assert_array_equal([rows.true_value, rows.value], [true, true + off])
    raters = np.stack([true, true + off, true - off], axis=1)
    raters[-1, 1:] = np.nan
    found, want = between_raters(raters), agreement.between(raters)
    assert found == pytest.approx(want) and want["n"] == 10 and want["mae"] < 2
    far = between_raters(np.where(raters > 0, raters + 3, raters - 3))  # across 180 the gap is less than across 0
    assert far["mae"] == pytest.approx(want["mae"])
    assert between_raters(np.full((3, 2), np.nan)) == {"n": 0}


def test_a_missing_value_leaves_its_picture_out():
    table = measured()
    table.true_value[3:] = np.nan
    found = agreement.summarize(table, [DISTANCE])["ab"]
    assert found["n"] == 3 and found["bias"] == pytest.approx((table.value - table.true_value)[:3].mean())
    table.true_value[:] = np.nan
    found = agreement.summarize(table, [DISTANCE])["ab"]
    assert found == {"of": ["a", "b"], "unit": "mm", "n": 0, "ci95": {}}


# Classes


def rated(true_classes, classes, subjects=None):
    n = len(classes)
    every = {field.name: np.full(n, "") for field in dataclasses.fields(Measured)}
    names = np.arange(n).astype(str)
    every |= {"images": names, "subjects": names if subjects is None else np.array(subjects)}
    every |= {"classes": np.array(classes), "true_classes": np.array(true_classes), "value": np.ones(n)}
    return Measured(**every | {"true_value": np.ones(n)})


def test_kappa_as_published():
    """The example of scikit-learn's cohen_kappa_score; and 20, 5, 10, 15: 0.7 of 50 are equal, by chance 0.5."""
    one, other = (
        ["negative", "positive", "negative", "neutral", "positive"],
        ["negative", "positive", "negative", "neutral", "negative"],
    )
    found = agreement.of_classes(rated(one, other), ["negative", "neutral", "positive"])
    assert found["kappa"] == pytest.approx(0.6875)
    assert found["agreement"] == pytest.approx(0.8) and found["n"] == 5
    assert found["confusion"] == [[2, 0, 0], [0, 1, 0], [1, 0, 1]]  # a row for each of the first's
    assert agreement.kappa(np.array([[20, 5], [10, 15]])) == pytest.approx(0.4)
    assert np.isnan(agreement.kappa(np.array([[7, 0], [0, 0]])))


def test_intervals_of_classes_leave_out_people():
    rng = np.random.default_rng(1)
    true = rng.choice(["I", "II", "III"], 30)
    found = np.where(rng.random(30) < 0.7, true, "II")
    subjects = np.array([f"s{i // 2}" for i in range(30)])
    result = agreement.of_classes(rated(true, found, subjects), ["I", "II", "III"])

    def by_hand(rows):
        table = np.array(
            [[np.sum((true == a) & (found == b) & rows) for b in ("I", "II", "III")] for a in ("I", "II", "III")]
        )
        share, chance = np.trace(table) / table.sum(), table.sum(0) @ table.sum(1) / table.sum() ** 2
        return (share - chance) / (1 - chance)

    kappa = by_hand(subjects != "")
    left_out = np.array([by_hand(subjects != one) for one in np.unique(subjects)])
    half = scipy.stats.t.ppf(0.975, 14) * np.sqrt(14 / 15 * ((left_out - kappa) ** 2).sum()) / (1 - kappa**2)
    assert result["kappa"] == pytest.approx(kappa)
    np.testing.assert_allclose(result["ci95"]["kappa"], np.tanh(np.arctanh(kappa) + np.array([-half, half])))
    low, high = result["ci95"]["agreement"]
    assert 0 < low < result["agreement"] < high < 1


def test_pictures_without_a_class_are_left_out():
    assert agreement.of_classes(rated(["a", ""], ["", "b"]), ["a", "b"]) == {
        "names": ["a", "b"], "n": 0, "confusion": [[0, 0], [0, 0]], "ci95": {},
    }  # fmt: skip
    same = agreement.of_classes(rated(["a", "a"], ["a", "a"]), ["a", "b"])
    assert same["agreement"] == 1 and "kappa" not in same
    alike = agreement.of_classes(rated(["a", "b"] * 4, ["a", "b"] * 4), ["a", "b"])
    assert alike["kappa"] == 1 and "kappa" not in alike["ci95"]


def test_classes_from_landmarks_to_the_table(tmp_path):
    """Lengths of 2.5 and 5 mm, and one in pixels; the class goes the way of the value."""
    content = {"ab": {"distance": ["a", "b"], "classes": {"small": [None, 3], "large": [3, None]}}}
    parsed = definitions.parse(content, LANDMARKS, "here")
    points = np.array([[(1, 1), (4, 5), (1, 11), (4, 1)]] * 3, float)
    true = points.copy()
    true[1, 1] = 1, 2
    table = metrics.Predictions.from_points(["x", "y", "z"], ["", "", ""], LANDMARKS, points, true_xy=true)
    spacing = np.array([[0.5, 0.5], [1, 1], [np.nan, np.nan]])
    agreement.write(tmp_path / "m.csv", Measured.from_predictions(table, parsed, spacing))
    assert (tmp_path / "m.csv").read_text().splitlines()[1:] == [
        "x,,ab,mm,2.5000,2.5000,small,small,",
        "y,,ab,mm,5.0000,1.0000,large,small,",
        "z,,ab,px,5.0000,5.0000,,,",
    ]
    summary = agreement.summarize(agreement.read(tmp_path / "m.csv"), parsed)["ab"]
    assert summary["classes"]["confusion"] == [[1, 1], [0, 0]] and summary["classes"]["agreement"] == 0.5
    assert summary["of"] == content["ab"]


# The table


def test_table_as_it_is_opened(tmp_path):
    points = np.array([[(1, 1), (4, 5), (1, 11), (4, 1)]] * 2, float)
    true = points.copy()
    true[1, 0] = np.nan
    table = metrics.Predictions.from_points(["x.png", "y.png"], ["s", ""], LANDMARKS, points, true_xy=true)
    spacing = np.array([[0.5, 0.5], [np.nan, np.nan]])
    measured = Measured.from_predictions(table, [DISTANCE, ANGLE], spacing)
    agreement.write(tmp_path / "m.csv", measured)
    assert (tmp_path / "m.csv").read_text().splitlines() == [
        "image,subject,measurement,unit,value,true_value,class,true_class,reason",
        "x.png,s,ab,mm,2.5000,2.5000,,,",
        "x.png,s,at_a,deg unsigned,36.8699,36.8699,,,",
        "y.png,,ab,px,5.0000,,,,annotated: a is missing",
        "y.png,,at_a,deg unsigned,36.8699,,,,annotated: a is missing",
    ]
    again = agreement.read(tmp_path / "m.csv")
    for field in ("images", "subjects", "names", "units", "classes", "true_classes", "reasons"):
        np.testing.assert_array_equal(getattr(again, field), getattr(measured, field))
    np.testing.assert_allclose(again.value, measured.value, atol=5e-5)
    np.testing.assert_allclose(again.true_value, measured.true_value, atol=5e-5)


def test_what_is_small_keeps_its_digits(tmp_path):
    """Areas of 1e-5 mm2, from which metrics.json is computed; 1e-14 is what computing leaves of 0."""
    small = measured()
    small = dataclasses.replace(small, value=1e-6 * small.value, true_value=1e-6 * small.true_value)
    agreement.write(tmp_path / "m.csv", small)
    found, want = (agreement.summarize(one, [DISTANCE])["ab"] for one in (agreement.read(tmp_path / "m.csv"), small))
    assert found["loa"] == pytest.approx(want["loa"], rel=1e-4, abs=0)
    agreement.write(tmp_path / "m.csv", dataclasses.replace(small, value=np.full(40, 1e-14)))
    assert (tmp_path / "m.csv").read_text().splitlines()[1].split(",")[4] == "0.0000"


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
