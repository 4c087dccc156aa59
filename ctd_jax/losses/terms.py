"""The table of the constraints, and those of a configuration: checked against teacher and student, and computed."""

import dataclasses
import enum
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from ctd_jax.config import POSITIVE, WEIGHT, Range, one_of
from ctd_jax.errors import UserError
from ctd_jax.losses import constraints
from ctd_jax.training.parallel import AXIS
from ctd_jax.typing import Params

AT_LEAST_ONE = Range(lambda value: value >= 1, "expected 1 or more")
HEATMAPS = ("heatmaps", "heatmaps")  # a pair of layers
Shapes = Mapping[str, jax.ShapeDtypeStruct]  # of named features


class Ties(enum.Enum):
    """What a constraint looks at. It says which arguments its function gets, and what the function returns.

    MAP: a layer of each picture by itself: student `[B, h, w, C]` or `[B, C]`, teacher alike -> `[B]`.
    BATCH: the means of a layer over its map, for all N pictures of the batch, over all devices: student `[N, C]`,
      teacher `[N, C]` -> `[N]`.
    HEAD: the output of the encoder's head: student `[B, n]`, teacher `[B, n]` -> `[B]`.
    ENCODER: the encoder's parameters: a tree of them, and the tree of those that training started from -> a scalar.
    DECODER: the decoder's parameters -> a scalar.
    AVERAGE: the heatmaps of each picture by itself: student `[B, h, w, K]`, the moving average of its weights alike,
      and `[B, h, w, K]` bool where these are known -> `[B]`. This average is not the teacher.

    A constraint without a teacher gets the first of these arguments only, but for AVERAGE.
    """

    MAP = enum.auto()
    BATCH = enum.auto()
    HEAD = enum.auto()
    ENCODER = enum.auto()
    DECODER = enum.auto()
    AVERAGE = enum.auto()


@dataclasses.dataclass(frozen=True)
class Constraint:
    """A row of the table.

    Attributes:
      function: its equation. The keys that the configuration has beside `weight` and `layers` are passed by name.
      ties: what it looks at.
      keys: further key -> the values that it may have.
      teacher: whether it compares the student with a teacher or, for parameters, with their start.
      of_landmarks: whether that teacher must be a landmark network, `teacher.run`.
      places: whether it needs a layer with a map of more than one place.
      adapter: whether a learned 1x1 convolution stands between the student's layer and the function, where the numbers
        of channels differ (`Ties.MAP` only).
      channel_weights: whether the function takes `channel_weights`, `[C]`, see `constraints.channel_importance`
        (`Ties.MAP` only).
      labels: whether the function takes `labels`, `[N]`, the domain of each picture (`Ties.BATCH` only).
    """

    function: Callable[..., Array]
    ties: Ties
    keys: Mapping[str, Range] = dataclasses.field(default_factory=dict)
    teacher: bool = True
    of_landmarks: bool = False
    places: bool = False
    adapter: bool = False
    channel_weights: bool = False
    labels: bool = False


CONSTRAINTS = {
    "cd": Constraint(constraints.classifier_distance, Ties.HEAD, {"temperature": POSITIVE, "form": one_of("l2", "kl")}),
    "ed": Constraint(constraints.encoder_distance, Ties.MAP, {"over": one_of("map", "location", "pooled")}),
    "spatial": Constraint(constraints.spatial_attention_distance, Ties.MAP, places=True),
    "channel": Constraint(constraints.channel_attention_distance, Ties.MAP),
    "at": Constraint(constraints.attention_transfer, Ties.MAP, places=True),
    "hint": Constraint(constraints.hint_distance, Ties.MAP, {"form": one_of("plain", "normalized")}, adapter=True),
    "kd": Constraint(constraints.heatmap_distance, Ties.MAP, of_landmarks=True),
    "consistency": Constraint(constraints.consistency, Ties.AVERAGE, teacher=False),
    "delta": Constraint(constraints.delta, Ties.MAP, places=True, channel_weights=True),
    "rkd_distance": Constraint(constraints.relational_distance, Ties.BATCH),
    "rkd_angle": Constraint(constraints.relational_angle, Ties.BATCH),
    "bss": Constraint(constraints.batch_spectral_shrinkage, Ties.BATCH, {"k": AT_LEAST_ONE}, teacher=False),
    "contrastive": Constraint(
        constraints.supervised_contrastive, Ties.BATCH, {"temperature": POSITIVE}, teacher=False, labels=True
    ),
    "l2_sp": Constraint(constraints.l2_sp, Ties.ENCODER),
    "l2": Constraint(constraints.l2, Ties.DECODER, teacher=False),
}


def pair(layer: str) -> tuple[str, str]:
    """A layer of the student and one of the teacher, from "student=teacher" or from one name for both."""
    student, _, teacher = layer.partition("=")
    return student, teacher or student


class Terms:
    """The terms of `config.constraints` whose weight is not 0.

    Attributes:
      names: all of them, in the order of the configuration.
      loss_weights: name -> lambda, the factor of the term in the loss.
      of_teacher: those that compare with a teacher or with the start.
      of_features: those that need a teacher's features.
      of_landmarks: those that need a teacher of landmarks.
      of_heatmaps: those that compare its heatmaps with the student's.
      of_head: those that look at the output of the encoder's head.
      of_average: those that need the heatmaps of the moving average of the weights.
      of_batches: those that look at a whole batch.
      of_domains: those that need several domains.
      of_start: those that need the parameters that the encoder starts from.
      of_encoder: those that have a gradient by the encoder's parameters.
      with_adapters: those with a learned 1x1 convolution.
      with_channel_weights: those with a weight for each channel.

    Raises:
      UserError: a term that is not in the table, or a value out of range.
    """

    def __init__(self, config: ConfigDict):
        for name, term in config.items():
            _check(name, term)
        self._terms = {name: term for name, term in config.items() if term.weight}
        self.names = tuple(self._terms)
        self.loss_weights = {name: jnp.float32(term.weight) for name, term in self._terms.items()}
        self.of_teacher = self._where(lambda row: row.teacher)
        self.of_features = self._where(lambda row: row.teacher and row.ties is not Ties.ENCODER)
        self.of_landmarks = self._where(lambda row: row.of_landmarks)
        with_layers = self._where(lambda row: row.teacher and row.ties in (Ties.MAP, Ties.BATCH))
        self.of_heatmaps = tuple(name for name in with_layers if HEATMAPS in map(pair, self._terms[name].layers))
        self.of_head = self._where(lambda row: row.ties is Ties.HEAD)
        self.of_average = self._where(lambda row: row.ties is Ties.AVERAGE)
        self.of_batches = self._where(lambda row: row.ties is Ties.BATCH)
        self.of_domains = self._where(lambda row: row.labels)
        self.of_start = self._where(lambda row: row.teacher and row.ties is Ties.ENCODER)
        self.of_encoder = self._where(lambda row: row.ties is not Ties.DECODER)
        self.with_adapters = self._where(lambda row: row.adapter)
        self.with_channel_weights = self._where(lambda row: row.channel_weights)

    def _where(self, holds: Callable[[Constraint], bool]) -> tuple[str, ...]:
        return tuple(name for name in self.names if holds(CONSTRAINTS[name]))

    def _layers(self, names: Sequence[str]) -> list[str]:
        """The layers of these terms, each once."""
        return list(dict.fromkeys(layer for name in names for layer in self._terms[name].layers))

    def check(self, student: Shapes, teacher: Shapes) -> None:
        """Raises UserError if a term names a layer that there is not, or ties what does not fit.

        Args:
          student, teacher: shapes of their named features.
        """
        for name, term in self._terms.items():
            for layer in term.get("layers", ()):
                _check_layer(name, term, layer, student, teacher)

    def adapters(self, student: Shapes, teacher: Shapes, key: Array) -> dict[str, Array]:
        """Layer -> `[C_student, C_teacher]` kernel of the adapter, where the numbers of channels differ.

        Args:
          student, teacher: shapes of their named features.
          key: of the random numbers that the kernels start from.
        """
        init, kernels = nn.initializers.lecun_normal(), {}
        for i, layer in enumerate(self._layers(self.with_adapters)):
            of_student, of_teacher = pair(layer)
            shape = student[of_student].shape[-1], teacher[of_teacher].shape[-1]
            if shape[0] != shape[1]:
                kernels[layer] = init(jax.random.fold_in(key, i), shape)
        return kernels

    @property
    def weighed_layers(self) -> list[str]:
        """The teacher's layers whose channels have weights."""
        return [pair(layer)[1] for layer in self._layers(self.with_channel_weights)]

    def channel_weights(
        self, teacher: Mapping[str, np.ndarray], true_maps: Callable[[int], np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Layer -> `[C]`, what each channel is worth to the task, for the terms that need it.

        Args:
          teacher: named features of N labelled pictures, those of `weighed_layers`.
          true_maps: function of the number of cells of a layer's side: the true maps of these pictures,
            `[N, cells, cells, K]`.
        """
        found = {}
        for layer in self._layers(self.with_channel_weights):
            features = teacher[pair(layer)[1]]
            found[layer] = constraints.channel_importance(features, true_maps(features.shape[1]))
        return found

    def __call__(
        self,
        student: Mapping[str, Array],
        teacher: Mapping[str, Array],
        *,
        params: Params,
        start: Params | None,
        channel_weights: Mapping[str, Array],
        domain: Array | None,
        average: tuple[Array, Array] | None = None,
        unlearned: Sequence[int] = (),
    ) -> dict[str, Array]:
        """Name -> `[B]` term, before its weight.

        Args:
          student, teacher: named features of the same B pictures, `head` among them where a term needs it. A teacher
            that no term needs may be empty.
          params: the student's: its encoder's at `encoder`, its decoder's at `decoder`, and at `adapters` what
            `adapters` returned, if that is not empty.
          start: parameters that the encoder started from, where a term needs them.
          channel_weights: what `channel_weights` returned.
          domain: `[B]` index of each picture's domain, where a term needs it.
          average: heatmaps of the moving average and where they are known, where a term needs them; see `Ties`.
          unlearned: indices of the landmarks that a teacher of landmarks has not learned, whose heatmaps teach nothing.
        """
        out = {}
        for name, term in self._terms.items():
            row, keys = CONSTRAINTS[name], _keys(term)
            if row.ties is Ties.HEAD:
                out[name] = row.function(*_tied(row, student["head"], teacher.get("head")), **keys)
            elif row.ties is Ties.AVERAGE:
                assert average is not None, "it is given where there is such a term"
                out[name] = row.function(student["heatmaps"], *average, **keys)
            elif row.ties in (Ties.ENCODER, Ties.DECODER):
                part = params["encoder" if row.ties is Ties.ENCODER else "decoder"]
                value = row.function(*_tied(row, part, start), **keys)
                out[name] = jnp.broadcast_to(value, len(student["encoder"]))
            else:
                of_layers = []
                for layer in term.layers:
                    of_student, of_teacher = pair(layer)
                    features = _tied(row, student[of_student], teacher.get(of_teacher))
                    weights = channel_weights.get(layer)
                    if unlearned and row.teacher and (of_student, of_teacher) == HEATMAPS:
                        without = functools.partial(jnp.delete, obj=np.array(unlearned), axis=-1)
                        features = tuple(map(without, features))
                        weights = None if weights is None else without(weights)
                    if row.ties is Ties.MAP:
                        adapter = params.get("adapters", {}).get(layer)
                        of_layers.append(_of_map(row, keys, features, adapter, weights))
                    else:
                        of_layers.append(_of_batch(row, keys, features, domain))
                out[name] = jnp.mean(jnp.stack(of_layers), axis=0)
        return out


def _keys(term: ConfigDict) -> dict[str, Any]:
    """What the term's function is told beside what it ties."""
    return {key: value for key, value in term.items() if key not in ("weight", "layers")}


def _tied(row: Constraint, student: Any, teacher: Any) -> tuple[Any, ...]:
    return (student, teacher) if row.teacher else (student,)


def _of_map(
    row: Constraint, keys: dict[str, Any], features: Sequence[Array], adapter: Any, channel_weights: Any
) -> Array:
    """`[B]` a term of one layer.

    Args:
      row, keys: of the term.
      features: the layer `[B, ..., C]`, of the student and, where the term has one, of the teacher.
      adapter: `[C_student, C_teacher]`, or None.
      channel_weights: `[C]`, or None.
    """
    student, *teacher = features
    if row.adapter and adapter is not None:
        student = student @ adapter
    if row.channel_weights:
        keys = keys | {"channel_weights": channel_weights}
    return row.function(student, *teacher, **keys)


def _of_batch(row: Constraint, keys: dict[str, Any], features: Sequence[Array], domain: Array | None) -> Array:
    """`[B]` a term of one layer, of which every picture of all devices is a part; the arguments are as in `_of_map`,
    and `domain` `[B]` is that of each picture."""
    if row.labels:
        keys = keys | {"labels": jax.lax.all_gather(domain, AXIS, tiled=True)}
    values = row.function(*(_means_of_all(maps) for maps in features), **keys)
    local = len(features[0])
    return jax.lax.dynamic_slice_in_dim(values, jax.lax.axis_index(AXIS) * local, local)


def _means_of_all(maps: Array) -> Array:
    """`[B, ..., C]` of one device -> `[N, C]`, the means over the maps of all devices."""
    pooled = maps.astype(jnp.float32).reshape(len(maps), -1, maps.shape[-1]).mean(axis=1)
    return jax.lax.all_gather(pooled, AXIS, tiled=True)


def _check(name: str, term: ConfigDict) -> None:
    """Raises UserError if the term is not in the table, or one of its keys has a value that it may not have."""
    if name not in CONSTRAINTS:
        raise UserError(f"constraints.{name}: there is no such constraint; expected {', '.join(CONSTRAINTS)}")
    row = CONSTRAINTS[name]
    for key, allowed in {"weight": WEIGHT, **row.keys}.items():
        if not allowed.has(term[key]):
            raise UserError(f"constraints.{name}.{key} is {term[key]!r}; {allowed.words}")
    layers = term.get("layers", ())
    if row.ties in (Ties.MAP, Ties.BATCH) and not (layers and all(isinstance(layer, str) for layer in layers)):
        raise UserError(f"constraints.{name}.layers is {layers!r}; name one layer or more, for instance ('encoder',)")


def _check_layer(name: str, term: ConfigDict, layer: str, student: Shapes, teacher: Shapes) -> None:
    """Raises UserError if there is no such layer, or the term cannot tie it; `student` and `teacher` as in
    `Terms.check`."""
    row, (of_student, of_teacher) = CONSTRAINTS[name], pair(layer)
    whose = [("student", of_student, student), *([("teacher", of_teacher, teacher)] if row.teacher else [])]
    for who, part, features in whose:
        if part not in features:
            raise UserError(
                f"constraints.{name}.layers names {part!r}; the {who}'s features are {', '.join(sorted(features))}"
            )
    shape = student[of_student].shape
    if row.places and (len(shape) != 4 or shape[1:3] == (1, 1)):
        raise UserError(
            f"constraints.{name}.layers names {of_student!r}, which has no places to compare: its shape is "
            f"{shape[1:]}; choose a layer with a map"
        )
    if row.ties is Ties.MAP:
        tied = [features[part] for _, part, features in whose]
        channels = tuple(features.shape[-1] for features in tied)
        adapter, channel_weights = (jax.ShapeDtypeStruct(x, jnp.float32) for x in (channels, channels[-1:]))
        try:
            jax.eval_shape(functools.partial(_of_map, row, _keys(term)), tied, adapter, channel_weights)
        except UserError as error:
            raise UserError(f"constraints.{name}, {layer}: {error}") from error
