"""The training step: pure, per device, the same for every task."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array

from ctd_jax.training.barrier import after
from ctd_jax.training.parallel import AXIS
from ctd_jax.typing import Batch, Params, Tree, Variables

if TYPE_CHECKING:
    from ml_collections import ConfigDict

# A key of the means of a step: the norm of the loss's gradient by all vectors that learn, those of biases and of norms.
# A number that is not finite in a layer's gradient reaches its vectors, and all parameters would cost a CPU a tenth of
# a step.
GRADIENT = "gradient"
PARTS = ("encoder", "decoder")  # of the parameters, each with a learning rate

# (params, batch_stats, constants of the task, batch, keys) -> ([B] loss, (batch_stats, {name: [B] term})); `keys` are
# `[B]`, one random key for each picture.
Loss = Callable[[Params, Tree, Tree, Batch, Array], tuple[Array, tuple[Tree, dict[str, Array]]]]


@flax.struct.dataclass
class TrainState:
    """All that training changes."""

    step: Array
    params: Params
    batch_stats: Tree
    opt_state: Tree
    average: Tree = None  # of the variables that learn, see `first_average`; None: none is made


@flax.struct.dataclass
class Constants:
    """All that training reads and never changes. They are inputs of the compiled step, so that runs which differ in
    nothing else share one compilation."""

    key: Array  # of all randomness
    learning_rates: dict[str, Array]  # of each of `PARTS`, at the first step
    steps: Array
    decay_power: Array
    average_decay: Array
    task: Mapping[str, Tree]  # what the task's loss reads: the teacher, the weights of the terms


Step = Callable[[TrainState, Constants, Batch], tuple[TrainState, dict[str, Array]]]


def constants(seed: int, train: "ConfigDict", task: Mapping[str, Tree]) -> Constants:
    """The constants of a training.

    Args:
      seed: of all randomness.
      train: `config.train`; its learning rates, its steps, their decay and that of the average are read.
      task: the constants of the task.
    """
    rates = {part: jnp.float32(train[f"{part}_lr"]) for part in PARTS}
    steps, power, decay = (jnp.float32(train[key]) for key in ("steps", "decay_power", "average"))
    return Constants(jax.random.key_data(jax.random.key(seed)), rates, steps, power, decay, task)


def first_average(variables: Variables, param_labels: Tree) -> Tree:
    """The average before the first step, `params` and `batch_stats`: the variables themselves, without the parameters
    that are frozen. It shares no memory with them, because a step reuses that of its state.

    Args:
      variables: before the first step.
      param_labels: as in `make`.
    """
    labels = flatten_dict(param_labels)
    learning = {path: p for path, p in flatten_dict(variables["params"]).items() if labels[path] != "frozen"}
    return jax.tree.map(jnp.copy, {"params": unflatten_dict(learning), "batch_stats": variables["batch_stats"]})


def averaged(params: Params, batch_stats: Tree, average: Tree) -> Variables:
    """The variables by which a network is judged and used: those of the average, where there is one."""
    last = {"params": params, "batch_stats": batch_stats}
    if average is None:
        return last
    return unflatten_dict(flatten_dict(last, keep_empty_nodes=True) | flatten_dict(average))


def optimizer(param_labels: Tree) -> optax.GradientTransformation:
    """Adam, before the learning rate. Parameters with the label `frozen` get no update, and no state.

    Args:
      param_labels: a tree like the parameters, of `encoder`, `decoder` and `frozen`.
    """
    adam = optax.scale_by_adam()
    return optax.partition({"encoder": adam, "decoder": adam, "frozen": optax.set_to_zero()}, param_labels)


def learning_rate(constants: Constants, part: str, step: Array) -> Array:
    """lr(t) = lr(0) (1 - t / steps)^decay_power"""
    return constants.learning_rates[part] * (1 - step / constants.steps) ** constants.decay_power


def average_decay(decay: Array, step: Array) -> Array:
    """Decay of the average at the step with this number, counted from 0: min(decay, (1 + step) / (10 + step)).

    As in TensorFlow's tf.train.ExponentialMovingAverage with `num_updates`. While the second is the smaller one, the
    mean age of what is averaged is a tenth of the steps that were made, so that a short run forgets its start: a fixed
    decay of 0.999 would keep 45 % of the variables before the first step for 800 steps.
    """
    return jnp.minimum(decay, (1 + step) / (10 + step))


def schedule(train: "ConfigDict") -> Callable[[int], dict[str, float]]:
    """Function of a step: the learning rate of each part, as `make` has it; `train` is `config.train`."""

    def rates(step: int) -> dict[str, float]:
        left = (1 - step / train.steps) ** train.decay_power
        return {part: train[f"{part}_lr"] * left for part in PARTS}

    return rates


def make(loss: Loss, tx: optax.GradientTransformation, param_labels: Tree, *, accumulate_steps: int = 1) -> Step:
    """`step(state, constants, batch) -> (state, means)`: one update from one device's share of the batch.

    Randomness depends on the seed, the step and a picture's place in the global batch, not on the number of devices or
    parts. `means` has `loss`, each of its terms, and `GRADIENT`.

    Args:
      loss: of the task.
      tx: `optimizer(param_labels)`.
      param_labels: a tree like the parameters: `encoder` and `decoder` have a learning rate each, `frozen` gets no
        gradient.
      accumulate_steps: number of parts of the share, which go through the loss one after the other. Each part is to
        the loss what a device's share is; gradients, means and batch statistics are averaged.
    """

    def step(state: TrainState, constants: Constants, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        def mean_loss(params: Params, batch: Batch, keys: Array) -> tuple[Array, tuple[Tree, dict[str, Array]]]:
            params = _stop_frozen(params, param_labels)
            read = _read_by_loss(state, constants)
            losses, (batch_stats, terms) = loss(params, state.batch_stats, read, batch, keys)
            return losses.mean(), (batch_stats, jax.tree.map(jnp.mean, {"loss": losses, **terms}))

        gradient = functools.partial(jax.grad(mean_loss, has_aux=True), state.params)
        keys = _keys(constants, state.step, batch)
        grads, (batch_stats, means) = _mean(gradient, accumulate_steps, batch, keys)
        vectors = jax.tree.map(lambda g, part: g if g.ndim < 2 and part != "frozen" else 0.0, grads, param_labels)
        means[GRADIENT] = optax.tree.norm(vectors)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        rates = {part: learning_rate(constants, part, state.step) for part in constants.learning_rates}
        updates = jax.tree.map(lambda u, part: -rates.get(part, 0.0) * u, updates, param_labels)
        params = optax.apply_updates(state.params, updates)
        average = _moved(state.average, params, batch_stats, average_decay(constants.average_decay, state.step))
        return TrainState(state.step + 1, params, batch_stats, opt_state, average), means

    return step


def several(step: Step) -> Callable:
    """`steps(state, (constants, pictures), indices) -> (state, means)`: one call of `step` after the other without the
    host in between; `means` are `[n]`, those of each step.

    `pictures` is a batch of all training pictures; `indices` `[B, n]` says which of them this device's share of each of
    n batches has. This is for accelerators: XLA:CPU is slow at convolutions in a loop.

    Args:
      step: of `make`.
    """

    def steps(
        state: TrainState, inputs: tuple[Constants, Batch], indices: Array
    ) -> tuple[TrainState, dict[str, Array]]:
        constants, pictures = inputs

        def one(state: TrainState, rows: Array) -> tuple[TrainState, dict[str, Array]]:
            return step(state, constants, jax.tree.map(lambda x: x[rows], pictures))

        return jax.lax.scan(one, state, indices.T)

    return steps


def gradient_norms(
    loss: Loss, terms: Sequence[str], param_labels: Tree, *, accumulate_steps: int = 1
) -> Callable[[TrainState, Constants, Batch], dict[str, Array]]:
    """`norms(state, constants, batch) -> {term: []}`: the Euclidean norm of each term's gradient by the encoder's
    parameters. It costs a backward pass for each term.

    Args:
      loss: of the task.
      terms: names of those to measure.
      param_labels: as in `make`.
      accumulate_steps: as in `make`.
    """

    def norms(state: TrainState, constants: Constants, batch: Batch) -> dict[str, Array]:
        keys = _keys(constants, state.step, batch)

        @jax.jit  # traced once for all terms
        def means(params: Params, batch: Batch, keys: Array) -> dict[str, Array]:
            params = _stop_frozen(params, param_labels)
            _, (_, found) = loss(params, state.batch_stats, _read_by_loss(state, constants), batch, keys)
            return {name: found[name].mean() for name in terms}

        def norm(name: str) -> Array:
            gradient = jax.grad(lambda *arguments: means(*arguments)[name])
            grads = _mean(functools.partial(gradient, state.params), accumulate_steps, batch, keys)
            return optax.tree.norm(jax.tree.map(lambda g, part: g if part == "encoder" else 0.0, grads, param_labels))

        return {name: norm(name) for name in terms}

    return norms


def _mean(function: Callable[[Batch, Array], Tree], parts: int, batch: Batch, keys: Array) -> Tree:
    """Mean of `function(batch, keys)`, a tree, over all devices and `parts` equal parts of the share of each."""

    def part(i: int) -> tuple[Batch, Array]:
        return jax.tree.map(lambda x: x.reshape(parts, len(x) // parts, *x.shape[1:])[i], (batch, keys))

    total = function(*part(0))
    for i in range(1, parts):  # unrolled: XLA:CPU is slow at convolutions in a loop
        next_batch, next_keys = part(i)
        total = jax.tree.map(jnp.add, total, function(after(total, next_batch), next_keys))
    mean = jax.tree.map(lambda x: x / parts, total)
    # XLA:CPU copies the data of a mean even over one device
    return mean if jax.lax.axis_size(AXIS) == 1 else jax.lax.pmean(mean, AXIS)


def _moved(average: Tree, params: Params, batch_stats: Tree, decay: Array) -> Tree:
    """average + (1 - decay) (variables - average): decay average + (1 - decay) variables, but what does not change
    stays to the bit."""
    if average is None:
        return None
    flat, now = flatten_dict(average), flatten_dict({"params": params, "batch_stats": batch_stats})
    return unflatten_dict({path: a + (1 - decay) * (now[path] - a) for path, a in flat.items()})


def _read_by_loss(state: TrainState, constants: Constants) -> Tree:
    """The constants of the task, and where there is one the `average`, see `averaged`: it gets no gradient."""
    if state.average is None:
        return constants.task
    return {**constants.task, "average": averaged(state.params, state.batch_stats, state.average)}


def _stop_frozen(params: Params, param_labels: Tree) -> Params:
    return jax.tree.map(lambda p, part: jax.lax.stop_gradient(p) if part == "frozen" else p, params, param_labels)


def _keys(constants: Constants, step: Array, batch: Batch) -> Array:
    local = batch["picture"].shape[0]
    place = jax.lax.axis_index(AXIS) * local + jnp.arange(local)
    key = jax.random.fold_in(jax.random.wrap_key_data(constants.key), step)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, place)
