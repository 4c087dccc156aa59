"""Files that run without this package: the graph of a network from picture to result.

Each module here has two functions. `write(body, variables, batch, outputs, metadata)` gives the content of a file, and
`load(content, outputs)` the function of pictures that a user of the file gets, in the runtime of that format. `outputs`
are the names of the results of `body(variables, pictures)`, a tuple.
"""

import dataclasses
import importlib
import importlib.util
from types import ModuleType

from ctd_jax.errors import UserError

INPUT = "picture"


@dataclasses.dataclass(frozen=True)
class Format:
    """What a format needs and allows."""

    packages: tuple[str, ...]  # that it needs
    extra: str  # of setup.cfg, which installs them
    any_batch: bool = True  # the file takes any number of pictures; otherwise one


FORMATS = {
    "stablehlo": Format(("flatbuffers",), "export"),
    "onnx": Format(("onnx", "onnxruntime"), "export"),
    "tflite": Format(("litert-converter", "ai-edge-litert"), "tflite", any_batch=False),
}


def load(name: str) -> ModuleType:
    """The module of a format.

    Raises:
      UserError: there is no such format, or what it needs is not installed.
    """
    if name not in FORMATS:
        raise UserError(f"--to is {name!r}; expected {', '.join(FORMATS)}")
    known = FORMATS[name]
    missing = [name for name in known.packages if importlib.util.find_spec(name.replace("-", "_")) is None]
    if missing:
        raise UserError(f"--to={name} needs {' and '.join(missing)}: pip install 'ctd_jax[{known.extra}]'")
    return importlib.import_module(f"ctd_jax.formats.{name}")
