"""What the tasks of a student share: it starts from a teacher, and constraints tie the two."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import path_aware_map
from jax import Array
from ml_collections import ConfigDict

from ctd_jax import data, models
from ctd_jax.errors import UserError
from ctd_jax.losses.terms import BATCHES, WITHOUT_TEACHER, Terms
from ctd_jax.tasks import domains, landmark_teacher
from ctd_jax.tasks import teacher as teachers
from ctd_jax.training import checkpoint
from ctd_jax.training.parallel import AXIS, Parallel

MOST_FOR_CHANNELS = 64  # labelled pictures that DELTA's channel weights are measured on


class StudentTask:
    """What landmarks and segmentation share: a student that starts from a teacher, and the constraints between the two.

    A task names its own terms in `main` (the first is what the others are added to), makes its network in `_build`,
    moves pictures and truth in `_moved`, and reads its terms off the student's features in `_main_terms`.

    Raises:
      UserError: teacher, data and configuration don't go together.
    """

    main: tuple[str, ...]
    last_file = "report.html"  # once it is there, the run is finished

    def __init__(
        self, config: ConfigDict, source: data.Source, outputs: Mapping[str, Sequence[str]], own: Mapping[str, float]
    ):
        """outputs: domain -> names of what the network says of it; none: there are no domains. own: the weights of the
        task's terms that are added to the first of `main`."""
        self.config, self.source, self.outputs = config, source, outputs
        self._terms = Terms(config.constraints)
        self._own = own
        weights = own | {name: config.constraints[name].weight for name in self._terms.names}
        self.terms = (*self.main, *weights)
        pulling = [name for name in weights if name != "l2"]
        self.pulling = (self.main[0], *pulling) if pulling else ()  # terms whose gradients by the encoder are logged
        self.weights = {self.main[0]: 1.0} | weights
        self.teacher = teachers.load(config.teacher.weights, config.model.encoder)
        self._same = config.model.encoder in ("auto", self.teacher.encoder["name"])
        self.encoder = self.teacher.encoder if self._same else {"name": config.model.encoder}
        self._starts = self._same and self.teacher.trained and config.teacher.start
        self._head = self.teacher.encoder.get("num_outputs", 0) if "cd" in self._terms.names else 0
        self.axis_name = AXIS if config.train.batch_norm == "global" else None
        self.model = self._build()
        self.size = config.data.image_size
        self.train, self._val = source.split("train"), source.split("val")
        self._start = None
        if config.domains.start:
            self._start = domains.Start.read(config, outputs, self.encoder, self.teacher.input)
            self.train = self._start.only_new(self.train)
        self._of_teacher = [name for name in self._terms.names if name not in WITHOUT_TEACHER]
        self._run = self._read_run() if config.teacher.run and self._of_teacher else None
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
        if "contrastive" in names and len(self.train.domains) < 2:
            raise UserError(
                "constraints.contrastive.weight is not 0, but there is one domain, and none to tell it from; give "
                "data.root several folders, or set the weight to 0"
            )
        if "delta" in names and len(self.train.domains) > 1:
            raise UserError(
                "constraints.delta.weight is not 0, but there are several domains, and its channel weights, from what "
                "the channels tell of all landmarks or classes at once, are for one domain; set it to 0"
            )
        if layers not in ("all", "last", "none"):
            raise UserError(f"train.encoder_layers is {layers!r}; expected all, last or none")
        if self.config.model.network == "hourglass":
            if self._own:
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

    def _read_run(self) -> teachers.Guide:
        """The network of `teacher.run`."""
        raise UserError(f"teacher.run gives a teacher of landmarks, but the task is {self.config.task}; leave it empty")

    def _shapes(self) -> tuple[dict[str, jax.ShapeDtypeStruct], ...]:
        """Of the named features of student and teacher."""
        picture, domain = jnp.zeros((1, self.size, self.size, 3)), jnp.zeros(1, jnp.int32)
        networks = (self._build(num_outputs=self._head), (picture, domain)), (self._guide.network, (picture,))
        return tuple(
            jax.eval_shape(lambda *x, n=network: n.init_with_output(jax.random.key(0), *x, train=False)[0], *inputs)
            for network, inputs in networks
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
        weights = self._terms.weights | {name: jnp.float32(weight) for name, weight in self._own.items()}
        frozen = {"weights": weights, "channel_weights": self._channel_weights()}
        if set(self._of_teacher) - {"l2_sp"}:
            frozen["teacher"] = self._guide.variables
        if "l2_sp" in names:
            frozen["start"] = self.init(0)["params"]["encoder"]
        return frozen

    def _channel_weights(self) -> dict[str, np.ndarray]:
        if "delta" not in self._terms.names:
            return {}
        batch = self.train.batch(np.arange(min(len(self.train), MOST_FOR_CHANNELS)))
        features = jax.jit(self._guide.features)(self._guide.variables, batch["picture"])
        return self._terms.channel_weights(jax.device_get(features), functools.partial(self._true_maps, batch))

    def init(self, seed: int) -> Any:
        """The student's variables before the first step: the teacher's encoder if it starts there, and a new decoder.

        The head is not among them: it is the teacher's throughout. With batch norm per domain, that of each domain
        starts as the teacher's.
        """
        key = jax.random.key(seed)
        picture, domain = jnp.zeros((1, self.size, self.size, 3)), jnp.zeros(1, jnp.int32)
        variables = jax.jit(functools.partial(self.model.init, train=False))(key, picture, domain)
        if self._starts and "encoder" in variables["params"]:
            teacher = self._spread(self.teacher.variables)
            variables = {
                kind: tree | {"encoder": {k: teacher[kind][k] for k in tree["encoder"]}}
                for kind, tree in variables.items()
            }
        if "hint" in self._terms.names:
            adapters = self._terms.adapters(*self._shapes(), key)
            variables["params"] = variables["params"] | ({"adapters": adapters} if adapters else {})
        return self._start.into(variables) if self._start else variables

    def _spread(self, variables: Any) -> Any:
        """The teacher's variables, as they are in the student."""
        norms = getattr(self.model, "domains", ())
        return models.domain_norm.spread(variables, norms) if norms else variables

    def _for_prediction(self, variables: Any, parallel: Parallel) -> tuple[Any, int]:
        """A trained network on the devices, as it predicts, and the number of its parameters as it was trained."""
        network = checkpoint.network_of(variables)
        n_params = sum(x.size for x in jax.tree.leaves(network["params"]))
        return parallel.replicate(models.fold(self.model, network, self.size)), n_params

    def labels(self, params: Any) -> Any:
        """Which learning rate each parameter has; `frozen`: none."""
        layers = self.config.train.encoder_layers
        last = tuple(f"{layer}/" for layer in self.model.encoder.last_layer) if layers == "last" else ()

        def label(path: tuple[str, ...], _: Any) -> str:
            if self._start and not self._start.learns(path):
                return "frozen"
            if path[0] != "encoder":
                return "decoder"
            return "encoder" if layers == "all" or "/".join(path[1:]).startswith(last) else "frozen"

        return path_aware_map(label, params)

    def loss(self, params: Any, batch_stats: Any, frozen: Any, batch: dict[str, Array], keys: Array):
        """L = L_main + sum lambda L_R (Fu et al. 2020, Eq. 2). See `step.Loss`."""
        moved, truth = self._moved(batch, keys)
        domain = batch.get("domain")
        picture = models.normalize(moved, self.teacher.input)
        variables, model = {"params": params, "batch_stats": batch_stats}, self.model
        if self._head:  # the teacher's own; what the student has too is the student's
            own = self._spread(frozen["teacher"])
            variables = {kind: tree | {"encoder": own[kind] | tree["encoder"]} for kind, tree in variables.items()}
            model = self._build(num_outputs=self._head)
        student, updates = models.apply_in_training(model, variables, picture, domain, remat=self.config.train.remat)
        terms = self._main_terms(student, params, truth)
        teacher = {}
        if "teacher" in frozen:
            teacher = self._guide.features(frozen["teacher"], moved)
        if self._head:
            name = self.model.encoder.head
            student, teacher = student | {"head": student[name]}, teacher | {"head": teacher[name]}
        terms |= self._terms(student, teacher, params, frozen, domain)
        weighted = (frozen["weights"][name] * terms[name] for name in (*self._own, *self._terms.names))
        total = terms[self.main[0]] + sum(weighted)
        updates = {part: {key: updates["batch_stats"][part][key] for key in tree} for part, tree in batch_stats.items()}
        return total, (updates, terms)
