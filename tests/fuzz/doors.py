"""Every door through which a file comes in: a small folder that is right, the file in it that is made hostile, what
the code reads, and a check of what it accepted against another reader (csv, json, Pillow, safetensors)."""

import csv
import dataclasses
import functools
import io
import json
import math
import os
import pathlib
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import safetensors.numpy
from PIL import Image, ImageOps

from configs import ft
from convert import state_dict
from ctd_jax import metrics
from ctd_jax.config import config_of_run, flatten
from ctd_jax.data import boxes, landmark_folder, pictures, segmentation_folder, split_file, splits
from ctd_jax.data.cells import MISSING, NO_WORDS
from ctd_jax.metrics import segmentation
from ctd_jax.models import weight_file
from ctd_jax.training import checkpoint, step
from tests import state_files

ACCURACY = 1e-12


@dataclasses.dataclass(frozen=True)
class Door:
    """A way in.

    Attributes:
      files: name -> content, of a folder that is right.
      attacked: the name of the file that is made hostile.
      read: what the code reads in that folder.
      check: raises AssertionError if that is not what the file says; gets the folder and what was read.
    """

    files: Mapping[str, bytes]
    attacked: str
    read: Callable[[pathlib.Path], Any]
    check: Callable[[pathlib.Path, Any], None]


def picture(format: str = "PNG", mode: str = "RGB", seed: int = 0, **settings: Any) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 255, (12, 10, 3), np.uint8)
    image, file = Image.fromarray(noise).convert(mode), io.BytesIO()
    if mode == "I;16":
        image = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    image.save(file, format, **settings)
    return file.getvalue()


def table(*rows: tuple[object, ...]) -> bytes:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue().encode()


# ---------------------------------------------------------------- tables, read by another reader


def text_of(path: pathlib.Path) -> str:
    content = path.read_bytes()
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def rows_of(path: pathlib.Path) -> list[dict[str, str]]:
    """The rows of a csv file by its header, blanks and letters' case gone; cells that are not there are empty."""
    text = text_of(path)
    first = text.splitlines()[0]
    delimiter = next(d for d in ",;\t" if "image" in [name.strip(' "').casefold() for name in first.split(d)])
    lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    header = [name.strip().casefold() for name in lines[0]]
    found = [dict(zip(header, [cell.strip() for cell in line], strict=False)) for line in lines[1:]]
    return [row for row in found if any(row.values())]


def number(text: str) -> float:
    """NaN for an empty cell, or one that says so."""
    if not text or text.casefold() in MISSING:
        return math.nan
    return float(text.replace(",", "."))


def assert_numbers(found: np.ndarray, cells: list[list[str]], may_lack: bool = False) -> None:
    """Numbers are those of the cells; `may_lack`: a point at a mark of absence may be NaN."""
    want = np.array([[number(cell) for cell in row] for row in cells], float).reshape(found.shape)
    assert not np.isinf(found).any()
    if may_lack:
        want = np.where(np.isnan(found) & np.isin(want, (0, -1)), np.nan, want)
    np.testing.assert_allclose(found, want, rtol=ACCURACY, atol=0)


POINTS = ("nose_x", "nose_y", "chin_x", "chin_y")
SPACING = ("spacing_x_mm", "spacing_y_mm")
FOLDER = {
    "dataset.json": json.dumps(
        {"name": "few", "landmarks": ["nose", "chin"], "flip_pairs": [], "normalizer": ["nose", "chin"]}
    ).encode(),
    "landmarks.csv": table(
        ("image", "subject", "split", *SPACING, *POINTS),
        ("a.png", "anna", "train", 0.5, 0.25, 1.5, 2.25, 3, 4),
        ("b.png", "berta", "val", 0.5, 0.25, 2.5, 3.25, "", ""),
        ("c.png", "carla", "test", 0.5, 0.25, 6, 2.125, 5.5, 7),
    ),
} | {f"{name}.png": picture(seed=i) for i, name in enumerate("abc")}


def check_landmark_folder(root: pathlib.Path, found: landmark_folder.LandmarkTable) -> None:
    about, rows = json.loads(text_of(root / "dataset.json")), rows_of(root / "landmarks.csv")
    assert list(found.landmarks.names) == about["landmarks"]
    assert list(found.landmarks.normalizer or []) == list(about.get("normalizer") or [])
    assert [list(pair) for pair in found.landmarks.flip_pairs or []] == list(about.get("flip_pairs") or [])
    assert [os.path.normpath(name).casefold() for name in found.images] == [
        os.path.normpath(row["image"].replace("\\", "/")).casefold() for row in rows
    ]
    columns = [f"{name.casefold()}_{axis}" for name in about["landmarks"] for axis in "xy"]
    assert_numbers(found.xy, [[row.get(column, "") for column in columns] for row in rows], may_lack=True)
    assert_numbers(found.spacing, [[row.get(column, "") for column in SPACING] for row in rows])


def check_split_file(root: pathlib.Path, found: dict[str, str]) -> None:
    rows = rows_of(root / "split.csv")
    want = {row["image"].removeprefix("'"): "" if row["split"].casefold() in NO_WORDS else row["split"] for row in rows}
    assert {image.removeprefix("'"): split for image, split in found.items()} == want


def check_boxes(root: pathlib.Path, found: dict[str, boxes.Box]) -> None:
    rows = rows_of(root / "boxes.csv")
    assert len(found) == len(rows)
    assert_numbers(np.array([one.box for one in found.values()]), [[row[c] for c in boxes.BOX] for row in rows])


PREDICTED = ("image", "subject", "landmark", "x", "y", "true_x", "true_y", "error_px", "error_mm", "confidence")


def check_predictions(root: pathlib.Path, found: metrics.Predictions) -> None:
    cells = {}
    for row in rows_of(root / "predictions.csv"):
        cells[row["image"].removeprefix("'"), row["landmark"].removeprefix("'")] = [row[c] for c in PREDICTED[3:]]
    values = np.concatenate(
        [found.xy, found.true_xy, np.stack([found.error_px, found.error_mm, found.confidence], -1)], -1
    )
    want = [cells[str(i).removeprefix("'"), str(k).removeprefix("'")] for i in found.images for k in found.landmarks]
    assert_numbers(values.reshape(-1, 7), want)


SCORED = ("image", "subject", "domain", "class", *segmentation.COUNTS, *segmentation.MEASURES)


def check_scores(root: pathlib.Path, found: segmentation.Scores) -> None:
    rows = rows_of(root / "segmentation_metrics.csv")
    for key, values in found.values.items():
        assert_numbers(values[:, None], [[row[key]] for row in rows])


MAPS = {
    "classes.json": json.dumps({"heads": ["background", "skull"]}).encode(),
    "segmentation.csv": table(
        ("image", "mask", "domain", "subject", "split", *SPACING),
        *((f"{n}.png", f"{n}_mask.png", "heads", n, split, 0.5, 0.25) for n, split in zip(
            "abcd", ("train", "train", "val", "test"), strict=True)),
    ),
}  # fmt: skip
for i, name in enumerate("abcd"):
    MAPS[f"{name}.png"] = picture(seed=i)
    MAPS[f"{name}_mask.png"] = picture(mode="1", seed=i)


def check_segmentation_folder(root: pathlib.Path, found: segmentation_folder.ClassMapTable) -> None:
    about, rows = json.loads(text_of(root / "classes.json")), rows_of(root / "segmentation.csv")
    assert {domain: list(names) for domain, names in found.classes.items()} == about
    assert [*found.domains] == [row["domain"] for row in rows]
    assert_numbers(found.spacing, [[row.get(column, "") for column in SPACING] for row in rows])


# ---------------------------------------------------------------- pictures


def check_picture(root: pathlib.Path, found: np.ndarray) -> None:
    with Image.open(root / "picture") as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
        assert found.shape == (upright.height, upright.width, 3) and found.dtype == np.uint8
        plain = upright.mode in ("RGB", "L", "P", "1") and "transparency" not in image.info
        if plain and getattr(image, "n_frames", 1) == 1:
            np.testing.assert_array_equal(found, np.asarray(upright.convert("RGB")))


def check_class_map(root: pathlib.Path, found: np.ndarray) -> None:
    with Image.open(root / "mask.png") as image:
        np.testing.assert_array_equal(found, np.asarray(ImageOps.exif_transpose(image)))


# ---------------------------------------------------------------- weights

WEIGHTS = {
    "a.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7,
    "a.bias": np.float32([1.5, -2.25]),
    "b.weight": np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3),
}


def check_state_dict(root: pathlib.Path, found: dict[str, np.ndarray]) -> None:
    """No seal holds a foreign file together; but each number must stand in it."""
    content = (root / "weights").read_bytes()
    for array in found.values():
        assert array.dtype.kind in "biuf"
        assert np.ascontiguousarray(array).tobytes() in content


@functools.cache
def sealed(with_seal: bool) -> bytes:
    variables = {f"params/encoder/{name.replace('.', '/')}": value for name, value in WEIGHTS.items()}
    meta = json.dumps({"encoder": {"name": "resnet8"}, "input": {}, "source": "test"})
    metadata = {"ctd_jax": meta}
    if with_seal:
        metadata[weight_file.SEAL] = weight_file._seal(variables, meta)
    return safetensors.numpy.save(variables, metadata)


def check_sealed(root: pathlib.Path, found: tuple[dict[str, Any], dict[str, Any]]) -> None:
    variables, meta = found
    assert meta["encoder"] == {"name": "resnet8"}
    for name, value in WEIGHTS.items():
        first, last = name.split(".")
        np.testing.assert_array_equal(variables["params"]["encoder"][first][last], value, strict=True)


def check_unsealed(root: pathlib.Path, found: tuple[dict[str, Any], dict[str, Any]]) -> None:
    variables, meta = found
    assert isinstance(meta, dict)
    want = safetensors.numpy.load((root / "weights.safetensors").read_bytes())
    for name, value in want.items():
        place: Any = variables
        for part in name.split("/"):
            place = place[part]
        np.testing.assert_array_equal(place, value, strict=True)
        assert np.isfinite(value).all()


# ---------------------------------------------------------------- the folder of a run

META = {"landmarks": ["chin"], "encoder": {"name": "resnet8"}}


def state(number: int) -> step.TrainState:
    values = np.random.default_rng(number).normal(size=(4, 5)).astype(np.float32)
    return step.TrainState(np.int32(number), {"encoder": {"kernel": values}}, {"encoder": {"mean": -values}}, (values,))


def run_folder(folder: pathlib.Path) -> dict[str, bytes]:
    """The files of a run with two checkpoints, of which the first is the best."""
    (folder / "config.json").write_text(json.dumps(ft.get_config().to_dict()))
    with checkpoint.manager(folder) as checkpoints:
        for number, error in ((10, 0.2), (20, 0.5)):
            checkpoint.save(checkpoints, number, state(number), META, error)
        checkpoints.wait_until_finished()
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def check_best(root: pathlib.Path, found: tuple[dict[str, Any], dict[str, Any]]) -> None:
    variables, meta = found
    assert meta == META
    kernel, mean = variables["params"]["encoder"]["kernel"], variables["batch_stats"]["encoder"]["mean"]
    assert any(np.array_equal(kernel, state(n).params["encoder"]["kernel"]) for n in (10, 20))
    np.testing.assert_array_equal(mean, -kernel)


def check_config(root: pathlib.Path, found: Any) -> None:
    """Each value that the file has is read as it stands there."""
    content = json.loads(text_of(root / "config.json"))
    for key, value in flatten(found).items():
        place: Any = content
        for part in key.split("."):
            place = place.get(part) if isinstance(place, dict) else None
        if place is not None and not isinstance(value, dict):
            assert place == (list(value) if isinstance(value, tuple) else value), key


def check_split(root: pathlib.Path, found: list[tuple[str, ...]]) -> None:
    _, *rows = csv.reader(io.StringIO((root / "split.csv").read_text("utf-8"), newline=""))
    assert [[cell.removeprefix("'") for cell in row] for row in found] == [
        [cell.removeprefix("'") for cell in row] for row in rows
    ]


def doors(run: Mapping[str, bytes]) -> dict[str, Door]:
    """Name -> door. `run`: see `run_folder`."""
    found = {
        "landmarks.csv": Door(FOLDER, "landmarks.csv", landmark_folder.read, check_landmark_folder),
        "dataset.json": Door(FOLDER, "dataset.json", landmark_folder.read, check_landmark_folder),
        "a split file": _one("split.csv", table(("image", "split"), ("a.png", "train"), ("b.png", "test")),
                             split_file.read, check_split_file),
        "boxes.csv": _one("boxes.csv", table(("image", *boxes.BOX), ("a.png", 0, 1, 5.5, 7), ("b.png", 1, 1, 9, 9)),
                          boxes.read_boxes, check_boxes),
        "predictions.csv": _one("predictions.csv", table(
            PREDICTED, ("a.png", "anna", "nose", 1.5, 2.5, 1, 2, 0.707, "", 0.9),
            ("a.png", "anna", "chin", 3.25, 4.5, "", "", "", "", 0.5)), metrics.read_predictions, check_predictions),
        "segmentation_metrics.csv": _one("segmentation_metrics.csv", table(
            SCORED, ("a.png", "anna", "heads", "skull", *[12] * len(segmentation.COUNTS),
                     *[0.5] * len(segmentation.MEASURES))), segmentation.read, check_scores),
        "segmentation.csv": Door(MAPS, "segmentation.csv", segmentation_folder.read, check_segmentation_folder),
        "classes.json": Door(MAPS, "classes.json", segmentation_folder.read, check_segmentation_folder),
        "a class map": _one("mask.png", picture(mode="L"), _decoded(pictures.decode_classes), check_class_map),
        "safetensors": _one("weights.safetensors", sealed(True), weight_file.load, check_sealed),
        "safetensors without a seal": _one("weights.safetensors", sealed(False), weight_file.load, check_unsealed),
        "config.json": Door({"config.json": run["config.json"]}, "config.json", config_of_run, check_config),
        "split.csv of a run": _one("split.csv", splits.text([("a.png", "anna", "train", "00")]).encode(),
                                   splits.read, check_split),
    }  # fmt: skip
    for format, mode in (("PNG", "RGB"), ("PNG", "I;16"), ("JPEG", "RGB"), ("TIFF", "RGB"), ("BMP", "L"),
                         ("GIF", "P"), ("WEBP", "RGB")):  # fmt: skip
        content = picture(format, mode, **({"lossless": True} if format == "WEBP" else {}))
        found[f"{format} {mode}"] = _one("picture", content, _decoded(pictures.decode), check_picture)
    contents = {"zip": state_files.torch_zip(WEIGHTS), "legacy": state_files.torch_legacy(WEIGHTS),
                "pickle": pickle.dumps(WEIGHTS, 4), "safetensors": safetensors.numpy.save(WEIGHTS)}  # fmt: skip
    for kind, content in contents.items():
        found[f"state dict, {kind}"] = _one("weights", content, state_dict.read, check_state_dict)
    for name in sorted(run):
        if name.startswith("checkpoints/10/"):
            kind = name.removeprefix("checkpoints/10/")
            kind = kind if len(kind) < 32 else f"{os.path.dirname(kind)}/(data {len(found)})"
            found[f"checkpoint, {kind}"] = Door(run, name, checkpoint.best, check_best)
    return found


def _one(name: str, content: bytes, read: Callable[[pathlib.Path], Any], check: Callable) -> Door:
    """A door of a single file."""
    return Door({name: content}, name, lambda root: read(root / name), check)


def _decoded(decode: Callable[[bytes, str], np.ndarray]) -> Callable[[pathlib.Path], np.ndarray]:
    return lambda path: decode(path.read_bytes(), path.name)
