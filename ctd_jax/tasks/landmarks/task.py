"""The task: landmarks by heatmaps, near to a teacher."""

import functools
import logging
import operator
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import ConfigDict
from PIL import Image

from ctd_jax import data, models, report
from ctd_jax.data import augment
from ctd_jax.errors import UserError
from ctd_jax.losses import supervised
from ctd_jax.models import cost
from ctd_jax.tasks.added_domains import AddedDomains
from ctd_jax.tasks.landmarks import domains, evaluate, heatmaps, presence
from ctd_jax.tasks.landmarks.network import build, flip_order_of, forward, look
from ctd_jax.tasks.landmarks.teacher_run import load_teacher_run
from ctd_jax.tasks.landmarks.trained import TrainedLandmarks
from ctd_jax.tasks.student import Facts, StudentTask
from ctd_jax.tasks.task import Validator
from ctd_jax.tasks.teacher import TeacherNetwork
from ctd_jax.tasks.trained import Run
from ctd_jax.training import checkpoint
from ctd_jax.training.parallel import Parallel
from ctd_jax.typing import Batch, Features, HostBatch, Params, Variables

_log = logging.getLogger(__name__)


class LandmarkTask(StudentTask):
    """Network, loss, validation and test of heatmaps; the loss of an hourglass is the sum over its stacks."""

    targets: ClassVar[data.Kind] = data.LANDMARKS
    marks = "A circle is an annotated landmark."
    finds_landmarks = True

    def __init__(self, config: ConfigDict, pictures: data.SplitPictures):
        self.landmarks = pictures.targets.landmarks
        known = {name: part.targets.landmarks for name, part in pictures.parts.items()}
        self._mirrors = {name: one.flip_pairs is not None for name, one in known.items()}
        self._flip_order = flip_order_of(config, self.landmarks)
        domains.warn_of_sizes(pictures)
        if config.eval.mirror:
            _warn_of_no_mirror(config, pictures)
        for domain, part in pictures.evaluated.items():
            title = f"domain {domain}: " if domain else ""
            data.coverage.check(part.targets.xy, part.split_of, title)
        added = {"coordinates": config.coordinates.weight}
        if self.landmarks.absent:
            added[presence.NAME] = config.presence.weight
        counts = {name: len(one.names) for name, one in known.items()}
        of_heads = {presence.head_of(name): number for name, number in counts.items()}
        self._heads = of_heads or {presence.ALONE: len(self.landmarks.names)}
        super().__init__(
            config,
            pictures,
            outputs={name: one.names for name, one in known.items()},
            build=functools.partial(build, config, num_landmarks=len(self.landmarks.names), of_domain=counts),
            terms=("heatmap",),
            added={name: weight for name, weight in added.items() if weight},
        )
        if self._added_domains and self.outputs:
            self._check_old(self._added_domains)
        self.check()

    def _check_old(self, start: AddedDomains) -> None:
        """Raises UserError if more is said of a landmark of an old domain, whose pictures teach nothing now, than when
        it was learned."""
        reads_presence = any(path[1] == presence.NAME for path in start.known)
        could_be_absent = (start.meta.get("absent") or ()) if reads_presence else ()
        for name, learned in zip(self.landmarks.names, self._learned.tolist(), strict=True):
            if name.split("/")[0] not in start.old:
                continue
            if presence.NAME in self._added and name in self.landmarks.absent and name not in could_be_absent:
                raise UserError(
                    f"domains.start is {start.workdir}, which has not learned whether {name} may be absent, and its "
                    "domain learns nothing now; leave it out of `absent` in dataset.json, or train all domains together"
                )
            if learned and name in (start.meta.get("never_annotated") or ()):
                raise UserError(
                    f"domains.start is {start.workdir}, where no training picture had {name}, and its domain learns "
                    "nothing now; leave out its points, or train all domains together"
                )

    @classmethod
    def read_teacher_run(cls, config: ConfigDict, pictures: data.SplitPictures) -> TeacherNetwork:
        return load_teacher_run(config, pictures)

    def heads(self, key: Array) -> Params:
        heads = {}
        if "coordinates" in self._added:
            shape = self.feature_shapes[0]["encoder"].shape[-1], 2 * len(self.landmarks.names)
            heads["coordinates"] = {
                "kernel": nn.initializers.normal(0.001)(key, shape),
                "bias": jnp.full(shape[1], 0.5),
            }
        if presence.NAME in self._added:
            heads[presence.NAME] = presence.init(key, self.feature_shapes[0], self._heads)
        return heads

    def augmented(self, batch: Batch, keys: Array) -> tuple[Array, tuple[Array, Array, Array]]:
        picture, xy = self._moved(batch, keys)
        inside = jnp.all((xy >= -0.5) & (xy <= self.size - 0.5), axis=-1)
        return picture, (self._draw(xy, self.model.stride), inside, xy)

    def _moved(self, batch: Batch, keys: Array) -> tuple[Array, Array]:
        """Pictures under random keys, `[B, S, S, 3]` float32, and their landmarks `[B, K, 2]` in pixels of them; one
        that is not annotated is at infinity, one that is absent at minus infinity."""
        if "raters_xy" in batch:
            batch = data.raters.draw(keys, batch)
        augmentation, flip_order = self.augmentation, self.landmarks.flip_order
        nowhere = jnp.where(self._absent(batch), -jnp.inf, jnp.inf)[..., None]

        def move(
            key: Array, picture: Array, xy: Array, mask: Array, nowhere: Array, mirrors: Array
        ) -> tuple[Array, Array]:
            affine = augment.random_affine(key, augmentation, mirrors=mirrors)
            xy = jnp.where(mask[:, None], augment.move_points(affine, xy, self.size), nowhere)
            picture = augment.move_picture(affine, augment.change_greys(key, picture, augmentation))
            return picture, augment.swap_pairs(affine, xy, flip_order)

        return jax.vmap(move)(keys, batch["picture"], batch["xy"], batch["mask"], nowhere, self._may_mirror(batch))

    def _absent(self, batch: Batch) -> Array:
        """`[B, K]` whether a landmark is known to be absent: it may be, and others of its picture are annotated."""
        absent = self._may_be_absent & ~batch["mask"] & batch["mask"].any(axis=-1, keepdims=True)
        return absent & self._of_domain(batch["domain"]) if "domain" in batch else absent

    @property
    def _may_be_absent(self) -> Array:
        """`[K]` whether dataset.json says so of a landmark."""
        return jnp.asarray(np.isin(self.landmarks.names, self.landmarks.absent))

    def _of_domain(self, domain: Array) -> Array:
        """`[B, K]` whether a landmark is one of the domain of a picture."""
        counts = [len(names) for names in self.outputs.values()]
        return jnp.asarray(np.repeat(np.arange(len(counts)), counts)) == domain[:, None]

    def _may_mirror(self, batch: Batch) -> Array:
        """`[B]` whether each picture may be mirrored."""
        if "domain" in batch:
            return jnp.array(list(self._mirrors.values()))[batch["domain"]]
        return jnp.broadcast_to(self.landmarks.flip_order is not None, len(batch["picture"]))

    def average_heatmaps(self, variables: Variables, batch: Batch, keys: Array) -> tuple[Array, Array]:
        domain, flip_order = batch.get("domain"), self.landmarks.flip_order
        picture = models.normalize(batch["picture"], self.teacher.input)
        found, _ = models.apply_in_training(self.model, variables, picture, domain, remat=False)

        def move(key: Array, maps: Array, mirrors: Array) -> tuple[Array, Array]:
            affine = augment.random_affine(key, self.augmentation, mirrors=mirrors)
            covered = augment.move_picture(affine, jnp.ones_like(maps)) > 0.5
            return augment.swap_pairs(affine, augment.move_picture(affine, maps), flip_order, axis=-1), covered

        maps, known = jax.vmap(move)(keys, found["heatmaps"], self._may_mirror(batch))
        if domain is not None:
            known &= self._of_domain(domain)[:, None, None]
        return maps, known

    def painted(self, batch: HostBatch, keys: Array | None) -> list[Image.Image]:
        xy = np.where(batch["mask"][..., None], batch["xy"], np.nan)
        seen = (batch["picture"], xy) if keys is None else self._moved(jax.tree.map(jnp.asarray, batch), keys)
        picture, xy = (np.asarray(part) for part in seen)
        nothing = np.full_like(xy[0], np.nan)
        return [
            report.paint_points(one.round().astype(np.uint8), nothing, points, side=report.augmented.SIDE)
            for one, points in zip(picture, xy, strict=True)
        ]

    def _draw(self, xy: Array, stride: int) -> Array:
        return heatmaps.draw(xy, size=self.size, stride=stride, sigma=self.config.model.sigma)

    def task_terms(self, student: Features, params: Params, truth: tuple[Array, ...]) -> dict[str, Array]:
        true_heatmaps, inside, xy = truth
        stacks = student.get("stacks", student["heatmaps"][None])
        loss = supervised.HEATMAP_LOSSES[self.config.train.heatmap_loss]
        of_stacks = [loss(stack, true_heatmaps, inside) for stack in stacks]
        terms = {"heatmap": functools.reduce(operator.add, of_stacks)}
        if "coordinates" in self._added:
            pooled = jnp.mean(student["encoder"].astype(jnp.float32), axis=(1, 2))
            read = pooled @ params["coordinates"]["kernel"] + params["coordinates"]["bias"]
            terms["coordinates"] = supervised.coordinate_error(read.reshape(xy.shape), xy / self.size, inside)
        if presence.NAME in self._added:
            known = self._may_be_absent & (inside | (xy[..., 0] == -jnp.inf))
            logits = presence.logits(student, params[presence.NAME], list(self._heads))
            terms[presence.NAME] = supervised.presence_cross_entropy(logits, inside, known)
        return terms

    @functools.cached_property
    def _drawn(self) -> Callable[[np.ndarray, int], Array]:
        return jax.jit(self._draw, static_argnums=1)

    def true_maps(self, batch: HostBatch, cells: int) -> np.ndarray:
        xy = np.where(batch["mask"][..., None], batch["xy"], np.float32(np.inf))
        return np.asarray(self._drawn(xy, self.size // cells))

    def _compiled(self, parallel: Parallel, made: Callable[..., Any]) -> Callable[..., Any]:
        """`forward` or `look`, on the devices."""
        body = made(self.model, self.teacher.input, self._flip_order, self._mirrors)
        return parallel.compile(body, sharded=True)

    def validator(self, parallel: Parallel) -> Validator:
        """Function of variables on the devices: the error of the validation pictures, and how a person reads it; see
        `domains.validation_error`."""
        body = self._compiled(parallel, forward)

        def validate(variables: Variables) -> tuple[float, str]:
            table = evaluate.predict(body, variables, self.val, parallel, self.config.eval.batch_size)
            return domains.validation_error(table.masked(self._learned), self.pictures)

        return validate

    @property
    def _learned(self) -> np.ndarray:
        """`[K]` whether a training picture teaches the landmark, or another run does, see `_learned_before`."""
        taught = self.pictures.trained_on.targets.taught.any(axis=0)
        return taught | np.isin(self.landmarks.names, self._learned_before)

    @property
    def _learned_before(self) -> list[str]:
        """Landmarks that the run that this one goes on from has learned, or the one whose heatmaps teach it."""
        start, names, known = self._start or self._added_domains, self.landmarks.names, set()
        if self._run and self._constraints.of_heatmaps:
            known = {name for i, name in enumerate(names) if i not in self._run.unlearned}
        if start:
            old = [name for name in names if not self._added_domains or name.split("/")[0] in self._added_domains.old]
            known |= set(old) - set(start.meta.get("never_annotated") or ())
        return [name for name in names if name in known]

    @property
    def meta(self) -> dict[str, Any]:
        """What `predict` needs beside the weights and the configuration, and what may not change during a run."""
        everything = self.pictures.everything
        of_raters = [everything.targets.of_raters] if everything.targets.draws else []
        return {
            "landmarks": list(self.landmarks.names),
            "encoder": self.encoder,
            "input": self.teacher.input,
            "grey": self.pictures.grey_of_run,
            "boxes": bool(np.isfinite(self.train.boxes[self.train.known]).any()),
            "flip_pairs": self.landmarks.flip_pairs,
            "normalizer": self.landmarks.normalizer,
            "absent": list(self.landmarks.absent) or None,
            "never_annotated": np.array(self.landmarks.names)[~self._learned].tolist() or None,
            "domains": domains.meta(self.pictures),
            "annotations": checkpoint.digest([everything.targets.xy, everything.spacing, everything.boxes, *of_raters]),
            "teacher weights": checkpoint.digest(self.teacher.variables),
            "teacher run": checkpoint.digest(self._run.variables) if self._run else None,
            "start": self._start.noted["network"] if self._start else None,
        }

    def finish(self, variables: Variables, parallel: Parallel, workdir: pathlib.Path, began: float) -> dict[str, Any]:
        """Reads the test pictures and writes the results; returns what metrics.json holds."""
        digest = checkpoint.digest(checkpoint.network_of(variables))
        variables, n_params = self.for_prediction(variables, parallel)
        body = self._compiled(parallel, look)
        passes = 2 if self._flip_order else 1  # of a picture through the network
        gflops = cost.gflops(self.model, self.size)
        of_picture = None if gflops is None else passes * gflops
        facts = Facts(n_params, began, of_picture, digest, self.start_named, tuple(self._learned_before))
        return evaluate.evaluate(body, variables, self.pictures, parallel, self.config, workdir, facts)

    @classmethod
    def trained(cls, run: Run, domain: str | None, config: ConfigDict) -> TrainedLandmarks:
        return TrainedLandmarks.read(run, domain, config)

    @staticmethod
    def console(result: Mapping[str, Any], workdir: pathlib.Path) -> str:
        return f"{report.console(result)}\nReport: {workdir / 'report.html'}"


def _warn_of_no_mirror(config: ConfigDict, pictures: data.SplitPictures) -> None:
    """Warns of kinds of pictures that are seen as they are, though their mirror images are asked for."""
    parts = pictures.parts or {"": pictures}
    without = [name for name, part in parts.items() if part.targets.landmarks.flip_pairs is None]
    for name in without if config.augment.flip else [""]:
        why = "dataset.json has no flip_pairs" if config.augment.flip else "augment.flip is 0"
        _log.warning("%seval.mirror is True, but %s: no mirror images are averaged", name and f"{name}: ", why)
