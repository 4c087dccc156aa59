"""What several raters of a folder say: a landmark folder that has them all, and a page that compares them."""

import dataclasses
import itertools
import logging
import pathlib
import shutil
from collections.abc import Sequence

import numpy as np

from ctd_jax import files, report
from ctd_jax.data import landmark_folder, pictures, raters, tables
from ctd_jax.errors import UserError
from ctd_jax.labels import placing
from ctd_jax.labels.table import HIDDEN
from ctd_jax.metrics import two_raters
from ctd_jax.review import blinding, folder, journal, training_folder
from ctd_jax.review.edits import Review
from ctd_jax.review.folder import Reviewed

_log = logging.getLogger(__name__)
WORST = 6  # pictures of a pair that are shown


@dataclasses.dataclass(frozen=True)
class Said:
    """What one rater says of the N pictures of a folder.

    Attributes:
      xy: `[N, K, 2]` pixels, NaN where absent, and in pictures that are not done.
      hidden: `[N, K]` which of them are hidden but placed.
      done: `[N]` whether the rater is done with a picture.
      again: `[N, K, 2]` the same of pictures that came again.
    """

    xy: np.ndarray
    hidden: np.ndarray
    done: np.ndarray
    again: np.ndarray


def read(root: pathlib.Path, chosen: Sequence[str] = ()) -> tuple[Reviewed, dict[str, Said]]:
    """The folder, and its raters: those who have pictures marked done in a journal, and those of its own.

    Args:
      root: the folder.
      chosen: names of some of them; none: all.

    Raises:
      UserError: fewer than two, a name that is none of them, or that two have.
    """
    journals = {path.stem: journal.read(path) for path in journal.paths(root)}
    begun = (entries for entries in journals.values() if any(entry["kind"] == "open" for entry in entries))
    reviewed = folder.read(root, opened=next(begun, []))
    found = {name: _of_journal(reviewed, Review(entries), name) for name, entries in journals.items()}
    found = {name: said for name, said in found.items() if said.done.any()}
    table = reviewed.table
    if table is not None and table.of_raters is not None:
        if twice := sorted(found.keys() & set(table.landmarks.raters)):
            raise UserError(f"{root}: {twice[0]} is a rater of the folder and has a journal; rename one of the two")
        found |= {name: _of_table(reviewed, table.of_raters[:, r]) for r, name in enumerate(table.landmarks.raters)}
    if unknown := [name for name in chosen if name not in found]:
        raise UserError(f"--raters names {unknown[0]}; expected some of {tables.listed(list(found)) or 'nobody'}")
    found = {name: found[name] for name in chosen or found}
    if len(found) < 2:
        raise UserError(
            f"{root}: expected two raters with pictures marked done, or raters of the folder, found "
            f"{', '.join(found) or 'none'}"
        )
    return reviewed, found


def _of_journal(reviewed: Reviewed, review: Review, rater: str) -> Said:
    if others := training_folder.foreign(review, reviewed, reviewed.images):
        _log.warning("%s has points of %s in pictures marked done, which are none of the landmarks here (%s), and they "
                     "are left out; if one was renamed, give it its old name", rater, tables.listed(others),
                     tables.listed(reviewed.names))  # fmt: skip
    shape = len(reviewed.images), len(reviewed.names)
    said = Said(
        np.full((*shape, 2), np.nan), np.zeros(shape, bool), np.zeros(shape[0], bool), np.full((*shape, 2), np.nan)
    )
    for i, image in enumerate(reviewed.images):
        if review.done.get(image):
            points = training_folder.points_of(image, review, reviewed).values()
            said.done[i] = True
            said.xy[i] = [[one["x"], one["y"]] for one in points]
            said.hidden[i] = [one["state"] == HIDDEN for one in points]
        if review.done.get(blinding.AGAIN + image):
            points = training_folder.points_of(blinding.AGAIN + image, review, reviewed).values()
            said.again[i] = [[one["x"], one["y"]] for one in points]
    return said


def _of_table(reviewed: Reviewed, points: np.ndarray) -> Said:
    n, k = len(reviewed.images), len(reviewed.names)
    xy = np.full((n, k, 2), np.nan)
    xy[: len(points)] = points  # the pictures of landmarks.csv come first
    return Said(xy, np.zeros((n, k), bool), np.isfinite(xy).any((1, 2)), np.full((n, k, 2), np.nan))


def _say_unmarked(reviewed: Reviewed, found: dict[str, Said]) -> None:
    """Warns of hidden points: the table says what most raters of the folder marked, but not who did."""
    table = reviewed.table
    if table is None or table.hidden is None or not found.keys() & set(table.landmarks.raters):
        return
    if number := int(table.hidden.sum()):
        _log.warning("%s: %d points are hidden but placed, and are written as placed in the rows of its raters; mark "
                     "them again, in columns NAME%s", reviewed.root / landmark_folder.FILE, number,
                     landmark_folder.HIDDEN)  # fmt: skip


def write(reviewed: Reviewed, found: dict[str, Said], out: pathlib.Path, *, force: bool = False) -> str:
    """Writes a landmark folder whose landmarks.csv has a row for each picture and rater, so that what is trained on is
    their mean, and the page in it.

    Args:
      reviewed: the folder.
      found: its raters.
      out: the new folder.
      force: a landmark folder that is there is replaced.

    Returns:
      Lines that say what was written.

    Raises:
      UserError: no picture that two raters are done with, or the reader refuses what would be written.
    """
    number = np.sum([said.done for said in found.values()], axis=0)
    taken = training_folder.with_box(reviewed, [reviewed.images[i] for i in np.flatnonzero(number)])
    place = {image: i for i, image in enumerate(reviewed.images)}
    if not any(number[place[image]] > 1 for image in taken):
        raise UserError(f"{reviewed.root}: no picture that two of {tables.listed(list(found))} are done with")
    placing.check_free(out, force, lambda: training_folder.check_replaced(out, reviewed.root))
    _say_unmarked(reviewed, found)
    rows = [(name, place[image]) for image in taken for name in found if found[name].done[place[image]]]
    images = list(dict.fromkeys(reviewed.images[i] for _, i in rows))
    xy = np.array([found[name].xy[i] for name, i in rows])
    hidden = np.array([found[name].hidden[i] for name, i in rows])
    listed = [reviewed.images[i] for _, i in rows]
    header, cells = training_folder.rows_of(
        reviewed, listed, xy, hidden, training_folder.split_of(reviewed, images, None)
    )
    cells = [[row[0], files.cell(name), *row[1:]] for row, (name, _) in zip(cells, rows, strict=True)]
    with placing.new_folder(out) as new:
        for image in images:
            (new / image).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(reviewed.root / image, new / image)
        training_folder.write_about(reviewed, new, out.name, with_raters=False)
        files.write_csv(new / landmark_folder.FILE, [header[0], raters.COLUMN, *header[1:]], cells)
        landmark_folder.read(new)
        compared = _compared(reviewed, found)
        page = new / training_folder.PAGE
        report.raters.write(page, out.name, compared, lambda i: _picture(reviewed, i), list(reviewed.images), WORST)
    lines = [f"{out}: {len(images)} pictures of {' and '.join(found)}; what is trained on is their mean"]
    lines += [f"{one.title}: {one.found['distance']:.2f} {one.found['unit']} apart" for one in compared]
    return "\n".join([*lines, str(out / training_folder.PAGE)])


def _compared(reviewed: Reviewed, found: dict[str, Said]) -> list["report.raters.Compared"]:
    pairs = [(f"{a} and {b}", found[a].xy, found[b].xy) for a, b in itertools.combinations(found, 2)]
    pairs += [(f"{name}, the second time", said.xy, said.again) for name, said in found.items()]
    compared = [
        report.raters.Compared(title, one, other, two_raters.compare(one, other, reviewed.names, reviewed.spacing))
        for title, one, other in pairs
    ]
    return [one for one in compared if one.found["n"]]


def _picture(reviewed: Reviewed, index: int) -> np.ndarray:
    name = reviewed.images[index]
    return pictures.decode((reviewed.root / name).read_bytes(), name)
