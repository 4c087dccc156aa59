"""The words for every key of metrics.json, and the result table for the terminal."""

from ctd_jax.report import tables


def test_console_table():
    summary = {
        "split": "test", "n_images": 3, "n_points": 8, "me_px": 2.347, "nme_a_b": 0.0456, "ced_measure": "nme_a_b",
        "auc@0.1": 0.5432, "fr@0.1": 1 / 3, "normalizer": ["a", "b"], "ci95": {"me_px": [1.2, 3.45]},
        "per_landmark": {k: {"n": 3, "me_px": v, "ci95": {}} for k, v in {"p": 1, "q": 3, "r": 2, "s": 4}.items()}
        | {"t": {"n": 0, "ci95": {}}},
    }  # fmt: skip
    lines = tables.console(summary).splitlines()
    assert [" ".join(line.split()) for line in lines if line.strip("-")] == [
        "test: 3 pictures, 8 points 95 % interval",
        "Mean error (ME) 2.35 px 1.20 to 3.45",
        "Normalised mean error (NME) 4.56 %",
        "Area under the curve (AUC), to 10 % 0.543",
        "Failure rate (FR), 10 % 33.33 %",
        "largest mean errors: s 4.00 px, q 3.00 px, r 2.00 px",
    ]
    assert lines[0].index("95 %") + len("95 % interval") == lines[2].index("3.45") + len("3.45") == len(lines[1])


def test_small_lengths_have_three_digits():
    """Of a wing's 0.0014 mm there would be 0.00 mm; pixels and angles stay as they are."""
    words = tables.quantity("me_mm", {})
    texts = [words.text(value) for value in (0.00139, 0.0512, 0.1, 2.347, 0.0)]
    assert texts == ["0.00139 mm", "0.0512 mm", "0.10 mm", "2.35 mm", "0.00 mm"]
    assert words.range((-0.01234, 1.5)) == "-0.0123 to 1.50"
    assert tables.quantity("me_px", {}).number(0.0512) == "0.05"
    area = {"measurements": {"wing": {"unit": "mm2", "of": {"area": ["a", "b", "c"]}}}}
    assert tables.measurement("wing", area).text(0.000335) == "0.000335 mm\u00b2"
    raters = {"unit": "mm", "network": 0.0019, "between": 0.00214, "beaten": True}
    assert "(0.0019 mm) than another annotator is (0.00214 mm)" in tables.verdict({"me_mm": 0.1, "raters": raters})


def test_the_verdict_names_the_mean_shape():
    metrics = {"me_px": 2.0, "me_mm": 1.0, "mean_shape": {"me_px": 6.0, "me_mm": 3.0, "beaten": True}}
    assert tables.verdict(metrics) == "The network beats the mean shape of its training labels (3.00 mm)."
    metrics = {"me_px": 6.0, "mean_shape": {"me_px": 5.5, "beaten": False}}
    assert tables.verdict(metrics) == "The network does not beat the mean shape of its training labels (5.50 px)."
    assert tables.verdict({"me_px": 6.0}) == ""  # a run of an older version


def test_the_measurements_that_agree_best_and_worst_are_named():
    icc = {"fissure": 0.714, "opening": 0.1, "mouth": 0.95}
    metrics = {"measurements": {name: {"n": 5, "icc": value} for name, value in icc.items()} | {"angle": {"n": 0}}}
    said = "mouth agrees best with what is annotated (ICC 0.95), opening worst (0.10)."
    assert tables.agreement_in_short(metrics) == said
    one = {"measurements": {"fissure": {"n": 5, "icc": 0.714}}}
    assert tables.agreement_in_short(one) == "fissure agrees with what is annotated (ICC 0.71)."
    assert tables.agreement_in_short({"measurements": {"angle": {"n": 0}}}) == tables.agreement_in_short({}) == ""


def test_the_verdict_names_a_person_where_there_are_raters():
    raters = {"unit": "mm", "network": 1.9, "between": 2.147, "beaten": True}
    nearer = "nearer to an annotator (1.90 mm) than another annotator is (2.15 mm)."
    assert tables.verdict({"me_px": 6.0, "raters": raters}) == f"The network is {nearer}"
    metrics = {"me_px": 2.0, "mean_shape": {"me_px": 6.0, "beaten": True}, "raters": raters | {"beaten": False}}
    start = "The network beats the mean shape of its training labels (6.00 px) and is no "
    assert tables.verdict(metrics) == start + nearer
