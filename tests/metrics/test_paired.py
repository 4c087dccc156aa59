"""The paired test of two tables of predictions, against SciPy, simulation and hand calculation."""

import dataclasses

import numpy as np
import pytest
import scipy.stats
from point_tables import table

from ctd_jax.errors import UserError
from ctd_jax.metrics import Predictions, paired
from ctd_jax.report.comparison import comparison

THRESHOLDS = {"nme": 0.1, "mm": 1.6, "px": 10.0}
NAN = float("nan")


def difference(a, b, *, normalizer=None, radii_mm=(2,)):
    return paired.difference(a, b, normalizer=normalizer, thresholds=THRESHOLDS, radii_mm=radii_mm)


def test_differences_by_hand():
    """A - B; in mm A's errors are 0.5, 1.5 and 1, 1, B's are 1, 2 and 1, 3."""
    a, b = table([[1, 3], [2, 2]], mm_per_px=0.5), table([[2, 4], [2, 6]], mm_per_px=0.5)
    got = difference([a], [b])
    rows = got["differences"]
    assert (got["n_images"], got["n_points"], got["n_subjects"]) == (2, 4, 2)
    assert (got["ced_measure"], got["normalizer"]) == ("me_mm", None)
    assert (rows["me_px"]["a"], rows["me_px"]["b"], rows["me_px"]["difference"]) == (2, 3.5, -1.5)
    half = scipy.stats.t.ppf(0.975, 1) * 0.5  # of -1 and -2
    assert rows["me_px"]["ci95"] == pytest.approx([-1.5 - half, -1.5 + half])
    assert rows["me_mm"]["difference"] == -0.75
    assert rows["fr@1.6"]["difference"] == -0.5
    assert rows["sdr_le_2mm"]["difference"] == 0.25
    assert rows["auc@1.6"]["difference"] == pytest.approx(0.375 - 0.0625 / 2)
    assert [got["per_landmark"][k]["me_px"]["difference"] for k in ("p0", "p1")] == [-0.5, -2.5]
    nme = difference([a], [b], normalizer=("p0", "p1"))["differences"]["nme_p0_p1"]
    assert nme["difference"] == pytest.approx(-1.5 / 50)
    swapped = difference([b], [a])["differences"]
    assert all(swapped[key]["difference"] == -row["difference"] for key, row in rows.items())


@pytest.mark.parametrize("n", [3, 12])
@pytest.mark.parametrize("shift", [0.0, 0.35, 2.0])
def test_interval_and_p_match_scipy(shift, n):
    """One picture of each subject, one landmark: the paired t test."""
    a, b = np.random.default_rng(4).gamma(4, 1, (2, n))
    a = np.abs(0.5 * a + 0.5 * b + shift)
    got = difference([table(a[:, None])], [table(b[:, None])])["differences"]["me_px"]
    want = scipy.stats.ttest_rel(a, b)
    assert got["difference"] == pytest.approx(np.mean(a - b))
    np.testing.assert_allclose(got["ci95"], want.confidence_interval(0.95))
    assert got["p"] == pytest.approx(want.pvalue)


def test_interval_of_clusters_matches_a_loop():
    """Subjects with one to four pictures, points missing: each with all its pictures is left out once, the success rate
    is pooled over points, and degrees of freedom are those of the shares of pictures or points."""
    random = np.random.default_rng(5)
    subjects = np.repeat(np.arange(9), random.integers(1, 5, 9))
    errors = random.gamma(3, 2, (2, len(subjects), 3)) + random.gamma(2, 2, (9, 1))[subjects]
    errors[:, random.random((len(subjects), 3)) < 0.2] = NAN
    a, b = (table(e, subjects=[f"s{i}" for i in subjects], mm_per_px=0.2) for e in errors)
    got = difference([a], [b])["differences"]

    def numbers(rows):
        one, two = errors[:, rows]
        hits = [np.mean(e[np.isfinite(e)] * 0.2 <= 2) for e in (one, two)]
        means = [np.nanmean(np.nanmean(e, axis=1)) for e in (one, two)]
        return np.array([means[0] - means[1], hits[0] - hits[1]])

    everything = numbers(np.arange(len(subjects)))
    left_out = np.array([numbers(subjects != s) for s in range(9)])
    se = np.sqrt(8 / 9 * ((left_out - everything) ** 2).sum(axis=0))
    told = np.isfinite(errors[0])
    counts = np.array([[told.any(axis=1)[subjects == s].sum(), told[subjects == s].sum()] for s in range(9)])
    df = counts.sum(axis=0) ** 2 / (counts**2).sum(axis=0) - 1
    half = scipy.stats.t.ppf(0.975, df) * se
    p = 2 * scipy.stats.t.sf(np.abs(everything) / se, df)
    for i, key in enumerate(("me_px", "sdr_le_2mm")):
        np.testing.assert_allclose(got[key]["ci95"], [everything[i] - half[i], everything[i] + half[i]])
        assert got[key]["p"] == pytest.approx(p[i])


@pytest.mark.slow
@pytest.mark.parametrize("people", [5, 40])
def test_coverage_where_nothing_differs(people):
    """200 data sets of people whose pictures differ together, no method being better: about 95 % of the intervals hold
    0 (one over pictures would hold it in about 66 %), and p is above 0.05 in the same ones."""
    inside, accepted = [], []
    for seed in range(200):
        random = np.random.default_rng(seed)
        subjects = np.repeat(np.arange(people), random.integers(1, 7, people))
        offset = random.normal(size=people)[subjects] + 0.5 * random.normal(size=len(subjects))
        a, b = (table(10 + sign * offset[:, None] / 2, subjects=[f"s{i}" for i in subjects]) for sign in (1, -1))
        row = difference([a], [b])["differences"]["me_px"]
        low, high = row["ci95"]
        inside.append(low <= 0 <= high)
        accepted.append(row["p"] >= 0.05)
    assert 0.92 <= np.mean(inside) <= 0.99
    assert inside == accepted


def test_runs_are_averaged_picture_by_picture():
    random = np.random.default_rng(6)
    one, two, three, other = (table(e) for e in random.gamma(4, 3, (4, 12, 2)))
    pooled = difference([one, two, three], [other])["differences"]
    single = [difference([t], [other])["differences"] for t in (one, two, three)]
    for key, row in pooled.items():
        assert row["difference"] == pytest.approx(np.mean([s[key]["difference"] for s in single])), key
    mean = table(np.mean([t.error_px for t in (one, two, three)], axis=0))
    assert pooled["me_px"]["ci95"] == pytest.approx(difference([mean], [other])["differences"]["me_px"]["ci95"])
    same = difference([one, two, three], [three, one, two])["differences"]
    assert {row["p"] for row in same.values()} == {1.0}


def test_order_of_rows_does_not_matter():
    a, b = (table(e, mm_per_px=0.5) for e in np.random.default_rng(7).gamma(4, 1, (2, 9, 3)))
    rows, columns = np.random.default_rng(8).permutation(9), [2, 0, 1]
    by_point = {k: getattr(b, k)[rows][:, columns] for k in ("xy", "true_xy", "error_px", "error_mm", "confidence")}
    turned = dataclasses.replace(
        b, images=b.images[rows], subjects=b.subjects[rows], landmarks=b.landmarks[columns], **by_point
    )
    assert difference([a], [turned]) == difference([a], [b])


def test_nothing_annotated():
    with pytest.raises(UserError, match="at least one annotated landmark, found none in 2 pictures"):
        difference([table([[NAN], [NAN]])], [table([[NAN], [NAN]])])


def test_errors_of_a_training_that_has_run_away():
    """A is 1,000 px off in all of 200 pictures, B 0: (1 - 1000)^200, which p would be of a rate, is no number. Where
    the errors are 1e300 the mean is known, and no interval."""
    row = difference([table(np.full((200, 1), 1000.0))], [table(np.zeros((200, 1)))])["differences"]["me_px"]
    assert (row["difference"], row["ci95"], row["p"]) == (1000, [1000, 1000], 0)
    like = table(np.ones((4, 1)))
    far = dataclasses.replace(like, error_px=1e300 * np.arange(1.0, 5.0)[:, None])
    row = difference([far], [like])["differences"]["me_px"]
    assert row["difference"] == pytest.approx(2.5e300) and "ci95" not in row and "p" not in row


def test_points_that_one_table_lacks_are_left_out_of_both():
    """B does not predict the second landmark: A's errors of the first, 1 and 2, are compared with 2 and 4."""
    a, b = table([[1, 30], [2, 20]], mm_per_px=0.5), table([[2, 4], [4, 6]], mm_per_px=0.5)
    b = b.masked(np.array([True, False]))
    for one, other, sign in ((a, b, 1), (b, a, -1)):
        got = difference([one], [other])
        assert (got["n_images"], got["n_points"], got["n_left_out"]) == (2, 2, 2)
        assert got["differences"]["me_px"]["difference"] == -1.5 * sign
        assert "me_px" not in got["per_landmark"]["p1"]


def test_the_same_pictures_with_another_spacing():
    """0.1 mm of a pixel and 0.125. Numbers that were rounded say too little where pixels differ by 1 in a thousand, or
    errors are small. Pixels that are not square have errors of other ratios in other directions."""
    a, b = (table([[5, 3], [2, 4]], mm_per_px=mm) for mm in (0.1, 0.125))
    for one, other in ((a, b), (b, a)):
        with pytest.raises(UserError, match=r"another spacing in 2 of 2 pictures \(first: .*0\.1.*evaluate both with"):
            difference([one], [other])
    assert difference([a], [table([[7, 2], [1, 6]], mm_per_px=0.1001)])
    assert difference([a], [table([[1, 1], [0.5, 0.1]], mm_per_px=0.125)])
    rng = np.random.default_rng(0)
    true_xy, spacing = rng.uniform(0, 99, (9, 5, 2)), rng.uniform(0.1, 0.5, (9, 2))
    names = [f"{i}.png" for i in range(9)], [""] * 9, list("abcde")

    def found(spacing):
        xy = true_xy + rng.normal(0, 4, true_xy.shape)
        one = Predictions.from_points(*names, xy.round(3), true_xy=true_xy.round(3), spacing=spacing)
        return dataclasses.replace(one, error_mm=one.error_mm.round(3))

    for _ in range(20):
        assert difference([found(spacing)], [found(spacing)])
    with pytest.raises(UserError, match="another spacing in 1 of 9 pictures .first: '3.png'"):
        difference([found(spacing)], [found(np.where(np.arange(9)[:, None] == 3, 1.05 * spacing, spacing))])


def test_metrics_in_mm_of_few_pictures_say_of_how_many():
    a, b = table([[1, 3], [2, 2], [4, 4]], mm_per_px=0.5), table([[2, 4], [2, 6], [4, 1]], mm_per_px=0.5)
    a, b = (
        dataclasses.replace(one, error_mm=np.where([[True], [False], [False]], one.error_mm, NAN)) for one in (a, b)
    )
    got = difference([a], [b])
    assert (got["n_images"], got["n_points"], got["n_images_mm"], got["n_points_mm"]) == (3, 6, 1, 2)
    said = [" ".join(line.split()[:7]) for line in comparison(got).splitlines()]
    assert "Mean error (ME), 1 of 3 pictures" in said and "Mean error (ME) by landmark A B" in said
    assert [line.split()[1] for line in comparison(got).splitlines() if line.startswith("p1")] == ["px"]
