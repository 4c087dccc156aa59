"""How large the pixels of DICOM files are: PS3.3 10.7.1.3, by hand."""

import logging

import numpy as np
import pytest
from dicom_files import content

from ctd_jax.data import dicom_spacing

GREY = np.zeros((4, 6), np.uint8)
NONE = [np.nan, np.nan]


@pytest.mark.parametrize(
    ("elements", "patient", "detector", "doubtful"),
    [
        ({}, NONE, NONE, False),
        ({"PixelSpacing": [0.2, 0.1], "Modality": "MR"}, [0.1, 0.2], NONE, False),
        ({"PixelSpacing": [0.2, 0.1]}, [0.1, 0.2], NONE, True),
        ({"PixelSpacing": [0.2, 0.1], "Modality": "OT"}, [0.1, 0.2], NONE, True),
        ({"PixelSpacing": [0.2, 0.1], "Modality": None}, [0.1, 0.2], NONE, True),
        ({"PixelSpacing": [0.2, 0.1], "Modality": ""}, [0.1, 0.2], NONE, True),
        ({"ImagerPixelSpacing": [0.2, 0.1]}, NONE, [0.1, 0.2], False),
        ({"ImagerPixelSpacing": [0.2, 0.1], "Modality": None}, NONE, [0.1, 0.2], False),
        ({"PixelSpacing": [0.2, 0.1], "ImagerPixelSpacing": [0.2, 0.1]}, NONE, [0.1, 0.2], False),
        ({"PixelSpacing": [0.18, 0.09], "ImagerPixelSpacing": [0.2, 0.1]}, [0.09, 0.18], [0.1, 0.2], False),
        (
            {"PixelSpacing": [0.2, 0.1], "ImagerPixelSpacing": [0.2, 0.1], "PixelSpacingCalibrationType": "FIDUCIAL"},
            [0.1, 0.2], [0.1, 0.2], False,
        ),
        ({"PixelSpacing": [0.2, 0.1], "PixelSpacingCalibrationType": "GEOMETRY"}, [0.1, 0.2], NONE, False),
        ({"PixelSpacing": [0, 0.1]}, NONE, NONE, False),
        ({"PixelSpacing": [-0.1, -0.1]}, NONE, NONE, False),
        ({"PixelSpacing": 0.1}, NONE, NONE, False),
        ({"PixelSpacing": ""}, NONE, NONE, False),
    ],
)  # fmt: skip
def test_what_a_header_says(tmp_path, elements, patient, detector, doubtful):
    path = tmp_path / "a.dcm"
    path.write_bytes(content(GREY, **elements))
    found = dicom_spacing.read(path)
    np.testing.assert_array_equal(found.patient, patient)
    np.testing.assert_array_equal(found.detector, detector)
    assert found.doubtful == doubtful


def test_what_is_no_dicom_has_none(tmp_path):
    (tmp_path / "a.png").write_bytes(content(GREY, PixelSpacing=[1, 1]))
    (tmp_path / "IM0001").write_bytes(content(GREY, PixelSpacing=[3, 2], Modality="MR"))
    (tmp_path / "b.dcm").write_bytes(b"no DICOM")
    paths = [tmp_path / name for name in ("a.png", "IM0001", "b.dcm", "missing.dcm")]
    found = dicom_spacing.of_files(paths, detector=False, advice="")
    np.testing.assert_array_equal(found, [NONE, [2, 3], NONE, NONE])


@pytest.mark.parametrize("modality", dicom_spacing.SECTIONS)
def test_only_pictures_that_cast_no_shadow_need_no_word_of_calibration(tmp_path, caplog, modality):
    (tmp_path / "a.dcm").write_bytes(content(GREY, PixelSpacing=[3, 2], Modality=modality))
    (tmp_path / "b.dcm").write_bytes(content(GREY, PixelSpacing=[3, 2], Modality="SC"))
    found = dicom_spacing.of_files([tmp_path / "a.dcm", tmp_path / "b.dcm"], detector=False, advice="")
    np.testing.assert_array_equal(found, [[2, 3], [2, 3]])
    (message,) = caplog.messages
    assert message.startswith("1 of 2 DICOM files do not say whether their Pixel Spacing was calibrated: it is used")
    assert message.endswith(f"ask who made them (first {tmp_path / 'b.dcm'})")


def test_what_is_given_wins(caplog):
    """1 % apart is the same; 10 % is said, with the first of them."""
    given = np.array([[0.1, 0.1], NONE, [0.11, 0.1], [0.2, 0.2]])
    of_header = np.array([[0.1005, 0.1], [0.3, 0.4], [0.1, 0.1], NONE])
    with caplog.at_level(logging.WARNING):
        found = dicom_spacing.combined(given, of_header, ["row 1", "row 2", "row 3", "row 4"], "table.csv")
    np.testing.assert_array_equal(found, [[0.1, 0.1], [0.3, 0.4], [0.11, 0.1], [0.2, 0.2]])
    assert caplog.messages == [
        "table.csv: 1 spacings are not those of the DICOM files, and are used (first row 3: 0.11 x 0.1 mm against "
        "0.1 x 0.1 mm, x by y)"
    ]
