"""Memory of the process and of the devices."""

import contextlib
import ctypes
import dataclasses
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ctd_jax.errors import UserError

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # malloc.h of glibc


def keep() -> None:
    """Asks glibc to keep freed memory for the next step. Otherwise every step on a CPU gets its gigabytes anew from the
    kernel, page by page: a seventh of the time of a ResNet-50's. Call it before there are threads; elsewhere than on
    Linux with glibc it does nothing."""
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018
    except (AttributeError, OSError, TypeError):
        return
    libc.mallopt(_M_ARENA_MAX, 1)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, -1)  # never


@dataclasses.dataclass(frozen=True)
class Need:
    """Bytes of a compiled training step on each device."""

    parameters: int
    optimizer: int
    activations: int  # and all else that is there during a step only
    total: int  # with the teacher and the batch

    @classmethod
    def of(cls, compiled: Any, state: Any) -> "Need":
        """As the compiler planned it; `state`: the step's `TrainState`."""
        plan = compiled.memory_analysis()
        arguments = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
        temporary = plan.temp_size_in_bytes
        return cls(_bytes(state.params), _bytes(state.opt_state), temporary, arguments + temporary)

    def divided(self, parts: int) -> int:
        """Total, if so many times fewer pictures are in the network at once."""
        return self.total - self.activations + self.activations // parts

    def text(self, limit: int | None) -> str:
        parts = f"parameters {_text(self.parameters)}, optimiser {_text(self.optimizer)}, "
        parts += f"activations {_text(self.activations)}, in all {_text(self.total)}"
        return parts + (f" of {_text(limit)}" if limit else "")


def compile_step(
    step: Callable, state: Any, constants: Any, batch: Any, train: Any, devices: Sequence[Any]
) -> Callable:
    """Compiles a training step for its arguments, and says what memory it needs.

    Args:
      step: of `Parallel.compile`.
      state, constants, batch: on the devices.
      train: `config.train`.
      devices: that it runs on.

    Raises:
      UserError: it needs more than there is.
    """
    import jax

    with advising(train, devices):
        compiled = step.lower(state, constants, batch).compile()
    need, free = Need.of(compiled, state), limit(devices)
    if jax.process_index() == 0:
        each = f" of each of {len(devices)} devices" if len(devices) > 1 else ""
        print(f"memory{each}: {need.text(free)}", file=sys.stderr)
    check(need, free, train, len(devices))
    return compiled


def check(need: Need, limit: int | None, train: Any, devices: int) -> None:
    """Raises UserError, with advice, if a step needs more than `limit`, the bytes of a device (None: unknown).

    Args:
      train: `config.train`.
      devices: their number.
    """
    if limit is not None and need.total > limit:
        raise UserError(
            f"a step with {train.batch_size} pictures does not fit into a device's memory: {need.text(limit)}; "
            f"{_advice(train, devices, need, limit)}"
        )


@contextlib.contextmanager
def advising(train: Any, devices: Sequence[Any]) -> Iterator[None]:
    """Context in which an allocator's error becomes a UserError with advice."""
    import jax

    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        first = str(error).splitlines()[0]
        raise UserError(f"a device ran out of memory ({first}); {_advice(train, len(devices))}") from error


def _advice(train: Any, devices: int, need: Need | None = None, limit: int | None = None) -> str:
    at_once = train.batch_size // (devices * train.accumulate_steps)
    fits = [k for k in range(2, at_once + 1) if at_once % k == 0 and (not need or need.divided(k) <= limit)]
    ways = ["a smaller --config.data.image_size, or another network: even one picture at once is too much"]
    if fits:
        about = f" (about {_text(need.divided(fits[0]))})" if need else ""
        ways = [f"--config.train.{key}={value}{about}" for key, value in (
            ("accumulate_steps", train.accumulate_steps * fits[0]), ("batch_size", train.batch_size // fits[0])
        )]  # fmt: skip
    if not train.remat:
        ways.append("--config.train.remat=True (fewer activations, more time; not with domains.norm)")
    return f"give {', or '.join(ways)}"


def limit(devices: Sequence[Any]) -> int | None:
    """Bytes that each of the devices can give to a program; None: unknown. A CPU's share what the machine has left."""
    import jax

    local = [device for device in devices if device.process_index == jax.process_index()]
    stats = local[0].memory_stats()
    if stats:
        return stats.get("bytes_limit")
    free = available()
    return free and free // len(local)


def available(root: pathlib.Path = pathlib.Path("/")) -> int | None:
    """Bytes that this process can still get, from Linux and from the control groups it is in; None elsewhere.

    root: of the file system, where proc/ and sys/ are.
    """
    try:
        lines = (root / "proc/meminfo").read_text(encoding="utf-8").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, StopIteration):
        return None
    for line in groups:
        _, kinds, path = line.split(":", 2)
        if kinds in ("", "memory"):  # version 2, version 1
            top = root / "sys/fs/cgroup" / kinds
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes") if kinds else ("memory.max", "memory.current")
            here = top / path.lstrip("/")
            for group in (here, *here.parents[: len(here.parts) - len(top.parts)]):
                free = min(free, _left(group, *files))
    return free


def _left(group: pathlib.Path, limit_file: str, usage_file: str) -> float:
    """Bytes that a control group can still get; files that are only cached don't count as used."""
    try:
        limit, used = ((group / name).read_text(encoding="utf-8").strip() for name in (limit_file, usage_file))
        cached = dict(line.split() for line in (group / "memory.stat").read_text(encoding="utf-8").splitlines())
    except OSError:
        return float("inf")
    if limit == "max":
        return float("inf")
    return int(limit) - int(used) + int(cached.get("total_inactive_file", cached.get("inactive_file", 0)))


def _bytes(tree: Any) -> int:
    """On one device."""
    import jax

    return sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(tree))


def _text(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
