"""The language of measurements: what is a definition, what is none, and what every form gives on figures by hand."""

import json
import pathlib
import re

import numpy as np
import pytest

from ctd_jax.data import synthetic
from ctd_jax.errors import UserError
from ctd_jax.metrics import definitions, measurements
from ctd_jax.metrics.measurements import FORMS, POINTS

LANDMARKS = ("a", "b", "c", "d")
EXPECTED = (
    "two landmarks (a distance), three (the angle at the middle one), or an object with one of distance, angle, "
    "signed_angle, angle_of_lines, distance_to_line, distance_along, distance_across, area, perimeter, circularity, "
    "ratio, difference, sum, mean"
)
CLASSES = {"classes": {"low": [None, 3], "high": [3, None]}}
BAD = {
    "a list": ([["a", "b"]], f"measurements is [['a', 'b']]; expected an object, each name with {EXPECTED}"),
    "one landmark": ({"m": ["a"]}, f"measurement 'm' has ['a']; expected a name with {EXPECTED}"),
    "four": ({"m": ["a", "b", "c", "d"]}, "measurement 'm' has ['a', 'b', 'c', 'd']; expected a name with two"),
    "the same twice": (
        {"m": ["a", "b", "a"]},
        "measurement 'm' has angle of a, b, a; expected points that are all different",
    ),
    "a word": ({"m": "ab"}, "measurement 'm' has ab; expected a name with two landmarks"),
    "a number": ({"m": 5}, "measurement 'm' has 5; expected a name with two landmarks"),
    "numbers": ({"m": [0, 1]}, "measurement 'm' has 0; expected the name of a point, or one of midpoint, projection"),
    "no name": ({" ": ["a", "b"]}, "measurement ' ' has ['a', 'b']; expected a name with"),
    "another form": ({"m": {"angel": ["a", "b", "c"]}}, "sum, mean; the nearest is 'angle'"),
    "two forms": ({"m": {"angle": ["a", "b", "c"], "area": ["a", "b", "c"]}}, "expected a name with two"),
    "no form": ({"m": {"note": "x"}}, "measurement 'm' has {'note': 'x'}; expected a name with two"),
    "too few": (
        {"m": {"area": ["a", "b"]}},
        "measurement 'm' has {'area': ['a', 'b']}; expected area of three corners or more, in order",
    ),
    "too many": (
        {"m": {"distance_to_line": ["a", "b", "c", "d"]}},
        "expected distance_to_line of a point, and two that lie on the line",
    ),
    "another point": ({"m": ["a", {"middle": ["b", "c"]}]}, "has {'middle': ['b', 'c']}; expected the name of a point"),
    "a line without length": ({"m": {"angle_of_lines": ["a", "b", "c", "c"]}}, "angle_of_lines of a, b, c, c; "),
    "a line with itself": ({"m": {"angle_of_lines": ["a", "b", "b", "a"]}}, "angle_of_lines of a, b, b, a; expected"),
    "unknown landmark": (
        {"m": ["a", "dd"]},
        "measurement 'm' names 'dd', which is not one of the landmarks; the nearest is 'd'",
    ),
    "unknown measurement": (
        {"width": ["a", "b"], "m": {"ratio": ["width", "widht"]}},
        "measurement 'm' names 'widht', which is not one of the measurements; the nearest is 'width'",
    ),
    "ratio of landmarks": ({"m": {"ratio": ["a", "b"]}}, "names 'a', which is not one of the measurements"),
    "ratio of points": (
        {"m": {"ratio": [{"midpoint": ["a", "b"]}, "c"]}},
        "expected ratio of two measurements, the second divides the first",
    ),
    "ratio of three": (
        {"x": ["a", "b"], "y": ["a", "c"], "z": ["a", "d"], "m": {"ratio": ["x", "y", "z"]}},
        "measurement 'm' has {'ratio': ['x', 'y', 'z']}; expected ratio of two measurements",
    ),
    "ratio to itself": (
        {"x": ["a", "b"], "m": {"ratio": ["x", "x"]}},
        "measurement 'm' has {'ratio': ['x', 'x']}; expected ratio of two measurements, the second divides the first, "
        "all different",
    ),
    "ratio of two kinds": (
        {"x": ["a", "b"], "y": ["a", "b", "c"], "m": {"ratio": ["x", "y"]}},
        "measurement 'm' is the ratio of 'x' (length) and 'y' (angle); expected lengths alone, or angles, or areas",
    ),
    "ratio of ratios": (
        {"x": ["a", "b"], "y": ["a", "c"], "n": {"ratio": ["x", "y"]}, "o": {"ratio": ["y", "x"]},
         "m": {"ratio": ["n", "o"]}},
        "measurement 'm' is the ratio of 'n' (number) and 'o' (number); expected lengths alone, or angles, or areas",
    ),
    "a sum of two kinds": (
        {"x": ["a", "b"], "y": {"area": ["a", "b", "c"]}, "m": {"sum": ["x", "y"]}},
        "measurement 'm' is the sum of 'x' (length) and 'y' (area); expected lengths alone, or angles, or areas, or",
    ),
    "made of itself": (
        {"x": ["a", "b"], "m": {"sum": ["x", "n"]}, "n": {"sum": ["x", "m"]}},
        "measurement 'm' is made of itself; expected landmarks and others in the end",
    ),
    "a side of no line": (
        {"m": {"distance": ["a", "b"], "positive_side": "c"}},
        "measurement 'm' has positive_side; expected one of them, and only of signed_angle, distance_to_line, "
        "distance_across",
    ),
    "two sides": (
        {"m": {"signed_angle": ["a", "b", "c"], "positive_side": "d", "negative_side": "d"}},
        "measurement 'm' has positive_side and negative_side; expected one of them",
    ),
    "optional": ({"m": {"distance": ["a", "b"], "optional": "yes"}}, "measurement 'm' has optional yes; expected true"),
    "classes that are a list": ({"m": {"distance": ["a", "b"], "classes": [1, 2]}}, "has classes [1, 2]; expected two"),
    "one class": ({"m": {"distance": ["a", "b"], "classes": {"x": [0, 1]}}}, "has classes {'x': [0, 1]}; expected two"),
    "classes with a gap": (
        {"m": {"distance": ["a", "b"], "classes": {"x": [0, 1], "y": [2, 3]}}},
        "each begins where the one before it ends",
    ),
    "classes the wrong way round": (
        {"m": {"distance": ["a", "b"], "classes": {"x": [3, 2], "y": [2, 1]}}},
        "each begins where the one before it ends",
    ),
    "classes without numbers": (
        {"m": {"distance": ["a", "b"], "classes": {"x": [None, "2"], "y": ["2", None]}}},
        "measurement 'm' has classes {'x': [None, '2']",
    ),
    "classes that are huge": (
        {"m": {"distance": ["a", "b"], "classes": {"x": [None, 10**400], "y": [10**400, None]}}},
        "measurement 'm' has classes",
    ),
    "classes of true": (
        {"m": {"distance": ["a", "b"], "classes": {"x": [None, True], "y": [True, None]}}},
        "measurement 'm' has classes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_measurement(case):
    content, expected = BAD[case]
    with pytest.raises(UserError) as caught:
        definitions.parse(content, LANDMARKS, "dataset.json")
    assert str(caught.value).startswith("dataset.json: ") and expected in str(caught.value)
    assert "\n" not in str(caught.value)


BAD_POINTS = {
    "a list": (["a"], "derived_points is ['a']; expected an object, each name with a point"),
    "a landmark": ({"a": "b"}, "derived point 'a' is the name of a landmark; expected another name, or leave it out"),
    "no name": ({"": "b"}, "derived point '' is no name"),
    "of too few": ({"p": {"midpoint": ["a"]}}, "derived point 'p' has {'midpoint': ['a']}; expected midpoint of two"),
    "of itself": ({"p": {"midpoint": ["a", "q"]}, "q": "p"}, "is made of itself"),
    "twice the same": ({"p": "b", "q": {"midpoint": ["b", "p"]}}, "has midpoint of b, b; expected points that are all"),
}


@pytest.mark.parametrize("case", BAD_POINTS)
def test_what_is_no_point(case):
    derived, expected = BAD_POINTS[case]
    with pytest.raises(UserError) as caught:
        definitions.parse({"m": ["a", "b"]}, LANDMARKS, "f.json", derived)
    assert str(caught.value).startswith("f.json: derived") and expected in str(caught.value)


@pytest.mark.slow
def test_points_too_deep_in_each_other():
    derived = {f"p{i + 1}": {"midpoint": [f"p{i}", "b"]} for i in range(1000)} | {"p0": "a"}
    with pytest.raises(UserError, match="f.json: definitions too deep in each other"):
        definitions.parse({"m": ["p1000", "c"]}, LANDMARKS, "f.json", derived)


def test_an_unknown_landmark_of_a_derived_point_is_said_where_it_is_needed():
    derived = {"p": {"midpoint": ["a", "bb"]}}
    assert definitions.parse({"m": ["a", "b"]}, LANDMARKS, "f.json", derived)
    expected = "derived point 'p' names 'bb', which is not one of the landmarks; the nearest is 'b'"
    with pytest.raises(UserError, match=expected):
        definitions.parse({"m": ["a", "p"]}, LANDMARKS, "f.json", derived)


def test_what_is_optional_is_left_out_and_said(caplog):
    content = {
        "there": ["a", "b"],
        "not": {"distance": ["a", "tip"], "optional": True},
        "of it": {"sum": ["there", "not"], "optional": True},
    }
    assert [one.name for one in definitions.parse(content, LANDMARKS, "f.json")] == ["there"]
    assert len(caplog.messages) == 2
    assert caplog.messages[0] == (
        "f.json: measurement 'not' names 'tip', which is not one of the landmarks; measurement 'not' is optional and "
        "left out"
    )
    del content["of it"]["optional"]
    with pytest.raises(UserError, match="measurement 'of it' names 'not', which is left out"):
        definitions.parse(content, LANDMARKS, "f.json")


# Every form, on a figure by hand: a (0, 0), b (8, 0), c (8, 6), d (2, 6), in pixels of 2 mm across and 1 mm down

XY = np.array([[(0, 0), (8, 0), (8, 6), (2, 6)]], float)
DERIVED = {
    "corner": "c",
    "top": {"midpoint": ["a", "b"]},  # (4, 0)
    "foot": {"projection": ["d", "a", "b"]},  # (2, 0)
    "cross": {"intersection": ["a", "c", "b", "foot"]},  # on the line from a: (0, 0)
    "centre": {"circle_centre": ["a", "b", "c"]},  # (4, 3): a right angle at b
}
CONTENT = {
    "distance": ["top", "corner"],
    "angle": ["a", "b", "c"],
    "signed_angle": {"signed_angle": ["top", "b", "c"]},
    "angle_of_lines": {"angle_of_lines": ["a", "b", "c", "b"]},
    "distance_to_line": {"distance_to_line": ["centre", "a", "b"]},
    "distance_along": {"distance_along": ["c", "d", "a", "b"]},
    "distance_across": {"distance_across": ["foot", "d", "b", "a"]},
    "area": {"area": ["a", "b", "c", "d"]},
    "perimeter": {"perimeter": ["a", "b", "c"]},
    "circularity": {"circularity": ["a", "b", "c"]},
    "ratio": {"ratio": ["distance_to_line", "perimeter"]},
    "difference": {"difference": ["angle_of_lines", "signed_angle"]},
    "sum": {"sum": ["distance", "perimeter", "distance_along"]},
    "mean": {"mean": ["angle", "angle_of_lines"]},
}
IN_PIXELS = {
    "distance": (52**0.5, "px"),
    "angle": (90, "deg unsigned"),
    "signed_angle": (-90, "deg"),  # from 9 to 6 o'clock
    "angle_of_lines": (90, "deg unsigned"),
    "distance_to_line": (3, "px"),
    "distance_along": (-6, "px"),
    "distance_across": (-6, "px"),
    "area": (42, "px2"),
    "perimeter": (24, "px"),
    "circularity": (4 * np.pi * 24 / 24**2, ""),
    "ratio": (3 / 24, ""),
    "difference": (180, "deg"),
    "sum": (52**0.5 + 24 - 6, "px"),
    "mean": (90, "deg unsigned"),
}
IN_MM = IN_PIXELS | {
    "distance": (10, "mm"),  # 8 mm across and 6 down
    "distance_to_line": (3, "mm"),
    "distance_along": (-12, "mm"),
    "distance_across": (-6, "mm"),
    "area": (84, "mm2"),
    "perimeter": (16 + 6 + 292**0.5, "mm"),
    "circularity": (4 * np.pi * 48 / (22 + 292**0.5) ** 2, ""),
    "ratio": (3 / (22 + 292**0.5), ""),
    "sum": (10 + 22 + 292**0.5 - 12, "mm"),
}


def evaluated(content, xy=XY, spacing=(np.nan, np.nan), derived=DERIVED, landmarks=LANDMARKS):
    """Name -> value, unit and reason of one picture."""
    parsed = definitions.parse(content, landmarks, "here", derived)
    spacing = np.array([spacing], float)
    found = measurements.evaluate(parsed, landmarks, np.asarray(xy, float), spacing)
    units = measurements.units(parsed, spacing)[0]
    return {one.name: cells for one, *cells in zip(parsed, found.value[0], units, found.reason[0], strict=True)}


@pytest.mark.parametrize(("spacing", "expected"), [((np.nan, np.nan), IN_PIXELS), ((2, 1), IN_MM)])
def test_every_form_by_hand(spacing, expected):
    assert set(CONTENT) == set(FORMS) and {
        key for one in DERIVED.values() if isinstance(one, dict) for key in one
    } == set(POINTS)
    found = evaluated(CONTENT, spacing=spacing)
    for name, (value, unit) in expected.items():
        assert found[name] == [pytest.approx(value), unit, ""], name


def test_half_a_spacing_is_none():
    """Where one axis alone is known, both are pixels: never a mixture."""
    assert evaluated({"m": ["a", "c"]}, spacing=(2, np.nan))["m"] == [10, "px", ""]


def test_definitions_can_be_read_back():
    """What metrics.json keeps is in the same language, with derived points written out."""
    content = CONTENT | {
        "side": {"signed_angle": ["a", "b", "c"], "negative_side": "centre"},
        "classed": {"distance": ["a", "b"]} | CLASSES,
    }
    parsed = definitions.parse(content, LANDMARKS, "here", DERIVED)
    kept = json.loads(json.dumps({one.name: one.definition for one in parsed}, allow_nan=False))
    assert definitions.parse(kept, LANDMARKS, "here") == parsed
    assert kept["distance"] == [{"midpoint": ["a", "b"]}, "c"] and kept["classed"] == {"distance": ["a", "b"]} | CLASSES


def test_words_for_people():
    parsed = definitions.parse(CONTENT, LANDMARKS, "here", DERIVED)
    words = {one.name: measurements.words(one.definition) for one in parsed}
    assert words["distance"] == "distance from the midpoint of a and b to c"
    assert words["sum"] == "sum of distance, perimeter, distance_along"
    side = definitions.parse({"m": {"signed_angle": ["a", "b", "c"], "negative_side": "d"}}, LANDMARKS, "here")
    assert measurements.words(side[0].definition) == "signed angle at b, from a to c, negative side: d"


def drawn(content, spacing=(np.nan, np.nan), xy=XY[0]):
    parsed = definitions.parse(content, LANDMARKS, "here", DERIVED)
    return sorted(measurements.lines(parsed, LANDMARKS, xy, np.array(spacing, float)).round(9).tolist())


def test_lines_that_show_what_is_measured():
    """a (0, 0), b (8, 0), c (8, 6), d (2, 6); parts of a ratio are drawn once, and what is made of them is not."""
    assert drawn({"m": ["a", "top"], "n": ["a", "b"], "ratio": {"ratio": ["m", "n"]}}) == [
        [[0, 0], [4, 0]], [[0, 0], [8, 0]],
    ]  # fmt: skip
    assert drawn({"m": ["a", "b", "c"]}) == [[[8, 0], [0, 0]], [[8, 0], [8, 6]]]
    assert drawn({"m": {"angle_of_lines": ["a", "b", "c", "d"]}}) == [[[0, 0], [8, 0]], [[8, 6], [2, 6]]]
    assert drawn({"m": {"area": ["a", "b", "c"]}}) == [[[0, 0], [8, 0]], [[8, 0], [8, 6]], [[8, 6], [0, 0]]]
    # the foot of d on the line from a to c: (2 * 8 + 6 * 6) / 100 of the way; with y thrice as long, 340 / 388 of it
    assert drawn({"m": {"distance_to_line": ["d", "a", "c"]}}) == [[[0, 0], [8, 6]], [[2, 6], [4.16, 3.12]]]
    assert drawn({"m": {"distance_to_line": ["d", "a", "c"]}}, (1, 3)) == [
        [[0, 0], [8, 6]], [[2, 6], [pytest.approx(8 * (16 + 324) / (64 + 324)), pytest.approx(6 * 340 / 388)]],
    ]  # fmt: skip
    missing = XY[0].copy()
    missing[1] = np.nan
    assert drawn({"m": ["a", "b"], "n": ["a", "c"], "o": ["top", "c"]}, xy=missing) == [[[0, 0], [8, 6]]]
    assert drawn({}) == []


@pytest.mark.parametrize("form", ["signed_angle", "distance_to_line", "distance_across"])
def test_a_side_gives_the_same_sign_in_the_mirror_image(form):
    of = {"signed_angle": ["a", "b", "d"], "distance_to_line": ["d", "a", "b"], "distance_across": ["a", "d", "a", "b"]}
    content = {
        "plain": {form: of[form]},
        "positive": {form: of[form], "positive_side": "c"},
        "negative": {form: of[form], "negative_side": "c"},
    }
    for xy in (XY, XY * (-1, 1), XY * (1, -1)):
        found = {name: cells[0] for name, cells in evaluated(content, xy).items()}
        assert found["positive"] == pytest.approx(abs(found["plain"]))  # d lies on the side of c
        assert found["negative"] == pytest.approx(-abs(found["plain"]))
    on_the_line = XY.copy()
    on_the_line[0, 2] = (4, 0)
    value, _, reason = evaluated(content, on_the_line)["positive"]
    line = "b to a" if form == "signed_angle" else "a to b"
    assert np.isnan(value) and reason == f"c lies on the line {line}, so there is no sign"


MISSING = "d is missing"


def test_nothing_is_told_of_a_missing_landmark():
    xy = XY.copy()
    xy[0, 3] = np.nan
    content = {
        "length": ["a", "d"],
        "of it": {"sum": ["length", "other"]},
        "other": ["a", "b"],
        "side": {"signed_angle": ["a", "b", "c"], "positive_side": "d"},
        "foot": ["foot", "c"],
        "area": {"area": ["a", "b", "d"]},
    }
    found = evaluated(content, xy)
    assert found.pop("other") == [8, "px", ""]
    assert found["of it"][2] == "length: d is missing"
    for name, (value, _, reason) in found.items():
        assert np.isnan(value) and MISSING in reason, name
    xy[0, 3] = np.inf, 0
    assert evaluated({"m": ["a", "d"]}, xy)["m"][2] == MISSING


def test_reasons_name_the_points():
    xy = np.array([[(0, 0), (0, 0), (5, 5), (9, 5)]], float)
    content = {
        "angle": ["a", "b", "c"],
        "ratio": {"ratio": ["cd", "ab"]},
        "ab": ["a", "b"],
        "cd": ["c", "d"],
        "derived": ["c", {"intersection": ["c", "d", {"midpoint": ["a", "b"]}, {"midpoint": ["a", "d"]}]}],
        "parallel": ["a", {"intersection": ["c", "d", "a", {"projection": ["a", "c", "d"]}]}],
    }
    found = evaluated(content, xy)
    assert np.isnan(found["angle"][0]) and found["angle"][2] == "b and a lie on one point"
    assert np.isnan(found["ratio"][0]) and found["ratio"][2] == "ab is 0"
    assert found["ab"] == [0, "px", ""]  # no distance is a distance
    assert found["derived"][2] == "" and found["parallel"][2] == ""


@pytest.mark.parametrize(("value", "expected"), [(2.99, "low"), (3, "high"), (np.nan, ""), (9, "high")])
def test_a_class_begins_at_its_first_value(value, expected):
    (one,) = definitions.parse({"m": {"distance": ["a", "b"]} | CLASSES}, LANDMARKS, "here")
    assert measurements.classes(one, np.array([value]), np.array(["mm"])).tolist() == [expected]
    assert measurements.classes(one, np.array([value]), np.array(["px"])).tolist() == [""]


# The files that come along


def ready(name, landmarks):
    content = json.loads(definitions.ready(name).read_text("utf-8"))
    return definitions.parse_file(content, landmarks, name)


def of_picture(name, points, spacing=0.5):
    """Name -> value of a ready file in a picture with these points, in mm."""
    parsed = ready(name, tuple(points))
    xy = np.array([list(points.values())], float) / spacing
    found = measurements.evaluate(parsed, tuple(points), xy, np.array([[spacing, spacing]]))
    assert (found.reason == "").all(), found.reason
    return {one.name: value for one, value in zip(parsed, found.value[0], strict=True)}


def ray(start, degrees, length):
    """A point in a direction: 0 is to the right, 90 downwards."""
    return start + length * np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])


def head(sna=82, snb=79, plane=32, upper=104, lower=93):
    """A head that looks to the right, drawn from its angles, in mm: S to N is level, and so is the line of the ears."""
    sella = np.array([100.0, 100])
    nasion = sella + (70, 0)
    gonion, upper_tip, lower_tip = np.array([105.0, 170]), np.array([175.0, 178]), np.array([172.0, 176])
    return {
        "sella": sella,
        "nasion": nasion,
        "subspinale": ray(nasion, 180 - sna, 55),  # from N, turned from the direction of S
        "supramentale": ray(nasion, 180 - snb, 90),
        "gonion": gonion,
        "menton": ray(gonion, plane, 70),
        "porion": np.array([95.0, 120]),
        "orbitale": np.array([160.0, 120]),
        "upper_incisal_incision": upper_tip,
        "lower_incisal_incision": lower_tip,
        "upper_incisor_apex": ray(upper_tip, 180 - upper, -22),
        "lower_incisor_apex": ray(lower_tip, plane + 180 + lower, -20),
        "molar_occlusal": np.array([140.0, 177]),
    }


@pytest.mark.parametrize("mirrored", [False, True])
def test_ceph_basic_by_hand(mirrored):
    """Angles that the head was drawn from, a Class III patient, and heads that look to the left."""
    for angles in ({}, {"sna": 78, "snb": 83, "plane": 25, "upper": 112, "lower": 85}):
        points = {name: point * (-1, 1) if mirrored else point for name, point in head(**angles).items()}
        found = of_picture("ceph_basic.json", points)
        drawn = {"sna": 82, "snb": 79, "plane": 32, "upper": 104, "lower": 93} | angles
        expected = {"SNA": "sna", "SNB": "snb", "SN-GoMe": "plane", "U1-SN": "upper", "L1-MP": "lower"}
        for name, key in expected.items():
            assert found[name] == pytest.approx(drawn[key]), name
        assert found["ANB"] == pytest.approx(drawn["sna"] - drawn["snb"])
        assert found["overjet"] == pytest.approx(3) and found["overbite"] == pytest.approx(2)
        # the occlusal plane is level: from (140, 177) to (173.5, 177)
        a, b = points["subspinale"][0], points["supramentale"][0]
        assert found["Wits"] == pytest.approx(b - a if mirrored else a - b)


def test_signed_angle_is_the_anb_of_two_differences():
    """The other way to write ANB: turned from NB to NA, positive away from S."""
    content = {"ANB": {"signed_angle": ["supramentale", "nasion", "subspinale"], "negative_side": "sella"}}
    for flip in (1, -1):
        for sna, snb in ((82, 79), (78, 83)):
            points = {name: point * (flip, 1) for name, point in head(sna=sna, snb=snb).items()}
            xy = np.array([list(points.values())])
            found = evaluated(content, xy, derived=None, landmarks=tuple(points))
            assert found["ANB"] == [pytest.approx(sna - snb), "deg", ""]


def test_ceph_basic_of_the_landmarks_of_isbi_2015(caplog):
    """Without apices and molars, the three that need them are left out, and said."""
    without = [name for name in head() if not name.endswith(("apex", "occlusal"))]
    names = [one.name for one in ready("ceph_basic", without)]
    assert names == ["SNA", "SNB", "ANB", "SN-GoMe", "overjet", "overbite"]
    left_out = [message.split("; measurement ")[1] for message in caplog.messages]
    assert left_out == [f"{name!r} is optional and left out" for name in ("U1-SN", "L1-MP", "Wits")]
    (anb,) = (one for one in ready("ceph_basic", without) if one.name == "ANB")
    classes = measurements.classes(anb, np.array([-2, 0, 3.9, 4]), np.full(4, "deg"))
    assert classes.tolist() == ["Class III", "Class I", "Class I", "Class II"]


def test_fas_face_by_hand():
    points = {
        "left_eye_outer": (60, 50), "left_eye_inner": (35, 50), "right_eye_inner": (5, 50),
        "right_eye_outer": (-18, 50), "subnasale": (20, 90), "upper_lip": (20, 104), "stomion": (20, 111),
    }  # fmt: skip
    assert of_picture("fas_face", {name: np.array(point) for name, point in points.items()}) == pytest.approx({
        "palpebral fissure, left": 25, "palpebral fissure, right": 23, "palpebral fissure, mean": 24,
        "inner canthal distance": 30, "fissure over inner canthal distance": 0.8, "philtrum": 14, "upper lip": 7,
    })  # fmt: skip
    assert len(ready("fas_face", synthetic.LANDMARKS)) == 6  # the drawn faces have no stomion


def hip(centre_edge, index, side):
    """One hip of radius 24 mm at x = 90 mm to its side (1: to the right of the picture) of the middle at 0."""
    lateral = np.array([side, 1])
    centre = np.array([90.0, 200])
    edge = centre + 30 * np.array([np.sin(np.radians(centre_edge)), -np.cos(np.radians(centre_edge))])
    top = {"medial": 180, "top": 270, "lateral": 340}
    points = {f"head_{name}": ray(centre, turn, 24) for name, turn in top.items()} | {"acetabular_edge": edge}
    points["triradiate"] = edge - 35 * np.array([np.cos(np.radians(index)), -np.sin(np.radians(index))])
    return {name: point * lateral for name, point in points.items()}


@pytest.mark.parametrize(("left", "right"), [((28, 12), (31, 9)), ((-6, 25), (25, 25))])
def test_hip_basic_by_hand(left, right):
    """Angles that the pelvis was drawn from: those of a healthy one, and of a head that the roof doesn't cover. The
    patient's left is on the right of the picture."""
    level = [hip(*left, 1), hip(*right, -1)]
    points = {
        f"{side}_{name}": point
        for side, one in zip(("left", "right"), level, strict=True)
        for name, point in one.items()
    }
    found = of_picture("hip_basic", points)
    assert found["centre-edge angle, left"] == pytest.approx(left[0])
    assert found["centre-edge angle, right"] == pytest.approx(right[0])
    slope = np.subtract(points["left_triradiate"], points["right_triradiate"])
    tilt = np.degrees(np.arctan2(slope[1], slope[0]))  # of Hilgenreiner's line; the pictures are not level there
    assert found["acetabular index, left"] == pytest.approx(left[1] + tilt)
    assert found["acetabular index, right"] == pytest.approx(right[1] - tilt)


def test_a_file_that_is_none():
    with pytest.raises(
        UserError, match="ceph: no such file of definitions; those that come along are ceph_basic, fas_"
    ):
        definitions.ready("ceph")
    for content, expected in (
        ([], "found no `measurements`"),
        ({"measurement": {}}, "found no `measurements`"),
        ({"measurements": {"m": ["a", "b"]}, "points": {}}, "'points' is no key here; expected measurements, derived"),
        (
            {"measurements": {"m": {"distance": ["x", "y"], "optional": True}}},
            "none of its measurements is of these landmarks; expected names such as a, b, c, d",
        ),
    ):  # fmt: skip
        with pytest.raises(UserError, match=expected):
            definitions.parse_file(content, LANDMARKS, "mine.json")


PAGE = pathlib.Path(__file__).parents[2] / "docs/measurements.md"
EXAMPLES = re.findall(r"```json\n(.*?)```", PAGE.read_text("utf-8"), re.S)


@pytest.mark.parametrize("i", range(3))
def test_the_examples_of_the_page_are_some(i):
    """The drawn head: ANB of all three is that which it was drawn from."""
    assert len(EXAMPLES) == 3
    points = head(sna=78, snb=83) | {
        "upper_lip": (180, 175),
        "nose_tip": (185, 140),
        "soft_tissue_pogonion": (178, 200),
    }
    parsed = definitions.parse_file(json.loads(EXAMPLES[i]), tuple(points), "the page")
    xy, spacing = np.array([list(points.values())], float), np.ones((1, 2))
    found = measurements.evaluate(parsed, tuple(points), xy, spacing)
    (anb,) = (k for k, one in enumerate(parsed) if one.name == "ANB")
    assert found.value[0, anb] == pytest.approx(-5) and (found.reason == "").all()
    units = measurements.units(parsed, spacing)
    assert measurements.classes(parsed[anb], found.value[:, anb], units[:, anb]).tolist() == ["Class III" * (i == 2)]


def test_the_forms_of_the_page_are_those_that_there_are():
    written = re.findall(r"\{\"(\w+)\": \[", "".join(re.findall(r"^\| `.*", PAGE.read_text("utf-8"), re.M)))
    assert set(written) == {*FORMS, *POINTS}


def test_a_note_may_stand_in_every_definition():
    derived = {"p": {"midpoint": ["a", "b"], "note": "for me"}}
    (found,) = definitions.parse(
        {"m": {"distance_to_line": ["p", "b", "c"], "note": "too"}}, LANDMARKS, "f.json", derived
    )
    assert (
        found == definitions.parse({"m": {"distance_to_line": [{"midpoint": ["a", "b"]}, "b", "c"]}}, LANDMARKS, "f")[0]
    )
