"""Norms by sex and age: tables written by hand, z against a hand calculation and percentiles against SciPy."""

import csv

import numpy as np
import pytest
import scipy.stats

from ctd_jax import metrics
from ctd_jax.data import norms
from ctd_jax.errors import UserError
from ctd_jax.metrics import agreement, definitions

NORMS = """measurement,unit,mean,sd,sex,age_from,age_to
width,mm,20,2,F,0,6
width,mm,22,2.5,F,6,
width,mm,23,2,m,,
turn,deg,10,4,,,
of something else,mm,1,1,,,
"""
PEOPLE = """image,sex,age
a.png,f,5.9
b.png,f,6
c.png,M,40
d.png,f,
"""
LANDMARKS = ("p", "q", "r")


@pytest.fixture
def call(tmp_path):
    def call(norms_text=NORMS, people=PEOPLE, measured=("width", "turn")):
        (tmp_path / "norms.csv").write_text(norms_text)
        if people:
            (tmp_path / "people.csv").write_text(people)
        return norms.read(tmp_path / "norms.csv", tmp_path / "people.csv" if people else None, measured)

    return call


def test_z_and_percentile_by_sex_and_age(call, tmp_path):
    """Everybody's width is 25 mm and the turn 90 degrees; the last picture has no spacing, e.png no person."""
    content = {"width": ["p", "q"], "turn": ["p", "q", "r"], "other": ["p", "r"]}
    images = ["./a.png", "b.png", "c.png", "d.png", "e.png", "a.png"]
    xy = np.array([[(0, 0), (50, 0), (50, 9)]] * 6, float)
    table = metrics.Predictions.from_points(images, [""] * 6, LANDMARKS, xy)
    spacing = np.array([[0.5, 0.5]] * 5 + [[np.nan] * 2])
    measured = agreement.Measured.from_predictions(table, definitions.parse(content, LANDMARKS, "here"), spacing)
    agreement.write(tmp_path / "m.csv", call().applied(measured))
    with (tmp_path / "m.csv").open() as file:
        rows = list(csv.DictReader(file))
    widths = [row for row in rows if row["measurement"] == "width"]
    assert [row["z"] for row in widths] == ["2.5000", "1.2000", "1.0000", "", "", ""]
    for row in widths[:3]:
        assert float(row["percentile"]) == pytest.approx(100 * scipy.stats.norm.cdf(float(row["z"])), abs=1e-3)
    assert [row["reason"] for row in widths] == [
        *[""] * 3,
        "no norm of sex f, unknown age",
        "no norm of sex unknown, unknown age",
        "the norm is in mm, the value in px",
    ]
    assert {row["z"] for row in rows if row["measurement"] == "turn"} == {"20.0000"}
    assert {row["z"] + row["reason"] for row in rows if row["measurement"] == "other"} == {""}
    np.testing.assert_allclose(agreement.read(tmp_path / "m.csv").value, measured.value, atol=5e-5)


def test_norms_of_everybody_need_no_people(call):
    assert call("measurement,unit,mean,sd\nwidth,mm,20,2\n", None).norms["width"][0].mean == 20


@pytest.mark.parametrize(
    ("text", "people", "expected"),
    [
        (NORMS, None, "norms.csv: norms by sex and age; give those of the people, --people=FILE.csv"),
        ("measurement,unit,mean\n", None, "expected the columns measurement, unit, mean, sd, found measurement, unit"),
        ("name,unit,mean,sd\n", None, "norms.csv: no column `measurement`, found name, unit, mean, sd"),
        ("measurement,unit,mean,sd\nwidth,mm,20,0\n", None, "row 2: mean is '20' and sd '0'; expected numbers, sd"),
        ("measurement,unit,mean,sd\nwidth,mm,,1\n", None, "row 2: mean is '' and sd '1'; expected numbers, sd"),
        (
            "measurement,unit,mean,sd\nheight,mm,2,1\n",
            None,
            "norms of height, and none of what is measured: width, turn",
        ),
        (NORMS + "width,mm,1,1,f,5,7\n", PEOPLE, "row 7: people of this sex and age have a norm in .*row 2 too"),
        (NORMS + "width,mm,1,1,,90,99\n", PEOPLE, "row 7: people of this sex and age have a norm in .*row 3 too"),
        (NORMS + "turn,deg,1,1,x,9,7\n", PEOPLE, "age_from is 9 and age_to 7; expected the first to be smaller"),
        (NORMS, "image,sex\na.png,f\n", "people.csv: expected the columns sex, age, found image, sex"),
        (NORMS, PEOPLE + "a.png,f,7\n", "row 6: a.png has another row above"),
        (NORMS, "image,sex,age\na.png,f,-1\n", "row 2: age is -1; expected years, 0 or more"),
        (NORMS, "image,sex,age\na.png,f,old\n", "row 2: age is 'old'; expected a number"),
    ],
)
def test_tables_spoilt(call, text, people, expected):
    with pytest.raises(UserError, match=expected):
        call(text, people)


def test_a_signed_angle_beyond_180_degrees_is_near_its_norm(call):
    """178 on the average, and an angle of -179 is 181."""
    content = {"turn": {"signed_angle": ["p", "q", "r"]}}
    angle = np.radians(-179)
    xy = 100 * np.array([[(1, 0), (0, 0), (np.cos(angle), np.sin(angle))]])
    table = metrics.Predictions.from_points(["a.png"], [""], LANDMARKS, xy)
    measured = agreement.Measured.from_predictions(
        table, definitions.parse(content, LANDMARKS, "here"), np.ones((1, 2))
    )
    assert measured.value == pytest.approx([-179])
    applied = call("measurement,unit,mean,sd\nturn,deg,178,2\n", None, ("turn",)).applied(measured)
    assert applied.z == pytest.approx([1.5])
