"""The constraints that a configuration chooses: checked against teacher and student, and put together."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from ctd_jax.errors import UserError
from ctd_jax.losses import constraints
from ctd_jax.training.parallel import AXIS

MAPS = ("ed", "spatial", "channel", "at", "hint", "delta", "kd")  # tie a layer's map [h, w, C] of one picture
# look at a layer's means over the map, of all pictures of a batch
BATCHES = ("rkd_distance", "rkd_angle", "bss", "contrastive")
NEED_PLACES = ("spatial", "at", "delta")
WITHOUT_TEACHER = ("bss", "contrastive", "l2")
CHOICES = {
    "cd": ("form", ("l2", "kl")),
    "ed": ("over", ("map", "location", "pooled")),
    "hint": ("form", ("plain", "normalized")),
}


def pair(layer: str) -> tuple[str, str]:
    """A layer of the student and one of the teacher, of "student=teacher" or one name of both."""
    student, _, teacher = layer.partition("=")
    return student, teacher or student


class Terms:
    """The terms of `config.constraints` whose weight is not 0.

    Raises:
      UserError: a value out of range.
    """

    def __init__(self, config: ConfigDict):
        for name, term in config.items():
            _check(name, term)
        self._terms = {name: term for name, term in config.items() if term.weight}
        self.names = tuple(self._terms)
        self.weights = {name: jnp.float32(term.weight) for name, term in self._terms.items()}

    def check(self, student: Mapping[str, Any], teacher: Mapping[str, Any]) -> None:
        """Raises UserError if a term names a layer that there is not, or ties what does not fit.

        Args:
          student, teacher: shapes of their named features.
        """
        for name, term in self._terms.items():
            for layer in term.get("layers", ()):
                of_student, of_teacher = pair(layer)
                for whose, part, features in (("student", of_student, student), ("teacher", of_teacher, teacher)):
                    if part not in features and not (whose == "teacher" and name in WITHOUT_TEACHER):
                        raise UserError(
                            f"constraints.{name}.layers names {part!r}; the {whose}'s features are "
                            f"{', '.join(sorted(features))}"
                        )
                found = student[of_student]
                if name in NEED_PLACES and (len(found.shape) != 4 or found.shape[1:3] == (1, 1)):
                    raise UserError(
                        f"constraints.{name}.layers names {of_student!r}, which has no places to compare: its shape is "
                        f"{found.shape[1:]}; choose a layer with a map"
                    )
                if name in MAPS:
                    shape = found.shape[-1], teacher[of_teacher].shape[-1]
                    others = [jax.ShapeDtypeStruct(s, jnp.float32) for s in (shape, shape[1:])]
                    try:
                        jax.eval_shape(functools.partial(_tie, name, term), found, teacher[of_teacher], *others)
                    except UserError as error:
                        raise UserError(f"constraints.{name}, {layer}: {error}") from error

    def adapters(self, student: Mapping[str, Any], teacher: Mapping[str, Any], key: Array) -> dict[str, Array]:
        """Layer -> `[C_student, C_teacher]` kernel of the hint's 1x1 convolution, where the widths differ."""
        shapes = {
            layer: (student[pair(layer)[0]].shape[-1], teacher[pair(layer)[1]].shape[-1])
            for layer in (self._terms["hint"].layers if "hint" in self._terms else ())
        }
        init = nn.initializers.lecun_normal()
        return {
            layer: init(jax.random.fold_in(key, i), shape)
            for i, (layer, shape) in enumerate(shapes.items())
            if shape[0] != shape[1]
        }

    def channel_weights(self, teacher: Mapping[str, np.ndarray], heatmaps: Callable[[int], np.ndarray]) -> Any:
        """Layer -> `[C]` DELTA's weights, where that term is chosen.

        Args:
          teacher: features of labelled pictures.
          heatmaps: a number of cells -> true heatmaps of these pictures, so many cells wide.
        """
        return {
            layer: constraints.channel_importance(teacher[pair(layer)[1]], heatmaps(teacher[pair(layer)[1]].shape[1]))
            for layer in (self._terms["delta"].layers if "delta" in self._terms else ())
        }

    def __call__(
        self,
        student: Mapping[str, Array],
        teacher: Mapping[str, Array],
        params: Any,
        frozen: Mapping[str, Any],
        domain: Array | None = None,
    ) -> dict[str, Array]:
        """Name -> `[B]` term, before its weight.

        Args:
          student, teacher: named features of the same pictures, `head` among them where there is one.
          params: of the student.
          frozen: `start`, the encoder's first parameters, and `channel_weights`.
          domain: `[B]` of each picture, where there are several.
        """
        out = {}
        for name, term in self._terms.items():
            if name == "cd":
                out[name] = constraints.classifier_distance(
                    student["head"], teacher["head"], temperature=term.temperature, form=term.form
                )
            elif name == "contrastive":
                labels = jax.lax.all_gather(domain, AXIS, tiled=True)
                of_layers = [
                    constraints.supervised_contrastive(_batch(student[layer]), labels, temperature=term.temperature)
                    for layer in term.layers
                ]
                out[name] = _mine(jnp.mean(jnp.stack(of_layers), axis=0), len(domain))
            elif name in MAPS + BATCHES:
                of_layers = []
                for layer in term.layers:
                    of_student, of_teacher = pair(layer)
                    learned = params.get("adapters", {}).get(layer), frozen["channel_weights"].get(layer)
                    of_layers.append(_tie(name, term, student[of_student], teacher.get(of_teacher), *learned))
                out[name] = jnp.mean(jnp.stack(of_layers), axis=0)
            else:
                value = {
                    "l2_sp": lambda: constraints.l2_sp(params["encoder"], frozen["start"]),
                    "l2": lambda: constraints.l2(params["decoder"]),
                }[name]()
                out[name] = jnp.broadcast_to(value, len(student["encoder"]))
        return out


def _tie(name: str, term: ConfigDict, student: Array, teacher: Array | None, adapter: Any, weights: Any) -> Array:
    """`[B]` the term `name` of one layer."""
    match name:
        case "ed":
            return constraints.encoder_distance(student, teacher, over=term.over)
        case "spatial":
            return constraints.spatial_attention_distance(student, teacher)
        case "channel":
            return constraints.channel_attention_distance(student, teacher)
        case "at":
            return constraints.attention_transfer(student, teacher)
        case "hint":
            student = student if adapter is None else student @ adapter
            return constraints.hint_distance(student, teacher, form=term.form)
        case "kd":
            return constraints.heatmap_distance(student, teacher)
        case "delta":
            return constraints.delta(student, teacher, weights)
        case "rkd_distance":
            return _mine(constraints.relational_distance(_batch(student), _batch(teacher)), len(student))
        case "rkd_angle":
            return _mine(constraints.relational_angle(_batch(student), _batch(teacher)), len(student))
        case "bss":
            return _mine(constraints.batch_spectral_shrinkage(_batch(student), k=term.k), len(student))


def _batch(maps: Array) -> Array:
    """`[B, ..., C]` of one device -> `[all B, C]`, the means over the maps of all devices."""
    pooled = maps.astype(jnp.float32).reshape(len(maps), -1, maps.shape[-1]).mean(axis=1)
    return jax.lax.all_gather(pooled, AXIS, tiled=True)


def _mine(values: Array, local: int) -> Array:
    return jax.lax.dynamic_slice_in_dim(values, jax.lax.axis_index(AXIS) * local, local)


def _check(name: str, term: ConfigDict) -> None:
    if not 0 <= term.weight < math.inf:
        raise UserError(f"constraints.{name}.weight is {term.weight}; expected 0 (off) or more")
    if "layers" in term and not (len(term.layers) and all(isinstance(layer, str) for layer in term.layers)):
        raise UserError(
            f"constraints.{name}.layers is {term.layers!r}; name one layer or more, for instance ('encoder',)"
        )
    if name in CHOICES and term[CHOICES[name][0]] not in CHOICES[name][1]:
        key, known = CHOICES[name]
        raise UserError(f"constraints.{name}.{key} is {term[key]!r}; expected {' or '.join(known)}")
    if "temperature" in term and not 0 < term.temperature < math.inf:
        raise UserError(f"constraints.{name}.temperature is {term.temperature}; expected more than 0")
    if "k" in term and term.k < 1:
        raise UserError(f"constraints.{name}.k is {term.k}; expected 1 or more")
