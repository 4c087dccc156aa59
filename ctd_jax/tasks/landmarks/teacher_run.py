"""A teacher that knows the landmarks: the whole network of a finished landmark run."""

import pathlib

import numpy as np
from ml_collections import ConfigDict

from ctd_jax import data
from ctd_jax.config import config_of_run
from ctd_jax.errors import UserError
from ctd_jax.losses.terms import Terms
from ctd_jax.tasks.landmarks.trained import TrainedLandmarks
from ctd_jax.tasks.start_run import check_judged, trained_on
from ctd_jax.tasks.teacher import TeacherNetwork, missing_run
from ctd_jax.tasks.trained import Run, difference_of_names, warn_of_grey


def load_teacher_run(config: ConfigDict, pictures: data.SplitPictures) -> TeacherNetwork:
    """The best checkpoint of `config.teacher.run`.

    Raises:
      UserError: no such run, it is not finished or learned something else, its landmarks, its heatmaps or its
        pictures are not like the student's, or it was trained on people that the student is judged by.
    """
    run = pathlib.Path(config.teacher.run)
    if not run.is_dir():
        raise UserError(f"teacher.run: no such folder, {run}; {missing_run(config)}")
    of_run = config_of_run(run)
    if of_run.task != config.task:
        raise UserError(f"teacher.run: {run} learned {of_run.task}; give a run that learned {config.task}")
    if not (run / "report.html").exists():
        raise UserError(f"teacher.run: {run} is not finished; start its command again, which continues it")
    for key in ("image_size", "margin"):
        if of_run.data[key] != config.data[key]:
            raise UserError(
                f"teacher.run: data.{key} is {of_run.data[key]} in {run} and {config.data[key]} here; the teacher sees "
                "the student's pictures, so give both the same"
            )
    if of_run.model.sigma != config.model.sigma and (taught := Terms(config.constraints).of_heatmaps):
        raise UserError(
            f"teacher.run: model.sigma is {of_run.model.sigma} in {run} and {config.model.sigma} here; "
            f"constraints.{taught[0]} compares heatmaps, so give both the same, or set its weight to 0"
        )
    of_run.dtype = config.dtype
    finished = Run.read(run)
    network = TrainedLandmarks.read(finished, _domain(finished, config, pictures), of_run)
    boxes = bool(np.isfinite(pictures.everything.boxes).any())  # of few labels, none may have one
    seen = {True: "boxes in pictures", False: "whole pictures"}
    if network.boxes != boxes:
        raise UserError(
            f"teacher.run: {run} was trained on {seen[network.boxes]}, and here are {seen[boxes]}; the teacher sees "
            "the student's pictures, so give both boxes, or neither"
        )
    for ours in pictures.grey.values():
        warn_of_grey(f"teacher.run is {run}", network.grey, ours)
    if difference := difference_of_names(run, network.names, pictures.targets.landmarks.names):
        raise UserError(f"teacher.run: its landmarks are not those of the data; {difference}")
    _check_pictures(run, config, pictures)
    unlearned = np.flatnonzero(np.isin(network.names, network.never_annotated))
    return TeacherNetwork(network.model, network.input, network.variables, tuple(unlearned.tolist()))


def _domain(run: Run, config: ConfigDict, pictures: data.SplitPictures) -> str | None:
    """That of the student's pictures, or else one with its landmarks, or any; None: the run has no domains."""
    known = {name: one["landmarks"] for name, one in run.domains.items()}
    if not known:
        return None
    name, ours = _students(config.data), list(pictures.targets.landmarks.names)
    return name if name in known else next((name for name in known if known[name] == ours), next(iter(known)))


def _students(config: ConfigDict) -> str:
    """The domain of `config`, `data` of configs/default.py, that the student is judged by; "": it has no name."""
    if config.root == data.IN_PYTHON:
        return ""
    used = config.domains or data.LANDMARKS.domains(config, pathlib.Path())
    return next(name for name in used if name not in config.helping)


def _check_pictures(run: pathlib.Path, config: ConfigDict, pictures: data.SplitPictures) -> None:
    """Raises UserError if the run has learned from whom the student is judged by. Drawn people have numbers, not names:
    only their pictures tell whether they are the same."""
    learned, judging = trained_on(run), {"val", *pictures.splits_called(config.eval.split)}
    if not pictures.drawn:
        remedy = "give both the same data.split"
        check_judged(f"teacher.run is {run}", run, learned, pictures, judging=judging, remedy=remedy)
        return
    trained = {row[3] for row in learned}
    seen = [row[0] for row in pictures.rows() if row[2] in judging and row[3] in trained]
    if seen:
        raise UserError(
            f"teacher.run: {run} was trained on {len(seen)} pictures that this run is judged by (first: {seen[0]}); "
            "give both the same data.split"
        )
