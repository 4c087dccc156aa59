"""What a finished run has learned: the one road from a workdir to a network that predicts."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from ctd_jax import run_folder
from ctd_jax.data.grey import Grey
from ctd_jax.errors import UserError
from ctd_jax.tasks import domains, landmarks, segmentation
from ctd_jax.training import checkpoint


@dataclasses.dataclass(frozen=True)
class Trained:
    """One network for one kind of pictures; of a run of several domains, that of one of them.

    Attributes:
      workdir, config: of the run.
      kind: "landmarks" or "class_maps", what it finds.
      names: of the landmarks; or of the classes, the background first.
      model, variables: as trained.
      forward: `(variables, {"picture": [B, S, S, 3] uint8})`, variables as trained or of `models.fold`, ->
        landmarks: `([B, K, 2] x and y in pixels of the network's picture, [B, K] confidence)`;
        class maps: `[B, S, S, M]` probabilities.
      boxes: whether it looks into a box of each picture.
      grey: the ranges of pictures of more than 8 bits.
    """

    workdir: pathlib.Path
    config: ConfigDict
    kind: str
    names: tuple[str, ...]
    model: Any
    variables: dict[str, Any]
    forward: Callable
    boxes: bool
    grey: Grey

    @classmethod
    def read(cls, workdir: pathlib.Path, domain: str | None = None, config: ConfigDict | None = None) -> "Trained":
        """The best checkpoint of a run.

        Args:
          workdir: of the run.
          domain: which of its domains; None: it has one kind of pictures.
          config: how its network is built; None: as it was trained.

        Raises:
          UserError: no run, one without a whole checkpoint, one that learned something else, or no such domain.
        """
        config = config or run_folder.read_config(workdir)
        check_task(workdir, config)
        return _READERS[config.task](workdir, config, domain)


def check_task(workdir: pathlib.Path, config: ConfigDict) -> None:
    """Raises UserError if a run of this configuration is none that predicts."""
    if config.task not in _READERS:
        raise UserError(f"{workdir}: this run learned {config.task}; give one that learned {' or '.join(_READERS)}")


def _landmarks(workdir: pathlib.Path, config: ConfigDict, domain: str | None) -> Trained:
    variables, meta = domains.alone(workdir, *checkpoint.best(workdir), domain)
    names = tuple(meta["landmarks"])
    model = landmarks.build(config, meta["encoder"], len(names))
    forward = landmarks.forward(model, meta["input"])
    grey = (meta.get("grey") or {}).get(domain or "", {})
    return Trained(workdir, config, "landmarks", names, model, variables, forward, meta["boxes"], grey)


def _class_maps(workdir: pathlib.Path, config: ConfigDict, domain: str | None) -> Trained:
    one = segmentation.Alone.of(workdir, config, domain)
    return Trained(workdir, config, "class_maps", one.classes, one.model, one.variables, one.forward, False, one.grey)


_READERS = {"landmarks": _landmarks, "segmentation": _class_maps}
