"""Other tools' metrics, against what their own code gave once (`tests/golden/peers.py`)."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
from point_tables import NAN, table

from ctd_jax import metrics
from ctd_jax.errors import UserError
from ctd_jax.metrics import peers

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
WHOLE = [f"{i}.png" for i in range(6)]  # nothing is missing in these
CASES = {  # of the golden file: pictures, options
    "landmarker": (None, {}),
    "payer": (None, {}),
    "payer, hands": (None, {"normalizer": ("p1", "p5"), "normalizer_mm": 50}),
    "gu2net": (WHOLE, {}),
    "gu2net, hands": (WHOLE, {"normalizer": ("p0", "p4"), "normalizer_mm": 50}),
    "gu2net, grid": (WHOLE, {"grid": (416, 512), "size": (800, 900), "grid_spacing": 0.46875}),
    "gu2net, grid, hands": (
        WHOLE,
        {"grid": (416, 512), "size": (800, 900), "normalizer": ("p0", "p4"), "normalizer_mm": 50},
    ),
    "cl2023": (WHOLE, {}),
    "hrnet_face": (WHOLE, {}),
    "mmpose": (None, {"normalizer": ("p8", "p9")}),
    "deeplabcut": (None, {"pcutoff": 0.6}),
    "sleap": (None, {}),
}


@pytest.fixture(scope="module")
def golden():
    numbers = json.loads((GOLDEN / "peers.json").read_text())
    return metrics.read_predictions(GOLDEN / "peers.csv"), numbers


def test_every_tool_and_every_golden_number_has_a_case(golden):
    assert {case.split(",")[0] for case in CASES} == set(peers.PEERS)
    assert set(CASES) == set(golden[1])


@pytest.mark.parametrize("case", CASES)
def test_the_numbers_are_those_of_the_tools_own_code(golden, case):
    predictions, numbers = golden
    pictures, options = CASES[case]
    if pictures:
        predictions = predictions.rows(np.isin(predictions.images, pictures))
    peer = peers.PEERS[case.split(",")[0]]
    assert set(options) <= set(peer.uses)
    result = peers.numbers(case.split(",")[0], predictions, peers.Options(**options))
    near = 6e-4 if case == "cl2023" else 0  # its standard deviation is printed with 3 decimals
    assert {n.name: n.value for n in result.numbers} == pytest.approx(numbers[case], rel=2e-5, abs=near)


def of(tool, predictions, **options):
    result = peers.numbers(tool, predictions, peers.Options(**options))
    return {number.name: number.value for number in result.numbers}, result


def test_a_missing_point_is_a_miss_for_landmarker_and_an_error_of_0_for_payer():
    # [nan, 1, 3] mm at 2 mm: 1 of 3 is found; IPE: 4 / 3; one of two annotated points is an outlier
    one = table([[NAN, 2, 6]], mm_per_px=0.5)
    assert of("landmarker", one)[0]["sdr, 2 mm"] == pytest.approx(100 / 3)
    assert of("payer", one)[0]["IPE mean"] == pytest.approx(4 / 3)
    assert of("payer", one)[0]["#outliers >= 3 mm"] == 50


def test_without_spacing_the_unit_is_px():
    numbers, result = of("landmarker", table([[1, 3]]), radii=(2,))
    assert numbers == {"point_error, nanmean": 2, "sdr, 2 px": 50}
    assert [(number.unit, number.ours) for number in result.numbers] == [("px", "me_px"), ("%", "")]


def test_failure_rates_of_hrnet():
    # distance of p0 and p1: 50 px; 4.5 and 5.5 px are 0.09 and 0.11 of it
    numbers, _ = of("hrnet_face", table([[4.5, 4.5], [5.5, 5.5], [1, 1]]), normalizer=("p0", "p1"))
    assert numbers == pytest.approx({"nme": 11 / 150, "[008]": 2 / 3, "[010]": 1 / 3})


def test_a_perfect_model_has_an_auc_of_0_95_in_mmpose():
    assert of("mmpose", table([[0, 0]]))[0]["auc@20thrs, 30 px"] == pytest.approx(0.95)


def test_points_without_an_extent_are_no_hit_in_deeplabcut():
    # the box around p0 and p1, both at y = 0, has no area: OKS is unknown there; the other picture is perfect
    two = table([[0, 0], [0, 0]])
    two.true_xy[1, 1] = two.xy[1, 1] = 50, 40
    assert of("deeplabcut", two)[0]["mAR"] == 50


def test_eyes_are_taken_by_their_place_and_said():
    _, result = of("hrnet_face", table(np.ones((2, 29))))
    assert result.normalizer == ("p8", "p9")
    assert "the distance from p8 to p9" in result.notes[0]


def unknown_confidence(predictions):
    return dataclasses.replace(predictions, confidence=np.full_like(predictions.confidence, NAN))


def test_what_needs_more_than_the_table_is_left_out_and_said():
    one = table([[1, 3], [2, 4]])
    numbers, result = of("deeplabcut", unknown_confidence(one))
    assert list(numbers) == ["rmse"] and "need the confidence" in result.notes[0]
    assert "--pcutoff" in of("deeplabcut", one)[1].notes[0]
    for few in (table([[1], [2]]), table([[1, NAN], [NAN, 2]])):
        numbers, result = of("deeplabcut", few, pcutoff=0.1)
        assert list(numbers) == ["rmse", "rmse_pcutoff, 0.1"] and "mAP and mAR are left out" in result.notes[0]
    numbers, result = of("sleap", unknown_confidence(one))
    assert not any("voc" in name for name in numbers) and "need the confidence" in result.notes[0]
    assert "--normalizer" in of("mmpose", one)[1].notes[0]
    assert "--grid" in of("gu2net", one)[1].notes[0]
    far = table([[1e6, 1e6]])
    assert of("sleap", far)[0] == {} and "matches none" in of("sleap", far)[1].notes[0]


def partly_mm():
    whole = table([[1, 3], [2, 4]], mm_per_px=0.5)
    whole.error_mm[1] = NAN
    return whole


HAND = {"normalizer": ("p0", "p1"), "normalizer_mm": 50}


@pytest.mark.parametrize(
    "tool, predictions, options, message",
    [
        ("landmarker", partly_mm(), {}, "found 2 of 4 (first without: '1.png')"),
        ("payer", table([[NAN, NAN]]), {}, "at least one annotated landmark"),
        ("payer", table([[1, 3]]), {"normalizer_mm": 50}, "--normalizer_mm: of which distance?"),
        ("payer", table([[1, NAN]]), HAND, "no picture has both p0 and p1"),
        ("gu2net", table([[1, NAN]]), {}, "found 1 that are not (first: 'p1' in '0.png')"),
        ("gu2net", table([[1, 1]]), {"grid": (9, 9)}, "--grid, --size: GU2Net's grid needs both"),
        ("cl2023", table([[1, NAN]], mm_per_px=1), {}, "CL-Detection 2023: expected every landmark annotated"),
        ("cl2023", table([[1, 1]]), {}, "cl2023: expected errors in mm, found pixels only"),
        ("hrnet_face", table(np.ones((1, 19))), {}, "19 landmarks HRNet-Facial divides by the box of a face"),
        ("hrnet_face", table([[1, 1]]), {}, "for 2 landmarks HRNet-Facial divides by nothing: it stops"),
        ("hrnet_face", table([[1, 1]]), {"normalizer": ("p0", "p0")}, "p0 and p0 coincide in '0.png'"),
        ("mmpose", table([[1, 1]]), {"normalizer": ("p0", "eye")}, "'eye' is no landmark; expected two of p0, p1"),
        ("mmpose", table([[NAN, NAN]]), {}, "at least one annotated landmark"),
        ("deeplabcut", table([[NAN, NAN]]), {}, "at least one annotated landmark"),
        ("sleap", table([[NAN, NAN]]), {}, "at least one annotated landmark"),
    ],
)
def test_what_a_tool_cannot_be_asked(tool, predictions, options, message):
    with pytest.raises(UserError) as error:
        of(tool, predictions, **options)
    assert message in str(error.value)
