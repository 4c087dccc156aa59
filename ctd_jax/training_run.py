"""The story of a run: read, check, train, keep the best, evaluate once, report."""

import contextlib
import functools
import json
import logging
import pathlib
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ctd_jax import automatic, data, files, report, run_folder, tasks
from ctd_jax.config import check_config
from ctd_jax.data import splits
from ctd_jax.errors import UserError
from ctd_jax.tasks import start_run
from ctd_jax.tasks.teacher import NO_TEACHER
from ctd_jax.training import checkpoint, devices, feed, finite, hosts, memory, step
from ctd_jax.training.log import NoLog, TrainingLog
from ctd_jax.training.pace import Pace
from ctd_jax.training.parallel import Parallel
from ctd_jax.training.stopping import Signals, Stopped
from ctd_jax.typing import Variables

_log = logging.getLogger(__name__)
DRAWS = 3  # augmentations of a picture on the page of `show_augmented`
INEFFECTIVE = 1e-4  # of the gradient of the task's own loss: a constraint whose own is smaller does nothing


def train_and_evaluate(
    config: ConfigDict,
    workdir: pathlib.Path,
    cache: pathlib.Path | None = None,
    pictures: data.SplitPictures | None = None,
) -> dict[str, Any]:
    """Trains, or continues, or finds the run finished; returns the content of metrics.json. Of several processes, each
    is called with the same arguments.

    Args:
      config: of the run.
      workdir: for what the run leaves behind.
      cache: folder for prepared pictures; None: one in `workdir`.
      pictures: the pictures; None: those that `config.data` names.

    Raises:
      UserError: something in the configuration, the data, the weights or the workdir that the user can mend, found
        before the first step; or numbers that are not finite.
      Stopped: by SIGTERM or Ctrl-C; what was reached is kept.
    """
    with Signals() as signals:
        return _train_and_evaluate(config, workdir, cache, pictures, signals)


def _train_and_evaluate(
    config: ConfigDict,
    workdir: pathlib.Path,
    cache: pathlib.Path | None,
    pictures: data.SplitPictures | None,
    signals: Signals,
) -> dict[str, Any]:
    began = time.monotonic()
    hosts.check_same({"configuration": config.to_dict()})
    checkpoint.check_path(workdir)
    config = hosts.together(lambda: automatic.continued(config, workdir))
    hosts.together(lambda: run_folder.claim(workdir, config))
    last_file = tasks.of(config).last_file
    if (workdir / last_file).exists():
        if pictures:
            _check_same(workdir, pictures)
        _log.warning("%s is finished; this is its result. A new --workdir starts again", workdir)
        for path in run_folder.changed(workdir, config):
            _log.warning("%s: files were changed, added or removed since this run began; its result is of what was "
                         "there then", path)  # fmt: skip
        return files.read_json(
            workdir / "metrics.json", f"remove {last_file} from there, and the same command evaluates anew"
        )
    with contextlib.ExitStack() as stack:
        hosts.by_first(lambda: stack.enter_context(run_folder.held(workdir, config)))
        largest = None
        while True:
            prepared = functools.partial(prepare, config, cache or workdir / "tfds", pictures, largest)
            task, parallel = hosts.first_then_others(prepared)
            hosts.check_same({"pictures": task.pictures.rows(), "annotations or teacher": task.meta})
            hosts.check_same({"choices": task.config.to_dict()})
            try:
                variables = _fit(task, workdir, parallel, signals)
                with memory.advising(memory.advice_of_evaluation(task.config.eval.batch_size, len(parallel.devices))):
                    return task.finish(variables, parallel, workdir, began)
            except memory.TooLarge as error:
                if config.data.image_size or jax.process_count() > 1:
                    raise
                largest = automatic.smaller(task.config.data.image_size, error)


def _check_same(workdir: pathlib.Path, pictures: data.SplitPictures) -> None:
    """Raises UserError if a finished run learned from other pictures, landmarks or annotations than these of lists.
    Pictures may have been moved: then they have other names."""

    def without_names(rows: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
        return [("" if subject == image else subject, *rest) for image, subject, *rest in rows]

    if without_names(splits.read(workdir / "split.csv")) != without_names(pictures.rows()):
        run_folder.check_split(workdir, pictures.rows())
    landmarks, everything = pictures.targets.landmarks, pictures.everything
    meta = {
        "landmarks": list(landmarks.names),
        "flip_pairs": landmarks.flip_pairs,
        "normalizer": landmarks.normalizer,
        "annotations": checkpoint.digest([pictures.targets.xy, everything.spacing, everything.boxes]),
    }
    if not checkpoint.best_step(workdir):
        _log.warning("%s: there is no whole checkpoint, which would say whether the points are still the same", workdir)
    checkpoint.check_meta(workdir, meta)


def show_augmented(config: ConfigDict, workdir: pathlib.Path, number: int) -> pathlib.Path:
    """Writes a page of training pictures, each as it is and under `DRAWS` random augmentations; trains nothing.

    Args:
      config: of the run.
      workdir: of the run, which may have begun or not.
      number: of pictures, spread over the training pictures; if there are fewer, all of them.

    Returns:
      Path of the page.

    Raises:
      UserError: as for `train_and_evaluate`, before its first step.
    """
    config = automatic.continued(config, workdir)
    run_folder.claim(workdir, config)
    task, _ = prepare(config, workdir / "tfds")
    indices = task.train.spread(number)
    rows = []
    for index, key in zip(indices, jax.random.split(jax.random.key(config.seed), len(indices)), strict=True):
        augmented = task.painted(task.train.batch(np.repeat(index, DRAWS)), jax.random.split(key, DRAWS))
        rows.append((task.train.images[index], [*task.painted(task.train.batch(index[None]), None), *augmented]))
    workdir.mkdir(parents=True, exist_ok=True)
    settings = task.config.augment.to_dict()
    return report.augmented.write(workdir, rows, of=len(task.train), marks=task.marks, settings=settings)


def _claim_split(workdir: pathlib.Path, pictures: data.SplitPictures) -> None:
    if hosts.is_first():
        run_folder.claim_split(workdir, pictures.rows())
    elif not (workdir / "split.csv").exists():
        raise UserError(
            f"{workdir.absolute()} on {platform.node()} has no split.csv, which the first process wrote; give a "
            "--workdir that all hosts share"
        )


def _begin(workdir: pathlib.Path, task: tasks.Task) -> None:
    run_folder.begin(workdir, task.config, task.pictures.rows())
    data.twins.write(workdir, task.pictures.twins)
    if task.start:
        files.write_text(workdir / start_run.FILE, json.dumps(task.start, indent=1))


def prepare(
    config: ConfigDict,
    cache: pathlib.Path,
    pictures: data.SplitPictures | None = None,
    largest: int | None = None,
) -> tuple[tasks.Task, Parallel]:
    """Reads the data and the weights of a configuration and checks all that can be checked before the first step.

    Args:
      config: of the run.
      cache: folder for prepared pictures.
      pictures: the pictures; None: those that `config.data` names.
      largest: see `automatic.settled`.

    Returns:
      The task and the devices.

    Raises:
      UserError: see `train_and_evaluate`.
    """
    config = _checked(config)
    parallel = Parallel(config.parallel)
    _check_batch(config, "batch_size", parallel)
    if config.data.unlabelled:
        _check_batch(config, "unlabelled_batch_size", parallel)
    pictures = pictures or data.load(config.data, cache, targets=tasks.of(config).targets)
    for domain, part in pictures.evaluated.items():
        data.splits.check_not_empty(part.split_of, config.eval.split, f"domain {domain}: " if domain else "")
    if config.teacher.weights == "embedded" and not pictures.drawn:
        _log.warning("the embedded teacher has seen drawn faces only; --config.teacher.weights=FILE gives a real one")
    config, pictures = automatic.settled(config, pictures, parallel.devices[0].platform, largest)
    return tasks.of(config)(config, pictures), parallel


def _fit(task: tasks.Task, workdir: pathlib.Path, parallel: Parallel, signals: Signals) -> Variables:
    """Trains to the end, from the latest checkpoint if any; returns the variables with the lowest validation error.
    Writes nothing before it is known that a step fits into memory."""
    hosts.by_first(devices.report)
    config = task.config
    steps, parts = config.train.steps, config.train.accumulate_steps
    with devices.host():
        variables = task.init(config.seed)
        labels = task.param_labels(variables["params"])
        tx = step.optimizer(labels)
        zero = jnp.zeros((), jnp.int32)
        params, batch_stats = variables["params"], variables["batch_stats"]
        average = step.first_average(variables, labels) if config.train.average else None
        state = step.TrainState(zero, params, batch_stats, jax.jit(tx.init)(params), average)
    template = jax.eval_shape(lambda: state)
    state, constants = parallel.replicate((state, step.constants(config.seed, config.train, task.constants)))
    training_feed = feed.choose(task.train, _plan(config), parallel, config.data.on_device)
    inputs, example = training_feed.inputs(constants), training_feed.example()
    body = training_feed.body(step.make(task.loss, tx, labels, accumulate_steps=parts))
    body = parallel.compile(body, sharded=False, donate=(0,))
    ahead_of_time = config.parallel != "pmap" or jax.process_count() == 1  # else it wants the devices of all processes
    measure_norms = step.gradient_norms(task.loss, task.gradient_terms, labels, accumulate_steps=parts)
    gradient_norms = parallel.compile(measure_norms, sharded=False)
    norms = None
    if task.gradient_terms and ahead_of_time:
        batch = training_feed.batch()
        norms = hosts.together(lambda: memory.compile_norms(gradient_norms, state, constants, batch))
    on = config.train, parallel.devices, norms
    compiled = hosts.together(lambda: memory.compile_step(body, state, inputs, example, *on))
    shapes = jax.tree.map(jnp.shape, example)
    validate = task.validator(parallel)
    hosts.first_then_others(lambda: _claim_split(workdir, task.pictures))

    start, saved, whole = hosts.together(lambda: checkpoint.resume(workdir, template, task.meta))
    hosts.check_same({"checkpoint": start})
    hosts.by_first(lambda: _begin(workdir, task))
    if start:
        state = parallel.replicate(saved)
        _log.warning("continuing %s from step %d of %d", workdir, start, steps)
    hosts.by_first(lambda: checkpoint.remove_all_but(workdir, whole))
    rates = step.schedule(config.train)
    columns = [
        "loss",
        *task.terms,
        *(f"{part}_lr" for part in rates(0)),
        *(f"gradient_{term}" for term in task.gradient_terms),
        "val_error",
    ]
    names = _names(task, config)
    watch = finite.Watch(parallel.first, names)
    size = memory.of_step(compiled, parallel.devices)
    pace = Pace(parallel.devices[0].platform, size)
    learning = memory.advising(memory.advice_of_step(config.train, len(parallel.devices)))
    with learning, checkpoint.manager(workdir, whole) as checkpoints:
        log: NoLog | TrainingLog = NoLog()
        if hosts.is_first():
            evaluated = [one.step for one in whole if one.val_error is not None and one.step <= start]
            settings = {"steps": steps, "batch_size": training_feed.batch_size, "evaluated": evaluated}
            log = TrainingLog(workdir, columns, start=start, **settings)
        with log, signals.noted(), _saying_what_is_kept(checkpoints, watch):
            for number, argument, last_batch in training_feed.calls(start):
                known = ahead_of_time and jax.tree.map(jnp.shape, argument) == shapes
                state, means = (compiled if known else body)(state, inputs, argument)
                watch.add(number, means)
                pace.add(means)
                log.tick(number)
                evaluating = number % config.eval.every == 0 or number == steps
                looking = evaluating or number % feed.LOG_INTERVAL == 0
                if looking:
                    values = watch.look()
                    log.record(
                        number,
                        {key: values[key] for key in ("loss", *task.terms)}
                        | {f"{part}_lr": rate for part, rate in rates(number - 1).items()},
                    )
                if evaluating:
                    with memory.without_a_steps(size):
                        with log.pause():
                            with memory.advising(
                                memory.advice_of_evaluation(config.eval.batch_size, len(parallel.devices))
                            ):
                                error, text = validate(step.averaged(state.params, state.batch_stats, state.average))
                            found: dict[str, jax.Array] = {}
                            if task.gradient_terms:
                                found = parallel.first((norms or gradient_norms)(state, constants, last_batch()))
                        weights = task.term_weights
                        pulls = {f"gradient_{term}": weights[term] * float(norm) for term, norm in found.items()}
                        log.record(number, {"val_error": error} | pulls, text)
                        if pulls and number <= config.eval.every:
                            _warn_of_ineffective_terms(pulls, {term: names[term] for term in task.gradient_terms})
                        with log.pause():  # after its row: a run that stops in between loses neither
                            checkpoint.save(checkpoints, number, parallel.first(state), task.meta, error)
                if why := signals.asked(together=looking):
                    if not evaluating:
                        checkpoint.save(checkpoints, number, parallel.first(state), task.meta, None)
                    checkpoints.wait_until_finished()
                    raise Stopped(
                        f"stopped by {why} at step {number} of {steps}; the same command continues from there"
                    )
        checkpoints.wait_until_finished()
    return hosts.together(lambda: checkpoint.best_of_training(workdir))[0]


def _plan(config: ConfigDict) -> feed.Plan:
    return feed.Plan(
        steps=config.train.steps,
        eval_every=config.eval.every,
        batch_size=config.train.batch_size,
        seed=config.seed,
        schedule=config.domains.schedule,
        temperature=config.domains.temperature,
        unlabelled_batch_size=config.train.unlabelled_batch_size,
    )


def _names(task: tasks.Task, config: ConfigDict) -> dict[str, str]:
    """How the message calls each term of the loss."""
    names = {term: f"constraints.{term}" if term in config.constraints else term for term in task.terms}
    return names | {step.GRADIENT: "the gradient of the loss"}


@contextlib.contextmanager
def _saying_what_is_kept(checkpoints: checkpoint.Manager, watch: finite.Watch) -> Iterator[None]:
    """Context in which an error of `finite` says which checkpoints there are."""
    try:
        yield
    except finite.NotFinite as error:
        steps = ", ".join(map(str, sorted(checkpoints.all_steps())))
        kept = f"The checkpoints of step {steps} stay as they are" if steps else "There is no checkpoint yet"
        raise finite.RanAway(f"after step {watch.step}: {error}. {kept}") from error


def _warn_of_ineffective_terms(norms: Mapping[str, float], names: Mapping[str, str]) -> None:
    """`names` are those of `_names`, of the terms in `norms`: the task's own is the first."""
    own, *others = names
    reference = norms[f"gradient_{own}"]
    for term in others:
        norm, name = norms[f"gradient_{term}"], names[term]
        if norm < INEFFECTIVE * reference:
            _log.warning(
                "%s pulls at the encoder %.0e times as hard as the task itself, so it changes nothing; "
                "raise %s.weight (the columns gradient_... of log.csv compare them)",
                name, norm / reference, name,
            )  # fmt: skip


def _checked(config: ConfigDict) -> ConfigDict:
    """`config`, frozen; it names a task, data and a teacher, and every value is in its range."""
    tasks.of(config)
    missing = [data.MISSING] if not config.data.root else []
    missing += [NO_TEACHER] if not config.teacher.weights else []
    if missing:
        raise UserError("\n".join(missing))
    if config.model.start and not (pathlib.Path(config.model.start) / "config.json").is_file():
        raise UserError(f"model.start is {config.model.start}; expected the --workdir of a training")
    return check_config(config)


def _check_batch(config: ConfigDict, key: str, parallel: Parallel) -> None:
    """Raises UserError if pictures of `config.train[key]` can't be shared out evenly, nor each share be divided."""
    size, devices, parts = config.train[key], len(parallel.devices), config.train.accumulate_steps
    if parts > 1 and size % (devices * parts):
        raise UserError(
            f"train.{key} is {size}; expected a multiple of {devices * parts}: of the number of devices, "
            f"{devices}, times train.accumulate_steps, {parts}"
        )
    parallel.check_batch(size, f"train.{key}")
