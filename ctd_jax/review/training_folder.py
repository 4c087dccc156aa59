"""A landmark folder of the pictures that a rater has marked done, and of those that were labelled before."""

import contextlib
import hashlib
import json
import logging
import os
import pathlib
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ctd_jax import files
from ctd_jax.config import NETWORK_KEYS, config_of_run, flatten, load_config, written
from ctd_jax.data import folder, landmark_folder, pictures, raters, roots, splits, tables
from ctd_jax.data.boxes import BOX
from ctd_jax.data.faults import Faults
from ctd_jax.data.prefetch import map_in_threads
from ctd_jax.errors import UserError
from ctd_jax.labels import placing
from ctd_jax.labels.table import ABSENT, HIDDEN
from ctd_jax.review import blinding, journal, people
from ctd_jax.review.edits import Review
from ctd_jax.review.folder import Point, Reviewed

_log = logging.getLogger(__name__)
PAGE = "raters.html"  # what several raters say, see `raters`
OURS = (landmark_folder.FILE, landmark_folder.ABOUT, raters.file_of("*"), PAGE)  # beside pictures
RECIPE = "recipe:own"  # the configuration of the command that trains on a folder


def rater_of(root: pathlib.Path, rater: str) -> str:
    """`rater`, or, if that is "", the only one who has reviewed the folder.

    Raises:
      UserError: nobody has, or several have.
    """
    known = [path.stem for path in journal.paths(root)]
    if not known:
        raise UserError(f"{root}: nobody has reviewed it; start with ctd-jax review {shlex.quote(str(root))}")
    if not rater and len(known) > 1:
        raise UserError(f"{root}: reviewed by {tables.listed(known)}; say whose points, --rater={known[0]}")
    if rater and rater not in known:
        raise UserError(f"--rater: {rater} has not reviewed {root}; expected one of {tables.listed(known)}")
    return rater or known[0]


def free_place(root: pathlib.Path) -> pathlib.Path:
    """A place beside the folder where nothing is yet: NAME_reviewed, NAME_reviewed_2, ..."""
    root, number = root.resolve(), 1
    while (place := root.with_name(f"{root.name}_reviewed{f'_{number}' if number > 1 else ''}")).exists():
        number += 1
    return place


def write(
    reviewed: Reviewed,
    entries: Iterable[Mapping[str, Any]],
    out: pathlib.Path,
    *,
    workdir: pathlib.Path | None = None,
    force: bool = False,
) -> str:
    """Writes the folder, and reads it as a training does.

    A picture that was labelled before and that the rater has neither marked done nor open again is taken as
    landmarks.csv has it. Subjects of val and test stay there, also with their new pictures.

    Args:
      reviewed: the folder.
      entries: of the rater's journal.
      out: the new folder.
      workdir: a run, whose split.csv says who is in val and test; None: the folder's column `split` does.
      force: a landmark folder that is there is replaced.

    Returns:
      Sentences that say what was written, and the command that trains on it.

    Raises:
      UserError: no picture is done that a training can read, or the reader refuses what would be written; nothing is
        written then.
    """
    review = Review(entries)
    taken = [image for image in reviewed.images if _is_taken(image, review, reviewed)]
    done = with_box(reviewed, taken)
    if not any(review.done.get(image) for image in done):
        boxed = " and has a box" if len(done) < len(taken) else ""
        raise UserError(f"{reviewed.root}: no picture is marked done{boxed}; mark those whose points are right")
    placing.check_free(out, force, lambda: check_replaced(out, reviewed.root))
    points = {image: points_of(image, review, reviewed) for image in done}
    xy = np.array([[[one["x"], one["y"]] for one in of_image.values()] for of_image in points.values()], np.float64)
    hidden = np.array([[one["state"] == HIDDEN for one in of_image.values()] for of_image in points.values()])
    splits_of, meta = split_of(reviewed, done, workdir), _meta(workdir)
    _say(review, reviewed, points)
    unused = [image for image in done if review.done.get(image) and splits_of and splits_of[image] == splits.UNUSED]
    if unused:
        _log.warning("%d pictures marked done have the split `unused`, and are not trained on: %s; give them another "
                     "in the new landmarks.csv", len(unused), tables.listed(unused, 3))  # fmt: skip
    if splits_of and not any(splits.word(split).startswith("test") for split in splits_of.values()):
        _log.warning("no picture that is written has the split test, and a training is refused without; put those of "
                     "val and test into %s, too, or give --config.data.split=FILE", reviewed.root)  # fmt: skip
    with placing.new_folder(out) as new:
        for image in done:
            (new / image).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(reviewed.root / image, new / image)
        write_about(reviewed, new, out.name, meta=meta)
        files.write_csv(new / landmark_folder.FILE, *rows_of(reviewed, done, xy, hidden, splits_of))
        _check(new, xy, hidden)
    marked = sum(review.done.get(image) is True for image in done)
    before = f", {len(done) - marked} as they were labelled before" if marked < len(done) else ""
    return (
        f"{out}: {marked} pictures marked done{before}, {int(np.isfinite(xy[..., 0]).sum())} points. "
        f"{_said_of_splits(splits_of, done)}\n{_command(reviewed.names, out, workdir, meta)}"
    )


def with_box(reviewed: Reviewed, images: Sequence[str]) -> list[str]:
    """Those of the pictures that a training can read: where others of the folder have a box, one without is left out,
    and said."""
    table = reviewed.table
    if table is None or np.isnan(table.boxes).all():
        return list(images)
    boxed = {image for image, box in zip(table.images, table.boxes, strict=True) if np.isfinite(box).all()}
    if without := [image for image in images if image not in boxed]:
        _log.warning("%d pictures have no box, as the others of the folder have, and are left out: %s; "
                     "landmarks.csv says theirs", len(without), tables.listed(without, 3))  # fmt: skip
    return [image for image in images if image in boxed]


def _is_taken(image: str, review: Review, reviewed: Reviewed) -> bool:
    done = review.done.get(image)
    return image in reviewed.labels if done is None else done


def points_of(key: str, review: Review, reviewed: Reviewed) -> dict[str, Point]:
    """Name -> point of a picture, which may have come again, all of them; x and y None where absent. In one that is
    done, what the rater left as it was counts if it was shown."""
    labels = reviewed.labels.get(blinding.picture_of(key), {})
    placed, nowhere = {}, {"x": None, "y": None, "state": ABSENT}
    if review.done.get(key):
        opened = review.opened.get(key, {})
        all_known = opened.get("landmarks") if opened.get("current") else None  # before, it was that of the first edit
        shown = () if opened.get("blinded") else all_known or reviewed.names
        placed, labels = review.points.get(key, {}), {name: labels[name] for name in shown if name in labels}
    return {name: dict(placed.get(name) or labels.get(name) or nowhere) for name in reviewed.names}


def foreign(review: Review, reviewed: Reviewed, images: Iterable[str]) -> list[str]:
    """Names of points, in those of the pictures that are done, that no landmark of the folder has."""
    placed = [review.points.get(image, {}) for image in images if review.done.get(image)]
    return sorted({name for points in placed for name, one in points.items() if one and name not in reviewed.names})


def check_replaced(out: pathlib.Path, root: pathlib.Path) -> None:
    """Raises UserError if --force would take away what isn't a landmark folder, or the folder that is reviewed."""
    if root.resolve().is_relative_to(out.resolve()):
        raise UserError(f"--out: {out} has the folder that is reviewed; give a new one")
    if not os.path.isfile(out / landmark_folder.FILE):
        raise UserError(f"--out: {out} is not replaced: it has no {landmark_folder.FILE}, so is no landmark folder")
    ours, known = {path for name in OURS for path in out.glob(name)}, (*pictures.SUFFIXES, ".gif")
    inside = sorted(path for path in out.rglob("*") if path.is_file() and path not in ours)
    others = [path.relative_to(out).as_posix() for path in inside if not path.name.lower().endswith(known)]
    if others:
        found = tables.listed(others, 3)
        raise UserError(f"--out: {out} is not replaced: it has {found}, which is no part of a landmark folder")


def _say(review: Review, reviewed: Reviewed, points: Mapping[str, Mapping[str, Point]]) -> None:
    begun = [image for image, of_image in review.points.items()
             if any(of_image.values()) and review.done.get(image) is not True and image in reviewed.images]  # fmt: skip
    if begun:
        _log.warning("%d pictures have edits but are not marked done; their edits are left out: %s", len(begun),
                     tables.listed(begun, 3))  # fmt: skip
    unsaid = [f"{name} of {image}" for image, of_image in points.items() for name, one in of_image.items()
              if "how" not in one]  # fmt: skip
    if unsaid:
        _log.warning("%d points of pictures marked done are neither placed nor absent, and left empty: %s", len(unsaid),
                     tables.listed(unsaid, 3))  # fmt: skip
    if others := foreign(review, reviewed, points):
        _log.warning("pictures marked done have points of %s, which %s lacks, and they are left out; if one was "
                     "renamed, give it its old name", tables.listed(others), reviewed.root)  # fmt: skip
    of_rows = [rater for rater in (reviewed.table.landmarks.raters if reviewed.table else ())
               if not os.path.isfile(reviewed.root / raters.file_of(rater))]  # fmt: skip
    if of_rows:
        _log.warning("%s has a row for each of its raters (%s); the new folder has one for each picture, with your "
                     "points or their mean", reviewed.root / landmark_folder.FILE, tables.listed(of_rows))  # fmt: skip
    gone = [image for image, is_done in review.done.items()
            if is_done and blinding.picture_of(image) not in reviewed.images]  # fmt: skip
    if gone:
        _log.warning("%d pictures marked done are no longer in %s: %s", len(gone), reviewed.root,
                     tables.listed(gone, 3))  # fmt: skip


# ---------------------------------------------------------------- splits


def split_of(reviewed: Reviewed, images: Sequence[str], workdir: pathlib.Path | None) -> dict[str, str] | None:
    """Image -> split: that of the picture in the run, else of its subject there; else that of the picture in the
    folder, else of its subject there; else train. None: nothing says any. A labelled picture whose cell is empty where
    others are not takes no part, and stays `unused`.

    Args:
      reviewed: the folder.
      images: some of its pictures.
      workdir: see `write`.
    """
    table = reviewed.table
    known = dict(zip(table.images, table.subjects, strict=True)) if table else {}
    subjects = {image: known.get(image, image) for image in images}
    of_run: dict[str, str] = {}
    if workdir is not None:
        whose = set(subjects.values())
        theirs = {image: subject for image, subject in known.items() if subject in whose}
        of_run = _split_of_run(reviewed.root, theirs | subjects, workdir)
    told = table and table.splits
    rows = list(zip(table.images, table.subjects, told, strict=True)) if table and told and any(told) else []
    if not rows and not any(of_run.values()):
        return None
    cells = {image: split or (splits.UNUSED if image in reviewed.labels else "") for image, _, split in rows}
    by_image = {image: split for image, split in cells.items() if splits.word(split) != splits.UNLABELLED}
    by_subject = {subject: split for _, subject, split in rows if splits.is_known(split)}
    return {
        image: of_run.get(image) or by_image.get(image) or by_subject.get(subject) or "train"
        for image, subject in subjects.items()
    }


def _split_of_run(root: pathlib.Path, subjects: Mapping[str, str], workdir: pathlib.Path) -> dict[str, str]:
    """As split.csv of a run has them, which tells a picture by its digest: another may have its name. Pictures that the
    run does not know, nor their subjects, have none; nor have those that only its budget left out.

    Args:
      root: the folder.
      subjects: picture -> subject.
      workdir: of the run.
    """
    of_data = config_of_run(workdir).data
    kept_out = (splits.UNUSED,) if of_data.budget == 0 and of_data.share == 1 else ()
    every = [row for row in splits.read(workdir / "split.csv") if splits.is_known(row[2]) or row[2] in kept_out]
    every.sort(key=lambda row: (splits.is_known(row[2]), row[2] != "train"))  # on two sides: val or test
    rows = [row for row in every if splits.is_known(row[2])]
    digests = map_in_threads(lambda image: hashlib.sha256((root / image).read_bytes()).hexdigest(), list(subjects))
    digest_of = dict(zip(subjects, digests, strict=True))
    by_picture = {digest or image: split for image, _, split, digest in every}
    by_subject = people.of_run(rows, subjects, digest_of)
    found = {}
    for image, subject in subjects.items():
        of_picture = by_picture.get(digest_of[image]) or by_picture.get(image)
        found[image] = of_picture or by_subject.get(splits.plainest(subject), "")
    return found


def _said_of_splits(splits_of: Mapping[str, str] | None, done: Iterable[str]) -> str:
    if splits_of is None:
        return "Nothing says who is in val and test: the training chooses them"
    counts: dict[str, int] = {}
    for image in done:
        counts[splits_of[image]] = counts.get(splits_of[image], 0) + 1
    return "By split: " + ", ".join(f"{number} {split}" for split, number in sorted(counts.items()))


# ---------------------------------------------------------------- the files


def rows_of(
    reviewed: Reviewed,
    done: Sequence[str],
    xy: np.ndarray,
    hidden: np.ndarray,
    splits_of: Mapping[str, str] | None,
) -> tuple[list[str], list[list[str]]]:
    """Header and rows of landmarks.csv; columns of subject, split, spacing, boxes and hidden points only where the
    folder has them.

    Args:
      reviewed: the folder.
      done: the picture of each row.
      xy: `[N, K, 2]` points of the rows.
      hidden: `[N, K]` which of them are hidden but placed.
      splits_of: image -> split; None: there is no such column.
    """
    columns = {f"{name}_{axis}": _cells(xy[:, k, i]) for k, name in enumerate(reviewed.names)
               for i, axis in enumerate("xy")}  # fmt: skip
    columns |= {f"{reviewed.names[k]}{landmark_folder.HIDDEN}": ["1" if one else "" for one in hidden[:, k]]
                for k in np.flatnonzero(hidden.any(axis=0))}  # fmt: skip
    first = {"image": [files.cell(image) for image in done]}
    if (table := reviewed.table) is not None:
        row_of = {image: i for i, image in enumerate(table.images)}
        if table.subjects != table.images:
            known = {image: who for image, who in zip(table.images, table.subjects, strict=True) if who != image}
            first["subject"] = [files.cell(known.get(image, "")) for image in done]
        for names, values in ((folder.SPACING, table.spacing), (BOX, table.boxes)):
            if not np.isnan(values).all():
                unknown = np.full(values.shape[1], np.nan)
                of_done = np.array([values[row_of[image]] if image in row_of else unknown for image in done])
                columns |= {name: _cells(of_done[:, i]) for i, name in enumerate(names)}
    if splits_of is not None:
        first["split"] = [splits_of[image] for image in done]
    every = first | columns
    return list(every), [list(row) for row in zip(*every.values(), strict=True)]


def _cells(values: np.ndarray) -> list[str]:
    return ["" if np.isnan(value) else repr(float(value)) for value in values]


def write_about(
    reviewed: Reviewed, new: pathlib.Path, name: str, *, with_raters: bool = True, meta: Mapping[str, Any] | None = None
) -> None:
    """dataset.json, as the folder has it, and the files of raters that it names.

    Args:
      reviewed: the folder.
      new: the new one.
      name: of the new one, where the folder has no dataset.json.
      with_raters: False: without the raters.
      meta: see `_meta`; where the folder has no dataset.json, what a run of the same landmarks says of them.
    """
    about = reviewed.root / landmark_folder.ABOUT
    if os.path.isfile(about) and not with_raters:
        content = {key: value for key, value in tables.load_json(about).items() if key != "raters"}
        files.write_text(new / landmark_folder.ABOUT, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    elif os.path.isfile(about):
        shutil.copyfile(about, new / landmark_folder.ABOUT)
    else:
        content = {"name": name, "landmarks": reviewed.names, "flip_pairs": None, "normalizer": None}
        if meta and meta.get("landmarks") == list(reviewed.names):
            content |= {key: meta[key] for key in ("flip_pairs", "normalizer", "absent") if meta.get(key) is not None}
        files.write_text(new / landmark_folder.ABOUT, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    for rater in reviewed.table.landmarks.raters if reviewed.table and with_raters else ():
        if os.path.isfile(reviewed.root / raters.file_of(rater)):
            shutil.copyfile(reviewed.root / raters.file_of(rater), new / raters.file_of(rater))


def _check(new: pathlib.Path, xy: np.ndarray, hidden: np.ndarray) -> None:
    """What a training reads of the new folder.

    Raises:
      UserError: all that is wrong with it.
    """
    faults = Faults("what would be written")
    table = landmark_folder.read(new)
    list(folder.check_all(table, lambda i: table.check_picture(i, new), "checking pictures", faults))
    faults.raise_if_any()
    same = ((table.xy == xy) | (np.isnan(table.xy) & np.isnan(xy))).all(axis=(1, 2))
    if table.hidden is not None:
        same &= (table.hidden == hidden).all(axis=1)
    if not same.all():
        other = table.images[int(np.argmin(same))]
        raise UserError(f"the points of {other} would be read in another way than they were placed; see the warnings")


def _meta(workdir: pathlib.Path | None) -> Mapping[str, Any]:
    """What the best checkpoint of a run says of its landmarks; nothing, where there is no run, or none is whole."""
    if workdir is None:
        return {}
    from ctd_jax.tasks.trained import Run

    with contextlib.suppress(UserError):
        return Run.read(workdir).meta
    return {}


def _command(names: Sequence[str], out: pathlib.Path, workdir: pathlib.Path | None, meta: Mapping[str, Any]) -> str:
    """The command that trains on the folder, from the network of a run, if one is given whose network the recipe can go
    on from; `names`: of the landmarks, `meta`: see `_meta`."""
    words = ["ctd-jax", "train", f"--config={RECIPE}", f"--workdir=runs/{out.name}", f"--config.data.root={out}"]
    now = flatten(load_config(RECIPE))
    config = config_of_run(workdir) if workdir else None
    before = flatten(config) if config else {}
    if workdir is None or config is None or before["task"] != now["task"]:
        return "Train on it: " + shlex.join([*words, "--config.teacher.weights=embedded"])
    words.append(f"--config.teacher.weights={config.teacher.weights}")
    of_teacher = "Train on it: " + shlex.join(words)
    several = config.data.root != roots.IN_PYTHON and len(roots.listed(config.data)) > 1
    if before["model.network"] != now["model.network"] or several:
        return of_teacher
    if not meta:
        return f"{workdir} has no whole checkpoint that a training could go on from\n{of_teacher}"
    from ctd_jax.tasks.trained import difference_of_names

    if difference := difference_of_names(workdir, meta["landmarks"], names):
        return f"No training goes on from {workdir}, which has other landmarks: {difference}\n{of_teacher}"
    keys = ("model.encoder", *NETWORK_KEYS[now["model.network"]], "model.sigma", "data.margin")
    words += [f"--config.{key}={written(before[key])}" for key in keys if before[key] != now[key]]
    return f"Train on, from the network of {workdir}: {shlex.join([*words, f'--config.model.start={workdir}'])}"
