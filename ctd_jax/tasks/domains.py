"""Several domains in one network: what is checked, how one is judged and reported, and how one is added later."""

import dataclasses
import logging
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from ctd_jax import metrics, models, run_folder
from ctd_jax.data import Dataset, Source
from ctd_jax.data.schedule import KINDS
from ctd_jax.errors import UserError
from ctd_jax.metrics import Predictions
from ctd_jax.training import checkpoint

_log = logging.getLogger(__name__)
LOOKED_AT = 64  # pictures of a domain, to learn how large its landmarks are
UNLIKE = 1.3  # ratio of sizes that is warned of
BY_POINT = ("xy", "true_xy", "error_px", "error_mm", "confidence")  # of a table of predictions, [N, K, ...]


def check(config: ConfigDict, source: Source) -> None:
    """Raises UserError if `config.domains` has a value out of range, or one that does not go with the rest."""
    keys = config.domains
    if keys.schedule not in KINDS:
        raise UserError(f"domains.schedule is {keys.schedule!r}; expected {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    if not 0 < keys.temperature < np.inf:
        raise UserError(f"domains.temperature is {keys.temperature}; expected more than 0")
    number = len(source.everything.domains)
    if number < 2:
        return
    if config.task == "recognition":
        raise UserError(f"data.root has {number} domains, but recognition learns from one; give one folder")
    if keys.norm and config.train.remat:
        raise UserError(
            "train.remat computes blocks again without knowing whose domain a picture is of, so it does not go with "
            "domains.norm; set one of the two to False, or give train.accumulate_steps to save memory"
        )


def warn_of_sizes(source: Source) -> None:
    """Warns of a helping domain whose landmarks are much larger or smaller in the picture than those it is to help."""
    if not (source.helping and source.parts):
        return
    spans = {name: _span(part.split("train")) for name, part in source.parts.items()}
    for helper in source.helping:
        ratios = {name: spans[helper] / spans[name] for name in source.judged if spans[name] * spans[helper] > 0}
        name = min(ratios, key=lambda name: abs(np.log(ratios[name])), default=None)
        if name and not 1 / UNLIKE < ratios[name] < UNLIKE:
            _log.warning(
                "%s: its landmarks span %.0f %% of a picture, those of %s %.0f %%; a helping domain helps more where "
                "they are of one size: give it box columns and data.margin",
                *(helper, 100 * spans[helper], name, 100 * spans[name]),
            )


def _span(train: Dataset) -> float:
    """The part of the network's picture, 0 to 1, that a picture's landmarks span: the longer side of their box, median
    over the first pictures; 0 where nothing is annotated."""
    few = np.arange(min(len(train), LOOKED_AT))
    batch = train.take(few).batch(few)
    sides = [
        np.ptp(xy[known], axis=0).max() for xy, known in zip(batch["xy"], batch["mask"], strict=True) if any(known)
    ]
    return float(np.median(sides or [0.0])) / train.size


def table_of(table: Predictions, domain: str) -> Predictions:
    """The pictures and landmarks of one domain, under their own names."""
    rows = np.char.startswith(table.images, f"{domain}/")
    by_picture = {f.name: getattr(table, f.name)[rows] for f in dataclasses.fields(table) if f.name != "landmarks"}
    by_picture |= {key: _without(by_picture[key], domain) for key in ("images", "subjects")}
    return _columns_of(dataclasses.replace(table, **by_picture), domain)


def _columns_of(table: Predictions, domain: str) -> Predictions:
    columns = np.char.startswith(table.landmarks, f"{domain}/")
    by_point = {key: getattr(table, key)[:, columns] for key in BY_POINT}
    return dataclasses.replace(table, landmarks=_without(table.landmarks[columns], domain), **by_point)


def _without(names: np.ndarray, domain: str) -> np.ndarray:
    return np.array([name.removeprefix(f"{domain}/") for name in names], dtype=str)


def error(table: Predictions, source: Source) -> tuple[float, str]:
    """The error that chooses a checkpoint, and how a person reads it.

    Of one domain it is the mean over its pictures: `metrics.ced_measure`. Of several it
    is the geometric mean of theirs: units don't matter, a tenth less error counts the same in each.
    """
    errors, texts = [], []
    for domain, part in source.judged.items():
        own = table_of(table, domain) if domain else table
        of_images = metrics.image_errors(own, part.landmarks.normalizer)
        measure = metrics.ced_measure(of_images)
        value = float(np.nanmean(of_images[measure]))
        text = f"{100 * value:.2f} %" if measure.startswith("nme") else f"{value:.2f} {measure[3:]}"
        errors.append(value)
        texts.append(f"{domain} {text}".lstrip())
    if len(errors) == 1:
        return errors[0], texts[0].removeprefix(f"{domain} ")
    return float(np.exp(np.mean(np.log(np.maximum(errors, 1e-12))))), ", ".join(texts)


def meta(source: Source) -> list[dict[str, Any]] | None:
    """Of each domain, what `predict` and a later start need; None: there is one only."""
    return [
        {
            "name": name,
            "landmarks": list(part.landmarks.names),
            "flip_pairs": part.landmarks.flip_pairs,
            "normalizer": part.landmarks.normalizer,
            "boxes": bool(np.isfinite(part.split("train").boxes).all()),
        }
        for name, part in source.parts.items()
    ] or None


def alone(
    run: pathlib.Path, variables: dict[str, Any], meta: dict[str, Any], name: str | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Variables and meta of one domain of a landmark run, as those of a run of that domain alone.

    Args:
      run: its workdir; variables, meta: of `checkpoint.best`.
      name: of the domain; None: the run has one kind of pictures.

    Raises:
      UserError: the run has no such domain, or several and none is named.
    """
    known = {one["name"]: one for one in meta.get("domains") or []}
    if not known and name:
        raise UserError(f"{run}: this run has one kind of pictures; leave out --domain")
    if known and name not in known:
        found = f"there is no {name!r}" if name else "each with landmarks of its own"
        raise UserError(f"{run}: this run knows several domains, {found}; give --domain={'|'.join(known)}")
    if not known:
        return variables, meta
    variables = models.domain_norm.alone(variables, name, tuple(known))
    first = meta["landmarks"].index(f"{name}/{known[name]['landmarks'][0]}")
    columns = slice(first, first + len(known[name]["landmarks"]))
    final = variables["params"].get("decoder", {}).get("final")
    if final and final["bias"].shape == (len(meta["landmarks"]),):  # one head for all
        own = {key: leaf[..., columns] for key, leaf in final.items()}
        variables["params"]["decoder"] = variables["params"]["decoder"] | {"final": own}
    return variables, meta | {key: known[name][key] for key in known[name] if key != "name"} | {"domains": None}


@dataclasses.dataclass(frozen=True)
class Start:
    """A trained network to which domains are added: what it knows stays as it is, and only what is new learns.

    Batch norm of a new domain starts as the mean of the old ones', parameters and statistics; its head from random
    weights. A reconstruction: nobody has said how it should start.

    Attributes:
      run: its workdir.
      known: path -> array of its variables, params and batch_stats.
      old: names of its domains.
    """

    run: pathlib.Path
    known: dict[tuple[str, ...], np.ndarray]
    old: tuple[str, ...]

    @classmethod
    def read(
        cls,
        config: ConfigDict,
        outputs: Mapping[str, Sequence[str]],
        encoder: dict[str, Any],
        input_spec: dict[str, Any],
    ) -> "Start":
        """The network of `config.domains.start`.

        Args:
          config: of the run that adds domains.
          outputs: of its domains, the names of landmarks or classes; none: there are no domains.
          encoder, input_spec: of its teacher.

        Raises:
          UserError: there is no such run, or its network is not one that these domains can be added to.
        """
        run = pathlib.Path(config.domains.start)
        variables, old = checkpoint.best(run)
        past, title = run_folder.read_config(run), f"domains.start is {run}"
        if not old.get("domains") or not (past.domains.norm and past.domains.heads):
            raise UserError(
                f"{title}, which has no batch norm and head for each domain; expected a run of several domains, with "
                "domains.norm and domains.heads"
            )
        if outputs and not (config.domains.norm and config.domains.heads):
            raise UserError(
                f"{title}; a domain is added by its batch norm and head: set domains.norm and .heads to True"
            )
        for key, value in {"encoder": encoder, "input": input_spec}.items():
            if old[key] != value:
                raise UserError(f"{title}, whose {key} is {old[key]}, not {value}; give its teacher.weights")
        names = {one["name"]: one.get("classes") or one["landmarks"] for one in old["domains"]}
        for name, own in outputs.items():
            if name in names and names[name] != list(own):
                raise UserError(
                    f"{title}, where {name} had other landmarks or classes; rename it, to add it as a new domain"
                )
        if outputs and not set(outputs) - set(names):
            raise UserError(f"{title}, which knows {', '.join(outputs)} already; add a folder to data.root")
        known = {path: np.asarray(leaf) for path, leaf in flatten_dict(variables).items()}
        return cls(run, known, tuple(names))

    def only_new(self, dataset: Dataset) -> Dataset:
        """The pictures of domains that the network does not know."""
        new = [d for d, name in enumerate(dataset.domains) if name not in self.old]
        return dataset.take(np.flatnonzero(np.isin(dataset.domain, new))) if dataset.domains else dataset

    def learns(self, path: tuple[str, ...]) -> bool:
        """Whether the parameter at `path` is of a new domain."""
        return ("params", *path) not in self.known

    def into(self, variables: Any) -> Any:
        """`variables` before the first step, with all that the network knows.

        Raises:
          UserError: the network is another.
        """
        ours, out = flatten_dict(variables), {}
        shared = [path for path in self.known if models.domain_norm.owner(path, self.old) is None]
        foreign = [path for path in shared if path not in ours]
        for path, leaf in ours.items():
            norms = [[(*path[:end], name, path[-1]) for name in self.old] for end in (-2, -1)]
            means = [
                np.mean([self.known[one] for one in each], axis=0) for each in norms if set(each) <= set(self.known)
            ]
            out[path] = self.known.get(path, means[0] if means else leaf)
            is_head = path[-2].startswith("final") or path[1] in checkpoint.TRAINING_ONLY
            if out[path].shape != leaf.shape or not (path in self.known or means or is_head):
                foreign.append(path)
        if foreign:
            raise UserError(
                f"domains.start is {self.run}, whose network is another: {'/'.join(foreign[0])} and "
                f"{len(foreign) - 1} more do not fit; give the model keys of that run"
            )
        return unflatten_dict(out)
