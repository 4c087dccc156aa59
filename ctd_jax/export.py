"""The network of a finished run as one file that runs without this package.

    python -m ctd_jax.export --workdir=runs/ctd_ed-demo --to=stablehlo|onnx|tflite

Picture in; landmarks and confidence out, or the probability of each class in each pixel: normalising and the sub-pixel
reading of the heatmaps are in the graph. The picture is 8-bit RGB in the network's own frame, S x S pixels: the whole
picture, or its box with its margin, scaled with one factor for both axes, centred, black where there is no picture
(docs/serve_stablehlo.py does it in a few lines). x and y are pixels of that picture. Any number of pictures at once;
TF-Lite has one.

Weights and activations are float32. The file is written only if it agrees with the checkpoint on all validation
pictures of the run, to 0.05 pixels or 0.001 of a probability, so those are read: --config.data.root=DIR says where they
are now, if they have moved. FILE.json beside it has what a user must know, and the report: differences, size,
milliseconds.
"""

import dataclasses
import json
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from typing import TYPE_CHECKING, Any

from absl import flags

from ctd_jax import command, files, versions
from ctd_jax.errors import UserError

if TYPE_CHECKING:
    from ctd_jax.tasks.trained import Trained

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run of `python -m ctd_jax.main`.")
_TO = flags.DEFINE_string("to", None, "stablehlo, onnx or tflite.")
_DOMAIN = flags.DEFINE_string("domain", None, "Which of the run's domains to export, if it has several.")
_OUT = flags.DEFINE_string("out", None, "The file to write. Default: WORKDIR/landmarks.FORMAT, or class_maps.FORMAT.")

TOLERANCE = 0.05  # pixels, of the original picture and of the network's
TOLERANCE_OF_PROBABILITY = 0.001
CALLS = 30  # behind each latency
_overrides: list[str] = []


@dataclasses.dataclass(frozen=True)
class Network:
    """What a run has learned, as it is exported.

    Attributes:
      what: the name of its file.
      model, variables: as trained.
      forward: `(variables, {"picture": [B, S, S, 3] uint8}) -> ` the outputs, a tuple.
      outputs: name -> shape without the batch, and unit.
      about: what else a user must know.
      differences: of the outputs of checkpoint and export for the validation pictures `(own, exported, scale,
        pictures)`, for the report; raises UserError if they are too large.
    """

    what: str
    model: Any
    variables: dict[str, Any]
    forward: Callable
    outputs: dict[str, tuple[tuple[int, ...], str]]
    about: dict[str, Any]
    differences: Callable


def main() -> None:
    import jax
    import numpy as np
    from jax import export

    from ctd_jax import formats, models
    from ctd_jax.tasks.trained import Trained

    jax.config.update("jax_platforms", "cpu")  # exports need no accelerator, and are compared where all can repeat it
    workdir = pathlib.Path(_WORKDIR.value)
    config = _config(workdir)
    form = formats.load(_TO.value)
    trained = Trained.read(workdir, _DOMAIN.value, config)
    network = KINDS[trained.kind](trained)
    out = pathlib.Path(_OUT.value or workdir / f"{network.what}.{_TO.value}")
    _check_writable(out)
    pictures = _validation(workdir, config)

    size, forward, names = config.data.image_size, network.forward, tuple(network.outputs)
    (b,) = export.symbolic_shape("b") if formats.FORMATS[_TO.value].any_batch else (1,)
    batch = jax.ShapeDtypeStruct((b, size, size, 3), "uint8")
    about = _metadata(workdir, network, size, b)
    with jax.default_matmul_precision("highest"):  # else float32 is TF32 on a GPU, bfloat16 on a TPU
        folded = models.fold(network.model, network.variables, size)
        content = form.write(lambda v, picture: forward(v, {"picture": picture}), folded, batch, names, about)
    call = form.load(content, names)
    differences = _compare(call, network, pictures, config.eval.batch_size)
    one = pictures.batch(np.arange(1))["picture"]
    own = jax.jit(lambda picture: forward(network.variables, {"picture": picture}))
    report = differences | {
        "bytes": len(content),
        **_latencies(latency_ms=lambda: call(one), checkpoint_latency_ms=lambda: jax.block_until_ready(own(one))),
        "latency": f"one picture, {platform.machine()} CPU with {os.cpu_count()} cores, median of {CALLS} calls",
    }
    about["report"] = report
    _write(out, content, about)
    print(_console(out, about))


def _landmarks(trained: "Trained") -> Network:
    K = len(trained.names)
    outputs = {
        "xy": ((K, 2), "x and y in pixels of the input, (0, 0) the centre of the top-left one"),
        "confidence": ((K,), "height of the heatmap's peak, 0 to 1"),
    }
    margin = trained.config.data.margin if trained.boxes else 0.0
    about = {"landmarks": list(trained.names), "boxes": trained.boxes, "margin": margin, "grey": trained.grey}
    return Network(
        "landmarks", trained.model, trained.variables, trained.forward, outputs, about, _differences_of_landmarks
    )


def _class_maps(trained: "Trained") -> Network:
    S = trained.config.data.image_size
    outputs = {"probabilities": ((S, S, len(trained.names)), "of each class in each pixel of the input, sum 1")}
    about = {"classes": list(trained.names), "boxes": False, "margin": 0.0, "grey": trained.grey}

    def forward(variables: Any, batch: Any) -> tuple[Any]:
        return (trained.forward(variables, {"picture": batch["picture"]}),)

    return Network("class_maps", trained.model, trained.variables, forward, outputs, about, _differences_of_classes)


KINDS = {"landmarks": _landmarks, "class_maps": _class_maps}


def _config(workdir: pathlib.Path) -> Any:
    """The run's, as it is exported: in float32, deconvolutions in the form that every format knows, the validation
    pictures those of its split.csv."""
    from ctd_jax import run_folder
    from ctd_jax.tasks import trained
    from ctd_jax.tasks.student import StudentTask

    config = run_folder.read_config(workdir)
    trained.check_task(workdir, config)
    if not (workdir / StudentTask.last_file).exists():
        raise UserError(f"{workdir}: the run is not finished; start its command again, it continues, and export then")
    for override in _overrides:
        key, _, value = override.partition("=")
        if key != "data.root" or not value:
            raise UserError(f"--config.{override}: the run's configuration stays; only --config.data.root=DIR is read")
        config.data.root = value
    config.dtype, config.model.deconv = "float32", "phases"
    config.data.split, config.data.train_split = str(workdir / "split.csv"), "train"
    config.data.budget, config.data.share = 0, 1.0
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
        source = data.load(config.data, workdir / "tfds", masks=config.task == "segmentation")
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
    if source.parts:
        return source.parts.get(_DOMAIN.value, source).split("val")
    part = source.split("val")
    return part.take((part.domain == part.domains.index(_DOMAIN.value)).nonzero()[0]) if _DOMAIN.value else part


def _metadata(workdir: pathlib.Path, network: Network, size: int, b: Any) -> dict[str, Any]:
    """What a user of the file must know."""
    from ctd_jax import formats, run_folder

    return network.about | {
        "size": size,
        "grey_unit": "which values become 0 and 255 in pictures of more than 8 bits, of whole numbers (integer) or "
        "fractions (float); a kind that is not there was not seen in training",
        "frame": "the square about the middle of the picture, or of its box where boxes is true, whose side is the "
        "longer one x (1 + 2 margin), scaled to size x size pixels; black where there is no picture",
        "input": {formats.INPUT: {"shape": [str(b), size, size, 3], "dtype": "uint8", "unit": "RGB, 0 to 255"}},
        "output": {
            name: {"shape": [str(b), *shape], "dtype": "float32", "unit": unit}
            for name, (shape, unit) in network.outputs.items()
        },
        "precision": "float32",
        "config_hash": run_folder.config_hash(run_folder.read_config(workdir)),
        "versions": versions.describe()
        | {name: metadata.version(name) for name in formats.FORMATS[_TO.value].packages},
    }


def _compare(call: Callable, network: Network, pictures: Any, batch_size: int) -> dict[str, Any]:
    """The largest differences of the file from the checkpoint, as it was trained, on `pictures`.

    Raises:
      UserError: they are above what is allowed.
    """
    import jax
    import numpy as np

    from ctd_jax.training import inference
    from ctd_jax.training.parallel import Parallel

    parallel = Parallel("shard_map", jax.devices()[:1])
    (own, _, scale), (exported, *_) = (
        inference.apply(body, held, pictures, parallel, min(batch_size, len(pictures)))
        for body, held in (
            (parallel.compile(network.forward, sharded=True), parallel.replicate(network.variables)),
            (lambda _, batch: tuple(call(np.asarray(batch["picture"]))), None),
        )
    )
    return {"validation_pictures": len(pictures)} | network.differences(own, exported, scale, pictures)


def _differences_of_landmarks(own: Any, exported: Any, scale: Any, pictures: Any) -> dict[str, Any]:
    import numpy as np

    (xy, confidence), (exported_xy, exported_confidence) = own, exported
    apart = np.linalg.norm(exported_xy - xy, axis=-1)  # [N, K] pixels of the network's picture
    worst = {"network": apart, "picture": apart / scale[:, None]}
    for unit, distance in worst.items():
        if not np.max(distance) <= TOLERANCE:  # also where it is not a number
            i, k = np.unravel_index(np.argmax(distance), distance.shape)
            where = f"pixels of the {unit} ({pictures.images[i]}, {pictures.landmarks.names[k]})"
            raise _differs(f"{distance[i, k]:.3g} {where}, more than {TOLERANCE}")
    return {
        "allowed_difference_px": TOLERANCE,
        "largest_difference_px": float(np.max(worst["picture"])),
        "largest_difference_network_px": float(np.max(worst["network"])),
        "largest_difference_confidence": float(np.max(np.abs(exported_confidence - confidence))),
    }


def _differences_of_classes(own: Any, exported: Any, scale: Any, pictures: Any) -> dict[str, Any]:
    import numpy as np

    apart = np.abs(exported[0] - own[0]).reshape(len(pictures), -1).max(-1)
    if not np.max(apart) <= TOLERANCE_OF_PROBABILITY:
        i = int(np.argmax(apart))
        where = f"in a probability ({pictures.images[i]})"
        raise _differs(f"{apart[i]:.3g} {where}, more than {TOLERANCE_OF_PROBABILITY}")
    return {
        "allowed_difference_probability": TOLERANCE_OF_PROBABILITY,
        "largest_difference_probability": float(np.max(apart)),
        "pixels_of_another_class": float(np.mean(exported[0].argmax(-1) != own[0].argmax(-1))),
    }


def _differs(how: str) -> UserError:
    return UserError(
        f"the export differs from the checkpoint by {how}; nothing was written. This is a fault of the format's "
        "converter: try another --to, or other versions of it"
    )


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
        files.write_bytes(out, content)
        files.write_text(out.with_name(out.name + ".json"), json.dumps(about, indent=1))
    except OSError as error:
        raise UserError(f"--out: the file can't be written ({error}); give another") from error


def _largest(report: dict[str, Any]) -> str:
    if "largest_difference_probability" in report:
        return f"{report['largest_difference_probability']:.2g} in a probability, allowed {TOLERANCE_OF_PROBABILITY}"
    picture, network = report["largest_difference_px"], report["largest_difference_network_px"]
    return f"{picture:.2g} px of the picture, {network:.2g} px of the network's, allowed {TOLERANCE}"


def _console(out: pathlib.Path, about: dict[str, Any]) -> str:
    report = about["report"]
    rows = {
        "size": f"{report['bytes'] / 1e6:.2f} MB",
        "largest difference": f"{_largest(report)} ({report['validation_pictures']} validation pictures)",
        "milliseconds": f"{report['latency_ms']}, checkpoint {report['checkpoint_latency_ms']} ({report['latency']})",
    }
    for kind in ("input", "output"):
        for name, spec in about[kind].items():
            rows[f"{kind} {name}"] = f"[{', '.join(map(str, spec['shape']))}] {spec['dtype']}, {spec['unit']}"
    rows["versions"] = versions.line(about["versions"])
    width = max(map(len, rows)) + 2
    return "\n".join([str(out), *(f"  {name:<{width}}{value}" for name, value in rows.items())])


if __name__ == "__main__":
    command.run(main, __doc__, required=("workdir", "to"), overrides=_overrides)
