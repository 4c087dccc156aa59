"""Everything that a machine with a GPU or TPU has to tell, unattended, in minutes.

    python -m benchmarks.accelerator --out=DIR [--minutes=10] [--tiny]

Parts, in this order, each a process of its own:

* memory: what the compiler plans for a training step, beside the most that the device (on a CPU the process) had.
* schedule: 200 steps of the paper's variant on drawn pictures, and how long its whole schedule would take at this pace.
* export: the network of this run as StableHLO on this device, and as ONNX where onnxruntime has a provider for it,
  beside StableHLO on the CPU: the largest difference, and milliseconds a picture.
* step: `benchmarks.step` at batch 64 and 2: bfloat16 beside PyTorch's forms where it is installed, the share of the
  measured peak, one step a dispatch, and the decoder by lax.conv_transpose. It takes longest, and what it has found
  when the time is over is kept.

A part that ends with an error, or that the time is not enough for, is named with its reason, and the next goes on.
What is compiled is kept in DIR/cache, for the parts that come later and for the next call: of the minutes on an H200
most go into compiling, 15 to 30 s for each program.
Writes DIR/accelerator.json and accelerator.md after each part, and DIR/PART.log. --tiny shrinks networks, pictures and
schedule until a CPU does all of it in about a minute: it shows that the program works, and its figures mean nothing.
"""

import argparse
import contextlib
import csv
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

from ctd_jax.text_table import text_table

CALLS = 20  # behind each time of `export`


class Size(NamedTuple):
    """How large everything is."""

    encoder: str
    decoder_channels: tuple[int, ...]
    image_size: int
    batches: tuple[int, ...]  # of `step`; `memory` has the first
    identities: tuple[int, int, int]  # drawn people in train, val and test
    steps: int
    repeats: int


FULL = Size("resnet50", (256, 256, 256), 256, (64, 2), (300, 20, 20), 200, 5)
TINY = Size("resnet8", (8, 8), 32, (2,), (8, 2, 2), 20, 1)


def step(size: Size, out: Path) -> dict[str, Any]:
    _run(
        "benchmarks.step", f"--batch={','.join(map(str, size.batches))}", f"--encoder={size.encoder}",
        f"--size={size.image_size}", "--kinds=train,predict", f"--repeats={size.repeats}",
        f"--json={out / 'step.json'}", *(["--no-torch"] if size is TINY else []),
    )  # fmt: skip
    return _read(out / "step.json")


def memory(size: Size, out: Path) -> dict[str, Any]:
    from benchmarks.contestants import peak_memory
    from benchmarks.step import Ours

    case = {"image_size": size.image_size, "batch": size.batches[0], "encoder": size.encoder}
    ours = Ours(
        batch=case["batch"], size=size.image_size, landmarks=68, teacher=True, encoder=size.encoder,
        **{"model.decoder_channels": size.decoder_channels},
    )  # fmt: skip
    need = ours.compile()
    for _ in range(3):
        ours.train()
    peak = peak_memory("jax")
    return case | {"planned_bytes": need.total, "peak_bytes": peak, "peak_over_planned": peak / need.total}


def schedule(size: Size, out: Path) -> dict[str, Any]:
    import jax
    import jax.numpy as jnp

    from configs import ctd_ed
    from ctd_jax import models
    from ctd_jax.tasks.teacher import IMAGENET
    from ctd_jax.training import devices

    whole = ctd_ed.get_config("paper").train
    net, teacher, workdir = models.build_encoder(size.encoder), out / "teacher.safetensors", out / "run"
    with devices.host():
        variables = jax.jit(lambda: net.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), train=False))()
    models.weight_file.save(teacher, variables, {"encoder": {"name": size.encoder}, "input": IMAGENET})
    _run(
        "ctd_jax.main", "--config=configs/ctd_ed.py:paper", f"--workdir={workdir}", "--config.data.root=synthetic",
        f"--config.data.synthetic.identities={size.identities}", f"--config.data.image_size={size.image_size}",
        f"--config.model.encoder={size.encoder}", f"--config.model.decoder_channels={size.decoder_channels}",
        f"--config.teacher.weights={teacher}", f"--config.train.steps={size.steps}",
        f"--config.eval.every={size.steps}", *(["--config.train.batch_size=4"] if size is TINY else []),
    )  # fmt: skip
    batch = _read(workdir / "config.json")["train"]["batch_size"]
    with open(workdir / "log.csv", encoding="utf-8", newline="") as file:
        rates = [float(row["images_per_s"]) for row in csv.DictReader(file) if row["images_per_s"]]
    seconds = batch / statistics.median(rates[1:])
    return {
        "batch": batch, "seconds_per_step": seconds, "steps": whole.steps,
        "whole_schedule_hours": whole.steps * seconds / 3600,
    }  # fmt: skip


def export(size: Size, out: Path) -> dict[str, Any]:
    import jax

    pictures = np.random.default_rng(0).integers(0, 256, (1, size.image_size, size.image_size, 3), np.uint8)
    stablehlo, onnx = out / "landmarks.stablehlo", out / "landmarks.onnx"
    _run("ctd_jax.export", f"--workdir={out / 'run'}", "--to=stablehlo", f"--out={stablehlo}")
    network = jax.jit(jax.export.deserialize(bytearray(stablehlo.read_bytes())).call)
    with jax.default_device(jax.devices("cpu")[0]):
        expected = np.asarray(network(pictures)[0])
    found = {}

    def measure(name: str, call: Callable[[], Any]) -> None:
        found[name] = {"largest_difference_px": float(np.abs(call() - expected).max()), "ms": _milliseconds(call)}

    measure(f"StableHLO, {jax.devices()[0].device_kind}", lambda: np.asarray(network(pictures)[0]))
    try:
        import onnxruntime
    except ImportError:
        return {"files": found, "left_out": "ONNX: no onnxruntime"}
    _run("ctd_jax.export", f"--workdir={out / 'run'}", "--to=onnx", f"--out={onnx}")
    for provider in onnxruntime.get_available_providers():
        if provider in ("CPUExecutionProvider", "CUDAExecutionProvider"):
            session = onnxruntime.InferenceSession(onnx, providers=[provider])
            measure(f"ONNX, {provider}", lambda session=session: session.run(["xy"], {"picture": pictures})[0])
    return {"files": found}


PARTS: dict[str, Callable[[Size, Path], dict[str, Any]]] = {
    part.__name__: part for part in (memory, schedule, export, step)
}


def run(part: str, args: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """What a part has found, in a process of its own, whose output is in PART.log."""
    file, log = args.out / f"{part}.json", args.out / f"{part}.log"
    file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.accelerator", f"--out={args.out}", f"--part={part}"]
    began, why = time.monotonic(), ""
    with open(log, "w", encoding="utf-8") as output:
        kept = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(args.out / "cache")}
        process = psutil.Popen([*command, *(["--tiny"] if args.tiny else [])], stdout=output, stderr=output, env=kept)
        try:
            if process.wait(timeout=max(seconds, 1)):
                why = f"it failed: {(log.read_text('utf-8', 'replace').strip().splitlines() or ['no output'])[-1]}"
        except psutil.TimeoutExpired:
            why = f"the time was over after {time.monotonic() - began:.0f} s"
            for one in [*process.children(recursive=True), process]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            process.wait()
    found = _read(file) if file.exists() else {}
    return {"seconds": time.monotonic() - began} | ({"left_out": why} if why else {}) | {"found": found}


def page(result: Mapping[str, Any]) -> str:
    """The figures, for people."""
    lines = [f"# {result['machine']}", "", f"{result['date']}, jax {result['jax']}"]
    if result["tiny"]:
        lines += ["", "**Tiny: these figures mean nothing.**"]
    for part, told in result["parts"].items():
        lines += ["", f"## {part}", ""]
        if "left_out" in told:
            lines += [f"Not all of it: {told['left_out']} ({part}.log).", ""]
        if told["found"]:
            lines += ["```", *TABLES[part](told["found"]).splitlines(), "```"]
    return "\n".join(lines) + "\n"


def _table_of_step(found: Mapping[str, Any]) -> str:
    rows = [["", "batch", "", "ms", "images/s", "of peak", "MiB", "compiled in s"]]
    for one in found["results"]:
        for name, entry in one["times"].items():
            flops = one.get("gflop", 0) / entry["seconds"]
            rows.append([
                one["kind"], str(one["batch"]), name, f"{1e3 * entry['seconds']:.2f}", f"{entry['images_per_s']:.1f}",
                f"{flops / found['peak_gflops']:.0%}" if flops else "", f"{entry['peak_memory_mib']:.0f}",
                f"{entry['compile_s']:.1f}",
            ])  # fmt: skip
    ratios = [f"{one['kind']}, batch {one['batch']}: {one['ratio']:.2f}" for one in found["results"] if "ratio" in one]
    speeds = [f"speed over PyTorch's fastest form: {'; '.join(ratios)}"] if ratios else []
    return "\n".join(
        [
            *text_table(rows, "<  >  <  >  >  >  >  >", rule=True),
            f"peak {found['peak_gflops'] / 1e3:.2f} TFLOP/s",
            *speeds,
        ]
    )


def _table_of_memory(found: Mapping[str, Any]) -> str:
    planned, peak = (found[key] / 2**30 for key in ("planned_bytes", "peak_bytes"))
    return f"batch {found['batch']}: planned {planned:.2f} GiB, peak {peak:.2f} GiB ({found['peak_over_planned']:.2f})"


def _table_of_schedule(found: Mapping[str, Any]) -> str:
    return (
        f"batch {found['batch']}: {1e3 * found['seconds_per_step']:.1f} ms a step with its pictures; "
        f"{found['steps']} steps take {found['whole_schedule_hours']:.2f} hours"
    )


def _table_of_export(found: Mapping[str, Any]) -> str:
    rows = [["", "largest difference, px", "ms"]]
    rows += [[name, f"{one['largest_difference_px']:.2g}", f"{one['ms']:.2f}"] for name, one in found["files"].items()]
    return "\n".join([*text_table(rows, "<  >  >", rule=True), *([found["left_out"]] if "left_out" in found else [])])


TABLES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "step": _table_of_step,
    "memory": _table_of_memory,
    "schedule": _table_of_schedule,
    "export": _table_of_export,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the figures and the logs")
    parser.add_argument("--minutes", type=float, default=10, help="for everything together (10)")
    parser.add_argument("--tiny", action="store_true", help="only see whether the program works")
    parser.add_argument("--part", choices=PARTS, help="this part alone, in this process")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.part:
        found = PARTS[args.part](TINY if args.tiny else FULL, args.out)
        (args.out / f"{args.part}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        return
    end = time.monotonic() + 60 * args.minutes
    # in a process of its own: this one would hold the accelerator
    about = "import json, jax; from benchmarks.step import machine; print(json.dumps([machine(), jax.__version__]))"
    told = subprocess.run([sys.executable, "-c", about], check=True, stdout=subprocess.PIPE, text=True).stdout
    machine, version = json.loads(told.splitlines()[-1])
    parts: dict[str, Any] = {}
    result = {"machine": machine, "date": time.strftime("%Y-%m-%d"), "jax": version, "tiny": args.tiny, "parts": parts}
    for part in PARTS:
        print(f"{part} ...", file=sys.stderr, flush=True)
        parts[part] = run(part, args, end - time.monotonic())
        (args.out / "accelerator.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        (args.out / "accelerator.md").write_text(page(result), encoding="utf-8")
    print(page(result))
    if any("left_out" in told for told in parts.values()):
        sys.exit(1)


def _read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _run(module: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", module, *arguments], check=True)


def _milliseconds(call: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(CALLS):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return 1e3 * statistics.median(seconds)


if __name__ == "__main__":
    main()
