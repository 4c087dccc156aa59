"""The task: landmarks by heatmaps, near to a teacher."""

import functools
import math
import pathlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import path_aware_map
from jax import Array
from ml_collections import ConfigDict

from ctd_jax import checkpoint, cost, data, evaluate, heatmaps, landmark_teacher, losses, metrics, models
from ctd_jax import teacher as teachers
from ctd_jax.errors import UserError
from ctd_jax.parallel import AXIS, Parallel
from ctd_jax.terms import BATCHES, WITHOUT_TEACHER, Terms

MOST_FOR_CHANNELS = 64  # labelled pictures that DELTA's channel weights are measured on


def build(
    config: ConfigDict,
    encoder: dict[str, Any],
    num_landmarks: int,
    *,
    num_outputs: int = 0,
    axis_name: str | None = None,
) -> nn.Module:
    """The student of a configuration.

    Args:
      encoder: keyword arguments of models.build_encoder.
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

    last_file = "report.html"  # once it is there, the run is finished

    def __init__(self, config: ConfigDict, source: data.Source):
        self.config, self.source, self.landmarks = config, source, source.landmarks
        self._terms = Terms(config.constraints)
        self._coordinates = config.coordinates.weight > 0
        self.terms = ("heatmap", *["coordinates"] * self._coordinates, *self._terms.names)
        pulling = [name for name in self.terms if name not in ("heatmap", "l2")]
        self.pulling = ("heatmap", *pulling) if pulling else ()  # terms whose gradients by the encoder are logged
        self.weights = {"heatmap": 1.0, "coordinates": config.coordinates.weight}
        self.weights |= {name: config.constraints[name].weight for name in self._terms.names}
        self.teacher = teachers.load(config.teacher.weights, config.model.encoder)
        self._same = config.model.encoder in ("auto", self.teacher.encoder["name"])
        self.encoder = self.teacher.encoder if self._same else {"name": config.model.encoder}
        self._starts = self._same and self.teacher.trained and config.teacher.start
        self._head = self.teacher.encoder.get("num_outputs", 0) if "cd" in self._terms.names else 0
        axis_name = AXIS if config.train.batch_norm == "global" else None
        self._build = functools.partial(build, config, self.encoder, len(self.landmarks.names), axis_name=axis_name)
        self.model = self._build()
        self.size = config.data.image_size
        self.train, self._val = source.split("train"), source.split("val")
        self._of_teacher = [name for name in self._terms.names if name not in WITHOUT_TEACHER]
        self._run = None
        if config.teacher.run and self._of_teacher:
            self._run = landmark_teacher.load(config, source)
        self._check()

    def _check(self) -> None:
        """Raises UserError if teacher, student and terms don't go together."""
        names, layers, of_teacher = self._terms.names, self.config.train.encoder_layers, self._of_teacher
        of_batches = [name for name in names if name in BATCHES]
        parts = self.config.train.accumulate_steps
        if of_batches and parts > 1:
            raise UserError(
                f"constraints.{of_batches[0]}.weight is not 0, and that term looks at a whole batch, but "
                f"train.accumulate_steps is {parts}, which divides it; set the weight to 0, or accumulate_steps to 1"
            )
        if not 0 <= self.config.coordinates.weight < math.inf:
            raise UserError(f"coordinates.weight is {self.config.coordinates.weight}; expected 0 (off) or more")
        if layers not in ("all", "last", "none"):
            raise UserError(f"train.encoder_layers is {layers!r}; expected all, last or none")
        if self.config.model.network == "hourglass":
            if self._coordinates:
                raise UserError("coordinates.weight is not 0, but an hourglass has no encoder to read them from")
            if names:
                raise UserError(f"constraints.{names[0]}.weight is not 0, but an hourglass has no teacher; set it to 0")
            return
        if "kd" in names and not self._run:
            raise UserError(
                "constraints.kd.weight needs a teacher that knows the landmarks, but teacher.run is empty; "
                f"{landmark_teacher.missing(self.config)}"
            )
        if of_teacher and not (self._run or self.teacher.trained):
            raise UserError(
                f"constraints.{of_teacher[0]}.weight needs a teacher that has learned something, but teacher.weights "
                f"is none and teacher.run is empty; {landmark_teacher.missing(self.config)}"
            )
        tied = [name for name in names if name != "l2"]
        if tied and layers == "none":
            raise UserError(
                f"constraints.{tied[0]}.weight is not 0, but train.encoder_layers is none: a frozen encoder stays the "
                "teacher's without it; set it to 0"
            )
        if not self._starts and layers != "all":
            raise UserError(
                f"train.encoder_layers is {layers}, but the encoder does not start from a teacher: random layers would "
                "be frozen; set it to all, or give teacher.weights and teacher.start=True"
            )
        if not self._same and self.teacher.trained and (self._run or not of_teacher):
            found = self.teacher.encoder["name"]
            raise UserError(
                f"{self.config.teacher.weights}: weights of {found}, but model.encoder is {self.config.model.encoder} "
                f"and no constraint ties them, so they would be of no use; set model.encoder to {found} or auto, or "
                "teacher.weights to none"
            )
        if "l2_sp" in names and not self._starts:
            raise UserError("constraints.l2_sp.weight needs a student that starts from the teacher's weights")
        if "cd" in names and (self._run or not (self._same and self._head)):
            what = "the teacher's file has no classifier" if self._same else "the student is of another architecture"
            what = "teacher.run is a landmark network" if self._run else what
            raise UserError(
                f"constraints.cd.weight ties the output of the teacher's classifier, but {what}; set it to 0"
            )
        self._terms.check(*self._shapes())

    def _shapes(self) -> tuple[dict[str, jax.ShapeDtypeStruct], ...]:
        """Of the named features of student and teacher."""
        picture = jax.ShapeDtypeStruct((1, self.size, self.size, 3), jnp.float32)
        networks = self._build(num_outputs=self._head), self._guide.network
        return tuple(
            jax.eval_shape(lambda x, n=network: n.init_with_output(jax.random.key(0), x, train=False)[0], picture)
            for network in networks
        )

    @functools.cached_property
    def _guide(self) -> teachers.Guide:
        """What the constraints tie to: `teacher.run`, else the encoder of `teacher.weights`."""
        if self._run:
            return self._run
        dtype = models.activation_dtype(self.config.dtype)
        encoder = models.build_encoder(**self.teacher.encoder | {"num_outputs": self._head}, dtype=dtype)
        return teachers.Guide(encoder, self.teacher.input, self.teacher.variables)

    @functools.cached_property
    def frozen(self) -> dict[str, Any]:
        """What the loss reads and never changes."""
        names = self._terms.names
        weights = self._terms.weights | {"coordinates": jnp.float32(self.config.coordinates.weight)}
        frozen = {"weights": weights, "channel_weights": self._channel_weights()}
        if set(self._of_teacher) - {"l2_sp"}:
            frozen["teacher"] = self._guide.variables
        if "l2_sp" in names:
            frozen["start"] = {k: self.teacher.variables["params"][k] for k in self.init(0)["params"]["encoder"]}
        return frozen

    def _channel_weights(self) -> dict[str, np.ndarray]:
        if "delta" not in self._terms.names:
            return {}
        batch = self.train.batch(np.arange(min(len(self.train), MOST_FOR_CHANNELS)))
        features = jax.jit(self._guide.features)(self._guide.variables, batch["picture"])
        xy = jnp.where(batch["mask"][..., None], batch["xy"], jnp.inf)

        def true_heatmaps(cells: int) -> np.ndarray:
            stride = self.size // cells
            return np.asarray(heatmaps.draw(xy, size=self.size, stride=stride, sigma=self.config.model.sigma))

        return self._terms.channel_weights(jax.device_get(features), true_heatmaps)

    def init(self, seed: int) -> Any:
        """The student's variables before the first step: the teacher's encoder if it starts there, and a new decoder.

        The head is not among them: it is the teacher's throughout.
        """
        key = jax.random.key(seed)
        picture = jnp.zeros((1, self.size, self.size, 3))
        variables = jax.jit(functools.partial(self.model.init, train=False))(key, picture)
        if self._starts and "encoder" in variables["params"]:
            variables = {
                kind: tree | {"encoder": {k: self.teacher.variables[kind][k] for k in tree["encoder"]}}
                for kind, tree in variables.items()
            }
        if "hint" in self._terms.names:
            adapters = self._terms.adapters(*self._shapes(), key)
            variables["params"] = variables["params"] | ({"adapters": adapters} if adapters else {})
        if self._coordinates:
            shape = self._shapes()[0]["encoder"].shape[-1], 2 * len(self.landmarks.names)
            head = {"kernel": nn.initializers.normal(0.001)(key, shape), "bias": jnp.full(shape[1], 0.5)}
            variables["params"] = variables["params"] | {"coordinates": head}
        return variables

    def labels(self, params: Any) -> Any:
        """Which learning rate each parameter has; `frozen`: none."""
        layers = self.config.train.encoder_layers
        last = tuple(f"{layer}/" for layer in self.model.encoder.last_layer) if layers == "last" else ()

        def label(path: tuple[str, ...], _: Any) -> str:
            if path[0] != "encoder":
                return "decoder"
            return "encoder" if layers == "all" or "/".join(path[1:]).startswith(last) else "frozen"

        return path_aware_map(label, params)

    def loss(self, params: Any, batch_stats: Any, frozen: Any, batch: dict[str, Array], keys: Array):
        """L = L_H + sum lambda L_R (Fu et al. 2020, Eq. 2); L_H: the sum over an hourglass' stacks. See `step.Loss`."""
        move = functools.partial(data.augment, **self.config.augment, flip_order=self.landmarks.flip_order)
        # What is not annotated lies nowhere: so it stays uncounted under its new name in a mirror image.
        xy = jnp.where(batch["mask"][..., None], batch["xy"], jnp.inf)
        picture, xy = jax.vmap(move)(keys, batch["picture"].astype(jnp.float32), xy)
        moved, picture = picture, models.normalize(picture, self.teacher.input)
        inside = jnp.all((xy >= -0.5) & (xy <= self.size - 0.5), axis=-1)
        true_heatmaps = heatmaps.draw(xy, size=self.size, stride=self.model.stride, sigma=self.config.model.sigma)

        variables, model = {"params": params, "batch_stats": batch_stats}, self.model
        if self._head:  # the teacher's own; what the student has too is the student's
            variables = {
                kind: tree | {"encoder": frozen["teacher"][kind] | tree["encoder"]} for kind, tree in variables.items()
            }
            model = self._build(num_outputs=self._head)
        student, updates = models.apply_in_training(model, variables, picture, remat=self.config.train.remat)
        stacks = student.get("stacks", student["heatmaps"][None])
        terms = {"heatmap": sum(losses.heatmap_mse(stack, true_heatmaps, inside) for stack in stacks)}
        teacher = {}
        if "teacher" in frozen:
            teacher = self._guide.features(frozen["teacher"], moved)
        if self._head:
            name = self.model.encoder.head
            student, teacher = student | {"head": student[name]}, teacher | {"head": teacher[name]}
        if self._coordinates:
            pooled = jnp.mean(student["encoder"].astype(jnp.float32), axis=(1, 2))
            read = (pooled @ params["coordinates"]["kernel"] + params["coordinates"]["bias"]).reshape(xy.shape)
            terms["coordinates"] = losses.coordinate_error(read, xy / self.size, inside)
        terms |= self._terms(student, teacher, params, frozen)
        total = terms["heatmap"] + sum(frozen["weights"][name] * terms[name] for name in self.terms[1:])
        updates = {part: {key: updates["batch_stats"][part][key] for key in tree} for part, tree in batch_stats.items()}
        return total, (updates, terms)

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
            "encoder": self.encoder,
            "input": self.teacher.input,
            "boxes": bool(np.isfinite(self.train.boxes).all()),
            "flip_pairs": self.landmarks.flip_pairs,
            "normalizer": self.landmarks.normalizer,
            "annotations": checkpoint.digest([getattr(self.source.everything, k) for k in ("xy", "spacing", "boxes")]),
            "teacher weights": checkpoint.digest(self.teacher.variables),
            "teacher run": checkpoint.digest(self._run.variables) if self._run else None,
        }

    def finish(self, variables: Any, parallel: Parallel, workdir: pathlib.Path, began: float) -> dict[str, Any]:
        """Reads the test pictures and writes the results; returns what metrics.json holds."""
        for part in landmark_teacher.TRAINING_ONLY:
            variables["params"].pop(part, None)
        body = parallel.compile(forward(self.model, self.teacher.input), sharded=True)
        gflops = cost.gflops(self.model, self.size)
        return evaluate.evaluate(
            body, variables, self.source, parallel, self.config, workdir, gflops=gflops, began=began
        )
