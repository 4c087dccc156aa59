"""A teacher that knows the landmarks: the whole network of a finished landmark run."""

import logging
import pathlib
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from ctd_jax import data, models, run_folder
from ctd_jax.data import splits
from ctd_jax.data.grey import Grey
from ctd_jax.errors import UserError
from ctd_jax.tasks import domains
from ctd_jax.tasks.teacher import Guide
from ctd_jax.training import checkpoint

_log = logging.getLogger(__name__)


def missing(config: ConfigDict) -> str:
    """How to get a run, for messages."""
    keys = [f"--config.data.{key}={config.data[key]}" for key in ("root", "split") if config.data[key]]
    make = " ".join([f"ctd-jax train --config=fsf_teacher:{config.variant}", *keys])
    return f"make one with `{make}`, then give --config.teacher.run=runs/fsf_teacher-{config.variant}"


def load(config: ConfigDict, source: data.Source) -> Guide:
    """The best checkpoint of `config.teacher.run`.

    Raises:
      UserError: no such run, it is not finished or learned something else, its landmarks or the size of its pictures
        are not the student's, or it was trained on pictures that the student is judged by.
    """
    run = pathlib.Path(config.teacher.run)
    if not run.is_dir():
        raise UserError(f"teacher.run: no such folder, {run}; {missing(config)}")
    of_run = run_folder.read_config(run)
    if of_run.task != "landmarks":
        raise UserError(f"teacher.run: {run} learned {of_run.task}; give a run that learned landmarks")
    if not (run / "report.html").exists():
        raise UserError(f"teacher.run: {run} is not finished; start its command again, which continues it")
    for key in ("image_size", "margin"):
        if of_run.data[key] != config.data[key]:
            raise UserError(
                f"teacher.run: data.{key} is {of_run.data[key]} in {run} and {config.data[key]} here; the teacher sees "
                "the student's pictures, so give both the same"
            )
    variables, meta = checkpoint.best(run)
    domain = _domain(meta, config, source) if meta.get("domains") else None
    variables, meta = domains.alone(run, variables, meta, domain)
    _warn_of_grey(run, (meta.get("grey") or {}).get(domain or "", {}), source)
    _check_landmarks(run, meta["landmarks"], source.landmarks.names)
    _check_pictures(run, config, source)
    network = models.build(
        of_run.model,
        encoder=meta["encoder"] | {"num_outputs": 0},
        num_landmarks=len(meta["landmarks"]),
        dtype=models.activation_dtype(config.dtype),
    )
    return Guide(network, meta["input"], variables)


def _domain(meta: dict[str, Any], config: ConfigDict, source: data.Source) -> str:
    """That of the student's folder, or else with the student's landmarks, or any."""
    known = {one["name"]: one["landmarks"] for one in meta["domains"]}
    folder, ours = pathlib.Path(config.data.root).name, list(source.landmarks.names)
    return folder if folder in known else next((name for name in known if known[name] == ours), next(iter(known)))


def _warn_of_grey(run: pathlib.Path, theirs: Grey, source: data.Source) -> None:
    for kind, ours in [item for one in source.grey.values() for item in one.items()]:
        if kind in theirs and tuple(theirs[kind]) != tuple(ours):
            _log.warning(
                "teacher.run: %s learned with the grey range %g to %g of pictures of more than 8 bits, and sees the "
                "student's, %g to %g: the same tissue is another grey to it", run, *theirs[kind], *ours,
            )  # fmt: skip


def _check_landmarks(run: pathlib.Path, theirs: Sequence[str], ours: Sequence[str]) -> None:
    if list(theirs) == list(ours):
        return
    only = {f"only in {run}": set(theirs) - set(ours), "only in the data": set(ours) - set(theirs)}
    differ = [f"{len(names)} {where} ({', '.join(sorted(names)[:5])})" for where, names in only.items() if names]
    differ = differ or [f"another order: {', '.join(theirs)} in {run}, {', '.join(ours)} in the data"]
    raise UserError(f"teacher.run: its landmarks are not those of the data; {'; '.join(differ)}")


def _check_pictures(run: pathlib.Path, config: ConfigDict, source: data.Source) -> None:
    trained = {row[3] for row in splits.read(run / "split.csv") if row[2] == "train"}
    judging = {"val", *source.covered(config.eval.split)}
    seen = [row[0] for row in source.rows() if row[2] in judging and row[3] in trained]
    if seen:
        raise UserError(
            f"teacher.run: {run} was trained on {len(seen)} pictures that this run is judged by (first: {seen[0]}); "
            "give both the same data.split"
        )
