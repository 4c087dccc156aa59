"""What the radius and the score of unlike pictures cost: a prediction with both, beside one with neither.

    python -m benchmarks.trust --workdir=RUN [--calls=60] [--json=trust.json]

The network of a finished run sees eight pictures of its size at a time. The two take turns, call by call, in an order
that changes. Seconds are those of the processors, of all threads, so that other programs do not count; the cost is
the median of the paired differences over the median of a prediction with neither.
"""

import argparse
import json
import pathlib
import time
from collections.abc import Callable

import numpy as np

from ctd_jax import Predictor, files
from ctd_jax.tasks.landmarks.trained import original_xy
from ctd_jax.training.parallel import Parallel

BATCH = 8
WARM = 5  # calls that do not count


def measure(workdir: pathlib.Path, calls: int) -> dict[str, float]:
    """Seconds of the processors for each of the two, and the cost in %."""
    import jax

    trained = Predictor(workdir).trained
    if not trained.evidence:
        raise SystemExit(trained.lacks)
    evidence = trained.evidence
    size, parallel = trained.config.data.image_size, Parallel(trained.config.parallel)
    variables = parallel.replicate(trained.folded())
    look = parallel.compile(trained.look_for(evidence.radius.doubt), sharded=True)
    plain = parallel.compile(lambda *args: {k: trained.look(*args)[k] for k in ("xy", "confidence")}, sharded=True)
    pictures = np.random.default_rng(0).integers(0, 256, (BATCH, size, size, 3), np.uint8)
    batch, names = parallel.shard({"picture": pictures}), dict.fromkeys(range(BATCH), pictures[0])
    frames = np.zeros((BATCH, 2)), np.ones(BATCH)

    def without() -> None:
        seen = jax.device_get(plain(variables, batch))
        original_xy(seen["xy"], *frames)

    def with_both() -> None:
        from ctd_jax.tasks.trained import Seen

        trained.read_off([Seen(jax.device_get(look(variables, batch)), *frames, size)], names)

    seconds: dict[Callable[[], None], list[float]] = {without: [], with_both: []}
    for i in range(WARM + calls):
        for call in (without, with_both) if i % 2 else (with_both, without):
            began = time.process_time()
            call()
            seconds[call].append(time.process_time() - began)
    before, after = (np.array(seconds[call][WARM:]) for call in (without, with_both))
    found = {"without_ms": 1000 * float(np.median(before)), "with_ms": 1000 * float(np.median(after))}
    found["cost_percent"] = 100 * float(np.median(after - before) / np.median(before))
    return (
        found
        | {"pictures": BATCH, "size": size, "landmarks": len(trained.names), "calls": calls}
        | {"doubt": evidence.radius.doubt or "none"}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="of a finished run of landmarks")
    parser.add_argument("--calls", type=int, default=60)
    parser.add_argument("--json", type=pathlib.Path, help="the file to write")
    args = parser.parse_args()
    found = measure(args.workdir, args.calls)
    print(json.dumps(found, indent=1))
    if args.json:
        files.write_text(args.json, json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
