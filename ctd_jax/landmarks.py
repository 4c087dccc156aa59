"""The task: landmarks by heatmaps, near to a teacher."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from ctd_jax import checkpoint, constraints, data, evaluate, heatmaps, losses, metrics, models
from ctd_jax import teacher as teachers
from ctd_jax.errors import UserError
from ctd_jax.parallel import AXIS, Parallel


def build(config: ConfigDict, encoder: dict[str, Any], num_landmarks: int) -> models.LandmarkNet:
    """The student of a configuration; `encoder`: keyword arguments of models.build_encoder.

    Raises:
      UserError: a picture size that the network can't take, or another network that can't be built.
    """
    model = models.build(
        config.model,
        encoder=encoder | {"num_outputs": 0},
        num_landmarks=num_landmarks,
        dtype=models.activation_dtype(config.dtype),
        axis_name=AXIS,
    )
    stride, size = model.encoder.stride, config.data.image_size
    if size % stride or size < 2 * stride:
        raise UserError(
            f"data.image_size is {size}; {encoder['name']} needs a multiple of {stride}, at least {2 * stride}"
        )
    if size // model.stride < 3:
        raise UserError(f"heatmaps of {size // model.stride} cells are too small; give model.decoder_channels one more")
    return model


def forward(model: models.LandmarkNet, input_spec: dict[str, Any]) -> Callable:
    """Body `(variables, {"picture": [B, S, S, 3] uint8}) -> ([B, K, 2] network pixels, [B, K] confidence)`."""

    def body(variables: Any, batch: dict[str, Array]) -> tuple[Array, Array]:
        out = model.apply(variables, models.normalize(batch["picture"], input_spec), train=False)
        return heatmaps.decode(out["heatmaps"], stride=model.stride)

    return body


class LandmarkTask:
    """Network, loss, validation and test of one configuration.

    Raises:
      UserError: teacher, data and configuration don't go together.
    """

    terms = ("heatmap", "ed")
    last_file = "report.html"  # once it is there, the run is finished

    def __init__(self, config: ConfigDict, source: data.Source):
        self.config, self.source, self.landmarks = config, source, source.landmarks
        self.teacher = teachers.load(config.teacher.weights, config.model.encoder)
        self.model = build(config, self.teacher.encoder, len(self.landmarks.names))
        self.size = config.data.image_size
        self._check_constraints()
        self.train, self._val = source.split("train"), source.split("val")
        self.frozen = self.teacher.variables if config.constraints.ed.weight else {}

    def _check_constraints(self) -> None:
        ed = self.config.constraints.ed
        if ed.weight < 0:
            raise UserError(f"constraints.ed.weight is {ed.weight}; expected 0 (off) or more")
        if ed.weight and not ed.layers:
            raise UserError("constraints.ed.layers is empty; name a layer, for instance encoder")
        if ed.weight and not self.teacher.trained:
            raise UserError(
                "constraints.ed.weight needs a teacher that has learned something, but teacher.weights is none"
            )
        picture = jax.ShapeDtypeStruct((1, self.size, self.size, 3), jnp.float32)
        encoder = self._teacher_model()
        known = jax.eval_shape(lambda x: encoder.init_with_output(jax.random.key(0), x, train=False)[0], picture)
        for layer in ed.layers:
            if layer not in known:
                raise UserError(f"constraints.ed.layers names {layer!r}; the encoder's features are {', '.join(known)}")

    def _teacher_model(self) -> nn.Module:
        return models.build_encoder(
            **self.teacher.encoder | {"num_outputs": 0}, dtype=models.activation_dtype(self.config.dtype)
        )

    def init(self, seed: int) -> Any:
        """The student's variables before the first step: the teacher's encoder, if it has learned anything, and a new
        decoder."""
        picture = jnp.zeros((1, self.size, self.size, 3))
        variables = jax.jit(functools.partial(self.model.init, train=False))(jax.random.key(seed), picture)
        if not self.teacher.trained:
            return variables
        return {
            kind: tree | {"encoder": {k: self.teacher.variables[kind][k] for k in tree["encoder"]}}
            for kind, tree in variables.items()
        }

    @staticmethod
    def labels(params: Any) -> Any:
        """Which learning rate each parameter has."""
        return {part: jax.tree.map(lambda _, part=part: part, tree) for part, tree in params.items()}

    def loss(self, params: Any, batch_stats: Any, frozen: Any, batch: dict[str, Array], keys: Array):
        """L = L_H + lambda L_ED (Fu et al. 2020, Eq. 2). See `step.Loss`."""
        move = functools.partial(data.augment, **self.config.augment, flip_order=self.landmarks.flip_order)
        # What is not annotated lies nowhere: so it stays uncounted under its new name in a mirror image.
        xy = jnp.where(batch["mask"][..., None], batch["xy"], jnp.inf)
        picture, xy = jax.vmap(move)(keys, batch["picture"].astype(jnp.float32), xy)
        picture = models.normalize(picture, self.teacher.input)
        inside = jnp.all((xy >= -0.5) & (xy <= self.size - 0.5), axis=-1)
        true_heatmaps = heatmaps.draw(xy, size=self.size, stride=self.model.stride, sigma=self.config.model.sigma)

        student, updates = self.model.apply(
            {"params": params, "batch_stats": batch_stats}, picture, train=True, mutable=["batch_stats"]
        )
        terms = {"heatmap": losses.heatmap_mse(student["heatmaps"], true_heatmaps, inside)}
        total = terms["heatmap"]
        ed = self.config.constraints.ed
        if ed.weight:
            teacher = self._teacher_model().apply(frozen, picture, train=False)
            distances = [constraints.encoder_distance(student[layer], teacher[layer]) for layer in ed.layers]
            terms["ed"] = jnp.mean(jnp.stack(distances), axis=0)
            total = total + ed.weight * terms["ed"]
        return total, (updates["batch_stats"], terms)

    def validator(self, parallel: Parallel) -> Callable[[Any], tuple[float, str]]:
        """Function of variables on the devices: the mean error of the validation pictures (NME where there is a
        normaliser, else mm, else pixels), and how a person reads it."""
        body = parallel.compile(forward(self.model, self.teacher.input), sharded=True)

        def validate(variables: Any) -> tuple[float, str]:
            table = evaluate.predict(body, variables, self._val, parallel, self.config.eval.batch_size)
            measure, errors = list(metrics.image_errors(table, self.landmarks.normalizer).items())[-1]
            error = float(np.nanmean(errors))
            return error, f"{100 * error:.2f} %" if measure.startswith("nme") else f"{error:.2f} {measure[3:]}"

        return validate

    @property
    def meta(self) -> dict[str, Any]:
        """What `predict` needs beside the weights and the configuration, and what may not change during a run."""
        return {
            "landmarks": list(self.landmarks.names),
            "encoder": self.teacher.encoder,
            "input": self.teacher.input,
            "boxes": bool(np.isfinite(self.train.boxes).all()),
            "flip_pairs": self.landmarks.flip_pairs,
            "normalizer": self.landmarks.normalizer,
            "annotations": checkpoint.digest([getattr(self.source.everything, k) for k in ("xy", "spacing", "boxes")]),
            "teacher weights": checkpoint.digest(self.teacher.variables),
        }

    def finish(self, variables: Any, parallel: Parallel, workdir: pathlib.Path, began: float) -> dict[str, Any]:
        """Reads the test pictures and writes the results; returns what metrics.json holds."""
        body = parallel.compile(forward(self.model, self.teacher.input), sharded=True)
        return evaluate.evaluate(body, variables, self.source, parallel, self.config, workdir, began=began)
