"""Memory of the process and of the devices."""

import contextlib
import ctypes
import dataclasses
import gc
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import psutil

from ctd_jax.errors import UserError

if TYPE_CHECKING:
    import jax
    from jax.stages import Compiled, Wrapped
    from ml_collections import ConfigDict

    from ctd_jax.training.step import TrainState
    from ctd_jax.typing import Tree

LARGE = 2**28  # bytes of a step, from which on it is worth some time to have them once
POCKET = 2**27  # bytes, of addresses: what is never used takes no memory
ADVICE_OF_NORMS = "give --config.eval.gradient_norms=False, which changes nothing else"
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # malloc.h of glibc


def keep() -> None:
    """Asks glibc to keep freed memory for the next step. Otherwise every step on a CPU gets its gigabytes anew from the
    kernel, page by page, which takes a seventh of the time of a step of ResNet-50. Call it before there are threads; it
    does nothing without Linux and glibc."""
    if libc := _glibc():
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)  # never


def give_back() -> None:
    """Gives the system what is free and was kept. For the end of compiling and both ends of evaluating: what a step
    has left is of no use to an evaluation, whose own would come on top, and the other way about. The next step gets its
    own anew, once."""
    if libc := _glibc():
        libc.malloc_trim(ctypes.c_size_t(0))


def give_back_after_compiling(size: int) -> None:
    """`give_back`, and of a large step also what JAX keeps of the functions that it has traced, 70 MiB for ResNet-50.
    What is compiled ahead of its calls stays; anything else is traced anew when it is called.

    Args:
      size: bytes that exist only during a step, see `of_step`.
    """
    import jax

    if size > LARGE:
        jax.clear_caches()
        gc.collect()
    give_back()


def make_pocket() -> None:
    """Leaves a place for small things beside what steps will have: glibc takes the smallest free place that is large
    enough. In the middle of what a step has left they would make the next one get all of its own anew."""
    if libc := _glibc():
        libc.malloc.restype = libc.realloc.restype = ctypes.c_void_p
        pocket, wall = (ctypes.c_void_p(libc.malloc(ctypes.c_size_t(POCKET))) for _ in range(2))
        libc.free(pocket)
        libc.realloc(wall, ctypes.c_size_t(1))


@contextlib.contextmanager
def without_a_steps(size: int) -> Iterator[None]:
    """Context, between two steps, in which their memory is the system's, but not its addresses.

    What is computed in between, and what of it stays, would lie in the middle of what the last step had, and the next
    one would get all of its own anew. So these addresses are taken, and never written to, which costs no memory.

    Args:
      size: bytes that exist only during a step, see `of_step`.
    """
    give_back()
    libc = _glibc()
    if libc:
        libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
        held = libc.malloc(ctypes.c_size_t(size))
    try:
        yield
    finally:
        if libc:
            libc.free(held)
        give_back()


class _Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"
    )]  # fmt: skip


def in_use() -> int | None:
    """Bytes that the process has got from glibc and not freed; None without glibc 2.33."""
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (OSError, TypeError, AttributeError):
        return None
    mallinfo2.restype = _Mallinfo2
    found = mallinfo2()
    return found.uordblks + found.hblkhd


def resident() -> int:
    """Bytes of the process that are in memory."""
    return psutil.Process().memory_info().rss


def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
    return libc if hasattr(libc, "gnu_get_libc_version") else None


class TooLarge(UserError):
    """A step needs more memory than there is."""

    def __init__(self, message: str, need: "Need", limit: int):
        super().__init__(message)
        self.need = need
        self.limit = limit


@dataclasses.dataclass(frozen=True)
class Need:
    """Bytes of a compiled training step on each device."""

    parameters: int
    optimizer: int
    activations: int  # and everything else that exists only during a step
    total: int  # with the teacher and the batch
    average: int = 0  # of the variables, see `step.first_average`

    @classmethod
    def of(cls, compiled: "Compiled", state: "TrainState") -> "Need":
        """What the compiler has planned for a step of `state`."""
        parameters, optimizer, average = map(_bytes, (state.params, state.opt_state, state.average))
        return cls(parameters, optimizer, _plan(compiled).temp_size_in_bytes, _all(compiled), average)

    def divided(self, parts: int) -> int:
        """Total, if the pictures go through the network in `parts` equal parts, one after the other."""
        return self.total - self.activations + self.activations // parts

    def part_that_fits(self, limit: int) -> float:
        """Share of the activations for which there is room beside the rest; below 0 if there is none for the rest."""
        return (limit - self.total + self.activations) / self.activations

    def text(self, limit: int | None) -> str:
        parts = f"parameters {_text(self.parameters)}, optimiser {_text(self.optimizer)}, "
        parts += f"average {_text(self.average)}, " if self.average else ""
        parts += f"activations {_text(self.activations)}, in all {_text(self.total)}"
        return parts + (f" of {_text(limit)}" if limit else "")


def compile_step(
    step: "Wrapped",
    state: "TrainState",
    constants: "Tree",
    batch: "Tree",
    train: "ConfigDict",
    devices: "Sequence[jax.Device]",
    norms: "Compiled | None" = None,
) -> "Compiled":
    """Compiles a training step for its arguments, and prints what memory the training needs.

    Args:
      step: of `Parallel.compile`.
      state, constants, batch: its arguments, on the devices.
      train: `config.train`.
      devices: those that it runs on.
      norms: of `compile_norms`; None: none are measured, or what they need is not known.

    Raises:
      TooLarge: the step needs more memory than there is.
      UserError: the norms do.
    """
    import jax

    with advising(advice_of_step(train, len(devices))):
        compiled = step.lower(state, constants, batch).compile()
    give_back_after_compiling(of_step(compiled, devices))
    make_pocket()
    need, free = Need.of(compiled, state), limit(devices)
    if jax.process_index() == 0:
        each = f" of each of {len(devices)} devices" if len(devices) > 1 else ""
        text = need.text(free)
        if devices[0].platform == "cpu":
            text += f"; with the program, {_text(resident() + of_step(compiled, devices))}"
            if norms:
                text += f", and {_text(resident() + of_step(norms, devices))} where gradient norms are measured"
        print(f"memory{each}: {text}", file=sys.stderr)
    check(need, free, train, len(devices))
    if norms and free is not None and (size := _all(norms)) > free:
        raise UserError(
            f"the gradient norms of the terms do not fit into a device's memory: they need {_text(size)} of "
            f"{_text(free)}; {ADVICE_OF_NORMS}"
        )
    return compiled


def compile_norms(norms: "Wrapped", state: "TrainState", constants: "Tree", batch: "Tree") -> "Compiled":
    """Compiles `step.gradient_norms`, from `Parallel.compile`, for its arguments, on the devices."""
    with advising(ADVICE_OF_NORMS):
        return norms.lower(state, constants, batch).compile()


def of_step(compiled: "Compiled", devices: "Sequence[jax.Device]") -> int:
    """Bytes that exist only while a compiled step, or another program, runs, on those of the devices that are this
    process's."""
    return len(_local(devices)) * _plan(compiled).temp_size_in_bytes


def _all(compiled: "Compiled") -> int:
    """Bytes of a program and of its arguments on each device."""
    plan = _plan(compiled)
    arguments = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
    return int(arguments + plan.temp_size_in_bytes)


def _plan(compiled: "Compiled") -> Any:
    plan = compiled.memory_analysis()
    assert plan is not None, "every backend of JAX has one"
    return plan


def _local(devices: "Sequence[jax.Device]") -> "list[jax.Device]":
    import jax

    return [device for device in devices if device.process_index == jax.process_index()]


def check(need: Need, limit: int | None, train: "ConfigDict", devices: int) -> None:
    """Checks that a step fits into the memory of a device.

    Args:
      need: of the step.
      limit: bytes of a device; None: unknown.
      train: `config.train`.
      devices: their number.

    Raises:
      TooLarge: it doesn't; the message has advice.
    """
    if limit is not None and need.total > limit:
        raise TooLarge(
            f"a step with {train.batch_size} pictures does not fit into a device's memory: {need.text(limit)}; "
            f"{advice_of_step(train, devices, need, limit)}",
            need,
            limit,
        )


@contextlib.contextmanager
def advising(advice: str) -> Iterator[None]:
    """Context in which an allocator's error becomes a UserError with this advice."""
    import jax

    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        first = str(error).splitlines()[0]
        raise UserError(f"a device ran out of memory ({first}); {advice}") from error


def advice_of_evaluation(batch_size: int, devices: int) -> str:
    """What to do where pictures that are only looked at don't fit: each device looks at one or more at once."""
    if batch_size <= devices:
        return "give a smaller --config.data.image_size, or another network: even one picture at once is too much"
    return f"give --config.eval.batch_size={batch_size // 2}, or less, which changes no result"


def advice_of_step(train: "ConfigDict", devices: int, need: Need | None = None, limit: int | None = None) -> str:
    """What to do where a step of training does not fit: into `limit`, if it is known what it needs."""
    at_once = train.batch_size // (devices * train.accumulate_steps)
    fits = [parts for parts in range(2, at_once + 1) if at_once % parts == 0]
    if need is not None and limit is not None:
        fits = [parts for parts in fits if need.divided(parts) <= limit]
    ways = ["a smaller --config.data.image_size, or another network: even one picture at once is too much"]
    if fits:
        about = f" (about {_text(need.divided(fits[0]))})" if need else ""
        ways = [
            f"--config.train.accumulate_steps={train.accumulate_steps * fits[0]}{about}",
            f"--config.train.batch_size={train.batch_size // fits[0]}{about}",
        ]
    if not train.remat:
        ways.append("--config.train.remat=True (fewer activations, more time; not with domains.norm)")
    return f"give {', or '.join(ways)}"


def limit(devices: "Sequence[jax.Device]") -> int | None:
    """Bytes that each of the devices can give to a program; None: unknown. The devices of a CPU share what the machine
    has left."""
    local = _local(devices)
    stats = local[0].memory_stats()
    if stats:
        return stats.get("bytes_limit")
    return available() // len(local)


def available(root: pathlib.Path = pathlib.Path("/")) -> int:
    """Bytes that this process can still get from the system, and on Linux from its control groups.

    Args:
      root: of the file system, where proc/ and sys/ are.
    """
    free: float = psutil.virtual_memory().available
    try:
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        groups = []
    for line in groups:
        _, kinds, path = line.split(":", 2)
        if kinds in ("", "memory"):  # version 2, version 1
            top = root / "sys/fs/cgroup" / kinds
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes") if kinds else ("memory.max", "memory.current")
            here = top / path.lstrip("/")
            for group in (here, *here.parents[: len(here.parts) - len(top.parts)]):
                free = min(free, _left(group, *files))
    return int(free)


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


def _bytes(tree: "Tree") -> int:
    """Size of a tree of arrays on one of its devices."""
    import jax

    return sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(tree))


def _text(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
