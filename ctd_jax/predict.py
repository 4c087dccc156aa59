"""Landmarks of pictures without labels, by the best checkpoint of a run.

    python -m ctd_jax.predict --workdir=runs/ctd_ed-demo PICTURE_OR_FOLDER ... --out=predictions.csv --overlays=DIR

Writes one row per picture and landmark: x and y in pixels of the picture, (0, 0) the centre of its top-left pixel, and
confidence, the height of the heatmap's peak (0 to 1). Folders are searched through and through, but for what begins
with a dot, and for runs in them. --measurements=FILE.csv adds a table of what the run's dataset.json measures: lengths
in pixels, angles in degrees. --measure=FILE.json measures what that file defines (docs/measurements.md); ceph_basic,
fas_face and hip_basic come along. --out=/dev/stdout writes the table there.

Where the run's dataset.json names landmarks that may be absent, the column present has the probability that they are in
the picture; below 0.5 they are neither drawn nor measured on. x and y stay: where the point would be.

Where --spacing says how many mm a pixel is, or --scale how many lie between two landmarks, the tables are in mm:

    python -m ctd_jax.predict --workdir=runs/ctd_ed-demo PICTURE_OR_FOLDER ... --out=predictions.csv --spacing=0.1

The Pixel Spacing of DICOM files is used where neither is given; --imager_spacing=detector takes their Imager Pixel
Spacing instead, and says in every table that mm are those at the detector.

--format=FORMAT,FORMAT writes the landmarks as label files of other programs too, beside --out and called as it, with
all of their digits: predictions_coco.json, a folder predictions_labelme. They name pictures by their path below the
folder that all of them lie in. What is there already is not overwritten. docs/labels.md has the formats.

    python -m ctd_jax.predict --workdir=runs/ctd_ed-demo PICTURE_OR_FOLDER ... --out=predictions.csv --format=tps

Where the run learned segmentation, --out is a folder: it gets a class map of each picture, an 8-bit PNG whose pixels
hold the index of the class in the folder's classes.json.

    python -m ctd_jax.predict --workdir=runs/mtmd-demo PICTURE_OR_FOLDER ... --domain=NAME --out=masks --overlays=DIR

--workdir=A,B,C averages several networks of the same landmarks or classes, each of which sees pictures of its own size.
x, y and confidence are means, and the column spread_px has the root mean square distance of the networks' points from
their mean, in pixels of the picture. Of class maps the mean probabilities decide, and no spread is given.

    python -m ctd_jax.predict --workdir=runs/a,runs/b,runs/c PICTURE_OR_FOLDER ... --out=predictions.csv

Pictures of more than 8 bits are read with the grey range of the run's pictures; where those had none, with one for all
that are given together, and a warning.

Of many pictures, what is done is kept in a folder beside --out, OUT.unfinished, batch by batch. A command that was
stopped, however it was, goes on there when it is started again, and ends with the same files. --shard=1/4, 2/4, 3/4 and
4/4 are processes, here or on other machines with the same disk, that share the work; the last to end writes --out:

    python -m ctd_jax.predict --workdir=runs/ctd_ed-demo PICTURE_OR_FOLDER ... --out=predictions.csv --shard=1/4

--cluster=local:4 starts four such processes, and --cluster=tcp://HOST:PORT has the workers of a Dask scheduler do it
(docs/devices.md):

    python -m ctd_jax.predict --workdir=runs/ctd_ed-demo PICTURE_OR_FOLDER ... --out=predictions.csv --cluster=local:4

Exit code 0: every picture is done. 2: some could not be read, or label files could not be written, and one message
names them; all else is done. Also 2, with nothing written: a mistake in the command. 1: anything else.
"""

import functools
import hashlib
import json
import pathlib
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import flags

from ctd_jax import cluster, command, files, unfinished
from ctd_jax.errors import UserError
from ctd_jax.unfinished import Share, Unfinished

if TYPE_CHECKING:
    from ctd_jax.data.given import Given
    from ctd_jax.predictor import Predictor
    from ctd_jax.tasks.trained import Measuring, Trained
    from ctd_jax.tasks.writer import Writer

_FLAGS = command.new_flags()
_WORKDIR = flags.DEFINE_string(
    "workdir",
    "",
    "Folder of a run of `python -m ctd_jax.main`; of several, with commas between, the average is written.",
    flag_values=_FLAGS,
)
_OUT = flags.DEFINE_string("out", "", "The csv file to write.", flag_values=_FLAGS)
_OVERLAYS = flags.DEFINE_string(
    "overlays", None, "Folder for copies of the pictures with the landmarks drawn in.", flag_values=_FLAGS
)
_MEASUREMENTS = flags.DEFINE_string(
    "measurements", None, "The csv file to write the measurements to; a finished run knows which.", flag_values=_FLAGS
)
_MEASURE = flags.DEFINE_string(
    "measure",
    None,
    "The JSON file that defines what is measured, or one that comes along: ceph_basic, fas_face, hip_basic. Default: "
    "what the run's dataset.json measures.",
    flag_values=_FLAGS,
)
_NORMS = flags.DEFINE_string(
    "norms",
    None,
    "csv file with columns measurement, unit, mean, sd and, where they count, sex, age_from, age_to: z and percentile "
    "are written too.",
    flag_values=_FLAGS,
)
_PEOPLE = flags.DEFINE_string(
    "people", None, "csv file with columns image, sex, age (years), for norms by these.", flag_values=_FLAGS
)
_DOMAIN = flags.DEFINE_string(
    "domain", None, "Which of the run's domains the pictures are of, if it has several.", flag_values=_FLAGS
)
_MIRROR = flags.DEFINE_bool(
    "mirror",
    None,
    "Average what the network says of a picture and of its mirror image; --nomirror: don't. Default: as in the run's "
    "evaluation.",
    flag_values=_FLAGS,
)
_BOXES = flags.DEFINE_string(
    "boxes",
    None,
    "csv file with columns image, box_x0, box_y0, box_x1, box_y1, for a run trained on such boxes.",
    flag_values=_FLAGS,
)
_SPACING = flags.DEFINE_string(
    "spacing",
    None,
    "Mm of a pixel, or a csv file with columns image, spacing_x_mm, spacing_y_mm.",
    flag_values=_FLAGS,
)
_SCALE = flags.DEFINE_string(
    "scale",
    None,
    "Instead of a spacing a known distance in every picture: LANDMARK,LANDMARK,MM.",
    flag_values=_FLAGS,
)
_FORMAT = flags.DEFINE_list(
    "format", None, "Label files to write beside --out: formats as of `labels export`.", flag_values=_FLAGS
)
_IMAGER_SPACING = flags.DEFINE_enum(
    "imager_spacing",
    None,
    ["detector"],
    "detector: take the Imager Pixel Spacing of DICOM files; all mm are then mm at the detector, where everything is "
    "larger than in the patient.",
    flag_values=_FLAGS,
)
_SHARD = flags.DEFINE_string(
    "shard",
    None,
    "I/N: do the I-th of N parts (1/4, 2/4, ...); each is a process, and the last to end writes --out.",
    flag_values=_FLAGS,
)
_CLUSTER = flags.DEFINE_string("cluster", "", cluster.HELP, flag_values=_FLAGS)

PARTS = 64  # at most, that workers share: whatever their number, the same command goes on where it was stopped
MADE_BY = "versions or device"  # what a worker may have others of
_READ = ("boxes", "spacing", "measure", "norms", "people")  # flags that may name a file to be read
_paths: list[str] = []


class Asked(NamedTuple):
    """What the flags ask for, opened."""

    predictor: "Predictor"
    given: "Given"
    writers: "Sequence[Writer]"
    facts: dict[str, str]

    @property
    def batches(self) -> int:
        return len(self.predictor.batches(self.given))


class Part(NamedTuple):
    """What a worker is given: the arguments of the command, what its result depends on, and which part to do."""

    arguments: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    share: Share


def main() -> None:
    out, share = pathlib.Path(_OUT.value), Share.parse(_SHARD.value) if _SHARD.value else Share()
    for flag in [flag for flag in (_SHARD, _CLUSTER) if flag.value]:
        if files.is_stream(out):
            raise UserError(f"--{flag.name}: the parts meet beside --out, and {out} is no file; give the name of one")
    if _SHARD.value and _CLUSTER.value:
        raise UserError("--shard is one process's part, and --cluster shares out all parts; leave out one of them")
    asked = _opened()
    asked.writers[0].prepare(asked.given)
    with unfinished.beside(out, asked.batches) as folder:
        if _CLUSTER.value and asked.batches > 1:
            share = Share(1, min(asked.batches, PARTS))
            _predict_on_workers(asked, share.among)
        kept = Unfinished(folder, asked.facts, share, asked.batches)
        with kept.held():
            _predict(asked, kept)
            lacking = kept.finish(lambda: _write(asked, kept))
    if lacking:
        left = f"{lacking} of all {asked.batches} batches of {asked.predictor.batch_size} pictures are not"
        if _CLUSTER.value:
            raise UserError(f"{left} seen here, where a disk may show late what is done; start the same command again")
        print(f"shard {share} is done, and {left}; the last process writes {out}")
    else:
        asked.given.check_done(out)


def _opened() -> Asked:
    """The networks, pictures and writers that the flags name; raises UserError."""
    from ctd_jax.data import given_spacing
    from ctd_jax.data.given import Given
    from ctd_jax.predictor import Predictor

    out = pathlib.Path(_OUT.value)
    predictor = Predictor(command.workdirs(_WORKDIR.value), domain=_DOMAIN.value, mirror=_MIRROR.value)
    trained = predictor.trained
    workdir = trained.workdir
    if trained.boxes and not _BOXES.value:
        raise UserError(f"{workdir} was trained on boxes in the pictures; give those of yours, --boxes=FILE.csv")
    if _BOXES.value and not trained.boxes:
        raise UserError(f"{workdir} was trained on whole pictures, not on what is in a box; leave out --boxes")
    measuring = _measuring()
    writers = [one.writer(out, _path(_OVERLAYS.value), measuring) for one in predictor.networks][:1]
    if measuring and not measuring.definitions:
        _check_measurements(predictor.networks)
    if _FORMAT.value:
        writers.append(predictor.networks[0].label_files(out, _FORMAT.value))
    given = Given.of(_paths, boxes=_path(_BOXES.value), grey=trained.grey)
    if _SPACING.value or _SCALE.value or _IMAGER_SPACING.value:
        predictor.check_points()
    if trained.has_points:
        given.spacing = given_spacing.read(
            _SPACING.value, _SCALE.value, given.files, predictor.names, detector=bool(_IMAGER_SPACING.value)
        )
        predictor.check_scale(given.spacing)
    given.check_kept({flag: written for writer in writers for flag, written in writer.outputs(given).items()})
    facts = _facts(predictor, given) if len(predictor.batches(given)) > 1 else {}
    return Asked(predictor, given, writers, facts)


def _predict_on_workers(asked: Asked, parts: int) -> None:
    """Has all parts predicted, and kept, by the workers of --cluster."""
    from ctd_jax import predict  # so called on a worker, too; here it is __main__
    from ctd_jax.data.prefetch import progress

    shares = [Share(number, parts) for number in range(1, parts + 1)]
    arguments, facts = tuple(sys.argv[1:]), tuple(asked.facts.items())
    jobs = {f"part {share}": predict.Part(arguments, facts, share) for share in shares}
    with cluster.joined(_CLUSTER.value, pathlib.Path(_OUT.value).parent) as workers:
        assert workers is not None
        for _ in progress(workers.map(predict.predict_part, jobs), "predicting, part", parts):
            pass


def predict_part(part: Part) -> None:
    """Predicts, and keeps, a part of the work. Raises UserError."""
    asked = _opened_once(part.arguments, part.facts)
    with unfinished.beside(pathlib.Path(_OUT.value), asked.batches) as folder:
        kept = Unfinished(folder, dict(part.facts), part.share, asked.batches)
        with kept.held():
            _predict(asked, kept)


@functools.lru_cache(maxsize=1)  # the same for all parts
def _opened_once(arguments: tuple[str, ...], facts: tuple[tuple[str, str], ...]) -> Asked:
    """What a worker needs for a command.

    Raises:
      UserError: it sees other pictures, networks or files than the command does.
    """
    command.parse(arguments, _FLAGS, _paths)
    asked = _opened()
    if differ := [name for name, fact in facts if name != MADE_BY and asked.facts[name] != fact]:
        raise UserError(f"--cluster: {platform.node()} sees other {' and '.join(differ)} than this machine does")
    return asked


def _predict(asked: Asked, kept: Unfinished) -> None:
    """Predicts, and keeps, what is left of this process's share."""
    predictor, given, writers, _ = asked
    _check_there(asked, kept, kept.read(own=True))
    if kept.to_do:  # else label files may be there: a process was stopped while it wrote them
        for writer in writers[1:]:
            writer.prepare(given)
    if kept.done and not _CLUSTER.value:
        pictures = min(kept.done * predictor.batch_size, len(given.files))
        print(f"{pictures} pictures are done already; going on where it was stopped", file=sys.stderr)
    for batch in predictor.found(given, kept.to_do):
        for writer in writers if batch.files else ():
            writer.add(given, batch)
        kept.append(batch.to_json(predictor.trained))


def _check_there(asked: Asked, kept: Unfinished, batches: Iterable[Mapping[str, Any]]) -> None:
    """Raises UserError if a class map or an overlay, of pictures of `batches` that are done, is gone."""
    maps = "" if asked.predictor.trained.has_points else _OUT.value
    folders = [pathlib.Path(folder) for folder in (maps, _OVERLAYS.value) if folder]
    written = (asked.given.beside(folder, pathlib.Path(file)) for one in batches for file, *_ in one["files"]
               for folder in folders)  # fmt: skip
    if gone := next((path for path in written if not path.exists()), None):
        raise UserError(
            f"{gone} is missing, which was written before the command was stopped; bring it back, or remove "
            f"{kept.folder} to begin anew, and start the command again"
        )


def _write(asked: Asked, kept: Unfinished) -> None:
    """Writes what is a file of all pictures."""
    from ctd_jax.tasks.writer import Done

    predictor, given, writers, _ = asked
    _check_there(asked, kept, kept.read())

    def batches() -> Iterator[Done]:
        return (Done.of_json(one, predictor.trained) for one in kept.read())

    unread = {file: why for batch in batches() for file, why in batch.faults.items()}
    given.faults = {file: why for file, why in given.faults.items() if file not in unread} | unread
    for writer in writers:
        writer.close(given, lambda: (batch for batch in batches() if batch.files))


def _facts(predictor: "Predictor", given: "Given") -> dict[str, str]:
    """What the result depends on, as digests. Files that flags name count by their content, pictures by their size and
    time of change."""
    from ctd_jax import versions
    from ctd_jax.training import checkpoint
    from ctd_jax.trust import evidence

    def content(path: pathlib.Path) -> str | None:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None

    values = {
        name: _FLAGS[name].value for name in _FLAGS if name not in ("workdir", "out", "shard", "cluster", "debug")
    }
    stats = [(str(file), file.stat()) for file in given.files]
    facts = {
        "networks": [checkpoint.digest(one.variables) for one in predictor.networks],
        "evidence": [content(one.workdir / evidence.FILE) for one in predictor.networks],
        "batches": predictor.batch_size,
        "flags": [values, *(content(pathlib.Path(_FLAGS[name].value or "")) for name in _READ)],
        "pictures": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats],
        MADE_BY: versions.describe(),
    }
    return {
        name: hashlib.sha256(json.dumps(fact, sort_keys=True).encode()).hexdigest()[:16] for name, fact in facts.items()
    }


def _measuring() -> "Measuring | None":
    """What is measured; None: nothing."""
    from ctd_jax.tasks.trained import Measuring

    if _PEOPLE.value and not _NORMS.value:
        raise UserError(
            "--people says who is on the pictures, which only norms by sex or age need; add --norms=FILE.csv"
        )
    if _MEASUREMENTS.value:
        where = pathlib.Path(_MEASUREMENTS.value)
        return Measuring(where, _MEASURE.value, _path(_NORMS.value), _path(_PEOPLE.value))
    for flag, value in (("measure", _MEASURE.value), ("norms", _NORMS.value)):
        if value:
            raise UserError(
                f"--{flag} is about measurements, and nothing says where they go; add --measurements=FILE.csv"
            )
    return None


def _check_measurements(networks: "Sequence[Trained]") -> None:
    """Raises UserError if what one of several runs measures is not what the first does."""
    from ctd_jax.tasks.landmarks.written import measurements_of

    known = [{one.name: one for one in measurements_of(run.workdir, run.names, run.domain, None)} for run in networks]
    for run, theirs in zip(networks, known, strict=True):
        if differ := [name for name in known[0] | theirs if known[0].get(name) != theirs.get(name)]:
            raise UserError(
                f"{run.workdir} and {networks[0].workdir} do not measure the same: {differ[0]} differs, or only one of "
                "them has it; say what is measured, --measure=FILE.json"
            )


def _path(value: str | None) -> pathlib.Path | None:
    """The path that a flag gives; None: the flag is not given."""
    return pathlib.Path(value) if value else None


if __name__ == "__main__":
    command.run(main, __doc__, _FLAGS, required=("workdir", "out"), paths=_paths)
