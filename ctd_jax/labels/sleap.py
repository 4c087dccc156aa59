"""SLEAP's `.slp`, through sleap-io: one skeleton, one animal a picture.

0 is the centre of the first pixel, as here, and as sleap-io tells other formats. Pictures are videos of images, one
each; a film has frames, not pictures.
"""

import math
import os
import pathlib
import tempfile
from typing import Any

import numpy as np

from ctd_jax.data.faults import Fault
from ctd_jax.errors import UserError
from ctd_jax.labels import reading
from ctd_jax.labels.context import Context
from ctd_jax.labels.table import Labelled, Labels, Point


def recognises(name: str, head: str) -> bool:
    return name.endswith(".slp")


def read(path: pathlib.Path, context: Context) -> Labels:
    """One file; see `labels.Format`."""
    path = reading.only_file(path, [".slp"])
    library = _library()
    try:
        found = library.load_slp(str(path), open_videos=False)
        frames = [(frame, _file_of(frame)) for frame in found.labeled_frames]
    except Exception as error:  # whatever the library trips over in a damaged file
        raise UserError(
            f"{path}: no .slp that can be read ({type(error).__name__}: {error})".splitlines()[0]
        ) from error
    if len(found.skeletons) != 1:
        raise UserError(f"{path}: expected one skeleton, found {len(found.skeletons)}")
    names = list(found.skeletons[0].node_names)
    confirmed = any(frame.user_instances for frame, _ in frames)
    pictures, predicted = [], 0
    for i, (frame, file) in enumerate(frames):
        at = f"{path}, frame {i + 1}"
        if file is None:
            raise Fault(
                "film", f"{at}: expected pictures, found the film {frame.video.filename!s:.100}; save its frames"
            )
        predicted += bool(frame.instances) and not frame.user_instances
        instances = frame.user_instances if confirmed else frame.instances
        if len(instances) > 1:
            raise Fault("two in a picture", f"{at}: expected one animal, found {len(instances)}")
        shape = frame.video.shape
        size = (int(shape[2]), int(shape[1])) if shape is not None else None
        points = _points(instances[0], names) if instances else {}
        pictures.append(Labelled(context.pictures.find(file, at), points, size, spacing=context.spacing, where=at))
    reading.say_predicted(path, predicted, confirmed)
    return Labels(context.ordered(names, str(path)), tuple(pictures))


def _file_of(frame: Any) -> str | None:
    """The picture of a frame; None: it is of a film."""
    names = frame.video.filename
    return str(names[frame.frame_idx]) if isinstance(names, list) else None


def _points(instance: Any, names: list[str]) -> dict[str, Point]:
    placed = zip(names, instance.points["xy"].tolist(), instance.points["visible"].tolist(), strict=True)
    scores = instance.points["score"].tolist() if "score" in instance.points.dtype.names else [math.nan] * len(names)
    return {
        name: Point(x, y, confidence=score)
        for (name, (x, y), visible), score in zip(placed, scores, strict=True)
        if visible and math.isfinite(x) and math.isfinite(y)
    }


def write(labels: Labels) -> dict[str, bytes]:
    """One file; see `labels.Format`."""
    library = _library()
    from sleap_io.io.video_reading import ImageVideo

    skeleton = library.Skeleton(nodes=list(labels.names))
    frames = []
    for picture in labels.pictures:
        width, height = picture.known_size()
        xy = [[point.x, point.y] if (point := picture.points.get(name)) else [np.nan] * 2 for name in labels.names]
        instance = library.Instance.from_numpy(np.array(xy), skeleton=skeleton)
        video = library.Video(
            filename=[picture.image],
            backend=ImageVideo(filename=[picture.image], grayscale=True),
            backend_metadata={"type": "ImageVideo", "shape": [1, height, width, 1]},
            open_backend=False,
        )
        frames.append(library.LabeledFrame(video=video, frame_idx=0, instances=[instance]))
    made = library.Labels(labeled_frames=frames, skeletons=[skeleton], videos=[frame.video for frame in frames])
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "labels.slp")
        library.save_slp(made, path, verbose=False)
        return {"": pathlib.Path(path).read_bytes()}


def _library() -> Any:
    return reading.library("sleap_io", "SLEAP's .slp", "sleap-io")
