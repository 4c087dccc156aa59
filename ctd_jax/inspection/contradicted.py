"""Labels that a network contradicts, and pictures unlike those that it was trained on.

Only pictures are asked about that the run was not trained on, nor on near-identical ones. The error of each point (of
each class 1 - Dice) is compared with what is usual for its landmark (its class): a picture is named where its largest
multiple lies beyond Tukey's outer fence.
"""

import logging
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ctd_jax.config import config_of_run
from ctd_jax.data import pictures, splits, twins
from ctd_jax.data.boxes import BOX
from ctd_jax.data.landmark_folder import LandmarkTable
from ctd_jax.errors import UserError
from ctd_jax.inspection import outliers
from ctd_jax.inspection.findings import Finding, Item
from ctd_jax.inspection.painting import Painter
from ctd_jax.inspection.reading import Folder, domains
from ctd_jax.metrics.segmentation import class_dice
from ctd_jax.predictor import Predictor
from ctd_jax.tasks import Run, start_run

_log = logging.getLogger(__name__)
LEAST_RANGE = 0.3  # of the logarithms of the multiples
LABELS, UNLIKE = "Labels that the network contradicts", "Pictures unlike the training data"
UNKNOWN = "Domains that the network has not learned"


def findings(folder: Folder, workdir: pathlib.Path, domain: str | None, painter: Painter, shown: int) -> list[Finding]:
    """What a finished run says of the pictures of a folder.

    Args:
      folder: the folder; a segmentation folder of several domains is asked about domain by domain.
      workdir: of the run.
      domain: which of the run's domains a landmark folder is of, if it has several.
      painter: paints its pictures.
      shown: number of pictures that are shown of a finding.

    Raises:
      UserError: it is no run, or one that has learned something else; `domain` is not one of the run's, or is given
        for a segmentation folder, which says itself what its domains are.
    """
    table, learned = folder.table, config_of_run(workdir).task
    needed = "landmarks" if isinstance(table, LandmarkTable) else "segmentation"
    if learned != needed:
        raise UserError(
            f"--workdir: this run learned {learned}, and the folder is for {needed}; give a run that learned {needed}"
        )
    rows = not_trained_on(folder, workdir)
    if not len(rows):
        text = f"{workdir} was trained on all pictures of the folder, or on near-identical ones: it can't judge them"
        return [Finding(LABELS, False, "Give pictures that it was not trained on.", [Item(text)])]
    if isinstance(table, LandmarkTable):
        return _of_landmarks(folder, rows, Predictor(workdir, domain=domain), painter, shown)
    if domain:
        raise UserError("--domain is for landmark folders; segmentation.csv says which domain each picture is of")
    known, there = Run.read(workdir).domains, domains(table)
    if known.keys().isdisjoint(there):
        raise UserError(
            f"--workdir: this run knows the domains {', '.join(known)}, and the folder has {', '.join(there)}; give a "
            "run that has learned one of these"
        )
    found: list[Finding] = []
    with_map = [row for row in rows if folder.regions[row]]
    for name, of_domain in there.items():
        mine = np.intersect1d(with_map, of_domain)
        if name in known and len(mine):
            found += _of_class_maps(folder, mine, Predictor(workdir, domain=name), painter, shown)
    others = [Item(f"{name}: {len(of_domain)} pictures") for name, of_domain in there.items() if name not in known]
    return [*found, Finding(UNKNOWN, False, "The run was not asked about their pictures.", others)]


def not_trained_on(folder: Folder, workdir: pathlib.Path) -> np.ndarray:
    """The indices of the pictures that a run, and those that it went on from, were not trained on, nor on
    near-identical ones in the same folder."""
    learned = start_run.trained_on(workdir)
    if start_run.has_arrays(learned):
        _log.warning("%s was trained on arrays, which can't be told again as files: pictures of them count as new",
                     workdir)  # fmt: skip
    digests = {row[3] for row in learned}
    if isinstance(folder.table, LandmarkTable):
        was = np.array([digest in digests for digest in folder.sha256])
    else:  # the digest is of picture and class map, of which the latter may have been mended since
        names = {row[0] for row in splits.read(workdir / "split.csv") if row[2] == "train"}
        pairs = zip(folder.sha256, folder.table.names, strict=True)
        was = np.array([digest in digests or name in names for digest, name in pairs])
    rows, others = np.flatnonzero(~was), np.flatnonzero(was)
    thumbnails = np.array([look.twin["thumbnail"] for look in folder.looks])
    return np.setdiff1d(rows, twins.near(rows, others, folder.sha256, thumbnails)) if len(others) else rows


def _of_landmarks(
    folder: Folder, rows: np.ndarray, predictor: Predictor, painter: Painter, shown: int
) -> list[Finding]:
    """The findings of a landmark folder; arguments as of `findings`, and `rows`, the pictures that are asked about."""
    table = folder.table
    assert isinstance(table, LandmarkTable)
    common = [name for name in table.landmarks.names if name in predictor.names]
    if not common:
        raise UserError(
            f"--workdir: this run finds landmarks {', '.join(predictor.names[:3])}, ..., which the folder does not "
            f"have; give a run that has learned {', '.join(table.landmarks.names[:3])}, ..."
        )
    if predictor.trained.boxes and not np.isfinite(table.boxes[rows]).any():
        raise UserError(
            "--workdir: this run was trained on boxes in the pictures, and those that it is asked about have none; "
            f"fill the columns {', '.join(BOX)} of landmarks.csv, or give a run of whole pictures"
        )
    paths = [folder.root / table.images[row] for row in rows]
    result: Any = predictor(paths, boxes=table.boxes[rows] if predictor.trained.boxes else None)
    mine = [table.landmarks.names.index(name) for name in common]
    xy = np.full((len(rows), len(table.landmarks.names), 2), np.nan)
    xy[:, mine] = result.xy[:, [predictor.names.index(name) for name in common]]
    errors = np.linalg.norm(xy - table.xy[rows], axis=-1)[:, mine]

    def words(name: str, error: float, usual: float) -> str:
        return f"{name} lies {error:.0f} px from where the network finds it, usual is {usual:.1f} px"

    def paint(place: int) -> str:
        return painter.points(int(rows[place]), xy[place])

    about = "Circle: annotated; cross: predicted by a network that was not trained on this picture. One is wrong."
    labels = Finding(LABELS, False, about, _items(folder, rows, errors, common, words, paint, shown))
    return [labels, _unlike(rows, result.unlike)]


def _of_class_maps(
    folder: Folder, rows: np.ndarray, predictor: Predictor, painter: Painter, shown: int
) -> list[Finding]:
    """The findings of one domain of a segmentation folder; arguments as of `_of_landmarks`."""
    table = folder.table
    assert not isinstance(table, LandmarkTable)
    names = table.classes[table.domains[rows[0]]]
    if predictor.names != names:
        raise UserError(
            f"--workdir: this run finds class maps {', '.join(predictor.names)}; expected one that has learned "
            f"{', '.join(names)}"
        )
    result: Any = predictor([folder.root / table.images[row] for row in rows])
    maps = result.class_maps
    errors = np.full((len(rows), len(names) - 1), np.nan)
    for place, row in enumerate(rows):
        true = pictures.decode_classes((folder.root / table.masks[row]).read_bytes(), table.masks[row])
        errors[place] = 1 - class_dice(maps[place][None], true[None], len(names))[0]

    def words(name: str, error: float, usual: float) -> str:
        return f"{name}: Dice {1 - error:.2f} with what the network finds, usual is {1 - usual:.2f}"

    def paint(place: int) -> str:
        return painter.outlines(int(rows[place]), maps[place])

    about = "Blue: annotated; orange: predicted by a network that was not trained on this picture. One is wrong."
    labels = Finding(LABELS, False, about, _items(folder, rows, errors, names[1:], words, paint, shown))
    return [labels, _unlike(rows, result.unlike)]


def _unlike(rows: np.ndarray, scores: np.ndarray) -> Finding:
    """The pictures with a score above 1, which 19 in 20 pictures of val stay below; `rows` and `scores` are `[n]`."""
    order = [place for place in np.argsort(-np.nan_to_num(scores)) if scores[place] > 1]
    items = [Item(f"score {scores[place]:.2f}; above 1 is unlike", (int(rows[place]),)) for place in order]
    about = "Another view, machine or body part? One in 20 is named for no reason."
    return Finding(UNLIKE, False, about, items)


def _items(
    folder: Folder,
    rows: np.ndarray,
    errors: np.ndarray,
    names: Sequence[str],
    words: Callable[[str, float, float], str],
    paint: Callable[[int], str],
    shown: int,
) -> list[Item]:
    """The pictures with the largest multiples of the usual error.

    Args:
      folder: the folder.
      rows: the pictures.
      errors: `[n, M]` of each picture and landmark or class; NaN: unknown.
      names: M names.
      words: says a name, an error and the usual one.
      paint: gives the picture of a place in `rows`.
      shown: number of pictures that are shown.
    """
    known = ~np.isnan(errors)
    usual = np.ones(len(names))
    usual[known.any(0)] = np.maximum(np.nanmedian(errors[:, known.any(0)], 0), 1e-6)
    multiple = np.where(known, errors, 0) / usual
    worst = multiple.max(1)
    if (worst > 0).sum() < outliers.FEWEST:
        return []
    logarithm = np.log(np.maximum(worst, 1e-6))
    limit = outliers.fences(logarithm[worst > 0], LEAST_RANGE)[1]
    items: list[Item] = []
    for place in np.argsort(-worst, kind="stable")[: int((logarithm > limit).sum())].tolist():
        k = int(multiple[place].argmax())
        images = ((paint(place), folder.table.images[rows[place]]),) if len(items) < shown else ()
        items.append(Item(words(names[k], errors[place, k], usual[k]), (int(rows[place]),), images))
    return items
