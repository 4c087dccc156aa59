"""Near-identical pictures: the same one twice, perhaps brighter, resized or compressed again, under two names.

Two pictures are twins where their grey thumbnails of 64 x 64 pixels correlate with `ALIKE` or more, whatever the
exposure, and so does, with `DETAIL` or more, what is left of them without a blurred copy: two people may share the
large shapes. Both thresholds lie in gaps. Of 400 cephalograms (ISBI 2015), the 23 pairs of one picture have 0.977 and
0.956 or more, the most alike pictures of two people 0.959 and 0.727. Of 1081 ultrasound and magnetic resonance pictures
of four kinds, the last twins of two subjects have 0.991 and 0.923, the next pair 0.932 and 0.724. Of faces (1002
portraits of FG-NET, 4232 frames of YouTube Faces, those drawn here), two people have 0.906 and 0.65 at most. Schematic
drawings of several people may have 0.988 and 0.824. A copy that was cropped, turned or mirrored is not found, nor
always one of fewer than 128 pixels that was resized or compressed much.
"""

import dataclasses
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy
from PIL import Image

from ctd_jax import files

_log = logging.getLogger(__name__)
SIDE, CELL = 64, 4  # pixels of a thumbnail, and of the squares whose means are compared first
ALIKE, DETAIL = 0.97, 0.87  # least correlation of twins' thumbnails, and of their detail
CANDIDATE = 0.95  # of the means alone: twins have 0.979 or more
BLOCK = 512  # pictures compared at once with as many
MAX_PAIRS = 2000  # pairs of one kind that are kept
FILE = "twins.csv"
Kind = tuple[str, str, bool]  # splits of both pictures, and whether these are of one subject
COLUMNS = ("image_a", "split_a", "subject_a", "image_b", "split_b", "subject_b", "correlation")


@dataclasses.dataclass(frozen=True)
class Twin:
    """Two pictures that are one: of different splits or subjects, or the same file twice. `a` is the one of the earlier
    split, in the order train, val, test."""

    image_a: str
    split_a: str
    subject_a: str
    image_b: str
    split_b: str
    subject_b: str
    correlation: float

    @property
    def kind(self) -> Kind:
        """Both splits, and whether the pictures are of one subject."""
        return self.split_a, self.split_b, self.subject_a == self.subject_b

    def within(self, domain: str) -> "Twin | None":
        """The pair under the own names of its pictures in a domain; None where one of them is of another."""
        names = ("image_a", "subject_a", "image_b", "subject_b")
        if not all(getattr(self, name).startswith(f"{domain}/") for name in names):
            return None
        return dataclasses.replace(self, **{name: getattr(self, name).removeprefix(f"{domain}/") for name in names})


@dataclasses.dataclass(frozen=True)
class Twins:
    """The pairs that were found, at most `MAX_PAIRS` of each kind, and how many there are of each (`Twin.kind`)."""

    pairs: tuple[Twin, ...] = ()
    counts: Mapping[Kind, int] = dataclasses.field(default_factory=dict)

    def within(self, domain: str) -> "Twins":
        """The pairs within one domain, under their own names."""
        pairs = tuple(filter(None, (pair.within(domain) for pair in self.pairs)))
        return Twins(pairs, Counter(pair.kind for pair in pairs))


# what is kept of each picture when its folder is prepared
LOOK = np.dtype([("thumbnail", np.uint8, (SIDE, SIDE)), ("size", np.int32, 2)])


def look(picture: np.ndarray) -> np.ndarray:
    """A scalar of `LOOK`: the grey picture made small by averaging, and its width and height; `picture` is `[H, W, 3]`
    uint8."""
    H, W = picture.shape[:2]
    grey = Image.fromarray(picture).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.array((np.asarray(grey), (W, H)), LOOK)


def find(
    images: Sequence[str],
    subjects: Sequence[str],
    splits: Sequence[str],
    sha256: Sequence[str],
    thumbnails: np.ndarray | None,
) -> Twins:
    """The twins among the pictures that take part, but for those of one subject in one split: frames of one film are
    alike by nature, and only the same file is named.

    Args:
      images: names of the N pictures.
      subjects: who or what each is of.
      splits: of each; those other than train, val and test... take no part.
      sha256: digest of each.
      thumbnails: `[N, 64, 64]` uint8; None: only equal files are found.
    """
    ranks = {"train": 0, "val": 1}
    part = [i for i, split in enumerate(splits) if split in ranks or split.startswith("test")]
    used = np.array(sorted(part, key=lambda i: (ranks.get(splits[i], 2), splits[i], i)), int)
    group = _codes([f"{splits[i]}\n{subjects[i]}" for i in used])
    file = _codes([sha256[i] for i in used])
    counts: dict[Kind, int] = defaultdict(int)
    pairs: dict[Kind, list[Twin]] = defaultdict(list)
    for a, b, correlation in _alike(used, group, file, thumbnails):
        i, j = used[a], used[b]
        twin = Twin(images[i], splits[i], subjects[i], images[j], splits[j], subjects[j], round(float(correlation), 4))
        counts[twin.kind] += 1
        if len(pairs[twin.kind]) < MAX_PAIRS:
            pairs[twin.kind].append(twin)
    order = sorted(counts, key=lambda kind: kind[0] == kind[1])  # across splits first
    return Twins(tuple(twin for kind in order for twin in pairs[kind]), {kind: counts[kind] for kind in order})


def near(rows: np.ndarray, others: np.ndarray, sha256: Sequence[str], thumbnails: np.ndarray | None) -> np.ndarray:
    """Those of the pictures `rows` that are near-identical to one of `others`; both are indices.

    Args:
      rows, others: indices of pictures, none of which is in both.
      sha256, thumbnails: of all pictures, as in `find`.
    """
    used = np.concatenate([others, rows])
    group, file = np.repeat([0, 1], [len(others), len(rows)]), _codes([sha256[i] for i in used])
    pairs = _alike(used, group, file, thumbnails)
    return used[sorted({b for a, b, _ in pairs if a < len(others) <= b})]


def warn(twins: Twins) -> None:
    """One warning: how many pairs of each kind, and the first of each."""
    if not twins.pairs:
        return
    kinds = []
    for kind, number in twins.counts.items():
        first = next(twin for twin in twins.pairs if twin.kind == kind)
        named = first.subject_a != first.image_a or first.subject_b != first.image_b
        where = f"of {first.split_a} and {first.split_b}" if kind[0] != kind[1] else f"within {first.split_a}"
        whose = ", of one subject" if kind[2] else ", under two subjects" if named else ""
        kinds.append(
            f"{number} {where}{whose}, first {first.image_a} and {first.image_b} (correlation {first.correlation:.3f})"
        )
    flatters = any(a != b for a, b, _ in twins.counts)
    total = sum(twins.counts.values())
    caution = " A picture in two splits flatters the result." if flatters else ""
    _log.warning(
        "%d pair%s of near-identical pictures: %s.%s They are listed in %s of the workdir. Nothing is left out: take "
        "one of each pair out of the table, or give it the split `unused`",
        total, "s" if total > 1 else "", "; ".join(kinds), caution, FILE,
    )  # fmt: skip


def write(workdir: Path, twins: Twins) -> None:
    """Writes the pairs as `FILE`, where there are any."""
    if twins.pairs:
        rows = ([files.cell(str(value)) for value in dataclasses.astuple(twin)] for twin in twins.pairs)
        files.write_csv(workdir / FILE, COLUMNS, rows)


def are_twins(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two thumbnails are of one picture."""
    return bool(np.array_equal(first, second) or _compare(first[None], second[None])[0, 0] > 0)


def _codes(values: Sequence[str]) -> np.ndarray:
    return np.unique(np.array(values, dtype=object), return_inverse=True)[1] if values else np.empty(0, int)


def _alike(
    used: np.ndarray, group: np.ndarray, file: np.ndarray, thumbnails: np.ndarray | None
) -> Iterator[tuple[int, int, float]]:
    """(a, b, correlation) of positions a < b in `used`, block by block."""
    blocks = [np.arange(start, min(start + BLOCK, len(used))) for start in range(0, len(used), BLOCK)]
    coarse = None
    if thumbnails is not None and len(used):
        coarse = np.concatenate([_unit(_means(thumbnails[used[block]])) for block in blocks])
    for n, rows in enumerate(blocks):
        for columns in blocks[n:]:
            equal = file[rows, None] == file[columns]
            alike = equal.astype(np.float32)
            if thumbnails is not None and coarse is not None:
                near = (coarse[rows] @ coarse[columns].T >= CANDIDATE) & (group[rows, None] != group[columns]) & ~equal
                near &= rows[:, None] < columns
                r, c = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
                if len(r):
                    found = _compare(thumbnails[used[rows[r]]], thumbnails[used[columns[c]]])
                    alike[np.ix_(r, c)] = np.where(near[np.ix_(r, c)], found, alike[np.ix_(r, c)])
            alike[rows[:, None] >= columns] = 0
            for a, b in zip(*np.nonzero(alike), strict=True):
                yield int(rows[a]), int(columns[b]), float(alike[a, b])


def _compare(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """`[A, B]` correlation of two sets of thumbnails, 0 where they are no twins."""
    correlation = _unit(first) @ _unit(second).T
    alike = correlation >= ALIKE
    r, c = np.flatnonzero(alike.any(1)), np.flatnonzero(alike.any(0))
    if len(r):
        alike[np.ix_(r, c)] &= _unit(_detail(first[r])) @ _unit(_detail(second[c])).T >= DETAIL
    return np.where(alike, np.minimum(correlation, 1), 0)


def _means(thumbnails: np.ndarray) -> np.ndarray:
    cells = SIDE // CELL
    return thumbnails.reshape(-1, cells, CELL, cells, CELL).mean((2, 4), dtype=np.float32)


def _detail(thumbnails: np.ndarray) -> np.ndarray:
    values = thumbnails.astype(np.float32)
    return values - scipy.ndimage.gaussian_filter(values, (0, 1, 1))


def _unit(values: np.ndarray) -> np.ndarray:
    """`[N, ...]` to `[N, M]` float32 of mean 0 and length 1; of length 0 where all are equal."""
    flat = values.reshape(len(values), -1).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return flat / np.where(length > 1e-3, length, np.inf)
