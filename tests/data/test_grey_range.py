"""One grey range for a folder: which it is, that the run keeps it, and what is said of pictures that do not fit."""

import json
import pathlib

import numpy as np
import pytest
import segmentation_folder
import tiny
from PIL import Image

from configs import default
from ctd_jax import data
from ctd_jax.data import grey_range, pictures, survey
from ctd_jax.tasks.landmarks import LandmarkTask

CASES = pathlib.Path(__file__).parents[2] / "../shared/cases"
RAMP = np.linspace(0, 1, 30 * 47).reshape(30, 47)


def range_of(*found, kind="integer"):
    return grey_range.shared([grey_range.bounds(values) for values in found], kind)


def ramp(low, high, kind=np.uint16):
    return (low + RAMP * (high - low)).astype(kind)


def said(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "ctd_jax.data.survey"]


def with_pixels(values, share, value):
    """`share` of the pixels, at least one, changed to `value`."""
    values = values.copy()
    values.ravel()[: max(1, round(share * values.size))] = value
    return values


@pytest.mark.parametrize(
    ("values", "want"),
    [
        (ramp(0, 200), (0, 255)),
        (ramp(0, 1100), (0, 2047)),
        (ramp(0, 4095), (0, 4095)),
        (ramp(900, 60000), (0, 65535)),
        (with_pixels(ramp(0, 3164), 0, 4096), (0, 4095)),  # a dead pixel
        (with_pixels(ramp(0, 3164), 0, 65535), (0, 4095)),
        (with_pixels(ramp(0, 3164), 0.04, 65535), (0, 4095)),  # a side marker
        (with_pixels(ramp(0, 3164), 0.2, 65535), (0, 65535)),  # too large for one
        (ramp(-1000, 3071, np.int32), (-1024, 4095)),  # Hounsfield units
        (ramp(-1024, 3071, np.int32), (-1024, 4095)),
        (with_pixels(ramp(3071, -1000, np.int32), 0.25, -32768), (-1024, 4095)),  # outside the field of view
        (with_pixels(ramp(0, 4000, np.int32), 0.3, -5), (0, 4095)),
    ],
)
def test_whole_numbers(values, want):
    assert range_of(values) == want


@pytest.mark.parametrize(
    ("values", "want"),
    [
        (ramp(0, 0.6, np.float32), (0, 1)),
        (ramp(0, 1, np.float32), (0, 1)),
        (with_pixels(ramp(0, 1, np.float32), 0.02, 1.03), (0, 1)),  # as resampling leaves them
        (with_pixels(ramp(0, 255, np.float32), 0, 255.4), (0, 255)),
        (with_pixels(ramp(0, 1, np.float32), 0.3, np.nan), (0, 1)),
        (ramp(-1, 1, np.float32), (-1, 1)),
        (ramp(-900, 3000, np.float32), (-1024, 4095)),
        (np.full((4, 4), np.nan, np.float32), (0, 1)),
    ],
)
def test_fractions(values, want):
    assert range_of(values, kind="float") == want


def test_of_several_pictures_it_is_the_largest_that_is_not_far_from_the_others():
    dark, usual, odd = ramp(0, 900), ramp(0, 3500), ramp(0, 60000)
    assert range_of(dark, dark, dark, usual) == (0, 4095)
    assert range_of(usual, usual, odd) == (0, 4095)
    assert range_of(dark, ramp(-900, 900, np.int32), ramp(-900, 900, np.int32)) == (-1024, 1023)
    assert range_of(dark, dark, ramp(-900, 900, np.int32)) == (0, 1023)


def test_what_lies_beyond_becomes_black_or_white():
    values = np.array([[-2000, -1024, 0, 4095, 9000]], np.int32)
    want = [[0, 0, round(1024 * 255 / 5119), 255, 255]]
    assert grey_range.to_8_bits(values, (-1024, 4095)).tolist() == want
    assert grey_range.to_8_bits(np.array([np.nan, np.inf, 0.5]), (0, 1)).tolist() == [0, 0, 128]


@pytest.fixture
def folder(landmark_folder):
    """A function of {file: picture of more than 8 bits} that puts them into a folder, and loads it again."""
    root = landmark_folder(size=48)

    def load(changes):
        for name, values in changes.items():
            Image.fromarray(values).save(root / "images" / name, "TIFF")
        config = default.get_config().data
        config.root, config.image_size = str(root), 32
        return data.load(config, root.parent / "cache")

    return load


def at_48(low, high, kind=np.uint16):
    return np.linspace(low, high, 48 * 48).reshape(48, 48).astype(kind)


def test_the_same_value_is_the_same_grey_in_all_pictures_of_a_folder(folder, caplog):
    one, other = at_48(0, 2040), at_48(0, 2100)
    one[5, 6] = other[5, 6] = 1000
    loaded = folder({"000.png": one, "009.png": other})
    assert loaded.grey == {"": {"integer": (0.0, 4095.0)}}
    for name in ("000.png", "009.png"):
        assert loaded.picture(f"images/{name}")[5, 6].tolist() == [round(1000 * 255 / 4095)] * 3
    assert not said(caplog)


def test_hounsfield_units_below_0_are_not_all_black(folder):
    loaded = folder({"000.png": at_48(-1000, 3000, np.int32), "001.png": at_48(-900, 2000, np.int32)})
    seen = loaded.picture("images/000.png")[..., 0]
    assert seen[0, 0] == round(24 * 255 / 5119) and seen[-1, -1] == round(4024 * 255 / 5119)
    assert len(np.unique(seen)) > 190


def test_what_does_not_fit_is_said_each_time_and_found_once(folder, caplog, monkeypatch):
    dead = at_48(0, 4000)
    dead[3, 3] = 65535
    changes = {"000.png": at_48(0, 4000), "001.png": dead, "002.png": at_48(0, 60000), "003.png": at_48(2000, 2100)}
    loaded = folder(changes)
    first = said(caplog)
    assert loaded.grey == {"": {"integer": (0.0, 4095.0)}}
    for name, what in (("002.png", "much beyond"), ("001.png", "a few pixels beyond"), ("003.png", "little contrast")):
        assert [line for line in first if name in line and what in line and "0 to 4095" in line], first
    caplog.clear()
    monkeypatch.setattr(survey, "look", None)
    assert folder({}).grey == loaded.grey
    assert said(caplog) == first


def test_pages_are_said(landmark_folder, caplog):
    root, page = landmark_folder(size=48), Image.new("RGB", (48, 48))
    page.save(root / "images/000.png", "TIFF", save_all=True, append_images=[page])
    config = default.get_config().data
    config.root, config.image_size = str(root), 32
    data.load(config, root.parent / "cache")
    (line,) = said(caplog)
    assert "images/000.png has 2 pages, of which page 1 of 48 x 48 pixels is taken" in line


def test_each_domain_of_a_segmentation_folder_has_its_own(tmp_path):
    root = segmentation_folder.write(tmp_path / "two")
    first = {}
    for line in (root / "segmentation.csv").read_text().splitlines()[1:]:
        image, domain = line.split(",")[0], line.split(",")[2]
        with Image.open(root / image) as picture:
            size = picture.size
        top = first.setdefault(domain, 1000 if not first else 50000)
        Image.fromarray(np.linspace(0, top, size[0] * size[1]).reshape(size[::-1]).astype(np.uint16)).save(root / image)
    config = default.get_config().data
    config.root, config.image_size = str(root), 32
    loaded = data.load(config, tmp_path / "cache", targets=data.CLASS_MAPS)
    want = {domain: {"integer": (0.0, {1000: 1023.0, 50000: 65535.0}[top])} for domain, top in first.items()}
    assert loaded.grey == want and len(want) > 1
    assert {loaded.everything.original(i).max() for i in range(len(loaded.everything))} == {249, 195}


@pytest.mark.slow
def test_the_run_keeps_it(folder, teacher_file):
    plain = tiny.task(teacher_file, data__root="synthetic")
    assert plain.meta["grey"] is None  # as of runs from before there was such a thing
    loaded = folder({"000.png": at_48(0, 4000)})
    task = LandmarkTask(tiny.config(teacher_file), loaded)
    assert json.loads(json.dumps(task.meta))["grey"] == {"": {"integer": [0.0, 4095.0]}}


@pytest.mark.parametrize("path", sorted(CASES.glob("picture_*")), ids=lambda path: path.name)
def test_cases(path):
    """As the picture that it was made from, but for the pixels that the case is about."""
    (file,) = [file for file in path.iterdir() if file.name not in ("README", "reference.png")]
    found = pictures.decode(file.read_bytes(), file.name).astype(int)
    want = pictures.decode((path / "reference.png").read_bytes(), "reference.png").astype(int)
    assert found.shape == want.shape
    assert np.mean(np.abs(found - want).max(-1) > 1) < 0.05


@pytest.mark.slow
def test_the_cases_are_there():
    if not CASES.is_dir():
        pytest.skip(f"{CASES} is not there")
    assert len(list(CASES.glob("picture_*"))) >= 8
