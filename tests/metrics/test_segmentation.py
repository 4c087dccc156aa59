"""Overlaps and surface distances against hand cases and brute force, and the summary against NumPy's means."""

import numpy as np
import pytest
import scipy.stats
from scipy.spatial import distance

from ctd_jax.errors import UserError
from ctd_jax.metrics import segmentation as sm

UNKNOWN = np.full(2, np.nan)
CLASSES = {"Heads US": ("background", "skull", "brain"), "spines": ("background", "disc")}


def square(x, y, side, shape=(30, 30)):
    region = np.zeros(shape, bool)
    region[y : y + side, x : x + side] = True
    return region


# ---------------------------------------------------------------- one class in one picture


def test_two_squares_side_by_side():
    """5 x 5 pixels, the second moved 3 to the right: 10 of 25 pixels are common.

    Outline of a square: 16 pixels. Of the first, those at x = 0, 1, 2, 3, 4 have y = 0 .. 4 (5), two, two, two, 5. The
    distances to the second's outline: 3 from x = 0; at x = 1 and 2 the row goes on, 2 and 1; at x = 3 and 4 the top and
    bottom pixels are on its outline, 0, and the inner three of x = 4 are 1 from x = 3.
    Sum 5 x 3 + 2 x 2 + 2 x 1 + 3 x 1 = 24, and as much the other way: 48 / 32.
    """
    found = sm.measure(square(5, 5, 5), square(8, 5, 5), UNKNOWN)
    assert found["dice"] == pytest.approx(20 / 50)
    assert found["sensitivity"] == pytest.approx(10 / 25)
    assert found["specificity"] == pytest.approx(1 - 15 / 875)
    assert found["volume_difference"] == 0
    assert found["mssd_px"] == 3
    assert found["assd_px"] == pytest.approx(48 / 32)
    assert np.isnan([found["assd_mm"], found["mssd_mm"]]).all()


@pytest.mark.parametrize(("dx", "dy", "far"), [(20, 0, 10.0), (0, 20, 5.0)])
def test_anisotropic_spacing(dx, dy, far):
    """Single pixels 20 apart, 0.5 mm wide and 0.25 mm high."""
    found = sm.measure(square(3, 3, 1), square(3 + dx, 3 + dy, 1), np.array([0.5, 0.25]))
    assert found["assd_mm"] == found["mssd_mm"] == pytest.approx(far)
    assert found["assd_px"] == found["mssd_px"] == 20
    assert found["dice"] == found["sensitivity"] == 0


def test_a_square_within_a_square():
    """9 x 9 about 3 x 3: from its 8 outline pixels 3 straight out; from the outer 32, 3 beside, further at corners."""
    inner, outer = square(8, 8, 3), square(5, 5, 9)
    found = sm.measure(outer, inner, np.ones(2))
    assert found["volume_difference"] == pytest.approx(72 / 81)
    assert found["mssd_mm"] == pytest.approx(np.hypot(3, 3))
    sides = 4 * (3 * 3 + 2 * np.hypot(3, 1) + 2 * np.hypot(3, 2)) + 4 * np.hypot(3, 3)
    assert found["assd_mm"] == pytest.approx((sides + 8 * 3) / 40)


def test_the_picture_ends_a_region():
    """What touches the picture's edge has an outline there."""
    whole = np.ones((6, 6), bool)
    assert sm.measure(whole, square(0, 0, 1, (6, 6)), UNKNOWN)["mssd_px"] == pytest.approx(np.hypot(5, 5))
    found = sm.measure(whole, whole, UNKNOWN)
    assert (found["dice"], found["assd_px"], found["mssd_px"]) == (1, 0, 0)
    assert np.isnan(found["specificity"])  # there is nothing else


@pytest.mark.parametrize("seed", range(4))
def test_distances_match_brute_force(seed):
    """Outlines by comparing with the four neighbours, distances by all pairs."""
    rng = np.random.default_rng(seed)
    one, other = rng.random((2, 14, 11)) < 0.3
    spacing = np.array([0.7, 1.9])

    def outline(region):
        padded = np.pad(region, 1)
        inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        return np.argwhere(region & ~inner) * spacing[::-1]

    pairs = distance.cdist(outline(one), outline(other))
    nearest = np.concatenate([pairs.min(1), pairs.min(0)])
    found = sm.measure(one, other, spacing)
    assert found["assd_mm"] == pytest.approx(nearest.mean())
    assert found["mssd_mm"] == pytest.approx(nearest.max())
    assert found["mssd_mm"] == pytest.approx(
        max(distance.directed_hausdorff(outline(a), outline(b))[0] for a, b in ((one, other), (other, one)))
    )


def test_empty_regions():
    """Values by name; what is missing here is NaN."""
    none, some = np.zeros((4, 5), bool), square(1, 1, 2, (4, 5))
    cases = {
        "neither": (none, none, {"specificity": 1}),
        "only found": (none, some, {"dice": 0, "specificity": 0.8}),
        "missed": (some, none, {"dice": 0, "sensitivity": 0, "specificity": 1, "volume_difference": 1}),
    }
    for name, (true, found, want) in cases.items():
        values = sm.measure(true, found, np.ones(2))
        assert {key: values[key] for key in sm.MEASURES if not np.isnan(values[key])} == pytest.approx(want), name


# ---------------------------------------------------------------- the table and its summary


def row(image, subject, domain, name, **values):
    blank = dict.fromkeys(sm.MEASURES, np.nan) | {"true_pixels": 5, "pixels": 5}
    return {"image": image, "subject": subject, "domain": domain, "class": name} | blank | values


def table(tmp_path):
    """Subject a has two pictures; the second of b misses the skull and has no brain."""
    rows = [
        row("1", "a", "Heads US", "skull", dice=0.5, assd_mm=2.0, assd_px=4.0),
        row("1", "a", "Heads US", "brain", dice=0.9),
        row("2", "a", "Heads US", "skull", dice=0.7, assd_mm=1.0, assd_px=2.0),
        row("2", "a", "Heads US", "brain", dice=0.8),
        row("3", "b", "Heads US", "skull", dice=0.0, pixels=0),
        row("3", "b", "Heads US", "brain"),
        row("4", "c", "spines", "disc", dice=0.6, assd_px=3.0),
        row("5", "d", "spines", "disc", dice=0.8, assd_px=5.0),
    ]
    sm.write(tmp_path / "table.csv", rows)
    return sm.read(tmp_path / "table.csv")


def test_means_of_classes_domains_and_all(tmp_path):
    found = sm.summarize(table(tmp_path), CLASSES)
    want = {
        "n_images": 5,
        "n_images_heads_us": 3,
        "n_images_spines": 2,
        "dice_heads_us_skull": 0.4,
        "dice_heads_us_brain": 0.85,
        "dice_heads_us": 0.625,
        "dice_spines_disc": 0.7,
        "dice_spines": 0.7,
        "dice": (0.625 + 0.7) / 2,
        "assd_mm_heads_us_skull": 1.5,
        "assd_mm_heads_us": 1.5,
        "assd_px_heads_us_skull": 3.0,
        "assd_px_heads_us": 3.0,
        "assd_px_spines_disc": 4.0,
        "assd_px_spines": 4.0,
        "missed_heads_us_skull": 1,
        "missed_heads_us_brain": 0,
        "missed_spines_disc": 0,
    }
    intervals = found.pop("ci95")
    assert found == pytest.approx(want) and set(intervals) < set(want)


def test_intervals_over_subjects_by_hand(tmp_path):
    """Subject a has two pictures of the skull (0.5, 0.7), b one (0): 0.4 of both, 0 without a, 0.6 without b. The mean
    of two domains has the variance of both, and degrees of freedom after Welch and Satterthwaite."""
    rows = [
        row(f"{s}{i}", s, domain, name, dice=dice)
        for domain, name, of in (
            ("Heads US", "skull", {"a": (0.5, 0.7), "b": (0.3,), "c": (0.8,)}),
            ("spines", "disc", {"d": (0.6,), "e": (0.9,), "f": (0.65,), "g": (0.7,)}),
        )
        for s, values in of.items()
        for i, dice in enumerate(values)
    ]
    sm.write(tmp_path / "more.csv", rows)
    found = sm.summarize(sm.read(tmp_path / "more.csv"), CLASSES)

    def logit_t(value, se, df):
        half = scipy.stats.t.ppf(0.975, df) * se / (value * (1 - value))
        return 1 / (1 + np.exp(-(np.log(value / (1 - value)) + np.array([-half, half]))))

    heads, without = 2.3 / 4, np.array([1.1 / 2, 2.0 / 3, 1.5 / 3])
    variance, df = 2 / 3 * ((without - heads) ** 2).sum(), 4**2 / (2**2 + 1 + 1) - 1
    np.testing.assert_allclose(found["ci95"]["dice_heads_us_skull"], logit_t(heads, variance**0.5, df))
    np.testing.assert_allclose(found["ci95"]["dice_heads_us"], logit_t(heads, variance**0.5, df))
    spines = np.array([0.6, 0.9, 0.65, 0.7])
    other = spines.var(ddof=1) / 4
    np.testing.assert_allclose(found["ci95"]["dice_spines"], logit_t(spines.mean(), other**0.5, 3))
    pooled = (variance + other) ** 2 / (variance**2 / df + other**2 / 3)
    both = logit_t((heads + spines.mean()) / 2, (variance + other) ** 0.5 / 2, pooled)
    np.testing.assert_allclose(found["ci95"]["dice"], both)


def test_one_subject_has_no_interval(tmp_path):
    found = sm.summarize(table(tmp_path), CLASSES)["ci95"]
    assert "dice_heads_us_brain" not in found and "assd_mm_heads_us_skull" not in found  # of one subject
    assert "dice_heads_us" not in found  # nor the mean with one of those
    low, high = found["assd_px_spines_disc"]  # 3 and 5: t of one degree of freedom, cut at 0
    assert (low, high) == (0, pytest.approx(4 + scipy.stats.t.ppf(0.975, 1)))


def test_a_domain_without_rows_is_left_out(tmp_path):
    found = sm.summarize(table(tmp_path), CLASSES | {"hands": ("background", "bone")})
    assert not [key for key in found if "hands" in key] and found["dice"] == pytest.approx((0.625 + 0.7) / 2)


def test_keys_that_would_clash():
    with pytest.raises(UserError, match="c of a_b and b c of a would both be called dice_a_b_c"):
        sm.suffixes({"a": ("background", "b c"), "a_b": ("background", "c")})
    with pytest.raises(UserError, match="would both be called dice_a_left_lung"):
        sm.suffixes({"a": ("background", "left lung", "left-lung")})
    assert sm.suffixes(CLASSES)["Heads US", "skull"] == "_heads_us_skull"


def test_a_table_that_is_none(tmp_path):
    (tmp_path / "table.csv").write_text("image,subject\n1,a\n")
    with pytest.raises(UserError, match="line 1: expected the columns image,subject,domain,.* found image,subject"):
        sm.read(tmp_path / "table.csv")


# ---------------------------------------------------------------- of the network's pixels


def test_dice_of_the_networks_pixels():
    """As `measure` has it, of the pixels that count."""
    rng = np.random.default_rng(0)
    true, found = rng.integers(0, 4, (2, 3, 8, 8))
    true[0, :3] = 255
    true[1][true[1] == 2] = 0
    found[1][found[1] == 2] = 0
    dice = sm.class_dice(found, true, 4)
    assert dice.shape == (3, 3) and np.isnan(dice[1, 1]) and np.isnan(dice).sum() == 1
    for b in range(3):
        counts = true[b] != 255
        for c in (1, 2, 3):
            want = sm.measure((true[b] == c)[counts][None], (found[b] == c)[counts][None], UNKNOWN)["dice"]
            np.testing.assert_allclose(dice[b, c - 1], want)
    of_second = [dice[1:, 0].mean(), dice[2, 1], dice[1:, 2].mean()]
    want = (dice[0].mean() + np.mean(of_second)) / 2
    assert sm.mean_dice(dice, np.array([0, 1, 1])) == pytest.approx(want)
