"""Training from Python, as a notebook does it: the same run that the command makes.

import ctd_jax

pictures = ctd_jax.LabelledPictures(["anna.png", "ben.png", ...], points, names=["left_eye", "right_eye"])
result = ctd_jax.train("ctd_ed", "runs/eyes", data=pictures)
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ctd_jax import files, tasks, training_run
from ctd_jax.config import check_config, check_keys, expand_paths, load_config
from ctd_jax.data import IN_PYTHON, LANDMARKS, from_lists
from ctd_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class LabelledPictures:
    """N pictures with K landmarks, as lists and arrays; what is wrong with them is found when training starts.

    Attributes:
      pictures: N paths, or arrays `[H, W]` or `[H, W, 3]` of whole numbers or fractions, in any mix of sizes.
      points: `[N, K, 2]` x and y in pixels of each picture, (0, 0) the centre of its top-left pixel; NaN, or masked,
        of a landmark that is not annotated.
      names: of the K landmarks.
      subjects: who or what each picture is of; None: each is of another.
      splits: train, val, test or test1, test2, ... of each; other words: it takes no part. None: whole subjects are
        chosen at random, by `data.seed`.
      spacing: `[N, 2]` mm per pixel along x and y, NaN where unknown; `[2]`: of all pictures.
      boxes: `[N, 4]` x0, y0, x1, y1 in pixels of each picture: what the network looks into, with `data.margin` around.
      flip_pairs: pairs of landmarks that change places in a mirror image; None: pictures are never mirrored.
      normalizer: two landmarks; errors are divided by their distance.
      measurements: name -> two or three landmarks, or {"ratio": two measurements}; see docs/data.md.
      success_radii_mm: mm; shares of the landmarks that are nearer are given, where `spacing` is known. None: 2, 2.5, 3
        and 4.
    """

    pictures: Sequence[str | os.PathLike[str] | np.ndarray] | np.ndarray
    points: Any
    names: Sequence[str]
    subjects: Sequence[Any] | None = None
    splits: Sequence[str] | None = None
    spacing: Any = None
    boxes: Any = None
    flip_pairs: Sequence[Sequence[str]] | None = None
    normalizer: Sequence[str] | None = None
    measurements: Mapping[str, Any] | None = None
    success_radii_mm: Sequence[float] | None = None


def train(
    config: str | os.PathLike[str] | ConfigDict,
    workdir: str | os.PathLike[str],
    data: str | os.PathLike[str] | LabelledPictures | None = None,
    *,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Trains, evaluates and reports, as `ctd-jax train` does; called again, it continues, or finds the run finished.

    Args:
      config: the name of a configuration, "ctd_ed" or "ctd_ed:paper", the path of one, or a configuration.
      workdir: folder for what the run leaves behind; ~ is the home folder here and in every path.
      data: a folder, or pictures with landmarks; None: what the configuration names.
      overrides: key -> value, as --config.KEY=VALUE has them: {"train.steps": 400}.

    Returns:
      The content of metrics.json.

    Raises:
      UserError: something that the user can mend, found before the first step; a run, finished or not, that began with
        other pictures or points; or numbers that are not finite.
    """
    if not isinstance(overrides, Mapping | None):
        raise UserError(
            f'overrides is a {type(overrides).__name__}; expected key -> value, such as {{"train.steps": 400}}'
        )
    if data is not None and "data.root" in (overrides or {}):
        raise UserError("data and overrides both say where the pictures are (data.root); give one of them")
    changes = [f"{key}={value}" for key, value in (overrides or {}).items()]
    if isinstance(config, ConfigDict):
        if changes:
            raise UserError("overrides are for a configuration that is named; change the keys of this one")
        check_keys(config)
        made = ConfigDict(config.to_dict())
    else:
        made = load_config(os.fspath(config), changes)
    if isinstance(data, LabelledPictures):
        made.data.root = IN_PYTHON
    elif isinstance(data, str | os.PathLike):
        made.data.root = os.fspath(data)
    elif data is not None:
        raise UserError(f"data is a {type(data).__name__}; expected a folder, or ctd_jax.LabelledPictures")
    expand_paths(made)
    check_config(made)
    pictures = None
    if isinstance(data, LabelledPictures):
        if tasks.of(made).targets is not LANDMARKS:
            raise UserError(f"LabelledPictures have landmarks, and {made.name} learns {made.task}; give a folder")
        fields = {field.name: getattr(data, field.name) for field in dataclasses.fields(data)}
        pictures = from_lists(made.data, **fields)
    place = pathlib.Path(files.path_of("workdir", os.fspath(workdir)))
    return training_run.train_and_evaluate(made, place, pictures=pictures)
