"""The task: which class each pixel is of, in pictures of one or several domains."""

import functools
import logging
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import ConfigDict
from PIL import Image

from ctd_jax import data, report
from ctd_jax.config import check_unread
from ctd_jax.data import augment
from ctd_jax.errors import UserError
from ctd_jax.losses import supervised
from ctd_jax.metrics import segmentation
from ctd_jax.tasks.segmentation import evaluate
from ctd_jax.tasks.segmentation.network import Layout, build, forward, look, mirrors
from ctd_jax.tasks.segmentation.trained import TrainedClassMaps
from ctd_jax.tasks.student import Facts, StudentTask
from ctd_jax.tasks.task import Validator
from ctd_jax.tasks.trained import Run
from ctd_jax.training import checkpoint, inference
from ctd_jax.training.parallel import Parallel
from ctd_jax.typing import Batch, Features, HostBatch, Params, Variables

_log = logging.getLogger(__name__)
UNREAD = {  # keys of landmarks, and the only value that each may have
    "data.raters": "mean",
    "model.network": "encoder_decoder",
    "model.decoder": "dense",
    "coordinates.weight": 0.0,
    "train.heatmap_loss": "mse",
}


class SegmentationTask(StudentTask):
    """Network, loss, validation and test of class maps.

    The loss is cross-entropy + `segmentation.dice` x Dice loss. With `domains.heads` a picture's softmax is over the
    classes of its own domain; without, over those of all domains, with one background. What is found in a picture is
    always a class of its domain, which is known.

    Raises:
      UserError: teacher, data and configuration don't go together.
    """

    targets: ClassVar[data.Kind] = data.CLASS_MAPS
    marks = "An outline is that of an annotated class."

    def __init__(self, config: ConfigDict, pictures: data.SplitPictures):
        check_unread(config, UNREAD, "the task is segmentation, whose network has no landmarks and one decoder")
        self.classes = pictures.targets.classes
        self.layout = Layout.of(self.classes, heads=config.domains.heads)
        segmentation.suffixes(self.classes)  # names that would clash are found here
        if config.eval.mirror and not mirrors(config):
            _log.warning("eval.mirror is True, but augment.flip is 0: no mirror images are averaged")
        super().__init__(
            config,
            pictures,
            outputs=self.classes,
            build=functools.partial(build, config, classes=self.classes),
            terms=("segmentation", "cross_entropy", "dice_loss"),
            added={},
        )
        self.check()
        self._check_val()
        self._shown = data.class_maps.shown(self.train)
        self._warn_of_small()

    def _check_val(self) -> None:
        """Raises UserError if the network sees no class at all in val's pictures of a domain."""
        found = data.class_maps.shown(self.val)
        for number, (domain, names) in enumerate(self.classes.items()):
            here = int((self.val.domain == number).sum())
            if here and not any(found[domain, name][0] for name in names[1:]):
                raise UserError(
                    f"data.image_size is {self.size}, where every class of {domain} is too small to be seen in all "
                    f"{here} pictures of val, by which the best checkpoint is chosen; give a larger data.image_size"
                )

    def _warn_of_small(self) -> None:
        small = [
            f"{name} of {domain} in {n_small} of {n_seen + n_small}"
            for (domain, name), (n_seen, n_small) in self._shown.items()
            if n_small
        ]
        if small:
            _log.warning("too small to be seen at %d x %d pixels: %s training pictures that have it; give a larger "
                         "--config.data.image_size", self.size, self.size, ", ".join(small))  # fmt: skip

    @property
    def _untrained(self) -> dict[tuple[str, str], int]:
        """Domain and class of those that no training picture shows to the network, nor the run knows that this one goes
        on from -> the number of training pictures that have it, too small to be seen."""
        start, before = self._start or self._added_domains, set()
        if start:
            old = self._added_domains.old if self._added_domains else self.classes
            never = start.meta.get("never_annotated") or ()
            before = {pair for pair in self._shown if pair[0] in old and "/".join(pair) not in never}
        return {pair: small for pair, (seen, small) in self._shown.items() if not seen and pair not in before}

    def augmented(self, batch: Batch, keys: Array) -> tuple[Array, tuple[Array, Array]]:
        picture, classes = self._moved(batch, keys)
        return picture, (self.layout.places(classes, batch["domain"]), batch["domain"])

    def _moved(self, batch: Batch, keys: Array) -> tuple[Array, Array]:
        """Pictures under random keys, `[B, S, S, 3]` float32, and their classes `[B, S, S]`."""

        def move(key: Array, picture: Array, classes: Array) -> tuple[Array, Array]:
            affine = augment.random_affine(key, self.augmentation)
            picture = augment.move_picture(affine, augment.change_greys(key, picture, self.augmentation))
            return picture, augment.move_classes(affine, classes, outside=data.class_maps.OUTSIDE)

        return jax.vmap(move)(keys, batch["picture"], batch["classes"])

    def painted(self, batch: HostBatch, keys: Array | None) -> list[Image.Image]:
        seen = (
            (batch["picture"], batch["classes"])
            if keys is None
            else self._moved(jax.tree.map(jnp.asarray, batch), keys)
        )
        picture, classes = (np.asarray(part) for part in seen)
        classes = np.where(classes == data.class_maps.OUTSIDE, 0, classes).astype(np.uint8)
        nothing = np.zeros_like(classes[0])
        return [
            report.paint_outlines(one.round().astype(np.uint8), nothing, true, side=report.augmented.SIDE)
            for one, true in zip(picture, classes, strict=True)
        ]

    def task_terms(self, student: Features, params: Params, truth: tuple[Array, Array]) -> dict[str, Array]:
        places, domain = truth
        logits = student["logits"]
        if self.config.domains.heads:
            logits = self.layout.within(logits, domain)
        entropy = supervised.pixel_cross_entropy(logits, places)
        dice = supervised.soft_dice(logits, places, jnp.asarray(self.layout.foreground))
        return {
            "segmentation": entropy + self.config.segmentation.dice * dice,
            "cross_entropy": entropy,
            "dice_loss": dice,
        }

    def true_maps(self, batch: HostBatch, cells: int) -> np.ndarray:
        """The share of each class in a cell; see `StudentTask.true_maps`."""
        places = self.layout.places(jnp.asarray(batch["classes"]), jnp.asarray(batch["domain"]))
        true = jax.nn.one_hot(places, self.layout.total)
        stride = self.size // cells
        return np.asarray(true.reshape(len(true), cells, stride, cells, stride, -1).mean((2, 4)))

    def _compiled(self, parallel: Parallel) -> Callable[..., Any]:
        body = forward(self.model, self.teacher.input, self.layout, mirror=mirrors(self.config))
        return parallel.compile(body, sharded=True)

    def validator(self, parallel: Parallel) -> Validator:
        """Function of variables on the devices: 1 - mean Dice over the classes and domains of val, in the network's
        pixels, and how a person reads it."""
        compiled, size = self._compiled(parallel), self.config.eval.batch_size

        def validate(variables: Variables) -> tuple[float, str]:
            found, start = [], 0
            for probabilities, _, _ in inference.each(compiled, variables, self.val, parallel, size):
                indices = np.arange(start, start + len(probabilities))
                true, number = self.val.batch(indices)["classes"], probabilities.shape[-1]
                found.append(segmentation.class_dice(probabilities.argmax(-1), true, number))
                start += len(indices)
            dice = segmentation.mean_dice(np.concatenate(found), self.val.domain)
            return 1 - dice, f"1 - mean Dice {1 - dice:.3f}"

        return validate

    @property
    def meta(self) -> dict[str, Any]:
        """What `predict` needs beside the weights and the configuration, and what may not change during a run."""
        return {
            "domains": [{"name": domain, "classes": list(names)} for domain, names in self.classes.items()],
            "encoder": self.encoder,
            "input": self.teacher.input,
            "grey": self.pictures.grey_of_run,
            "never_annotated": ["/".join(pair) for pair in self._untrained] or None,
            "teacher weights": checkpoint.digest(self.teacher.variables),
            "start": self._start.noted["network"] if self._start else None,
        }

    def finish(self, variables: Variables, parallel: Parallel, workdir: pathlib.Path, began: float) -> dict[str, Any]:
        """Reads the test pictures and writes the results; returns what metrics.json holds."""
        digest = checkpoint.digest(checkpoint.network_of(variables))
        variables, n_params = self.for_prediction(variables, parallel)
        body, facts = self._compiled(parallel), Facts(n_params, began, digest=digest, start=self.start_named)
        looking = look(self.model, self.teacher.input, self.layout)
        features = parallel.compile(lambda *seen: looking(*seen)["features"], sharded=True)
        evaluate.learn(features, variables, self.pictures, parallel, self.config, workdir, facts)
        return evaluate.evaluate(body, variables, self.pictures, parallel, self.config, workdir, facts, self._untrained)

    @classmethod
    def trained(cls, run: Run, domain: str | None, config: ConfigDict) -> TrainedClassMaps:
        return TrainedClassMaps.read(run, domain, config)

    @staticmethod
    def console(result: Mapping[str, Any], workdir: pathlib.Path) -> str:
        return f"{report.segmentation.console(result)}\nReport: {workdir / 'report.html'}"
