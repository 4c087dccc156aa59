"""The constraints against PyTorch's (golden), SciPy's and NumPy's numbers, and small cases by hand."""

from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
from golden.seeded import draw

from ctd_jax.errors import UserError
from ctd_jax.losses import constraints

WEIGHTS = np.float32([0.1, 0.2, 0.3, 0.15, 0.25])
MAPS = {
    "encoder/map": constraints.encoder_distance,
    "encoder/location": partial(constraints.encoder_distance, over="location"),
    "encoder/pooled": partial(constraints.encoder_distance, over="pooled"),
    "spatial_attention": constraints.spatial_attention_distance,
    "channel_attention": constraints.channel_attention_distance,
    "attention_transfer": constraints.attention_transfer,
    "hint": constraints.hint_distance,
    "hint/normalized": partial(constraints.hint_distance, form="normalized"),
    "heatmaps": constraints.heatmap_distance,
    "delta": partial(constraints.delta, channel_weights=WEIGHTS),
}
VECTORS = {
    "l2/1": partial(constraints.classifier_distance, temperature=1.0, form="l2"),
    "l2/4": partial(constraints.classifier_distance, temperature=4.0, form="l2"),
    "kl/1": partial(constraints.classifier_distance, temperature=1.0, form="kl"),
    "kl/4": partial(constraints.classifier_distance, temperature=4.0, form="kl"),
    "relational_distance": constraints.relational_distance,
    "relational_angle": constraints.relational_angle,
}
SHRINKAGE = {f"shrinkage/{k}": lambda s, t, k=k: constraints.batch_spectral_shrinkage(s, k=k) for k in (1, 3)}
TERMS = MAPS | VECTORS | SHRINKAGE


def features(name):
    shape = (6, 3, 4, 5) if name in MAPS else (6, 5)
    return 5 * draw("constraints/student", shape), 5 * draw("constraints/teacher", shape)


@cache
def compiled(name):
    """(student, teacher) -> the term, and the gradients of its mean to both."""

    def mean(student, teacher):
        term = TERMS[name](student, teacher)
        return term.mean(), term

    def term_and_gradients(student, teacher):
        gradients, term = jax.grad(mean, (0, 1), has_aux=True)(student, teacher)
        return term, *gradients

    return jax.jit(term_and_gradients)


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parents[1] / "golden/constraints.npz") as numbers:
        return dict(numbers)


@pytest.mark.parametrize("name", TERMS)
def test_value_and_gradient_are_pytorchs_and_the_teacher_gets_none(golden, name):
    student, teacher = features(name)
    term, of_student, of_teacher = compiled(name)(student, teacher)
    np.testing.assert_allclose(term, golden[f"{name}/value"], rtol=1e-4, atol=1e-6)
    scale = np.abs(golden[f"{name}/gradient"]).max()
    np.testing.assert_allclose(of_student, golden[f"{name}/gradient"], rtol=1e-3, atol=1e-5 * scale)
    assert (of_teacher == 0).all()


@pytest.mark.parametrize("name", MAPS | VECTORS)
def test_zero_at_equality_and_finite_gradients_in_the_corners(name):
    student, teacher = features(name)
    for result in compiled(name)(student, student):
        np.testing.assert_allclose(result, 0, atol=1e-6)
    zeros, repeated = np.zeros_like(student), np.repeat(student[:1], len(student), axis=0)
    for pair in ((zeros, teacher), (student, zeros), (zeros, zeros), (repeated, teacher), (student[:1], teacher[:1])):
        assert all(np.isfinite(result).all() for result in compiled(name)(*pair))


@pytest.mark.parametrize("name", TERMS)
def test_bfloat16_is_computed_in_float32(name):
    student, teacher = (jnp.bfloat16(x) for x in features(name))
    half = TERMS[name](student, teacher)
    assert half.dtype == jnp.float32 and half.shape == (6,)
    np.testing.assert_allclose(half, TERMS[name](np.float32(student), np.float32(teacher)), rtol=1e-6)


@pytest.mark.parametrize("shape", [(5,), (3, 4, 8)])
def test_encoder_distance_matches_scipy(shape):
    student, teacher = np.random.default_rng(0).normal(size=(2, 2, *shape)).astype(np.float32)
    want = [scipy.spatial.distance.cosine(s.ravel(), t.ravel()) for s, t in zip(student, teacher, strict=True)]
    np.testing.assert_allclose(jax.jit(constraints.encoder_distance)(student, teacher), want, atol=1e-6)


@pytest.mark.parametrize("over", ["map", "location", "pooled"])
def test_encoder_distance_of_equal_and_opposite_maps(over):
    maps = np.random.default_rng(0).normal(size=(2, 3, 3, 4)).astype(np.float32)
    distance = jax.jit(partial(constraints.encoder_distance, over=over))
    np.testing.assert_allclose(distance(3 * maps, maps), 0, atol=1e-6)
    np.testing.assert_allclose(distance(-maps, maps), 2, atol=1e-6)


def test_kl_matches_scipy_with_many_classes():
    student, teacher = np.random.default_rng(0).normal(size=(2, 1, 8631)) * 3
    p, q = (scipy.special.softmax(x[0] / 2) for x in (teacher, student))
    got = constraints.classifier_distance(np.float32(student), np.float32(teacher), temperature=2.0, form="kl")
    np.testing.assert_allclose(got, [4 * scipy.stats.entropy(p, q)], rtol=1e-5)


def test_consistency_matches_numpy_and_only_the_student_gets_a_gradient():
    """The mean is over the cells that are known; a picture of which none is has 0."""
    rng = np.random.default_rng(0)
    student, average = rng.normal(size=(2, 3, 4, 5, 2)).astype("float32")
    known = rng.random((3, 4, 5, 2)) < 0.6
    known[2] = False
    consistency = jax.jit(constraints.consistency)
    term = consistency(student, average, known)
    want = [np.mean((s - a)[m] ** 2.0) for s, a, m in zip(student[:2], average[:2], known[:2], strict=True)]
    np.testing.assert_allclose(term, [*want, 0], rtol=1e-5)
    gradients = jax.jit(jax.grad(lambda s, a: constraints.consistency(s, a, known).sum(), (0, 1)))
    of_student, of_average = gradients(student, average)
    sizes = np.maximum(known.sum((1, 2, 3), keepdims=True), 1)
    np.testing.assert_allclose(of_student, np.where(known, 2 * (student - average) / sizes, 0), rtol=1e-4, atol=1e-7)
    assert (np.asarray(of_average) == 0).all()
    assert (np.asarray(consistency(student, student, known)) == 0).all()


def test_attention_looks_at_places_and_at_channels():
    student, teacher = np.zeros((2, 1, 1, 2, 2), np.float32)
    student[0, 0, 0], teacher[0, 0, 1] = [3, 1], [1, 3]  # another place, other channels
    np.testing.assert_allclose(constraints.spatial_attention_distance(student, teacher), 2)
    np.testing.assert_allclose(constraints.attention_transfer(student, teacher), np.sqrt(2))
    np.testing.assert_allclose(constraints.channel_attention_distance(student, teacher), 128 / 82)  # (9, 1) and (1, 9)
    swapped = student[..., ::-1, :]
    np.testing.assert_allclose(constraints.channel_attention_distance(student, swapped), 0)
    np.testing.assert_allclose(constraints.spatial_attention_distance(student, student[..., ::-1]), 0)


def test_attention_transfer_takes_rounding_for_equality():
    maps = features("attention_transfer")[0]
    for result in compiled("attention_transfer")(3 * maps, maps):
        np.testing.assert_array_equal(result, 0)


@pytest.mark.slow
def test_relations_do_not_see_shift_scale_or_rotation():
    teacher = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    student = 7 * teacher @ np.float32([[0, 1, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0]]) + 2  # wider than the teacher
    for relation in map(jax.jit, (constraints.relational_distance, constraints.relational_angle)):
        np.testing.assert_allclose(relation(student, teacher), 0, atol=1e-6)
        np.testing.assert_array_equal(relation(student[:1], teacher[:1]), 0)


@pytest.mark.slow
def test_relations_of_three_pictures_by_hand():
    line, corner = np.float32([[0, 0], [1, 0], [2, 0]]), np.float32([[1, 0], [0, 0], [0, 1]])
    mean = (2 + np.sqrt(2)) / 3  # of the corner's sides; the line's are 1, 1, 2: in units of the mean 3/4, 3/4, 3/2
    short, long = (0.5 * (a - b / mean) ** 2 for a, b in ((0.75, 1), (1.5, np.sqrt(2))))
    want = np.array([short + long, 2 * short, short + long]) / 3
    np.testing.assert_allclose(constraints.relational_distance(line, corner), want, rtol=1e-5)
    want = np.array([(1 - np.sqrt(0.5)) ** 2, 1, (1 - np.sqrt(0.5)) ** 2]) / 9  # 0, 180, 0 and 45, 90, 45 degrees
    np.testing.assert_allclose(constraints.relational_angle(line, corner), want, rtol=1e-5)


@pytest.mark.parametrize("shape", [(4, 64), (64, 4), (8, 8)])
def test_shrinkage_matches_numpys_singular_values_where_they_are_small(shape):
    rng = np.random.default_rng(0)
    features = np.float32(3 + rng.normal(size=shape) * 0.05)  # as of pictures that look alike: one large value
    want = np.sum(np.linalg.svd(features.astype("float64"), compute_uv=False)[-2:] ** 2)
    got = jax.jit(partial(constraints.batch_spectral_shrinkage, k=2))(features)
    np.testing.assert_allclose(got, np.full(shape[0], want), rtol=1e-3)


@pytest.mark.parametrize("features", [np.eye(4), np.zeros((4, 6)), np.ones((3, 5))])
def test_shrinkage_of_repeated_singular_values_has_a_finite_gradient(features):
    slope = jax.jit(jax.grad(lambda x: constraints.batch_spectral_shrinkage(x, k=2).mean()))(np.float32(features))
    assert np.isfinite(slope).all()


@pytest.mark.slow
def test_decay_of_weights_by_hand():
    params = {"a": jnp.float32([3, 1]), "b": {"c": jnp.bfloat16([[2]])}}
    start = {"a": jnp.float32([1, 1]), "b": {"c": jnp.bfloat16([[-1]])}}
    assert constraints.l2(params) == (9 + 1 + 4) / 2
    assert constraints.l2({}) == 0
    assert constraints.l2_sp(params, start) == (4 + 9) / 2
    slopes = jax.jit(jax.grad(constraints.l2_sp, (0, 1)))(params, start)
    np.testing.assert_array_equal(slopes[0]["a"], [2, 0])
    assert not any(x.any() for x in jax.tree.leaves(slopes[1]))


def test_delta_with_equal_weights_is_the_mean_square_by_place():
    student, teacher = features("delta")
    want = 0.5 * np.mean(np.sum((student - teacher) ** 2, axis=-1), axis=(1, 2))
    np.testing.assert_allclose(constraints.delta(student, teacher, np.full(5, 0.2)), want, rtol=1e-5)


@pytest.fixture(scope="module")
def labelled():
    """Features whose channel 2 alone carries the heatmaps; the others are large, near constant, constant or noise."""
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(3, 5, 6, 6)) * [1, 20, 1, 1e-3, 0, 1] + [0, 50, 1, 0, 4, 0]
    return maps, 3 * maps[..., 2:3] * [1, -0.5] + 0.1 * rng.normal(size=(3, 5, 6, 2)) + 7


def test_channel_importance_is_the_error_with_the_channel_switched_off(labelled):
    maps, heatmaps = (x.reshape(-1, x.shape[-1]) for x in labelled)
    centred, penalty = maps - maps.mean(0), 0.1 * maps.var(0).mean() * len(maps)
    rows = np.vstack([centred, np.sqrt(penalty) * np.eye(6)])  # ridge regression as least squares
    head = np.linalg.lstsq(rows, np.vstack([heatmaps - heatmaps.mean(0), np.zeros((6, 2))]), rcond=None)[0]
    intercept = heatmaps.mean(0) - maps.mean(0) @ head
    errors = []
    for channel in [*range(6), None]:
        on = np.arange(6) != channel
        errors.append(np.mean((heatmaps - (maps * on) @ head - intercept) ** 2))
    z = scipy.stats.zscore(np.array(errors[:-1]) - errors[-1])
    got = constraints.channel_importance(*labelled, ridge=0.1)
    np.testing.assert_allclose(got, scipy.special.softmax(z / 5), rtol=1e-9)


def test_channel_importance_finds_the_channel_that_carries_the_heatmap(labelled):
    weights = constraints.channel_importance(*labelled)
    assert weights.argmax() == 2 and weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(constraints.channel_importance(np.ones((1, 2, 2, 4)), np.ones((1, 2, 2, 1))), 0.25)


def test_channel_importance_samples_places_and_takes_device_arrays(labelled):
    maps, heatmaps = (jnp.tile(jnp.bfloat16(x), (300, 1, 1, 1)) for x in labelled)  # 27000 places
    weights = constraints.channel_importance(maps, heatmaps)
    np.testing.assert_array_equal(weights, constraints.channel_importance(maps, heatmaps))
    np.testing.assert_allclose(weights, constraints.channel_importance(*(x[:3] for x in (maps, heatmaps))), rtol=0.05)


@pytest.mark.parametrize(
    ("name", "shapes", "what"),
    [
        *((name, ((2, 4, 4, 5), (2, 2, 2, 5)), "shape") for name in MAPS if "attention" not in name),
        ("l2/1", ((2, 7), (2, 5)), "shape"),
        ("spatial_attention", ((2, 4, 4, 8), (2, 2, 2, 8)), "height and width"),
        ("attention_transfer", ((2, 4, 4, 8), (2, 2, 2, 8)), "height and width"),
        ("channel_attention", ((2, 4, 4, 8), (2, 4, 4, 5)), "number of channels"),
    ],
)
def test_features_that_cannot_be_tied_are_refused(name, shapes, what):
    with pytest.raises(UserError) as error:
        TERMS[name](*map(np.zeros, shapes))
    for part in (f"ties features of equal {what}", *map(str, shapes), "choose other layers, or a teacher of the"):
        assert part in str(error.value)


@pytest.mark.slow
def test_attention_ties_maps_of_other_widths_or_sizes():
    maps = np.random.default_rng(0).normal(size=(2, 4, 4, 5)).astype(np.float32)
    doubled = np.concatenate([maps, maps], axis=-1)
    np.testing.assert_allclose(constraints.spatial_attention_distance(doubled, maps), 0, atol=1e-6)
    np.testing.assert_allclose(constraints.attention_transfer(doubled, maps), 0, atol=1e-6)
    tiled = np.tile(maps, (1, 2, 2, 1))
    np.testing.assert_allclose(constraints.channel_attention_distance(tiled, maps), 0, atol=1e-6)


@pytest.mark.slow
def test_unknown_choices_are_refused():
    with pytest.raises(UserError, match="'mse'; expected l2 or kl"):
        constraints.classifier_distance(np.ones((1, 2)), np.ones((1, 2)), temperature=1.0, form="mse")
    with pytest.raises(UserError, match="'all'; expected map, location or pooled"):
        constraints.encoder_distance(np.ones((1, 2)), np.ones((1, 2)), over="all")
