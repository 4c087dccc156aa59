"""What XLA:CPU made of a training step or of a prediction: its operations by kind, read from the compiled HLO.

The profile of the runtime would give times of single operations, but those by Eigen end in it before they are done.
"""

import collections
import dataclasses
import math
import os
import re
import time
from typing import Any

from benchmarks import step

KINDS = {
    "library": "products and convolutions by YNNPACK",
    "library sum": "sums by YNNPACK",
    "Eigen": "products and convolutions by Eigen",
    "loop": "loops of XLA's own that compute",
    "move": "copies, transposes, slices",
    "other": "sub-programs (sorting, loops of the program)",
}
FREE = {"parameter", "constant", "bitcast", "tuple", "get-tuple-element", "partition-id", "replica-id"}
MOVING = FREE | {"copy", "transpose", "reshape", "slice", "pad", "concatenate", "reverse", "broadcast", "dynamic-slice"}
BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s64": 8, "u64": 8, "f64": 8}
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_OPERATION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation of the compiled program."""

    kind: str  # key of KINDS
    bytes: int  # that it reads and writes, if it reads its operands once


def operations(text: str) -> list[Operation]:
    """Those of the entry computation that do something.

    Args:
      text: `compiled.as_text()`.
    """
    computations, entry, lines = {}, "", []
    for line in text.splitlines():
        if match := _COMPUTATION.match(line):
            lines = computations[match[1]] = []
            entry = match[1] if line.startswith("ENTRY") else entry
        elif match := _OPERATION.match(line):
            lines.append(match.groups())
    codes = {name: {code for _, _, code, _ in lines} for name, lines in computations.items()}
    size = {name: _bytes(shape) for name, shape, _, _ in computations[entry]}
    found = []
    for _, shape, code, rest in computations[entry]:
        if code in FREE:
            continue
        kind = _kind(code, rest, codes)
        arguments = re.findall(r"%([\w.\-]+)", rest.partition(")")[0])
        read = _bytes(shape) if kind == "move" else sum(size.get(argument, 0) for argument in arguments)
        found.append(Operation(kind, read + _bytes(shape)))
    return found


def _kind(code: str, rest: str, codes: dict[str, set[str]]) -> str:
    """A key of KINDS; `codes` are the operations within each computation."""
    called = re.search(r"(?:calls|to_apply)=%?([\w.\-]+)", rest)
    within = codes[called[1]] if called and code in ("fusion", "call") else {code}
    if "_fusion" in rest and "kind=kCustom" in rest or code == "custom-call":
        return "library" if within & {"dot", "convolution", "custom-call"} else "library sum"
    if within & {"dot", "convolution"}:
        return "Eigen"
    if within <= MOVING:
        return "move"
    return "other" if within & {"while", "call", "sort", "conditional"} else "loop"


def _bytes(shape: str) -> int:
    """Of an HLO shape, `f32[8,64,64,256]{3,2,1,0}` or a tuple of such."""
    arrays = re.findall(r"([a-z]+\d*)\[([\d,]*)\]", shape)
    return sum(BYTES.get(kind, 4) * math.prod(map(int, filter(None, sides.split(",")))) for kind, sides in arrays)


class Ours(step.Ours):
    """The program of `ctd_jax.main`; a contestant of `contestants.Contestant`."""

    def operations(self, call: str) -> dict[str, Any]:
        """Milliseconds of "train" or "predict" in processor time per core, number and MiB of each of KINDS in it."""
        arguments: tuple[Any, ...] = (self._state, self._inputs, self._argument())
        program = self._step
        if call == "predict":
            program = self._forward
            arguments = self._pictures()
        result = collections.defaultdict(lambda: {"number": 0, "mib": 0.0})
        for one in operations(program.lower(*arguments).compile().as_text()):
            result[one.kind]["number"] += 1
            result[one.kind]["mib"] += one.bytes / 2**20
        least = min(self._seconds(call) for _ in range(4))
        return {"call": call, "batch": len(self._batch["picture"]), "ms": 1e3 * least, "kinds": dict(result)}

    def _seconds(self, call: str) -> float:
        """Processor time of a call, per core."""
        start = time.process_time()
        getattr(self, call)()
        return (time.process_time() - start) / (os.cpu_count() or 1)


def show(result: dict[str, Any]) -> None:
    print(f"\n{result['call']}, batch {result['batch']}: {result['ms']:.0f} ms; its operations")
    for kind, text in KINDS.items():
        if row := result["kinds"].get(kind):
            print(f"  {text:<46}{row['number']:6d}{row['mib']:9.0f} MiB")
