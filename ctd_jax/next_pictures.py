"""Which pictures to label next: some that are new to a run, of as many subjects as possible.

    python -m ctd_jax.next_pictures --workdir=RUN PICTURES --n=20
    python -m ctd_jax.next_pictures --workdir=RUN PICTURES --n=20 --order=error --out=next.csv

Prints a list of the folder PICTURES and writes it as a csv file: rank, picture, why, expected_error_px. The list is
random, because in our trials choosing gained 1 % on the mean (docs/results.md), and because only on random pictures can
you read off how wrong the run is on new ones. `ctd-jax review` begins with the same list, where one rater reviews; not
with that of several runs, of --boxes, or of another --seed or --share.

With --order=error the network looks at the pictures. Most of the list are then those on which it is probably most
wrong, that are unlike each other and unlike what it was trained on. What tells the error: the calibrated radius of the
run, where it differs between pictures; else how far apart several networks are (--workdir=RUN,RUN,RUN); else a picture
and its mirror image. A quarter of the list is random all the same.

Left out, and said: pictures that PICTURES/landmarks.csv has labels of or that a rater has marked done on the review
page, and those of the run's training, val and test, which are known by their content, but for those that it was given
as arrays in Python, which is said; and where landmarks.csv has a column `subject`, all pictures of people who are
there. List new pictures with their subjects and empty cells, so that people are known. Of a run of several domains,
--domain says which one the pictures are of; else people count whose domain has pictures in the folder, or, if none has,
all.

Exit code: 0 done; 2 something you can mend, the message says how; 1 anything else.
"""

import pathlib
import shlex
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from ctd_jax import command, files
from ctd_jax.errors import UserError
from ctd_jax.text_table import text_table

if TYPE_CHECKING:
    from ctd_jax.review.candidates import Candidates
    from ctd_jax.review.listing import Listing

_FLAGS = command.new_flags()
_WORKDIR = flags.DEFINE_string(
    "workdir", "", "A finished run that finds landmarks; or several, with commas between.", flag_values=_FLAGS
)
_N = flags.DEFINE_integer("n", 20, "How many pictures.", 1, flag_values=_FLAGS)
_ORDER = flags.DEFINE_enum(
    "order", "random", ["random", "error"], "random; or error: by the error that is expected.", flag_values=_FLAGS
)
_SHARE = flags.DEFINE_float(
    "share", None, "With --order=error, the part of the list that is random. Default: 0.25.", 0, 1, flag_values=_FLAGS
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the random pictures.", 0, flag_values=_FLAGS)
_OUT = flags.DEFINE_string("out", "next.csv", "The csv file to write.", flag_values=_FLAGS)
_BOXES = flags.DEFINE_string(
    "boxes", None, "csv file with columns image, box_x0, box_y0, box_x1, box_y1, for a run trained on such boxes.",
    flag_values=_FLAGS,
)  # fmt: skip
_DOMAIN = flags.DEFINE_string(
    "domain", None, "Which of the run's domains the pictures are of, if it has several.", flag_values=_FLAGS
)
_paths: list[str] = []
COLUMNS = ("rank", "picture", "why", "expected_error_px")


def main() -> None:
    if len(_paths) != 1:
        raise UserError(f"expected one folder of pictures, found {len(_paths)}; --help shows examples")
    files.expect("out", _OUT.value, ".csv")
    root, workdirs = pathlib.Path(_paths[0]), command.workdirs(_WORKDIR.value)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; expected one with pictures")
    _list(root, workdirs, pathlib.Path(_OUT.value))


def _list(root: pathlib.Path, workdirs: list[pathlib.Path], out: pathlib.Path) -> None:
    from ctd_jax.review import candidates, folder, journal, listing

    images, labels, table = folder.pictures(root)
    known = {*labels, *journal.marked_done(root)}
    found = candidates.find(root, images, table, known, workdirs, _DOMAIN.value)
    if not found.free:
        raise UserError(f"{root}: no picture to label next; {'; '.join(found.said)}. Give a folder with new ones")
    if _ORDER.value == "random":
        if _SHARE.value is not None or _BOXES.value:
            raise UserError(f"--{'share' if _BOXES.value is None else 'boxes'} goes with --order=error; add it")
        _write(listing.drawn(found, number=_N.value, seed=_SEED.value), found, root, workdirs, out)
    else:
        _choose(found, root, workdirs, out)


def _choose(found: "Candidates", root: pathlib.Path, workdirs: list[pathlib.Path], out: pathlib.Path) -> None:
    from ctd_jax.data.given import Given
    from ctd_jax.review import expected, listing, order

    predictor = expected.predictor(workdirs, _DOMAIN.value)
    if predictor.trained.boxes and not _BOXES.value:
        raise UserError(f"{workdirs[0]} was trained on boxes in the pictures; give those of yours, --boxes=FILE.csv")
    if _BOXES.value and not predictor.trained.boxes:
        raise UserError(f"{workdirs[0]} was trained on whole pictures; leave out --boxes")
    image_of = {root / image: image for image in listing.looked_at(found)}
    boxes = pathlib.Path(_BOXES.value) if _BOXES.value else None
    given = Given.of([str(path) for path in image_of], boxes=boxes, grey=predictor.trained.grey)
    read, parts, sign = [], [], ""
    for pictures in given.read(predictor.batch_size):
        one, sign = expected.look(predictor, pictures, given.boxes)
        parts.append(one)
        read += [image_of[path] for path in pictures]
    if parts:
        share = order.SHARE if _SHARE.value is None else _SHARE.value
        made = listing.make(found, read, expected.join(parts), sign, number=_N.value, seed=_SEED.value, share=share)
        _write(made, found, root, workdirs, out)
        print(f"The expected error is {expected.MEANINGS[sign]}")
    given.check_done(out)


def _write(
    made: "Listing", found: "Candidates", root: pathlib.Path, workdirs: list[pathlib.Path], out: pathlib.Path
) -> None:
    """Writes the list, prints it, and says what it is.

    Args:
      made: the list.
      found: the pictures that it is of.
      root: of them.
      workdirs: of the runs.
      out: the csv file.
    """
    from ctd_jax.review import order

    px = ["" if np.isnan(value) else f"{value:.3f}" for value in made.px]
    ranks = map(str, range(1, len(px) + 1))
    rows = list(zip(ranks, map(files.cell, made.images), made.why, px, strict=True))
    files.write_csv(out, COLUMNS, rows)
    print("\n".join(text_table([("rank", "picture", "why", "expected error, px"), *rows], ">  <  <  >", rule=True)))
    for line in found.said:
        print(line)
    print(f"{len(made.images)} of {len(found.free)} pictures, {int(made.is_random.sum())} of them random: {out}")
    of_review = len(workdirs) == 1 and _SHARE.value in (None, order.SHARE) and _SEED.value == _SEED.default
    if not of_review or _BOXES.value:
        print("Label those: `ctd-jax review` may begin with others")
        return
    words = ["ctd-jax", "review", str(root), f"--workdir={workdirs[0]}", f"--order={_ORDER.value}"]
    words += [f"--domain={_DOMAIN.value}"] if _DOMAIN.value else []
    print(f"Label them: {shlex.join(words)}")


if __name__ == "__main__":
    command.run(main, __doc__, _FLAGS, required=("workdir",), paths=_paths)
