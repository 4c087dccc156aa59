"""Small folders that people bring, ../shared/cases: each does what its README calls right, before any training."""

import logging
import pathlib

import numpy as np
import pytest

from configs import default
from ctd_jax import data
from ctd_jax.errors import UserError

CASES = pathlib.Path(__file__).parents[1] / "../shared/cases"


def case(name):
    if not (CASES / name).is_dir():
        pytest.skip(f"needs {CASES / name}, which is not part of the repository")
    return CASES / name


def load(name, tmp_path, **changes):
    config = default.get_config().data
    config.update({"root": str(case(name)), "image_size": 32, "budget": 0} | changes)
    return data.load(config, tmp_path)


def plain(tmp_path):
    """The points of the same folder without anything odd."""
    return load("batch_of_one", tmp_path).everything.targets.xy


# Read as if nothing were odd: name -> what is said, if anything must be.
SAME = {
    "columns_in_capitals": "read `left_eye_X` as `left_eye_x`, `left_eye_Y` as `left_eye_y`",
    "csv_cp1252_umlauts": "is not UTF-8 and read as Latin-1 (Windows-1252): row 2 has",
    "csv_semicolons_decimal_commas": "its numbers have a decimal comma and are read so, first",
    "csv_trailing_empty_columns_and_rows": None,
    "image_backslashes": "13 names are spelt otherwise than their files",
    "image_names_nfd": "1 names are spelt otherwise than their files",
    "umlaut_subjects_in_latin1_locale": None,
    "landmark_formula_like": None,
    "subject_case_differs": "subjects that differ only in capitals or blanks count as other people: 1, first "
    "'Anna' and 'anna'",
    "split_words_training_validation": "words of the split are read: 'testing' as test (4), 'validation' as val (3)",
    "flip_pairs_not_given_but_left_right": "flip_pairs does not have [left_eye, right_eye]",
}


@pytest.mark.parametrize("name", SAME)
def test_read_as_if_nothing_were_odd(name, tmp_path, caplog):
    pictures = load(name, tmp_path)
    np.testing.assert_array_equal(pictures.everything.targets.xy, plain(tmp_path))
    parts = {split: len(pictures.split(split)) for split in pictures.names}
    assert parts == {"train": 6, "val": 3, "test": 4}
    about = ("ctd_jax.data.twins", "absl")  # drawn faces resemble each other
    said = [r.message for r in caplog.records if r.levelno == logging.WARNING and not r.name.startswith(about)]
    assert (SAME[name] in "\n".join(said)) if SAME[name] else said == []


@pytest.mark.parametrize("name", ["missing_as_NaN", "missing_as_dash", "missing_as_null"])
def test_words_for_missing_are_empty_cells(name, tmp_path, caplog):
    word = {"missing_as_NaN": "NaN", "missing_as_dash": "-", "missing_as_null": "null"}[name]
    table, want = load(name, tmp_path).everything.targets.xy, plain(tmp_path)
    missing = np.isnan(table).any(-1)
    assert missing.any() and not np.isnan(want).any()
    np.testing.assert_array_equal(table[~missing], want[~missing])
    assert f"{2 * missing.sum()} cells are taken as empty: {word!r} ({2 * missing.sum()})" in caplog.text


REFUSED = {
    "image_same_file_by_two_names": [
        "row 15: ./images/p00.png was already listed in",
        "row 2; keep one of the rows",
    ],
    "image_without_extension": [
        "13 faults; the first:",
        "13 x missing picture: ",
        "row 2: picture images/p00 does not exist in",
        "the nearest there is images/p00.png",
    ],
    "no_image_column_mlmorph": ["no column `image`, found id, X1", "is it `id`? then rename it to image"],
    "three_header_rows_deeplabcut": ["no column `image`, found scorer", "expected a header of image, subject, split"],
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_what_is_expected(name, tmp_path):
    with pytest.raises(UserError) as caught:
        load(name, tmp_path)
    for part in REFUSED[name]:
        assert part in str(caught.value)


def test_a_landmark_that_is_annotated_nowhere_in_training(tmp_path, caplog):
    for name in ("a_landmark_never_annotated", "a_landmark_only_in_test"):
        caplog.clear()
        pictures = load(name, tmp_path)
        assert np.isnan(pictures.split("train").targets.xy[:, 3]).all()
        assert "no training picture has the landmark chin" in caplog.text


def test_a_normalizer_that_is_never_known_in_test(tmp_path, caplog):
    load("normalizer_never_known_in_test", tmp_path)
    assert "no picture of test has both landmarks of the normalizer, left_eye and right_eye: the normalized error" in (
        caplog.text
    )


@pytest.mark.parametrize("name", ["half_of_train_unlabelled", "budget_of_partly_labelled"])
def test_pictures_without_annotations_are_not_trained_on(name, tmp_path, caplog):
    pictures = load(name, tmp_path)
    train = pictures.split("train")
    assert len(train) and not np.isnan(train.targets.xy).all((1, 2)).any()
    without = np.isnan(pictures.everything.targets.xy).all((1, 2)).sum()
    assert pictures.split_of.count("unlabelled") == without > 0
    assert f"{without} pictures of train have no annotation and take no part" in caplog.text


def test_a_budget_takes_annotated_pictures(tmp_path):
    known = len(load("budget_of_partly_labelled", tmp_path).split("train"))
    assert len(load("budget_of_partly_labelled", tmp_path, budget=2).split("train")) == 2
    assert len(load("budget_of_partly_labelled", tmp_path, share=0.5).split("train")) == round(known / 2)
    with pytest.raises(UserError, match=f"asks for {known + 1} .* but there are {known} with annotations"):
        load("budget_of_partly_labelled", tmp_path, budget=known + 1)


@pytest.mark.parametrize("name", ["tiny_pictures_8x8", "wide_pictures_600x20"])
def test_pictures_of_odd_sizes_give_a_batch(name, tmp_path):
    pictures = load(name, tmp_path)
    batch = pictures.split("train").batch(np.arange(6))
    assert batch["mask"].all() and np.isfinite(batch["xy"]).all() and batch["picture"].shape == (6, 32, 32, 3)


def test_fractions_of_the_picture_are_refused(tmp_path):
    with pytest.raises(UserError, match="all landmarks of all pictures lie within the first pixels, the last at 0.92"):
        load("coordinates_are_fractions_0_1", tmp_path)


def test_minus_one_is_no_point(tmp_path, caplog):
    found, want = load("missing_as_minus_one", tmp_path).everything.targets.xy, plain(tmp_path)
    assert np.isnan(found[:, 0]).all()
    np.testing.assert_array_equal(found[:, 1:], want[:, 1:])
    assert "13 points at (-1, -1) are taken as not annotated, first" in caplog.text
    assert "outside the picture" not in caplog.text


def test_boxes_that_miss_the_landmarks(tmp_path, caplog):
    load("boxes_as_x_y_width_height", tmp_path)
    assert "all 13 rows: landmarks lie outside of their box" in caplog.text
