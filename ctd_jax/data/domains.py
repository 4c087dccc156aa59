"""From the pictures that a kind of targets lists to one `SplitPictures`: which domains are used, and who is in which
split."""

import pathlib
from collections.abc import Callable, Mapping
from typing import TypeVar

from ml_collections import ConfigDict

from ctd_jax.data import split_file, splits
from ctd_jax.data.faults import Faults
from ctd_jax.data.kinds import Kind, Listed
from ctd_jax.data.split_pictures import SplitPictures, join
from ctd_jax.data.targets import Targets
from ctd_jax.errors import UserError

T = TypeVar("T", bound=Targets)


def read(kind: Kind[T], config: ConfigDict, cache: pathlib.Path) -> SplitPictures[T]:
    """Reads, checks and splits the pictures of the domains that `config` (the `data` part of a configuration) uses.

    The split is made domain by domain, and `share` and `budget` are of each domain's training pictures, but for those
    of `helping`: all their pictures but the `unused` and `unlabelled` ones are trained on if `helped`, else the domain
    is left out.

    Raises:
      UserError: all that is wrong with any domain.
    """
    given = split_file.read(pathlib.Path(config.split)) if config.split else None
    found = kind.domains(config, cache)
    chosen = _chosen(config, found)
    if len(chosen) == 1 and not kind.named:
        (listed,) = chosen.values()
        return split(listed(), config, given)
    given = _with_domains(given, config, tuple(found))
    parts: dict[str, SplitPictures[T]] = {}
    faults = Faults("data.root")
    for name, listed in chosen.items():
        try:
            parts[name] = split(listed(), config, given and _within(given, name), helping=name in config.helping)
        except UserError as error:
            faults.add(f"domain {name}", f"domain {name}: {error}")
            continue
        if len(chosen) > 1:
            _check_number(name, parts[name], kind.fewest, tuple(chosen), config, faults)
    faults.raise_if_any()
    return join(parts, tuple(name for name in config.helping if name in parts))


def _chosen(config: ConfigDict, found: Mapping[str, Callable[[], Listed[T]]]) -> dict[str, Callable[[], Listed[T]]]:
    """The domains that are used, in the order of `config.domains`, or that of `config.root`."""
    for key in ("domains", "helping"):
        unknown = [name for name in config[key] if name not in found]
        if unknown:
            raise UserError(f"data.{key} names {unknown[0]!r}; the domains of data.root are {', '.join(found)}")
    chosen = tuple(config.domains) or tuple(found)
    if set(chosen) <= set(config.helping):
        raise UserError("data.helping names all the domains that are used; expected one or more that are evaluated")
    return {name: found[name] for name in chosen if config.helped or name not in config.helping}


def _with_domains(given: Mapping[str, str] | None, config: ConfigDict, names: tuple[str, ...]) -> dict[str, str] | None:
    """The split file of pictures of several domains, with / between domain and image.

    Raises:
      UserError: a picture is of no domain.
    """
    if given is None:
        return None
    slashed = {image if "/" in image else image.replace("\\", "/"): split for image, split in given.items()}
    foreign = [image for image in slashed if image.split("/")[0] not in names]
    if foreign:
        raise UserError(f"{config.split} names {foreign[0]}; expected <domain>/<image>, of {', '.join(names)}")
    return slashed


def _within(given: Mapping[str, str], domain: str) -> dict[str, str]:
    """The part of a split file that is of one domain, under the pictures' own names."""
    start = f"{domain}/"
    return {image.removeprefix(start): split for image, split in given.items() if image.startswith(start)}


def _check_number(
    name: str, part: SplitPictures[T], fewest: int, chosen: tuple[str, ...], config: ConfigDict, faults: Faults
) -> None:
    found = part.split_of.count("train")
    if found < fewest:
        of_all = {"share": 1, "budget": 0}
        left_out = name not in config.helping and splits.UNUSED in part.split_of
        kept = "".join(f", as data.{key} is {config[key]}" for key in of_all if left_out and config[key] != of_all[key])
        faults.add(
            f"domain {name}",
            f"domain {name} has {found} training picture{'' if found == 1 else 's'} of {len(part.split_of)}{kept}; "
            f"a domain needs {fewest} or more, for the statistics of its batch norm: {'keep' if kept else 'add'} more "
            f"pictures, or leave it out, --config.data.domains={tuple(other for other in chosen if other != name)}",
        )


def split(
    listed: Listed[T], config: ConfigDict, given: Mapping[str, str] | None, *, helping: bool = False
) -> SplitPictures[T]:
    """The pictures of one domain, read and in their splits.

    Args:
      listed: the pictures.
      config: `data` of configs/default.py.
      given: image -> split of a file; None: what is listed with the pictures, else chosen at random.
      helping: all of them are trained on, but those listed as `unused` or `unlabelled`.

    Raises:
      UserError: no training pictures, fewer than the budget, or pictures that can't be read.
    """
    if helping:
        kept = {"annotated": listed.annotated, "unlabelled": config.unlabelled}
        split_of = splits.all_train(listed.images, given=listed.splits, **kept)
    else:
        split_of = splits.assign(
            listed.images,
            listed.subjects,
            given=listed.splits if given is None else given,
            seed=config.seed,
            budget=config.budget,
            share=config.share,
            budget_seed=config.budget_seed,
            train_split=config.train_split,
            annotated=listed.annotated,
            unlabelled=config.unlabelled,
        )
    prepared = listed.prepare(split_of)
    return SplitPictures(
        prepared.dataset,
        split_of,
        prepared.sha256,
        looks=prepared.looks,
        grey={"": prepared.grey},
        drawn=listed.drawn,
    )
