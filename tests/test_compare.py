"""The paired test of two tables of predictions, against SciPy, simulation and hand calculation."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.stats

from configs import ft
from ctd_jax import metrics
from ctd_jax.errors import UserError
from ctd_jax.metrics import paired

THRESHOLDS = {"nme": 0.1, "mm": 1.6, "px": 10.0}
NAN = float("nan")


def table(errors_px, *, subjects=None, mm_per_px=None):
    """Point k of each picture is at (50 k, 0), predicted `errors_px` [N, K] to the right of it; NaN: not annotated."""
    errors_px = np.asarray(errors_px, np.float64)
    n, k = errors_px.shape
    true_xy = np.stack(np.broadcast_arrays(50.0 * np.arange(k), np.zeros((n, k))), axis=-1)
    xy = true_xy + np.stack([np.nan_to_num(errors_px), np.zeros((n, k))], axis=-1)
    return metrics.Predictions.from_points(
        [f"{i}.png" for i in range(n)],
        [f"s{i}" for i in range(n)] if subjects is None else subjects,
        [f"p{i}" for i in range(k)],
        xy,
        true_xy=np.where(np.isnan(errors_px)[..., None], NAN, true_xy),
        spacing=None if mm_per_px is None else np.full((n, 2), mm_per_px),
    )


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


@pytest.fixture
def compare(cli, tmp_path, monkeypatch):
    """Runs the command on two tables, A.csv and B.csv, and what else is given."""
    monkeypatch.chdir(tmp_path)

    def call(a, b, *arguments):
        for name, one in (("A.csv", a), ("B.csv", b)):
            metrics.write_predictions(name, one)
        return cli("ctd_jax.compare", "A.csv", "B.csv", *arguments)

    return call


def test_command_shows_and_writes_the_differences(compare, tmp_path):
    a, b = (table(3 * e, mm_per_px=0.5) for e in ([[1, 3, 2], [2, 2, 5]], [[2, 4, 2], [2, 6, 1]]))
    code, out, error = compare(a, b, "--out=d.json", "--normalizer=p0,p1", "--radii=1,2", "--threshold=0.05")
    assert (code, error) == (0, "")
    assert "6 pictures, 6 subjects, 18 points" in out
    lines = {line.split("  ")[0]: line.split() for line in out.splitlines() if line}
    # Of 0 and -1, thrice: -0.5 -+ 2.571 sqrt(0.3 / 6), cut at -1; scipy.stats.ttest_1samp has p = 0.0756
    assert lines["Failure rate (FR), 5 %"][-7:] == ["50.00", "100.00", "-50.00", "-100.00", "to", "7.48", "0.0756"]
    order = [line.split()[0] for line in out.splitlines() if line.startswith(("p0 ", "p1 ", "p2 "))]
    assert order == ["p1", "p0", "p2"]  # A's best first
    assert lines["p1"][-1] == "A"
    written = json.loads((tmp_path / "d.json").read_text())
    assert (written["a"], written["b"]) == ("A.csv", "B.csv")
    assert set(written["differences"]) == {
        "me_px", "me_mm", "nme_p0_p1", "auc@0.05", "fr@0.05", "sdr_le_1mm", "sdr_le_2mm"
    }  # fmt: skip
    assert written["per_landmark"]["p2"]["me_px"]["difference"] == 2


def other(base, **changes):
    return dataclasses.replace(base, **{key: np.array(value) for key, value in changes.items()})


BASE = table([[1, 3], [2, 2], [3, 1]], mm_per_px=0.5)


@pytest.mark.parametrize(
    "b, message",
    [
        (
            other(BASE, images=["0.png", "1.png", "x.png"]),
            "other pictures: 2 in common, 1 only in A.csv (first: '2.png'), 1 only in B.csv (first: 'x.png')",
        ),
        (other(BASE, images=["x", "y", "z"]), "other pictures: none in common"),
        (table([[1, 3], [2, 2]], mm_per_px=0.5), "other pictures: 2 in common, 1 only in A.csv (first: '2.png')"),
        (
            other(BASE, landmarks=["p0", "nose"]),
            "other landmarks: 1 in common, 1 only in A.csv (first: 'p1'), 1 only in B.csv (first: 'nose')",
        ),
        (
            other(BASE, subjects=["s0", "s1", "s9"]),
            "another subject in 1 of 3 pictures (first: '2.png': 's2' and 's9')",
        ),
        (other(BASE, true_xy=BASE.true_xy + [[[0, 0.02]]] * 3), "other annotations: 6 of 6 true points differ"),
        (
            table([[1, 3], [2, NAN], [3, 1]], mm_per_px=0.5),
            "other annotations: 1 of 6 true points differ (first: 'p1' in '1.png': (50, 0) and none)",
        ),
        (table([[1, 3], [2, 2], [3, 1]]), "know the error in mm of other points (6 differ)"),
    ],
)
def test_tables_that_cannot_be_paired(compare, b, message):
    code, out, error = compare(BASE, b)
    assert (code, out) == (2, "")
    assert message in error
    assert len(error.splitlines()) == 1


def test_rounded_true_points_are_the_same(compare):
    assert compare(BASE, other(BASE, true_xy=BASE.true_xy + 0.005))[0] == 0


def test_one_subject(compare):
    one = [table(e, subjects=["s", "s"]) for e in ([[1, 3], [2, 2]], [[2, 4], [2, 6]])]
    code, out, error = compare(*one, "--out=d.json")
    assert code == 0
    assert "WARNING: there is only one subject" in error
    with open("d.json") as file:
        assert set(json.load(file)["differences"]["me_px"]) == {"a", "b", "difference"}
    assert "-1.50" in out


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((), "expected two runs or tables, A and B, found 0"),
        (("A.csv",), "found 1"),
        (("A.csv", "run/../A.csv"), "A and B are the same file, A.csv"),
        (("A.csv", "none.csv"), "none.csv: no such file"),
        (("A.csv", "B.csv", "--normalizer=p0"), "--normalizer: expected two landmarks, a,b, found p0"),
        (("A.csv", "B.csv", "--normalizer=p0,eye"), "'eye' is no landmark; expected two of p0, p1"),
        (("A.csv", "B.csv", "--radii=2,x"), "--radii: expected numbers above 0, found 2,x"),
        (("A.csv", "B.csv", "--threshold=0"), "--threshold: expected numbers above 0, found 0.0"),
        (("A.csv", "B.csv", "--out=none/d.json"), "--out: the result can't be written"),
        (("run", "A.csv"), "run/predictions.csv: no such file"),
    ],
)
def test_arguments_that_cannot_be_used(cli, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    for name in ("A.csv", "B.csv"):
        metrics.write_predictions(name, BASE)
    code, out, error = cli("ctd_jax.compare", *arguments)
    assert (code, out) == (2, "")
    assert message in error


def test_a_run_knows_normaliser_radii_and_threshold(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    metrics.write_predictions(run / "predictions.csv", BASE)
    metrics.write_predictions("B.csv", table([[2, 3], [2, 1], [4, 1]], mm_per_px=0.5))
    config = ft.get_config()
    config.eval.threshold.update(THRESHOLDS | {"nme": 0.07})
    (run / "config.json").write_text(json.dumps(config.to_dict()))
    summary = metrics.summarize(BASE, normalizer=("p0", "p1"), thresholds=THRESHOLDS, radii_mm=(1.5,))
    (run / "metrics.json").write_text(json.dumps(summary | {"normalizer": ["p0", "p1"]}))
    for pair in (("run", "B.csv"), ("B.csv", "run")):
        code, _, error = cli("ctd_jax.compare", *pair, "--out=d.json")
        assert (code, error) == (0, "")
        got = json.loads((tmp_path / "d.json").read_text())["differences"]
        assert set(got) == {"me_px", "me_mm", "nme_p0_p1", "auc@0.07", "fr@0.07", "sdr_le_1.5mm"}
    shape = {"mean_shape": {"me_px": 4.321, "beaten": False}}
    (run / "metrics.json").write_text(json.dumps(summary | {"normalizer": ["p0", "p1"]} | shape))
    code, out, error = cli("ctd_jax.compare", "B.csv", "run")
    assert (code, error) == (0, "") and out.startswith("B is no better than the mean shape of its training labels.\nA ")
    assert "mean shape" in out and next(line for line in out.splitlines() if " px " in line).endswith("  4.32")
    (run / "metrics.json").unlink()
    code, _, error = cli("ctd_jax.compare", "run", "B.csv")
    assert code == 2 and "is the run finished?" in error


def test_help_shows_examples(cli):
    code, out, _ = cli("ctd_jax.compare", "--help")
    assert code == 0
    assert "python -m ctd_jax.compare runs/ctd_ed-demo runs/ft-demo" in out
    assert "--normalizer" in out
