"""Mirror images: what the network says of a picture and of its mirror image is averaged, wherever it predicts."""

import csv
import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from exported import POINTS, form_of, noise
from PIL import Image

from configs import ft, mtmd
from ctd_jax import Predictor, data, formats, metrics, models, training_run
from ctd_jax.config import config_of_run
from ctd_jax.data import synthetic
from ctd_jax.errors import UserError
from ctd_jax.models import cost
from ctd_jax.tasks import landmarks, segmentation
from ctd_jax.tasks.landmarks import domains, heatmaps
from ctd_jax.training import checkpoint

pytestmark = pytest.mark.slow

RGB = {"channels": "RGB", "scale": 255.0, "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
S = 32
SWAPPED = [
    synthetic.LANDMARKS.index({a: b for pair in synthetic.FLIP_PAIRS for a, b in (pair, pair[::-1])}.get(name, name))
    for name in synthetic.LANDMARKS
]


# ---------------------------------------------------------------- by hand


class Finder:
    """Stands for a network that knows left from right: its first landmark is the red dot in the left half of the
    picture, its second that in the right half, its third the green dot, each seen one pixel too far to the right."""

    stride = 1

    def apply(self, variables, picture, domain, train):
        half = jnp.arange(S) < S // 2
        found = [picture[..., 0] * half, picture[..., 0] * ~half, picture[..., 1]]
        places = jnp.stack([x.reshape(len(x), -1).argmax(-1) for x in found], axis=1)
        xy = jnp.stack([places % S + 1, places // S], axis=-1).astype(jnp.float32)
        return {"heatmaps": heatmaps.draw(xy, size=S, stride=self.stride, sigma=1.5)}


class CoarseFinder(Finder):
    stride = 2


def dots(*places):
    """Pictures with a red dot on the left, one on the right, and a green one, at these x; y is 4, 9, 14."""
    pictures = np.zeros((len(places), S, S, 3), np.uint8)
    for picture, (left, right, green) in zip(pictures, places, strict=True):
        picture[4, left, 0] = picture[9, right, 0] = picture[14, green, 1] = 255
    return pictures


def test_an_error_to_one_side_is_taken_back_by_the_mirror_image():
    pictures = dots((5, 20, 12), (10, 28, 18))
    want = np.array([[(5, 4), (20, 9), (12, 14)], [(10, 4), (28, 9), (18, 14)]])
    plain, _ = jax.jit(landmarks.forward(Finder(), RGB))({"params": {}}, {"picture": pictures})
    np.testing.assert_allclose(plain, want + [1, 0], atol=1e-4)
    xy, confidence = jax.jit(landmarks.forward(Finder(), RGB, (1, 0, 2)))({"params": {}}, {"picture": pictures})
    np.testing.assert_allclose(xy, want, atol=1e-4)
    np.testing.assert_allclose(confidence, np.exp(-1 / (2 * 1.5**2)), rtol=1e-5)  # of two Gaussians a pixel away


def test_the_points_of_a_picture_and_of_its_mirror_image_are_apart():
    """One pixel too far to the right in both, so two pixels apart once the mirror image is turned back."""
    pictures = dots((5, 20, 12))
    both = [make(Finder(), RGB, (1, 0, 2)) for make in (landmarks.network.look, landmarks.forward)]
    seen, (xy, confidence) = jax.jit(lambda *seen: [one(*seen) for one in both])({"params": {}}, {"picture": pictures})
    np.testing.assert_allclose(seen["mirror"], [[2, 2, 2]], atol=1e-3)
    np.testing.assert_array_equal(seen["xy"], xy)
    np.testing.assert_array_equal(seen["confidence"], confidence)
    assert "mirror" not in jax.eval_shape(landmarks.network.look(Finder(), RGB), {"params": {}}, {"picture": pictures})
    # Along x two Gaussians of variance s^2 = 2.25, at -1 and 1. Their mass is (a + b)^2 = a^2 + b^2 + 2 a b, each part
    # of variance s^2 / 2, with the weights 1, 1 and 2 exp(-1 / s^2).
    along_x = 2.25 / 2 + 2 / (2 + 2 * np.exp(-1 / 2.25))
    np.testing.assert_allclose(seen["width"], np.full((1, 3), np.sqrt(along_x + 2.25 / 2)), rtol=2e-3)


def test_a_width_is_in_pixels_and_not_in_cells():
    seen = jax.jit(landmarks.network.look(CoarseFinder(), RGB))({"params": {}}, {"picture": dots((8, 20, 14))})
    np.testing.assert_allclose(seen["width"], np.full((1, 3), 2 * 1.5), rtol=0.05)  # an edge is near


def test_of_several_domains_each_has_its_own_way():
    pictures = dots((5, 20, 12), (5, 20, 12))
    body = landmarks.forward(Finder(), RGB, (1, 0, 2), domain_mirrors={"a": True, "b": False})
    xy, _ = jax.jit(body)({"params": {}}, {"picture": pictures, "domain": np.array([1, 0])})
    np.testing.assert_allclose(xy[:, 2], [[13, 14], [12, 14]], atol=1e-4)


class Painter:
    """A network of class maps that sees red one pixel too far to the right."""

    def apply(self, variables, picture, domain, train):
        red = jnp.roll(picture[..., 0], 1, axis=2)
        return {"logits": 20 * jnp.stack([1 - red, red], axis=-1)}


@pytest.mark.parametrize("domain", [None, 0])
def test_probabilities_are_averaged_and_a_class_stays_one(domain):
    layout = segmentation.Layout.of({"a": ("background", "red")}, heads=False)
    body = jax.jit(segmentation.forward(Painter(), RGB, layout, mirror=True))
    batch = {"picture": dots((5, 20, 12))} | ({} if domain is None else {"domain": np.array([domain])})
    want = np.zeros((S, S))
    want[4, [4, 6]] = want[9, [19, 21]] = 0.5
    np.testing.assert_allclose(body({"params": {}}, batch)[0, ..., 1], want, atol=1e-5)
    np.testing.assert_allclose(body({"params": {}}, batch).sum(-1), 1, atol=1e-6)


# ---------------------------------------------------------------- in a run


def by_hand(run, picture):
    """`[N, K, 2]` and `[N, K]` of `[N, S, S, 3]` pictures by the best checkpoint of a run of drawn faces."""
    config, (variables, meta) = config_of_run(run), checkpoint.best(run)
    model = landmarks.build(config, meta["encoder"], len(meta["landmarks"]))
    see = jax.jit(lambda x: model.apply(variables, models.normalize(x, meta["input"]), train=False)["heatmaps"])
    turned = np.asarray(see(picture[:, :, ::-1].copy()))[:, :, ::-1, SWAPPED]
    decode = jax.jit(functools.partial(heatmaps.decode, stride=model.stride))
    return decode(np.mean([see(picture), turned], axis=0))


def test_validation_and_evaluation_see_mirror_images(teacher_file, tmp_path):
    run, config = tmp_path / "run", tiny.config(teacher_file, ft, eval__mirror=True, train__steps=2)
    result = training_run.train_and_evaluate(config, run)
    source = data.load(config.data, None)
    tables = {}
    for name in ("val", "test"):
        part = source.split(name)
        batch = part.batch(np.arange(len(part)))
        xy = (by_hand(run, batch["picture"])[0] - batch["offset"][:, None]) / batch["scale"][:, None, None]
        names = part.targets.landmarks.names
        tables[name] = metrics.Predictions.from_points(part.images, part.subjects, names, xy, true_xy=part.targets.xy)
    written = metrics.read_predictions(run / "predictions.csv")
    np.testing.assert_allclose(written.xy, tables["test"].xy, atol=2e-3)
    with (run / "log.csv").open(newline="") as file:
        (error,) = (float(row["val_error"]) for row in csv.DictReader(file) if row["val_error"])
    assert error == pytest.approx(domains.validation_error(tables["val"], source)[0], rel=1e-3)
    task = tiny.task(teacher_file, ft)
    assert result["gflops"] == pytest.approx(2 * cost.gflops(task.model, S), abs=1e-6)


@pytest.fixture(scope="module")
def mirrored_run(finished_run, tmp_path_factory):
    """The finished run, as if it had been judged with mirror images."""
    run = shutil.copytree(finished_run[0], tmp_path_factory.mktemp("mirrored") / "run")
    config = json.loads((run / "config.json").read_text())
    config["eval"]["mirror"] = True
    (run / "config.json").write_text(json.dumps(config))
    return run


@pytest.fixture(scope="module")
def want(mirrored_run):
    """Points and confidence of pictures by hand."""
    return by_hand(mirrored_run, noise(3))


def assert_seen_from_both_sides(call, *, is_so=True):
    """Whether the points of mirror images are the mirror images of the points."""
    found, turned = call(noise(3)), call(noise(3)[:, :, ::-1].copy())
    found[..., 0] = S - 1 - found[..., 0]
    assert (np.abs(found[:, SWAPPED] - turned).max() < 0.01) == is_so


def test_predictor_and_command_see_as_the_run_was_judged(mirrored_run, finished_run, want, cli, tmp_path):
    pictures = list(noise(3))
    want_xy, want_confidence = want
    for predictor in (Predictor(mirrored_run), Predictor(finished_run[0], mirror=True)):
        result = predictor(pictures)
        np.testing.assert_allclose(result.xy, want_xy, atol=1e-3)
        np.testing.assert_allclose(result.confidence, want_confidence, atol=1e-4)
        assert_seen_from_both_sides(lambda x, predictor=predictor: predictor(list(x)).xy)
    plain = Predictor(mirrored_run, mirror=False)
    assert_seen_from_both_sides(lambda x: plain(list(x)).xy, is_so=False)
    np.testing.assert_array_equal(plain(pictures).xy, Predictor(finished_run[0])(pictures).xy)

    Image.fromarray(pictures[0]).save(tmp_path / "a.png")
    for run, *flags in ((mirrored_run,), (finished_run[0], "--mirror"), (finished_run[0],)):
        out = tmp_path / "out.csv"
        code, _, error = cli("ctd_jax.predict", f"--workdir={run}", tmp_path / "a.png", f"--out={out}", *flags)
        assert code == 0, error
        is_so = bool(flags) or run == mirrored_run
        assert (np.abs(metrics.read_predictions(out).xy[0] - want_xy[0]).max() < 2e-3) == is_so


@pytest.mark.parametrize("to", formats.FORMATS)
def test_an_export_sees_as_the_run_was_judged(mirrored_run, want, cli, to, tmp_path):
    form, out = form_of(to), tmp_path / "network"
    code, _, error = cli("ctd_jax.export", f"--workdir={mirrored_run}", f"--to={to}", f"--out={out}")
    assert code == 0, error
    call = form.load(out.read_bytes(), POINTS)
    np.testing.assert_allclose(call(noise(3))[0], want[0], atol=5e-3)
    assert_seen_from_both_sides(lambda x: np.array(call(x)[0]))


# ---------------------------------------------------------------- where pictures are not mirrored


def test_pictures_that_training_does_not_mirror_are_seen_as_they_are(teacher_file, caplog):
    film = {"data__root": "synthetic_film", "eval__mirror": True}
    for module, changes, why in (
        (ft, film, "eval.mirror is True, but dataset.json has no flip_pairs: no mirror images are averaged"),
        (ft, {"eval__mirror": True, "augment__flip": 0.0}, "eval.mirror is True, but augment.flip is 0: no mirror"),
        (mtmd, {"eval__mirror": True, "augment__flip": 0.0}, "eval.mirror is True, but augment.flip is 0: no mirror"),
    ):
        caplog.clear()
        config = tiny.config(teacher_file, module, **changes)
        kind = segmentation.SegmentationTask if module is mtmd else landmarks.LandmarkTask
        kind(config, data.load(config.data, None, targets=kind.targets))
        assert caplog.text.count("eval.mirror") == caplog.text.count(why) == 1
    caplog.clear()
    tiny.task(teacher_file, ft, eval__mirror=True)
    assert "mirror" not in caplog.text


def test_a_network_that_has_seen_no_mirror_images_is_shown_none(mirrored_run, tmp_path):
    run = shutil.copytree(mirrored_run, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["augment"]["flip"] = 0.0
    (run / "config.json").write_text(json.dumps(config))
    assert not Predictor(run).trained.mirrored
    with pytest.raises(UserError, match="run: pictures were not mirrored in its training; leave out --mirror"):
        Predictor(run, mirror=True)
