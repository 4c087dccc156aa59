"""Reads the tensors of a PyTorch file, old (before 1.6) or new (zip), without PyTorch and without running its code.

A pickle is a program. This one may name only what a plain state dict needs (`ALLOWED`); any other name ends the reading
before anything has been called. Layouts: `_legacy_save` and `_save` in PyTorch's `serialization.py`, and
`_rebuild_tensor_v2` in its `_utils.py`.
"""

import collections
import math
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ctd_jax.errors import UserError

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
STORAGES = {
    "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "LongStorage": "<i8",
    "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "<i1", "ByteStorage": "<u1", "BoolStorage": "<?",
}  # fmt: skip
REMEDY = "expected a file written by torch.save(model.state_dict(), path)."


class Storage(NamedTuple):
    """Where a tensor's numbers lie: the key of a block in the file, its NumPy type and its length."""

    key: str
    dtype: str
    size: int


class Tensor(NamedTuple):
    """A view of a storage, read once the storages are."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): lambda *args: Tensor(*args[:4]),
    ("torch._utils", "_rebuild_parameter"): lambda *args: args[0],
} | {("torch", name): dtype for name, dtype in STORAGES.items()}


class Unpickler(pickle.Unpickler):
    """Unpickles tensors as `Tensor`, noting their storages; refuses every name outside `ALLOWED`."""

    def __init__(self, file: BinaryIO):
        super().__init__(file)
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise UserError(
                f"its pickle asks for {module}.{name}, which is not among the few names that a dict of plain tensors "
                "needs; refused, and nothing was run. If you trust the file, save its state dict alone."
            )
        return ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Storage:
        kind, dtype, key, _device, size, *view = pid
        if kind != "storage" or dtype not in STORAGES.values() or any(view):
            raise pickle.UnpicklingError(f"unknown storage {pid!r}")
        storage = self.storages[str(key)] = Storage(str(key), dtype, int(size))
        return storage


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The state dict in a file: names and arrays, in its order, without a wrapping `state_dict` and without `module.`.

    Raises:
      UserError: no such file, not a PyTorch file, damaged, not a state dict, or its pickle asks for more than tensors.
    """
    try:
        with open(path, "rb") as file:
            tree, load_storage = (_read_zip if zipfile.is_zipfile(file) else _read_legacy)(file)
            return {name: _array(tensor, load_storage) for name, tensor in _tensors(tree).items()}
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; {REMEDY}") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise UserError(f"{path}: not a PyTorch file, or damaged ({error}); {REMEDY}") from error


def _read_legacy(file: BinaryIO) -> tuple[Any, Callable[[Storage], np.ndarray]]:
    """Pickles of a magic number, a version, the system, the tree and the storages' keys; then the storages, in turn."""
    file.seek(0)
    if Unpickler(file).load() != LEGACY_MAGIC:
        raise UserError(f"not a PyTorch file; {REMEDY}")
    _version, system = Unpickler(file).load(), Unpickler(file).load()
    if not system["little_endian"]:
        raise UserError("written on a big-endian machine; load and save it again with PyTorch on this one.")
    unpickler = Unpickler(file)
    tree = unpickler.load()
    blocks = {}
    for key in Unpickler(file).load():
        (size,) = struct.unpack("<q", file.read(8))
        nbytes = size * np.dtype(unpickler.storages[key].dtype).itemsize
        blocks[key] = file.read(nbytes)
        if len(blocks[key]) != nbytes:
            raise UserError(f"the file ends too early, in block {key}; fetch it again.")
    return tree, lambda storage: np.frombuffer(blocks[storage.key], storage.dtype)


def _read_zip(file: BinaryIO) -> tuple[Any, Callable[[Storage], np.ndarray]]:
    """An archive of `<name>/data.pkl`, the storages in `<name>/data/<key>`, and `<name>/byteorder`."""
    archive = zipfile.ZipFile(file)
    names = archive.namelist()
    pickles = [name for name in names if name.endswith("data.pkl")]
    if len(pickles) != 1 or any(name.endswith("constants.pkl") for name in names):
        raise UserError(f"a zip file, but not one with a state dict; {REMEDY}")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
        raise UserError("written on a big-endian machine; load and save it again with PyTorch on this one.")
    tree = Unpickler(archive.open(pickles[0])).load()
    return tree, lambda storage: np.frombuffer(archive.read(f"{folder}data/{storage.key}"), storage.dtype)


def _tensors(tree: Any) -> dict[str, Tensor]:
    for wrapper in ("state_dict", "model_state_dict"):
        if isinstance(tree, Mapping) and wrapper in tree:
            tree = tree[wrapper]
    if not isinstance(tree, Mapping) or not tree or not all(isinstance(v, Tensor) for v in tree.values()):
        raise UserError(f"it does not hold a dict of tensors; {REMEDY}")
    return {str(name).removeprefix("module."): tensor for name, tensor in tree.items()}


def _array(tensor: Tensor, load_storage: Callable[[Storage], np.ndarray]) -> np.ndarray:
    flat = load_storage(tensor.storage)
    strides = [step * flat.itemsize for step in tensor.strides]
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
    if min(tensor.offset, *tensor.shape, *tensor.strides, 0) < 0 or (math.prod(tensor.shape) and last >= flat.size):
        raise pickle.UnpicklingError(f"a tensor of shape {tensor.shape} reaches outside its block of {flat.size}")
    return np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides).copy()
