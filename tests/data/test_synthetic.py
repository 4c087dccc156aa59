import numpy as np
import pytest

from ctd_jax.data import painting, synthetic
from ctd_jax.data.canvas import OVERSAMPLE, Canvas, oval
from ctd_jax.data.synthetic import FLIP_PAIRS, LANDMARKS, NORMALIZER

PEOPLE, SHOTS, SIZE = 60, 6, 96


def column(name):
    return LANDMARKS.index(name)


@pytest.fixture(scope="module", autouse=True)
def _drawn_anew():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "draw", synthetic.draw.__wrapped__)
        yield


@pytest.fixture(scope="module")
def drawn():
    return synthetic.faces(range(PEOPLE), SHOTS, size=SIZE, seed=0)


@pytest.mark.slow
def test_in_a_clinic_faces_are_nearer_and_turned_less(drawn):
    """A head that is turned is narrower between the eyes, and its nose is not below their middle."""
    clinic = synthetic.faces(range(PEOPLE), SHOTS, size=SIZE, seed=0, setting=synthetic.CLINIC)
    assert clinic["subjects"] == drawn["subjects"]

    def seen(xy):
        left, right, nose = (xy[:, column(name)] for name in (*NORMALIZER, "nose_tip"))
        width = np.linalg.norm(right - left, axis=-1)
        return width.mean(), width.std() / width.mean(), np.abs((nose - (left + right) / 2)[:, 0] / width).mean()

    (width, spread, aside), (clinic_width, clinic_spread, clinic_aside) = seen(drawn["xy"]), seen(clinic["xy"])
    assert clinic_width > 1.15 * width and clinic_spread < 0.75 * spread and clinic_aside < 0.6 * aside


@pytest.mark.slow
def test_nobody_wears_glasses_in_a_clinic(monkeypatch):
    worn = []
    monkeypatch.setattr(painting, "_glasses", lambda *_: worn.append(True))
    synthetic.faces(range(PEOPLE), 1, size=SIZE, seed=0)
    assert 0.1 * PEOPLE < len(worn) < 0.3 * PEOPLE
    worn.clear()
    synthetic.faces(range(PEOPLE), 1, size=SIZE, seed=0, setting=synthetic.CLINIC)
    assert not worn


@pytest.mark.slow
def test_shapes_and_order(drawn):
    n = PEOPLE * SHOTS
    assert drawn["pictures"].shape == (n, SIZE, SIZE, 3) and drawn["pictures"].dtype == np.uint8
    assert drawn["xy"].shape == (n, len(LANDMARKS), 2) and drawn["xy"].dtype == np.float32
    assert len(set(drawn["subjects"])) == PEOPLE
    assert len(set(drawn["subjects"][:SHOTS])) == 1 and drawn["subjects"][SHOTS] != drawn["subjects"][0]


def test_one_picture_does_not_depend_on_the_others():
    drawn = synthetic.faces(range(6, 9), 4, size=SIZE, seed=0)
    np.random.seed(3)
    picture, xy = synthetic.draw(7, 2, size=SIZE, seed=0)
    np.testing.assert_array_equal(picture, drawn["pictures"][4 + 2])
    np.testing.assert_array_equal(xy, drawn["xy"][4 + 2])


@pytest.mark.slow
def test_every_picture_is_another(drawn):
    other_seed = synthetic.faces(range(3), SHOTS, size=SIZE, seed=1)
    pictures = np.concatenate([drawn["pictures"], other_seed["pictures"]])
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)
    assert len(np.unique(np.concatenate([drawn["xy"], other_seed["xy"]]), axis=0)) == len(pictures)


def test_landmarks_and_flip_pairs():
    assert len(LANDMARKS) == len(set(LANDMARKS)) >= 20
    paired = [name for pair in FLIP_PAIRS for name in pair]
    assert len(paired) == len(set(paired)) and set(paired) <= set(LANDMARKS)
    assert set(paired) == {name for name in LANDMARKS if name.startswith(("left_", "right_"))}
    assert set(NORMALIZER) <= set(LANDMARKS)


def test_mean_shape_is_its_own_mirror(drawn):
    """No side of the head differs on average, so the partner is where the mirror puts a landmark."""
    mean = drawn["xy"].mean(0)
    mirror = mean * (-1, 1) + (SIZE - 1, 0)
    partner = dict(FLIP_PAIRS) | {b: a for a, b in FLIP_PAIRS}
    distance = np.linalg.norm(mirror[:, None] - mean[None], axis=-1)
    assert [LANDMARKS[k] for k in distance.argmin(1)] == [partner.get(name, name) for name in LANDMARKS]
    assert distance.min(1).max() < 2
    assert mean[column("left_pupil"), 0] < mean[column("right_pupil"), 0]


def test_points_lie_in_the_picture(drawn):
    inside = ((drawn["xy"] >= -0.5) & (drawn["xy"] <= SIZE - 0.5)).all(-1)
    assert inside.mean() > 0.99


@pytest.mark.slow
def test_pupil_is_where_the_landmark_says():
    """Centroid of the dark pixels at the pupils of wide-open eyes; (0, 0) is the centre of a pixel."""
    size, radius, offsets = 256, 6, []
    for identity in range(80):
        picture, xy = synthetic.draw(identity, 0, size=size, seed=2)
        for side in ("left", "right"):
            x, y = xy[column(f"{side}_pupil")]
            opening = xy[column(f"{side}_eye_bottom"), 1] - xy[column(f"{side}_eye_top"), 1]
            if opening < 2 * radius:
                continue
            middle = np.rint([y, x]).astype(int)[:, None, None]
            rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1] + middle
            grey = picture[rows, columns].mean(-1)
            dark = np.maximum(0, np.median(grey) - 10 - grey) * (np.hypot(columns - x, rows - y) < 0.9 * radius)
            if dark.sum() > 300:
                offsets.append(((dark * columns).sum() / dark.sum() - x, (dark * rows).sum() / dark.sum() - y))
    assert len(offsets) > 15
    np.testing.assert_allclose(np.median(offsets, axis=0), 0, atol=0.3)


def test_fill_keeps_to_the_pixel_convention():
    """A disc around the continuous point (0.5, 0.25) of a picture of 64 has its centroid at pixel (31.5, 15.5)."""
    canvas = Canvas(64, np.zeros((2, 4)))
    canvas.fill(oval((0.5, 0.25), 0.1, 0.1), (255, 255, 255))
    weight = np.asarray(canvas.colours.reduce(OVERSAMPLE), float)[..., 0]
    y, x = np.mgrid[:64, :64]
    np.testing.assert_allclose([(weight * c).sum() / weight.sum() for c in (x, y)], (31.5, 15.5), atol=0.1)


def test_size_scales_landmarks_and_picture():
    for shot in range(3):
        small, xy = synthetic.draw(4, shot, size=64, seed=0)
        large, large_xy = synthetic.draw(4, shot, size=192, seed=0)
        np.testing.assert_allclose((large_xy + 0.5) / 3, xy + 0.5, atol=1e-4)
        reduced = large.reshape(64, 3, 64, 3, 3).mean((1, 3, 4))
        fit = [np.corrcoef(np.roll(reduced, s, 1).ravel(), small.mean(-1).ravel())[0, 1] for s in (-1, 0, 1)]
        assert np.argmax(fit) == 1 and fit[1] > 0.95


def test_geometry_tells_people_apart(drawn):
    """One-way F of the shape after an affine fit to the mean shape (which takes out most of the pose); 1 by chance."""
    xy = drawn["xy"].astype(float)
    target = xy.mean(0)
    design = np.concatenate([xy, np.ones_like(xy[..., :1])], axis=-1)
    shape = np.stack([d @ np.linalg.lstsq(d, target, rcond=None)[0] for d in design])
    shape = shape.reshape(PEOPLE, SHOTS, -1)
    between = SHOTS * shape.mean(1).var(0, ddof=1).sum()
    within = shape.var(1, ddof=1).mean(0).sum()
    assert between / within > 2


def test_mean_shape_is_no_answer(drawn):
    xy = drawn["xy"]
    left, right = (xy[:, column(name)] for name in NORMALIZER)
    error = np.linalg.norm(xy - xy.mean(0), axis=-1).mean(1) / np.linalg.norm(left - right, axis=-1)
    assert error.mean() > 0.15
