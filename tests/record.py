"""What every configuration gives in a tiny run: for a change of the code that shall change no result.

    python tests/record.py before.json                         # on the old code
    python tests/record.py after.json --against=before.json    # on the new: exit 1 and the differences, if any

Only commands and files are used, which stay where modules move. The same machine and versions give the same bits;
others need not, so no record is kept here.
"""

import argparse
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict

REPO = pathlib.Path(__file__).parents[1]
TINY = {
    "data.image_size": 32, "data.synthetic.identities": (4, 2, 2), "data.synthetic.shots": (2, 2, 2), "data.budget": 0,
    "model.decoder_channels": (8, 8), "model.hourglass.channels": 8, "model.hourglass.depth": 1, "train.steps": 4,
    "train.batch_size": 4, "eval.every": 2, "eval.batch_size": 4,
}  # fmt: skip
STUDENTS = ("student", "fpd", "fitnets", "attention_transfer", "fsf_ld")
TIMES = ("seconds", "versions", "config_hash", "device")  # of metrics.json: not results


def command(module: str, *arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"ctd_jax.{module}", *map(str, arguments)],
        cwd=REPO, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(REPO), "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{module} {arguments}\n{done.stderr}")


def train(row: str, workdir: pathlib.Path, **changes: object) -> None:
    keys = TINY | {key.replace("__", "."): value for key, value in changes.items()}
    keys = [f"--config.{key}={value}" for key, value in keys.items()]
    command("main", f"--config={REPO / 'configs' / row}.py", f"--workdir={workdir}", *keys)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def parameters(workdir: pathlib.Path) -> dict[str, str]:
    """Checkpoint -> digest of its parameters and batch statistics."""
    found = {}
    for folder in sorted((workdir / "checkpoints").glob("[0-9]*")):
        state = ocp.StandardCheckpointer().restore((folder / "state").absolute())
        content = hashlib.sha256()
        for key in ("params", "batch_stats"):
            for path, leaf in sorted(flatten_dict(state[key]).items()):
                content.update("/".join(path).encode() + np.ascontiguousarray(leaf).tobytes())
        found[folder.name] = content.hexdigest()[:16]
    return found


def results(workdir: pathlib.Path) -> dict[str, object]:
    out: dict[str, object] = {"parameters": parameters(workdir)}
    for path in sorted(workdir.rglob("*.csv")):
        if path.name in ("predictions.csv", "measurements.csv", "segmentation_metrics.csv", "split.csv", "boxes.csv"):
            out[str(path.relative_to(workdir))] = digest(path.read_bytes())
    for path in sorted(workdir.rglob("metrics*.json")):
        out[str(path.relative_to(workdir))] = without(json.loads(path.read_text("utf-8")))
    return out


def without(content: object) -> object:
    """`content` without what may differ from one start to the next."""
    if isinstance(content, dict):
        return {key: without(value) for key, value in content.items() if key not in TIMES}
    return content


def record(root: pathlib.Path) -> dict[str, object]:
    found = {}
    train("fsf_teacher", root / "landmark_teacher", data__image_size=64)
    rows = [p.stem for p in sorted((REPO / "configs").glob("[a-z]*.py")) if p.stem != "default"]
    for row in rows:
        changes: dict[str, object] = {}
        if row in STUDENTS:
            changes = {"data__image_size": 64, "model__decoder_channels": (8, 8, 8)}
            changes |= {} if row == "student" else {"teacher__run": root / "landmark_teacher"}
        if row == "source":
            changes = {"data__image_size": 32, "data__synthetic__identities": (6, 4, 0), "train__batch_size": 8}
        if row == "mtmd":
            changes = {"model__decoder_channels": (8, 8, 8)}
        train(row, root / row, **changes)
        found[row] = results(root / row)
        print(row, file=sys.stderr)
    for row, extra in (("ctd_ed", ()), ("mtmd", ("--domain=hand",)), ("domains", ("--domain=synthetic",))):
        picture = root / f"{row}.png"
        noise(picture)
        extra = [extra[0] if row != "mtmd" else f"--domain={first_domain(root / row)}"] if extra else []
        out = root / f"{row}_predicted{'' if row == 'mtmd' else '.csv'}"
        command("predict", f"--workdir={root / row}", picture, f"--out={out}", *extra)
        files = sorted(p for p in out.rglob("*") if p.is_file()) if out.is_dir() else [out]
        content = b"".join(path.read_bytes() for path in files)
        found[f"predict {row}"] = digest(content.replace(str(root).encode(), b""))
    return found


def first_domain(workdir: pathlib.Path) -> str:
    return next(iter(json.loads((workdir / "metrics.json").read_text("utf-8"))["classes"]))


def noise(path: pathlib.Path) -> None:
    from PIL import Image

    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)).save(path)


def differences(old: object, new: object, where: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [line for key in keys for line in differences(old.get(key), new.get(key), f"{where}/{key}")]
    return [] if old == new else [f"{where}: {old} -> {new}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--against", type=pathlib.Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = json.loads(json.dumps(record(pathlib.Path(folder))))
    args.out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    if args.against:
        lines = differences(json.loads(args.against.read_text("utf-8")), found)
        print("\n".join(lines) or "no difference")
        sys.exit(bool(lines))


if __name__ == "__main__":
    main()
