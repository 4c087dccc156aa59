"""ImageJ and Fiji: `.roi` files of points, one for each picture and called as it, and `.zip` files of the ROI manager.
Of points the whole numbers are the centres of pixels, as here (since ImageJ 1.52u; areas have them at corners). In
order; numbers of 32 bits, so to about 1e-4 px."""

import math
import os
import pathlib
import re
from typing import Any

import numpy as np

from ctd_jax.data.faults import Fault
from ctd_jax.errors import UserError
from ctd_jax.labels import reading
from ctd_jax.labels.context import Context
from ctd_jax.labels.table import Labelled, Labels, Point

MAX_BYTES = 2**24  # of one ROI in a .zip, far above any list of points
FARTHEST = 32_766  # pixels; the box of a ROI has numbers of 16 bits
PLACE = re.compile(r"\d+(-\d+)+")  # what the ROI manager calls a ROI without a name: [slice-]y-x
Pages = tuple[int, int]  # the last page of a stack that has points, and the last slice or frame; 0: of no stack
Rois = list[tuple[str, np.ndarray, Pages]]  # name, `[n, 2]`


def recognises(name: str, head: str) -> bool:
    in_zip = name.endswith(".zip") and any(line.lower().endswith(".roi") for line in head.split("\n"))
    return in_zip or (name.endswith(".roi") and head.startswith("Iout"))


def read(path: pathlib.Path, context: Context) -> Labels:
    """Files, or a folder of them; see `labels.Format`. A `.zip` with one point in each ROI is a picture whose points
    are named by their ROIs, or known by their order where these are called by places, unless the ROIs are called as
    pictures and it is not; else each ROI has a picture's points."""
    found: list[tuple[str, list[str] | None, np.ndarray, Pages, str]] = []  # stem of a picture, names, points, -, file
    for file in reading.files_of(path, [".roi", ".zip"]):
        at = str(file)
        zipped, rois, stem = file.suffix.lower() == ".zip", _rois(file), reading.stem(file, path, file.suffix)
        of_pictures = not context.pictures.has_stem(stem) and any(context.pictures.has_stem(one) for one, *_ in rois)
        if zipped and len(rois) > 1 and all(len(xy) == 1 for _, xy, _ in rois) and not of_pictures:
            own, xys, pages = zip(*rois, strict=True)
            unnamed = all(PLACE.fullmatch(name) for name in own)
            found.append((stem, None if unnamed else [*own], np.concatenate(xys), tuple(np.max(pages, 0).tolist()), at))
        else:
            found += [(name if zipped else stem, None, xy, pages, f"{at}, {name}") for name, xy, pages in rois]
    ordered = [(len(xy), at) for _, names, xy, _, at in found if names is None]
    names = context.names_of(*ordered[0]) if ordered else ()
    listed = list(names)
    pictures = []
    for stem, named, xy, (page, slice_), at in found:
        if named is None and len(xy) != len(names):
            raise Fault("number of points", f"{at}: expected {len(names)} points, as the first has, found {len(xy)}")
        points: dict[str, Point] = {}
        for name, (x, y) in zip(named or names, xy.tolist(), strict=True):
            reading.add_once(points, name, Point(x, y), at)
        listed += named or []
        image = context.pictures.of_stem(stem, at)
        size = context.pictures.size(image)
        if page > 1:
            page = math.ceil(page / context.pictures.channels(image))
        reading.check_page(image, max(page, slice_), at)
        pictures.append(Labelled(image, points, size, spacing=context.spacing, where=at))
    return Labels(context.ordered(listed, str(path)), tuple(pictures))


def _rois(file: pathlib.Path) -> Rois:
    if file.suffix.lower() != ".zip":
        return [(file.stem, *_points(file.read_bytes(), str(file)))]
    with reading.archive(file) as archive:
        entries = [one for one in archive.infolist() if one.filename.lower().endswith(".roi")]
        large = next((one.filename for one in entries if one.file_size > MAX_BYTES), None)
        if large is not None:
            raise Fault("size", f"{file}, {large[:100]}: expected a list of points, found {MAX_BYTES} bytes or more")
        contents = [(pathlib.PurePosixPath(one.filename).stem, archive.read(one)) for one in entries]
    if not contents:
        raise Fault("number of points", f"{file}: expected .roi files in it, found none")
    return [(name, *_points(content, f"{file}, {name}")) for name, content in contents]


def _points(content: bytes, at: str) -> tuple[np.ndarray, Pages]:
    """`[n, 2]`, and where in a stack they are."""
    roifile = _library()
    try:
        roi = roifile.ImagejRoi.frombytes(content)
        xy = np.asarray(roi.coordinates(), np.float64)
    except Exception as error:  # whatever the library trips over in a damaged file
        raise Fault(
            "cut short", f"{at}: no ROI of ImageJ that can be read ({type(error).__name__}: {error})"
        ) from error
    if roi.roitype != roifile.ROI_TYPE.POINT or xy.ndim != 2 or xy.shape[1:] != (2,) or not np.isfinite(xy).all():
        raise Fault("kind", f"{at}: expected points (multi-point tool), found {roi.roitype.name.lower()}")
    places = roi.counter_positions
    page = max(roi.position, 0 if places is None else int(np.max(places, initial=0)))
    return xy, (page, max(roi.z_position, roi.t_position))


def write(labels: Labels) -> dict[str, bytes]:
    """A `.roi` for each picture; see `labels.Format`."""
    roifile = _library()
    contents = {}
    for picture in labels.pictures:
        points = picture.all_points(labels.names, "a .roi file")
        far = next((point for point in points if max(abs(point.x), abs(point.y)) > FARTHEST), None)
        if far is not None:
            raise UserError(f"{picture.image}: ImageJ holds pixels up to {FARTHEST}, found {far.x:g} {far.y:g}")
        roi = roifile.ImagejRoi.frompoints([[point.x, point.y] for point in points])
        roi.roitype = roifile.ROI_TYPE.POINT
        name = os.path.splitext(picture.image)[0] + ".roi"
        contents[picture.image] = (name, roi.tobytes())
    return reading.separate_files(contents)


def _library() -> Any:
    return reading.library("roifile", "a ROI of ImageJ")
