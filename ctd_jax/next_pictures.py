"""Which pictures to label next: those from which a run's next training has most to learn.

    python -m ctd_jax.next_pictures --workdir=RUN PICTURES --n=20
    python -m ctd_jax.next_pictures --workdir=RUN,RUN,RUN PICTURES --n=20 --out=next.csv

Prints a list of the folder PICTURES and writes it as a csv file: rank, picture, why, expected_error_px. Most are those
on which the network is probably most wrong, that are unlike each other and unlike what it was trained on, and of as
many subjects as possible. What tells the error: the calibrated radius of the run, where it differs between pictures;
else how far apart several networks are; else a picture and its mirror image. A quarter of the list is random, and says
so: only on random pictures can you read off how wrong the run is on new ones. `ctd-jax review` sorts its list alike.

Left out, and said: pictures that PICTURES/landmarks.csv has labels of, and those of the run's training, val and test,
which are known by their content; and where landmarks.csv has a column `subject`, all pictures of people who are there.
List new pictures with their subjects and empty cells, so that people are known.

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
    from ctd_jax.review.listing import Listing

_FLAGS = command.new_flags()
_WORKDIR = flags.DEFINE_string(
    "workdir", "", "A finished run that finds landmarks; or several, with commas between.", flag_values=_FLAGS
)
_N = flags.DEFINE_integer("n", 20, "How many pictures.", 1, flag_values=_FLAGS)
_SHARE = flags.DEFINE_float(
    "share", None, "Of the list that is random. Default: 0.25; 1: all.", 0, 1, flag_values=_FLAGS
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
    from ctd_jax.data.given import Given
    from ctd_jax.review import candidates, expected, folder, listing, order

    predictor = expected.predictor(workdirs, _DOMAIN.value)
    if predictor.trained.boxes and not _BOXES.value:
        raise UserError(f"{workdirs[0]} was trained on boxes in the pictures; give those of yours, --boxes=FILE.csv")
    if _BOXES.value and not predictor.trained.boxes:
        raise UserError(f"{workdirs[0]} was trained on whole pictures; leave out --boxes")
    images, labels, table = folder.pictures(root)
    found = candidates.find(root, images, table, labels, workdirs, _DOMAIN.value)
    if not found.free:
        raise UserError(f"{root}: no picture to label next; {'; '.join(found.said)}. Give a folder with new ones")
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
        _write(made, out)
        for line in found.said:
            print(line)
        print(_said(made, root, len(found.free), out, workdirs[0]))
    given.check_done(out)


def _write(made: "Listing", out: pathlib.Path) -> None:
    px = ["" if np.isnan(value) else f"{value:.3f}" for value in made.px]
    rows = [
        (str(rank), image, why, cell)
        for rank, (image, why, cell) in enumerate(zip(made.images, made.why, px, strict=True), 1)
    ]
    files.write_csv(out, COLUMNS, [(rank, files.cell(image), why, cell) for rank, image, why, cell in rows])
    print("\n".join(text_table([("rank", "picture", "why", "expected error, px"), *rows], ">  <  <  >", rule=True)))


def _said(made: "Listing", root: pathlib.Path, free: int, out: pathlib.Path, workdir: pathlib.Path) -> str:
    from ctd_jax.review import expected

    review = shlex.join(["ctd-jax", "review", str(root), f"--workdir={workdir}"])
    return (
        f"{len(made.images)} of {free} pictures, {int(made.is_random.sum())} of them random: {out}\n"
        f"The expected error is {expected.MEANINGS[made.sign]}.\nLabel them: {review}"
    )


if __name__ == "__main__":
    command.run(main, __doc__, _FLAGS, required=("workdir",), paths=_paths)
