"""The review page: look at the points of pictures, correct them, place the first ones.

    python -m ctd_jax.reviewing FOLDER --workdir=RUN
    python -m ctd_jax.reviewing FOLDER --predictions=predictions.csv
    python -m ctd_jax.reviewing PICTURES --landmarks=tip,base,hinge

opens a page in the browser, from this machine alone, and answers it until Ctrl-C. FOLDER is a landmark folder, whose
landmarks.csv is never changed, or a folder of pictures; then --landmarks, or a dataset.json in it, names the points,
else they are those of the folder's other raters, of --workdir or of --predictions.
Where a picture has no labels, the page begins with the points that --workdir's network finds, or that --predictions
has, drawn hollow until they are accepted or moved. A run of several domains needs --domain=NAME, which of them the
pictures are of.

    python -m ctd_jax.reviewing FOLDER --portable=review.html

writes one file for a rater elsewhere, to be sent by mail: the page with the pictures in it, scaled, under numbers
instead of their names, and without the labels of the folder. It needs no server and asks for nothing. The rater saves
a csv file and sends it back; `python -m ctd_jax.label_files import` takes it, with the key that stays here.

Every edit is kept at once in FOLDER/review/RATER.jsonl, which is only ever appended to, and read again at the next
start: the state, and what undo and redo do, is what this file says. The same command finds the same address again, so
that a page that is still open goes on.

With --workdir the list begins as that of `ctd-jax next`, with pictures that are new to the run, in random order; with
--order=error those come first that it is probably most wrong about, and a quarter is random. By the random pictures
that are done the page says how wrong the run is on new ones.

A second rater works blinded: where others have placed points in FOLDER/review, or are raters of the folder, the page
shows neither the points of landmarks.csv nor predictions; --noblinded shows them, --blinded hides them from the first
rater too, and a line says which holds. --repeat=0.1 shows a tenth of the pictures a second time, later and without
saying so (names are hidden, and the list is not sorted then): how far a rater is from himself.

Pictures marked done become a folder that trains, by a button or by

    python -m ctd_jax.label_files from-review FOLDER --out=NEW

Exit code: 0 done; 2 something you can mend, the message says how; 1 anything else.
"""

import contextlib
import functools
import importlib.util
import pathlib
import webbrowser
from typing import TYPE_CHECKING

from absl import flags

from ctd_jax import command, lock
from ctd_jax.errors import UserError

if TYPE_CHECKING:
    from ctd_jax.review.folder import Reviewed
    from ctd_jax.review.proposals import Predict

_FLAGS = command.new_flags()
_WORKDIR = flags.DEFINE_string("workdir", None, "A finished run, whose network proposes points.", flag_values=_FLAGS)
_DOMAIN = flags.DEFINE_string(
    "domain", None, "Which of --workdir's domains the pictures are of, if it has several.", flag_values=_FLAGS
)
_PREDICTIONS = flags.DEFINE_string(
    "predictions", None, "A table as of predict, a csv file, that proposes points.", flag_values=_FLAGS
)
_LANDMARKS = flags.DEFINE_list(
    "landmarks", [], "Names of the points, with commas between, where no file names them.", flag_values=_FLAGS
)
_RATER = flags.DEFINE_string("rater", "rater1", "Who places the points.", flag_values=_FLAGS)
_PORT = flags.DEFINE_integer(
    "port", 0, "Where the page is found; 0: as before, or any that is free.", 0, 65535, flag_values=_FLAGS
)
_OPEN = flags.DEFINE_bool("open", True, "Open the page; --noopen prints its address alone.", flag_values=_FLAGS)
_ORDER = flags.DEFINE_enum(
    "order",
    None,
    ["random", "error", "folder"],
    "What comes first: random; error, what --workdir is probably most wrong about; folder, as in it. Default: random "
    "with --workdir, else folder.",
    flag_values=_FLAGS,
)
_PORTABLE = flags.DEFINE_string(
    "portable", None, "Write the page with its pictures into this one file, .html, for a rater elsewhere.",
    flag_values=_FLAGS,
)  # fmt: skip
_SIDE = flags.DEFINE_integer(
    "portable_side", 1024, "Longer side of a picture in that file, pixels.", 64, 8192, flag_values=_FLAGS
)
_BLINDED = flags.DEFINE_bool(
    "blinded", None, "Show neither labels nor predictions; by default to those who are not the first rater.",
    flag_values=_FLAGS,
)  # fmt: skip
_REPEAT = flags.DEFINE_float(
    "repeat", None, "Share of the pictures that come again, for the error within one rater; implies --blinded.", 0, 1,
    flag_values=_FLAGS,
)  # fmt: skip
_OF_THE_SERVER = ("rater", "port", "order", "repeat")  # flags
_paths: list[str] = []


def main() -> None:
    if len(_paths) != 1:
        raise UserError(f"expected one folder, found {len(_paths)}; --help shows examples")
    if _WORKDIR.value and _PREDICTIONS.value:
        raise UserError("--workdir and --predictions both propose points; give one of them")
    if _DOMAIN.value and not _WORKDIR.value:
        raise UserError("--domain is one of those of a run; add --workdir=RUN")
    if _ORDER.value == "error" and not _WORKDIR.value:
        raise UserError("--order=error asks a run; add --workdir=RUN")
    if _PORTABLE.value:
        for name in _OF_THE_SERVER:
            if _FLAGS[name].value != _FLAGS[name].default:
                raise UserError(f"--{name} is about the page of a server; leave it out with --portable")
        if _BLINDED.value is False:
            raise UserError("the labels of the folder are in no such file; leave out --noblinded with --portable")
        if _BLINDED.value and (_WORKDIR.value or _PREDICTIONS.value):
            raise UserError(
                "--workdir and --predictions put their points into the file; leave them out, and it is blinded"
            )
        _write(pathlib.Path(_paths[0]), pathlib.Path(_PORTABLE.value))
        return
    if _SIDE.value != _FLAGS["portable_side"].default:
        raise UserError("--portable_side is about the pictures in a file; add --portable=FILE.html")
    lacking = [name for name in ("starlette", "uvicorn") if not importlib.util.find_spec(name)]
    if lacking:
        raise UserError(f"the review page needs {' and '.join(lacking)}: pip install -e '.[review]'")
    _review(pathlib.Path(_paths[0]), _RATER.value)


def _review(root: pathlib.Path, rater: str) -> None:
    from ctd_jax.review import blinding, folder, journal, proposals, server, sorting
    from ctd_jax.review.answers import Answers

    path = journal.path_of(root, rater)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; expected one with pictures")
    private = path.with_name(f".{rater}")
    with lock.held(private):
        kept = journal.Journal(path)
        named = [name.strip() for name in _LANDMARKS.value]
        reviewed = folder.read(root, named, kept.entries, functools.partial(_known_names, root))
        workdir = pathlib.Path(_WORKDIR.value) if _WORKDIR.value else None
        proposed = proposals.Proposals(reviewed, _predict(reviewed))
        others = blinding.others(root, rater, reviewed)
        repeat = blinding.repeat_of(_REPEAT.value, kept.entries)
        is_blinded = blinding.is_blinded(_BLINDED.value, kept.entries, others, _REPEAT.value)
        said = blinding.said(is_blinded, others, proposes=bool(workdir or _PREDICTIONS.value))
        shown = blinding.shown(reviewed, rater, blinded=is_blinded, repeat=repeat)
        how = _ORDER.value or (sorting.RANDOM if workdir and not repeat else sorting.FOLDER)
        if repeat and how != sorting.FOLDER:
            raise UserError(
                f"--order={how} sorts pictures, and --repeat has an order of its own; leave out one of them"
            )
        listed = sorting.Sorting(reviewed, kept.entries, how, workdir, _DOMAIN.value)
        answers = Answers(reviewed, kept, rater, proposed, workdir, listed, shown)
        listed.start()
        try:
            with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it when it is interrupted, or just ends
                server.serve(answers, private / "address.json", _PORT.value, functools.partial(_ready, said))
            print(f"\nstopped; every edit is in {path}")
        finally:
            listed.stop()
            proposed.close()


def _write(root: pathlib.Path, out: pathlib.Path) -> None:
    from ctd_jax.review import folder, portable

    reviewed = folder.read(
        root, [name.strip() for name in _LANDMARKS.value], proposed=functools.partial(_known_names, root)
    )
    print(portable.write(reviewed, _predict(reviewed), out, _SIDE.value))


def _known_names(root: pathlib.Path) -> tuple[str, ...]:
    """The landmarks that another rater of the folder began with, else those that the points are proposed of."""
    from ctd_jax.review import journal, proposals

    entries = (entry for path in journal.paths(root) for entry in journal.read(path))
    if begun := next((entry["landmarks"] for entry in entries if entry["kind"] == "open"), None):
        return tuple(begun)
    if _WORKDIR.value:
        return proposals.names_of_run(pathlib.Path(_WORKDIR.value), _DOMAIN.value)
    return proposals.names_of_table(pathlib.Path(_PREDICTIONS.value)) if _PREDICTIONS.value else ()


def _predict(reviewed: "Reviewed") -> "Predict":
    from ctd_jax.review import proposals

    if _WORKDIR.value:
        return proposals.of_run(pathlib.Path(_WORKDIR.value), reviewed, _DOMAIN.value)
    if _PREDICTIONS.value:
        return proposals.of_table(pathlib.Path(_PREDICTIONS.value), reviewed)
    return proposals.nothing


def _ready(said: str, address: str) -> None:
    print(f"{address}\n{said}\nopen until Ctrl-C", flush=True)
    if _OPEN.value:
        webbrowser.open_new_tab(address)


if __name__ == "__main__":
    command.run(main, __doc__, _FLAGS, paths=_paths)
