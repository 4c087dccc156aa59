"""The source task: who is who. Makes a teacher out of any pictures with subjects."""

import functools
import json
import math
import pathlib
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from ml_collections import ConfigDict

from ctd_jax import data, files, models, run_folder
from ctd_jax.errors import UserError
from ctd_jax.metrics.verification import verification_auc, verification_interval
from ctd_jax.tasks.teacher import IMAGENET
from ctd_jax.training import hosts, inference
from ctd_jax.training.parallel import AXIS, Parallel

EMBEDDING = 128  # length of MobileFaceNet's, as published (Chen et al. 2018)


def arcface_logits(cosines: Array, subjects: Array, *, margin: float, scale: float) -> Array:
    """Logits with an additive angular margin (Deng et al. 2019, arXiv 1801.07698, Eq. 3).

    s cos(theta_y + m) for the picture's own subject y, s cos(theta_j) for the others. Where theta_y + m > pi the cosine
    would grow again: it is continued by cos(theta_y) - m sin(m), which falls on, as in the code of the authors.

    Args:
      cosines: `[B, N]`, of each picture's features and each subject's class weights.
      subjects: `[B]` int, in 0 .. N - 1.
      margin: m, radians, in 0 .. pi.
      scale: s.

    Returns:
      `[B, N]` logits for a softmax. Their gradient is finite at cosines of -1 and 1 too.
    """
    own = jnp.take_along_axis(cosines, subjects[:, None], axis=1)
    sine = jnp.sqrt(jnp.maximum(1 - own**2, 1e-6))
    moved = jnp.where(
        own > -math.cos(margin),
        own * math.cos(margin) - sine * math.sin(margin),
        own - margin * math.sin(margin),
    )
    return scale * jnp.where(jax.nn.one_hot(subjects, cosines.shape[1], dtype=bool), moved, cosines)


class RecognitionTask:
    """An encoder with a classifier over the training subjects, validated on people it has never seen.

    People are told apart by a ResNet's pooled map, and by MobileFaceNet's embedding. With `recognition.loss` "softmax"
    the classifier is linear in these features, with "arcface" its logits are cosines (`arcface_logits`).

    The teacher's head, which a landmark network may be tied to, is the classifier of a ResNet, one logit for each
    training subject, and the embedding of MobileFaceNet, whose classifier stays behind. ArcFace's classifier is written
    without bias and so scaled that it has the logits of training, before the margin, for features of val's mean norm.

    Raises:
      UserError: settings or people that recognition can't be learned or judged with.
    """

    terms = ("cross_entropy",)
    last_file = "metrics.json"  # once it is there, the run is finished
    frozen = ()
    pulling = ()

    def __init__(self, config: ConfigDict, source: data.Source):
        self.config, self.source = config, source
        self.train, self._val = source.split("train"), source.split("val")
        self._judged = [source.split(name) for name in source.covered(config.eval.split)]
        self._check()
        people, name = len(set(self.train.subjects)), config.model.encoder
        axis_name = AXIS if config.train.batch_norm == "global" else None
        build = functools.partial(
            models.build_encoder, name, dtype=models.activation_dtype(config.dtype), axis_name=axis_name
        )
        self.embeds = build().head == "embedding"
        self.model = build(num_outputs=EMBEDDING if self.embeds else 0)
        self.encoder = {"name": name, "num_outputs": EMBEDDING if self.embeds else people}
        self.classifier = nn.Dense(people)
        jax.eval_shape(self.init, 0)  # a picture size that the network can't take is found here

    def _check(self) -> None:
        settings = self.config.recognition
        if settings.loss not in ("softmax", "arcface"):
            raise UserError(f"recognition.loss is {settings.loss!r}; expected softmax or arcface")
        if not 0 <= settings.margin < math.pi:
            raise UserError(f"recognition.margin is {settings.margin}; expected 0 or more, and less than pi (radians)")
        if not settings.scale > 0:
            raise UserError(f"recognition.scale is {settings.scale}; expected more than 0")
        known = set(self.train.subjects)
        if len(known) == 1:
            raise UserError(
                f"all {len(self.train)} training pictures are of {known.pop()}; recognition needs two people"
            )
        for name, part in [("val", self._val)] + [(self.config.eval.split, part) for part in self._judged]:
            if len(set(part.subjects)) in (0, 1, len(part)):
                raise UserError(
                    f"recognition needs two people in {name}, and two pictures of one of them, to say who is alike: "
                    "give landmarks.csv a column `subject`, with the same name wherever it is the same person"
                )
            if shared := known & set(part.subjects):
                raise UserError(
                    f"{len(shared)} people of {name} are also trained on, first {min(shared)}; recognition is judged "
                    "by people it has never seen: give each person one split, or no column `split`, to have them drawn"
                )

    def init(self, seed: int) -> Any:
        """Random variables."""
        size, key = self.config.data.image_size, jax.random.key(seed)
        out, encoder = jax.jit(functools.partial(self.model.init_with_output, train=False))(
            key, jnp.zeros((1, size, size, 3))
        )
        classifier = self.classifier.init(jax.random.fold_in(key, 1), self._features(out))["params"]
        return {
            "params": {"encoder": encoder["params"], "classifier": classifier},
            "batch_stats": {"encoder": encoder["batch_stats"]},
        }

    @staticmethod
    def labels(params: Any) -> Any:
        """Which learning rate each parameter has."""
        return jax.tree.map(lambda _: "encoder", params)

    def loss(self, params: Any, batch_stats: Any, frozen: Any, batch: dict[str, Array], keys: Array):
        """Cross-entropy over the training subjects. See `step.Loss`."""
        move = functools.partial(data.augment, **self.config.augment, flip_order=self.source.landmarks.flip_order)
        picture, _ = jax.vmap(move)(keys, batch["picture"].astype(jnp.float32), batch["xy"])
        out, updates = models.apply_in_training(
            self.model,
            {"params": params["encoder"], "batch_stats": batch_stats["encoder"]},
            models.normalize(picture, IMAGENET),
            remat=self.config.train.remat,
        )
        logits = self.logits(self._features(out), params["classifier"], batch["subject"])
        loss = optax.losses.softmax_cross_entropy_with_integer_labels(logits, batch["subject"])
        return loss, ({"encoder": updates["batch_stats"]}, {"cross_entropy": loss})

    def _features(self, out: dict[str, Array]) -> Array:
        """`[B, C]`, what people are told apart by."""
        return out["embedding"] if self.embeds else jnp.mean(out["encoder"].astype(jnp.float32), axis=(1, 2))

    def logits(self, features: Array, classifier: Any, subjects: Array) -> Array:
        settings = self.config.recognition
        if settings.loss == "softmax":
            return self.classifier.apply({"params": classifier}, features)
        cosines = _unit(features, axis=1) @ _unit(classifier["kernel"], axis=0)
        return arcface_logits(cosines, subjects, margin=settings.margin, scale=settings.scale)

    def _extractor(self, parallel: Parallel) -> Callable[[Any, data.Dataset], np.ndarray]:
        """Function of variables on the devices and N pictures: their features, `[N, C]`."""

        def body(variables: Any, batch: dict[str, Array]) -> Array:
            encoder = {kind: tree["encoder"] for kind, tree in variables.items()}
            return self._features(self.model.apply(encoder, models.normalize(batch["picture"], IMAGENET), train=False))

        compiled = parallel.compile(body, sharded=True)
        size = self.config.eval.batch_size
        return lambda variables, part: inference.apply(compiled, variables, part, parallel, size)[0]

    def validator(self, parallel: Parallel) -> Callable[[Any], tuple[float, str]]:
        """Function of variables on the devices: 1 - verification AUC on the people of val, and as text."""
        extract = self._extractor(parallel)

        def validate(variables: Any) -> tuple[float, str]:
            auc = verification_auc(extract(variables, self._val), np.array(self._val.subjects))
            return 1 - auc, f"verification AUC {auc:.3f}"

        return validate

    @property
    def meta(self) -> dict[str, Any]:
        """What a weight file says of itself."""
        source = f"recognition of {self.classifier.features} people, {self.config.data.root}"
        return {"encoder": self.encoder, "input": IMAGENET, "source": source}

    def finish(self, variables: Any, parallel: Parallel, workdir: pathlib.Path, began: float) -> dict[str, Any]:
        """Writes teacher.safetensors and metrics.json, of the people of `eval.split`; returns what the latter holds."""
        extract, on_devices = self._extractor(parallel), parallel.replicate(variables)
        judged = np.concatenate([extract(on_devices, part) for part in self._judged])
        teacher = self.teacher(variables, extract(on_devices, self._val))
        hosts.by_first(lambda: self._write(workdir, judged, teacher, began))
        return json.loads((workdir / "metrics.json").read_text("utf-8"))

    def _write(self, workdir: pathlib.Path, features: np.ndarray, teacher: dict[str, Any], began: float) -> None:
        subjects = np.concatenate([part.subjects for part in self._judged])
        models.weights.save(workdir / "teacher.safetensors", teacher, self.meta)
        interval = verification_interval(features, subjects)
        result = {
            "split": self.config.eval.split,
            "n_images": len(subjects),
            "n_subjects": len(set(subjects)),
            "verification_auc": verification_auc(features, subjects),
            "ci95": {"verification_auc": list(interval)} if interval else {},
            "n_params": sum(x.size for x in jax.tree.leaves(teacher["params"])),
            "config_hash": run_folder.config_hash(self.config),
            "seconds": round(time.monotonic() - began, 1),
        }
        files.write_text(workdir / "metrics.json", json.dumps(result, indent=1))

    def teacher(self, variables: Any, features: np.ndarray) -> dict[str, Any]:
        """The variables of `models.build_encoder(**self.encoder)`; ArcFace's classifier is scaled to the mean norm of
        `features`, `[N, C]`."""
        params, batch_stats = variables["params"], variables["batch_stats"]["encoder"]
        if self.embeds:
            return {"params": params["encoder"], "batch_stats": batch_stats}
        classifier = params["classifier"]
        if self.config.recognition.loss == "arcface":
            norm = np.linalg.norm(features, axis=1).mean()
            classifier = classifier | {
                "kernel": self.config.recognition.scale / norm * _unit(classifier["kernel"], axis=0)
            }
        return {"params": params["encoder"] | {"classifier": classifier}, "batch_stats": batch_stats}


def _unit(vectors: Array, *, axis: int) -> Array:
    """Of length 1 along `axis`; a vector of zeros stays one, with a finite gradient."""
    return vectors * jax.lax.rsqrt(jnp.maximum(jnp.sum(vectors**2, axis=axis, keepdims=True), 1e-12))
