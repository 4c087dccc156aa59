"""The source task: who is who. Makes a teacher out of any pictures with subjects."""

import functools
import json
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from ml_collections import ConfigDict
from PIL import Image

from ctd_jax import data, files, models
from ctd_jax.config import check_unread, config_hash
from ctd_jax.data import augment
from ctd_jax.errors import UserError
from ctd_jax.losses.supervised import arcface_logits, unit_vectors
from ctd_jax.metrics.verification import verification_auc, verification_interval
from ctd_jax.tasks.task import Validator
from ctd_jax.tasks.teacher import IMAGENET
from ctd_jax.tasks.trained import Run, Trained
from ctd_jax.training import checkpoint, hosts, inference
from ctd_jax.training.parallel import AXIS, Parallel
from ctd_jax.typing import Batch, Features, HostBatch, Params, Tree, Variables

EMBEDDING = 128  # length of MobileFaceNet's, as published (Chen et al. 2018)
UNREAD = {  # keys of the other tasks, and the only value that each may have
    "teacher.weights": "none",
    "teacher.run": "",
    "model.start": "",
    "domains.start": "",
    "data.unlabelled": "",
    "data.raters": "mean",
    "model.network": "encoder_decoder",
    "model.decoder": "dense",
    "coordinates.weight": 0.0,
    "train.heatmap_loss": "mse",
    "train.encoder_layers": "all",
    "eval.mirror": False,
}


class RecognitionTask:
    """An encoder with a classifier over the training subjects, validated on people it has never seen.

    People are told apart by a ResNet's pooled map, and by MobileFaceNet's embedding. With `recognition.loss` "softmax"
    the classifier is linear in these features, with "arcface" its logits are cosines (`arcface_logits`).

    The teacher's head, which a landmark network may be tied to, is the classifier of a ResNet, one logit for each
    training subject, and the embedding of MobileFaceNet, whose classifier stays behind. ArcFace's classifier is written
    without bias and so scaled that it has the logits of training, before the margin, for features of val's mean norm.
    EfficientNet-Lite0's is behind a further layer, which has no part here: its teacher has no head.

    Raises:
      UserError: settings or people that recognition can't be learned or tested with.
    """

    targets: ClassVar[data.Kind] = data.IDENTITIES
    last_file: ClassVar[str] = "metrics.json"
    marks: ClassVar[str] = ""
    finds_landmarks: ClassVar[bool] = False
    terms: tuple[str, ...] = ("cross_entropy",)
    gradient_terms: tuple[str, ...] = ()
    term_weights: Mapping[str, float] = {}
    constants: Mapping[str, Tree] = {}
    start: Mapping[str, Any] = {}

    def __init__(self, config: ConfigDict, pictures: data.SplitPictures):
        self.config, self.pictures = config, pictures
        self.augmentation = data.Augmentation.of(config.augment)
        self.train, self._val = pictures.split("train"), pictures.split("val")
        self._tested = [pictures.split(name) for name in pictures.splits_called(config.eval.split)]
        self._check()
        people, name = len(set(self.train.subjects)), config.model.encoder
        axis_name = AXIS if config.train.batch_norm == "global" else None
        build = functools.partial(
            models.build_encoder, name, dtype=models.activation_dtype(config.dtype), axis_name=axis_name
        )
        self.embeds = build().head == "embedding"
        self.model = build(num_outputs=EMBEDDING if self.embeds else 0)
        self.classifier = nn.Dense(people)
        shapes = jax.eval_shape(self.init, 0)  # a picture size that the network can't take is found here
        head = EMBEDDING if self.embeds else people
        picture = jnp.zeros((1, config.data.image_size, config.data.image_size, 3))
        whole = jax.eval_shape(lambda: build(num_outputs=head).init(jax.random.key(0), picture, train=False))
        of_head = whole["params"].keys() - shapes["params"]["encoder"].keys()
        self.encoder = {"name": name, "num_outputs": head if self.embeds or of_head == {"classifier"} else 0}

    def _check(self) -> None:
        number = len(self.pictures.everything.domains)
        if number > 1:
            raise UserError(f"data.root has {number} domains, but recognition learns from one; give one folder")
        check_unread(
            self.config,
            UNREAD | {f"constraints.{name}.weight": 0.0 for name in self.config.constraints},
            "the task is recognition, which starts from random weights and learns from labels alone",
        )
        known = set(self.train.subjects)
        if len(known) == 1:
            raise UserError(
                f"all {len(self.train)} training pictures are of {known.pop()}; recognition needs two people"
            )
        for name, part in [("val", self._val)] + [(self.config.eval.split, part) for part in self._tested]:
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

    def init(self, seed: int) -> Variables:
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

    def param_labels(self, params: Params) -> Tree:
        """All of the network learns with the encoder's rate."""
        return jax.tree.map(lambda _: "encoder", params)

    def loss(
        self, params: Params, batch_stats: Tree, constants: Tree, batch: Batch, keys: Array
    ) -> tuple[Array, tuple[Tree, dict[str, Array]]]:
        """Cross-entropy over the training subjects. See `Task.loss`."""
        picture = self.augmented(batch, keys)
        out, updates = models.apply_in_training(
            self.model,
            {"params": params["encoder"], "batch_stats": batch_stats["encoder"]},
            models.normalize(picture, IMAGENET),
            remat=self.config.train.remat,
        )
        logits = self.logits(self._features(out), params["classifier"], batch["subject"])
        loss = optax.losses.softmax_cross_entropy_with_integer_labels(logits, batch["subject"])
        return loss, ({"encoder": updates["batch_stats"]}, {"cross_entropy": loss})

    def augmented(self, batch: Batch, keys: Array) -> Array:
        """Pictures as training sees them under random keys `[B]`: `[B, S, S, 3]` float32 in 0..255."""

        def move(key: Array, picture: Array) -> Array:
            affine = augment.random_affine(key, self.augmentation, mirrors=self.pictures.targets.mirrored)
            return augment.move_picture(affine, augment.change_greys(key, picture, self.augmentation))

        return jax.vmap(move)(keys, batch["picture"])

    def painted(self, batch: HostBatch, keys: Array | None) -> list[Image.Image]:
        picture = np.asarray(
            batch["picture"] if keys is None else self.augmented(jax.tree.map(jnp.asarray, batch), keys)
        )
        return [Image.fromarray(one) for one in picture.round().astype(np.uint8)]

    def _features(self, out: Features) -> Array:
        """`[B, C]`, what people are told apart by."""
        return out["embedding"] if self.embeds else jnp.mean(out["encoder"].astype(jnp.float32), axis=(1, 2))

    def logits(self, features: Array, classifier: Params, subjects: Array) -> Array:
        """`[B, N]` logits of N subjects.

        Args:
          features: `[B, C]`.
          classifier: its parameters.
          subjects: `[B]` who is on each picture, for ArcFace's margin.
        """
        settings = self.config.recognition
        if settings.loss == "softmax":
            return cast(Array, self.classifier.apply({"params": classifier}, features))
        cosines = unit_vectors(features, axis=1) @ unit_vectors(classifier["kernel"], axis=0)
        return arcface_logits(cosines, subjects, margin=settings.margin, scale=settings.scale)

    def _extractor(self, parallel: Parallel) -> Callable[[Variables, data.Dataset], np.ndarray]:
        """Function of variables on the devices and N pictures: their features, `[N, C]`."""

        def body(variables: Variables, batch: Batch) -> Array:
            encoder = {kind: tree["encoder"] for kind, tree in variables.items()}
            picture = models.normalize(batch["picture"], IMAGENET)
            return self._features(models.apply_in_evaluation(self.model, encoder, picture))

        compiled = parallel.compile(body, sharded=True)
        size = self.config.eval.batch_size
        return lambda variables, part: inference.apply(compiled, variables, part, parallel, size)[0]

    def validator(self, parallel: Parallel) -> Validator:
        """Function of variables on the devices: 1 - verification AUC on the people of val, and as text."""
        extract = self._extractor(parallel)

        def validate(variables: Variables) -> tuple[float, str]:
            auc = verification_auc(extract(variables, self._val), np.array(self._val.subjects))
            return 1 - auc, f"verification AUC {auc:.3f}"

        return validate

    @property
    def meta(self) -> dict[str, Any]:
        """What may not change during a run; None: not there, as in a checkpoint of an older version."""
        boxes = self.pictures.everything.boxes
        return {
            "encoder": self.encoder,
            "input": IMAGENET,
            "annotations": checkpoint.digest(boxes) if np.isfinite(boxes).any() else None,
            "flip_pairs": self.pictures.targets.mirrored or None,
        }

    def finish(self, variables: Variables, parallel: Parallel, workdir: pathlib.Path, began: float) -> dict[str, Any]:
        """Writes teacher.safetensors and metrics.json, of the people of `eval.split`; returns what the latter holds."""
        extract, on_devices = self._extractor(parallel), parallel.replicate(variables)
        tested = np.concatenate([extract(on_devices, part) for part in self._tested])
        teacher = self.teacher_variables(variables, extract(on_devices, self._val))
        hosts.by_first(lambda: self._write(workdir, tested, teacher, began))
        return json.loads((workdir / "metrics.json").read_text("utf-8"))

    def _write(self, workdir: pathlib.Path, features: np.ndarray, teacher: dict[str, Any], began: float) -> None:
        subjects = np.concatenate([part.subjects for part in self._tested])
        source = f"recognition of {self.classifier.features} people, {self.config.data.root}"
        meta = {"encoder": self.encoder, "input": IMAGENET, "source": source}
        models.weight_file.save(workdir / "teacher.safetensors", teacher, meta)
        interval = verification_interval(features, subjects)
        result = {
            "split": self.config.eval.split,
            "n_images": len(subjects),
            "n_subjects": len(set(subjects)),
            "verification_auc": verification_auc(features, subjects),
            "ci95": {"verification_auc": list(interval)} if interval else {},
            "n_params": sum(x.size for x in jax.tree.leaves(teacher["params"])),
            "config_hash": config_hash(self.config),
            "seconds": round(time.monotonic() - began, 1),
        }
        files.write_text(workdir / "metrics.json", json.dumps(result, indent=1))

    def teacher_variables(self, variables: Variables, features: np.ndarray) -> dict[str, Any]:
        """The variables of `models.build_encoder(**self.encoder)`; ArcFace's classifier is scaled to the mean norm of
        `features`, `[N, C]`."""
        params, batch_stats = variables["params"], variables["batch_stats"]["encoder"]
        if self.embeds or not self.encoder["num_outputs"]:
            return {"params": params["encoder"], "batch_stats": batch_stats}
        classifier = params["classifier"]
        if self.config.recognition.loss == "arcface":
            norm = np.linalg.norm(features, axis=1).mean()
            classifier = classifier | {
                "kernel": self.config.recognition.scale / norm * unit_vectors(classifier["kernel"], axis=0)
            }
        return {"params": params["encoder"] | {"classifier": classifier}, "batch_stats": batch_stats}

    @classmethod
    def trained(cls, run: Run, domain: str | None, config: ConfigDict) -> Trained:
        raise UserError(f"{run.workdir}: this run learned recognition; give one that learned landmarks or segmentation")

    @staticmethod
    def console(result: Mapping[str, Any], workdir: pathlib.Path) -> str:
        return (
            f"Verification AUC on unseen people: {result['verification_auc']:.3f}\n"
            f"Teacher: {workdir / 'teacher.safetensors'}"
        )
