"""The metrics of other tools, recomputed from a table of predictions, so that a result can stand beside theirs.

Each follows the code that its docstring names, also where we would decide otherwise; `tests/golden/peers.json` has what
that code itself gave. A number that needs what the table does not have is never guessed: it is asked for by an option,
or left out with a note.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ctd_jax.errors import UserError
from ctd_jax.metrics.predictions import Predictions


@dataclasses.dataclass(frozen=True)
class Options:
    """What a definition may need besides the table; None: not given."""

    radii: Sequence[float] = (2.0, 2.5, 3.0, 4.0)  # mm, or px where no mm are known
    normalizer: tuple[str, str] | None = None  # two landmarks
    normalizer_mm: float | None = None  # their distance in mm, taken as the same in every picture
    pcutoff: float | None = None  # smallest confidence that counts
    grid: tuple[int, int] | None = None  # width and height that a tool resizes every picture to
    size: tuple[int, int] | None = None  # width and height of every picture
    grid_spacing: float | None = None  # mm of a pixel of the grid


class Number(NamedTuple):
    """One metric as the tool prints it."""

    name: str
    value: float
    unit: str  # "px", "mm", "%", "" for a fraction, or "px of the grid"
    ours: str = ""  # the key of `summarize` that is nearest in meaning


class Result(NamedTuple):
    """What a tool would say of a table, and what was taken or left out."""

    numbers: list[Number]
    notes: list[str]
    normalizer: tuple[str, str] | None = None  # that an NME was divided by


@dataclasses.dataclass(frozen=True)
class Peer:
    """Another tool's evaluation."""

    source: str  # version, file and functions
    compute: Callable[[Predictions, Options], Result]
    uses: tuple[str, ...]  # the options that change its numbers
    differs: str  # from our metrics, in one sentence
    left_out: str = ""  # what it has besides, and the table does not allow


def numbers(tool: str, table: Predictions, options: Options) -> Result:
    """What a tool, a key of `PEERS`, would say of a table.

    Raises:
      UserError: nothing is annotated; what the tool's definition does not allow, or lacks.
    """
    if not np.isfinite(table.error_px).any():
        raise UserError("expected at least one annotated landmark, found none")
    return PEERS[tool].compute(table, options)


def landmarker(table: Predictions, options: Options) -> Result:
    """landmarker 0.4.1, landmarker/metrics/metrics.py, `point_error` and `sdr`, both as called with missing points.

    MRE = nanmean of all errors e; SDR(r) = 100 * #(e <= r) / (N K), the comparison with NaN being false.
    """
    errors, unit = _errors(table)
    numbers = [Number("point_error, nanmean", float(np.nanmean(errors)), unit, f"me_{unit}")]
    for r in options.radii:
        ours = f"sdr_le_{r:g}mm" if unit == "mm" else ""
        numbers.append(Number(f"sdr, {r:g} {unit}", 100 * float(np.mean(errors <= r)), "%", ours))
    return Result(numbers, [])


def payer(table: Predictions, options: Options) -> Result:
    """Payer's MedicalDataAugmentationTool, utils/landmark/landmark_statistics.py, `LandmarkStatistics`.

    Point error (PE): mean, standard deviation and median of all e that are not NaN. Error of a picture (IPE): nansum(e)
    / K; of these the same three. Outliers(r) = #(e >= r) / number of annotated points. With a normaliser, as for the
    hands: e in px * `normalizer_mm` / distance of the two annotated points, NaN in a picture without both.
    """
    errors, unit = _errors_by_length(table, options) if options.normalizer_mm else _errors(table)
    of_pictures = np.nansum(errors, axis=1) / errors.shape[1]
    numbers = []
    for name, values in (("PE", errors), ("IPE", of_pictures)):
        numbers += [
            Number(f"{name} mean", float(np.nanmean(values)), unit, f"me_{unit}"),
            Number(f"{name} std", float(np.nanstd(values)), unit),
            Number(f"{name} median", float(np.nanmedian(values)), unit),
        ]
    valid = np.count_nonzero(~np.isnan(table.error_px))
    for r in options.radii:
        numbers.append(Number(f"#outliers >= {r:g} {unit}", 100 * float(np.count_nonzero(errors >= r)) / valid, "%"))
    return Result(numbers, [])


def gu2net(table: Predictions, options: Options) -> Result:
    """GU2Net, universal_landmark_detection/evaluation.py, `cal_all_distance`, `analysis` and `get_sdr`, and
    model/datasets/cephalometric.py, `readLandmark`, for the grid.

    MRE and STD are the mean and the standard deviation of all e, SDR(r) = #(e <= r) / (N K), for its own radii. Both
    points are first rounded to whole pixels of a grid that every picture is resized to, without keeping its aspect: x *
    grid width / picture width, and so for y. mm are e * `grid_spacing` (0.46875 for its cephalograms) or, for the
    hands, e * `normalizer_mm` / distance of the two annotated points.
    """
    _no_missing(table, "GU2Net")
    notes = []
    if options.grid and options.size:
        scale = np.array(options.grid) / options.size
        xy, true_xy = np.rint(table.xy * scale), np.rint(table.true_xy * scale)
        gridded = dataclasses.replace(
            table,
            xy=xy,
            true_xy=true_xy,
            error_px=np.linalg.norm(xy - true_xy, axis=-1),
            error_mm=table.error_mm * np.nan,
        )
        if options.normalizer_mm:
            errors, unit = _errors_by_length(gridded, options)
        elif options.grid_spacing:
            errors, unit = gridded.error_px * options.grid_spacing, "mm"
        else:
            errors, unit = gridded.error_px, "px of the grid"
    elif options.grid or options.size or options.grid_spacing:
        raise UserError("--grid, --size: GU2Net's grid needs both, the grid's and the pictures' WIDTHxHEIGHT")
    else:
        errors, unit = _errors_by_length(table, options) if options.normalizer_mm else _errors(table)
        notes.append(
            "GU2Net rounds both points to its grid; without --grid and --size these are of the original pixels"
        )
    numbers = [
        Number("MRE", float(errors.mean()), unit, f"me_{unit}" if unit in ("mm", "px") else ""),
        Number("STD", float(errors.std()), unit),
    ]
    for r in (2, 2.5, 3, 4, 6, 9, 10):
        numbers.append(Number(f"SDR {r:g}", float(np.mean(errors <= r)), "", f"sdr_le_{r:g}mm" if unit == "mm" else ""))
    return Result(numbers, notes)


def cl2023(table: Predictions, options: Options) -> Result:
    """CL-Detection 2023, in its two published forms: the organisers' baseline (szuboy/CL-Detection2023,
    utils/cldetection_utils.py, `calculate_prediction_metrics`) and the team SUTD (5k5000/CLdetection2023,
    mmpose/evaluation/metrics/cephalometric_metric.py, `CephalometricMetric.compute_metrics`).

    MRE = sum(e) / (N K), e in mm, and its standard deviation over all points. SDR 2 mm is #(e < 2) / (N K) in the
    baseline and #(e <= 2) / (N K) at SUTD, which also has 2.5, 3 and 4 mm.
    """
    _no_missing(table, "CL-Detection 2023")
    errors, unit = _errors(table)
    if unit != "mm":
        raise UserError("cl2023: expected errors in mm, found pixels only; give a table that knows the spacing")
    numbers = [
        Number("MRE", float(errors.mean()), "mm", "me_mm"),
        Number("MRE, std", float(errors.std()), "mm"),
        Number("SDR 2 mm, baseline (<)", 100 * float(np.mean(errors < 2)), "%", "sdr_le_2mm"),
    ]
    for r in (2.0, 2.5, 3.0, 4.0):
        share = 100 * float(np.mean(errors <= r))
        numbers.append(Number(f"SDR {r:g} mm, SUTD (<=)", share, "%", f"sdr_le_{r:g}mm"))
    return Result(numbers, [])


EYES = {29: (8, 9), 68: (36, 45), 98: (60, 72)}  # number of landmarks -> outer corners of the eyes, by place from 0


def hrnet_face(table: Predictions, options: Options) -> Result:
    """HRNet-Facial-Landmark-Detection, lib/core/evaluation.py, `compute_nme`, and lib/core/function.py, `inference`.

    NME of a picture = sum over its points of e / (L d); d is the distance of the outer corners of the eyes, by their
    place among 29 (COFW), 68 (300W) or 98 (WFLW) points. NME = mean over pictures; the failure rates [008] and [010]
    are the shares of pictures with NME > 0.08 and > 0.10.
    """
    _no_missing(table, "HRNet-Facial")
    notes, normalizer, n = [], options.normalizer, len(table.landmarks)
    if normalizer is None and n in EYES:
        first, second = (str(table.landmarks[i]) for i in EYES[n])
        normalizer = first, second
        notes.append(
            f"divided by the distance from {first} to {second}, numbers {EYES[n][0]} and {EYES[n][1]} (from 0) of "
            f"{n}, as HRNet-Facial takes the eyes; other ones: --normalizer"
        )
    if normalizer is None:
        what = "the box of a face, which this table does not have" if n == 19 else "nothing: it stops"
        raise UserError(
            f"hrnet_face: for {n} landmarks HRNet-Facial divides by {what}; name two landmarks, --normalizer=A,B"
        )
    distance = _length(table, normalizer)
    if not (distance > 0).all():
        image = table.images[np.argmin(distance > 0)]
        raise UserError(
            f"hrnet_face: {' and '.join(normalizer)} coincide in {str(image)!r}; choose others: --normalizer"
        )
    nme = table.error_px.mean(axis=1) / distance
    ours = f"nme_{normalizer[0]}_{normalizer[1]}"
    numbers = [Number("nme", float(nme.mean()), "", ours)]
    numbers += [Number(f"[0{100 * t:02.0f}]", float(np.mean(nme > t)), "", f"fr@{t:g}") for t in (0.08, 0.1)]
    return Result(numbers, notes, normalizer)


def mmpose(table: Predictions, options: Options) -> Result:
    """mmpose 1.3.2, mmpose/evaluation/functional/keypoint_eval.py, `keypoint_epe`, `keypoint_auc` and `keypoint_nme`,
    as evaluation/metrics/keypoint_2d_metrics.py calls them. Distances are float32 there.

    EPE = mean of all e. AUC = mean over t = 0, 1/20, ..., 19/20 of PCK(t); PCK(t) = mean over landmarks of the share of
    e / 30 px < t, landmarks without any point left out. NME = mean over all points of e / d, d the distance of two
    annotated points; a picture where d is 0 is left out, and here one without both (mmpose takes them as (0, 0)).
    """
    errors = table.error_px
    numbers = [
        Number("epe", float(np.nanmean(errors.astype(np.float32), dtype=np.float64)), "px", "me_px"),
        Number("auc@20thrs, 30 px", _mmpose_auc(errors), ""),
    ]
    if options.normalizer is None:
        return Result(numbers, ["nme is left out: it needs two landmarks, --normalizer=A,B"])
    distance = _length(table, options.normalizer)
    distance = np.where(distance > 0, distance, np.nan)
    ours = f"nme_{options.normalizer[0]}_{options.normalizer[1]}"
    nme = np.nanmean((errors / distance[:, None]).astype(np.float32), dtype=np.float64)
    numbers.append(Number("nme", float(nme), "", ours))
    left = int((np.isfinite(errors).any(axis=1) & np.isnan(distance)).sum())
    notes = [f"pictures that nme leaves out, without a normaliser point: {left}"] if left else []
    return Result(numbers, notes, options.normalizer)


def _mmpose_auc(errors: np.ndarray) -> float:
    scaled = (errors / 30).astype(np.float32)
    annotated = np.isfinite(scaled)
    counts = annotated.sum(axis=0)
    rates = [(scaled < t / 20).sum(axis=0)[counts > 0] / counts[counts > 0] for t in range(20)]
    return float(np.mean(rates))


def deeplabcut(table: Predictions, options: Options) -> Result:
    """DeepLabCut 3.0.2, deeplabcut/core/metrics: api.py, `compute_metrics` with `single_animal`, distance_metrics.py
    and matching.py; core/inferenceutils.py, `calc_object_keypoint_similarity`.

    "rmse" = mean of all e, no root and no square; rmse_pcutoff: of those with confidence >= pcutoff. OKS of a picture =
    mean over its annotated points of exp(-e^2 / (2 s^2 (2 sigma)^2)), sigma 0.1, s^2 the area of the box around them;
    unknown with fewer than two points. mAP and mAR in % over OKS 0.5, 0.55, ..., 0.95, of the pictures with two points
    and more. A point with a confidence below 0 is not found.
    """
    errors, confidence = table.error_px, table.confidence
    numbers = [Number("rmse", float(np.nanmean(np.where(confidence < 0, np.nan, errors))), "px", "me_px")]
    if np.isnan(confidence).any():
        return Result(numbers, ["rmse_pcutoff, mAP and mAR are left out: they need the confidence of every point"])
    notes = []
    if options.pcutoff is None:
        notes.append("rmse_pcutoff is left out: it needs the smallest confidence that counts, --pcutoff=0.6")
    else:
        kept = np.where(confidence >= max(options.pcutoff, 0), errors, np.nan)
        value = float(np.nanmean(kept)) if np.isfinite(kept).any() else np.nan
        numbers.append(Number(f"rmse_pcutoff, {options.pcutoff:g}", value, "px"))
    found = np.where(confidence < 0, np.nan, confidence)
    shown = np.count_nonzero(np.isfinite(found), axis=1) > 1
    annotated = np.count_nonzero(np.isfinite(errors), axis=1) > 1
    if not shown.any() or not annotated.any():
        notes.append("mAP and mAR are left out: they need pictures with two points, predicted and annotated")
        return Result(numbers, notes)
    oks = _oks(table, np.where(confidence < 0, np.inf, errors), sigma=0.1)
    area = _areas(table)
    oks[~annotated | np.isclose(area, 0)] = 0
    score = np.nansum(found, axis=1) / np.maximum(np.isfinite(found).sum(axis=1), 1)
    precision, recall = _mean_precision(oks[shown], score[shown], int(annotated.sum()))
    return Result([*numbers, Number("mAP", 100 * precision, "%"), Number("mAR", 100 * recall, "%")], notes)


def sleap(table: Predictions, options: Options) -> Result:
    """SLEAP's sleap-nn 0.3.5, sleap_nn/evaluation.py, `Evaluator` with its defaults, one instance in each picture.

    OKS as DeepLabCut's with sigma 0.025; where the box around the annotated points has no area, max(0, 1 - mean(e) / 50
    px). A picture whose OKS is 0 has no match: it counts in mAP and mAR, and nowhere else. mOKS = mean OKS; avg and
    percentiles of all e; PCK(t) = share of e < t of N K points, a missing one being a miss, t = 1, 2, ..., 10 px.
    Visibility: annotated points among those predicted, and predicted ones among those annotated.
    """
    labelled = np.isfinite(table.true_xy).all(axis=-1).any(axis=1)
    table = table.rows(labelled)
    errors, true = table.error_px, np.isfinite(table.true_xy).all(axis=-1)
    found = np.isfinite(table.xy).all(axis=-1)
    oks = _oks(table, np.where(true & ~found, np.inf, errors), sigma=0.025)
    flat = _areas(table) < 1e-9
    both = (true & found).sum(axis=1)
    mean = np.nansum(errors, axis=1) / np.maximum(both, 1)
    oks = np.where(flat, np.where(both > 0, np.maximum(0, 1 - mean / 50), 0), oks)

    matched = oks > 0
    if not matched.any():
        return Result([], ["no prediction has an OKS above 0: SLEAP matches none, and has no numbers"])
    oks, errors, true, found = oks[matched], errors[matched], true[matched], found[matched]
    below = np.where(np.isnan(errors), np.inf, errors)[..., None] < np.arange(1, 11)  # [N, K, 10]
    numbers = [Number("mOKS", float(oks.mean()), "")]
    notes = []
    confidence = table.confidence[matched]
    if np.isnan(confidence).any():
        notes.append("mAP and mAR are left out: they need the confidence of every point")
    else:
        score = confidence.mean(axis=1)
        for name, values in (("oks_voc", oks), ("pck_voc", below.mean(axis=(1, 2)))):
            precision, recall = _mean_precision(values, score, len(matched))
            numbers += [Number(f"{name}.mAP", precision, ""), Number(f"{name}.mAR", recall, "")]
    numbers.append(Number("avg", float(np.nanmean(errors)), "px", "me_px"))
    known = errors[np.isfinite(errors)]
    numbers += [Number(f"p{p}", float(np.percentile(known, p)), "px") for p in (50, 75, 90, 95, 99)]
    numbers.append(Number("mPCK", float(below.mean()), ""))
    numbers += [Number(f"PCK@{t}", float(below[..., t - 1].mean()), "") for t in (5, 10)]
    numbers.append(Number("visibility precision", float((true & found).sum() / found.sum()), ""))
    numbers.append(Number("visibility recall", float((true & found).sum() / true.sum()), ""))
    if not matched.all():
        notes.append(f"pictures with an OKS of 0, which count in mAP and mAR only: {int((~matched).sum())}")
    return Result(numbers, notes)


PEERS: Mapping[str, Peer] = {
    "landmarker": Peer(
        "landmarker 0.4.1, metrics/metrics.py: point_error, sdr",
        landmarker,
        ("radii",),
        "All points are pooled, not first averaged in each picture, and a missing point counts as a miss in the SDR.",
    ),
    "payer": Peer(
        "MedicalDataAugmentationTool 34e3723, utils/landmark/landmark_statistics.py: LandmarkStatistics",
        payer,
        ("radii", "normalizer", "normalizer_mm"),
        "PE pools all points, IPE divides by all landmarks of a picture so that a missing one counts as an error of 0, "
        "and an outlier is an error of r or more, where our SDR counts r itself as found.",
    ),
    "gu2net": Peer(
        "YOLO_Universal_Anatomical_Landmark_Detection 57a960c, evaluation.py: cal_all_distance, get_sdr, analysis",
        gu2net,
        ("normalizer", "normalizer_mm", "grid", "size", "grid_spacing"),
        "Annotated and predicted points are rounded to a small grid that does not keep the picture's aspect, and mm "
        "come of one constant, or of a length in the picture, instead of the spacing.",
    ),
    "cl2023": Peer(
        "szuboy/CL-Detection2023 dc1ce2b and 5k5000/CLdetection2023 5d61360: their evaluations",
        cl2023,
        (),
        "All points are pooled, the baseline's SDR leaves out an error of exactly 2 mm, and the standard deviation is "
        "over points, not over pictures.",
    ),
    "hrnet_face": Peer(
        "HRNet-Facial-Landmark-Detection f776dbe, lib/core/evaluation.py: compute_nme",
        hrnet_face,
        ("normalizer",),
        "Where nothing is missing the NME is ours, as a fraction; the normaliser follows from the number of landmarks.",
    ),
    "mmpose": Peer(
        "mmpose 1.3.2, evaluation/functional/keypoint_eval.py: keypoint_epe, keypoint_auc, keypoint_nme",
        mmpose,
        ("normalizer",),
        "EPE and NME pool all points, not first averaged in each picture, and the AUC is a mean of 20 PCKs up to 28.5 "
        "px, at most 0.95, where ours is the area under the CED, at most 1.",
        "PCK (needs the box, head or torso of each picture) and COCO's AP (needs areas and the sigma of each landmark)",
    ),
    "deeplabcut": Peer(
        "DeepLabCut 3.0.2, core/metrics: compute_metrics, single animal",
        deeplabcut,
        ("pcutoff",),
        'The "rmse" is a mean of pooled errors without a root or a square, and with a cutoff it leaves out the points '
        "that the network is not sure of.",
    ),
    "sleap": Peer(
        "sleap-nn 0.3.5, evaluation.py: Evaluator",
        sleap,
        (),
        "Errors are pooled over the pictures with an OKS above 0, and PCK is in pixels of the original picture with a "
        "missing point as a miss.",
    ),
}


def _errors(table: Predictions) -> tuple[np.ndarray, str]:
    """`[N, K]` errors and their unit: mm where every annotated point has them, px where none has."""
    n_px, n_mm = (int(np.isfinite(errors).sum()) for errors in (table.error_px, table.error_mm))
    if 0 < n_mm < n_px:
        lacking = np.isfinite(table.error_px) & np.isnan(table.error_mm)
        image = str(table.images[np.argmax(lacking.any(axis=1))])
        raise UserError(
            f"expected the error in mm of all points or of none, found {n_mm} of {n_px} (first without: {image!r}); "
            "leave these pictures out"
        )
    return (table.error_mm, "mm") if n_mm else (table.error_px, "px")


def _errors_by_length(table: Predictions, options: Options) -> tuple[np.ndarray, str]:
    """`[N, K]` errors in mm, if the normaliser is `normalizer_mm` long in every picture; NaN where it is unknown."""
    if options.normalizer is None:
        raise UserError("--normalizer_mm: of which distance? Name two landmarks, --normalizer=A,B")
    length = _length(table, options.normalizer)
    if not (length > 0).any():
        raise UserError(f"--normalizer: no picture has both {' and '.join(options.normalizer)} at different places")
    scale = np.float64(options.normalizer_mm) / np.where(length > 0, length, np.nan)
    return table.error_px * scale[:, None], "mm"


def _length(table: Predictions, normalizer: tuple[str, str]) -> np.ndarray:
    """`[N]` distance of two annotated landmarks in px, NaN where one is missing."""
    names = list(table.landmarks)
    for name in normalizer:
        if name not in names:
            raise UserError(f"--normalizer: {name!r} is no landmark; expected two of {', '.join(names[:20])}")
    a, b = (table.true_xy[:, names.index(name)] for name in normalizer)
    return np.linalg.norm(a - b, axis=-1)


def _no_missing(table: Predictions, tool: str) -> None:
    missing = np.argwhere(np.isnan(table.error_px))
    if len(missing):
        i, k = missing[0]
        raise UserError(
            f"{tool}: expected every landmark annotated in every picture, found {len(missing)} that are not (first: "
            f"{str(table.landmarks[k])!r} in {str(table.images[i])!r}); its code does not know missing points, so "
            "leave these pictures out"
        )


def _areas(table: Predictions) -> np.ndarray:
    """`[N]` area in px^2 of the box around the annotated points; 0 where there are none."""
    there = np.isfinite(table.true_xy)
    low = np.where(there, table.true_xy, np.inf).min(axis=1)
    high = np.where(there, table.true_xy, -np.inf).max(axis=1)
    return np.where(there.any(axis=(1, 2)), np.prod(high - low, axis=-1), 0.0)


def _oks(table: Predictions, errors: np.ndarray, *, sigma: float) -> np.ndarray:
    """`[N]` object keypoint similarity: mean over annotated points of exp(-e^2 / (2 area (2 sigma)^2)), as COCO's with
    the area of the box around the points. An infinite error is 0; a picture without points has 0."""
    annotated = np.isfinite(table.true_xy).all(axis=-1)
    area = np.maximum(_areas(table), np.spacing(1))
    similarity = np.exp(-(errors**2) / (2 * area * (2 * sigma) ** 2)[:, None])
    return np.where(annotated, similarity, 0).sum(axis=1) / np.maximum(annotated.sum(axis=1), 1)


def _mean_precision(values: np.ndarray, scores: np.ndarray, n: int) -> tuple[float, float]:
    """COCO's mAP and mAR of one prediction a picture: a hit where its value reaches the threshold 0.5, 0.55, ..., 0.95.

    Args:
      values: `[M]` similarity of each prediction.
      scores: `[M]` confidence; those who are surer come first.
      n: number of annotated pictures.
    """
    values = values[np.argsort(-scores, kind="stable")]
    precisions, recalls = [], []
    for threshold in np.linspace(0.5, 0.95, 10):
        hits = np.cumsum(values >= threshold)
        recall = hits / n
        precision = np.maximum.accumulate((hits / (np.arange(len(values)) + 1))[::-1])[::-1]
        place = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
        precisions.append(np.append(precision, 0.0)[place])
        recalls.append(recall[-1])
    return float(np.mean(precisions)), float(np.mean(recalls))
