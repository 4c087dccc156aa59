"""Landmarks as targets: of landmark folders, or of drawn faces."""

import dataclasses
import functools
import hashlib
import logging
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Generic, TypeVar

import numpy as np
from ml_collections import ConfigDict

from ctd_jax.data import annotation_checks, coverage, landmark_folder, pictures, roots, survey, synthetic
from ctd_jax.data.about import Landmarks
from ctd_jax.data.dataset import Dataset
from ctd_jax.data.geometry import Frame
from ctd_jax.data.grey_range import Grey
from ctd_jax.data.kinds import Listed, Prepared
from ctd_jax.data.landmark_folder import LandmarkTable
from ctd_jax.data.targets import Targets
from ctd_jax.errors import UserError
from ctd_jax.metrics import definitions
from ctd_jax.typing import HostBatch

T = TypeVar("T", bound=Targets)
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Points:
    """The places of K landmarks in N pictures."""

    landmarks: Landmarks
    xy: np.ndarray  # [N, K, 2] pixels of the original picture; NaN: not annotated
    of_raters: np.ndarray | None = None  # [N, R, K, 2] what each of R people annotated; None: that is not known
    draws: bool = False  # whether a training draws one of them, see `raters.draw`
    channels: ClassVar[int] = 0

    @property
    def taught(self) -> np.ndarray:
        """`[N, K]` whether a picture of the training teaches a landmark: it is annotated, and, where raters are drawn,
        by one of those who annotated the picture."""
        known: np.ndarray = np.isfinite(self.xy).all(axis=-1)
        if not self.draws or self.of_raters is None:
            return known
        placed = np.isfinite(self.of_raters).all(axis=-1)
        return known & (placed.any(axis=1) | ~placed.any(axis=(1, 2))[:, None])

    def take(self, indices: np.ndarray) -> "Points":
        return self._changed(lambda xy: xy[indices])

    def hidden(self, indices: Sequence[int]) -> "Points":
        """The places, unknown in those pictures."""

        def hide(xy: np.ndarray) -> np.ndarray:
            xy = xy.copy()
            xy[list(indices)] = np.nan
            return xy

        return self._changed(hide)

    def with_unknown(self, number: int) -> "Points":
        """The places, and after them unknown ones in as many pictures."""
        return self._changed(lambda xy: np.concatenate([xy, np.full((number, *xy.shape[1:]), np.nan)]))

    def _changed(self, change: Callable[[np.ndarray], np.ndarray]) -> "Points":
        of_raters = None if self.of_raters is None else change(self.of_raters)
        return dataclasses.replace(self, xy=change(self.xy), of_raters=of_raters)

    def maps(self, index: int, frame: Frame) -> np.ndarray:
        return np.empty((frame.size, frame.size, 0), np.uint8)

    def batch(self, indices: np.ndarray, maps: np.ndarray, scale: np.ndarray, offset: np.ndarray) -> HostBatch:
        """`xy` [B, K, 2] float32 network pixels, 0 where not annotated, and `mask` [B, K] bool: annotated; where raters
        are drawn, `raters_xy` [B, R, K, 2] and `raters_mask` [B, R, K] as well."""

        def known(xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            mask = ~np.isnan(xy).any(-1)
            return np.where(mask[..., None], xy, 0).astype(np.float32), mask

        xy, mask = known(self.xy[indices] * scale[:, None, None] + offset[:, None])
        batch = {"xy": xy, "mask": mask}
        if self.draws and self.of_raters is not None:
            seen = self.of_raters[indices] * scale[:, None, None, None] + offset[:, None, None]
            batch["raters_xy"], batch["raters_mask"] = known(seen)
        return batch

    @classmethod
    def joined(cls, parts: Mapping[str, "Points"], counts: Sequence[int]) -> "Points":
        """The landmarks are those of all domains, called `<domain>/<landmark>`; a picture has those of other domains
        than its own not annotated."""
        known = {name: part.landmarks for name, part in parts.items()}
        domain = np.repeat(np.arange(len(parts)), counts)
        columns = np.repeat(np.arange(len(parts)), [len(one.names) for one in known.values()])
        xy = np.full((len(domain), len(columns), 2), np.nan)
        drawn = {
            d: part.of_raters for d, part in enumerate(parts.values()) if part.draws and part.of_raters is not None
        }
        number = max((theirs.shape[1] for theirs in drawn.values()), default=0)
        of_raters = np.full((len(domain), number, len(columns), 2), np.nan)
        for d, part in enumerate(parts.values()):
            xy[np.ix_(domain == d, columns == d)] = part.xy
        for d, theirs in drawn.items():
            of_raters[np.ix_(domain == d, range(theirs.shape[1]), columns == d)] = theirs
        names = tuple(f"{domain}/{name}" for domain, one in known.items() for name in one.names)
        pairs = tuple(
            (f"{domain}/{a}", f"{domain}/{b}") for domain, one in known.items() for a, b in one.flip_pairs or ()
        )
        mirrored = any(one.flip_pairs is not None for one in known.values())
        absent = tuple(f"{domain}/{name}" for domain, one in known.items() for name in one.absent)
        landmarks = Landmarks(names, pairs if mirrored else None, absent=absent)
        return cls(landmarks, xy, of_raters if drawn else None, bool(drawn))


# ---------------------------------------------------------------- where they come from

FORMATS: dict[str, Callable[[pathlib.Path], LandmarkTable]] = {landmark_folder.FILE: landmark_folder.read}
# the file that tells a format of folders -> its reader
DOMAIN = re.compile(r"\w[\w .+-]{0,59}")
TAKEN = ("checkpoints", "tfds", "config.json", "split.csv", "log.csv", "metrics.json", "report.html")  # of the workdir


@dataclasses.dataclass(frozen=True)
class LandmarkFolders(Generic[T]):
    """Landmark folders and drawn faces, each a domain; see `kinds.Kind`.

    Attributes:
      targets: makes them of the landmarks, their places `[N, K, 2]`, and the subjects of N pictures.
      annotated_only: a picture without landmarks is not trained on, and gaps in the annotations are warned of.
    """

    targets: Callable[[Landmarks, np.ndarray, Sequence[str]], T]
    annotated_only: bool
    named: bool = False
    fewest: int = 2  # for the statistics of batch norm, which each domain has for itself

    def domains(self, config: ConfigDict, cache: pathlib.Path) -> dict[str, Callable[[], Listed[T]]]:
        """See `kinds.Kind`. A domain is called by its folder; nothing is read yet."""
        listed = roots.listed(config)
        found: dict[str, str] = {}
        for root in listed:
            folder = root.removeprefix(roots.TFDS)
            name = root if root in synthetic.KINDS else os.path.basename(os.path.abspath(folder))
            if len(listed) > 1 and (not DOMAIN.fullmatch(name) or name in TAKEN):
                raise UserError(
                    f"data.root: {root} can't be a domain: its results would lie in a folder named {name!r}; expected "
                    f"at most 60 letters, digits, blanks, _ - + and ., and not {' or '.join(TAKEN)}: rename it, or "
                    "make a link"
                )
            if name in found:
                raise UserError(
                    f"data.root names two domains {name}: {found[name]} and {root}; a domain is named by its folder, "
                    "so rename one of them, or make a link of another name"
                )
            found[name] = root
        return {name: functools.partial(self._listed, root, config, cache) for name, root in found.items()}

    def _listed(self, root: str, config: ConfigDict, cache: pathlib.Path) -> Listed[T]:
        if root in synthetic.KINDS:
            return self._drawn(synthetic.KINDS[root], config)
        if root.startswith(roots.TFDS):
            return self._tfds(root, config)
        return self._folder(pathlib.Path(root), config, cache)

    def _folder(self, root: pathlib.Path, config: ConfigDict, cache: pathlib.Path) -> Listed[T]:
        table = read_folder(root)

        def prepare(split_of: Sequence[str]) -> Prepared[T]:
            from ctd_jax.data import builder

            encoded, looks = builder.pictures(root, table, cache)
            annotation_checks.check(table, split_of, looks)
            groups = [""] * len(table)
            grey = survey.prepared(encoded, table.images, groups, folder=encoded.place, root=root)[""]
            if self.annotated_only:
                coverage.warn(str(root), table.landmarks, table.xy, split_of)
            dataset = self._dataset(table, config, lambda i: encoded[i]["picture"], grey)
            return Prepared(dataset, table.sha256, looks, grey)

        annotated = coverage.annotated(table.xy) if self.annotated_only else None
        return Listed(table.images, table.subjects, table.splits, annotated, prepare)

    def _tfds(self, root: str, config: ConfigDict) -> Listed[T]:
        from ctd_jax.data import tfds_dataset

        found = tfds_dataset.read(root, config.tfds, needs_points=self.annotated_only)
        table = found.table

        def prepare(split_of: Sequence[str]) -> Prepared[T]:
            annotation_checks.check(table, split_of, found.looks)
            grey = survey.ranges(found.seen)
            for line in survey.remarks(found.seen, grey):
                _log.warning("%s: %s", root, line)
            if self.annotated_only:
                coverage.warn(root, table.landmarks, table.xy, split_of)
            return Prepared(self._dataset(table, config, found.picture, grey), table.sha256, found.looks, grey)

        annotated = coverage.annotated(table.xy) if self.annotated_only else None
        return Listed(table.images, table.subjects, table.splits, annotated, prepare)

    def _dataset(
        self, table: LandmarkTable, config: ConfigDict, encoded: Callable[[int], bytes], grey: Grey
    ) -> Dataset[T]:
        targets = self.targets(table.landmarks, table.xy, table.subjects)
        if isinstance(targets, Points):
            targets = dataclasses.replace(targets, of_raters=table.of_raters, draws=_draws(table, config))
        return Dataset.of(
            config,
            targets,
            images=table.images,
            subjects=table.subjects,
            original=lambda i: pictures.decode(encoded(i), table.images[i], grey),
            spacing=table.spacing,
            boxes=table.boxes,
        )

    def _drawn(self, kind: synthetic.Kind, config: ConfigDict) -> Listed[T]:
        people = np.repeat(("train", "val", "test"), config.synthetic.identities)
        shots = np.repeat(config.synthetic.shots, config.synthetic.identities)
        faces = kind.draw(range(len(people)), shots, size=roots.drawn_size(config), seed=config.seed)
        images = tuple(f"{subject}_{i}" for i, subject in enumerate(faces["subjects"]))
        measured = definitions.parse(kind.measurements, kind.landmarks, "the drawn faces")
        landmarks = Landmarks(kind.landmarks, kind.flip_pairs, kind.normalizer, measurements=measured)

        def prepare(split_of: Sequence[str]) -> Prepared[T]:
            targets = self.targets(landmarks, faces["xy"].astype(np.float64), faces["subjects"])
            shown = faces["pictures"]
            dataset = Dataset.of(
                config, targets, images=images, subjects=faces["subjects"], original=lambda i: shown[i]
            )
            return Prepared(dataset, tuple(hashlib.sha256(picture.tobytes()).hexdigest() for picture in shown))

        return Listed(images, tuple(faces["subjects"]), np.repeat(people, shots).tolist(), None, prepare, drawn=True)


def _draws(table: LandmarkTable, config: ConfigDict) -> bool:
    """Whether a training draws one of the raters; `config`: `data` of configs/default.py."""
    draws = config.raters == "draw"
    number = len(table.landmarks.raters)
    if draws and number < 2:
        _log.warning(
            "%s: data.raters is draw, but %s: nothing is drawn; docs/data.md says how several raters are written",
            table.title, f"{table.landmarks.raters[0]} is the only rater" if number else "it has no raters",
        )  # fmt: skip
    return draws and number > 1


def read_folder(root: pathlib.Path) -> LandmarkTable:
    """Reads a folder in the first of `FORMATS` whose file it has.

    Raises:
      UserError: all that is wrong with it.
    """
    fitting = [read for file, read in FORMATS.items() if os.path.isfile(root / file)]
    return (fitting or [landmark_folder.read])[0](root)


LANDMARKS = LandmarkFolders(lambda landmarks, xy, subjects: Points(landmarks, xy), annotated_only=True)
