"""The smallest run: 32 x 32 pixels, four drawn people to train on, an encoder of a few thousand parameters."""

import csv
import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from configs import ctd_ed
from ctd_jax import data, models, training_run
from ctd_jax.data import synthetic
from ctd_jax.tasks.landmarks import LandmarkTask
from ctd_jax.tasks.teacher import IMAGENET
from ctd_jax.training import checkpoint, step
from ctd_jax.training.parallel import Parallel

REPO = pathlib.Path(__file__).parents[1]
RESNET8 = {"name": "resnet8", "width": 4}
ENCODER = RESNET8 | {"stage_sizes": [1]}  # most tests need no more than one of its three stages
OF_RESNET8 = {"model__decoder_channels": (8, 8)}  # from its stride of 16 to 4
KEYS = {
    "data.image_size": 32,
    "data.budget": 0,
    "data.synthetic.identities": (4, 2, 2),
    "data.synthetic.shots": (2, 2, 2),
    "model.decoder_channels": (8,),
    "model.hourglass.channels": 8,
    "model.hourglass.depth": 1,
    "train.steps": 4,
    "train.batch_size": 4,
    "eval.every": 2,
    "eval.batch_size": 4,
    "eval.gradient_norms": False,
}
CHANGING = {  # all of augmentation
    "augment__rotation": 20.0, "augment__aspect": 0.1, "augment__brightness": 0.1, "augment__contrast": 0.2,
    "augment__gamma": 0.2, "augment__colour": 0.1, "augment__blur": 0.02, "augment__noise": 0.05,
    "augment__occlusion": 0.3,
}  # fmt: skip
STILL = {"augment__flip": 0.0, "augment__scale": 0.0, "augment__shift": 0.0}

# Most tests use XLA's older code for fusions, because it compiles faster, see `conftest`. Trainings that do the same in
# different ways, on several devices for one, agree more closely with the newer one.
OLDER_FUSIONS = "--xla_cpu_use_fusion_emitters=false"


def newer_fusions() -> dict[str, str]:
    """The environment of a child process that uses the newer code."""
    return os.environ | {"XLA_FLAGS": os.environ["XLA_FLAGS"].replace(OLDER_FUSIONS, "")}


def write_teacher(path: pathlib.Path, encoder: dict = ENCODER) -> pathlib.Path:
    """Random weights, with the batch statistics of noise."""
    model = models.build_encoder(**encoder)
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(1), jnp.zeros((1, 32, 32, 3)))
    noise = np.random.default_rng(0).normal(size=(30, 4, 32, 32, 3)).astype("float32")
    seen = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"])[1])
    for batch in noise:
        variables = variables | seen(variables, batch)
    models.weight_file.save(path, variables, {"encoder": encoder, "input": IMAGENET, "source": "random"})
    return path


def write_folder(
    root: pathlib.Path, *, people: int = 8, shots: int = 2, size: int = 64, split: bool = True
) -> pathlib.Path:
    """A landmark folder of drawn faces. The first half of the people is `train`, then a quarter each `val` and `test`;
    `split=False`: no such column."""
    (root / "images").mkdir(parents=True)
    faces = synthetic.faces(range(people), shots, size=size, seed=0)
    columns = [f"{landmark}_{axis}" for landmark in synthetic.LANDMARKS for axis in "xy"]
    with (root / "landmarks.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "subject", *["split"] * split, *columns])
        for i, (picture, xy, subject) in enumerate(zip(faces["pictures"], faces["xy"], faces["subjects"], strict=True)):
            image = f"images/{i:03d}.png"
            Image.fromarray(picture).save(root / image)
            part = ("train", "train", "val", "test")[i // shots * 4 // people]
            writer.writerow([image, subject, *[part] * split, *(round(float(v), 3) for v in xy.ravel())])
    content = {"name": root.name, "landmarks": synthetic.LANDMARKS, "flip_pairs": synthetic.FLIP_PAIRS}
    content |= {"normalizer": synthetic.NORMALIZER, "measurements": synthetic.MEASUREMENTS}
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def config(teacher: pathlib.Path, module=ctd_ed, **changes):
    """A configuration of `module` made small; `changes` has `__` for the dots of its keys."""
    small = module.get_config()
    if small.constraints.ed.weight:
        small.constraints.ed.weight = 0.01  # strong enough for a test to see it
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    small.update_from_flattened_dict(KEYS | {"teacher.weights": str(teacher)} | dotted)
    return small


def arguments(teacher: pathlib.Path, **changes) -> list[str]:
    """The same as a command line has it."""
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    keys = KEYS | {"teacher.weights": str(teacher)} | dotted
    return [f"--config.{key}={value}" for key, value in keys.items()]


def task(teacher: pathlib.Path, module=ctd_ed, **changes) -> LandmarkTask:
    small = config(teacher, module, **changes)
    return LandmarkTask(small, data.load(small.data, None))


def other_weights(run: pathlib.Path, place: pathlib.Path, seed: int, **data) -> pathlib.Path:
    """A copy of a run, as if another training had led to other weights, with other keys of its `data`."""
    shutil.copytree(run, place)
    variables, meta = checkpoint.best_of_training(run)
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda x: (x * rng.normal(1, 0.3, x.shape)).astype(np.float32), variables["params"])
    shutil.rmtree(place / "checkpoints")
    with checkpoint.manager(place) as checkpoints:
        checkpoint.save(checkpoints, 4, step.TrainState(np.int32(4), params, variables["batch_stats"], ()), meta, 0.1)
        checkpoints.wait_until_finished()
    content = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(content | {"data": content["data"] | data}))
    return place


def train_with_newer_fusions(runs: dict[str, dict], teacher: pathlib.Path, folder: pathlib.Path):
    """Trains `config(teacher, **changes)` to `folder / name` for each name and changes of `runs`, in a process with
    XLA's newer code for fusions. Without evaluation and report."""
    code = f"import sys; sys.path[:0] = {sys.path}; import tiny; tiny._train({runs}, *sys.argv[1:])"
    command = [sys.executable, "-c", code, teacher, folder]
    done = subprocess.run(command, env=newer_fusions(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _train(runs, teacher, folder):
    LandmarkTask.finish = lambda *_: {}  # all steps are done by then
    for name, changes in runs.items():
        training_run.train_and_evaluate(config(teacher, **changes), pathlib.Path(folder, name))


def trainer(task: LandmarkTask, kind: str = "shard_map", devices: int = 1, tx=None, *, newer_fusions: bool = False):
    """Function of batches that starts anew each time: the final state, and the means of each step (without the
    gradient's norm), as NumPy."""
    parallel = Parallel(kind, jax.devices()[:devices])
    start = jax.device_get(task.init(0))
    labels = task.param_labels(start["params"])
    tx = tx or step.optimizer(labels)
    made = step.make(task.loss, tx, labels, accumulate_steps=task.config.train.accumulate_steps)
    body = parallel.compile(made, sharded=False, donate=(0,))
    newer = newer_fusions and OLDER_FUSIONS in os.environ["XLA_FLAGS"]
    options = {"xla_cpu_use_fusion_emitters": True} if newer else {}
    programs = {}

    def train(batches, variables=start):
        average = step.first_average(variables, labels) if task.config.train.average else None
        state = step.TrainState(
            np.int32(0), variables["params"], variables["batch_stats"], tx.init(variables["params"]), average
        )
        state, constants = parallel.replicate(
            (state, step.constants(task.config.seed, task.config.train, task.constants))
        )
        of_task, means = parallel.first(constants.task), []
        for batch in batches:
            arguments, shapes = (state, constants, parallel.shard(batch)), str(jax.tree.map(np.shape, batch))
            if shapes not in programs:
                programs[shapes] = body.lower(*arguments).compile(compiler_options=options)
            state, mean = programs[shapes](*arguments)
            means.append({name: float(value) for name, value in parallel.first(mean).items() if name != step.GRADIENT})
        jax.tree.map(np.testing.assert_array_equal, parallel.first(constants.task), of_task)
        return parallel.first(state), means

    return train
