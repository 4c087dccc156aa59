"""What a finished run offers: the one road from a workdir to a network that predicts."""

import abc
import dataclasses
import logging
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import numpy as np
from ml_collections import ConfigDict

from ctd_jax import data, models
from ctd_jax.config import config_of_run
from ctd_jax.data.grey_range import Grey
from ctd_jax.errors import UserError
from ctd_jax.tasks.writer import Writer
from ctd_jax.training import checkpoint
from ctd_jax.trust import Evidence
from ctd_jax.trust.evidence import read as read_evidence
from ctd_jax.typing import Batch, InputSpec, Tree, Variables

_log = logging.getLogger(__name__)
MAX_NAMES = 5  # in a message


@dataclasses.dataclass(frozen=True)
class Run:
    """What the best checkpoint of a run holds, for all of its domains.

    Attributes:
      workdir, config: of the run.
      variables: of its network, `params` and `batch_stats`.
      meta: what the task noted of it.
    """

    workdir: pathlib.Path
    config: ConfigDict
    variables: Variables
    meta: dict[str, Any]

    @classmethod
    def read(cls, workdir: pathlib.Path) -> "Run":
        """The run that lies in `workdir`, finished or not.

        Raises:
          UserError: there is none, or none of its checkpoints is whole.
        """
        config = config_of_run(workdir)
        return cls(workdir, config, *checkpoint.best(workdir))

    @property
    def domains(self) -> dict[str, dict[str, Any]]:
        """Domain -> what `meta` says of it; none: the run has one kind of pictures."""
        return {one["name"]: one for one in self.meta.get("domains") or []}

    def grey(self, domain: str | None) -> Grey:
        """The grey ranges of the domain's pictures of more than 8 bits."""
        return (self.meta.get("grey") or {}).get(domain or "", {})

    def chosen(self, domain: str | None) -> str | None:
        """`domain`, or the run's only one; None: the run has no domains.

        Raises:
          UserError: the run has no such domain, or several and none is named.
        """
        known = self.domains
        if not known and domain:
            raise UserError(f"{self.workdir}: this run has one kind of pictures; leave out --domain")
        if not known:
            return None
        if domain is None and len(known) == 1:
            return next(iter(known))
        if domain not in known:
            outputs = "classes" if "classes" in next(iter(known.values())) else "landmarks"
            found = f"there is no {domain!r}" if domain else f"each with {outputs} of its own"
            raise UserError(f"{self.workdir}: this run knows several domains, {found}; give --domain={'|'.join(known)}")
        return domain

    def evidence(self, domain: str | None, *, mirrored: bool) -> dict[str, Any]:
        """`evidence` and `lacks` of the network of a domain, see `Trained`.

        Args:
          domain: of those of the run; None: it has one kind of pictures.
          mirrored: whether the network averages what it says of a picture and of its mirror image.
        """
        found, lacks = read_evidence(self.workdir, checkpoint.digest(self.variables), domain)
        if found and found.mirrored != mirrored:
            seen = {True: "with mirror images averaged", False: "without mirror images"}
            lacks = f"{self.workdir} was evaluated {seen[found.mirrored]}, and is used {seen[mirrored]}"
            return {"evidence": None, "lacks": lacks}
        return {"evidence": found, "lacks": lacks}

    def variables_of(self, domain: str, columns: Sequence[int] | slice) -> Variables:
        """The variables of one domain's network, as those of a run of that domain alone.

        Args:
          domain: its name.
          columns: where its outputs stand in the last convolution, if all domains share that.
        """
        variables = models.domain_norm.alone(self.variables, domain, tuple(self.domains))
        decoder = variables["params"].get("decoder", {})
        if "final" not in decoder or self.config.domains.heads:
            return variables
        final = {key: leaf[..., columns] for key, leaf in decoder["final"].items()}
        return variables | {"params": variables["params"] | {"decoder": decoder | {"final": final}}}


@dataclasses.dataclass(frozen=True)
class Measuring:
    """What is measured on landmarks.

    Attributes:
      out: the csv file of measurements.
      definitions: a JSON file of them, or the name of one that comes along; None: those of the run.
      norms, people: csv files, see `norms.read`; None: there are none.
    """

    out: pathlib.Path
    definitions: str | None = None
    norms: pathlib.Path | None = None
    people: pathlib.Path | None = None


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a network says of n pictures.

    Attributes:
      outputs: of `Trained.look`, name -> `[n, ...]`.
      offset, scale: `[n, 2]` and `[n]`, of the pictures' frames, in pixels of the network's picture.
      size: side of the network's picture, pixels.
    """

    outputs: Mapping[str, np.ndarray]
    offset: np.ndarray
    scale: np.ndarray
    size: int

    @property
    def side(self) -> np.ndarray:
        """`[n]` side of the square that the network sees, in pixels of each picture."""
        return self.size / self.scale


@dataclasses.dataclass(frozen=True)
class Trained(abc.ABC):
    """One network for one kind of pictures; of a run of several domains, that of one of them. `averaged.as_one` makes
    one of several.

    Attributes:
      workdir: of the run.
      config: how the network is built.
      domain: of the run, if it has several.
      names: of what it finds: landmarks; or classes, the background first.
      model, variables: as trained.
      input: what pictures the network expects, see `models.normalize`.
      forward: `(variables, {"picture": [B, S, S, 3] uint8}) -> tuple of outputs`, variables as trained or of
        `models.fold`; an export has it.
      look: the same with what `read_off` needs beside: name -> array.
      boxes: whether it looks into a box of each picture.
      grey: the ranges of pictures of more than 8 bits.
      mirrored: whether `forward` averages what the network says of a picture and of its mirror image.
      networks: those that this is the average of; none: it is one network.
      evidence: what val showed of it; None: unknown.
      lacks: why it is unknown.
      absent: landmarks of which it says whether they are in the picture.
      never_annotated: landmarks that no training picture had, so that they are not predicted.
      what: what it finds, as a file of it is called.
      has_points: whether that has coordinates, which can be in mm.
    """

    workdir: pathlib.Path
    config: ConfigDict
    domain: str | None
    names: tuple[str, ...]
    model: nn.Module
    variables: Variables
    input: InputSpec
    forward: Callable[..., tuple[Any, ...]]
    look: Callable[..., Mapping[str, Any]]
    boxes: bool
    grey: Grey
    mirrored: bool
    networks: "tuple[Trained, ...]" = dataclasses.field(default=(), kw_only=True)
    evidence: Evidence | None = dataclasses.field(default=None, kw_only=True)
    lacks: str = dataclasses.field(default="", kw_only=True)
    absent: tuple[str, ...] = dataclasses.field(default=(), kw_only=True)
    never_annotated: tuple[str, ...] = dataclasses.field(default=(), kw_only=True)
    what: ClassVar[str]
    has_points: ClassVar[bool] = False

    def look_for(self, doubt: str | None) -> Callable[..., Mapping[str, Any]]:
        """`look` without the signs of doubt but for this one: a compiler leaves out what the others take."""
        needless = {"width", "mirror"} - {doubt}

        def look(variables: Variables, batch: Batch) -> Mapping[str, Any]:
            seen = self.look(variables, batch)
            return {name: value for name, value in seen.items() if name not in needless}

        return look

    def folded(self) -> Tree:
        """`variables` for prediction, see `models.fold`."""
        if self.networks:
            return [one.folded() for one in self.networks]
        return models.fold(self.model, self.variables, self.config.data.image_size)

    def unlike(self, seen: Sequence[Seen]) -> np.ndarray:
        """`[n]` scores of pictures unlike those of the training, see `trust.unlike`, the mean over the networks; NaN
        where that is unknown. `seen` as of `read_off`."""
        if not self.evidence or not self.evidence.unlike:
            return np.full(len(seen[0].scale), np.nan)
        return np.mean(
            [score(one.outputs["features"]) for score, one in zip(self.evidence.unlike, seen, strict=True)], axis=0
        )

    @abc.abstractmethod
    def read_off(self, seen: Sequence[Seen], pictures: Mapping[Any, tuple[int, int]]) -> Any:
        """What is found in n pictures, in their own pixels: a batch that `result` and `Writer.add` take.

        Args:
          seen: what this network says of them; or each of several, whose average is given.
          pictures: name -> width and height.
        """

    @abc.abstractmethod
    def to_json(self, found: Any) -> dict[str, Any]:
        """What `Writer.close` needs of a batch of `read_off`, with all digits, as JSON can hold it."""

    @abc.abstractmethod
    def of_json(self, images: Sequence[str], content: Mapping[str, Any]) -> Any:
        """The batch of `to_json`, as `Writer.close` takes it; `images` are its names."""

    @abc.abstractmethod
    def mean(self, outputs: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
        """The average of what several networks say of the same pictures of one size, inside a graph."""

    @abc.abstractmethod
    def result(self, images: Sequence[str], batches: Sequence[Any]) -> Any:
        """What a call of `Predictor` gives, from the batches of `read_off`."""

    @abc.abstractmethod
    def writer(self, out: pathlib.Path, overlays: pathlib.Path | None, measuring: Measuring | None) -> Writer:
        """What `predict` writes, after a check of where; `overlays` is a folder for the pictures with what was found
        drawn in.

        Raises:
          UserError: a place that can't be, or a table that this run has nothing for.
        """

    def label_files(self, out: pathlib.Path, formats: Sequence[str]) -> Writer:
        """What `predict --format` writes beside the table `out`, in formats of `ctd_jax.labels`.

        Raises:
          UserError: a format that is not known, or what is found has no points.
        """
        raise UserError(f"--format is for points, and {self.workdir} finds {self.what}; leave it out")

    @property
    @abc.abstractmethod
    def outputs(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Name of each of `forward`'s outputs -> shape without the batch, and unit."""

    @property
    @abc.abstractmethod
    def about(self) -> dict[str, Any]:
        """What a user of an export must know beside its inputs and outputs."""

    @abc.abstractmethod
    def differences(
        self,
        expected: tuple[np.ndarray, ...],
        exported: tuple[np.ndarray, ...],
        scale: np.ndarray,
        pictures: data.Dataset,
    ) -> dict[str, float]:
        """The largest differences of an export's outputs from the checkpoint's, and what is allowed, by their names in
        the report.

        Args:
          expected, exported: outputs for N pictures, `[N, ...]` each.
          scale: `[N]` of the pictures' frames.
          pictures: N.

        Raises:
          UserError: they are above what is allowed.
        """

    @staticmethod
    @abc.abstractmethod
    def largest_difference(report: Mapping[str, Any]) -> str:
        """The largest of `differences`, and what is allowed, in words."""


def difference_of_names(run: pathlib.Path, theirs: Sequence[str], ours: Sequence[str]) -> str:
    """How the landmarks or classes of a run differ from those of the data, in words; "": not at all."""
    if list(theirs) == list(ours):
        return ""
    only = {f"only in {run}": set(theirs) - set(ours), "only in the data": set(ours) - set(theirs)}
    differ = [
        f"{len(names)} {where} ({', '.join(sorted(names)[:MAX_NAMES])})" for where, names in only.items() if names
    ]
    return "; ".join(differ) or f"another order: {', '.join(theirs)} in {run}, {', '.join(ours)} in the data"


def warn_of_grey(title: str, theirs: Grey, ours: Grey) -> None:
    """Says where a run has seen pictures of more than 8 bits in another grey range.

    Args:
      title: the key that names the run, and the run.
      theirs, ours: the ranges of the run, and of the pictures here.
    """
    for kind, bounds in ours.items():
        if kind in theirs and tuple(theirs[kind]) != tuple(bounds):
            _log.warning(
                "%s, which learned with the grey range %g to %g of pictures of more than 8 bits, and sees %g to %g "
                "here: the same tissue is another grey to it", title, *theirs[kind], *bounds,
            )  # fmt: skip


def differs(how: str) -> UserError:
    """The error of an export that differs too much."""
    return UserError(
        f"the export differs from the checkpoint by {how}; nothing was written. This is a fault of the format's "
        "converter: try another --to, or other versions of it"
    )
