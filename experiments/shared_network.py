"""One network for several domains against one network each: the schemes that `domains` and `multidomain` compare."""

import abc
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from ctd_jax.study import Run, Study

APART = "one network each"
CHOICE = "val contrastive"  # the scheme whose weight is chosen
WEIGHT = "constraints.contrastive.weight"
NO_TERM = {WEIGHT: 0.0}


class Method(NamedTuple):
    """A scheme with a share of the training pictures, as the command line has it; of `APART`, one domain's network."""

    scheme: str
    domain: str = ""
    share: str = "1"


class SharedNetwork(Study[Method, float]):
    """A setting is the weight of the contrastive term.

    Args:
      runs, table: as of `Study`.
      domains: their names.
      layers: that the multi-scale form of the contrastive term looks at.
    """

    def __init__(self, runs: pathlib.Path, table: pathlib.Path, domains: Sequence[str], layers: tuple[str, ...]):
        super().__init__(runs, table)
        self.domains = domains
        self._schemes: dict[str, dict[str, Any]] = {  # of one common network
            "joint": NO_TERM | {"domains.norm": False, "domains.heads": False},
            "+ heads": NO_TERM | {"domains.norm": False},
            "+ batch norm": NO_TERM,
            "+ contrastive": {},
            "+ multi-scale": {"constraints.contrastive.layers": layers},
        }

    @abc.abstractmethod
    def part(self, run: Run, domain: str) -> Run:
        """What the run of a common network has of a domain."""

    def changes(self, method: Method, weight: float) -> dict[str, Any]:
        """Key -> value of a method's configuration."""
        if method.scheme == APART:
            return NO_TERM | {"data.domains": (method.domain,)}
        return {WEIGHT: weight} | self._schemes.get(method.scheme, {})

    def name(self, method: Method, weight: float) -> str:
        """How the folder of a run begins."""
        names = {APART: f"own {method.domain}", CHOICE: f"{CHOICE} {weight:g}"}
        return names.get(method.scheme, method.scheme.removeprefix("+ ")).replace(" ", "_")

    def compared(self, weight: float, seeds: Sequence[int], share: str = "1") -> dict[str, dict[str, list[Run]]]:
        """Trains every scheme; returns scheme -> domain -> its part of the runs of all seeds."""
        apart = {domain: Method(APART, domain, share) for domain in self.domains}
        common = {scheme: Method(scheme, share=share) for scheme in self._schemes}
        trained = self.repeat(dict.fromkeys([*apart.values(), *common.values()], weight), seeds)
        runs = {APART: {domain: trained[method] for domain, method in apart.items()}}
        for scheme, method in common.items():
            runs[scheme] = {domain: [self.part(run, domain) for run in trained[method]] for domain in self.domains}
        return runs


def minus_own_network(difference: float, ci95: Sequence[float], p: float, form: str) -> str:
    """The difference from the domain's own network for the terminal; `form` is that of its numbers."""
    low, high = (format(bound, form) for bound in ci95)
    return f"   minus own network {format(difference, form)} ({low} to {high}), p {p:.4f}"
