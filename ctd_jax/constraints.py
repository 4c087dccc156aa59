"""Terms that keep the student close to the teacher on the same pictures, per picture; the caller takes the mean."""

import jax
import optax
from jax import Array

from ctd_jax.errors import UserError


def encoder_distance(student: Array, teacher: Array) -> Array:
    """Cosine distance between the maps of the two encoders (CTD-ED).

    L_i = 1 - <s_i, t_i> / (|s_i| |t_i|)      (Fu et al. 2020, Eq. 4)

    A reconstruction: the text says cosine, the axes are lost. We flatten each map.

    Args:
      student: `[B, ...]` features of the network being trained.
      teacher: same shape, features of the frozen network; gets no gradient.

    Returns:
      `[B]` float32 in [0, 2].

    Raises:
      UserError: the shapes differ.
    """
    if student.shape != teacher.shape:
        raise UserError(
            f"constraints.ed ties features of equal shape, but the student's are {student.shape} and the teacher's "
            f"{teacher.shape}; choose other `constraints.ed.layers`, or a teacher of the student's architecture"
        )
    teacher = jax.lax.stop_gradient(teacher)
    batch = student.shape[0]
    return optax.losses.cosine_distance(
        student.reshape(batch, -1).astype("float32"), teacher.reshape(batch, -1).astype("float32"), epsilon=1e-12
    )
