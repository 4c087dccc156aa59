"""Which pictures of a folder may be labelled next, as a run sees them: neither labelled, nor of its training, val or
test, nor of anybody who is there."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Collection, Mapping, Sequence

from ctd_jax.data import splits
from ctd_jax.data.landmark_folder import LandmarkTable
from ctd_jax.data.prefetch import map_in_threads
from ctd_jax.errors import UserError
from ctd_jax.review import people

LABELLED, OF_THE_RUN, OF_ITS_PEOPLE = "labelled", "of the run", "of its people"
REASONS = {
    LABELLED: "are labelled, or marked done, already",
    OF_THE_RUN: "are in the training, val or test of the run",
    OF_ITS_PEOPLE: "are of people (column `subject`) who are in the training, val or test of the run",
}


@dataclasses.dataclass(frozen=True)
class Candidates:
    """The pictures of a folder.

    Attributes:
      free: those that may be labelled next.
      subjects: of each of these.
      trained_on: those that the run was trained on.
      left_out: reason, a key of `REASONS` -> the others.
    """

    free: tuple[str, ...]
    subjects: tuple[str, ...]
    trained_on: tuple[str, ...]
    left_out: Mapping[str, tuple[str, ...]]

    @property
    def said(self) -> list[str]:
        """A sentence for each reason."""
        return [f"left out: {len(images)} pictures that {REASONS[why]}" for why, images in self.left_out.items()]


def find(
    root: pathlib.Path,
    images: Sequence[str],
    table: LandmarkTable | None,
    labelled: Collection[str],
    workdirs: Sequence[pathlib.Path],
    domain: str | None = None,
) -> Candidates:
    """Sorts the pictures of a folder out.

    Args:
      root: the folder.
      images: below it.
      table: of landmarks.csv, which says who is on them; a picture that it does not have is one by itself.
      labelled: those that have points, or are done with.
      workdirs: of the run, or of several; what a run knows that it went on from counts too.
      domain: of the run that the pictures are of; None: it has one kind, or see `people.of_run`.

    Raises:
      UserError: a run has no split.csv, or a damaged one, or none of its pictures is of that domain.
    """
    from ctd_jax.tasks import start_run

    rows = [row for workdir in workdirs for row in start_run.split_rows(workdir) if splits.is_known(row[2])]
    split_of = {digest: split for _, _, split, digest in rows}
    if domain and not any(image.startswith(f"{domain}/") for image, *_ in rows):
        raise UserError(f"--domain={domain}: {workdirs[0]} has no picture of it; leave it out, or give a domain of it")
    subject_of = {image: image for image in images}
    subject_of |= dict(zip(table.images, table.subjects, strict=True)) if table else {}
    digests = dict(zip(images, map_in_threads(lambda image: _digest(root / image), images), strict=True))
    known = people.of_run(rows, subject_of, digests, domain)
    free, trained_on = [], []
    left_out: dict[str, list[str]] = {}
    for image, digest in digests.items():
        if split_of.get(digest) == "train":
            trained_on.append(image)
        if image in labelled:
            left_out.setdefault(LABELLED, []).append(image)
        elif digest in split_of:
            left_out.setdefault(OF_THE_RUN, []).append(image)
        elif splits.plainest(subject_of[image]) in known:
            left_out.setdefault(OF_ITS_PEOPLE, []).append(image)
        else:
            free.append(image)
    subjects = tuple(subject_of[image] or image for image in free)
    return Candidates(
        tuple(free), subjects, tuple(trained_on), {why: tuple(left_out[why]) for why in REASONS if why in left_out}
    )


def _digest(path: pathlib.Path) -> str:
    """As in split.csv; "": it can't be read, which is said when it is looked at."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
