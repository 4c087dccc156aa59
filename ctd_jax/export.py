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

--workdir=A,B,C makes one file with the average of several networks whose pictures are of one size. A third output,
`spread`, is the root mean square distance of their points from the mean. The validation pictures are those of the
first run.
"""

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
from ml_collections import ConfigDict

from ctd_jax import command, files, formats, versions
from ctd_jax.config import REMEDY, config_of_run
from ctd_jax.errors import UserError
from ctd_jax.text_table import text_table

if TYPE_CHECKING:
    from ctd_jax.data import Dataset
    from ctd_jax.tasks.trained import Trained

_FLAGS = command.new_flags()
_WORKDIR = flags.DEFINE_string(
    "workdir",
    "",
    "Folder of a finished run of `python -m ctd_jax.main`; of several, with commas between, the file has the average.",
    flag_values=_FLAGS,
)
_TO = flags.DEFINE_string("to", "", f"The format: {', '.join(formats.FORMATS)}.", flag_values=_FLAGS)
_DOMAIN = flags.DEFINE_string(
    "domain", None, "Which of the run's domains to export, if it has several.", flag_values=_FLAGS
)
_OUT = flags.DEFINE_string(
    "out",
    None,
    "The file to write. Default, for one run: WORKDIR/landmarks.FORMAT, or class_maps.FORMAT.",
    flag_values=_FLAGS,
)

CALLS = 30  # behind each latency
_overrides: list[str] = []


def main() -> None:
    import jax
    import numpy as np
    from jax import export

    from ctd_jax import tasks
    from ctd_jax.tasks import averaged

    jax.config.update("jax_platforms", "cpu")  # exports need no accelerator, and are compared where all can repeat it
    workdirs = command.workdirs(_WORKDIR.value)
    workdir, configs = workdirs[0], [_config(one) for one in workdirs]
    config = configs[0]
    form = formats.load(_TO.value)
    networks = [tasks.trained(*one) for one in zip(workdirs, [_DOMAIN.value] * len(workdirs), configs, strict=True)]
    averaged.check(networks)
    network = averaged.as_one(networks)
    if len(networks) > 1 and not _OUT.value:
        raise UserError(
            f"--out is missing: the average of {len(networks)} runs belongs to none; name the file to write"
        )
    out = pathlib.Path(_OUT.value or workdir / f"{network.what}.{_TO.value}")
    files.expect("out", out, f".{_TO.value}")
    _check_writable(out)
    pictures = _validation(workdir, config)

    size, forward, names = config.data.image_size, network.forward, tuple(network.outputs)
    (b,) = export.symbolic_shape("b") if formats.FORMATS[_TO.value].any_batch else (1,)
    batch = jax.ShapeDtypeStruct((b, size, size, 3), "uint8")
    about = _metadata(workdirs, network, size, b)
    with jax.default_matmul_precision("highest"):  # else float32 is TF32 on a GPU, bfloat16 on a TPU
        content = form.write(lambda v, picture: forward(v, {"picture": picture}), network.folded(), batch, names, about)
    call = form.load(content, names)
    differences = _compare(call, network, pictures, config.eval.batch_size)
    one = pictures.batch(np.arange(1))["picture"]
    checkpoint = jax.jit(lambda picture: forward(network.variables, {"picture": picture}))
    report = differences | {
        "bytes": len(content),
        **_latencies(
            latency_ms=lambda: call(one), checkpoint_latency_ms=lambda: jax.block_until_ready(checkpoint(one))
        ),
        "latency": f"one picture, {platform.machine()} CPU with {os.cpu_count()} cores, median of {CALLS} calls",
    }
    about["report"] = report
    _write(out, content, about)
    print(_console(out, about, network.largest_difference(report)))


def _config(workdir: pathlib.Path) -> ConfigDict:
    """The run's configuration, as it is exported: in float32, with deconvolutions in the form that every format knows,
    and with the validation pictures of its split.csv, which are read without the unlabelled ones."""
    from ctd_jax import tasks

    config = config_of_run(workdir)
    if not (workdir / tasks.of(config).last_file).exists():
        raise UserError(f"{workdir}: the run is not finished; start its command again, it continues, and export then")
    for override in _overrides:
        key, _, value = override.partition("=")
        if key != "data.root" or not value:
            raise UserError(f"--config.{override}: the run's configuration stays; only --config.data.root=DIR is read")
        config.data.root = value
    config.dtype, config.model.deconv = "float32", "phases"
    config.data.split, config.data.train_split = str(workdir / "split.csv"), "train"
    config.data.budget, config.data.share, config.data.unlabelled = 0, 1.0, ""
    return config


def _check_writable(out: pathlib.Path) -> None:
    parent = next(folder for folder in out.absolute().parents if folder.exists())
    if out.is_dir() or not parent.is_dir() or not os.access(parent, os.W_OK):
        found = f"{out} is a folder" if out.is_dir() else f"nothing can be written to {parent}"
        raise UserError(f"--out: {found}; give the name of a file")
    beside = out.with_name(f"{out.name}.json")
    if out.exists() and not _is_description(beside):
        raise UserError(
            f"--out: {out} is there already, and is no export that {beside.name} describes; give another name"
        )
    if beside.exists() and not _is_description(beside):
        raise UserError(f"--out: {beside}, where its description goes, is there already; give another name")


def _is_description(path: pathlib.Path) -> bool:
    """Whether an export has written the file."""
    try:
        return {"config_hash", "frame", "report"} <= files.read_json(path, "").keys()
    except UserError:
        return False


def _validation(workdir: pathlib.Path, config: ConfigDict) -> "Dataset":
    """The run's validation pictures, which must be those that it had."""
    from ctd_jax import data, tasks

    try:
        pictures = data.load(config.data, workdir / "tfds", targets=tasks.of(config).targets)
    except (UserError, OSError) as error:
        raise UserError(
            f"the validation pictures, which an export is checked on, can't be read: {error}. If their folder has "
            "moved, give it with --config.data.root=DIR"
        ) from error
    had, has = (
        {(row[0], row[3]) for row in rows if row[2] == "val"}
        for rows in (data.splits.read(workdir / "split.csv"), pictures.rows())
    )
    if had != has:
        raise UserError(
            f"{config.data.root}: {len(had - has)} of the {len(had)} validation pictures of {workdir / 'split.csv'} "
            "are others now; restore them, or give their folder with --config.data.root=DIR"
        )
    val = pictures.parts.get(_DOMAIN.value or "", pictures).split("val")
    if not len(val):
        where = f"domain {_DOMAIN.value} of {workdir}" if _DOMAIN.value else workdir
        raise UserError(
            f"{where} has no validation pictures, which an export is checked on; give a domain that has some"
        )
    return val


def _metadata(workdirs: list[pathlib.Path], network: "Trained", size: int, b: Any) -> dict[str, Any]:
    """What a user of the file must know."""
    return network.about | {
        "size": size,
        "grey_unit": "which values become 0 and 255 in pictures of more than 8 bits, of whole numbers (integer) or "
        "fractions (float); a kind that is not there was not seen in training",
        "frame": "the square about the middle of the picture, whose side is the longer one; where boxes is true, about "
        "that of the picture's box, if it has one, and the side is the box's longer one x (1 + 2 margin). Scaled to "
        "size x size pixels; black where there is no picture",
        "input": {formats.INPUT: {"shape": [str(b), size, size, 3], "dtype": "uint8", "unit": "RGB, 0 to 255"}},
        "output": {
            name: {"shape": [str(b), *shape], "dtype": "float32", "unit": unit}
            for name, (shape, unit) in network.outputs.items()
        },
        "precision": "float32",
        "config_hash": ",".join(_hash_of(one) for one in workdirs),
        "versions": versions.describe()
        | {name: metadata.version(name) for name in formats.FORMATS[_TO.value].packages},
    }


def _hash_of(workdir: pathlib.Path) -> str:
    return files.read_json(workdir / "metrics.json", REMEDY).get("config_hash", "")


def _compare(call: Callable, network: "Trained", pictures: "Dataset", batch_size: int) -> dict[str, Any]:
    """The largest differences of the file from the checkpoint, as it was trained, on `pictures`.

    Raises:
      UserError: they are above what is allowed.
    """
    import jax
    import numpy as np

    from ctd_jax.training import inference
    from ctd_jax.training.parallel import Parallel

    parallel = Parallel("shard_map", jax.devices()[:1])
    (expected, _, scale), (exported, *_) = (
        inference.apply(body, variables, pictures, parallel, min(batch_size, len(pictures)))
        for body, variables in (
            (parallel.compile(network.forward, sharded=True), parallel.replicate(network.variables)),
            (lambda _, batch: tuple(call(np.asarray(batch["picture"]))), None),
        )
    )
    return {"validation_pictures": len(pictures)} | network.differences(expected, exported, scale, pictures)


def _latencies(**calls: Callable[[], Any]) -> dict[str, float]:
    """Milliseconds of each call, the median; they take turns, so that another program slows them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(3 + CALLS):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - began)
    return {name: round(1000 * statistics.median(taken[3:]), 3) for name, taken in seconds.items()}


def _write(out: pathlib.Path, content: bytes, about: dict[str, Any]) -> None:
    """The file and its json, which comes first: a file without one is taken for somebody else's."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(out.with_name(out.name + ".json"), json.dumps(about, indent=1))
        files.write_bytes(out, content)
    except OSError as error:
        raise UserError(f"--out: the file can't be written ({error}); give another") from error


def _console(out: pathlib.Path, about: dict[str, Any], largest: str) -> str:
    report = about["report"]
    rows = {
        "size": f"{report['bytes'] / 1e6:.2f} MB",
        "largest difference": f"{largest} ({report['validation_pictures']} validation pictures)",
        "milliseconds": f"{report['latency_ms']}, checkpoint {report['checkpoint_latency_ms']} ({report['latency']})",
    }
    for kind in ("input", "output"):
        for name, spec in about[kind].items():
            rows[f"{kind} {name}"] = f"[{', '.join(map(str, spec['shape']))}] {spec['dtype']}, {spec['unit']}"
    rows["versions"] = versions.line(about["versions"])
    return "\n".join([str(out), *text_table(list(rows.items()), "  <  <")])


if __name__ == "__main__":
    command.run(main, __doc__, _FLAGS, required=("workdir", "to"), overrides=_overrides)
