"""Label files of other programs: in as a landmark folder, and out.

    python -m ctd_jax.label_files import labels.json --images=PICTURES --out=eyes
    python -m ctd_jax.label_files import wings.tps --names=tip,base,hinge --images=PICTURES --out=wings
    python -m ctd_jax.label_files import cvat.zip --out=teeth
    python -m ctd_jax.label_files export eyes --to=labelme --out=labels
    python -m ctd_jax.label_files export predictions.csv --to=coco --images=PICTURES --out=predicted.json
    python -m ctd_jax.label_files from-review PICTURES --out=eyes
    python -m ctd_jax.label_files raters PICTURES --out=eyes
    python -m ctd_jax.label_files import review_points.csv --key=review.key.csv --images=PICTURES --out=eyes

import reads a file, or a folder of files, and writes a folder that trains: landmarks.csv, dataset.json, and copies of
the pictures, so that it is whole and can be moved. --from says the format; without it the format is guessed, and the
guess is said. Labels name pictures by their path below --images; where the folders before a name differ, one picture of
that name below --images is taken, and that is said. A .zip with pictures in it, as CVAT exports, needs no --images.

from-review writes such a folder, too: of the pictures that were marked done on the page of `ctd-jax review`, and of
those that were labelled before. Val and test stay as the folder's column `split` has them, or --workdir's run; the
command that it prints trains on the folder, with --workdir from the network of that run.

import with --key does the same with the csv file that comes back from a page in one file (`ctd-jax review --portable`);
with --rater as well, the points become that rater's review of --images.

raters compares several people: those with pictures marked done on that page, and the raters of a folder. It writes a
landmark folder with a row for each picture and person, whose mean is trained on, and a page in it, raters.html: how far
they lie apart at each landmark, the bias and the limits of agreement, the pictures where they differ most, and how far
each is from himself where pictures came again.

export writes a landmark folder, or a table as in a run's predictions.csv, in the format --to. Formats:

{formats}

Coordinates are converted: programs count pixels from 1, from the corner or from the bottom, or in percent or mm;
docs/labels.md says how each does. What a format can't hold is said.

Nothing that is there already is overwritten without --force, and nothing is written if anything is wrong. Exit code: 0
done; 2 something you can mend, the message says how; 1 anything else.
"""

import logging
import math
import pathlib

from absl import flags

from ctd_jax import command, files
from ctd_jax.errors import UserError

_FLAGS = command.new_flags()
_FROM = flags.DEFINE_string("from", None, "The format to import; else it is guessed.", flag_values=_FLAGS)
_TO = flags.DEFINE_string("to", None, "The format to export.", flag_values=_FLAGS)
_IMAGES = flags.DEFINE_string("images", None, "Folder of the pictures that the labels are of.", flag_values=_FLAGS)
_OUT = flags.DEFINE_string("out", "", "The folder or file to write.", flag_values=_FLAGS)
_NAMES = flags.DEFINE_list(
    "names", None, "Names of the points, with commas between, or a file with one a line.", flag_values=_FLAGS
)
_SPACING = flags.DEFINE_list(
    "spacing", None, "mm of a pixel, MM or X,Y, of pictures whose labels don't say it.", flag_values=_FLAGS
)
_WHO = flags.DEFINE_string("who", "", "Whose labels to import, where several people's are given.", flag_values=_FLAGS)
_NEGATIVE = flags.DEFINE_bool(
    "negative_missing", False, "In TPS files a negative coordinate means: absent.", flag_values=_FLAGS
)
_RATER = flags.DEFINE_string(
    "rater", "", "Whose review, where several people have reviewed a folder.", flag_values=_FLAGS
)
_KEY = flags.DEFINE_string(
    "key", None, "Which picture is which, where the csv file of a portable review page comes back.", flag_values=_FLAGS
)
_RATERS = flags.DEFINE_list("raters", [], "Whom `raters` compares; else all there are.", flag_values=_FLAGS)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "A run, whose val and test a folder from a review keeps.", flag_values=_FLAGS
)
_FORCE = flags.DEFINE_bool("force", False, "Replace what --out names.", flag_values=_FLAGS)

_log = logging.getLogger("ctd_jax.label_files")  # also where __name__ is __main__
_paths: list[str] = []
_MAILED = "import with --key"
_READ = {  # the flags that each reads, beside --out and --force
    "import": ("images", "from", "names", "spacing", "who", "negative_missing"),
    _MAILED: ("key", "images", "rater", "workdir"),
    "export": ("to", "images", "spacing"),
    "from-review": ("rater", "workdir"),
    "raters": ("raters",),
}


def main() -> None:
    ways = {"import": _import, "export": _export, "from-review": _from_review, "raters": _raters}
    if len(_paths) != 2 or _paths[0] not in ways:
        raise UserError(f"expected {' or '.join(ways)}, and one file or folder, found {_paths}; --help shows examples")
    _check_flags(_MAILED if _paths[0] == "import" and _KEY.value else _paths[0])
    print(ways[_paths[0]](pathlib.Path(_paths[1]), pathlib.Path(_OUT.value)))


def _check_flags(way: str) -> None:
    """Raises UserError if a flag is given that `way`, of `_READ`, would ignore."""
    for flag in _FLAGS:
        readers = [other for other, read in _READ.items() if flag in read]
        if readers and way not in readers and _FLAGS[flag].value:
            known = ", ".join(f"--{name}" for name in _READ[way])
            raise UserError(f"--{flag} is for {', '.join(readers)}; {way} has {known}")


def _import(source: pathlib.Path, out: pathlib.Path) -> str:
    from ctd_jax.labels import zipped

    files.expect("out", out, "")
    if _KEY.value:
        return _import_mailed(source, pathlib.Path(_KEY.value), out)
    if _IMAGES.value:
        return _import_with(pathlib.Path(_IMAGES.value), source, out)
    if source.suffix.lower() != ".zip" or not source.is_file():
        raise UserError("--images is missing: the folder of the pictures that the labels are of")
    with zipped.unpacked(source) as images:
        return _import_with(images, source, out)


def _import_with(images: pathlib.Path, source: pathlib.Path, out: pathlib.Path) -> str:
    from ctd_jax.labels import by_name, importing
    from ctd_jax.labels.context import Context, Pictures

    context = Context(Pictures(images), _names(), _spacing(), _NEGATIVE.value)
    if _FROM.value:
        by_name.check_name("--from", _FROM.value)
    name = _FROM.value or by_name.guess(source)
    if not _FROM.value:
        _log.warning("%s is taken for %s; if that is wrong, --from says the format", source, name)
    found = by_name.read(source, name, context)
    return importing.write_folder(found, context, out, title=str(source), who=_WHO.value, force=_FORCE.value)


def _import_mailed(source: pathlib.Path, key: pathlib.Path, out: pathlib.Path) -> str:
    from ctd_jax.review import journal, mailed, training_folder

    if not _IMAGES.value:
        raise UserError("--images is missing: the folder that was reviewed")
    images = pathlib.Path(_IMAGES.value)
    path = journal.path_of(images, _RATER.value) if _RATER.value else None
    if path and path.exists():
        raise UserError(f"--rater: {path} is there already; give the rater another name")
    reviewed, entries = mailed.read(source, key, images)
    workdir = pathlib.Path(_WORKDIR.value) if _WORKDIR.value else None
    said = training_folder.write(reviewed, entries, out, workdir=workdir, force=_FORCE.value)
    if path:
        journal.Journal(path).append(entries)
    return said


def _export(source: pathlib.Path, out: pathlib.Path) -> str:
    from ctd_jax.labels import FORMATS, by_name, exporting

    if not _TO.value:
        raise UserError(f"--to is missing: the format to export, one of {', '.join(FORMATS)}")
    by_name.check_name("--to", _TO.value)
    files.expect("out", out, FORMATS[_TO.value].suffix)
    images = pathlib.Path(_IMAGES.value) if _IMAGES.value else None
    labels = exporting.read(source, images, _spacing(), of_slicer=_TO.value in ("slicer", "fcsv"))
    return exporting.write_files(labels, _TO.value, out, force=_FORCE.value)


def _from_review(root: pathlib.Path, out: pathlib.Path) -> str:
    from ctd_jax.review import folder, journal, training_folder

    files.expect("out", out, "")
    entries = journal.read(journal.path_of(root, training_folder.rater_of(root, _RATER.value)))
    workdir = pathlib.Path(_WORKDIR.value) if _WORKDIR.value else None
    reviewed = folder.read(root, opened=entries)
    return training_folder.write(reviewed, entries, out, workdir=workdir, force=_FORCE.value)


def _raters(root: pathlib.Path, out: pathlib.Path) -> str:
    from ctd_jax.review import raters

    files.expect("out", out, "")
    reviewed, found = raters.read(root, [name.strip() for name in _RATERS.value])
    return raters.write(reviewed, found, out, force=_FORCE.value)


def _names() -> tuple[str, ...]:
    from ctd_jax.data import tables

    names = [name.strip() for name in _NAMES.value or ()]
    if len(names) == 1 and pathlib.Path(names[0]).is_file():
        names = [line.strip() for line in tables.read_text(pathlib.Path(names[0])).splitlines() if line.strip()]
    if _NAMES.value is not None and (not names or "" in names or len(set(names)) < len(names)):
        raise UserError("--names: expected different names with commas between, or a file with one a line")
    return tuple(names)


def _spacing() -> tuple[float, float] | None:
    if _SPACING.value is None:
        return None
    try:
        mm = [float(value) for value in _SPACING.value]
    except ValueError:
        mm = []
    if len(mm) not in (1, 2) or not all(math.isfinite(value) and value > 0 for value in mm):
        raise UserError(f"--spacing: expected MM or X,Y, mm of a pixel above 0, found {','.join(_SPACING.value)}")
    return mm[0], mm[-1]


def _text() -> str:
    from ctd_jax.labels import FORMATS
    from ctd_jax.text_table import text_table

    rows = [(f"    {name}", one.about) for name, one in FORMATS.items()]
    return (__doc__ or "").replace("{formats}", "\n".join(text_table(rows, "  <  <")))


if __name__ == "__main__":
    command.run(main, _text(), _FLAGS, required=("out",), paths=_paths)
