"""The training step: pure, per device, the same for every task."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import Array

from ctd_jax.parallel import AXIS

# (params, batch_stats, frozen, batch, keys) -> ([B] loss, (batch_stats, {name: [B] term})); one random key per picture.
Loss = Callable[[Any, Any, Any, dict[str, Array], Array], tuple[Array, tuple[Any, dict[str, Array]]]]


@flax.struct.dataclass
class TrainState:
    """All that training changes."""

    step: Array
    params: Any
    batch_stats: Any
    opt_state: Any


def optimizer(config_train: Any, labels: Any) -> optax.GradientTransformation:
    """Adam with a polynomially decaying learning rate for each label, `encoder` and `decoder`.

    lr(t) = lr(0) (1 - t / steps)^decay_power
    """
    return optax.partition({part: optax.adam(schedule(config_train, part)) for part in ("encoder", "decoder")}, labels)


def schedule(config_train: Any, part: str) -> optax.Schedule:
    """Learning rate over the steps for `part`, "encoder" or "decoder"."""
    return optax.polynomial_schedule(
        config_train[f"{part}_lr"], 0.0, config_train.decay_power, transition_steps=config_train.steps
    )


def make(loss: Loss, tx: optax.GradientTransformation, seed: int) -> Callable:
    """`step(state, frozen, batch) -> (state, means)`: one update from one device's share of the batch.

    `frozen` is a tree the loss may read and never changes (the teacher). Randomness depends on the seed, the step and a
    picture's place in the global batch, not on the number of devices. `means` has `loss` and each of its terms.
    """

    def step(state: TrainState, frozen: Any, batch: dict[str, Array]) -> tuple[TrainState, dict[str, Array]]:
        local = batch["picture"].shape[0]
        place = jax.lax.axis_index(AXIS) * local + jnp.arange(local)
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, place)

        def mean_loss(params):
            losses, (batch_stats, terms) = loss(params, state.batch_stats, frozen, batch, keys)
            return losses.mean(), (batch_stats, jax.tree.map(jnp.mean, {"loss": losses, **terms}))

        grads, (batch_stats, means) = jax.grad(mean_loss, has_aux=True)(state.params)
        grads, means, batch_stats = jax.lax.pmean((grads, means, batch_stats), AXIS)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        state = TrainState(state.step + 1, optax.apply_updates(state.params, updates), batch_stats, opt_state)
        return state, means

    return step
