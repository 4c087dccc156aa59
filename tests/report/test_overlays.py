"""What is painted over a picture, and which pictures are shown."""

import numpy as np
import pytest

from ctd_jax.report import overlays


@pytest.mark.parametrize("size", [(50, 80), (900, 300)])
def test_marks_lie_at_their_points(size):
    """The cross is symmetric about its point: the mean of the changed pixels is the point; x runs to the right."""
    width, height = size
    black = np.zeros((height, width, 3), np.uint8)
    point = np.array([0.75 * width, 0.25 * height])
    for arguments in ((point[None], None), (np.full((1, 2), np.nan), point[None])):
        image = np.asarray(overlays.paint_points(black, *arguments)).astype(int)
        assert image.shape[1] / image.shape[0] == pytest.approx(width / height, rel=0.01)
        y, x = np.nonzero(image.sum(axis=-1) > 100)
        factor = image.shape[1] / width
        np.testing.assert_allclose([x.mean(), y.mean()], (point + 0.5) * factor - 0.5, atol=0.6)


def test_truth_and_prediction_differ_in_grey():
    """The centre of the prediction's cross is bright, that of the truth's circle is the picture."""
    black, point = np.zeros((640, 640, 3), np.uint8), np.array([[320.0, 320.0]])
    centre = [
        np.asarray(overlays.paint_points(black, *arguments).convert("L"))[320, 320]
        for arguments in ((point, None), (point + np.nan, point))
    ]
    assert centre[0] > 100 and centre[1] == 0


def test_the_radius_is_drawn_to_scale():
    """A picture of 320 pixels is enlarged twice: a radius of 50 pixels is 100 pixels there."""
    black, point = np.zeros((320, 320, 3), np.uint8), np.array([[160.0, 160.0]])
    with_radius = overlays.paint_points(black, point, radius=np.array([50.0]))
    image, without = (np.asarray(one).astype(int) for one in (with_radius, overlays.paint_points(black, point)))
    y, x = np.nonzero(np.abs(image - without).sum(axis=-1) > 60)
    np.testing.assert_allclose(np.hypot(x - 320.5, y - 320.5), 100, atol=2.5)
    assert len(x) > 400  # all around
    nothing = overlays.paint_points(black, point, radius=np.array([np.nan]))
    np.testing.assert_array_equal(np.asarray(nothing), without)


def test_the_radius_is_orange_more_than_rim():
    """On white, where the rim darkens and the orange does so little."""
    white, point = np.full((320, 320, 3), 255, np.uint8), np.array([[160.0, 160.0]])
    with_radius = overlays.paint_points(white, point, radius=np.array([50.0]))
    image, without = (np.asarray(one).astype(int) for one in (with_radius, overlays.paint_points(white, point)))
    circle = image[np.abs(image - without).sum(axis=-1) > 60]
    assert circle[:, 0].mean() > 150


def test_draw_keeps_large_pictures_and_enlarges_small_ones():
    xy = np.array([[5.0, 5.0], [np.nan, np.nan]])
    assert overlays.paint_points(np.zeros((700, 900, 3), np.uint8), xy, names=["a", "b"]).size == (900, 700)
    assert overlays.paint_points(np.zeros((20, 10, 3), np.uint8), xy).size == (320, 640)


def test_names_have_their_letters():
    """Not one empty box for all that are not ASCII."""
    black, xy = np.zeros((90, 90, 3), np.uint8), np.array([[20.0, 20]])
    drawn = {np.asarray(overlays.paint_points(black, xy, names=[name])).tobytes() for name in "öøłжδ"}
    assert len(drawn) == 5


def test_lines_of_measurements_lie_between_their_points():
    """From (10, 10) to (40, 10) of a picture that is enlarged tenfold: a row at 10.5 * 10 - 0.5, and nothing else."""
    black = np.zeros((50, 64, 3), np.uint8)
    image = overlays.paint_points(black, np.full((1, 2), np.nan))
    overlays.paint_lines(image, black, np.array([[(10.0, 10), (40, 10)]]))
    y, x = np.nonzero(np.asarray(image).sum(axis=-1))
    assert abs(y.mean() - 104.5) <= 0.6 and np.ptp(y) <= 2
    assert (x.min(), x.max()) == (pytest.approx(104.5, abs=1), pytest.approx(404.5, abs=1))


def test_the_legend_says_what_green_lines_are_where_there_are_some():
    def has_green(**arguments):
        legend = np.asarray(overlays.legend_of_points(overlays.WIDTH_OF_LEGEND, **arguments))
        assert (legend[:, -4:] == 255).all()  # the last word is whole
        return bool((legend == overlays.MEASURED).all(axis=-1).any())

    assert has_green(measured=True) and not has_green()


def test_outlines_are_those_of_the_classes():
    """A square of 8 x 8 of 40 x 40 pixels, enlarged ten times: its outline is at its edge, and nothing within."""
    found = np.zeros((40, 40), np.uint8)
    found[16:24, 16:24] = 1
    picture = np.full((40, 40, 3), 90, np.uint8)
    image = np.asarray(overlays.paint_outlines(picture, found, side=400))
    assert image.shape == (400, 400, 3)
    is_outline = (image == overlays.PREDICTION).all(axis=-1)
    y, x = np.nonzero(is_outline)
    assert (y.min(), y.max(), x.min(), x.max()) == (160, 239, 160, 239)
    assert not is_outline[165:235, 165:235].any() and (image[165:235, 165:235] == 90).all()
    both = np.asarray(overlays.paint_outlines(picture, np.roll(found, 12, axis=1), found, side=400))
    assert (both == overlays.TRUTH).all(axis=-1).sum() > is_outline.sum()  # its outline is twice as thick


def test_chosen_pictures():
    errors = np.array([5.0, np.nan, 1, 9, 3, 7, 2, 8, 4, 6])
    assert overlays.choose(errors, each=2) == {"best": [2, 6], "median": [8, 0], "worst": [7, 3]}
    assert overlays.choose(np.array([2.0, 1.0])) == {"best": [1], "median": [], "worst": [0]}
    assert overlays.choose(np.array([2.0])) == {"best": [0], "median": [], "worst": []}
