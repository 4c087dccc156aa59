"""Runs as earlier versions left them, by golden/older_configs.json."""

import json
import pathlib
import shutil
from typing import Any

CONFIGS = json.loads((pathlib.Path(__file__).parent / "golden" / "older_configs.json").read_text("utf-8"))


def copy(run: pathlib.Path, place: pathlib.Path, version: str) -> pathlib.Path:
    """A copy of `run` whose config.json has the keys that the version knew, and no others."""
    shutil.copytree(run, place)
    path = place / "config.json"
    path.write_text(json.dumps(_known(json.loads(path.read_text("utf-8")), CONFIGS[version])))
    return place


def _known(content: dict[str, Any], then: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for key, value in then.items():
        if isinstance(value, dict):
            found[key] = _known(content[key], value)
        else:
            found[key] = content[key] if type(content.get(key)) is type(value) else value
    return found
