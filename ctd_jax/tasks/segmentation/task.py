"""The task: which class each pixel is of, in pictures of one or several domains."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from ctd_jax import data, models
from ctd_jax.errors import UserError
from ctd_jax.losses import supervised
from ctd_jax.metrics import segmentation
from ctd_jax.tasks.segmentation import evaluate
from ctd_jax.tasks.student import StudentTask
from ctd_jax.training import checkpoint, inference
from ctd_jax.training.parallel import Parallel

FAR = -1e9  # logit of a class that is out of the question


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the classes of D domains stand among the C logits of a pixel; M is the largest number of classes."""

    columns: np.ndarray  # [D, M] int32 place of each class, the background first; -1: the domain has no such class
    total: int  # C

    @classmethod
    def of(cls, classes: Mapping[str, Sequence[str]], *, heads: bool) -> "Layout":
        """`heads`: every domain has all of its classes to itself; else they share the background, which stands first.

        Args:
          classes: domain -> names of its classes, the background first.
        """
        columns = np.full((len(classes), max(map(len, classes.values()))), -1, np.int32)
        total = 0 if heads else 1
        for row, names in zip(columns, classes.values(), strict=True):
            own = len(names) if heads else len(names) - 1
            row[: len(names)] = [*[0] * (not heads), *range(total, total + own)]
            total += own
        return cls(columns, total)

    @property
    def foreground(self) -> np.ndarray:
        """`[C]` bool."""
        return ~np.isin(np.arange(self.total), self.columns[:, 0])

    def places(self, classes: Array, domain: Array) -> Array:
        """`[B, S, S]` classes of pictures of the domains `[B]` -> their places among the logits; -1: does not count."""
        table = np.full((len(self.columns), 256), -1, np.int32)
        table[:, : self.columns.shape[1]] = self.columns
        return jnp.asarray(table)[domain[:, None, None], classes.astype(jnp.int32)]

    def within(self, logits: Array, domain: Array) -> Array:
        """`[B, S, S, C]` logits, `FAR` where the class is of another domain."""
        own = (self.columns[..., None] == np.arange(self.total)).any(1)
        return jnp.where(jnp.asarray(own)[domain][:, None, None], logits, FAR)

    def probabilities(self, logits: Array, domain: Array) -> Array:
        """`[B, S, S, M]` of the classes of each picture's own domain; 0 where it has fewer."""
        columns = jnp.asarray(self.columns)[domain][:, None, None]
        found = jnp.take_along_axis(jax.nn.softmax(self.within(logits, domain)), jnp.maximum(columns, 0), axis=-1)
        return jnp.where(columns >= 0, found, 0.0)


def build(
    config: ConfigDict,
    encoder: dict[str, Any],
    classes: Mapping[str, Sequence[str]],
    *,
    num_outputs: int = 0,
    axis_name: str | None = None,
) -> models.SegmentationNet:
    """The network of a configuration.

    Args:
      encoder: keyword arguments of models.build_encoder.
      classes: domain -> names of its classes, the background first.
      num_outputs: of the encoder's head.
      axis_name: see models.build.

    Raises:
      UserError: a picture size that the network can't take, or another network that can't be built.
    """
    model = models.build_segmentation(
        config.model,
        encoder=encoder | {"num_outputs": num_outputs},
        num_classes=Layout.of(classes, heads=config.domains.heads).total,
        encoder_norm=config.train.encoder_layers == "all",
        dtype=models.activation_dtype(config.dtype),
        axis_name=axis_name,
        norms=tuple(classes) if config.domains.norm and (len(classes) > 1 or config.domains.start) else (),
        heads=tuple((domain, len(names)) for domain, names in classes.items()) if config.domains.heads else (),
    )
    size, multiple = config.data.image_size, model.multiple
    if size % multiple or size < 2 * multiple:
        raise UserError(
            f"data.image_size is {size}; {encoder['name']} needs a multiple of {multiple}, at least {2 * multiple}"
        )
    return model


def forward(model: models.SegmentationNet, input_spec: dict[str, Any], layout: Layout) -> Callable:
    """Body `(variables, {"picture": [B, S, S, 3] uint8, "domain": [B]}) -> [B, S, S, M]` probability of each class of
    the picture's domain; without "domain", for a network that knows one (see `Alone`). `variables` as trained, or of
    `models.fold`."""

    def body(variables: Any, batch: dict[str, Array]) -> Array:
        picture, domain = models.normalize(batch["picture"], input_spec), batch.get("domain")
        with models.folded():
            logits = model.apply(variables, picture, domain, train=False)["logits"]
        return jax.nn.softmax(logits) if domain is None else layout.probabilities(logits, domain)

    return body


@dataclasses.dataclass(frozen=True)
class Alone:
    """One domain's network of a run, without a trace of the others.

    Attributes:
      forward: see `forward`, without "domain".
      variables: as trained.
      grey: of the pictures that it was trained on, see `data.grey`.
    """

    classes: tuple[str, ...]
    model: models.SegmentationNet
    forward: Callable
    variables: dict[str, Any]
    grey: Mapping[str, tuple[float, float]]

    @classmethod
    def of(cls, run: pathlib.Path, config: ConfigDict, name: str | None) -> "Alone":
        """The network of the domain `name`.

        Args:
          run: workdir of a finished run.
          config: its own.
          name: of the domain; None: the run has one.

        Raises:
          UserError: the run has no such domain, or several and none is named.
        """
        variables, meta = checkpoint.best(run)
        known = {one["name"]: tuple(one["classes"]) for one in meta["domains"]}
        name = name or (next(iter(known)) if len(known) == 1 else None)
        if name not in known:
            found = f"there is no {name!r}" if name else "each with classes of its own"
            raise UserError(f"{run}: this run knows several domains, {found}; give --domain={'|'.join(known)}")
        variables = models.domain_norm.alone(variables, name, tuple(known))
        if not config.domains.heads:  # of the one softmax for all, the classes of the domain
            columns = Layout.of(known, heads=False).columns[list(known).index(name)]
            decoder = variables["params"]["decoder"]
            final = {key: leaf[..., columns[columns >= 0]] for key, leaf in decoder["final"].items()}
            variables["params"] = variables["params"] | {"decoder": decoder | {"final": final}}
        config = config.copy_and_resolve_references()
        config.domains.norm = config.domains.heads = False
        own = {name: known[name]}
        model = build(config, meta["encoder"], own)
        body = forward(model, meta["input"], Layout.of(own, heads=False))
        return cls(known[name], model, body, variables, (meta.get("grey") or {}).get(name, {}))


class SegmentationTask(StudentTask):
    """Network, loss, validation and test of class maps.

    The loss is cross-entropy + `segmentation.dice` x Dice loss. With `domains.heads` a picture's softmax is over the
    classes of its own domain; without, over those of all domains, with one background. What is found in a picture is
    always a class of its domain, which is known.

    Raises:
      UserError: teacher, data and configuration don't go together.
    """

    main = ("segmentation", "cross_entropy", "dice_loss")

    def __init__(self, config: ConfigDict, source: data.Source):
        self.classes = source.everything.classes
        self.layout = Layout.of(self.classes, heads=config.domains.heads)
        segmentation.suffixes(self.classes)  # names that would clash are found here
        self._check_domains(config, source)
        super().__init__(config, source, self.classes, {})

    def _check_domains(self, config: ConfigDict, source: data.Source) -> None:
        """Raises UserError if a domain has nothing to learn or to be judged by."""
        judged = {i for name in source.covered(config.eval.split) for i in source.split(name).domain.tolist()}
        for what, found in (("train", set(source.split("train").domain.tolist())), (config.eval.split, judged)):
            helping = source.helping if what != "train" else ()
            missing = [domain for i, domain in enumerate(self.classes) if i not in found and domain not in helping]
            if missing:
                raise UserError(
                    f"domain {missing[0]!r} has no picture in the split {what}; give some of its rows that split, or "
                    "leave it out with data.domains"
                )

    def _build(self, *, num_outputs: int = 0) -> models.SegmentationNet:
        return build(self.config, self.encoder, self.classes, num_outputs=num_outputs, axis_name=self.axis_name)

    def _moved(self, batch: dict[str, Array], keys: Array) -> tuple[Array, tuple[Array, Array]]:
        move = functools.partial(data.augment_classes, **self.config.augment, outside=data.class_maps.OUTSIDE)
        picture, classes = jax.vmap(move)(keys, batch["picture"].astype(jnp.float32), batch["classes"])
        return picture, (self.layout.places(classes, batch["domain"]), batch["domain"])

    def _main_terms(self, student: dict[str, Array], params: Any, truth: tuple[Array, Array]) -> dict[str, Array]:
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

    def _true_maps(self, batch: dict[str, np.ndarray], cells: int) -> np.ndarray:
        """`[B, cells, cells, C]` share of each class in a cell."""
        true = jax.nn.one_hot(self.layout.places(batch["classes"], batch["domain"]), self.layout.total)
        stride = self.size // cells
        return np.asarray(true.reshape(len(true), cells, stride, cells, stride, -1).mean((2, 4)))

    def _compiled(self, parallel: Parallel) -> Callable:
        return parallel.compile(forward(self.model, self.teacher.input, self.layout), sharded=True)

    def validator(self, parallel: Parallel) -> Callable[[Any], tuple[float, str]]:
        """Function of variables on the devices: 1 - mean Dice over the classes and domains of val, in the network's
        pixels, and how a person reads it."""
        compiled, size = self._compiled(parallel), self.config.eval.batch_size

        def validate(variables: Any) -> tuple[float, str]:
            found, start = [], 0
            for probabilities, _, _ in inference.each(compiled, variables, self._val, parallel, size):
                indices = np.arange(start, start + len(probabilities))
                true, number = self._val.batch(indices)["classes"], probabilities.shape[-1]
                found.append(segmentation.class_dice(probabilities.argmax(-1), true, number))
                start += len(indices)
            dice = segmentation.mean_dice(np.concatenate(found), self._val.domain)
            return 1 - dice, f"1 - mean Dice {1 - dice:.3f}"

        return validate

    @property
    def meta(self) -> dict[str, Any]:
        """What `predict` needs beside the weights and the configuration, and what may not change during a run."""
        return {
            "domains": [{"name": domain, "classes": list(names)} for domain, names in self.classes.items()],
            "encoder": self.encoder,
            "input": self.teacher.input,
            "grey": self.source.grey_of_run,
            "teacher weights": checkpoint.digest(self.teacher.variables),
        }

    def finish(self, variables: Any, parallel: Parallel, workdir: pathlib.Path, began: float) -> dict[str, Any]:
        """Reads the test pictures and writes the results; returns what metrics.json holds."""
        variables, n_params = self._for_prediction(variables, parallel)
        facts = {"n_params": n_params, "began": began}
        evaluate.evaluate(self._compiled(parallel), variables, self.source, parallel, self.config, workdir, **facts)
        return json.loads((workdir / "metrics.json").read_text("utf-8"))
