"""Where the time of a step and of a prediction goes: layer by layer beside PyTorch, and by kinds of operations.

    pip install torch        # on a machine without GPU: its CPU build
    python -m benchmarks.layers [--batch=2,8] [--json=layers.json]

The network of `benchmarks/step.py`: SimpleBaseline on ResNet-50, 256x256, 68 landmarks, on a CPU in float32. Every kind
of convolution in it goes alone through XLA as `ctd_jax/models/layers.py` writes it, and through PyTorch (oneDNN,
channels_last): forward, gradient of the input, gradient of the kernel. The two are processes of their own that take
turns, call by call, and both keep freed memory. Times are processor time of all cores, divided by their number, the
least of the calls: so other programs count little, and waiting for another core does not count. The peak is that of a
2048x2048 matrix product, the best of either side.

Then the whole step and its operations in the compiled program, with their bytes (`benchmarks/compiled.py`).
About five minutes on 2 CPU cores.
"""

import argparse
import collections
import dataclasses
import functools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import compiled, contestants, step

DIRECTIONS = ("forward", "input gradient", "kernel gradient")
MATRIX = 2048  # side of the product whose speed is the peak
CASE = {"size": 256, "landmarks": 68, "teacher": True}


@dataclasses.dataclass(frozen=True)
class Layer:
    """A kind of convolution, or of 4x4 deconvolution with stride 2."""

    deconvolution: bool
    kernel: int
    stride: int
    map: int  # side of the input
    inputs: int
    outputs: int

    def __str__(self) -> str:
        kind = "deconvolution " if self.deconvolution else ""
        stride = f", stride {self.stride}" if self.stride > 1 and not self.deconvolution else ""
        return f"{kind}{self.kernel}x{self.kernel}, {self.map}x{self.map}x{self.inputs} to {self.outputs}{stride}"

    @property
    def output_map(self) -> int:
        return 2 * self.map if self.deconvolution else -(-self.map // self.stride)

    @property
    def flops(self) -> int:
        """Of one direction for one picture, a multiply-add counting two."""
        cells = self.map if self.deconvolution else self.output_map
        return 2 * cells**2 * self.kernel**2 * self.inputs * self.outputs


def layers_of(model: Any, size: int) -> tuple[collections.Counter, collections.Counter]:
    """How often each `Layer` is in a network, and how often in its encoder."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp

    from ctd_jax.models.deconvolution import Deconv
    from ctd_jax.models.layers import Conv

    everywhere, encoder = collections.Counter(), collections.Counter()

    def watch(call: Callable, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        module = context.module
        if isinstance(module, (Conv, Deconv)):
            kernel, stride = (4, 2) if isinstance(module, Deconv) else (module.size, module.stride)
            _, side, _, inputs = args[0].shape
            layer = Layer(isinstance(module, Deconv), kernel, stride, side, inputs, module.features)
            everywhere[layer] += 1
            encoder[layer] += module.path[0] == "encoder"
        return call(*args, **kwargs)

    with nn.intercept_methods(watch):
        init = functools.partial(model.init, train=False)
        jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, size, size, 3)))
    return everywhere, encoder


class Ours:
    """Single layers through XLA; a contestant of `contestants.Contestant`."""

    steps_per_call = 1

    def __init__(self):
        from ctd_jax.training import memory

        memory.keep()

    def prepare(self, layer: Layer, batch: int) -> str:
        """Compiles the three directions of a layer."""
        import jax
        import jax.numpy as jnp

        from ctd_jax.models.deconvolution import Deconv
        from ctd_jax.models.layers import Conv

        module: Any = Conv(layer.outputs, layer.kernel, layer.stride, layer.kernel // 2)
        if layer.deconvolution:
            module = Deconv(layer.outputs)

        def form(x: jax.Array, kernel: jax.Array) -> jax.Array:
            return module.apply({"params": {"kernel": kernel}}, x)

        draw = functools.partial(jax.random.normal, dtype=jnp.float32)
        x = draw(jax.random.key(0), (batch, layer.map, layer.map, layer.inputs))
        kernel = draw(jax.random.key(1), (layer.kernel, layer.kernel, layer.inputs, layer.outputs))
        g = draw(jax.random.key(2), (batch, layer.output_map, layer.output_map, layer.outputs))
        gradients = [
            jax.jit(lambda x, kernel, g: jax.vjp(lambda x: form(x, kernel), x)[1](g)),
            jax.jit(lambda x, kernel, g: jax.vjp(lambda kernel: form(x, kernel), kernel)[1](g)),
        ]
        calls = [functools.partial(jax.jit(form), x, kernel), *(functools.partial(f, x, kernel, g) for f in gradients)]
        matrix = jnp.ones((MATRIX, MATRIX))
        calls.append(functools.partial(jax.jit(jnp.matmul), matrix, matrix))
        self._calls = dict(zip((*DIRECTIONS, "product"), calls, strict=True))
        for call in calls:
            jax.block_until_ready(call())
        return "ready"

    def run(self, direction: str) -> float:
        """Seconds of processor time of a call, per core."""
        import jax

        start = time.process_time()
        jax.block_until_ready(self._calls[direction]())
        return (time.process_time() - start) / (os.cpu_count() or 1)


class Torch:
    """The same through PyTorch."""

    steps_per_call = 1

    def __init__(self):
        os.environ["OMP_WAIT_POLICY"] = "passive"  # threads that wait use no processor time
        import torch

        from ctd_jax.training import memory

        memory.keep()
        torch.set_num_threads(os.cpu_count() or 1)
        torch.set_grad_enabled(False)

    def prepare(self, layer: Layer, batch: int) -> str:
        import torch

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(shape).contiguous(memory_format=torch.channels_last)

        x, g = (
            draw(batch, channels, side, side)
            for channels, side in ((layer.inputs, layer.map), (layer.outputs, layer.output_map))
        )
        channels = (layer.inputs, layer.outputs) if layer.deconvolution else (layer.outputs, layer.inputs)
        kernel, pad = draw(*channels, layer.kernel, layer.kernel), 1 if layer.deconvolution else layer.kernel // 2
        options = ([layer.stride] * 2, [pad] * 2, [1, 1], layer.deconvolution, [0, 0], 1)
        backward = torch.ops.aten.convolution_backward
        matrix = torch.ones(MATRIX, MATRIX)
        self._calls = {
            "forward": lambda: torch.convolution(x, kernel, None, *options),
            "input gradient": lambda: backward(g, x, kernel, None, *options, [True, False, False]),
            "kernel gradient": lambda: backward(g, x, kernel, None, *options, [False, True, False]),
            "product": lambda: matrix @ matrix,
        }
        for call in self._calls.values():
            call()
        return "ready"

    def run(self, direction: str) -> float:
        start = time.process_time()
        self._calls[direction]()
        return (time.process_time() - start) / (os.cpu_count() or 1)


def race(layers: list[Layer], batch: int, repeats: int) -> tuple[dict[Layer, dict[str, dict[str, float]]], float]:
    """Least seconds of each side for each direction of each layer, and the peak in FLOP/s."""
    found, products = {}, []
    with contestants.contestants({"ctd_jax": (Ours, {}), "PyTorch": (Torch, {})}) as runners:
        for layer in layers:
            for runner in runners.values():
                runner("prepare", layer, batch)
            found[layer] = {}
            for direction in DIRECTIONS:
                turns = [{name: runner("run", direction) for name, runner in runners.items()} for _ in range(repeats)]
                found[layer][direction] = {name: min(turn[name] for turn in turns) for name in runners}
            products += [runner("run", "product") for _ in range(2) for runner in runners.values()]
    return found, 2 * MATRIX**3 / min(products)


def table(batch: int, repeats: int) -> dict[str, Any]:
    """Rows of the layers, the one first where the step could win most; see `show`."""
    job = step.task(batch=batch, **CASE)
    network, encoder = layers_of(job.model, CASE["size"])
    times, peak = race(list(network), batch, repeats)
    rows = []
    for layer, directions in times.items():
        first = layer.inputs == 3  # nothing learns before it
        counts = (network[layer] + encoder[layer], 0 if first else network[layer], network[layer])
        row = {"layer": str(layer), "in_prediction": network[layer], "gflop": batch * layer.flops / 1e9}
        for direction, count in zip(DIRECTIONS, counts, strict=True):
            seconds = directions[direction]
            ours, theirs = seconds["ctd_jax"], seconds.get("PyTorch", float("nan"))
            speed = batch * layer.flops / ours
            row[direction] = {
                "in_step": count,
                "ms": 1e3 * ours,
                "torch_ms": 1e3 * theirs,
                "gflops": speed / 1e9,
                "share_of_peak": speed / peak,
                "to_win_ms": 1e3 * count * (ours - theirs),
            }
        row["to_win_ms"] = sum(row[direction]["to_win_ms"] for direction in DIRECTIONS)
        rows.append(row)
    rows.sort(key=lambda row: -row["to_win_ms"])
    return {"batch": batch, "peak_gflops": peak / 1e9, "sums": sums(rows), "layers": rows}


def sums(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Milliseconds of all layers of a step, by direction, and of a prediction: ours and PyTorch's."""
    counted = {direction: [(row[direction]["in_step"], row[direction]) for row in rows] for direction in DIRECTIONS}
    counted["prediction"] = [(row["in_prediction"], row["forward"]) for row in rows]
    return {
        what: {side: sum(n * times[side] for n, times in entries) for side in ("ms", "torch_ms")}
        for what, entries in counted.items()
    }


def show(found: dict[str, Any]) -> None:
    print(f"\nbatch {found['batch']}, peak {found['peak_gflops']:.0f} GFLOP/s; each cell: times in a step, ms of ours")
    print("(share of the peak), ms of PyTorch's; last: ms that a step would win at PyTorch's speed")
    print(f"{'':36}" + "".join(f"{direction:>25}" for direction in DIRECTIONS))
    for row in found["layers"]:
        cells = "".join(
            f"{cell['in_step']:4d} x{cell['ms']:6.1f} ({cell['share_of_peak']:3.0%}){cell['torch_ms']:7.1f}"
            for cell in (row[direction] for direction in DIRECTIONS)
        )
        print(f"{row['layer']:<36}{cells}{row['to_win_ms']:8.1f}")
    for what, both in found["sums"].items():
        print(f"all layers, {what}: {both['ms']:.0f} ms, PyTorch's {both['torch_ms']:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", default="2,8", help="pictures in a batch, one or several (2,8)")
    parser.add_argument("--repeats", type=int, default=7, help="measured calls of each direction of a layer (7)")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    args = parser.parse_args()
    import jax

    result: dict[str, Any] = {"machine": step.machine(), "date": time.strftime("%Y-%m-%d"), "jax": jax.__version__}
    result |= {"layers": [], "operations": []}
    for batch in map(int, args.batch.split(",")):
        result["layers"].append(table(batch, args.repeats))
        show(result["layers"][-1])
        with contestants.contestants({"ctd_jax": (compiled.Ours, {"batch": batch, **CASE})}) as runners:
            for call in ("train", "predict"):
                result["operations"].append(runners["ctd_jax"]("operations", call))
                compiled.show(result["operations"][-1])
        if args.json:
            args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
