"""The sentences before the numbers, each where it has to be said and nowhere else."""

import dataclasses

import numpy as np
import pytest
from class_scores import CLASSES, scores

from ctd_jax import metrics, report
from ctd_jax.metrics import Predictions, mean_map, mean_shape, segmentation

NAN = float("nan")
SETTINGS = {"normalizer": None, "thresholds": {"nme": 0.1, "mm": 4.0, "px": 10.0}, "radii_mm": (2,)}


def tables(errors, *, n=20, confidence=None, moved=None, spacing=None, blind_error=10.0):
    """The network's table, `errors` [K] px off in every picture, and that of the mean shape. The true points move about
    by some pixels, on a ring of 100 px about the middle."""
    K, random = len(errors), np.random.default_rng(0)
    angles = 2 * np.pi * np.arange(K) / K
    ring = 200 + 100 * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    directions = random.uniform(0, 2 * np.pi, (n, K))
    true = ring + blind_error * np.stack([np.cos(directions), np.sin(directions)], axis=-1)
    found = true + np.asarray(errors)[:, None] * [0.6, 0.8] if moved is None else np.broadcast_to(moved, true.shape)
    names, landmarks = [f"{i}.png" for i in range(n)], [f"p{k}" for k in range(K)]
    keys = {"true_xy": true, "spacing": spacing}
    peaks = np.broadcast_to(np.ones(K) if confidence is None else confidence, (n, K))
    table = Predictions.from_points(names, names, landmarks, found, confidence=peaks, **keys)
    return table, Predictions.from_points(names, names, landmarks, np.broadcast_to(ring, true.shape), **keys)


def sentences(table, blind, n_train=None, settings=SETTINGS):
    summary = metrics.summarize(table, **settings) | {"normalizer": settings["normalizer"]}
    for k, one in enumerate(summary["per_landmark"].values()):
        one["n_train"] = 9 if n_train is None else n_train[k]
    summary["mean_shape"] = mean_shape.summarize(table, blind, settings)
    return report.cautions.of_landmarks(summary, table, blind), summary


def test_a_good_network_needs_no_word():
    found, summary = sentences(*tables([1.0, 2.0, 3.0]))
    assert found == []
    shape = summary["mean_shape"]
    assert shape["beaten"] and shape["me_px"] == pytest.approx(10.0)
    assert shape["network_minus_it"]["measure"] == "me_px"
    assert shape["network_minus_it"]["difference"] == pytest.approx(2.0 - 10.0)
    assert shape["per_landmark"]["p0"]["me_px"] == pytest.approx(10.0)
    assert shape["fr@10"] == pytest.approx(np.mean([np.mean(row) > 10 for row in tables([1.0] * 3)[1].error_px]))


def test_a_network_that_is_no_better_is_said_first():
    found, summary = sentences(*tables([9.0, 12.0, 12.0]))
    assert not summary["mean_shape"]["beaten"]
    assert found[0].startswith("This network is no better than the mean shape of the training labels")
    assert "Mean error (ME) 11.00 px against 10.00 px." in found[0]


def test_a_difference_that_may_be_chance_is_no_better():
    """One picture in two 8 px better, the other 7 px worse."""
    table, blind = tables([0.0, 0.0])
    error = np.where(np.arange(20) % 2, 2.0, 17.0)[:, None, None] * [0.6, 0.8]
    off = np.linalg.norm(np.broadcast_to(error, (20, 2, 2)), axis=-1)
    found, summary = sentences(dataclasses.replace(table, xy=table.true_xy + error, error_px=off), blind)
    assert summary["me_px"] == pytest.approx(9.5) and not summary["mean_shape"]["beaten"]
    low, high = summary["mean_shape"]["network_minus_it"]["ci95"]
    assert low < 0 < high and found[0].endswith("holds 0.")


def test_a_landmark_no_better_than_the_mean_shape_is_named():
    found, _ = sentences(*tables([1.0, 12.0, 1.0]))
    assert found == ["No better than the mean shape of the training labels at 1 of 3 landmarks: p1."]


def test_all_in_one_place():
    """The same points in every picture; and all points of a picture at one, that differs from picture to picture."""
    places = np.array([[250.0, 250], [300, 200], [120, 190]])
    same, _ = sentences(*tables([0.0] * 3, moved=places))
    assert any("from picture to picture they vary by 0 % of what the annotations do" in text for text in same)
    assert not any("All landmarks of a picture" in text for text in same)
    heap, _ = sentences(*tables([0.0] * 3, moved=200 + 10 * np.random.default_rng(1).normal(size=(20, 1, 2))))
    assert any("All landmarks of a picture are predicted in one place: they spread over 0 %" in text for text in heap)
    assert not any("different pictures" in text for text in heap)


def test_pictures_of_other_sizes_are_compared_in_their_frames():
    """A constant network on pictures of two sizes: its points move with the frame and lie in one place all the same."""
    table, blind = tables([0.0] * 3, moved=np.array([[250.0, 250], [300, 200], [120, 190]]))
    scale = np.where(np.arange(20) % 2, 1.0, 5.0)[:, None, None]
    grown = [
        Predictions.from_points(t.images, t.subjects, t.landmarks, t.xy * scale, true_xy=t.true_xy * scale,
                                confidence=np.ones((20, 3)))
        for t in (table, blind)
    ]  # fmt: skip
    assert any("they vary by 0 % of what" in text for text in sentences(*grown)[0])


@pytest.mark.parametrize(
    ("error", "peak", "said"),
    [(25.0, 0.1, True), (25.0, 0.4, False), (3.0, 0.1, False)],  # a low peak alone is no fault where the point is right
)
def test_a_landmark_that_was_never_found(error, peak, said):
    found, _ = sentences(*tables([error, *[1.0] * 9], confidence=[peak, *[0.7] * 9]))
    text = "p0 was never found: its peaks are 0.10 high (median), those of the other landmarks 0.70, its mean error "
    assert any(one.startswith(f"{text}25.00 px, that of the mean shape 10.00 px") for one in found) == said


@pytest.mark.parametrize(("there", "said"), [(0, False), (3, True)])
def test_peaks_count_where_the_landmark_is(there, said):
    """A landmark that is in few of the 20 pictures, and whose peaks are high in the others; or in none of them."""
    peaks = np.full((20, 4), 0.7)
    peaks[:there, 0], peaks[there:, 0] = 0.1, 0.6 if there else 0.1
    table, blind = tables([25.0, 1.0, 1.0, 1.0], confidence=peaks)
    for one in (table, blind):
        one.true_xy[there:, 0] = one.error_px[there:, 0] = NAN
    found, _ = sentences(table, blind)
    assert any(one.startswith("p0 was never found: its peaks are 0.10 high") for one in found) == said


def test_a_landmark_that_was_never_trained():
    table, blind = tables([1.0, 1.0, 1.0])
    found, _ = sentences(table, blind, n_train=[5, 0, 5])
    assert found == ["Not predicted, as no training picture has it annotated: p1. Its cells stay empty, and no error "
                     "of it counts."]  # fmt: skip


def test_a_landmark_that_the_run_before_learned_is_not_called_unpredicted():
    summary = {"per_landmark": {"p0": {"n_train": 5}, "p1": {"n_train": 0, "learned_before": True}}}
    assert report.cautions._never_trained(summary) == []


def test_units_of_some_pictures_only():
    spacing = np.full((20, 2), NAN)
    spacing[3] = 0.5
    found, _ = sentences(*tables([1.0, 1.0], spacing=spacing))
    assert found == ["The millimetres are those of 1 of the 20 pictures: the others have no spacing."]


# ---------------------------------------------------------------- class maps


def of_class_maps(dice, **small):
    """Those of a network with these Dice of the pictures, whose mean map has 0.5."""
    network = scores(dice)
    summary = {"classes": CLASSES} | segmentation.summarize(network, CLASSES)
    summary["mean_map"] = mean_map.summarize(network, scores([0.5] * len(dice)), CLASSES)
    untrained = {("spines", name): number for name, number in small.items()}
    return report.cautions.of_class_maps(summary, network, untrained, size=32)


def test_a_segmentation_that_is_no_better():
    text = "This network is no better than the mean map of the training labels, placed without looking at the picture: "
    assert of_class_maps([0.4] * 10) == [f"{text}Dice 40.0 % against 50.0 %."]
    assert of_class_maps([0.8] * 10) == []


def test_a_class_never_found_or_never_trained():
    found = of_class_maps([0.0] * 4)
    assert found[1:] == ["disc was never found: in none of the 4 pictures that have it."]
    found = of_class_maps([0.0] * 4, disc=0)
    assert found[1:] == ["disc was never trained: no training picture has it."]
    found = of_class_maps([0.0] * 4, disc=9)
    assert found[1:] == ["disc was never trained: too small to be seen at 32 x 32 pixels in all training pictures that "
                         "have it (9); give a larger data.image_size."]  # fmt: skip
