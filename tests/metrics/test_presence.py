"""Precision and recall of presence, counted by hand."""

import numpy as np
import pytest

from ctd_jax import metrics
from ctd_jax.metrics import presence

NAN = np.nan


@pytest.fixture
def table():
    """Six pictures of landmarks a, b and c, of which a and b may be absent; the last picture has no annotation.

    a: there there absent absent there ?       said  .9 .4 .2 .7 .8 .1
    b: there absent there there there ?        said  .6 .3 .5 .9 .1 .9
    """
    xy = np.ones((6, 3, 2))
    true = xy.copy()
    true[[2, 3], 0], true[1, 1], true[5] = NAN, NAN, NAN
    present = np.array([[0.9, 0.6], [0.4, 0.3], [0.2, 0.5], [0.7, 0.9], [0.8, 0.1], [0.1, 0.9]])
    return metrics.Predictions.from_points(
        [f"{i}.png" for i in range(6)],
        ["p", "p", "q", "r", "s", "t"],
        ["a", "b", "c"],
        xy,
        true_xy=true,
        present=np.concatenate([present, np.full((6, 1), NAN)], axis=1),
    )


def test_what_is_known():
    true = np.ones((3, 2, 2))
    true[1, 0], true[2] = NAN, NAN
    np.testing.assert_array_equal(presence.truth(true, np.array([True, False])), [[1, NAN], [0, NAN], [NAN, NAN]])


def test_a_hand_count(table):
    """a: said to be there 0, 3, 4, of which 0 and 4 are; absent 1, 2, of which 2 is. b: 0, 2, 3 there, all are; 1, 4
    absent, of which 1 is. Together 5 of 6 and 2 of 4; of 7 that are there 5 are found, of 3 absent ones 2."""
    found = presence.summarize(table, ("a", "b"), 1.5)
    assert (found["threshold"], found["temperature"]) == (0.5, 1.5)
    assert (found["n_present"], found["n_absent"]) == (7, 3)
    rates = [found[key] for key in presence.RATES]
    np.testing.assert_allclose(rates, [5 / 6, 5 / 7, 2 / 4, 2 / 3])
    a, b = found["per_landmark"]["a"], found["per_landmark"]["b"]
    np.testing.assert_allclose([a[key] for key in presence.RATES], [2 / 3, 2 / 3, 1 / 2, 1 / 2])
    np.testing.assert_allclose([b[key] for key in presence.RATES], [1, 3 / 4, 1 / 2, 1])
    assert list(found["per_landmark"]) == ["a", "b"]
    squares = [0.01, 0.36, 0.04, 0.49, 0.04, 0.16, 0.09, 0.25, 0.01, 0.81]
    assert found["brier"] == pytest.approx(np.mean(squares))
    assert all(low < found[key] < high for key, (low, high) in found["ci95"].items()) and found["ci95"]


def test_a_landmark_that_is_always_there_has_no_rates_of_absence(table):
    found = presence.summarize(table.rows(np.array([0, 4])), ("a",), None)
    assert found["temperature"] is None and found["precision"] == found["recall"] == 1
    assert not {"absent_precision", "absent_recall"} & found.keys()


def test_without_truth_there_are_counts_alone(table):
    found = presence.summarize(table.rows(np.array([5])), ("a",), None)
    assert (found["n_present"], found["n_absent"], found["per_landmark"]) == (0, 0, {}) and "precision" not in found


def test_nothing_is_measured_or_drawn_of_what_is_said_to_be_absent(table):
    there = presence.there_alone(table)
    gone = np.isnan(there.xy).all(axis=-1)
    want = np.zeros((6, 3), bool)
    want[[1, 2, 5], 0], want[[1, 4], 1] = True, True
    np.testing.assert_array_equal(gone, want)
    np.testing.assert_array_equal(table.xy, 1.0)


def test_its_column_is_there_where_a_run_has_it(table, tmp_path):
    metrics.write_predictions(tmp_path / "p.csv", table, np.full((6, 2), 0.5))
    header, first, *_ = (tmp_path / "p.csv").read_text().splitlines()
    assert header.endswith(",radius_px,radius_mm,unlike,present,x_mm,y_mm")
    assert first.endswith(",0.9000,0.5,0.5")
    np.testing.assert_array_equal(metrics.read_predictions(tmp_path / "p.csv").present, table.present)
