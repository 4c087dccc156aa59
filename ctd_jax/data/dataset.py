"""Pictures with their targets, in the network's frame, and the order in which they are seen."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np
from ml_collections import ConfigDict

from ctd_jax.data.geometry import Frame
from ctd_jax.data.prefetch import THREADS, map_in_threads
from ctd_jax.data.schedule import EPOCHS, evenly, order_of_domains
from ctd_jax.data.targets import Targets, Unlabelled
from ctd_jax.typing import HostBatch

if TYPE_CHECKING:
    import grain

T = TypeVar("T", bound=Targets)


class Decoded(NamedTuple):
    """Pictures in the network's frame."""

    pictures: np.ndarray  # [N, S, S, 3 + C] uint8: RGB, and the C maps of the targets
    scale: np.ndarray  # [N] of the frames
    offset: np.ndarray  # [N, 2] of the frames, network pixels


@dataclasses.dataclass(frozen=True)
class Dataset(Generic[T]):
    """The pictures of one split. N pictures, network pictures of S x S pixels."""

    images: tuple[str, ...]
    subjects: tuple[str, ...]
    spacing: np.ndarray  # [N, 2] mm per pixel; NaN: unknown
    boxes: np.ndarray  # [N, 4] pixels of the original picture; NaN: the whole picture
    original: Callable[[int], np.ndarray]  # index -> [H, W, 3] uint8 picture as it is on disk
    targets: T  # what is known of the pictures
    size: int  # S
    margin: float  # around a box, as a share of its longer side
    cache_mib: int  # memory for decoded pictures; more are decoded as they are read
    domains: tuple[str, ...] = ()  # D names; none: all pictures are of one kind
    domain: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.int32))
    # [N] index in `domains`; empty where there are none
    labelled: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, bool))
    # [N] whether anything is known of a picture; empty: of all

    @classmethod
    def of(
        cls,
        config: ConfigDict,
        targets: T,
        *,
        images: Sequence[str],
        subjects: Sequence[str],
        original: Callable[[int], np.ndarray],
        spacing: np.ndarray | None = None,
        boxes: np.ndarray | None = None,
    ) -> "Dataset[T]":
        """N pictures as `config` has them seen.

        Args:
          config: `data` of configs/default.py.
          targets: what is known of them.
          images: their names.
          subjects: who or what each is of.
          original: index -> `[H, W, 3]` uint8 picture.
          spacing: `[N, 2]` mm per pixel; None: unknown.
          boxes: `[N, 4]` x0, y0, x1, y1 in pixels; None: whole pictures.
        """
        n = len(images)
        return cls(
            images=tuple(images),
            subjects=tuple(subjects),
            spacing=np.full((n, 2), np.nan) if spacing is None else spacing,
            boxes=np.full((n, 4), np.nan) if boxes is None else boxes,
            original=original,
            targets=targets,
            size=config.image_size,
            margin=config.margin,
            cache_mib=config.cache_mib,
        )

    @staticmethod
    def unlabelled(
        images: Sequence[str], original: Callable[[int], np.ndarray], *, boxes: np.ndarray, size: int, margin: float
    ) -> "Dataset[Unlabelled]":
        """N pictures to predict on; each is read when its turn comes.

        Args:
          images: their names.
          original: index -> `[H, W, 3]` uint8 picture.
          boxes: `[N, 4]` x0, y0, x1, y1 in pixels of each picture; NaN: the whole picture.
          size: side of the network's picture, pixels.
          margin: around a box, as a share of its longer side.
        """
        n = len(images)
        return Dataset(
            images=tuple(images),
            subjects=("",) * n,
            spacing=np.full((n, 2), np.nan),
            boxes=boxes,
            original=original,
            targets=Unlabelled(),
            size=size,
            margin=margin,
            cache_mib=0,
        )

    def __len__(self) -> int:
        return len(self.images)

    def spread(self, most: int) -> np.ndarray:
        """Indices of at most `most` of the pictures, evenly spread, in ascending order."""
        return evenly_spread(len(self), most)

    def take(self, indices: np.ndarray) -> "Dataset[T]":
        """The data set of these pictures only."""
        return dataclasses.replace(
            self,
            images=tuple(self.images[i] for i in indices),
            subjects=tuple(self.subjects[i] for i in indices),
            spacing=self.spacing[indices],
            boxes=self.boxes[indices],
            original=lambda i: self.original(int(indices[i])),
            targets=self.targets.take(indices),
            domain=self.domain[indices] if self.domains else self.domain,
            labelled=self.labelled[indices] if self.has_unlabelled else self.labelled,
        )

    @property
    def has_unlabelled(self) -> bool:
        """Whether there are pictures of which nothing is known."""
        return len(self.labelled) > 0

    @property
    def known(self) -> np.ndarray:
        """Indices of the pictures of which something is known."""
        return np.flatnonzero(self.labelled) if self.has_unlabelled else np.arange(len(self))

    def network(self, index: int) -> tuple[np.ndarray, Frame]:
        """`[S, S, 3 + C]` uint8: the picture and the maps of its targets; and its frame."""
        picture = self.original(index)
        frame = self._frame(index, picture)
        seen = frame.resample(picture)
        if self.targets.channels:
            seen = np.concatenate([seen, self.targets.maps(index, frame)], axis=-1)
        return seen, frame

    def _frame(self, index: int, picture: np.ndarray) -> Frame:
        box = None if np.isnan(self.boxes[index]).any() else self.boxes[index]
        return Frame.fit(picture.shape[1], picture.shape[0], self.size, box, self.margin)

    def frames(self) -> tuple[np.ndarray, np.ndarray]:
        """`[N]` scale and `[N, 2]` offset of every picture's frame; read again where they do not fit into memory."""
        decoded = self.decode()
        if decoded is not None:
            return decoded.scale, decoded.offset
        frames = list(map_in_threads(lambda i: self._frame(i, self.original(i)), range(len(self))))
        return np.array([one.scale for one in frames]), np.array([one.offset for one in frames])

    @property
    def cached(self) -> bool:
        """Whether all pictures, decoded, fit into `cache_mib`."""
        return len(self) * self.size**2 * self._channels <= self.cache_mib * 2**20

    @property
    def _channels(self) -> int:
        return 3 + self.targets.channels

    def decode(self) -> Decoded | None:
        """All pictures, decoded at the first call; None where they don't fit into `cache_mib`."""
        return self._decoded if self.cached else None

    @functools.cached_property
    def _decoded(self) -> Decoded:
        return self._stack(len(self), map_in_threads(self.network, range(len(self))))

    def _stack(self, number: int, found: Iterable[tuple[np.ndarray, Frame]]) -> Decoded:
        pictures, frames = np.empty((number, self.size, self.size, self._channels), np.uint8), np.empty((number, 3))
        for i, (picture, frame) in enumerate(found):
            pictures[i], frames[i] = picture, (frame.scale, *frame.offset)
        return Decoded(pictures, frames[:, 0], frames[:, 1:])

    def batch(self, indices: np.ndarray) -> HostBatch:
        """`picture` [B, S, S, 3] uint8, `scale` [B] and `offset` [B, 2] float32 of each frame, what `targets.batch`
        adds; where there are domains `domain` [B] int32, the index of each picture's, and where there are pictures
        without labels `labelled` [B] bool."""
        decoded = self.decode()
        if decoded is None:
            pictures, scale, offset = self._stack(len(indices), map(self.network, indices))
        else:
            pictures, scale, offset = (part[indices] for part in decoded)
        maps = pictures[..., 3:]
        batch = {
            "picture": np.ascontiguousarray(pictures[..., :3]),
            "scale": scale.astype(np.float32),
            "offset": offset.astype(np.float32),
        }
        if self.domains:
            batch["domain"] = self.domain[indices]
        if self.has_unlabelled:
            batch["labelled"] = self.labelled[indices]
        return batch | self.targets.batch(indices, maps, scale, offset)

    def batches(self, parts: Iterable[np.ndarray]) -> Iterator[HostBatch]:
        """`batch` of each of `parts`; a few are decoded ahead."""
        self.decode()  # once, before there are threads
        return map_in_threads(self.batch, parts)

    def training_order(
        self,
        *,
        batch_size: int,
        unlabelled_batch_size: int = 0,
        seed: int,
        schedule: str = "proportional",
        temperature: float = 1.0,
    ) -> "grain.MapDataset":
        """Endless shuffled batches: element n, `[batch_size + unlabelled_batch_size]` indices, depends on these
        arguments and n alone, so that a run resumes exactly. Every picture is seen once before any is seen again; where
        there are domains, any of its domain. Pictures with and without labels, each with a turn of their own, are mixed
        by `schedule.evenly`.

        Args:
          batch_size: pictures with labels in a batch.
          unlabelled_batch_size: pictures without; 0: none.
          seed: of the shuffling.
          schedule: how often each domain comes, see `schedule.shares`.
          temperature: of the schedule of that name.
        """
        import grain

        def order(rows: np.ndarray, size: int, seed: int) -> "grain.MapDataset":
            if self.domains:
                turns = order_of_domains(self.domain[rows], seed=seed, kind=schedule, temperature=temperature)
            else:
                turns = grain.MapDataset.range(len(rows)).seed(seed).shuffle().repeat(EPOCHS)
            return turns.batch(size).map(lambda places: rows[places])

        labelled = order(self.known, batch_size, seed)
        if not unlabelled_batch_size:
            return labelled
        unlabelled = order(np.flatnonzero(~self.labelled), unlabelled_batch_size, seed + 1)
        return grain.MapDataset.range(EPOCHS).map(lambda n: evenly(labelled[n], unlabelled[n]))

    def training_batches(self, *, start: int, **order: Any) -> Iterator[HostBatch]:
        """`batch` of each element of `training_order(**order)` from step `start` on. Each process gets its share of
        each."""
        import grain
        import jax

        self.decode()  # once, before there are threads
        indices = self.training_order(**order)
        local = len(indices[0]) // jax.process_count()
        first = jax.process_index() * local
        batches = indices.map(lambda indices: self.batch(indices[first : first + local]))
        options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=2 * THREADS)
        iterator = iter(batches.to_iter_dataset(options))
        iterator.set_state({"next_index": start})
        return iterator


def evenly_spread(number: int, most: int) -> np.ndarray:
    """Indices of at most `most` of a number of things, evenly spread, in ascending order."""
    return np.unique(np.linspace(0, number - 1, most).round().astype(int))
