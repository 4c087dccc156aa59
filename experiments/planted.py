"""How many planted label slips does `ctd-jax check` find, and how many pictures does it name that have none?

    python -m experiments.planted ../shared/data/faces_fgnet ../shared/data/ceph_isbi2015

In a copy of a landmark folder's points, 5 % of the pictures get a slip of each kind, no picture two:

    sides  left and right exchanged, where dataset.json has flip_pairs
    two    two landmarks exchanged, any two, so also neighbours that lie nearly in one place
    far    one point moved in any direction by 0.2 to 1 of the shape's size, its points' root mean square distance from
           their middle

Then the points alone are looked at (`ctd_jax.inspection.label_slips`): `named` are the planted pictures that are named,
`right` those that are named with the right kind and landmarks, `others` the pictures without a planted slip that are
named. All of these count as false, though the data have mistakes of their own. The row `untouched` is of the folder as
it is. The limits of label_slips.py were chosen with the seeds 0 to 7; the default seeds are others. Prints the table
and writes experiments/planted.json.
"""

import argparse
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ctd_jax import command
from ctd_jax.data import landmark_folder
from ctd_jax.data.faults import Faults
from ctd_jax.inspection import label_slips
from ctd_jax.text_table import text_table

HERE = pathlib.Path(__file__).parent
SHARE = 0.05  # of the pictures, for each kind
MOVED = (0.2, 1.0)  # of the shape's size
KINDS = {"sides": label_slips.SIDES, "two": label_slips.TWO, "far": label_slips.FAR}
Planted = dict[int, tuple[str, tuple[int, ...]]]  # picture -> kind, and landmarks


def plant(xy: np.ndarray, flip_order: Sequence[int] | None, seed: int) -> tuple[np.ndarray, Planted]:
    """A copy of the points `[N, K, 2]` with slips, and where they are; `flip_order`: see `label_slips.find`."""
    random, xy = np.random.default_rng(seed), xy.copy()
    number, K = xy.shape[:2]
    rows = random.permutation(np.flatnonzero(~np.isnan(xy).any((1, 2)))).tolist()
    each, planted = round(SHARE * number), {}
    for kind in KINDS if flip_order else ("two", "far"):
        for row in (rows.pop() for _ in range(each)):
            if kind == "sides":
                assert flip_order is not None
                landmarks = tuple(k for k, other in enumerate(flip_order) if k != other)
                xy[row] = xy[row, list(flip_order)]
            elif kind == "two":
                a, b = landmarks = tuple(sorted(random.choice(K, 2, replace=False).tolist()))
                xy[row, [a, b]] = xy[row, [b, a]]
            else:
                landmarks = (int(random.integers(K)),)
                size = np.sqrt(((xy[row] - xy[row].mean(0)) ** 2).sum(-1).mean())
                angle, distance = random.uniform(0, 2 * np.pi), random.uniform(*MOVED) * size
                xy[row, landmarks[0]] += distance * np.array([np.cos(angle), np.sin(angle)])
            planted[row] = kind, landmarks
    return xy, planted


def measure(xy: np.ndarray, flip_order: Sequence[int] | None, planted: Planted) -> dict[str, list[int]]:
    """Kind -> planted, named, and named with the right kind and landmarks; "others" -> pictures without a slip, and how
    many of these are named."""
    found = {slip.row: slip for slip in label_slips.find(xy, flip_order)}
    counts: dict[str, list[int]] = {}
    for row, (kind, landmarks) in planted.items():
        slip = found.get(row)
        right = slip is not None and slip.kind == KINDS[kind] and set(landmarks) <= set(slip.landmarks)
        counts[kind] = [a + b for a, b in zip(counts.get(kind, [0, 0, 0]), (1, slip is not None, right), strict=True)]
    counts["others"] = [len(xy) - len(planted), sum(row not in planted for row in found)]
    return counts


def study(root: pathlib.Path, seeds: Sequence[int]) -> dict[str, Any]:
    """The counts of a folder: those of each seed, and as it is."""
    table = landmark_folder.read_rows(root, Faults(str(root)))
    order = table.landmarks.flip_order
    each = {}
    for seed in seeds:
        xy, planted = plant(table.xy, order, seed)
        each[seed] = measure(xy, order, planted)
    return {"untouched": measure(table.xy, order, {})["others"], "seeds": each}


def lines(results: dict[str, dict[str, Any]]) -> list[str]:
    """The table: counts of all seeds together, and the worst of the seeds."""
    rows = [("folder", "kind", "planted", "named", "right", "worst seed")]
    for name, one in results.items():
        of_seeds = list(one["seeds"].values())
        for kind in of_seeds[0]:
            counts = np.array([counts[kind] for counts in of_seeds])
            total, shares = counts.sum(0), counts[:, 1] / counts[:, 0]
            worst = shares.max() if kind == "others" else shares.min()
            right = "" if kind == "others" else f"{100 * total[2] / total[0]:.1f} %"
            rows.append(
                (name, kind, str(total[0]), f"{100 * total[1] / total[0]:.1f} %", right, f"{100 * worst:.1f} %")
            )
        number, named = one["untouched"]
        rows.append((name, "untouched", str(number), f"{100 * named / number:.1f} %", "", ""))
    return text_table(rows, "<  <  >  >  >  >", rule=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(100, 110)))
    parser.add_argument("--json", type=pathlib.Path, default=HERE / "planted.json")
    arguments = parser.parse_args()
    results = {root.name: study(root, arguments.seeds) for root in arguments.folders}
    arguments.json.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    print("\n".join(lines(results)))


if __name__ == "__main__":
    command.run_study(main)
