"""What the tasks of a student share: it starts from a teacher, and constraints tie the two."""

import abc
import dataclasses
import functools
import logging
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import path_aware_map
from jax import Array
from ml_collections import ConfigDict
from PIL import Image

from ctd_jax import data, models
from ctd_jax.errors import UserError
from ctd_jax.losses.terms import Terms
from ctd_jax.tasks.added_domains import AddedDomains
from ctd_jax.tasks.start_run import StartRun, warn_of_known
from ctd_jax.tasks.teacher import TeacherNetwork, load_teacher, missing_run
from ctd_jax.training import checkpoint
from ctd_jax.training.parallel import AXIS, Parallel
from ctd_jax.typing import Batch, Features, HostBatch, Params, Tree, Variables

_log = logging.getLogger(__name__)
MAX_FOR_CHANNELS = 64  # labelled pictures that DELTA's channel weights are measured on
CHANNELS_BATCH = 8  # of these at once, so that one compiled program serves any number of them


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a result says of its run.

    Attributes:
      n_params: of the network.
      began: `time.monotonic()` at the start of the run.
      gflops: see `cost.gflops`; None: they are not counted.
      digest: of the network's variables, see `checkpoint.digest`.
      start: what metrics.json says of the run that it went on from, `run` and `config_hash`; none: there is none.
      learned_before: landmarks that that run has learned, or the one that teaches by its heatmaps.
    """

    n_params: int
    began: float
    gflops: float | None = None
    digest: str = ""
    start: Mapping[str, str] = dataclasses.field(default_factory=dict)
    learned_before: tuple[str, ...] = ()

    @property
    def of_start(self) -> dict[str, Any]:
        """The part of metrics.json that `start` is."""
        return {"start": dict(self.start)} if self.start else {}


class StudentTask(abc.ABC):
    """A student that starts from a teacher, and the constraints between the two.

    A task says how its network is built, and which of its terms there are, by the arguments of the constructor. The
    constructor calls no method that a subclass has; `check`, which does, is called by the subclass, last of all.

    Args:
      config: of the run.
      pictures: its pictures.
      outputs: domain -> names of what the network says of it; none: there are no domains.
      build: `(encoder, num_outputs=, axis_name=) -> network`, whose arguments are those of `models.build`.
      terms: names of the task's own terms; the first is what the others are added to.
      added: name -> weight of further terms of the task, that are added to the first of `terms`.

    Raises:
      UserError: teacher, data and configuration don't go together.
    """

    targets: ClassVar[data.Kind]
    last_file: ClassVar[str] = "report.html"
    marks: ClassVar[str]
    finds_landmarks: ClassVar[bool] = False

    def __init__(
        self,
        config: ConfigDict,
        pictures: data.SplitPictures,
        *,
        outputs: Mapping[str, Sequence[str]],
        build: Callable[..., nn.Module],
        terms: Sequence[str],
        added: Mapping[str, float],
    ):
        self.config, self.pictures, self.outputs = config, pictures, outputs
        self.size = config.data.image_size
        self.augmentation = data.Augmentation.of(config.augment)
        self.train, self.val = pictures.trained_on, pictures.split("val")
        self._constraints = Terms(config.constraints)
        self._main_term, self._added = terms[0], added
        weights = {**added, **{name: config.constraints[name].weight for name in self._constraints.names}}
        self.terms = (*terms, *weights)
        measured = (*added, *self._constraints.of_encoder)
        self.gradient_terms = (self._main_term, *measured) if measured and config.eval.gradient_norms else ()
        self.term_weights = {self._main_term: 1.0} | weights
        self.teacher = load_teacher(config.teacher.weights, config.model.encoder)
        warn_of_known(config.teacher.weights, pictures)
        self._same_encoder = config.model.encoder in ("auto", self.teacher.encoder["name"])
        self.encoder = self.teacher.encoder if self._same_encoder else {"name": config.model.encoder}
        self._starts_from_teacher = self._same_encoder and self.teacher.trained and config.teacher.start
        self._head = self.teacher.encoder.get("num_outputs", 0) if self._constraints.of_head else 0
        axis_name = AXIS if config.train.batch_norm == "global" else None
        self._build = functools.partial(build, self.encoder, axis_name=axis_name)
        self.model = self._build(num_outputs=0)
        self._added_domains = None
        if config.domains.start:
            self._added_domains = AddedDomains.read(config, outputs, self.encoder, self.teacher.input, pictures)
            self.train = self._added_domains.only_new(self.train)
        self._start = None
        if config.model.start:
            names = outputs or {"": pictures.targets.landmarks.names}
            self._start = StartRun.read(config, names, self.encoder, self.teacher.input, pictures)
        self._run = None
        if config.teacher.run and self._constraints.of_teacher:
            self._run = self.read_teacher_run(config, pictures)
        elif config.teacher.run:
            _say_unread(config.teacher.run)

    @classmethod
    def read_teacher_run(cls, config: ConfigDict, pictures: data.SplitPictures) -> TeacherNetwork:
        """The network of `teacher.run`, for a task that can have such a teacher."""
        raise UserError(f"teacher.run gives a teacher of landmarks, but the task is {config.task}; leave it empty")

    @abc.abstractmethod
    def augmented(self, batch: Batch, keys: Array) -> tuple[Array, Any]:
        """Pictures as training sees them, and what is true of them.

        Args:
          batch: B pictures and their targets.
          keys: `[B]` random keys.

        Returns:
          `[B, S, S, 3]` float32 in 0..255, and what `task_terms` compares the student's features with.
        """

    @abc.abstractmethod
    def painted(self, batch: HostBatch, keys: Array | None) -> list[Image.Image]:
        """See `Task.painted`."""

    @abc.abstractmethod
    def task_terms(self, student: Features, params: Params, truth: Any) -> dict[str, Array]:
        """Name -> `[B]` of each of the task's own terms.

        Args:
          student: its features.
          params: its parameters.
          truth: of `augmented`.
        """

    def average_heatmaps(self, variables: Variables, batch: Batch, keys: Array) -> tuple[Array, Array] | None:
        """Heatmaps of the moving average of the student's weights for pictures as they are, moved as `augmented` moves
        the pictures, `[B, h, w, K]`, and bool of the same shape: whether a cell shows a part of the picture, and the
        landmark is of its domain; None: the task has no heatmaps, so that `check` refuses what would compare them.

        Args:
          variables: the average.
          batch: B pictures.
          keys: `[B]` those of `augmented`.
        """
        return None

    @abc.abstractmethod
    def true_maps(self, batch: HostBatch, cells: int) -> np.ndarray:
        """`[B, cells, cells, K]`: where in the pictures of a batch each landmark or class is, for DELTA's weights."""

    @abc.abstractmethod
    def validator(self, parallel: Parallel) -> Callable[[Variables], tuple[float, str]]:
        """See `Task.validator`."""

    @abc.abstractmethod
    def finish(self, variables: Variables, parallel: Parallel, workdir: pathlib.Path, began: float) -> dict[str, Any]:
        """See `Task.finish`."""

    @property
    @abc.abstractmethod
    def meta(self) -> dict[str, Any]:
        """See `Task.meta`."""

    def check(self) -> None:
        """Raises UserError if teacher, student and terms don't go together."""
        terms, layers = self._constraints, self.config.train.encoder_layers
        parts = self.config.train.accumulate_steps
        if len(self.train.domains) > 1 and self.config.domains.norm and self.config.train.remat:
            raise UserError(
                "train.remat computes blocks again without knowing whose domain a picture is of, so it does not go "
                "with domains.norm; set one of the two to False, or give train.accumulate_steps to save memory"
            )
        if terms.of_batches and parts > 1:
            raise UserError(
                f"constraints.{terms.of_batches[0]}.weight is not 0, and that term looks at a whole batch, but "
                f"train.accumulate_steps is {parts}, which divides it; set the weight to 0, or accumulate_steps to 1"
            )
        if terms.of_average and not self.finds_landmarks:
            raise UserError(
                f"constraints.{terms.of_average[0]}.weight is not 0, but it compares heatmaps of landmarks, and the "
                f"task is {self.config.task}; set it to 0"
            )
        if terms.of_average and not self.config.train.average:
            raise UserError(
                f"constraints.{terms.of_average[0]}.weight is not 0, but train.average is 0, so there is no average of "
                "the weights to compare with; give --config.train.average=0.99, or set the weight to 0"
            )
        if terms.of_domains and len(self.train.domains) < 2:
            raise UserError(
                f"constraints.{terms.of_domains[0]}.weight is not 0, but there is one domain, and none to tell it "
                f"from; set it to 0, --config.constraints.{terms.of_domains[0]}.weight=0, or give more domains "
                f"({'several folders in data.root' if self.finds_landmarks else 'in classes.json'})"
            )
        if terms.with_channel_weights and len(self.train.domains) > 1:
            raise UserError(
                f"constraints.{terms.with_channel_weights[0]}.weight is not 0, but there are several domains, and its "
                "channel weights, from what the channels tell of all landmarks or classes at once, are for one domain; "
                "set it to 0"
            )
        if self.config.model.network == "hourglass":
            if layers != "all":
                raise UserError(f"train.encoder_layers is {layers}, but an hourglass has no encoder; set it to all")
            if self._added:
                raise UserError(
                    f"{next(iter(self._added))}.weight is not 0, but an hourglass has no encoder to read it from; set "
                    "it to 0"
                )
            if terms.names:
                raise UserError(
                    f"constraints.{terms.names[0]}.weight is not 0, but an hourglass has no teacher; set it to 0"
                )
            return
        if terms.of_landmarks and not self._run:
            raise UserError(
                f"constraints.{terms.of_landmarks[0]}.weight needs a teacher that knows the landmarks, but teacher.run "
                f"is empty; {missing_run(self.config)}"
            )
        if terms.of_teacher and not (self._run or self.teacher.trained):
            raise UserError(
                f"constraints.{terms.of_teacher[0]}.weight needs a teacher that has learned something, but "
                f"teacher.weights is none and teacher.run is empty; {missing_run(self.config)}"
            )
        of_encoder = [name for name in terms.of_encoder if name not in terms.of_average]
        if of_encoder and layers == "none":
            raise UserError(
                f"constraints.{of_encoder[0]}.weight is not 0, but train.encoder_layers is none: a frozen "
                "encoder stays the teacher's without it; set it to 0"
            )
        if not (self._starts_from_teacher or self._start) and layers != "all":
            raise UserError(
                f"train.encoder_layers is {layers}, but the encoder does not start from a teacher: random layers would "
                "be frozen; set it to all, or give teacher.weights and teacher.start=True"
            )
        if not self._same_encoder and self.teacher.trained and (self._run or not terms.of_teacher):
            found = self.teacher.encoder["name"]
            raise UserError(
                f"{self.config.teacher.weights}: weights of {found}, but model.encoder is {self.config.model.encoder} "
                f"and no constraint ties them, so they would be of no use; set model.encoder to {found} or auto, or "
                "teacher.weights to none"
            )
        if terms.of_start and not (self._starts_from_teacher or self._start):
            raise UserError(
                f"constraints.{terms.of_start[0]}.weight needs a student that starts from the teacher's weights"
            )
        if terms.of_head and (self._run or not (self._same_encoder and self._head)):
            what = "the student is of another architecture"
            if self._same_encoder:
                what = "the teacher's file has no classifier"
            if self._run:
                what = "teacher.run is a landmark network"
            raise UserError(
                f"constraints.{terms.of_head[0]}.weight ties the output of the teacher's classifier, but {what}; set "
                "it to 0"
            )
        terms.check(*self.feature_shapes)

    @functools.cached_property
    def feature_shapes(self) -> tuple[dict[str, jax.ShapeDtypeStruct], dict[str, jax.ShapeDtypeStruct]]:
        """Shapes of the named features of student and teacher, for one picture."""
        picture, domain = jnp.zeros((1, self.size, self.size, 3)), jnp.zeros(1, jnp.int32)

        def shapes(network: nn.Module, *inputs: Array) -> dict[str, jax.ShapeDtypeStruct]:
            features = functools.partial(network.init_with_output, train=False)
            return jax.eval_shape(lambda: features(jax.random.key(0), *inputs)[0])

        student = self._build(num_outputs=self._head)
        return shapes(student, picture, domain), shapes(self._teacher_network.network, picture)

    @functools.cached_property
    def _teacher_network(self) -> TeacherNetwork:
        """What the constraints tie to: `teacher.run`, else the encoder of `teacher.weights`."""
        if self._run:
            return self._run
        dtype = models.activation_dtype(self.config.dtype)
        encoder = models.build_encoder(**self.teacher.encoder | {"num_outputs": self._head}, dtype=dtype)
        return TeacherNetwork(encoder, self.teacher.input, self.teacher.variables)

    @functools.cached_property
    def constants(self) -> dict[str, Any]:
        """What the loss reads and training never changes."""
        weights = self._constraints.loss_weights | {name: jnp.float32(weight) for name, weight in self._added.items()}
        constants = {"weights": weights, "channel_weights": self._channel_weights()}
        if self._constraints.of_features:
            constants["teacher"] = self._teacher_network.variables
        if self._constraints.of_start:
            constants["start"] = self.init(0)["params"]["encoder"]
        return constants

    def _channel_weights(self) -> dict[str, np.ndarray]:
        if not self._constraints.with_channel_weights:
            return {}
        known = self.train.known[:MAX_FOR_CHANNELS]
        filled = np.resize(known, -(-len(known) // CHANNELS_BATCH) * CHANNELS_BATCH)
        batches = [self.train.batch(rows) for rows in np.split(filled, len(filled) // CHANNELS_BATCH)]

        @jax.jit  # all features of 64 pictures can be more than a training step has
        def of_batch(variables: Variables, picture: Array) -> dict[str, Array]:
            features = self._teacher_network.features(variables, picture)
            return {layer: features[layer] for layer in self._constraints.weighed_layers}

        def of_known(parts: Iterable[Tree]) -> Tree:
            return jax.tree.map(lambda *arrays: np.concatenate(arrays)[: len(known)], *parts)

        features = of_known(of_batch(self._teacher_network.variables, batch["picture"]) for batch in batches)
        return self._constraints.channel_weights(
            features, lambda cells: of_known(self.true_maps(batch, cells) for batch in batches)
        )

    def init(self, seed: int) -> Variables:
        """The student's variables before the first step: the teacher's encoder if it starts there, and a new decoder.

        The head is not among them: it is the teacher's throughout. With batch norm per domain, that of each domain
        starts as the teacher's. With `model.start` it is the network of that run instead.
        """
        key = jax.random.key(seed)
        picture, domain = jnp.zeros((1, self.size, self.size, 3)), jnp.zeros(1, jnp.int32)
        teacher = self._spread(self.teacher.variables) if self._starts_from_teacher else None

        @jax.jit  # as one program: random numbers of an encoder that is replaced are neither drawn nor compiled
        def first(key: Array, teacher: Variables | None) -> Variables:
            variables: Variables = dict(self.model.init(key, picture, domain, train=False))
            if teacher is None or "encoder" not in variables["params"]:
                return variables
            return {
                kind: tree | {"encoder": {k: teacher[kind][k] for k in tree["encoder"]}}
                for kind, tree in variables.items()
            }

        variables = first(key, teacher)
        if self._constraints.with_adapters:
            adapters = self._constraints.adapters(*self.feature_shapes, key)
            variables["params"] = variables["params"] | ({"adapters": adapters} if adapters else {})
        variables["params"] = variables["params"] | self.heads(key)
        if self._added_domains:
            variables = self._added_domains.into(variables)
        return self._start.into(variables) if self._start else variables

    def heads(self, key: Array) -> Params:
        """The parameters before the first step of the task's heads beside the network's own."""
        return {}

    @property
    def start(self) -> Mapping[str, Any]:
        """See `Task.start`."""
        before = self._start or self._added_domains
        return before.noted if before else {}

    @property
    def start_named(self) -> dict[str, str]:
        """`start` of `Facts`."""
        return {key: self.start[key] for key in ("run", "config_hash") if self.start}

    def _spread(self, variables: Variables) -> Variables:
        """The teacher's variables, as they are in the student."""
        norms = getattr(self.model, "domains", ())
        return models.domain_norm.spread(variables, norms) if norms else variables

    def for_prediction(self, variables: Variables, parallel: Parallel) -> tuple[Variables, int]:
        """A trained network on the devices, as it predicts, and the number of its parameters as it was trained."""
        network = checkpoint.network_of(variables)
        n_params = sum(x.size for x in jax.tree.leaves(network["params"]))
        return parallel.replicate(models.fold(self.model, network, self.size)), n_params

    def param_labels(self, params: Params) -> Tree:
        """Which learning rate each parameter has; `frozen`: none."""
        layers = self.config.train.encoder_layers
        last = tuple(f"{layer}/" for layer in self.model.encoder.last_layer) if layers == "last" else ()

        def label(path: tuple[Any, ...], _: Any) -> str:
            if self._added_domains and not self._added_domains.learns(path):
                return "frozen"
            if path[0] != "encoder":
                return "decoder"
            return "encoder" if layers == "all" or "/".join(path[1:]).startswith(last) else "frozen"

        return path_aware_map(label, params)

    def loss(
        self, params: Params, batch_stats: Tree, constants: Tree, batch: Batch, keys: Array
    ) -> tuple[Array, tuple[Tree, dict[str, Array]]]:
        """L = L_main + sum lambda L_R (Fu et al. 2020, Eq. 2). The means of the task's own terms are over the pictures
        with labels, those of the constraints over all pictures. See `Task.loss`."""
        moved, truth = self.augmented(batch, keys)
        domain = batch.get("domain")
        picture = models.normalize(moved, self.teacher.input)
        variables, model = {"params": params, "batch_stats": batch_stats}, self.model
        if self._head:  # the teacher's own; what the student has too is the student's
            teacher_variables = self._spread(constants["teacher"])
            variables = {
                kind: tree | {"encoder": teacher_variables[kind] | tree["encoder"]} for kind, tree in variables.items()
            }
            model = self._build(num_outputs=self._head)
        student, updates = models.apply_in_training(model, variables, picture, domain, remat=self.config.train.remat)
        terms = self.task_terms(student, params, truth)
        if "labelled" in batch:
            share = jnp.mean(batch["labelled"])  # the same on every device
            terms = {name: jnp.where(batch["labelled"], term, 0.0) / share for name, term in terms.items()}
        teacher: Features = {}
        if "teacher" in constants:
            teacher = self._teacher_network.features(constants["teacher"], moved)
        if self._head:
            name = self.model.encoder.head
            student, teacher = student | {"head": student[name]}, teacher | {"head": teacher[name]}
        average = None
        if self._constraints.of_average:
            average = self.average_heatmaps(constants["average"], batch, keys)
        terms |= self._constraints(
            student,
            teacher,
            params=params,
            start=constants.get("start"),
            channel_weights=constants.get("channel_weights", {}),
            domain=domain,
            average=average,
            unlearned=self._run.unlearned if self._run else (),
        )
        weighted = (constants["weights"][name] * terms[name] for name in (*self._added, *self._constraints.names))
        total = terms[self._main_term] + sum(weighted)
        updates = {part: {key: updates["batch_stats"][part][key] for key in tree} for part, tree in batch_stats.items()}
        return total, (updates, terms)


def _say_unread(run: str) -> None:
    """Warns of a `teacher.run` without a term that reads it."""
    where = "" if os.path.isdir(run) else ", which is not there"
    _log.warning("teacher.run is %s%s, but no term of the loss reads it: nothing of it is used", run, where)
