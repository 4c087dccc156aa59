"""Cautions: sentences for the first lines of every report, the most important first."""

from collections.abc import Mapping, Sequence

import numpy as np

from ctd_jax.metrics import Predictions
from ctd_jax.metrics.segmentation import Scores, slug
from ctd_jax.report import tables
from ctd_jax.report.tables import Metrics

MIN_SPREAD = 0.1  # share of the spread of the annotations; predictions that vary less all lie in one place
MIN_PEAK = 1 / 3  # share of the peaks of the other landmarks; a landmark with lower ones was not found
SHOWN = 5  # names that a sentence lists


def of_landmarks(summary: Metrics, table: Predictions, baseline: Predictions) -> list[str]:
    """Sentences on a result.

    Args:
      summary: content of metrics.json, with its `mean_shape`, `normalizer` and, for each landmark, `n_train`.
      table: the predictions that it is computed from.
      baseline: the predictions of the mean shape, see `mean_shape`.
    """
    return [
        *_no_better_than_the_mean_shape(summary),
        *_in_one_place(table, baseline),
        *_never_found(summary, table),
        *_never_trained(summary),
        *_units_of_some_pictures(summary, table),
    ]


def of_class_maps(
    summary: Metrics, scores: Scores, untrained: Mapping[tuple[str, str], int], *, size: int
) -> list[str]:
    """Sentences on a result of segmentation.

    Args:
      summary: content of metrics.json, with its `mean_map` and `classes`.
      scores: the table that it is computed from.
      untrained: domain and class of those that the network has not learned -> the number of training pictures that have
        it, too small to be seen.
      size: side of the network's picture, pixels.
    """
    sentences, mean_map = [], summary["mean_map"]
    of_domain = {domain: f" of {domain}" if len(summary["classes"]) > 1 else "" for domain in summary["classes"]}
    for domain, beaten in mean_map["beaten"].items():
        key = f"dice_{slug(domain)}"
        dice, baseline = (f"{100 * one[key]:.1f} %" if key in one else "unknown" for one in (summary, mean_map))
        if not beaten:
            sentences.append(
                f"This network is no better than the mean map of the training labels{of_domain[domain]}, placed "
                f"without looking at the picture: Dice {dice} against {baseline}."
            )
    for domain, names in summary["classes"].items():
        for name in names[1:]:
            rows = scores.of(domain, name) & (scores.values["true_pixels"] > 0)
            small = untrained.get((domain, name))
            if small is not None:
                why = "no training picture has it"
                if small:
                    why = f"too small to be seen at {size} x {size} pixels in all training pictures that have it "
                    why += f"({small}); give a larger data.image_size"
                sentences.append(f"{name}{of_domain[domain]} was never trained: {why}.")
            elif rows.any() and not scores.values["pixels"][rows].any():
                count = f"in none of the {rows.sum()} pictures that have it"
                sentences.append(f"{name}{of_domain[domain]} was never found: {count}.")
    return sentences


def _no_better_than_the_mean_shape(summary: Metrics) -> list[str]:
    """The network is no better than the mean shape, as a whole or at some landmarks."""
    shape = summary["mean_shape"]
    minus = shape["network_minus_it"]
    measure = minus["measure"]
    words = tables.quantity(measure, summary)
    if not shape["beaten"]:
        text = (
            "This network is no better than the mean shape of the training labels, placed without looking at the "
            f"picture: {words.label} {words.text(summary[measure])} against {words.text(shape[measure])}"
        )
        if minus["difference"] < 0:
            text += f"; the 95 % interval of the difference, {words.range(minus['ci95'])} {words.unit}, holds 0"
        return [f"{text}."]
    key = tables.main_key(summary)
    worse = [
        name
        for name, one in summary["per_landmark"].items()
        if key in one and one["n_train"] and one[key] >= shape["per_landmark"][name][key]
    ]
    if not worse:
        return []
    return [f"No better than the mean shape of the training labels at {len(worse)} of {len(summary['per_landmark'])} "
            f"landmarks: {_listed(worse)}."]  # fmt: skip


def _in_one_place(table: Predictions, baseline: Predictions) -> list[str]:
    """All predictions of different pictures, or of one picture, lie in one place."""
    known = np.isfinite(table.error_px)[..., None]
    middle = np.nanmean(baseline.xy, axis=1, keepdims=True)  # one that was never trained has no place
    # [N, 1, 1] size of the mean shape in each picture, which is proportional to the picture's frame
    size = np.sqrt(np.nanmean(((baseline.xy - middle) ** 2).sum(axis=-1), axis=1))[:, None, None]
    size = np.where(size > 0, size, 1.0)
    found, true = (np.where(known, (xy - middle) / size, np.nan) for xy in (table.xy, table.true_xy))
    sentences = []
    for axis, text in (
        (0, "The predictions of different pictures lie in one place: from picture to picture they vary by"),
        (1, "All landmarks of a picture are predicted in one place: they spread over"),
    ):
        spreads = [_spread(points, axis) for points in (found, true)]
        spread_out = np.isfinite(spreads[1]) & (spreads[1] > 0)
        shares = spreads[0][spread_out] / spreads[1][spread_out]
        share = float(np.median(shares)) if len(shares) else 1.0
        if share < MIN_SPREAD:
            sentences.append(f"{text} {100 * share:.0f} % of what the annotations do.")
    return sentences


def _spread(points: np.ndarray, axis: int) -> np.ndarray:
    """Root mean square distance of points from their middle.

    Args:
      points: `[N, K, 2]`, NaN where unknown.
      axis: 0 or 1, the points that are taken together.

    Returns:
      `[K]` or `[N]`; NaN where fewer than two points are known.
    """
    known = np.isfinite(points)
    n = known.sum(axis=axis, keepdims=True)
    middle = np.where(known, points, 0).sum(axis=axis, keepdims=True) / np.maximum(n, 1)
    squares = np.where(known, points - middle, 0) ** 2
    n = n.squeeze(axis)[..., 0]
    return np.where(n > 1, np.sqrt(squares.sum(axis=(axis, -1)) / np.maximum(n, 1)), np.nan)


def _never_found(summary: Metrics, table: Predictions) -> list[str]:
    """Landmarks whose peaks (median over the pictures that have them annotated) are less than `MIN_PEAK` of those of
    the others (their median), and whose error is not below that of the mean shape."""
    key, sentences = tables.main_key(summary), []
    peaks: np.ndarray = np.where(np.isfinite(table.error_px), table.confidence, np.nan)
    seen = np.isfinite(peaks).any(axis=0)
    found = [k for k, name in enumerate(table.landmarks) if seen[k] and summary["per_landmark"][name]["n_train"]]
    if len(found) < 2:
        return []
    median = np.nanmedian(peaks[:, found], axis=0)
    for k, name in enumerate(map(str, table.landmarks[found])):
        others = float(np.median(np.delete(median, k)))
        error, baseline = (one["per_landmark"][name].get(key) for one in (summary, summary["mean_shape"]))
        if median[k] < MIN_PEAK * others and None not in (error, baseline) and error >= baseline:
            words = tables.quantity(key, summary)
            sentences.append(f"{name} was never found: its peaks are {median[k]:.2f} high (median), those of the other "
                             f"landmarks {others:.2f}, its mean error {words.text(error)}, that of the mean shape "
                             f"{words.text(baseline)}.")  # fmt: skip
    return sentences


def _never_trained(summary: Metrics) -> list[str]:
    """Landmarks that no training picture has annotated, here, in the run that this one went on from or in the
    teacher of heatmaps."""
    every = summary["per_landmark"].items()
    names = [name for name, one in every if not (one["n_train"] or one.get("learned_before"))]
    if not names:
        return []
    return [f"Not predicted, as no training picture has it annotated: {_listed(names)}. Its cells stay empty, and no "
            "error of it counts."]  # fmt: skip


def _units_of_some_pictures(summary: Metrics, table: Predictions) -> list[str]:
    """Only some of the pictures have millimetres, or an NME."""
    n, sentences = summary["n_images"], []
    in_mm = int(np.isfinite(table.error_mm).any(axis=1).sum())
    if 0 < in_mm < n:
        sentences.append(f"The millimetres are those of {in_mm} of the {n} pictures: the others have no spacing.")
    if summary["normalizer"]:
        a, b = (list(table.landmarks).index(name) for name in summary["normalizer"])
        both = np.isfinite(table.true_xy[:, [a, b]]).all(axis=(1, 2))
        with_nme = int((both & np.isfinite(table.error_px).any(axis=1)).sum())
        names = " and ".join(summary["normalizer"])
        if not with_nme:
            sentences.append(f"There is no NME: none of the {n} pictures has both {names} annotated.")
        elif with_nme < n:
            sentences.append(f"The NME is that of {with_nme} of the {n} pictures: the others lack {names}.")
    return sentences


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
