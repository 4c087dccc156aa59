"""A network that finds landmarks: what it says of pictures, and what an export has."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ctd_jax import data, metrics, trust
from ctd_jax.data import norms
from ctd_jax.errors import UserError
from ctd_jax.metrics import Predictions
from ctd_jax.tasks import trained
from ctd_jax.tasks.landmarks import presence, written
from ctd_jax.tasks.landmarks.label_files import LabelFiles
from ctd_jax.tasks.landmarks.network import build, flip_order_of, look
from ctd_jax.tasks.trained import Run, Seen
from ctd_jax.typing import Batch, Variables

T = TypeVar("T", bound=Any)  # an array of NumPy or of JAX
Look = Callable[..., Mapping[str, Array]]  # see `network.look`
TOLERANCE = 0.05  # pixels, of the original picture and of the network's
PROBABILITY_TOLERANCE = 0.001
UNKNOWN = -1.0  # in an export: a radius, a probability, x and y
MIN_PEAK = 1e-3  # of a heatmap
KEPT = ("xy", "confidence", "spread_px", "radius_px", "unlike", "present")  # of `Predictions` of new pictures


@dataclasses.dataclass(frozen=True)
class FoundLandmarks:
    """The landmarks of N pictures.

    Attributes:
      images: their names: paths, and `array 0`, `array 1`, ... of arrays.
      names: of the K landmarks.
      xy: `[N, K, 2]` x and y in pixels of each picture, (0, 0) the centre of its top-left pixel.
      confidence: `[N, K]` height of the heatmap's peak, 0 to 1.
      spread: `[N, K]` root mean square distance of the points of several networks from their mean, which is `xy`, in
        pixels of each picture; None: `xy` is of one network.
      radius: `[N, K]` of the circle about `xy` that holds the true point with 90 % probability, in pixels of each
        picture, if it is like those of val; NaN where the run can't tell (the log says why).
      unlike: `[N]` above 1: the picture is unlike those that the run was trained on, and `radius` may not hold; NaN
        where unknown.
      spacing: `[N, 2]` mm of a pixel along x and y, NaN where unknown; None: it was not given.
      at_detector: these are mm at the detector, where everything is larger than in the patient.
      present: `[N, K]` probability that the landmark is in the picture, NaN where the run's data don't say that it may
        be absent; None: of none they do. `xy` is where it is, or would be.
    """

    images: tuple[str, ...]
    names: tuple[str, ...]
    xy: np.ndarray
    confidence: np.ndarray
    spread: np.ndarray | None
    radius: np.ndarray
    unlike: np.ndarray
    spacing: np.ndarray | None = None
    at_detector: bool = False
    present: np.ndarray | None = None

    @property
    def xy_mm(self) -> np.ndarray:
        """`[N, K, 2]` x and y in mm, NaN where the spacing is unknown."""
        return self.xy * (np.nan if self.spacing is None else self.spacing[:, None])

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes the table that `ctd-jax predict --out` does.

        Raises:
          UserError: `path` does not end in .csv, or can't be written.
        """
        if pathlib.Path(path).suffix.lower() != ".csv":
            raise UserError(f"{path} does not end in .csv, and no other kind of table is written; name it so")
        table = Predictions.from_points(
            self.images, [""] * len(self.images), self.names, self.xy,
            confidence=self.confidence, spread_px=self.spread, radius_px=self.radius, unlike=self.unlike,
            present=self.present,
        )  # fmt: skip
        try:
            metrics.write_predictions(path, table, self.spacing, at_detector=self.at_detector)
        except OSError as error:
            raise UserError(f"{path}: the table can't be written there ({error.strerror})") from error


def doubts_of(outputs: Mapping[str, T], size: int) -> dict[str, T]:
    """What may tell how far off the points of n pictures are, name -> `[n, K]`: one over the height of the heatmap's
    peak; as parts of the side, the heatmap's width, and how far apart the points of a picture and of its mirror image
    are.

    Args:
      outputs: of `network.look`, of NumPy or of JAX.
      size: side of the network's picture, pixels.
    """
    lengths = {name: outputs[name] / size for name in ("width", "mirror") if name in outputs}
    return {"peak": 1 / outputs["confidence"].clip(MIN_PEAK)} | lengths


def may_be_absent(known: data.Landmarks) -> np.ndarray:
    """`[K]` whether dataset.json says of a landmark that it may be absent."""
    return np.isin(known.names, known.absent)


def with_radius(body: Look, radius: trust.Radius, size: int) -> Look:
    """`body` with `radius`, `[B, K]` in pixels of the network's picture, `UNKNOWN` where val can't tell."""
    factors = jnp.asarray(np.nan_to_num(size * radius.factors(), nan=UNKNOWN), jnp.float32)

    def look(variables: Variables, batch: Batch) -> dict[str, Array]:
        seen = body(variables, batch)
        found = factors + 0 * seen["confidence"]  # a constant would have no number of pictures in ONNX
        if radius.doubt:
            scale, doubt = radius.scale, doubts_of(seen, size)[radius.doubt]
            growth = jnp.exp(scale.slope * jnp.log(doubt.clip(scale.low, scale.high)))
            found = jnp.where(factors < 0, found, found * growth)
        return {**seen, "radius": found}

    return look


def with_presence(body: Look, may_be_absent: np.ndarray, temperature: float | None) -> Look:
    """`body` with `present`, `[B, K]` probability that each landmark is there, `UNKNOWN` where it may not be absent, in
    place of its logits.

    Args:
      body: of a network with a head of presence.
      may_be_absent: `[K]`.
      temperature: see `trust.temperature`.
    """

    def look(variables: Variables, batch: Batch) -> dict[str, Array]:
        seen = dict(body(variables, batch))
        present = 1 / (1 + jnp.exp(seen.pop("presence") * (-1 / (temperature or 1.0))))
        return seen | {"present": jnp.where(may_be_absent, present, UNKNOWN)}

    return look


def _of_columns(body: Look, first: int, end: int) -> Look:
    """`body` of a network without an encoder, for the landmarks from `first` to before `end`."""

    def look(variables: Variables, batch: Batch) -> dict[str, Array]:
        return {name: lax.slice_in_dim(seen, first, end, axis=1) for name, seen in body(variables, batch).items()}

    return look


def _exported(body: Look, names: Sequence[str], learned: np.ndarray) -> Callable[..., tuple[Array, ...]]:
    """What an export has: these outputs of `body`, where `learned`, `[K]`, is false `UNKNOWN`, and a confidence of
    0."""

    def forward(variables: Variables, batch: Batch) -> tuple[Array, ...]:
        seen = body(variables, batch)
        if learned.all():
            return tuple(seen[name] for name in names)
        nothing = dict.fromkeys(names, UNKNOWN) | {"confidence": 0.0}
        return tuple(
            jnp.where(learned[:, None] if name == "xy" else learned, seen[name], nothing[name]) for name in names
        )

    return forward


def mean_of_points(points: Sequence[T]) -> tuple[T, T]:
    """The mean of several points, each `[..., 2]`, and the mean square of their distances from it, `[...]`."""
    mean = sum(points[1:], points[0]) / len(points)
    apart = [xy - mean for xy in points]
    return mean, sum((xy * xy).sum(-1) for xy in apart) / len(points)


def original_xy(points: np.ndarray, offset: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """`[N, K, 2]` pixels of the network's pictures -> pixels of the original ones; frames as `inference.apply` has
    them."""
    return (points.astype(np.float64) - offset[:, None]) / scale[:, None, None]


class TrainedLandmarks(trained.Trained):
    """`forward` gives `[B, K, 2]` x and y in pixels of the network's picture, `[B, K]` confidence, where val can tell,
    `[B, K]` radii, and where the run learned it, `[B, K]` probabilities that landmarks are there."""

    what = "landmarks"
    has_points = True

    @classmethod
    def read(cls, run: Run, domain: str | None, config: Any) -> "TrainedLandmarks":
        """The network of a run, or of one of its domains; see `Task.trained`."""
        meta, variables = run.meta, run.variables
        domain = run.chosen(domain)
        absent, never = (tuple(meta.get(key) or ()) for key in ("absent", "never_annotated"))
        names, pairs, boxes = tuple(meta["landmarks"]), meta.get("flip_pairs"), meta["boxes"]
        of_all, ends = data.Landmarks(names, pairs), (0, len(names))
        if domain:
            facts = run.domains[domain]
            first = names.index(f"{domain}/{facts['landmarks'][0]}")
            ends = first, first + len(facts["landmarks"])
            variables = run.variables_of(domain, slice(*ends))
            names, pairs, boxes = tuple(facts["landmarks"]), facts["flip_pairs"], facts["boxes"]
            absent, never = (tuple(name for name in names if f"{domain}/{name}" in those) for those in (absent, never))
        order = flip_order_of(config, data.Landmarks(names, pairs))
        is_whole = config.model.network == "hourglass"  # each of its stacks reads the heatmaps of all domains
        if is_whole and order is not None:
            order = flip_order_of(config, of_all)
        model = build(config, meta["encoder"], len(of_all.names if is_whole else names))
        made_of, mirrored = (model, meta["input"], order), order is not None
        known = run.evidence(domain, mirrored=mirrored)
        body: Look = look(*made_of)
        seen_by_export: Look = look(*made_of, doubts=False)
        if is_whole:
            body, seen_by_export = (_of_columns(one, *ends) for one in (body, seen_by_export))
        evidence, outputs = known["evidence"], ["xy", "confidence"]
        if evidence and np.isfinite(evidence.radius.factors()).any():
            outputs, seen_by_export = [*outputs, "radius"], with_radius(body, evidence.radius, config.data.image_size)
        absent = absent if presence.NAME in variables["params"] else ()  # presence.weight was 0
        if absent:
            temperature = evidence.temperature if evidence else None
            body, seen_by_export = (
                with_presence(one, np.isin(names, absent), temperature) for one in (body, seen_by_export)
            )
            outputs.append("present")
        return cls(
            run.workdir, config, domain, names, model, variables, meta["input"],
            _exported(seen_by_export, outputs, ~np.isin(names, never)), body, boxes, run.grey(domain), mirrored,
            **known, absent=absent, never_annotated=never,
        )  # fmt: skip

    def read_off(self, seen: Sequence[Seen], pictures: Mapping[Any, tuple[int, int]]) -> Predictions:
        points = [original_xy(one.outputs["xy"], one.offset, one.scale) for one in seen]
        xy, square = mean_of_points(points)
        side = seen[0].side
        radius = np.full(xy.shape[:2], np.nan)
        if self.evidence:
            doubts, _ = trust.average(
                [doubts_of(one.outputs, one.size) for one in seen], [one / side[:, None, None] for one in points]
            )
            radius = self.evidence.radius(doubts, len(xy)) * side[:, None]
        present = None
        if self.absent:
            probability = np.mean([one.outputs["present"] for one in seen], axis=0, dtype=np.float64)
            present = np.where(probability < 0, np.nan, probability)
        return Predictions.from_points(
            tuple(map(str, pictures)), [""] * len(xy), self.names, xy,
            confidence=np.mean([one.outputs["confidence"] for one in seen], axis=0),
            spread_px=np.sqrt(square) if len(seen) > 1 else None, radius_px=radius, unlike=self.unlike(seen),
            present=present,
        ).masked(~np.isin(self.names, self.never_annotated))  # fmt: skip

    def to_json(self, found: Predictions) -> dict[str, Any]:
        return {name: getattr(found, name).tolist() for name in KEPT}

    def of_json(self, images: Sequence[str], content: Mapping[str, Any]) -> Predictions:
        kept: dict[str, Any] = {name: np.array(content[name], np.float64) for name in KEPT}
        return Predictions.from_points(images, [""] * len(images), self.names, **kept)

    def mean(self, outputs: Sequence[tuple[Array, ...]]) -> tuple[Array, ...]:
        xy, square = mean_of_points([points for points, *_ in outputs])
        confidence: Any = sum(one for _, one, *_ in outputs)
        last: Any = sum(one[-1] for one in outputs)
        found = (xy, confidence / len(outputs), jnp.sqrt(square))
        return (*found, last / len(outputs)) if self.absent else found

    def result(self, images: Sequence[str], batches: Sequence[Predictions]) -> FoundLandmarks:
        table = metrics.concatenate(batches)
        spread = None if np.isnan(table.spread_px).all() else table.spread_px
        return FoundLandmarks(
            tuple(images), self.names, table.xy, table.confidence, spread, table.radius_px, table.unlike,
            present=table.present if self.absent else None,
        )  # fmt: skip

    def writer(
        self, out: pathlib.Path, overlays: pathlib.Path | None, measuring: trained.Measuring | None
    ) -> written.Table:
        if measuring and measuring.out == out:
            raise UserError(f"--out and --measurements are both {out}; give two files")
        for flag, file in (("out", out), ("measurements", measuring and measuring.out)):
            if file:
                written.check_table(flag, file)
        if not measuring:
            return written.Table(self.names, out, overlays)
        measured = written.measurements_of(self.workdir, self.names, self.domain, measuring.definitions)
        known = None
        if measuring.norms:
            known = norms.read(measuring.norms, measuring.people, [one.name for one in measured])
        return written.Table(self.names, out, overlays, measured=measuring.out, measurements=measured, normal=known)

    def label_files(self, out: pathlib.Path, formats: Sequence[str]) -> LabelFiles:
        return LabelFiles(self.names, out, formats, never_annotated=self.never_annotated)

    @property
    def outputs(self) -> dict[str, tuple[tuple[int, ...], str]]:
        K, number = len(self.names), len(self.networks)
        spread = f"root mean square distance of {number} networks' points from their mean, xy, in pixels of the input"
        found = {
            "xy": ((K, 2), "x and y in pixels of the input, (0, 0) the centre of the top-left one"),
            "confidence": ((K,), "height of the heatmap's peak, 0 to 1"),
        }
        present = {}
        if self.absent:
            meaning = f"probability that the landmark is in the picture; {UNKNOWN:g}: it can't be absent"
            present = {"present": ((K,), meaning)}
        if number:
            return found | {"spread": ((K,), spread)} | present
        if self.evidence and np.isfinite(self.evidence.radius.factors()).any():
            radius = (
                f"of the circle about xy that holds the true point with {100 * trust.radius.LEVEL:g} % probability "
            )
            found["radius"] = (
                (K,),
                radius + f"in pictures like those of val, in pixels of the input; {UNKNOWN:g}: unknown",
            )
        return found | present

    @property
    def about(self) -> dict[str, Any]:
        margin = self.config.data.margin if self.boxes else 0.0
        known = {"landmarks": list(self.names), "boxes": self.boxes, "margin": margin, "grey": self.grey}
        if self.never_annotated:
            known["never_annotated"] = {
                "landmarks": list(self.never_annotated),
                "meaning": f"no training picture had them: x, y and radius are {UNKNOWN:g}, and the confidence is 0",
            }
        return known | ({"absent": list(self.absent)} if self.absent else {})

    def differences(
        self,
        expected: tuple[np.ndarray, ...],
        exported: tuple[np.ndarray, ...],
        scale: np.ndarray,
        pictures: data.Dataset,
    ) -> dict[str, float]:
        apart_in = {name: np.abs(b - a) for name, a, b in zip(self.outputs, expected, exported, strict=True)}
        apart = np.linalg.norm(apart_in["xy"], axis=-1)  # [N, K] pixels of the network's picture
        for name in ("spread", "radius"):
            apart = np.maximum(apart, apart_in.get(name, 0.0))
        worst = {"network": apart, "picture": apart / scale[:, None]}
        for unit, distance in worst.items():
            if not np.max(distance) <= TOLERANCE:  # also where it is not a number
                i, k = np.unravel_index(np.argmax(distance), distance.shape)
                where = f"pixels of the {unit} ({pictures.images[i]}, {self.names[k]})"
                raise trained.differs(f"{distance[i, k]:.3g} {where}, more than {TOLERANCE}")
        found = {f"largest_difference_{name}": float(np.max(apart_in[name])) for name in apart_in if name == "present"}
        if not found.get("largest_difference_present", 0.0) <= PROBABILITY_TOLERANCE:
            raise trained.differs(
                f"{found['largest_difference_present']:.3g} of a probability of presence, more than "
                f"{PROBABILITY_TOLERANCE}"
            )
        return found | {
            "allowed_difference_px": TOLERANCE,
            "largest_difference_px": float(np.max(worst["picture"])),
            "largest_difference_network_px": float(np.max(worst["network"])),
            "largest_difference_confidence": float(np.max(apart_in["confidence"])),
        }

    @staticmethod
    def largest_difference(report: Mapping[str, Any]) -> str:
        picture, network = report["largest_difference_px"], report["largest_difference_network_px"]
        return f"{picture:.2g} px of the picture, {network:.2g} px of the network's, allowed {TOLERANCE}"
