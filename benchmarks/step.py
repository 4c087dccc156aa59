"""Our training step and our prediction beside the same network in plain PyTorch (`benchmarks/torch_baseline.py`).

    pip install torch        # on a machine without GPU: its CPU build
    python -m benchmarks.step [--batch=2,8] [--json=step.json] [--compare=old.json]

SimpleBaseline on ResNet-50, 256x256, 68 landmarks; training with a teacher (CTD-ED's term) and without, prediction.
Every contestant is a process of its own and they take turns, call by call, so that a busy machine slows all of them;
times are medians after warming up. float32 on a CPU; on a GPU bfloat16 (ours) and autocast (PyTorch). There our
pictures stay on the device and ten steps are one dispatch; one step a dispatch, and the decoder by lax.conv_transpose,
are timed beside. Ratios are our images/s over those of the fastest of PyTorch's forms, so more than 1 is faster than
PyTorch; `train_ratio` and `predict_ratio` are the lowest over the batches, `..._to_eager` those to its plain form.
"""

import argparse
import contextlib
import itertools
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contestants import contestants, race

TORCH = {
    "torch": {"channels_last": False, "compiled": False},
    "torch channels_last": {"channels_last": True, "compiled": False},
    "torch.compile": {"channels_last": True, "compiled": True},
}
OURS_ON_ACCELERATORS = {
    "train": {
        "ctd_jax, one step a dispatch": {"data.on_device": "no"},
        "ctd_jax, conv_transpose": {"model.deconv": "transpose"},
    },
    "predict": {"ctd_jax, conv_transpose": {"model.deconv": "transpose"}},
}
KINDS = ("train", "train without teacher", "predict")
MATRIX = {"cpu": 2048, "gpu": 8192}  # side of the product whose speed is the peak


def pictures(batch: int, size: int, landmarks: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (batch, size, size, 3), np.uint8), rng.uniform(0, size - 1, (batch, landmarks, 2))


def task(*, batch: int, size: int, landmarks: int, teacher: bool, encoder: str = "resnet50", **overrides: Any) -> Any:
    """Our `LandmarkTask` with random weights and random pictures, in the paper's variant.

    Args:
      batch: pictures in a batch.
      size: side of the network's picture, pixels.
      landmarks: number of landmarks.
      teacher: whether there is one.
      encoder: its name.
      overrides: dotted key of the configuration -> value.
    """
    import jax
    import jax.numpy as jnp
    from ml_collections import ConfigDict

    from configs import ctd_ed
    from ctd_jax import data, models
    from ctd_jax.tasks.landmarks import LandmarkTask
    from ctd_jax.tasks.teacher import IMAGENET
    from ctd_jax.training import devices

    split_of = [*["train"] * batch, "val", "test"]
    picture, xy = pictures(len(split_of), size, landmarks)
    unknown = np.full((len(split_of), 4), np.nan)
    names = tuple(f"p{i}" for i in range(landmarks))
    pairs = tuple((names[i], names[i + 1]) for i in range(0, landmarks - 1, 2))
    everything = data.Dataset(
        images=tuple(map(str, range(len(split_of)))),
        subjects=tuple(map(str, range(len(split_of)))),
        targets=data.Points(data.Landmarks(names, pairs), xy),
        spacing=unknown[:, :2],
        boxes=unknown,
        original=lambda i: picture[i],
        size=size,
        margin=0.0,
        cache_mib=2048,
    )
    config: ConfigDict = ctd_ed.get_config("paper")
    config.constraints.ed.weight = 1e-3 if teacher else 0.0
    config.model.encoder, config.data.image_size, config.train.batch_size = encoder, size, batch
    config.augment.shift = 0.05
    config.update_from_flattened_dict(overrides)
    net = models.build_encoder(encoder)
    with devices.host():
        variables = jax.jit(lambda: net.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), train=False))()
    with tempfile.TemporaryDirectory() as folder:
        config.teacher.weights = f"{folder}/teacher.safetensors"
        models.weight_file.save(config.teacher.weights, variables, {"encoder": {"name": encoder}, "input": IMAGENET})
        return LandmarkTask(config, data.SplitPictures(everything, split_of, ("",) * len(split_of)))


class Ours:
    """The program of `ctd_jax.main`."""

    def __init__(self, *, batch: int, **case: Any):
        import jax

        from ctd_jax.training import memory

        memory.keep()
        if jax.default_backend() == "cpu":  # a GPU compiles for half a minute: keep it
            jax.config.update("jax_enable_compilation_cache", False)
        self._start(task(batch=batch, **case), batch)

    def _start(self, job: Any, batch: int) -> None:
        from ctd_jax.tasks.landmarks import forward
        from ctd_jax.training import devices, feed, step
        from ctd_jax.training.parallel import Parallel

        self._parallel = Parallel(job.config.parallel)
        with devices.host():
            variables = job.init(0)
            labels = job.param_labels(variables["params"])
            tx = step.optimizer(labels)
            state = step.TrainState(
                np.zeros((), np.int32), variables["params"], variables["batch_stats"], tx.init(variables["params"])
            )
        self._state, constants = self._parallel.replicate(
            (state, step.constants(job.config.seed, job.config.train, job.constants))
        )
        plan = feed.Plan(job.config.train.steps, job.config.eval.every, job.config.train.batch_size, job.config.seed)
        self._feed = feed.choose(job.train, plan, self._parallel, job.config.data.on_device)
        self._inputs = self._feed.inputs(constants)
        body = self._feed.body(step.make(job.loss, tx, labels))
        self._step = self._parallel.compile(body, sharded=False, donate=(0,))
        self._compiled = None
        self.steps_per_call = feed.LOG_INTERVAL if isinstance(self._feed, feed.DeviceFeed) else 1
        self._forward = self._parallel.compile(forward(job.model, job.teacher.input), sharded=True)
        self._batch = job.train.batch(np.arange(batch))
        self._job, self._folded = job, None

    def _argument(self) -> Any:
        return self._feed.example()

    def compile(self) -> Any:
        """Compiles the training step before its first call, as a training does; returns its `memory.Need`."""
        from ctd_jax.training import memory, pace

        devices = self._parallel.devices
        self._compiled = self._step.lower(self._state, self._inputs, self._argument()).compile()
        size = memory.of_step(self._compiled, devices)
        memory.give_back_after_compiling(size)
        self._pace = pace.Pace(devices[0].platform, size)
        return memory.Need.of(self._compiled, self._state)

    def train(self) -> None:
        import jax

        if self._compiled is None:
            self.compile()
        self._state, means = self._compiled(self._state, self._inputs, self._argument())
        self._pace.add(means)
        jax.block_until_ready(means)

    def predict(self) -> None:
        self._parallel.gather(self._forward(*self._pictures()))

    def _pictures(self) -> tuple[Any, Any]:
        """What prediction takes; a training does not hold its folded weights."""
        from ctd_jax import models

        if self._folded is None:
            state = self._parallel.first(self._state)
            variables = {"params": state.params, "batch_stats": state.batch_stats}
            self._folded = self._parallel.replicate(models.fold(self._job.model, variables, self._job.size))
        return self._folded, self._parallel.shard({"picture": self._batch["picture"]})


class Torch:
    """`benchmarks/torch_baseline.py`."""

    library, steps_per_call = "torch", 1

    def __init__(self, *, batch: int, size: int, landmarks: int, **form: Any):
        import torch

        from benchmarks import torch_baseline

        torch.set_num_threads(os.cpu_count())
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._train, self._predict, self._wait = torch_baseline.make(
            num_landmarks=landmarks, size=size, device=device, **form
        )
        picture, xy = pictures(batch, size, landmarks)
        self._host = torch.from_numpy(picture), torch.from_numpy(xy.astype(np.float32))
        self._device = device

    def train(self) -> None:
        self._train(*(x.to(self._device) for x in self._host))
        self._wait()

    def predict(self) -> None:
        self._predict(self._host[0].to(self._device))
        self._wait()

    def flops(self) -> float:
        from benchmarks import torch_baseline

        return torch_baseline.flops(self._train, *(x.to(self._device) for x in self._host))


def peak_flops() -> float:
    """FLOP/s of a large matrix product: the peak that a step could reach."""
    import jax
    import jax.numpy as jnp

    kind = jax.default_backend()
    n = MATRIX.get(kind, 4096)
    x = jnp.ones((n, n), jnp.float32 if kind == "cpu" else jnp.bfloat16)
    product = jax.jit(lambda x: x @ x)
    product(x).block_until_ready()
    start = time.perf_counter()
    for _ in range(5):
        y = product(x)
    y.block_until_ready()
    return 5 * 2 * n**3 / (time.perf_counter() - start)


def measure(batch: int, kind: str, args: argparse.Namespace) -> dict[str, Any]:
    import jax

    case = {"batch": batch, "size": args.size, "landmarks": args.landmarks, "teacher": kind == "train"}
    forms = {} if args.no_torch else TORCH
    forms = {name: form for name, form in forms.items() if name != "torch.compile" or not args.no_compile}
    call = kind.split()[0]
    ours = {"ctd_jax": {}} | (OURS_ON_ACCELERATORS[call] if jax.default_backend() != "cpu" else {})
    makers = {name: (Ours, case | {"encoder": args.encoder} | form) for name, form in ours.items()} | {
        name: (Torch, case | form) for name, form in forms.items()
    }
    with contestants(makers) as runners:
        times = race(runners, call, args.repeats)
        for name, entry in times.items():
            entry["images_per_s"] = batch / entry["seconds"]
            entry["peak_memory_mib"] = runners[name]("memory") / 2**20
            entry["compile_s"] = max(entry.pop("first") - entry["seconds"], 0.0)
        flops = runners["torch"]("flops") if call == "train" and "torch" in runners else None
    result = {"batch": batch, "kind": kind, "times": times}
    theirs = [entry["seconds"] for name, entry in times.items() if name in TORCH]
    if theirs:
        result["ratio"] = min(theirs) / times["ctd_jax"]["seconds"]
    if "torch" in times:
        result["ratio_to_eager"] = times["torch"]["seconds"] / times["ctd_jax"]["seconds"]
    if flops:
        result["gflop"] = flops / 1e9
    return result


def show(result: dict[str, Any], peak: float) -> None:
    print(f"\n{result['kind']}, batch {result['batch']}")
    for name, entry in result["times"].items():
        share = f"{result['gflop'] * 1e9 / entry['seconds'] / peak:6.0%} of peak" if "gflop" in result else ""
        print(
            f"  {name:<22}{1e3 * entry['seconds']:9.1f} ms {entry['images_per_s']:8.2f} images/s  {share}"
            f"{entry['peak_memory_mib']:8.0f} MiB  compiled in {entry['compile_s']:5.1f} s"
        )
    if "ratio" in result:
        print(f"  ratio {result['ratio']:.2f} to PyTorch's fastest form, {result['ratio_to_eager']:.2f} to eager")
    if "gflop" in result:
        floor = result["gflop"] * 1e9 / peak
        print(f"  floor {1e3 * floor:.0f} ms: {result['gflop']:.0f} GFLOP at {peak / 1e9:.0f} GFLOP/s", flush=True)


def compare(results: list[dict[str, Any]], old: dict[str, Any]) -> None:
    """Ratios to PyTorch, today's and the old: what the machine does to both sides cancels."""
    before = {(result["batch"], result["kind"]): result.get("ratio") for result in old["results"]}
    print(f"\nratio to PyTorch's fastest form: now / {old['date']} ({old['machine']})")
    for result in results:
        was = before.get((result["batch"], result["kind"]))
        if was and "ratio" in result:
            change = result["ratio"] / was - 1
            verdict = "SLOWER" if change < -0.05 else ""
            name = f"{result['kind']}, batch {result['batch']}"
            print(f"  {name:<34}{result['ratio']:.2f} / {was:.2f}  {change:+.0%} {verdict}")


def machine() -> str:
    """What the figures were measured on."""
    import jax

    device = jax.devices()[0].device_kind
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
        widest = "AVX-512" if any("avx512f" in line for line in lines) else "AVX2"
        return f"{device}, {os.cpu_count()} cores, {model} ({widest})"
    return f"{device}, {os.cpu_count()} cores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", default="2,8", help="pictures in a batch, one or several (2,8)")
    parser.add_argument("--size", type=int, default=256, help="side of the pictures, pixels (256)")
    parser.add_argument("--landmarks", type=int, default=68, help="landmarks (68)")
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"any of: {', '.join(KINDS)}")
    parser.add_argument("--repeats", type=int, default=7, help="measured calls of each contestant (7)")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out (it takes minutes)")
    parser.add_argument("--no-torch", action="store_true", help="leave PyTorch out")
    parser.add_argument("--encoder", default="resnet50", help="ours; PyTorch's is always the default (resnet50)")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--compare", type=Path, help="a file that --json wrote: shows what has become slower")
    args = parser.parse_args()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the contestants share the device
    peak, results = peak_flops(), []
    for batch, kind in itertools.product(map(int, args.batch.split(",")), args.kinds.split(",")):
        results.append(measure(batch, kind, args))
        peak = max(peak, peak_flops())
        show(results[-1], peak)
        if args.json:
            args.json.write_text(json.dumps(summary(results, peak, args), indent=1) + "\n", encoding="utf-8")
    if args.compare:
        compare(results, json.loads(args.compare.read_text(encoding="utf-8")))


def summary(results: list[dict[str, Any]], peak: float, args: argparse.Namespace) -> dict[str, Any]:
    """What --json writes, after each measurement."""
    import jax

    ratios = {
        f"{call}_{ratio}": min(result[ratio] for result in results if result["kind"] == call and ratio in result)
        for call, ratio in itertools.product(("train", "predict"), ("ratio", "ratio_to_eager"))
        if any(result["kind"] == call and ratio in result for result in results)
    }
    known = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "jax": jax.__version__}
    known |= {"size": args.size, "landmarks": args.landmarks, "peak_gflops": peak / 1e9}
    return known | ratios | {"results": results}


if __name__ == "__main__":
    main()
