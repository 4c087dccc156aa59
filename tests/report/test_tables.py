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
