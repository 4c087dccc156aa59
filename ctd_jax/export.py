"""The landmark network of a finished run as one file that runs without this package.

    python -m ctd_jax.export --workdir=runs/ctd_ed-demo --to=stablehlo|onnx|tflite

Picture in, landmarks and confidence out: normalising and the sub-pixel reading of the heatmaps are in the graph. The
picture is 8-bit RGB in the network's own frame, S x S pixels: the whole picture, or its box with its margin, scaled
with one factor for both axes, centred, black where there is no picture (docs/serve_stablehlo.py does it in a few
lines). x and y are pixels of that picture. Any number of pictures at once; TF-Lite has one.

Weights and activations are float32. The file is written only if it agrees with the checkpoint to 0.05 pixels on all
validation pictures of the run, so those are read: --config.data.root=DIR says where they are now, if they have moved.
FILE.json beside it has what a user must know, and the report: differences, size, milliseconds.
"""

import json
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

from absl import flags

from ctd_jax import command
from ctd_jax.errors import UserError

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run of `python -m ctd_jax.main`.")
_TO = flags.DEFINE_string("to", None, "stablehlo, onnx or tflite.")
_DOMAIN = flags.DEFINE_string("domain", None, "Which of the run's domains to export, if it has several.")
_OUT = flags.DEFINE_string("out", None, "The file to write. Default: WORKDIR/landmarks.FORMAT.")

TOLERANCE = 0.05  # pixels, of the original picture and of the network's
CALLS = 30  # behind each latency
_overrides: list[str] = []


def main() -> None:
    import jax
    import numpy as np
    from jax import export

    from ctd_jax import checkpoint, domains, formats, landmarks, models

    jax.config.update("jax_platforms", "cpu")  # exports need no accelerator, and are compared where all can repeat it
    workdir = pathlib.Path(_WORKDIR.value)
    config = _config(workdir)
    form = formats.load(_TO.value)
    out = pathlib.Path(_OUT.value or workdir / f"landmarks.{_TO.value}")
    _check_writable(out)
    variables, meta = domains.alone(workdir, *checkpoint.best(workdir), _DOMAIN.value)
    pictures = _validation(workdir, config)

    size, names = config.data.image_size, meta["landmarks"]
    model = landmarks.build(config, meta["encoder"], len(names))
    forward = landmarks.forward(model, meta["input"])
    (b,) = export.symbolic_shape("b") if formats.FORMATS[_TO.value].any_batch else (1,)
    batch = jax.ShapeDtypeStruct((b, size, size, 3), "uint8")
    about = _metadata(workdir, config, meta, b)
    with jax.default_matmul_precision("highest"):  # else float32 is TF32 on a GPU, bfloat16 on a TPU
        folded = models.fold(model, variables, size)
        content = form.write(lambda v, picture: forward(v, {"picture": picture}), folded, batch, about)
    call = form.load(content)
    differences = _compare(call, forward, variables, pictures, config.eval.batch_size)
    one = pictures.batch(np.arange(1))["picture"]
    own = jax.jit(lambda picture: forward(variables, {"picture": picture}))
    report = differences | {
        "allowed_difference_px": TOLERANCE,
        "bytes": len(content),
        **_latencies(latency_ms=lambda: call(one), checkpoint_latency_ms=lambda: jax.block_until_ready(own(one))),
        "latency": f"one picture, {platform.machine()} CPU with {os.cpu_count()} cores, median of {CALLS} calls",
    }
    about["report"] = report
    _write(out, content, about)
    print(_console(out, about))


def _config(workdir: pathlib.Path) -> Any:
    """The run's, as it is exported: in float32, deconvolutions in the form that every format knows, the validation
    pictures those of its split.csv."""
    from ctd_jax import landmarks
    from ctd_jax import workdir as workdirs

    config = workdirs.read_config(workdir)
    if config.task != "landmarks":
        raise UserError(f"{workdir}: this run learned {config.task}; only landmark runs can be exported so far")
    if not (workdir / landmarks.LandmarkTask.last_file).exists():
        raise UserError(f"{workdir}: the run is not finished; start its command again, it continues, and export then")
    for override in _overrides:
        key, _, value = override.partition("=")
        if key != "data.root" or not value:
            raise UserError(f"--config.{override}: the run's configuration stays; only --config.data.root=DIR is read")
        config.data.root = value
    config.dtype, config.model.deconv = "float32", "phases"
    config.data.split, config.data.budget, config.data.train_split = str(workdir / "split.csv"), 0, "train"
    return config


def _check_writable(out: pathlib.Path) -> None:
    parent = next(folder for folder in out.absolute().parents if folder.exists())
    if out.is_dir() or not parent.is_dir() or not os.access(parent, os.W_OK):
        found = f"{out} is a folder" if out.is_dir() else f"nothing can be written to {parent}"
        raise UserError(f"--out: {found}; give the name of a file")


def _validation(workdir: pathlib.Path, config: Any) -> Any:
    """The run's validation pictures, a `data.Dataset`; they must be those it had."""
    from ctd_jax import data

    try:
        source = data.load(config.data, workdir / "tfds")
    except (UserError, OSError) as error:
        raise UserError(
            f"the validation pictures, which an export is checked on, can't be read: {error}. If their folder has "
            "moved, give it with --config.data.root=DIR"
        ) from error
    had, has = (
        {(row[0], row[3]) for row in rows if row[2] == "val"}
        for rows in (data.splits.read(workdir / "split.csv"), source.rows())
    )
    if had != has:
        raise UserError(
            f"{config.data.root}: {len(had - has)} of the {len(had)} validation pictures of {workdir / 'split.csv'} "
            "are others now; restore them, or give their folder with --config.data.root=DIR"
        )
    return source.parts.get(_DOMAIN.value, source).split("val")


def _metadata(workdir: pathlib.Path, config: Any, meta: dict[str, Any], b: Any) -> dict[str, Any]:
    """What a user of the file must know."""
    from ctd_jax import formats
    from ctd_jax import workdir as workdirs

    size, K = config.data.image_size, len(meta["landmarks"])
    points, confidence = formats.OUTPUTS
    return {
        "landmarks": meta["landmarks"],
        "size": size,
        "boxes": meta["boxes"],
        "margin": config.data.margin if meta["boxes"] else 0.0,
        "frame": "the square about the middle of the picture, or of its box where boxes is true, whose side is the "
        "longer one x (1 + 2 margin), scaled to size x size pixels; black where there is no picture",
        "input": {formats.INPUT: {"shape": [str(b), size, size, 3], "dtype": "uint8", "unit": "RGB, 0 to 255"}},
        "output": {
            points: {"shape": [str(b), K, 2], "dtype": "float32", "unit": "x and y in pixels of the input, (0, 0) the "
                     "centre of the top-left one"},
            confidence: {"shape": [str(b), K], "dtype": "float32", "unit": "height of the heatmap's peak, 0 to 1"},
        },
        "precision": "float32",
        "config_hash": workdirs.config_hash(workdirs.read_config(workdir)),
        "versions": {name: metadata.version(name) for name in ("jax", *formats.FORMATS[_TO.value].packages)},
    }  # fmt: skip


def _compare(call: Callable, forward: Callable, variables: Any, pictures: Any, batch_size: int) -> dict[str, Any]:
    """The largest differences of the file from the checkpoint, as `predict` uses it, on `pictures`.

    Raises:
      UserError: one of them is above `TOLERANCE`.
    """
    import jax
    import numpy as np

    from ctd_jax import evaluate
    from ctd_jax.parallel import Parallel

    parallel = Parallel("shard_map", jax.devices()[:1])
    own, exported = (
        evaluate.apply(body, held, pictures, parallel, min(batch_size, len(pictures)))
        for body, held in (
            (parallel.compile(forward, sharded=True), parallel.replicate(variables)),
            (lambda _, batch: call(np.asarray(batch["picture"])), None),
        )
    )
    (xy, confidence), _, scale = own
    (exported_xy, exported_confidence), *_ = exported
    apart = np.linalg.norm(exported_xy - xy, axis=-1)  # [N, K] pixels of the network's picture
    worst = {"network": apart, "picture": apart / scale[:, None]}
    for unit, distance in worst.items():
        if not np.max(distance) <= TOLERANCE:  # also where it is not a number
            i, k = np.unravel_index(np.argmax(distance), distance.shape)
            raise UserError(
                f"the export differs from the checkpoint by {distance[i, k]:.3g} pixels of the {unit} "
                f"({pictures.images[i]}, {pictures.landmarks.names[k]}), more than {TOLERANCE}; nothing was written. "
                "This is a fault of the format's converter: try another --to, or other versions of it"
            )
    return {
        "validation_pictures": len(pictures),
        "largest_difference_px": float(np.max(worst["picture"])),
        "largest_difference_network_px": float(np.max(worst["network"])),
        "largest_difference_confidence": float(np.max(np.abs(exported_confidence - confidence))),
    }


def _latencies(**calls: Callable[[], Any]) -> dict[str, float]:
    """Milliseconds of each call, the median; they take turns, so that another program slows them alike."""
    seconds = {name: [] for name in calls}
    for _ in range(3 + CALLS):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - began)
    return {name: round(1000 * statistics.median(taken[3:]), 3) for name, taken in seconds.items()}


def _write(out: pathlib.Path, content: bytes, about: dict[str, Any]) -> None:
    """The file and its json; the first is whole or not there."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = out.with_name(out.name + ".partial")
        partial.write_bytes(content)
        os.replace(partial, out)
        out.with_name(out.name + ".json").write_text(json.dumps(about, indent=1), "utf-8")
    except OSError as error:
        raise UserError(f"--out: the file can't be written ({error}); give another") from error


def _console(out: pathlib.Path, about: dict[str, Any]) -> str:
    report = about["report"]
    rows = {
        "size": f"{report['bytes'] / 1e6:.2f} MB",
        "largest difference": f"{report['largest_difference_px']:.2g} px of the picture, "
        f"{report['largest_difference_network_px']:.2g} px of the network's ({report['validation_pictures']} "
        f"validation pictures; allowed {TOLERANCE})",
        "milliseconds": f"{report['latency_ms']}, checkpoint {report['checkpoint_latency_ms']} ({report['latency']})",
    }
    for kind in ("input", "output"):
        for name, spec in about[kind].items():
            rows[f"{kind} {name}"] = f"[{', '.join(map(str, spec['shape']))}] {spec['dtype']}, {spec['unit']}"
    rows["versions"] = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    width = max(map(len, rows)) + 2
    return "\n".join([str(out), *(f"  {name:<{width}}{value}" for name, value in rows.items())])


if __name__ == "__main__":
    command.run(main, __doc__, required=("workdir", "to"), overrides=_overrides)
