"""The task: landmarks by heatmaps, near to a teacher."""

import functools
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from ctd_jax import data, models
from ctd_jax.errors import UserError
from ctd_jax.losses import supervised
from ctd_jax.models import cost
from ctd_jax.tasks import domains, landmark_teacher
from ctd_jax.tasks import teacher as teachers
from ctd_jax.tasks.landmarks import evaluate, heatmaps
from ctd_jax.tasks.student import StudentTask
from ctd_jax.training import checkpoint
from ctd_jax.training.parallel import Parallel


def build(
    config: ConfigDict,
    encoder: dict[str, Any],
    num_landmarks: int,
    *,
    of_domain: Mapping[str, int] | None = None,
    num_outputs: int = 0,
    axis_name: str | None = None,
) -> nn.Module:
    """The student of a configuration.

    Args:
      encoder: keyword arguments of models.build_encoder.
      num_landmarks: K.
      of_domain: domain -> number of its landmarks, in their order; None: there are no domains.
      num_outputs: of its head.
      axis_name: see there.

    Raises:
      UserError: a picture size that the network can't take, or another network that can't be built.
    """
    model = models.build(
        config.model,
        encoder=encoder | {"num_outputs": num_outputs},
        num_landmarks=num_landmarks,
        encoder_norm=config.train.encoder_layers == "all",
        dtype=models.activation_dtype(config.dtype),
        axis_name=axis_name,
        norms=tuple(of_domain) if of_domain and config.domains.norm else (),
        heads=tuple(of_domain.items()) if of_domain and config.domains.heads else (),
    )
    size, multiple = config.data.image_size, model.multiple
    if size % multiple or size < 2 * multiple:
        raise UserError(
            f"data.image_size is {size}; {encoder['name'] if config.model.network != 'hourglass' else 'the hourglass'} "
            f"needs a multiple of {multiple}, at least {2 * multiple}"
        )
    if size // model.stride < 3:
        raise UserError(f"heatmaps of {size // model.stride} cells are too small; give model.decoder_channels one more")
    return model


def forward(model: models.LandmarkNet, input_spec: dict[str, Any]) -> Callable:
    """Body `(variables, {"picture": [B, S, S, 3] uint8}) -> ([B, K, 2] network pixels, [B, K] confidence)`; "domain"
    `[B]` too, where there are domains. `variables` as trained, or of `models.fold`."""

    def body(variables: Any, batch: dict[str, Array]) -> tuple[Array, Array]:
        picture = models.normalize(batch["picture"], input_spec)
        with models.folded():
            out = model.apply(variables, picture, batch.get("domain"), train=False)
        return heatmaps.decode(out["heatmaps"], stride=model.stride)

    return body


class LandmarkTask(StudentTask):
    """Network, loss, validation and test of heatmaps; the loss of an hourglass is the sum over its stacks."""

    main = ("heatmap",)

    def __init__(self, config: ConfigDict, source: data.Source):
        self.landmarks = source.landmarks
        known = {name: part.landmarks for name, part in source.parts.items()}
        self._mirrors = tuple(one.flip_pairs is not None for one in known.values())
        weight = config.coordinates.weight
        if not 0 <= weight < math.inf:
            raise UserError(f"coordinates.weight is {weight}; expected 0 (off) or more")
        own = {"coordinates": weight} if weight else {}
        super().__init__(config, source, {name: one.names for name, one in known.items()}, own)

    def _build(self, *, num_outputs: int = 0) -> nn.Module:
        return build(
            self.config,
            self.encoder,
            len(self.landmarks.names),
            of_domain={name: len(names) for name, names in self.outputs.items()},
            num_outputs=num_outputs,
            axis_name=self.axis_name,
        )

    def _read_run(self) -> teachers.Guide:
        return landmark_teacher.load(self.config, self.source)

    def init(self, seed: int) -> Any:
        variables = super().init(seed)
        if "coordinates" in self._own:
            shape = self._shapes()[0]["encoder"].shape[-1], 2 * len(self.landmarks.names)
            head = {
                "kernel": nn.initializers.normal(0.001)(jax.random.key(seed), shape),
                "bias": jnp.full(shape[1], 0.5),
            }
            variables["params"] = variables["params"] | {"coordinates": head}
        return variables

    def _moved(self, batch: dict[str, Array], keys: Array) -> tuple[Array, tuple[Array, Array, Array]]:
        augment = self.config.augment
        move = functools.partial(
            data.augment, scale=augment.scale, shift=augment.shift, flip_order=self.landmarks.flip_order
        )
        mirrors = jnp.array(self._mirrors, jnp.float32)[batch["domain"]] if "domain" in batch else 1.0
        flip = jnp.broadcast_to(augment.flip * mirrors, len(keys))
        # What is not annotated lies nowhere: so it stays uncounted under its new name in a mirror image.
        xy = jnp.where(batch["mask"][..., None], batch["xy"], jnp.inf)
        picture, xy = jax.vmap(move)(keys, batch["picture"].astype(jnp.float32), xy, flip=flip)
        inside = jnp.all((xy >= -0.5) & (xy <= self.size - 0.5), axis=-1)
        return picture, (self._draw(xy, self.model.stride), inside, xy)

    def _draw(self, xy: Array, stride: int) -> Array:
        return heatmaps.draw(xy, size=self.size, stride=stride, sigma=self.config.model.sigma)

    def _main_terms(self, student: dict[str, Array], params: Any, truth: tuple[Array, ...]) -> dict[str, Array]:
        true_heatmaps, inside, xy = truth
        stacks = student.get("stacks", student["heatmaps"][None])
        terms = {"heatmap": sum(supervised.heatmap_mse(stack, true_heatmaps, inside) for stack in stacks)}
        if "coordinates" in self._own:
            pooled = jnp.mean(student["encoder"].astype(jnp.float32), axis=(1, 2))
            read = pooled @ params["coordinates"]["kernel"] + params["coordinates"]["bias"]
            terms["coordinates"] = supervised.coordinate_error(read.reshape(xy.shape), xy / self.size, inside)
        return terms

    def _true_maps(self, batch: dict[str, np.ndarray], cells: int) -> np.ndarray:
        """The true heatmaps of a batch, so many cells wide."""
        xy = jnp.where(batch["mask"][..., None], batch["xy"], jnp.inf)
        return np.asarray(self._draw(xy, self.size // cells))

    def validator(self, parallel: Parallel) -> Callable[[Any], tuple[float, str]]:
        """Function of variables on the devices: the error of the validation pictures, and how a person reads it; see
        `domains.error`."""
        body = parallel.compile(forward(self.model, self.teacher.input), sharded=True)

        def validate(variables: Any) -> tuple[float, str]:
            table = evaluate.predict(body, variables, self._val, parallel, self.config.eval.batch_size)
            return domains.error(table, self.source)

        return validate

    @property
    def meta(self) -> dict[str, Any]:
        """What `predict` needs beside the weights and the configuration, and what may not change during a run."""
        return {
            "landmarks": list(self.landmarks.names),
            "encoder": self.encoder,
            "input": self.teacher.input,
            "grey": self.source.grey_of_run,
            "boxes": bool(np.isfinite(self.train.boxes).all()),
            "flip_pairs": self.landmarks.flip_pairs,
            "normalizer": self.landmarks.normalizer,
            "domains": domains.meta(self.source),
            "annotations": checkpoint.digest([getattr(self.source.everything, k) for k in ("xy", "spacing", "boxes")]),
            "teacher weights": checkpoint.digest(self.teacher.variables),
            "teacher run": checkpoint.digest(self._run.variables) if self._run else None,
        }

    def finish(self, variables: Any, parallel: Parallel, workdir: pathlib.Path, began: float) -> dict[str, Any]:
        """Reads the test pictures and writes the results; returns what metrics.json holds."""
        variables, n_params = self._for_prediction(variables, parallel)
        body = parallel.compile(forward(self.model, self.teacher.input), sharded=True)
        facts = {"n_params": n_params, "gflops": cost.gflops(self.model, self.size), "began": began}
        return evaluate.evaluate(body, variables, self.source, parallel, self.config, workdir, **facts)
