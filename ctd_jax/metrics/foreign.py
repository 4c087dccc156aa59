"""Predictions and annotations in the files of other tools, as our table of predictions.

| file | with |
|---|---|
| COCO keypoint results, `.json` | `--truth`: COCO annotations, `.json` |
| DeepLabCut's csv, three rows of header | `--truth`: its `CollectedData_....csv` |
| arrays as landmarker keeps them, a csv of numbers without a header | `--truth`: another one |

One object in each picture. A picture that has no prediction, or two, is refused: nothing is matched or chosen here.
Annotations of a category without keypoints are not read.
"""

import csv
import io
import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ctd_jax.errors import UserError
from ctd_jax.metrics.predictions import COLUMNS, Predictions, read_predictions

MAX_MIB = 512  # of a file


class Table(NamedTuple):
    """What a file holds, and what was taken for granted."""

    predictions: Predictions
    taken: list[str]


class _Points(NamedTuple):
    """N pictures x K landmarks of one file."""

    images: list[str]
    landmarks: list[str]
    xy: np.ndarray  # [N, K, 2], NaN where there is none
    confidence: np.ndarray | None  # [N, K]


def read(path: str | os.PathLike, truth: str | os.PathLike | None, spacing: float | None) -> Table:
    """The table of a file that a run, or another tool, wrote.

    Args:
      path: a run's folder, its `predictions.csv`, or one of the files above.
      truth: the annotations, in the format of the predictions; None for a table of a run, which has them.
      spacing: mm of a pixel, the same in all pictures; None: unknown. A table of a run knows it.

    Raises:
      UserError: another kind of file; what does not fit, with file, entry, what was expected and what was found.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "predictions.csv"
    kind = "run" if not path.exists() else "coco" if path.suffix.lower() == ".json" else _kind_of_csv(path)
    if kind == "run":
        if truth is not None or spacing is not None:
            flag = "truth" if truth is not None else "spacing"
            raise UserError(f"--{flag}: {path} is a table of a run, which has annotations and mm; leave the flag out")
        return Table(read_predictions(path), [])
    if truth is None:
        raise UserError(f"--truth is missing: {path} has predictions only; give the annotations, in the same format")
    truth = Path(truth)
    if kind == "coco":
        found, true, taken = _coco(path, truth)
    elif kind == "deeplabcut":
        found, true, taken = _deeplabcut(path, truth)
    else:
        found, true, taken = _arrays(path, truth)
    n = len(true.images)
    taken.append("coordinates are taken as they are: (0, 0) is the centre of the first pixel")
    table = Predictions.from_points(
        true.images,
        [""] * n,
        true.landmarks,
        found.xy,
        true_xy=true.xy,
        spacing=None if spacing is None else np.full((n, 2), spacing),
        confidence=found.confidence,
    )
    return Table(table, taken)


# ---------------------------------------------------------------- COCO


def _coco(path: Path, truth: Path) -> tuple[_Points, _Points, list[str]]:
    names, landmarks, true, boxes = _coco_truth(truth)
    results = _json(path)
    if not isinstance(results, list):
        hint = "; these look like annotations, which --truth takes" if isinstance(results, dict) else ""
        raise UserError(f"{path}: expected a list of COCO keypoint results, found {_what(results)}{hint}")
    k = len(landmarks)
    rows: dict[Any, np.ndarray] = {}
    for i, entry in enumerate(results):
        at = f"{path}, entry {i}"
        image = _key(entry, "image_id", at)
        if entry.get("category_id") in boxes:
            continue
        if image not in names:
            raise UserError(f"{at}, image_id: expected the id of a picture in {truth}, found {_what(image)}")
        if image in rows:
            raise UserError(f"{at}: expected one result of {names[image]!r}, found a second one; keep one a picture")
        rows[image] = _keypoints(entry, k, at)
    lacking = [name for image, name in names.items() if image not in rows]
    if lacking:
        raise UserError(
            f"{path}: expected a result of each of the {len(names)} pictures of {truth}, found none of {len(lacking)} "
            f"(first: {lacking[0]!r})"
        )
    found = np.array([rows[image] for image in names]).reshape(len(names), k, 3)
    points = _Points(list(names.values()), landmarks, found[..., :2], found[..., 2])
    taken = [
        f"read as COCO keypoint results, {len(names)} pictures x {k} keypoints; a keypoint's third number is taken as "
        "its confidence"
    ]
    return points, _Points(list(names.values()), landmarks, true, None), taken


def _coco_truth(path: Path) -> tuple[dict[Any, str], list[str], np.ndarray, list[Any]]:
    """Image id -> file name; names of the keypoints; `[N, K, 2]` points, NaN where the visibility is 0; ids of the
    categories without keypoints."""
    content = _json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected COCO annotations, an object, found {_what(content)}")
    images, annotations, categories = (_list(content, key, path) for key in ("images", "annotations", "categories"))
    named = [one["keypoints"] for one in categories if isinstance(one, dict) and one.get("keypoints")]
    if len(named) != 1 or not isinstance(named[0], list):
        raise UserError(f"{path}, categories: expected one with a list of keypoints, found {len(named)}")
    landmarks = [str(name) for name in named[0]]
    if len(set(landmarks)) < len(landmarks):
        raise UserError(f"{path}, categories: expected keypoints of different names, found one twice")
    names: dict[int | str, str] = {}
    known = set()
    for i, one in enumerate(images):
        at = f"{path}, images, entry {i}"
        image = _key(one, "id", at)
        name = str(one.get("file_name", image))
        if image in names or name in known:
            raise UserError(f"{at}: expected pictures with different ids and names, found {name!r} again")
        names[image] = name
        known.add(name)
    if not names:
        raise UserError(f"{path}, images: expected at least one, found none")
    boxes = [one["id"] for one in categories if isinstance(one, dict) and "id" in one and not one.get("keypoints")]
    points = {image: np.full((len(landmarks), 2), np.nan) for image in names}
    seen = set()
    for i, entry in enumerate(annotations):
        at = f"{path}, annotations, entry {i}"
        image = _key(entry, "image_id", at)
        if entry.get("category_id") in boxes:
            continue
        if image not in names:
            raise UserError(f"{at}, image_id: expected the id of one of its images, found {_what(image)}")
        if image in seen:
            raise UserError(f"{at}: expected one object in {names[image]!r}, found a second one; one a picture is read")
        seen.add(image)
        rows = _keypoints(entry, len(landmarks), at)
        points[image] = np.where(rows[:, 2:] > 0, rows[:, :2], np.nan)
    return names, landmarks, np.array([points[image] for image in names]), boxes


def _keypoints(entry: Any, k: int, at: str) -> np.ndarray:
    """`[K, 3]` of a result or an annotation."""
    values = entry.get("keypoints") if isinstance(entry, dict) else None
    if not isinstance(values, list) or len(values) != 3 * k:
        found = f"{len(values)} numbers" if isinstance(values, list) else _what(values)
        raise UserError(f"{at}, keypoints: expected {3 * k} numbers, x, y and a third of {k} keypoints, found {found}")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
            raise UserError(f"{at}, keypoints: expected numbers, found {_what(value)}")
    return np.array(values, np.float64).reshape(k, 3)


def _key(entry: Any, key: str, at: str) -> int | str:
    value = entry.get(key) if isinstance(entry, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise UserError(f"{at}, {key}: expected a number or a name, found {_what(value)}")
    return value


def _list(content: dict[str, Any], key: str, path: Path) -> list[Any]:
    if not isinstance(content.get(key), list):
        raise UserError(f"{path}, {key}: expected a list, found {_what(content.get(key))}")
    return content[key]


def _json(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected JSON, found something else ({str(error)[:100]})") from error


# ---------------------------------------------------------------- DeepLabCut


def _deeplabcut(path: Path, truth: Path) -> tuple[_Points, _Points, list[str]]:
    found, true = _dlc_csv(path), _dlc_csv(truth)
    if true.confidence is not None:
        raise UserError(f"{truth}: expected annotations with x and y, found a likelihood; are these predictions?")
    if set(found.landmarks) != set(true.landmarks):
        name = sorted(set(found.landmarks) ^ set(true.landmarks))[0]
        where = path if name in found.landmarks else truth
        raise UserError(f"{path}: expected the body parts of {truth}, found {name!r} only in {where}")
    place = {image: i for i, image in enumerate(found.images)}
    lacking = [image for image in true.images if image not in place]
    if lacking:
        raise UserError(
            f"{path}: expected a row of each of the {len(true.images)} pictures of {truth}, found none of "
            f"{len(lacking)} (first: {lacking[0]!r})"
        )
    rows, columns = [place[image] for image in true.images], [found.landmarks.index(name) for name in true.landmarks]
    chosen = np.ix_(rows, columns)
    confidence = None if found.confidence is None else found.confidence[chosen]
    taken = [f"read as DeepLabCut's csv, {len(true.images)} pictures x {len(columns)} body parts"]
    if len(found.images) > len(rows):
        taken.append(f"{len(found.images) - len(rows)} predicted rows without annotation are left out")
    points = _Points(true.images, true.landmarks, found.xy[chosen], confidence)
    empty = np.argwhere(np.isnan(points.xy).any(axis=-1))
    if len(empty):
        i, k = empty[0]
        raise UserError(f"{path}, {true.images[i]!r}: expected x and y of {true.landmarks[k]!r}, found an empty cell")
    return points, true, taken


def _dlc_csv(path: Path) -> _Points:
    rows = _csv(path)
    if len(rows) > 1 and rows[1][0] == "individuals":
        raise UserError(f"{path}: expected one animal a picture, found a row of individuals; export one of them")
    if [row[0] for row in rows[:3]] != ["scorer", "bodyparts", "coords"]:
        found = ", ".join(repr(row[0][:30]) for row in rows[:3])
        raise UserError(f"{path}: expected three rows of header, scorer, bodyparts and coords, found {found or 'none'}")
    _, parts, coords = rows[:3]
    first = next((i for i, cell in enumerate(coords) if i and cell), len(coords))  # before it: where the picture is
    kinds = 3 if "likelihood" in coords else 2
    expected = ["x", "y", "likelihood"][:kinds]
    names = parts[first::kinds]
    for i, (name, kind) in enumerate(zip(parts[first:], coords[first:], strict=False)):
        if kind != expected[i % kinds] or name != names[i // kinds]:
            wanted = f"{expected[i % kinds]} of {names[i // kinds]!r}"
            raise UserError(f"{path}, column {first + i + 1}: expected {wanted}, found {kind!r} of {name!r}")
    if not names or (len(coords) - first) % kinds or len(set(names)) < len(names):
        raise UserError(f"{path}, row 3: expected {', '.join(expected)} of each body part once, found others")
    images, values = [], []
    for i, row in enumerate(rows[3:], 4):
        if len(row) != len(coords):
            raise UserError(f"{path}, row {i}: expected {len(coords)} cells, found {len(row)}")
        images.append("/".join(cell for cell in row[:first] if cell).replace("\\", "/"))
        values.append([_number(cell, f"{path}, row {i}, column {first + j + 1}") for j, cell in enumerate(row[first:])])
    if len(set(images)) < len(images) or not images:
        what = "the same picture twice" if images else "no rows"
        raise UserError(f"{path}: expected one row a picture, found {what}")
    cells = np.array(values).reshape(len(images), len(names), kinds)
    half = np.argwhere(np.isnan(cells[..., 0]) != np.isnan(cells[..., 1]))
    if len(half):
        raise UserError(f"{path}, {images[half[0][0]]!r}: {names[half[0][1]]!r} has only one of its two coordinates")
    return _Points(images, names, cells[..., :2], cells[..., 2] if kinds == 3 else None)


# ---------------------------------------------------------------- landmarker


def _arrays(path: Path, truth: Path) -> tuple[_Points, _Points, list[str]]:
    found, true = _array(path), _array(truth)
    if found.shape != true.shape:
        raise UserError(f"{path}: expected the shape of {truth}, {true.shape}, found {found.shape} (rows, columns)")
    n, k = found.shape[0], found.shape[1] // 2
    if np.isnan(found).any():
        i, j = np.argwhere(np.isnan(found))[0]
        raise UserError(f"{path}, row {i + 1}, column {j + 1}: expected a number, found {'nan'!r}")
    images, landmarks = [f"row {i}" for i in range(n)], [f"landmark {i}" for i in range(k)]
    points = [_Points(images, landmarks, array.reshape(n, k, 2)[..., ::-1], None) for array in (found, true)]
    taken = [
        f"read as landmarker's arrays, {n} rows (pictures) x {k} landmarks; columns are taken as y, x, y, x, ... as "
        "landmarker keeps them, and row i of both files as the same picture"
    ]
    return points[0], points[1], taken


def _array(path: Path) -> np.ndarray:
    rows = _csv(path)
    for i, row in enumerate(rows, 1):
        if len(row) != len(rows[0]) or len(row) % 2:
            wanted = len(rows[0]) + len(rows[0]) % 2
            raise UserError(f"{path}, row {i}: expected {wanted} numbers, two of each landmark, found {len(row)}")
    cells = [
        [_number(c, f"{path}, row {i}, column {j}") for j, c in enumerate(row, 1)] for i, row in enumerate(rows, 1)
    ]
    array = np.array(cells, np.float64)
    half = np.argwhere(np.isnan(array[:, ::2]) != np.isnan(array[:, 1::2]))
    if len(half):
        raise UserError(f"{path}, row {half[0][0] + 1}: landmark {half[0][1]} has only one of its two coordinates")
    return array


# ---------------------------------------------------------------- files


def _kind_of_csv(path: Path) -> str:
    """ "run", "deeplabcut" or "arrays", by the first row."""
    rows = _csv(path)
    first = rows[0] if rows else []
    if first[: len(COLUMNS)] == list(COLUMNS):
        return "run"
    if first and first[0] == "scorer":
        return "deeplabcut"
    if first and all(_is_number(cell) for cell in first):
        return "arrays"
    raise UserError(
        f"{path}, row 1: expected a table of a run ({','.join(COLUMNS[:4])},...), DeepLabCut's (scorer,...) or numbers "
        f"without a header as landmarker's arrays, found {','.join(first)[:100] or 'nothing'}"
    )


def _csv(path: Path) -> list[list[str]]:
    """The rows that are not empty."""
    try:
        rows = csv.reader(io.StringIO(_text(path), newline=""))
        return [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise UserError(f"{path}: expected a csv file ({error})") from error


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_MIB * 2**20:
            raise UserError(f"{path}: expected at most {MAX_MIB} MiB, found {path.stat().st_size // 2**20}")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise UserError(f"{path}: expected a file of text in UTF-8 ({error})") from error


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(cell: str, at: str) -> float:
    """The number in a cell; NaN where it is empty or says so."""
    if cell.lower() in ("", "nan"):
        return math.nan
    if not _is_number(cell) or not abs(float(cell)) < 1e9:
        raise UserError(f"{at}: expected a number, found {cell[:50]!r}")
    return float(cell)


def _what(value: Any) -> str:
    """A value of a JSON file in a message."""
    if value is None:
        return "none"
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    return repr(value)[:50]
