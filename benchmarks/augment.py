"""What augmentation costs: a training step with everything on, beside one with only flip, scale and shift.

    python -m benchmarks.augment [--encoders=mobilefacenet] [--size=112] [--batch=8] [--json=augment.json]

FT (no teacher), the demo's decoder. Each of the two is a process of its own and they take turns, step by step. Seconds
are those of the processors, so that other programs do not count; medians after warming up. Beside them the augmentation
of a batch alone.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contestants import contestants, race
from benchmarks.step import Ours, machine

PLACES = {"flip": 0.5, "scale": 0.25, "shift": 0.05}
EVERYTHING = PLACES | {
    "rotation": 20.0, "aspect": 0.1, "brightness": 0.2, "contrast": 0.3, "gamma": 0.3, "colour": 0.1, "blur": 0.01,
    "noise": 0.03, "occlusion": 0.3,
}  # fmt: skip
FORMS = {"flip, scale, shift": PLACES, "everything": EVERYTHING}


class Step(Ours):
    """A training step, in seconds of the processors."""

    def train(self) -> float:
        start = time.process_time()
        super().train()
        return time.process_time() - start


class Alone:
    """The augmentation of a batch, without a network, in seconds of the processors."""

    steps_per_call = 1

    def __init__(self, *, batch: int, size: int, augment: dict[str, float]):
        import jax

        from ctd_jax import data
        from ctd_jax.data import augment as room

        settings = data.Augmentation(**augment)

        def one(key: jax.Array, picture: jax.Array) -> jax.Array:
            return room.move_picture(room.random_affine(key, settings), room.change_greys(key, picture, settings))

        self._call = jax.jit(jax.vmap(one))
        self._keys = jax.random.split(jax.random.key(0), batch)
        self._pictures = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)

    def train(self) -> float:
        start = time.process_time()
        self._call(self._keys, self._pictures).block_until_ready()
        return time.process_time() - start


def measure(encoder: str, batch: int, size: int, repeats: int) -> dict[str, Any]:
    """Seconds of the processors for a step with each of `FORMS`, and by how much everything is more; `encoder` "": for
    the augmentation alone."""
    case = {"batch": batch, "size": size}
    network = {"landmarks": 68, "teacher": False, "encoder": encoder, "model.decoder_channels": (64, 64)}
    makers = {
        name: (Step, case | network | {f"augment.{key}": value for key, value in form.items()})
        if encoder
        else (Alone, case | {"augment": form})
        for name, form in FORMS.items()
    }
    with contestants(makers) as runners:
        times = race(runners, "train", repeats)
    before, after = (times[name]["seconds"] for name in FORMS)
    return {"encoder": encoder or "none", **case, "seconds": [before, after], "more": after / before - 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", default="mobilefacenet", help="networks (mobilefacenet)")
    parser.add_argument("--size", type=int, default=112, help="side of the pictures, pixels (112)")
    parser.add_argument("--batch", type=int, default=8, help="pictures in a batch (8)")
    parser.add_argument("--repeats", type=int, default=25, help="measured steps of each (25)")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    args = parser.parse_args()
    results = []
    for encoder in ("", *args.encoders.split(",")):
        results.append(measure(encoder, args.batch, args.size, args.repeats))
        before, after = (1e3 * seconds for seconds in results[-1]["seconds"])
        more = f"{results[-1]['more']:+.1%}" if encoder else ""
        print(f"{encoder or 'augmentation alone':<20}{before:9.1f} ms{after:9.1f} ms  {more}", flush=True)
    if args.json:
        known = {"machine": machine(), "date": time.strftime("%Y-%m-%d")}
        args.json.write_text(json.dumps(known | {"results": results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
