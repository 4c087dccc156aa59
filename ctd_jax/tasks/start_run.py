"""A training that goes on from another run: with all of its network, and knowing which pictures that has learned."""

import dataclasses
import logging
import pathlib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from ctd_jax import data, files
from ctd_jax.config import NETWORK_KEYS, config_hash, config_of_run, flatten, written
from ctd_jax.data import splits, tables
from ctd_jax.errors import UserError
from ctd_jax.losses.terms import Terms
from ctd_jax.tasks.trained import Run, difference_of_names, warn_of_grey
from ctd_jax.training import checkpoint
from ctd_jax.typing import EncoderSpec, InputSpec, Variables

_log = logging.getLogger(__name__)
FILE = "start.json"  # of a run that went on from another
HEADS = ("adapters", "coordinates", "presence")  # of the parameters, those that only one of two networks may have
OF_DOMAINS = ("domains.norm", "domains.heads")
ARRAY = re.compile(r"array \d+")  # the name of a picture that was given as one, see `data.from_lists`
REMEDY = "give these the split train, where they were; `ctd-jax labels from-review --workdir` keeps splits"


@dataclasses.dataclass(frozen=True)
class StartRun:
    """The network that a training starts from.

    Attributes:
      workdir: of its run.
      variables: of its best checkpoint, see `step.averaged`, with those that only training needs.
      noted: what `FILE` says, see `note`.
      meta: of its checkpoint.
    """

    workdir: pathlib.Path
    variables: Variables
    noted: dict[str, Any]
    meta: dict[str, Any]

    @classmethod
    def read(
        cls,
        config: ConfigDict,
        outputs: Mapping[str, Sequence[str]],
        encoder: EncoderSpec,
        input_spec: InputSpec,
        pictures: data.SplitPictures,
    ) -> "StartRun":
        """The network of `model.start`, from a run that is finished or was interrupted.

        Args:
          config: of the run that starts from it.
          outputs: domain, "" where there are none -> names of the landmarks or classes.
          encoder, input_spec: of its teacher.
          pictures: its pictures.

        Raises:
          UserError: there is no such run, or no checkpoint of it; it has another network, or finds something else; or
            it has learned from subjects whose pictures this one is judged by.
        """
        workdir = pathlib.Path(config.model.start)
        title = f"model.start is {workdir}"
        if config.domains.start:
            raise UserError(f"{title}, and domains.start {config.domains.start}; give one of them")
        of_run = config_of_run(workdir)
        if of_run.task != config.task:
            raise UserError(f"{title}, which learned {of_run.task}; give a run that learned {config.task}")
        run = Run(workdir, of_run, *checkpoint.best_of_training(workdir))
        _check_outputs(title, run, outputs)
        _check_network(title, run, config, encoder, input_spec, several=len(outputs) > 1)
        noted = note(title, run, pictures)
        for domain, ours in pictures.grey.items():
            warn_of_grey(title, run.grey(domain or None), ours)
        _warn_of_boxes(title, run, pictures)
        return cls(workdir, run.variables, noted, run.meta)

    def into(self, variables: Variables) -> Variables:
        """`variables` before the first step, with those of the run in their places. One of `HEADS` starts anew where
        the run has none like it, which is said.

        Raises:
          UserError: the network is another.
        """
        ours, theirs = flatten_dict(variables), flatten_dict(self.variables)
        differ = [path for path in ours.keys() | theirs.keys() if _shape(ours, path) != _shape(theirs, path)]
        foreign = sorted(path for path in differ if path[1] not in HEADS)
        if foreign:
            raise UserError(
                f"model.start is {self.workdir}, whose network is another: {'/'.join(foreign[0])} and "
                f"{len(foreign) - 1} more do not fit; give the model keys of that run"
            )
        params = {}
        for name, tree in variables["params"].items():
            known = self.variables["params"].get(name)
            if jax.tree.map(np.shape, known) == jax.tree.map(np.shape, tree):
                params[name] = known
            else:
                _log.warning("model.start: %s has no head `%s` like this one's; it starts anew", self.workdir, name)
                params[name] = tree
        return {"params": params, "batch_stats": self.variables["batch_stats"]}


def note(title: str, run: Run, pictures: data.SplitPictures) -> dict[str, Any]:
    """What `FILE` says: `run`, its folder; `config_hash`; `network`, the digest of its variables; `trained_on`, see the
    function of that name.

    Args:
      title: the key that names the run, and the run.
      run: it.
      pictures: those of the run that goes on from it.

    Raises:
      UserError: it has learned from subjects whose pictures this one is judged by; a file of it is missing or damaged.
    """
    learned = trained_on(run.workdir)
    check_judged(title, run.workdir, learned, pictures)
    return {
        "run": str(run.workdir),
        "config_hash": config_hash(run.config),
        "network": checkpoint.digest(run.variables),
        "trained_on": learned,
    }


def split_rows(workdir: pathlib.Path) -> list[Sequence[str]]:
    """Those of split.csv, and `trained_on`; a warning says where that is not known, or can't be told in files.

    Raises:
      UserError: split.csv is missing or damaged.
    """
    rows: list[Sequence[str]] = [*splits.read(workdir / "split.csv")]
    try:
        rows += trained_on(workdir)
    except UserError as error:
        _log.warning("whom %s has learned from before is not known: %s", workdir, error)
    if has_arrays(rows):
        _log.warning("%s: pictures given as arrays can't be told again as files; only subjects are compared", workdir)
    return rows


def trained_on(workdir: pathlib.Path) -> list[list[str]]:
    """Rows of a split.csv: the pictures that the network of a run has learned from, with labels or without, in this run
    or in those before it that it went on from; and those of the run that taught it, if that is still there.

    Raises:
      UserError: a file of the run is missing or damaged.
    """
    config = config_of_run(workdir)
    used = ("train", splits.UNLABELLED) if config.data.unlabelled else ("train",)
    rows = [list(row) for row in splits.read(workdir / "split.csv") if row[2] in used]
    before: list[list[str]] = []
    if config.domains.start and not (workdir / FILE).exists():  # of an older version, which wrote none then
        before = trained_on(pathlib.Path(config.domains.start))
    elif config.model.start or config.domains.start:
        before = files.read_json(workdir / FILE, "restore it, or start from another run")["trained_on"]
    if config.teacher.run and Terms(config.constraints).of_teacher:
        before = [*before, *_trained_on_by_teacher(workdir, pathlib.Path(config.teacher.run))]
    return [list(row) for row in dict.fromkeys(map(tuple, [*rows, *before]))]


def _trained_on_by_teacher(workdir: pathlib.Path, teacher: pathlib.Path) -> list[list[str]]:
    if (teacher / "split.csv").exists():
        return trained_on(teacher)
    _log.warning("%s was taught by %s, which is not there: whom that has learned from is not known", workdir, teacher)
    return []


def _shape(leaves: Mapping[tuple[str, ...], Any], path: tuple[str, ...]) -> tuple[int, ...] | None:
    return np.shape(leaves[path]) if path in leaves else None


def _check_outputs(title: str, run: Run, ours: Mapping[str, Sequence[str]]) -> None:
    """Raises UserError if the run finds something else, or in another order."""
    theirs = {name: one.get("classes") or one["landmarks"] for name, one in run.domains.items()}
    theirs = theirs or {"": run.meta["landmarks"]}
    if list(theirs) != list(ours):
        found, expected = (tables.listed([name for name in names if name]) or "none" for names in (theirs, ours))
        raise UserError(
            f"{title}, whose domains are {found}, and here they are {expected}; expected the same in the same order "
            "(domains.start goes on from a run with further ones)"
        )
    for domain, names in ours.items():
        where = f" of {domain}" if domain else ""
        if difference := difference_of_names(run.workdir, theirs[domain], names):
            raise UserError(
                f"{title}, whose landmarks or classes{where} are not those of the data: {difference}; expected the "
                "same in the same order"
            )


def _check_network(
    title: str, run: Run, config: ConfigDict, encoder: EncoderSpec, input_spec: InputSpec, *, several: bool
) -> None:
    """Raises UserError if a key makes another network than the run's."""
    before, now = flatten(run.config), flatten(config)
    network = before["model.network"]
    keys = ("model.network", *NETWORK_KEYS[network], *(OF_DOMAINS if several else ()))
    for key in keys:
        if before[key] != now[key]:
            raise UserError(
                f"{title}, where {key} is {before[key]!r}, and here it is {now[key]!r}; give "
                f"--config.{key}={written(before[key])}"
            )
    facts = {"input": (run.meta["input"], input_spec)}
    if network == "encoder_decoder":
        facts["encoder"] = (_without_head(run.meta["encoder"]), _without_head(encoder))
    for name, (theirs, mine) in facts.items():
        if theirs != mine:
            raise UserError(
                f"{title}, whose {name} is {theirs}, and here it is {mine}; give "
                f"--config.teacher.weights={before['teacher.weights']} and "
                f"--config.model.encoder={before['model.encoder']}"
            )


def _warn_of_boxes(title: str, run: Run, pictures: data.SplitPictures) -> None:
    """Says where one of the two is trained on what is in boxes, and the other on whole pictures."""
    boxes = bool(np.isfinite(pictures.everything.boxes).any())
    if run.meta.get("boxes", boxes) != boxes:
        seen = {True: "boxes in pictures", False: "whole pictures"}
        _log.warning(
            "%s, which was trained on %s, and sees %s here: what it looks for is of another size to it",
            title, seen[not boxes], seen[boxes],
        )  # fmt: skip


def _without_head(encoder: EncoderSpec) -> dict[str, Any]:
    return {key: value for key, value in encoder.items() if key != "num_outputs"}


def check_judged(
    title: str,
    workdir: pathlib.Path,
    learned: Sequence[Sequence[str]],
    pictures: data.SplitPictures,
    *,
    judging: Collection[str] | None = None,
    remedy: str = "",
) -> None:
    """Raises UserError if a run has learned from a picture of val or test, or from another of its subject; the latter
    not, where the run was judged by the same picture, so that its knowledge flatters nothing. If the run has learned
    several domains, and the pictures have none, subjects are compared without theirs. A warning says where pictures
    can't be told, because they were arrays.

    Args:
      title: the key that names the run, and the run.
      workdir: of the run.
      learned: its `trained_on`.
      pictures: those of the run that learns from it.
      judging: the splits that it is judged by; None: all but train.
      remedy: what to do; "": for a run that goes on from it.
    """
    hashes, subjects = {row[3] for row in learned}, {splits.plainest(row[1]) for row in learned if _is_told(*row[:2])}
    if not pictures.parts:
        subjects |= _without_domain(learned, set(pictures.sha256))
    judged_there = {
        row[3] for row in splits.read(workdir / "split.csv") if row[2] == "val" or row[2].startswith("test")
    }
    judging = {name for name in pictures.names if name != "train"} if judging is None else judging
    rows = [row for row in pictures.rows() if row[2] in judging]
    seen = [
        row for row in rows if row[3] in hashes or (splits.plainest(row[1]) in subjects and row[3] not in judged_there)
    ]
    if seen:
        names = tables.listed(sorted({row[1] for row in seen}))
        raise UserError(
            f"{title}, which was trained on {len(seen)} of the {len(rows)} pictures of val and test, or on others of "
            f"their subjects: {names}; expected nobody whom it knows: {remedy or REMEDY} (people who only share a name "
            "need other names)"
        )
    if has_arrays([*learned, *rows]) and any(row[3] not in judged_there for row in rows):
        _log.warning("%s: pictures given as arrays can't be told again as files, or as arrays of another type; then "
                     "only subjects are compared", title)  # fmt: skip


def warn_of_known(weights: str, pictures: data.SplitPictures) -> None:
    """Says where a run of recognition, which has the file `weights` in its folder, learned who somebody is by whose
    pictures this one is judged."""
    file = pathlib.Path(weights)
    run = file.parent
    if pictures.drawn or not (file.is_file() and (run / "config.json").exists() and (run / "split.csv").exists()):
        return
    try:
        if config_of_run(run).task != "recognition":
            return
        learned = trained_on(run)
    except UserError as error:
        _log.warning("whom teacher.weights, %s, has learned from is not known: %s", weights, error)
        return
    for part in pictures.parts.values() or [pictures]:
        try:
            check_judged(f"teacher.weights is {weights}", run, learned, part, remedy="give both one data.split")
        except UserError as error:
            _log.warning("%s", error)


def has_arrays(rows: Sequence[Sequence[str]]) -> bool:
    """Whether some of these pictures were given as arrays."""
    return any(ARRAY.fullmatch(row[0]) for row in rows)


def _without_domain(learned: Sequence[Sequence[str]], here: set[str]) -> set[str]:
    """`splits.plainest` names of the people of several domains, without these: of the domains that have pictures here,
    or, if none has, of all. A picture of nobody known has its own name as that of its subject, which tells nothing.

    Args:
      learned: `trained_on` of a run.
      here: digests of the pictures of another, which has no domains.
    """
    domains = {_domain(row[0]) for row in learned if row[3] in here}
    return {
        splits.plainest(subject.removeprefix(f"{_domain(image)}/"))
        for image, subject, *_ in learned
        if _is_told(image, subject) and (not domains or _domain(image) in domains)
    }


def _is_told(image: str, subject: str) -> bool:
    """Whether somebody has said who is on a picture. Else its subject is its own name, which of one with a class map
    comes after that of its domain."""
    return subject != image and not subject.endswith(f"/{image}")


def _domain(image: str) -> str:
    return image.partition("/")[0]
