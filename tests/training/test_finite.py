"""What is not finite is found, with the term and the step that it began with, and neither used nor written."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy
import tiny
from PIL import Image

from ctd_jax import data, models
from ctd_jax.errors import UserError
from ctd_jax.training import checkpoint, finite, inference, step
from ctd_jax.training.parallel import Parallel

NAMES = {"heatmap": "heatmap", "ed": "constraints.ed", step.GRADIENT: "the gradient of the loss"}


def watch(*rows):
    """A watch of steps that each have a loss, heatmap, ed and gradient."""
    made = finite.Watch(jax.device_get, NAMES)
    for number, row in rows:
        made.add(number, dict(zip(("loss", *NAMES), map(np.float32, row), strict=True)))
    return made


def test_finite_means_are_handed_on():
    made = watch((1, (1, 2, 3, 4)), (2, (5, 6, 7, 8)))
    assert made.look() == {"loss": 5, "heatmap": 6, "ed": 7, step.GRADIENT: 8}
    assert made.step == 2


NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([(1, (1, 1, 1, 1)), (2, (NAN, 1, NAN, NAN)), (3, (NAN,) * 4)], "at step 2 constraints.ed is nan, the first"),
        ([(1, (1, 1, 1, 1)), (2, (1, 1, 1, INF)), (3, (NAN,) * 4)], "at step 2 the gradient of the loss is inf, the"),
        ([(7, (INF, INF, 1, 1))], "at step 7 heatmap is inf, the first"),
        # three steps of one dispatch
        ([(6, ((1, 1, NAN), (1, 1, NAN), (1, 1, 1), (1, 1, 1)))], "at step 6 heatmap is nan, the first"),
        ([(6, ((1, NAN, NAN), (1, NAN, NAN), (1, NAN, NAN), (1, NAN, NAN)))], "at step 5 heatmap is nan, constraints"),
    ],
)
def test_the_first_term_and_its_step_are_named(rows, said):
    with pytest.raises(finite.NotFinite, match=said):
        watch(*rows).look()


@pytest.mark.parametrize("several", [False, True])
def test_the_gradients_norm_is_among_the_means(several):
    """It is 5 for 3 a + 4 b + 100 c, where c is frozen. For 2 sqrt(a), at 0, it is infinite, but the
    loss is finite."""

    def linear(params):
        return 3 * params["a"] + 4 * params["b"] + 100 * params["c"]

    def root(params):
        return 2 * jnp.sqrt(params["a"])

    labels = {"a": "encoder", "b": "decoder", "c": "frozen"}
    tx, params = optax.identity(), {key: jnp.zeros(()) for key in labels}
    parallel = Parallel("shard_map", jax.devices()[:1])

    def means(function):
        def loss(params, batch_stats, frozen, batch, keys):
            return jnp.broadcast_to(function(params), 8), ({}, {})

        made = step.make(loss, tx, labels)
        state = step.TrainState(jnp.zeros((), jnp.int32), params, {}, tx.init(params))
        state, constants = parallel.replicate((state, step.constants(0, tiny.config("none").train, {})))
        batch = parallel.shard({"picture": np.zeros((8, 1), np.float32)})
        if not several:
            return parallel.first(parallel.compile(made, sharded=False)(state, constants, batch)[1])
        pictures = parallel.replicate({"picture": np.zeros((8, 1), np.float32)})
        indices = parallel.shard(np.zeros((8, 2), np.int32))
        return parallel.first(
            parallel.compile(step.several(made), sharded=False)(state, (constants, pictures), indices)[1]
        )

    assert np.ravel(means(linear)[step.GRADIENT])[0] == pytest.approx(5)
    bad = means(root)
    assert np.ravel(bad["loss"])[0] == 0 and not np.isfinite(np.ravel(bad[step.GRADIENT])[0])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["landmarks", "class maps", "features"])
def test_what_a_network_says_of_a_picture_is_finite(kind, value):
    """Peaks of heatmaps, probabilities and features alike."""
    pictures = [np.full((8, 8, 3), 255 * (i == 2), np.uint8) for i in range(3)]
    images, boxes = ("a.png", "b.png", "white.png"), np.full((3, 4), np.nan)
    dataset = data.Dataset.unlabelled(images, pictures.__getitem__, boxes=boxes, size=8, margin=0.0)

    def body(variables, batch):
        bad = jnp.where(batch["picture"].mean((1, 2, 3)) > 100, value, 0.5)
        maps = jnp.zeros((len(bad), 8, 8, 2)).at[:, 3, 4, 1].set(bad)
        xy = jnp.zeros((len(bad), 1, 2))
        return {"landmarks": (xy, bad[:, None]), "class maps": maps, "features": bad[:, None]}[kind]

    parallel = Parallel("shard_map")
    with pytest.raises(finite.NotFinite, match="is NaN or infinite for 1 of 3 pictures, white.png: training has run"):
        inference.apply(parallel.compile(body, sharded=True), {}, dataset, parallel, 4)


# ---------------------------------------------------------------- runs that have run away


@pytest.fixture(scope="module")
def exploded(finished_run, tmp_path_factory):
    """The finished run, as if its best checkpoint had finite parameters that are far too large."""
    run = shutil.copytree(finished_run[0], tmp_path_factory.mktemp("exploded") / "run")
    variables, meta = checkpoint.best_of_training(run)
    shutil.rmtree(run / "checkpoints")
    huge = jax.tree.map(lambda x: np.full_like(x, 1e30), variables["params"])
    with checkpoint.manager(run) as checkpoints:
        whole = step.TrainState(np.int32(4), huge, variables["batch_stats"], ())
        checkpoint.save(checkpoints, 4, whole, meta, 0.1)
        checkpoints.wait_until_finished()
    return run


def test_predict_says_nothing_of_a_network_that_has_run_away(exploded, cli, tmp_path):
    picture = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(picture)
    code, _, error = cli("ctd_jax.predict", f"--workdir={exploded}", picture, f"--out={tmp_path / 'out.csv'}")
    assert code == 2 and "is NaN or infinite for 1 of 1 pictures" in error and "Traceback" not in error, error
    assert not (tmp_path / "out.csv").exists()


def test_nothing_is_exported_of_a_network_that_has_run_away(exploded, cli, tmp_path):
    code, _, error = cli("ctd_jax.export", f"--workdir={exploded}", "--to=stablehlo", f"--out={tmp_path / 'out'}")
    assert code == 2 and "is NaN or infinite for" in error and "Traceback" not in error, error
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- weight files


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_weights_that_are_not_finite_are_neither_written_nor_read(teacher_file, tmp_path, monkeypatch, value):
    variables, meta = models.weight_file.load(teacher_file)
    variables["params"]["stem_conv"]["kernel"][0, 0, 0, 0] = value
    path = tmp_path / "bad.safetensors"
    with pytest.raises(UserError, match="bad.safetensors: these weights have NaN or infinite numbers in params/stem"):
        models.weight_file.save(path, variables, meta)
    assert not path.exists()
    with monkeypatch.context() as patch:
        patch.setattr(finite, "check_arrays", lambda *_: None)
        models.weight_file.save(path, variables, meta)
    with pytest.raises(UserError, match="bad.safetensors: these weights have NaN or infinite numbers in params/stem"):
        models.weight_file.load(path)


@pytest.mark.parametrize("where", [0.5, 0.99])
def test_weights_of_which_a_bit_changed_are_not_used(teacher_file, tmp_path, where):
    content = bytearray(teacher_file.read_bytes())
    content[int(where * len(content))] ^= 1
    (tmp_path / "bad.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="bad.safetensors: damaged, .* copy the file again"):
        models.weight_file.load(tmp_path / "bad.safetensors")


def test_a_word_of_a_weight_files_metadata_that_changed_is_seen(teacher_file, tmp_path):
    content = teacher_file.read_bytes()
    assert content.count(b"0.485") == 1  # of the normalisation of its input
    (tmp_path / "bad.safetensors").write_bytes(content.replace(b"0.485", b"0.985"))
    with pytest.raises(UserError, match="damaged"):
        models.weight_file.load(tmp_path / "bad.safetensors")


def test_weights_of_before_there_was_a_digest_are_read(teacher_file, tmp_path):
    variables, meta = models.weight_file.load(teacher_file)
    flat = models.weight_file.flatten_dict(variables, sep="/")
    safetensors.numpy.save_file(flat, tmp_path / "old.safetensors", {"ctd_jax": json.dumps(meta)})
    jax.tree.map(np.testing.assert_array_equal, models.weight_file.load(tmp_path / "old.safetensors")[0], variables)
