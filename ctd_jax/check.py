"""Is the data sound? All that a careful colleague would ask of a folder before a training, on one page with pictures.

    python -m ctd_jax.check FOLDER
    python -m ctd_jax.check FOLDER --report=check.html --workdir=RUN

FOLDER is what `data.root` names: a landmark folder or a segmentation folder. The page is one file and holds:

* all faults at once, each with its file and row: what a training would refuse
* counts by split, subject and rater, and missing points by landmark
* label slips, the worst first, with what they would be: left and right exchanged, two landmarks exchanged, a point far
  from where the other points and pictures expect it; the pairs of left and right, guessed where none are declared
* raters who mean another picture or the other side, points that they place far apart
* splits that a training refuses, domain by domain; subjects in two splits, and near-identical pictures, side by side
* of class maps: how large each class is, of how many pieces, and where that is unlike the others
* pictures of another size, spacing, brightness or sharpness than the others
* with --workdir: labels that the network of a finished run contradicts, of pictures that it was not trained on; if the
  run has several domains, a landmark folder needs --domain=NAME
* every picture with its points, or the outlines of its classes

Exit code 0: nothing found, or only what is worth a look. 1: something would spoil a training or its result. 2: a
mistake in the command, or nothing can be read; the message says what to do.
"""

import pathlib
import sys

from absl import flags

from ctd_jax import command, files
from ctd_jax.errors import UserError

_FLAGS = command.new_flags()
_REPORT = flags.DEFINE_string("report", "check.html", "The page, an HTML file.", flag_values=_FLAGS)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "A finished run: its network is asked about what it was not trained on.", flag_values=_FLAGS
)
_DOMAIN = flags.DEFINE_string(
    "domain", None, "Which of --workdir's domains the pictures are of, if it has several.", flag_values=_FLAGS
)
_paths: list[str] = []


def main() -> None:
    from ctd_jax import inspection

    if len(_paths) != 1:
        raise UserError(f"expected one folder, found {len(_paths)}; --help shows examples")
    files.expect("report", _REPORT.value, ".html")
    if _DOMAIN.value and not _WORKDIR.value:
        raise UserError("--domain is one of those of a run; add --workdir=RUN")
    workdir = pathlib.Path(_WORKDIR.value) if _WORKDIR.value else None
    found = inspection.inspect(pathlib.Path(_paths[0]), workdir, _DOMAIN.value)
    page = inspection.write_page(pathlib.Path(_REPORT.value), found)
    print(f"{inspection.summary(found)}\n\n{page}")
    sys.exit(1 if found.spoilt else 0)


if __name__ == "__main__":
    command.run(main, __doc__, _FLAGS, paths=_paths)
