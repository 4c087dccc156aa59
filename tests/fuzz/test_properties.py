"""What must hold for any table, frame and error, tried on examples that hypothesis makes up (the same every time)."""

import csv
import io
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy.spatial.distance import cdist

from ctd_jax import files, metrics
from ctd_jax.data import tables
from ctd_jax.data.faults import Faults
from ctd_jax.data.geometry import Frame
from ctd_jax.metrics import landmarks, segmentation

several = settings(max_examples=60, deadline=None, derandomize=True)
TEXT = some.text(some.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
NAME = TEXT.filter(lambda text: text.strip() == text != "")
PIXELS = some.integers(-(10**6), 10**6).map(lambda thousandths: thousandths / 1000)


# ---------------------------------------------------------------- csv


@pytest.mark.slow
@several
@given(TEXT)
def test_a_cell_is_no_formula_and_comes_back(text):
    cell = files.cell(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert files.plain(cell) == text


@pytest.mark.slow
@several
@given(some.lists(some.tuples(NAME, TEXT, TEXT), min_size=1, max_size=5), some.sampled_from(["utf-8", "utf-16"]))
def test_a_table_has_the_cells_that_another_program_wrote(rows, encoding):
    text = io.StringIO()
    csv.writer(text).writerows([("image", "one", "two"), *rows])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "table.csv")
        path.write_bytes(text.getvalue().encode(encoding))
        faults = Faults("table")
        found = [tuple(row.values()) for _, row in tables.read(path).rows(faults)]
    assert found == [tuple(cell.strip() for cell in row) for row in rows]
    faults.raise_if_any()


@pytest.mark.slow
@several
@given(
    some.lists(some.tuples(NAME, TEXT), min_size=1, max_size=4, unique_by=lambda row: row[0]),
    some.lists(NAME, min_size=1, max_size=3, unique=True),
    some.data(),
)
def test_predictions_come_back(pictures, names, data):
    n, k = len(pictures), len(names)
    numbers = data.draw(some.lists(PIXELS, min_size=4 * n * k, max_size=4 * n * k))
    xy, true = np.array(numbers).reshape(2, n, k, 2)
    true[data.draw(some.integers(0, n - 1)), data.draw(some.integers(0, k - 1))] = np.nan
    images, subjects = zip(*pictures, strict=True)
    table = metrics.Predictions.from_points(images, subjects, names, xy, true_xy=true)
    with tempfile.TemporaryDirectory() as folder:
        metrics.write_predictions(Path(folder, "predictions.csv"), table)
        found = metrics.read_predictions(Path(folder, "predictions.csv"))
    assert (found.images.tolist(), found.subjects.tolist()) == (list(images), list(subjects))
    assert found.landmarks.tolist() == names
    np.testing.assert_allclose(found.xy, xy, atol=0.00051)
    np.testing.assert_allclose(found.true_xy, true, atol=0.00051)
    np.testing.assert_allclose(found.error_px, np.hypot(*np.moveaxis(xy - true, -1, 0)), atol=0.00051)


# ---------------------------------------------------------------- geometry

SIDE = some.integers(1, 3000)
POSITION = some.floats(-1e4, 1e4)


@several
@given(SIDE, SIDE, some.sampled_from([32, 128, 256]), POSITION, POSITION)
def test_a_point_comes_back_from_the_network(width, height, size, x, y):
    frame = Frame.fit(width, height, size)
    np.testing.assert_allclose(frame.to_picture(frame.to_network(np.array([x, y]))), [x, y], atol=1e-6)
    corners = frame.to_network(np.array([[-0.5, -0.5], [width - 0.5, height - 0.5]]))
    assert (corners >= -0.5 - 1e-9 * size).all() and (corners <= size - 0.5 + 1e-9 * size).all()
    sides = corners[1] - corners[0]
    assert math.isclose(sides.max(), size, rel_tol=1e-9)
    assert math.isclose(sides[0] * height, sides[1] * width, rel_tol=1e-9)  # nothing is squeezed


@pytest.mark.slow
@several
@given(some.integers(1, 30), some.integers(1, 30), some.sampled_from([4, 16, 33]), some.integers(0, 10**6))
def test_classes_are_those_of_the_nearest_pixel(width, height, size, seed):
    """Where the network's pixel lies within the picture, and not halfway between two."""
    classes = np.random.default_rng(seed).integers(0, 250, (height, width), np.uint8)
    frame = Frame.fit(width, height, size)
    found = frame.resample_classes(classes, 255)
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1)
    places = frame.to_picture(grid.reshape(-1, 2).astype(float))
    pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).reshape(-1, 2)
    away = np.abs(places[:, None] - pixels).max(-1)
    nearest = away.argmin(1)
    inside, clear = away.min(1) < 0.5 - 1e-6, np.abs(away.min(1) - 0.5) > 1e-6
    want = np.where(inside, classes.reshape(-1)[nearest], 255)
    assert (found.reshape(-1) == want)[clear].all()


# ---------------------------------------------------------------- metrics


@several
@given(some.integers(1, 6), some.integers(1, 4), some.integers(0, 10**6), some.floats(0.1, 20))
def test_errors_are_those_of_numpy_in_any_order(n, k, seed, limit):
    rng = np.random.default_rng(seed)
    xy, true = rng.normal(0, 9, (2, n, k, 2)).round(3)
    true[rng.random((n, k)) < 0.2] = np.nan
    if np.isnan(true).all():
        return
    images, names = [f"{i}.png" for i in range(n)], [f"p{i}" for i in range(k)]
    order = rng.permutation(n)
    numbers = []
    for rows in (np.arange(n), order):
        table = metrics.Predictions.from_points(
            [images[i] for i in rows], [images[i] for i in rows], names, xy[rows], true_xy=true[rows]
        )
        limits = {"nme": limit, "mm": limit, "px": limit}
        ratios = landmarks.ratios(table, normalizer=None, thresholds=limits, radii_mm=())
        numbers.append({key: np.nansum(above) / np.nansum(below) for key, (above, below) in ratios.items()
                        if isinstance(key, str) and np.nansum(below)})  # fmt: skip
    assert numbers[0].keys() == numbers[1].keys()
    for key, value in numbers[0].items():
        assert math.isclose(value, numbers[1][key], rel_tol=1e-9, abs_tol=1e-12)
    known = ~np.isnan(true).any(-1)
    of_pictures = [
        np.linalg.norm(xy[i][known[i]] - true[i][known[i]], axis=1).mean() for i in range(n) if known[i].any()
    ]
    assert math.isclose(numbers[0]["me_px"], np.mean(of_pictures), rel_tol=1e-9)
    assert math.isclose(numbers[0][f"fr@{limit:g}"], np.mean(np.array(of_pictures) > limit), abs_tol=1e-12)
    grid = np.linspace(0, limit, 20001)  # the area below the share of pictures within each error
    share = np.searchsorted(np.sort(of_pictures), grid, side="right") / len(of_pictures)
    assert math.isclose(numbers[0][f"auc@{limit:g}"], np.trapezoid(share, grid) / limit, abs_tol=1e-3)


@several
@given(some.integers(3, 12), some.integers(3, 12), some.integers(0, 10**6), some.floats(0.1, 3), some.floats(0.1, 3))
def test_overlaps_and_distances_are_those_of_sets_of_pixels(height, width, seed, sx, sy):
    rng = np.random.default_rng(seed)
    true, found = rng.random((2, height, width)) < rng.uniform(0.1, 0.9)
    one, other = ({tuple(p) for p in np.argwhere(region)} for region in (true, found))
    if not one or not other:
        return
    values = segmentation.measure(true, found, np.array([sx, sy]))
    assert math.isclose(values["dice"], 2 * len(one & other) / (len(one) + len(other)))
    assert math.isclose(values["sensitivity"], len(one & other) / len(one))

    def outline(region):
        around = ((0, 1), (1, 0), (0, -1), (-1, 0))
        return [p for p in region if any((p[0] + a, p[1] + b) not in region for a, b in around)]

    away = cdist(np.array(outline(one)) * [sy, sx], np.array(outline(other)) * [sy, sx])
    distances = np.concatenate([away.min(1), away.min(0)])
    assert math.isclose(values["assd_mm"], distances.mean(), rel_tol=1e-9, abs_tol=1e-12)
    assert math.isclose(values["mssd_mm"], distances.max(), rel_tol=1e-9, abs_tol=1e-12)
    swapped = segmentation.measure(found, true, np.array([sx, sy]))
    assert math.isclose(values["dice"], swapped["dice"]) and math.isclose(values["assd_mm"], swapped["assd_mm"])
