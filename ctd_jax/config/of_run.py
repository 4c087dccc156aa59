"""The configuration of a run, also of one that an older version made."""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from ctd_jax import files
from ctd_jax.config.keys import items, weight_of
from ctd_jax.config.loading import TYPES, defaults
from ctd_jax.errors import UserError

SECTIONS = ("data", "model", "teacher", "train", "eval")  # that a config.json of any version has
NOTE_KEYS = ("versions", "contents")  # of config.json, beside those of the configuration: see `notes_of_run`
REMEDY = "restore the file, or start again in a new folder"

# The keys that configs/default.py has got since its first version, in the order in which they came, with their default
# at that time: what a run that lacks the key did. All of them are of version 0.1.0. Whoever adds a key adds it here; a
# whole term of the loss needs no row, because a term that a run lacks was off.
ADDED: dict[str, Any] = {
    # a configuration for each method
    "grid": (),
    "data.train_split": "train",
    "data.budget_seed": 0,
    "model.network": "encoder_decoder",
    "model.hourglass.stacks": 2,
    "model.hourglass.channels": 64,
    "model.hourglass.depth": 3,
    "teacher.start": True,
    "recognition.loss": "softmax",
    "recognition.margin": 0.2,
    "recognition.scale": 16.0,
    "constraints.ed.over": "map",
    "train.encoder_layers": "all",
    # memory of a step
    "train.batch_norm": "global",
    "train.accumulate_steps": 1,
    "train.remat": False,
    "data.on_device": "auto",
    # several domains
    "data.domains": (),
    "data.helping": (),
    "data.helped": False,
    "domains.schedule": "proportional",
    "domains.temperature": 2.0,
    "domains.norm": True,
    "domains.heads": True,
    "domains.start": "",
    # segmentation
    "data.share": 1.0,
    "segmentation.dice": 1.0,
    # a landmark network as teacher
    "model.decoder": "dense",
    "teacher.run": "",
    "coordinates.weight": 0.0,
    "constraints.hint.form": "plain",
    # pictures without labels
    "data.unlabelled": "",
    "train.unlabelled_batch_size": 16,
    # averages
    "train.average": 0.0,
    "eval.mirror": False,
    "eval.gradient_norms": True,
    # augmentation beside flip, scale and shift
    "augment.rotation": 0.0,
    "augment.aspect": 0.0,
    "augment.brightness": 0.0,
    "augment.contrast": 0.0,
    "augment.gamma": 0.0,
    "augment.colour": 0.0,
    "augment.blur": 0.0,
    "augment.noise": 0.0,
    "augment.occlusion": 0.0,
    "train.heatmap_loss": "mse",
    # TFDS data sets
    "data.tfds.image": "",
    "data.tfds.points": "",
    "data.tfds.subject": "",
    "data.tfds.coordinates": "auto",
    "data.tfds.order": "xy",
    # landmarks that are absent: today's weight, which an older run had no landmarks for
    "presence.weight": 0.03,
    # a run that goes on from another
    "model.start": "",
    # several raters
    "data.raters": "mean",
}
# Keys that are gone. None of them says anything about a network: this one, how many resamples an interval had.
GONE = ("eval.bootstrap",)


def config_of_run(workdir: pathlib.Path) -> ConfigDict:
    """The configuration of a run, also of one that an older version made: a key that it lacks has the value that it
    stood for then.

    Raises:
      UserError: `workdir` is no run, or its config.json is damaged.
    """
    path = workdir / "config.json"
    content = _read(path)
    lacking = [section for section in SECTIONS if not isinstance(content.get(section), dict)]
    if lacking or not isinstance(content.get("task"), str):
        raise UserError(f"{path}: it has no {', '.join(lacking) or 'task'}, so it is damaged; {REMEDY}")
    values = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in items({key: value for key, value in content.items() if key not in NOTE_KEYS})
        if key not in GONE
    }
    _check_sections(values, path)
    values = _completed(values, path)
    _check_types(values, path)
    return ConfigDict(_nested(values))


def notes_of_run(workdir: pathlib.Path) -> dict[str, Any]:
    """What config.json of a run says beside the configuration: `versions` of the programs that made it, one for each
    time it went on under others; `contents` of its path keys (`contents_of`). They are empty in a run that is older.

    Raises:
      UserError: `workdir` is no run, or its config.json is damaged.
    """
    path = workdir / "config.json"
    content = _read(path)
    notes = {"versions": content.get("versions", []), "contents": content.get("contents", {})}
    whole = isinstance(notes["contents"], dict) and isinstance(notes["versions"], list)
    if not whole or not all(isinstance(version, dict) for version in notes["versions"]):
        raise UserError(f"{path}: its {' and '.join(NOTE_KEYS)} can't be read, so it is damaged; {REMEDY}")
    return notes


def _read(path: pathlib.Path) -> dict[str, Any]:
    if not path.exists():
        raise UserError(f"{path}: no such file; --workdir expects the folder of a run of `python -m ctd_jax.main`")
    return files.read_json(path, REMEDY)


def _completed(values: dict[str, Any], path: pathlib.Path) -> dict[str, Any]:
    """The values of an older run, as today's version writes them."""
    terms = {weight_of(key) for key in values}
    lacking = [key for key in defaults() if key not in values]
    lacking = [key for key in lacking if not key.startswith("constraints.") or weight_of(key) in terms]
    unknown = [key for key in lacking if key not in ADDED]
    if unknown:
        more = f" and {len(unknown) - 3} more keys" if len(unknown) > 3 else ""
        raise UserError(f"{path}: it has no {', '.join(unknown[:3])}{more}, so it is damaged; {REMEDY}")
    values = values | {key: ADDED[key] for key in lacking}
    if "data.budget_seed" in lacking:
        values["data.budget_seed"] = values["data.seed"]  # one seed was for both
    if isinstance(shots := values["data.synthetic.shots"], int):
        values["data.synthetic.shots"] = (shots, shots, shots)  # one number was for all splits
    return values


def _check_sections(values: dict[str, Any], path: pathlib.Path) -> None:
    sections = {".".join(key.split(".")[:end]) for key in defaults() for end in range(1, key.count(".") + 1)}
    for key in sorted(values.keys() & sections):
        raise UserError(f"{path}: {key} is {values[key]!r}; expected keys in braces; {REMEDY}")


def _check_types(values: dict[str, Any], path: pathlib.Path) -> None:
    for key, default in defaults().items():
        if key not in values:
            continue
        value, wanted = values[key], type(default)
        fits = isinstance(value, int | float) if wanted is float else isinstance(value, wanted)
        if not fits or isinstance(value, bool) != (wanted is bool):
            raise UserError(f"{path}: {key} is {value!r}; expected {TYPES[wanted]}; {REMEDY}")


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in values.items():
        *parents, last = key.split(".")
        functools.reduce(lambda node, part: node.setdefault(part, {}), parents, out)[last] = value
    return out
