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
        found[key] = _known(content[key], value) if isinstance(value, dict) else content.get(key, value)
        if isinstance(value, int) and isinstance(found[key], list):  # data.synthetic.shots was one number
            found[key] = found[key][0]
    return found
