"""What a reader has to know before the numbers: sentences for the first lines of every report, most important first."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ctd_jax.metrics import Predictions
from ctd_jax.metrics.segmentation import Scores, slug
from ctd_jax.report import tables

STILL = 0.1  # of the spread of the annotations; predictions that vary less lie all in one place
FAINT = 1 / 3  # of the peaks of the other landmarks; lower ones are no landmark that was found
SHOWN = 5  # names that a sentence lists


def of_landmarks(summary: Mapping[str, Any], table: Predictions, blind: Predictions) -> list[str]:
    """Sentences on a result.

    Args:
      summary: of metrics.json, with its `mean_shape`, `normalizer` and, for each landmark, `n_train`.
      table: the predictions that it is made from; blind: those of the mean shape, see `mean_shape`.
    """
    return [
        *_of_the_mean_shape(summary),
        *_of_spread(table, blind),
        *_never_found(summary, table),
        *_never_trained(summary),
        *_of_units(summary, table),
    ]


def of_class_maps(summary: Mapping[str, Any], scores: Scores, learned: Collection[tuple[str, str]]) -> list[str]:
    """Sentences on a result of segmentation.

    Args:
      summary: of metrics.json, with its `mean_map` and `classes`.
      scores: the table that it is made from.
      learned: (domain, class) of those that any training picture has.
    """
    sentences, several, shape = [], len(summary["classes"]) > 1, summary["mean_map"]
    for domain, beaten in shape["beaten"].items():
        key, of = f"dice_{slug(domain)}", f" of {domain}" * several
        own, blind = (f"{100 * one[key]:.1f} %" if key in one else "unknown" for one in (summary, shape))
        if not beaten:
            sentences.append(
                f"This network is no better than the mean map of the training labels{of}, placed without looking at "
                f"the picture: Dice {own} against {blind}."
            )
    for domain, names in summary["classes"].items():
        for name in names[1:]:
            rows = scores.of(domain, name) & (scores.values["true_pixels"] > 0)
            of = name + f" of {domain}" * several
            if (domain, name) not in learned:
                sentences.append(f"{of} was never trained: no training picture has it.")
            elif rows.any() and not scores.values["pixels"][rows].any():
                sentences.append(f"{of} was never found: in none of the {rows.sum()} pictures that have it.")
    return sentences


def _of_the_mean_shape(summary: Mapping[str, Any]) -> list[str]:
    """The network is no better than it, or is at some landmarks."""
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


def _of_spread(table: Predictions, blind: Predictions) -> list[str]:
    """All predictions of different pictures, or of one picture, in one place."""
    known = np.isfinite(table.error_px)[..., None]
    middle = blind.xy.mean(axis=1, keepdims=True)
    size = np.sqrt(((blind.xy - middle) ** 2).sum(axis=-1).mean(axis=1))[:, None, None]
    size = np.where(size > 0, size, 1.0)  # of the mean shape in each picture: so large is the picture's frame
    found, true = (np.where(known, (xy - middle) / size, np.nan) for xy in (table.xy, table.true_xy))
    sentences = []
    for axis, text in (
        (0, "The predictions of different pictures lie in one place: from picture to picture they vary by"),
        (1, "All landmarks of a picture are predicted in one place: they spread over"),
    ):
        spreads = [_spread(points, axis) for points in (found, true)]
        told = np.isfinite(spreads[1]) & (spreads[1] > 0)
        share = float(np.median(spreads[0][told] / spreads[1][told])) if told.any() else 1.0
        if share < STILL:
            sentences.append(f"{text} {100 * share:.0f} % of what the annotations do.")
    return sentences


def _spread(points: np.ndarray, axis: int) -> np.ndarray:
    """Root mean square distance from their middle of `[N, K, 2]` points along an axis; NaN: fewer than two."""
    known = np.isfinite(points)
    n = known.sum(axis=axis, keepdims=True)
    middle = np.where(known, points, 0).sum(axis=axis, keepdims=True) / np.maximum(n, 1)
    squares = np.where(known, points - middle, 0) ** 2
    n = n.squeeze(axis)[..., 0]
    return np.where(n > 1, np.sqrt(squares.sum(axis=(axis, -1)) / np.maximum(n, 1)), np.nan)


def _never_found(summary: Mapping[str, Any], table: Predictions) -> list[str]:
    """Landmarks whose peaks (median over the pictures) are less than `FAINT` of those of the others (their median),
    and whose error, where it is known, is not below that of the mean shape."""
    key, sentences = tables.main_key(summary), []
    if len(table.landmarks) < 2 or np.isnan(table.confidence).any():
        return []
    peaks = np.median(table.confidence, axis=0)
    for k, name in enumerate(map(str, table.landmarks)):
        others, one = float(np.median(np.delete(peaks, k))), summary["per_landmark"][name]
        error, blind = one.get(key), summary["mean_shape"]["per_landmark"][name].get(key)
        if not one["n_train"] or peaks[k] >= FAINT * others or (error is not None and error < blind):
            continue
        words = tables.quantity(key, summary)
        told = f", its mean error {words.text(error)}, that of the mean shape {words.text(blind)}" if error else ""
        sentences.append(f"{name} was never found: its peaks are {peaks[k]:.2f} high (median), those of the other "
                         f"landmarks {others:.2f}{told}.")  # fmt: skip
    return sentences


def _never_trained(summary: Mapping[str, Any]) -> list[str]:
    names = [name for name, one in summary["per_landmark"].items() if not one["n_train"]]
    if not names:
        return []
    counted = [name for name in names if summary["per_landmark"][name]["n"]]
    text = f"Never trained, as no training picture has it annotated: {_listed(names)}."
    if counted:
        text += f" The error of {_listed(counted)} counts in the means all the same."
    return [text]


def _of_units(summary: Mapping[str, Any], table: Predictions) -> list[str]:
    """Millimetres, or the NME, of some of the pictures only."""
    n, sentences = summary["n_images"], []
    in_mm = int(np.isfinite(table.error_mm).any(axis=1).sum())
    if 0 < in_mm < n:
        sentences.append(f"The millimetres are those of {in_mm} of the {n} pictures: the others have no spacing.")
    if summary["normalizer"]:
        a, b = (list(table.landmarks).index(name) for name in summary["normalizer"])
        both = np.isfinite(table.error_px[:, [a, b]]).all(axis=1)
        judged = int((both & np.isfinite(table.error_px).any(axis=1)).sum())
        names = " and ".join(summary["normalizer"])
        if not judged:
            sentences.append(f"There is no NME: none of the {n} pictures has both {names} annotated.")
        elif judged < n:
            sentences.append(f"The NME is that of {judged} of the {n} pictures: the others lack {names}.")
    return sentences


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
