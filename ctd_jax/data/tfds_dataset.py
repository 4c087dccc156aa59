"""TFDS data sets as input: `data.root=tfds:NAME` reads pictures and key points where TFDS has prepared them."""

import dataclasses
import hashlib
import io
import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from ctd_jax.data import about, annotation_checks, pictures, roots, survey, tables, twins
from ctd_jax.data.about import Landmarks
from ctd_jax.data.faults import Fault, Faults
from ctd_jax.data.landmark_folder import ABOUT, LandmarkTable
from ctd_jax.data.prefetch import map_in_threads, progress
from ctd_jax.data.tfds_features import XY, Chosen, choose
from ctd_jax.errors import UserError

_log = logging.getLogger(__name__)
INFO = "dataset_info.json"  # which TFDS writes beside the examples
WITHIN = 1.1  # fractions of a picture go no further, also those of points a little outside


@dataclasses.dataclass(frozen=True)
class _Example:
    """What is known of one example once its picture has been read."""

    points: Mapping[str, XY]
    subject: str
    size: tuple[int, int]  # width and height, pixels
    sha256: str
    look: Any  # one of `twins.LOOK`
    seen: survey.Seen


@dataclasses.dataclass(frozen=True)
class TfdsDataset:
    """The N pictures of all splits of a data set; each is called `SPLIT/NUMBER`.

    Attributes:
      table: as if they were the rows of a landmark folder.
      looks: `[N]` of `twins.LOOK`.
      seen: what `survey` knows of each.
    """

    table: LandmarkTable
    looks: np.ndarray
    seen: list[survey.Seen]
    _records: "_Records"

    def picture(self, index: int) -> bytes:
        """The encoded picture."""
        return self._records[index][0]


class _Records:
    """The examples of all splits, by number: encoded picture, points and subject."""

    def __init__(self, root: str, place: pathlib.Path, builder: Any, chosen: Chosen):
        self._chosen = chosen
        self.root, self.place, self.names = root, place, list[str]()
        self._sources: dict[str, Any] = {}
        for split, known in sorted(builder.info.splits.items()):
            source, promised = _source(root, place, builder, split), known.num_examples
            if len(source) != promised:
                raise UserError(
                    f"{place}: the split {split} has {len(source)} examples, and {INFO} says {promised}; prepare it "
                    "anew (TFDS loses examples when it writes some formats; array_record is safe)"
                )
            self._sources[split] = source
            self.names += [f"{split}/{i}" for i in range(promised)]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[bytes, Mapping[str, XY], str]:
        split, number = self.names[index].rsplit("/", 1)
        try:
            return self._chosen.example(self._sources[split][int(number)])
        except Exception as error:  # a damaged file can raise nearly anything
            raise Fault("unreadable example", f"{self.at(index)} can't be read ({error})") from error

    def at(self, index: int) -> str:
        split, number = self.names[index].rsplit("/", 1)
        return f"{self.root}, example {number} of {split}"


def read(root: str, config: ConfigDict, *, needs_points: bool) -> TfdsDataset:
    """Reads and checks all examples of a prepared data set.

    Args:
      root: `tfds:NAME`, or `tfds:FOLDER`.
      config: `data.tfds` of configs/default.py.
      needs_points: without key points there is nothing to do.

    Raises:
      UserError: there is no such data set, it is not clear what in it is meant, or all that is wrong with its examples.
    """
    place = _place(root)
    try:
        builder = tfds.builder_from_directory(place)
        features = builder.info.features
    except Exception as error:  # what is damaged can raise nearly anything
        raise UserError(f"{place}: TFDS can't read this data set ({error}); prepare it anew") from error
    chosen = choose(features, config, root, needs_points)
    records, faults = _Records(root, place, builder, chosen), Faults(root)
    found = _look_at_all(records, faults)
    faults.raise_if_any()
    table = _table(records, found, chosen, config, faults)
    for index, example in enumerate(found):
        with faults.collecting("landmark outside its picture"):
            width, height = example.size
            table.check_belongs(index, np.broadcast_to(np.uint8(0), (height, width, 3)))
    faults.raise_if_any()
    looks = np.array([example.look for example in found], twins.LOOK)
    return TfdsDataset(table, looks, [example.seen for example in found], records)


def _place(root: str) -> pathlib.Path:
    """The folder of the data set, with its configuration and version."""
    named = root.removeprefix(roots.TFDS)
    home = pathlib.Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    places = [home / named, pathlib.Path(named).expanduser()] if named else []
    for place in places:
        found = [
            file.parent
            for depth in ("", "*/", "*/*/")
            for file in sorted(place.glob(f"{depth}{INFO}"))
            if not file.parent.name.startswith("incomplete.")
        ]
        if len(found) > 1:
            words = tables.listed([str(one.relative_to(place)) for one in found], 5)
            raise UserError(f"data.root is {root}, which are several: {words}; give one, such as tfds:{found[-1]}")
        if found:
            return found[0]
    there = sorted(one.name for one in home.glob("*") if one.is_dir())
    raise UserError(
        f"data.root is {root}: TFDS has prepared no data set of this name in {home}, which has "
        f"{tables.listed(there) if there else 'none'}; prepare it there with `tfds build --file_format=array_record`, "
        "or say where it lies: tfds:FOLDER, or the environment variable TFDS_DATA_DIR"
    )


def _source(root: str, place: pathlib.Path, builder: Any, split: str) -> Any:
    """The records of a split, by number."""
    try:
        return builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
    except (NotImplementedError, ImportError) as error:
        kind = builder.info.file_format.value
        raise UserError(
            f"data.root is {root}: {place} has {kind} files, of which no single example can be read here; prepare it "
            "with `tfds build --file_format=array_record` (on Windows: parquet)"
        ) from error
    except Exception as error:  # what is damaged can raise nearly anything
        raise UserError(f"{place}: the split {split} can't be read ({error}); prepare it anew") from error


def _look_at_all(records: _Records, faults: Faults) -> list[_Example]:
    def look(index: int) -> _Example | None:
        try:
            content, points, subject = records[index]
            picture = pictures.decode(content, records.at(index))
            return _Example(
                points,
                subject,
                (picture.shape[1], picture.shape[0]),
                hashlib.sha256(content).hexdigest(),
                twins.look(picture),
                survey.look(io.BytesIO(content), records.names[index]),
            )
        except UserError as error:
            faults.take("unreadable picture", error)
            return None

    found = progress(map_in_threads(look, range(len(records))), "reading pictures", len(records))
    return [example for example in found if example is not None]


def _table(
    records: _Records, found: list[_Example], chosen: Chosen, config: ConfigDict, faults: Faults
) -> LandmarkTable:
    n, where = len(found), tuple(records.at(i) for i in range(len(found)))
    names = _names(records, found, chosen, faults)
    landmarks = _landmarks(records.place / ABOUT, names, chosen.points is not None and not chosen.points.names, faults)
    if set(landmarks.names) == set(names):
        names = landmarks.names  # in their order
    xy = np.array([[example.points.get(name, (np.nan, np.nan)) for name in names] for example in found], np.float64)
    xy = xy.reshape(n, len(names), 2)[..., :: 1 if config.order == "xy" else -1]
    xy[~np.isfinite(xy).all(-1)] = np.nan
    xy = annotation_checks.without_marks(xy, landmarks.names, where)
    unit = _unit(xy, chosen, config)
    if unit == "fractions":
        xy = xy * np.array([example.size for example in found])[:, None] - 0.5
    _say(records.root, chosen, names, unit, config)
    splits = [name.rsplit("/", 1)[0] for name in records.names]
    images = tuple(records.names)
    return LandmarkTable(
        landmarks=landmarks,
        images=images,
        subjects=tuple(example.subject or image for example, image in zip(found, images, strict=True)),
        splits=tuple(splits) if len(set(splits)) > 1 else None,
        xy=xy,
        spacing=np.full((n, 2), np.nan),
        boxes=np.full((n, 4), np.nan),
        where=where,
        title=records.root,
        sha256=tuple(example.sha256 for example in found),
    )


def _names(records: _Records, found: list[_Example], chosen: Chosen, faults: Faults) -> tuple[str, ...]:
    """The names of the points; where they have none, every picture must have as many, or none."""
    if chosen.points is None:
        return ()
    if chosen.points.names is not None:
        return chosen.points.names
    counts = [len(example.points) for example in found]
    most = max(counts, default=0)
    for index, count in enumerate(counts):
        if count not in (0, most):
            faults.add(
                "number of points",
                f"{records.at(index)} has {count} points and another one {most}, and they have no names: which are "
                "they? Expected as many in every picture, or none",
            )
    return tuple(f"point_{k}" for k in range(most))


def _landmarks(path: pathlib.Path, names: tuple[str, ...], nameless: bool, faults: Faults) -> Landmarks:
    """What a dataset.json beside the examples says of the points; it names those that are `nameless`."""
    if not path.is_file():
        return Landmarks(names)
    found = about.read(path, [f"{name}_{axis}" for name in names for axis in "xy"], faults)
    if len(found.names) != len(names) or not (nameless or set(found.names) == set(names)):
        expected = f"{len(names)} names, in the order of the points" if nameless else f"{tables.listed(list(names))}"
        faults.add("dataset.json", f"{path}: landmarks are {tables.listed(list(found.names))}; expected {expected}")
        return Landmarks(names)
    return dataclasses.replace(found, raters=())


def _unit(xy: np.ndarray, chosen: Chosen, config: ConfigDict) -> str:
    """What coordinates are: "pixels", or "fractions" of width and height."""
    if config.coordinates != "auto":
        return config.coordinates
    known = xy[~np.isnan(xy)]
    whole = chosen.points is None or chosen.points.whole
    return "fractions" if known.size and not whole and np.abs(known).max() <= WITHIN else "pixels"


def _say(root: str, chosen: Chosen, names: tuple[str, ...], unit: str, config: ConfigDict) -> None:
    if chosen.points:
        how = "x and y" if config.order == "xy" else "y and x"
        guessed = "" if config.coordinates != "auto" else " (--config.data.tfds.coordinates says otherwise)"
        of = f"the {len(names)} points are those of {chosen.key_points}, {how} in {unit}{guessed}"
    else:
        of = "no points"
    _log.warning("%s: pictures are those of the feature %s; %s", root, chosen.picture, of)
    if chosen.subject:
        _log.warning("%s: the subject is the feature %s", root, chosen.subject)
    else:
        _log.warning(
            "%s has no feature `subject`: every picture counts as a person of its own; --config.data.tfds.subject=NAME "
            "says which one it is",
            root,
        )
