"""The devices that a run computes on: printed at its start, with a warning where others were wanted."""

import contextlib
import logging
import os
import pathlib
import sys
import traceback
from typing import Any

from ctd_jax import versions

# Files of a driver -> what the machine has then, and how JAX learns of it.
DRIVERS = {
    "/proc/driver/nvidia/version": ("an NVIDIA GPU", "pip install 'jax[cuda12]'"),
    "/dev/kfd": ("an AMD GPU", "pip install 'jax[rocm]'"),
    "/dev/accel0": ("a TPU", "pip install 'jax[tpu]'"),
}
_log = logging.getLogger(__name__)


def report() -> None:
    """Prints versions and devices in one line on stderr, and warns where an accelerator is not used."""
    import jax

    print(versions.line(versions.describe()), file=sys.stderr, flush=True)
    platforms = jax.config.jax_platforms  # type: ignore[attr-defined]  # JAX's types leave this setting out
    wanted = [name for name in (platforms or "").split(",") if name]
    if jax.default_backend() != "cpu" or wanted == ["cpu"]:
        return
    if wanted:
        _log.warning("JAX_PLATFORMS is %s, but JAX found no %s and computes on the CPU", ",".join(wanted), wanted[0])
        return
    for file, (what, remedy) in DRIVERS.items():
        if pathlib.Path(file).exists():
            _log.warning("this machine seems to have %s, but JAX computes on the CPU; %s lets it use it, "
                         "JAX_PLATFORMS=cpu says that the CPU is meant", what, remedy)  # fmt: skip


def host() -> contextlib.AbstractContextManager[Any]:
    """While the block runs, JAX computes on this machine's CPU: for what is small and comes once, which the compiler of
    an accelerator takes longer over (ResNet-50's initial weights: 23 s). Nothing changes where there is none, or where
    JAX_PLATFORMS leaves the CPU out."""
    import jax

    if jax.default_backend() != "cpu":
        with contextlib.suppress(RuntimeError):
            return jax.default_device(jax.local_devices(backend="cpu")[0])
    return contextlib.nullcontext()


def explain(error: BaseException) -> str | None:
    """The message for a user whose JAX can't start on the devices that JAX_PLATFORMS asks for; None: `error` is another
    one."""
    text = str(error).partition(" (set JAX_PLATFORMS=")[0].rstrip(".")
    frames = traceback.extract_tb(error.__traceback__)
    is_bare = isinstance(error, AssertionError) and frames and frames[-1].filename.endswith("xla_bridge.py")
    if not (text.startswith("Unable to initialize backend") or is_bare):
        return None
    wanted = os.environ.get("JAX_PLATFORMS", "")
    return (
        f"JAX_PLATFORMS is {wanted!r}, and JAX can't start on it: {text or 'it finds no such device'}; unset it, or "
        "give what is there (cpu always is). For an NVIDIA GPU, pip install 'jax[cuda12]'"
    )
