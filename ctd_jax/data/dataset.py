"""Pictures with landmarks, in the network's frame, and the order in which they are seen."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ctd_jax.data import schedule as schedules
from ctd_jax.data.folder import Landmarks
from ctd_jax.data.geometry import Frame
from ctd_jax.data.prefetch import THREADS, ahead

if TYPE_CHECKING:
    import grain


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The pictures of one split. N pictures, K landmarks, network pictures of S x S pixels."""

    landmarks: Landmarks
    images: tuple[str, ...]
    subjects: tuple[str, ...]
    xy: np.ndarray  # [N, K, 2] true landmarks, pixels of the original picture; NaN: not annotated
    spacing: np.ndarray  # [N, 2] mm per pixel; NaN: unknown
    boxes: np.ndarray  # [N, 4] pixels of the original picture; NaN: the whole picture
    original: Callable[[int], np.ndarray]  # index -> [H, W, 3] uint8 picture as it is on disk
    size: int  # S
    margin: float
    cache_mib: int
    domains: tuple[str, ...] = ()  # D names; none: all pictures are of one kind
    domain: np.ndarray | None = None  # [N] int32 index in `domains`
    channels = 3  # of what `network` gives

    @classmethod
    def unlabelled(
        cls,
        names: Sequence[str],
        images: Sequence[str],
        original: Callable[[int], np.ndarray],
        *,
        boxes: np.ndarray,
        size: int,
        margin: float,
    ) -> "Dataset":
        """Pictures to predict `names` on; each is read when its turn comes."""
        n = len(images)
        return cls(
            landmarks=Landmarks(tuple(names)),
            images=tuple(images),
            subjects=("",) * n,
            xy=np.full((n, len(names), 2), np.nan),
            spacing=np.full((n, 2), np.nan),
            boxes=boxes,
            original=original,
            size=size,
            margin=margin,
            cache_mib=0,
        )

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: np.ndarray) -> "Dataset":
        """Those pictures only."""
        keys = ("images", "subjects", "xy", "spacing", "boxes", *["domain"] * bool(self.domains))
        rows = {key: getattr(self, key) for key in keys}
        rows = {k: tuple(v[i] for i in indices) if isinstance(v, tuple) else v[indices] for k, v in rows.items()}
        return dataclasses.replace(self, **rows, original=lambda i: self.original(int(indices[i])))

    def network(self, index: int) -> tuple[np.ndarray, Frame]:
        """`[S, S, 3]` uint8 picture, and its frame."""
        picture = self.original(index)
        frame = self._frame(index, picture)
        return frame.resample(picture), frame

    def _frame(self, index: int, picture: np.ndarray) -> Frame:
        box = None if np.isnan(self.boxes[index]).any() else self.boxes[index]
        return Frame.fit(picture.shape[1], picture.shape[0], self.size, box, self.margin)

    def frames(self) -> tuple[np.ndarray, np.ndarray]:
        """`[N]` scale and `[N, 2]` offset of every picture's frame; read again where they do not fit into memory."""
        if self.cached:
            return self._cache[1], self._cache[2]
        frames = list(ahead(lambda i: self._frame(i, self.original(i)), range(len(self))))
        return np.array([one.scale for one in frames]), np.array([one.offset for one in frames])

    @functools.cached_property
    def _subject(self) -> np.ndarray:
        return np.unique(self.subjects, return_inverse=True)[1].astype(np.int32)

    @functools.cached_property
    def _cache(self) -> tuple[np.ndarray, ...] | None:
        """All of the pictures decoded once, with their frames, or None where they need more than `cache_mib`."""
        if len(self) * self.size**2 * self.channels > self.cache_mib * 2**20:
            return None
        return self._stack(len(self), ahead(self.network, range(len(self))))

    def _stack(self, number: int, found: Iterable[tuple[np.ndarray, Frame]]) -> tuple[np.ndarray, ...]:
        """`[number, S, S, channels]` pictures, `[number]` scale and `[number, 2]` offset of their frames."""
        pictures, frames = np.empty((number, self.size, self.size, self.channels), np.uint8), np.empty((number, 3))
        for i, (picture, frame) in enumerate(found):
            pictures[i], frames[i] = picture, (frame.scale, *frame.offset)
        return pictures, frames[:, 0], frames[:, 1:]

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """`picture` [B, S, S, 3] uint8, `xy` [B, K, 2] float32 network pixels (0 where unknown), `mask` [B, K] bool,
        `scale` [B] and `offset` [B, 2] float32 of each frame, `subject` [B] int32 index among the split's subjects;
        where there are domains, `domain` [B] int32 index of each picture's."""
        if not self.cached:
            pictures, scale, offset = self._stack(len(indices), map(self.network, indices))
        else:
            pictures, scale, offset = (part[indices] for part in self._cache)
        xy = self.xy[indices] * scale[:, None, None] + offset[:, None]
        mask = ~np.isnan(xy).any(-1)
        return self.domain_of(indices) | {
            "picture": pictures,
            "xy": np.where(mask[..., None], xy, 0).astype(np.float32),
            "mask": mask,
            "scale": scale.astype(np.float32),
            "subject": self._subject[indices],
            "offset": offset.astype(np.float32),
        }

    def domain_of(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """`domain` [B] int32 where there are domains, else nothing."""
        return {"domain": self.domain[indices]} if self.domains else {}

    def batches(self, parts: Iterable[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """`batch` of each of `parts`; a few are decoded ahead."""
        self.cached  # noqa: B018  decoded here, once, before there are threads
        return ahead(self.batch, parts)

    @property
    def cached(self) -> bool:
        """Whether all pictures fit into `cache_mib`; then they are decoded once, at the first look."""
        return self._cache is not None

    def training_order(
        self, *, batch_size: int, seed: int, schedule: str = "proportional", temperature: float = 1.0
    ) -> "grain.MapDataset":
        """Endless shuffled batches: element n, `[batch_size]` indices, depends on `seed`, the schedule and n alone, so
        that a run resumes exactly. Every picture is seen once before any is seen again; where there are domains, any of
        its domain.

        Args:
          schedule, temperature: of the domains, see `schedule.shares`.
        """
        import grain

        if self.domains:
            order = schedules.order(self.domain, seed=seed, kind=schedule, temperature=temperature)
        else:
            order = grain.MapDataset.range(len(self)).seed(seed).shuffle().repeat(schedules.EPOCHS)
        return order.batch(batch_size)

    def training_batches(self, *, start: int, batch_size: int, **order: Any) -> Iterator[dict[str, np.ndarray]]:
        """`batch` of each element of `training_order(batch_size, **order)` from step `start` on. Each process gets its
        share of each."""
        import grain
        import jax

        self.cached  # noqa: B018  decoded here, once, before there are threads
        local = batch_size // jax.process_count()
        first = jax.process_index() * local
        indices = self.training_order(batch_size=batch_size, **order)
        batches = indices.map(lambda indices: self.batch(indices[first : first + local]))
        options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=2 * THREADS)
        iterator = iter(batches.to_iter_dataset(options))
        iterator.set_state({"next_index": start})
        return iterator
