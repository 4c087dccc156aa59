"""Whom a run knows: the people of its training, val and test, as a folder calls them."""

from collections.abc import Mapping, Sequence

from ctd_jax.data import splits


def of_run(
    rows: Sequence[Sequence[str]], subjects: Mapping[str, str], digests: Mapping[str, str], domain: str | None = None
) -> dict[str, str]:
    """A subject's `splits.plainest` name -> split; of somebody who is in several, one that is not train.

    Args:
      rows: of the run's split.csv, those of train, val and test; if it has several domains, these stand before names.
      subjects: picture of the folder -> who is on it; the picture itself where nobody has said.
      digests: of the same pictures; "" where unknown.
      domain: of the folder's pictures; None: people are told without their domain, those of the domains that have
        pictures here, or, if none has, of all.
    """
    here = set(digests.values()) - {""}
    domains = {domain} if domain else {_domain(image) for image, _, _, digest in rows if digest in here}
    found = []
    rows = sorted(rows, key=lambda row: row[2] != "train")
    for image, subject, split, _ in rows:
        if subject not in ("", image):  # else nobody has said whose it is
            found.append((subject, split))
            if not domains or _domain(image) in domains:
                found.append((subject.removeprefix(f"{_domain(image)}/"), split))
    split_of = {digest: split for _, _, split, digest in rows if digest}
    known = ((image, split_of.get(digest)) for image, digest in digests.items())
    found += [(subjects[image], split) for image, split in known if split and subjects[image] not in ("", image)]
    found.sort(key=lambda pair: pair[1] != "train")
    return {splits.plainest(subject): split for subject, split in found}


def _domain(image: str) -> str:
    return image.partition("/")[0]
