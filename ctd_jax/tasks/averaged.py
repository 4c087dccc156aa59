"""Several networks that are averaged: which of them go together, and the one network that an export has of them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from ctd_jax import trust
from ctd_jax.data import splits
from ctd_jax.errors import UserError
from ctd_jax.tasks.trained import Trained
from ctd_jax.typing import Batch, Variables

MAX_NAMES = 3  # in a message


def check(networks: Sequence[Trained]) -> None:
    """Raises UserError if the networks can't be averaged: the message names the first that differs, and in what. The
    sizes of their pictures may differ, because each network sees its own."""
    first = networks[0]
    for other in networks[1:]:
        mine, others = _facts(first), _facts(other)
        for key, value in others.items():
            if value != mine[key]:
                raise UserError(
                    f"{other.workdir}: {_difference(key, value, mine[key], first)}; only networks that agree in "
                    "it can be averaged"
                )
    places = [network.workdir.resolve() for network in networks]
    for place, network in zip(places, networks, strict=True):
        if places.count(place) > 1:
            raise UserError(f"{network.workdir} is given twice; give each run once")


def _facts(network: Trained) -> dict[str, Any]:
    return {
        "task": network.config.task,
        "names": network.names,
        "boxes": network.boxes,
        "data.margin": network.config.data.margin if network.boxes else None,
        "list of landmarks that may be absent": network.absent,
        "list of landmarks that no training picture had": network.never_annotated,
        "grey range": {kind: tuple(bounds) for kind, bounds in network.grey.items()},
    }


def _difference(key: str, value: Any, expected: Any, first: Trained) -> str:
    """How a fact differs from that of the first network, in words."""
    if key == "names":
        return f"its landmarks or classes are not those of {first.workdir}: {_names(value, expected)}"
    if key == "boxes":
        seen = {True: "boxes in pictures", False: "whole pictures"}
        return f"it was trained on {seen[value]}, {first.workdir} on {seen[expected]}"
    return f"its {key} is {value or 'unknown'}, that of {first.workdir} is {expected or 'unknown'}"


def _names(value: Sequence[str], expected: Sequence[str]) -> str:
    only = {"only here": set(value) - set(expected), "only there": set(expected) - set(value)}
    told = [f"{len(names)} {where} ({', '.join(sorted(names)[:MAX_NAMES])})" for where, names in only.items() if names]
    return "; ".join(told) or f"another order, {', '.join(value[:MAX_NAMES])} ..."


def as_one(networks: Sequence[Trained]) -> Trained:
    """The network whose outputs are the mean of those of several, see `Trained.mean`; one remains as it is.

    Raises:
      UserError: they see pictures of different sizes.
    """
    first, *others = networks
    if not others:
        return first
    size = first.config.data.image_size
    for other in others:
        if other.config.data.image_size != size:
            raise UserError(
                f"{other.workdir}: its data.image_size is {other.config.data.image_size}, that of {first.workdir} is "
                f"{size}; one graph takes pictures of one size, so export each by itself (`predict` averages them)"
            )

    def forward(variables: Sequence[Variables], batch: Batch) -> tuple[Any, ...]:
        return first.mean([one.forward(own, batch) for one, own in zip(networks, variables, strict=True)])

    variables: Any = [one.variables for one in networks]
    return dataclasses.replace(with_evidence(networks), forward=forward, variables=variables, networks=tuple(networks))


def _val(network: Trained) -> set[tuple[str, str]]:
    """Name and digest of each picture of val, of its domain alone: those of two places may have the same names."""
    of_domain = f"{network.domain}/" if network.domain else ""
    rows = [row for row in splits.read(network.workdir / "split.csv") if row[2] == "val"]
    return {(row[0].removeprefix(of_domain), row[3]) for row in rows if row[0].startswith(of_domain)}


def with_evidence(networks: Sequence[Trained]) -> Trained:
    """The first of the networks, with what val showed of the average of all."""
    first, each = networks[0], [one.evidence for one in networks if one.evidence]
    if len(each) < len(networks):
        lacks = next(one.lacks for one in networks if not one.evidence)
        return dataclasses.replace(first, evidence=None, lacks=lacks)
    lacks, evidence = "", trust.calibrated(each)
    judged = {known.mirrored: one.workdir for one, known in zip(networks, each, strict=True)}
    if len(judged) > 1:
        lacks = (
            f"{judged[True]} was evaluated with mirror images averaged, and {judged[False]} without, so that val can't "
            "tell of their average; give runs with the same eval.mirror"
        )
    elif not evidence or any(_val(one) != _val(first) for one in networks):
        evidence = None
        lacks = (
            "the runs have other pictures in val, so that nothing can be learned there of their average; give all the "
            "same --config.data.split"
        )
    return dataclasses.replace(first, evidence=evidence, lacks=lacks)
