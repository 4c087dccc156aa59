"""What a training step costs with the batch, the size of the pictures, the number of landmarks and of devices.

    python -m benchmarks.scaling [--encoder=resnet8] [--devices=1,2,4] [--json=scaling.json]

CTD-ED with its teacher, the demo's decoder; one thing changes at a time from 16 pictures of 128 pixels with 68
landmarks on one device. Every case is a process of its own; they take turns, and times are medians after warming up.
Devices are simulated on a CPU, whose cores they share: what they show there is the price of dividing a batch, not a
gain. About two minutes on 2 CPU cores with resnet8, the demo's encoder; resnet18 takes twice that.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.contestants import contestants, race
from benchmarks.step import Ours, machine, task

BASE = {"batch": 16, "size": 128, "landmarks": 68, "devices": 1}
TABLES = {"batch": (4, 16), "size": (64, 128), "landmarks": (20, 68, 200), "devices": (1, 2, 4)}


class Spread(Ours):
    """On simulated devices; nothing of JAX has been imported yet. On an accelerator the flag changes nothing."""

    def __init__(self, *, devices: int, cache: str, **case: Any):
        flag = f"--xla_force_host_platform_device_count={devices}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # of a GPU's memory, which all processes share
        import jax

        from ctd_jax.training import memory

        memory.keep()
        jax.config.update("jax_compilation_cache_dir", cache)  # what makes the weights is the same in most cases
        self._start(task(**case), case["batch"])


def measure(cases: list[dict[str, int]], encoder: str, repeats: int) -> list[dict[str, Any]]:
    """Seconds of a step and pictures/s of each case; the memory is the process's or the device's most."""
    known = {"encoder": encoder, "teacher": True, "model.decoder_channels": (64, 64)}
    with (
        tempfile.TemporaryDirectory() as cache,
        contestants({str(case): (Spread, known | {"cache": cache} | case) for case in cases}) as runners,
    ):
        times = race(runners, "train", repeats)
        return [
            case
            | {
                "seconds": times[str(case)]["seconds"],
                "images_per_s": case["batch"] / times[str(case)]["seconds"],
                "first_call_s": times[str(case)]["first"],
                "peak_memory_mib": runners[str(case)]("memory") / 2**20,
            }
            for case in cases
            if str(case) in times
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="resnet8", help="resnet8, resnet18, ... (resnet8)")
    for axis, values in TABLES.items():
        text = ",".join(map(str, values))
        parser.add_argument(f"--{axis}", default=text, help=f"to compare ({text})")
    parser.add_argument("--repeats", type=int, default=5, help="measured steps of each (5)")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    args = parser.parse_args()
    values = {axis: [int(value) for value in getattr(args, axis).split(",")] for axis in TABLES}
    cases = {axis: [BASE | {axis: value} for value in values[axis]] for axis in TABLES}
    unique = {str(case): case for part in cases.values() for case in part}
    results = measure(list(unique.values()), args.encoder, args.repeats)
    for axis in TABLES:
        print(f"\n{axis:<12}{'ms':>9}{'images/s':>10}{'MiB':>8}{'first call, s':>15}")
        for row in results:
            if {key: row[key] for key in BASE} in cases[axis]:
                numbers = f"{1e3 * row['seconds']:9.1f}{row['images_per_s']:10.1f}{row['peak_memory_mib']:8.0f}"
                print(f"{row[axis]:<12}{numbers}{row['first_call_s']:15.1f}")
    if args.json:
        known = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "encoder": args.encoder}
        args.json.write_text(json.dumps(known | {"results": results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
