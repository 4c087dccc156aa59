"""Domains that are added to a trained network: what it knows stays as it is, and only what is new learns."""

import dataclasses
import logging
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from ctd_jax import data, models
from ctd_jax.data import tables
from ctd_jax.errors import UserError
from ctd_jax.tasks.start_run import note
from ctd_jax.tasks.trained import Run, warn_of_grey
from ctd_jax.training import checkpoint
from ctd_jax.typing import EncoderSpec, InputSpec, Variables

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class AddedDomains:
    """What a network knows already, and which domains are new to it.

    Batch norm of a new domain starts as the mean of the old ones', parameters and statistics; its head from random
    weights. A reconstruction: nobody has said how it should start.

    Attributes:
      workdir: of the run that is the start.
      known: path -> array of its variables, params and batch_stats.
      old: names of its domains.
      noted: what `start_run.FILE` says, see `start_run.note`.
      meta: of its checkpoint.
    """

    workdir: pathlib.Path
    known: dict[tuple[str, ...], np.ndarray]
    old: tuple[str, ...]
    noted: dict[str, Any]
    meta: dict[str, Any]

    @classmethod
    def read(
        cls,
        config: ConfigDict,
        outputs: Mapping[str, Sequence[str]],
        encoder: EncoderSpec,
        input_spec: InputSpec,
        pictures: data.SplitPictures,
    ) -> "AddedDomains":
        """The network of `domains.start`.

        Args:
          config: of the run that adds domains.
          outputs: of its domains, the names of landmarks or classes; none: there are no domains.
          encoder, input_spec: of its teacher.
          pictures: its pictures.

        Raises:
          UserError: there is no such run, or its network is not one that these domains can be added to, or it has
            learned from subjects whose pictures this one is judged by.
        """
        run = Run.read(pathlib.Path(config.domains.start))
        title = f"domains.start is {run.workdir}"
        several = len(run.domains) > 1 or bool(run.domains and run.config.domains.start)
        if not (several and run.config.domains.norm and run.config.domains.heads):
            raise UserError(
                f"{title}, which has no batch norm and head for each domain; expected a run of several domains, with "
                "domains.norm and domains.heads"
            )
        if outputs and not (config.domains.norm and config.domains.heads):
            raise UserError(
                f"{title}; a domain is added by its batch norm and head: set domains.norm and .heads to True"
            )
        for key, value in {"encoder": encoder, "input": input_spec}.items():
            if run.meta[key] != value:
                raise UserError(f"{title}, whose {key} is {run.meta[key]}, not {value}; give its teacher.weights")
        names = {name: one.get("classes") or one["landmarks"] for name, one in run.domains.items()}
        for name, ours in outputs.items():
            if name in names and names[name] != list(ours):
                raise UserError(
                    f"{title}, where {name} had other landmarks or classes; rename it, to add it as a new domain"
                )
        if outputs and not set(outputs) - set(names):
            raise UserError(f"{title}, which knows {', '.join(outputs)} already; add a folder to data.root")
        for key in ("image_size", "margin"):
            if set(outputs) & set(names) and run.config.data[key] != config.data[key]:
                raise UserError(
                    f"{title}, where data.{key} is {run.config.data[key]}, and here it is {config.data[key]}: the "
                    f"domains that it knows would be seen otherwise; give --config.data.{key}={run.config.data[key]}"
                )
        if forgotten := [name for name in names if name not in outputs]:
            _log.warning("%s: this run will not know %s, of which there are no pictures here; give data.root their "
                         "folders too, to keep what that run knows", title, tables.listed(forgotten))  # fmt: skip
        for domain in set(pictures.grey) & set(names):
            warn_of_grey(title, run.grey(domain), pictures.grey[domain])
        known = {path: np.asarray(leaf) for path, leaf in flatten_dict(run.variables).items()}
        return cls(run.workdir, known, tuple(names), note(title, run, pictures), run.meta)

    def only_new(self, dataset: data.Dataset) -> data.Dataset:
        """The pictures of domains that the network does not know; says so if none of those without labels is."""
        if not dataset.domains:
            return dataset
        new = [d for d, name in enumerate(dataset.domains) if name not in self.old]
        kept = dataset.take(np.flatnonzero(np.isin(dataset.domain, new)))
        if not (kept.has_unlabelled and kept.labelled.all()):
            return kept
        _log.warning("domains.start is %s, which knows the domains of all pictures of data.unlabelled: none of them is "
                     "trained on", self.workdir)  # fmt: skip
        return dataclasses.replace(kept, labelled=kept.labelled[:0])

    def learns(self, path: tuple[str, ...]) -> bool:
        """Whether the parameter at `path` is of a new domain."""
        return ("params", *path) not in self.known

    def into(self, variables: Variables) -> Variables:
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
                f"domains.start is {self.workdir}, whose network is another: {'/'.join(foreign[0])} and "
                f"{len(foreign) - 1} more do not fit; give the model keys of that run"
            )
        return unflatten_dict(out)
