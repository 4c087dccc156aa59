"""A label file of another program becomes a landmark folder that training reads."""

import contextlib
import itertools
import json
import logging
import math
import pathlib
import re
import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np

from ctd_jax import files
from ctd_jax.data import about, annotation_checks, landmark_folder, pictures, tables
from ctd_jax.data.faults import Fault, Faults
from ctd_jax.data.folder import SPACING, check_once
from ctd_jax.data.landmark_folder import LandmarkTable
from ctd_jax.data.picture_files import Known
from ctd_jax.errors import UserError
from ctd_jax.labels import placing
from ctd_jax.labels.context import Context
from ctd_jax.labels.table import Labelled, Labels

_log = logging.getLogger(__name__)
OURS = (landmark_folder.FILE, landmark_folder.ABOUT)


def write_folder(
    labels: Labels, context: Context, out: pathlib.Path, *, title: str, who: str = "", force: bool = False
) -> str:
    """Writes a landmark folder: table, dataset.json and copies of the pictures, so that it is whole and can be moved.

    Args:
      labels: what was read.
      context: the pictures.
      out: the new folder.
      title: where the labels were read, for messages.
      who: whose labels are taken; "": all.
      force: a landmark folder that is there is replaced; what was written into its files stays beside.

    Returns:
      A sentence that says what was written.

    Raises:
      UserError: all that is wrong, with file and entry; nothing is written then.
    """
    labels = _chosen(labels, who, title)
    _check(labels, context, title)
    placing.check_free(out, force, lambda: _check_replaced(out, context))
    content, (header, rows) = _about(labels.names, out), _table(labels)
    context.pictures.say()
    _say(labels, context, title)
    with placing.new_folder(out) as new:
        for picture in labels.pictures:
            (new / picture.image).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(context.pictures.root / picture.image, new / picture.image)
        files.write_text(new / landmark_folder.ABOUT, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        files.write_csv(new / landmark_folder.FILE, header, rows)
        _keep_old(out, new, header, [picture.image for picture in labels.pictures])
    points = sum(len(picture.points) for picture in labels.pictures)
    said = f"{out}: {len(labels.pictures)} pictures, {points} points of {len(labels.names)} landmarks"
    if content.get("flip_pairs") is None:
        return f"{said}. Pictures are never mirrored in training until dataset.json has flip_pairs"
    return said


def _about(names: Sequence[str], out: pathlib.Path) -> dict[str, Any]:
    """The content of dataset.json: that of a folder which is replaced, where it has the same landmarks."""
    path = out / landmark_folder.ABOUT
    old: Any = tables.load_json(path) if path.exists() else None
    known = old.get("landmarks") if isinstance(old, dict) else None
    if isinstance(known, list) and sorted(map(str, known)) == sorted(names):
        return old
    return {"name": out.name, "landmarks": [*names], "flip_pairs": None, "normalizer": None}


def _keep_old(out: pathlib.Path, new: pathlib.Path, header: Sequence[str], images: Sequence[str]) -> None:
    """Copies into the `new` folder, as NAME.bak, what was written into `out`, which it replaces, and is not in it.

    Args:
      out: the folder that is there, or not.
      new: the folder that takes its place, already with its files.
      header: of the new table.
      images: of the new table.
    """
    for old in (out / name for name in OURS):
        for path in out.glob(f"{old.name}.bak*"):
            shutil.copyfile(path, new / path.name)
        said = tables.load_json if old.name == landmark_folder.ABOUT else pathlib.Path.read_bytes
        if not old.exists() or said(old) == said(new / old.name):
            continue
        names = (f"{old.name}.bak{number or ''}" for number in itertools.count())
        kept = next(name for name in names if not (new / name).exists())
        shutil.copyfile(old, new / kept)
        _log.warning("%s: what was there is kept as %s%s", old, kept, _lacking(old, header, images))


def _lacking(old: pathlib.Path, header: Sequence[str], images: Sequence[str]) -> str:
    """What the file `old` has that a table of this header and pictures has not."""
    if old.name == landmark_folder.ABOUT:
        return ", because it has other landmarks"
    with contextlib.suppress(UserError):  # no table
        sheet, known, written = tables.read(old), Known(images), {column.casefold() for column in header}
        columns = [column for column in sheet.columns if column.casefold() not in written]
        rows = [cells["image"] for _, cells in sheet.rows(Faults(str(old)))]
        others = [name for name in rows if known.find(files.plain(name)) is None]
        found = [f"{what} {tables.listed(those)}" for what, those in (("columns", columns), ("rows", others)) if those]
        return f"; the new one has none of its {' and '.join(found)}" if found else ""
    return ""


def _chosen(labels: Labels, who: str, title: str) -> Labels:
    """The labels of one person, if one is asked for."""
    everybody = sorted({picture.who for picture in labels.pictures if picture.who})
    if who and who not in everybody:
        raise UserError(f"--who: nobody is called {who!r} in {title}; expected one of {tables.listed(everybody)}")
    return Labels(labels.names, tuple(one for one in labels.pictures if not who or one.who == who))


def _check(labels: Labels, context: Context, title: str) -> None:
    """Raises UserError with all that is wrong; the pictures are read."""
    faults = Faults(title)
    landmarks = about.parse({"landmarks": list(labels.names)}, title, faults)
    if not any(picture.points for picture in labels.pictures):
        raise UserError(f"{title}: expected points on pictures, found none")
    if not context.names:
        _check_shared(labels, title)
    for name in labels.names:
        with faults.collecting("name"):
            _check_text("the name of a point", name, title)
    table = _landmark_table(labels, landmarks, title)
    seen: dict[str, str] = {}
    first_of: dict[str, Labelled] = {}
    for i, picture in enumerate(labels.pictures):
        with faults.collecting("picture listed twice"):
            _check_one_person(picture, first_of.setdefault(picture.image, picture))
            check_once(picture.image, picture.image, picture.where, seen)
        with faults.collecting("name"):
            _check_text("the name of a picture", picture.image, picture.where)
            _check_text("a subject", picture.subject, picture.where)
        with faults.collecting("picture"):
            path = context.pictures.root / picture.image
            decoded = pictures.decode(path.read_bytes(), f"{picture.where}, {path}")
            _check_size(picture, decoded)
            table.check_belongs(i, decoded)
    faults.raise_if_any()


def _check_shared(labels: Labels, title: str) -> None:
    """Raises UserError if each name is in one picture alone, as those that Slicer and ImageJ give by themselves."""
    placed = [set(picture.points) for picture in labels.pictures if picture.points]
    if len(placed) > 1 and len(set.union(*placed)) == sum(map(len, placed)):
        raise UserError(
            f"{title}: expected the same names of points in several pictures, found each name in one alone: "
            f"{tables.listed(labels.names, 5)}; give the points the names of landmarks"
        )


def _check_one_person(picture: Labelled, first: Labelled) -> None:
    """Raises Fault if somebody else has labelled the picture, too."""
    if picture.who != first.who:
        both = f"there by {first.who or 'nobody'} and here by {picture.who or 'nobody'}"
        raise Fault(
            "picture listed twice",
            f"{picture.where}: {picture.image} was already listed in {first.where}, {both}; --who=NAME takes one",
        )


def _check_size(picture: Labelled, decoded: np.ndarray) -> None:
    height, width = decoded.shape[:2]
    if picture.size not in (None, (width, height)):
        expected = "{} x {}".format(*picture.size or ())
        raise Fault(
            "size",
            f"{picture.where}: expected {picture.image} of {expected} pixels, as the labels say, found {width} x "
            f"{height}; give the pictures that were labelled, turned as they were",
        )


def _check_text(what: str, text: str, at: str) -> None:
    if any(character in text for character in "<>") or not text.isprintable() or text.startswith(("=", "+", "@")):
        expected = "no < or >, no control characters, and no = + @ at the start, which a spreadsheet would run"
        raise Fault("name", f"{at}: {what} is {text[:80]!r}; expected {expected}; rename it")


def _check_replaced(out: pathlib.Path, context: Context) -> None:
    """Raises UserError if --force would take away what isn't a landmark folder, or the pictures that are read."""
    inside = [p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()]
    known = (*pictures.SUFFIXES, ".gif")
    shown = [name for name in inside if name.lower().endswith(known)]
    others = [name for name in inside if name not in shown and re.sub(r"\.bak\d*$", "", name) not in OURS]
    if inside and (landmark_folder.FILE not in inside or others):
        found = tables.listed(others or inside, 3)
        raise UserError(f"--out: {out} is not replaced: it has {found}, which is no part of a landmark folder")
    if context.pictures.root.resolve().is_relative_to(out.resolve()):
        raise UserError(f"--out: {out} has the pictures that are read, {context.pictures.root}; give a new folder")
    lost = [name for name in shown if not (context.pictures.root / name).exists()]
    if lost:
        raise UserError(
            f"--out: {out} is not replaced: its {tables.listed(lost, 3)} would be lost, not being in "
            f"{context.pictures.root}; move it, or give a new folder"
        )


def _say(labels: Labels, context: Context, title: str) -> None:
    """What is read in another way than it was written, or left out."""
    points = [point for picture in labels.pictures for point in picture.points.values()]
    hidden, sure = sum(point.hidden for point in points), sum(not math.isnan(point.confidence) for point in points)
    if hidden:
        _log.warning("%s: %d points are hidden but placed; they are trained on as the others, and have a 1 in columns "
                     "NAME%s", title, hidden, landmark_folder.HIDDEN)  # fmt: skip
    if sure:
        _log.warning("%s: %d points have a confidence, which a landmark folder does not have", title, sure)
    if labels.names == tuple(str(i + 1) for i in range(len(labels.names))):
        _log.warning("%s: points are called 1 to %d by their order; --names gives them names", title, len(labels.names))
    if not any(picture.subject for picture in labels.pictures):
        _log.warning("%s: no subjects: each picture counts as a person of its own; where people have several, add a "
                     "column `subject`", title)  # fmt: skip
    without = sorted(context.pictures.all() - {picture.image for picture in labels.pictures})
    if without:
        _log.warning("%s: %d pictures without labels are left out: %s", context.pictures.root, len(without),
                     tables.listed(without, 3))  # fmt: skip


def _points(labels: Labels) -> np.ndarray:
    """`[N, K, 2]`, NaN where absent."""
    xy = np.full((len(labels.pictures), len(labels.names), 2), np.nan)
    for i, picture in enumerate(labels.pictures):
        for k, name in enumerate(labels.names):
            if name in picture.points:
                xy[i, k] = picture.points[name].x, picture.points[name].y
    return xy


def _landmark_table(labels: Labels, landmarks: about.Landmarks, title: str) -> LandmarkTable:
    n, where = len(labels.pictures), tuple(picture.where for picture in labels.pictures)
    images = tuple(picture.image for picture in labels.pictures)
    return LandmarkTable(
        landmarks=landmarks,
        images=images,
        subjects=images,
        splits=None,
        xy=annotation_checks.without_marks(_points(labels), landmarks.names, where),
        spacing=np.full((n, 2), np.nan),
        boxes=np.full((n, 4), np.nan),
        where=where,
        title=title,
    )


def _table(labels: Labels) -> tuple[list[str], list[list[str]]]:
    """Header and rows of landmarks.csv; columns of subject, spacing and hidden points only where there are some."""
    covered = [name for name in labels.names if any(_is_hidden(picture, name) for picture in labels.pictures)]
    spaced = any(picture.spacing for picture in labels.pictures)
    named = any(picture.subject for picture in labels.pictures)
    header = ["image", *["subject"] * named, *[f"{name}_{axis}" for name in labels.names for axis in "xy"]]
    rows = []
    for picture, xy in zip(labels.pictures, _points(labels), strict=True):
        cells = ["" if np.isnan(value) else repr(float(value)) for value in xy.ravel()]
        mm = [repr(float(value)) for value in picture.spacing or ()] or ["", ""]
        hidden = ["1" if _is_hidden(picture, name) else "" for name in covered]
        who = [files.cell(picture.subject)] * named
        rows.append([files.cell(picture.image), *who, *cells, *(mm if spaced else []), *hidden])
    of_hidden = [f"{name}{landmark_folder.HIDDEN}" for name in covered]
    return [*header, *(SPACING if spaced else ()), *of_hidden], rows


def _is_hidden(picture: Labelled, name: str) -> bool:
    return name in picture.points and picture.points[name].hidden
